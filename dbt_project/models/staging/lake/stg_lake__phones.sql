with

source as (
    select * from {{ source("lake", "phones") }}
),

renamed as (
    select
        given,
        country_code,
        phone,
        number_type,
        problem,
        is_valid
    from source
)

select * from renamed
