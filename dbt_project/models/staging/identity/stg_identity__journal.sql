with

source as (
    select * from {{ source("identity", "journal") }}
),

renamed as (
    select
        run,
        entry,
        customer_id,
        other_customer_id,
        identifier_ids,

        event,
        evidence,

        as_of
    from source
)

select * from renamed
