with

source as (
    select * from {{ source("shipped", "postal_codes") }}
),

renamed as (
    select
        country_code,
        postal_code,

        place,
        state as region
    from source
)

select * from renamed
