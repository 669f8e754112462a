with

deliveries as {{ known_deliveries("third_party", "demographics", true) }},

-- A delivery is the whole table: it says nothing more of whom it no longer names.
spans as (
    select
        delivery_id,
        received_at as known_at,
        min(received_at) over (
            order by sequence rows between 1 following and unbounded following
        ) as superseded_at
    from deliveries
),

source as (
    select
        accepted.*,
        spans.known_at,
        spans.superseded_at
    from {{ source("third_party", "demographics") }} as accepted
    inner join spans on accepted.delivery_id = spans.delivery_id
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
        replace(replace(lower(trim(source.age_band)), ' ', ''), '–', '-') as age_band,
        genders.value as gender,
        lower(trim(source.region_type)) as region_type,

        source.known_at,
        source.superseded_at
    from source
    left join {{ source("lake", "emails") }} as emails on trim(source.contact_point) = emails.given
    left join {{ source("lake", "phones") }} as phones
        on trim(source.contact_point) = phones.given and phones.country_code = ''
    left join {{ ref("category_values") }} as genders
        on genders.field = 'gender' and {{ category_key("source.gender") }} = genders.given
    qualify row_number() over (
        partition by
            source.delivery_id, lower(trim(source.contact_point_type)), lower(trim(source.contact_point))
        order by source.row_number desc
    ) = 1
)

select * from renamed
