with

source as (
    select * from {{ source("identity", "assignments") }}
),

renamed as (
    select
        identifier_id,
        customer_id,

        run,

        as_of
    from source
    qualify row_number() over (partition by identifier_id order by run desc) = 1
)

select * from renamed
