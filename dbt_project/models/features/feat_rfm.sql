{{ config(materialized="view") }}

with

customers as (

    select * from {{ ref('feat_customers') }}

),

final as (

    select
        customer_id,
        as_of,
        as_of_on,
        last_order_on,
        recency_days,
        frequency,
        rfm_orders as orders,
        monetary,
        average_order_value,
        history_days
    from customers
    where frequency > 0

)

select * from final
