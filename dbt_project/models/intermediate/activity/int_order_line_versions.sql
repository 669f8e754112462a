with

lines as (
    select * from {{ ref("fct_order_lines") }}
),

orders as (
    select
        order_key,
        channel
    from {{ ref("int_order_documents") }}
),

products as (
    select
        product_id,
        category
    from {{ ref("stg_shop__products") }}
),

versions as (
    select
        lines.customer_id,
        lines.identifier_id,
        lines.order_line_key,
        lines.order_key,

        lines.source,
        orders.channel,
        lines.product_id,
        products.category,
        lines.line_type,

        lines.quantity,
        lines.amount,
        lines.discount_amount,
        lines.amount_base,

        lines.occurred_on,

        lines.occurred_at,
        lines.known_at,
        cast(null as timestamp) as superseded_at
    from lines
    inner join orders on lines.order_key = orders.order_key
    left join products on lines.product_id = products.product_id
)

select * from versions
