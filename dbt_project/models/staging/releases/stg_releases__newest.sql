with

source as (
    select * from {{ source("releases", "newest") }}
),

renamed as (
    select
        release,
        as_of
    from source
)

select * from renamed
