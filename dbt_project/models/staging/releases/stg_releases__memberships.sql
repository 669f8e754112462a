with

source as (
    select * from {{ source("releases", "memberships") }}
),

renamed as (
    select
        customer_id,
        segment
    from source
)

select * from renamed
