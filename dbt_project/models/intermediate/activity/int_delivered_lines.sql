{{ config(materialized="view") }}

with

delivered as (
    select
        'shop' as source,
        order_id,
        line_number,
        product_id,
        delivery_id,
        row_number,
        customer_ref,

        cast(null as varchar) as email,
        description,
        currency,

        quantity,
        unit_price,
        discount,
        tax,
        sequence,

        is_goods,
        is_cancellation,
        is_adjustment,

        occurred_at,
        received_at
    from {{ ref("stg_shop__order_lines") }}

    union all

    select
        'pos' as source,
        sale_id as order_id,
        line_number,
        product_id,
        delivery_id,
        row_number,
        customer_ref,

        email,
        description,
        currency,

        quantity,
        unit_price,
        discount,
        cast(0 as decimal(18, 4)) as tax,
        sequence,

        is_goods,
        false as is_cancellation,
        false as is_adjustment,

        sold_at as occurred_at,
        received_at
    from {{ ref("stg_pos__sales") }}
)

select * from delivered
