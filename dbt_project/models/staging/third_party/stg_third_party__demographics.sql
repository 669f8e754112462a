with

source as (
    {{ accepted_rows("third_party", "demographics") }}
),

renamed as (
    select
        lower(trim(contact_point_type)) as contact_point_type,
        case
            when lower(trim(contact_point_type)) = 'email' then {{ email_address("contact_point") }}
            else {{ phone_e164("contact_point", "null", "null") }}
        end as contact_point,
        replace(replace(lower(trim(age_band)), ' ', ''), '–', '-') as age_band,
        {{ gender("gender") }} as gender,
        lower(trim(region_type)) as region_type,
        {{ text("provider") }} as provider,

        known_at
    from source
    qualify row_number() over (
        partition by lower(trim(contact_point_type)), lower(trim(contact_point)) order by row_number desc
    ) = 1
)

select * from renamed
