with

source as (
    {{ accepted_rows("third_party", "demographics") }}
),

renamed as (
    select
        source.delivery_id,
        source.row_number,

        lower(trim(source.contact_point_type)) as contact_point_type,
        case
            when lower(trim(source.contact_point_type)) = 'email'
                then {{ parsed_email("emails", "source.contact_point") }}
            else {{ parsed_phone("phones", "source.contact_point") }}
        end as contact_point,
        case
            when lower(trim(source.contact_point_type)) = 'email'
                then {{ email_problem("emails", "source.contact_point") }}
            else {{ phone_problem("phones", "source.contact_point") }}
        end as contact_point_problem,
        replace(replace(lower(trim(source.age_band)), ' ', ''), '–', '-') as age_band,
        genders.value as gender,
        {{ category_key("source.gender") }} as gender_given,
        lower(trim(source.region_type)) as region_type,
        {{ text("source.provider") }} as provider,

        source.known_at
    from source
    left join {{ source("lake", "emails") }} as emails on trim(source.contact_point) = emails.given
    left join {{ source("lake", "phones") }} as phones
        on trim(source.contact_point) = phones.given and phones.country_code = ''
    left join {{ ref("category_values") }} as genders
        on genders.field = 'gender' and {{ category_key("source.gender") }} = genders.given
    qualify row_number() over (
        partition by lower(trim(source.contact_point_type)), lower(trim(source.contact_point))
        order by source.row_number desc
    ) = 1
)

select * from renamed
