with

orders as (
    select * from {{ ref("fct_orders") }}
),

versions as (
    select
        customer_id,
        identifier_id,
        order_key,

        source,
        channel,
        coupon,

        line_count,
        units,
        gross_amount,
        discount_amount,
        amount_base,

        ordered_on,

        ordered_at,
        known_at,
        cast(null as timestamp) as superseded_at,
        reversed_known_at,
        cast(null as timestamp) as reversal_ended_at
    from orders
)

select * from versions
