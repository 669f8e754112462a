with

source as (
    select * from {{ source("releases", "membership_changes") }}
),

renamed as (
    select
        release,
        customer_id,
        segment,
        change,
        cause,
        as_of
    from source
)

select * from renamed
