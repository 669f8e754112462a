{{ config(materialized="incremental", unique_key="delivery_id") }}

with

orders as (
    select
        delivery_id,
        status,
        channel,
        count(*) as row_count
    from {{ ref("stg_shop__orders") }}
    where sequence > {{ last_sequence() }}
    group by
        delivery_id,
        status,
        channel
)

select * from orders
