with

source as (
    select
        *,
        lag(customer_id) over (partition by identifier_id order by run) as previous_customer_id
    from {{ source("identity", "assignments") }}
),

renamed as (
    select
        identifier_id,
        customer_id,

        run as from_run,
        lead(run) over (partition by identifier_id order by run) as to_run,

        as_of as valid_from,
        lead(as_of) over (partition by identifier_id order by run) as valid_to
    from source
    where previous_customer_id is null or previous_customer_id <> customer_id
)

select * from renamed
