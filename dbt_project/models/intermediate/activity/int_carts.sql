{{ config(materialized="incremental", incremental_strategy="delete+insert", unique_key="cart_key") }}

with

{% if is_incremental() -%}
touched as (
    select distinct {{ cart_key("events") }} as cart_key
    from {{ ref("int_web_events") }} as events
    where
        {{ is_cart_event("events") }}
        and events.sequence > (select coalesce(max(stored.sequence), 0) from {{ this }} as stored)
),

cart_events as {{ materialized() }} (
    select
        events.*,
        touched.cart_key
    from {{ ref("int_web_events") }} as events
    inner join touched on {{ cart_key("events") }} = touched.cart_key
    where {{ is_cart_event("events") }}
),
{%- else -%}
cart_events as {{ inlined() }} (
    select
        events.*,
        {{ cart_key("events") }} as cart_key
    from {{ ref("int_web_events") }} as events
    where {{ is_cart_event("events") }}
),
{%- endif %}

carts as (
    select * from {{ carts_as_left("cart_events") }} as carts_as_left
)

select * from carts
