with

source as (
    select * from {{ source("lake", "clock") }}
),

renamed as (
    select
        timezone,
        currency,
        {{ to_local_date("as_of") }} as as_of_on,
        as_of
    from source
)

select * from renamed
