with

carts as (
    select
        cast(null as bigint) as cart_key,
        cast(null as varchar) as customer_id,
        cast(null as bigint) as identifier_id,
        cast(null as bigint) as session_key,
        cast(null as varchar) as cart_id,
        cast(null as varchar) as order_key,

        cast(null as varchar) as step,
        cast(null as varchar) as fate,

        cast(null as decimal(18, 4)) as units,
        cast(null as decimal(18, 4)) as amount_base,

        cast(null as date) as started_on,

        cast(null as timestamp) as started_at,
        cast(null as timestamp) as last_touched_at,
        cast(null as timestamp) as abandoned_at,
        cast(null as timestamp) as ordered_at,
        cast(null as timestamp) as known_at
    where false
)

select * from carts
