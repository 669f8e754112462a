{{ config(materialized="incremental", incremental_strategy="delete+insert", unique_key="cart_key") }}

{%- set after = answer("select coalesce(max(sequence), 0) from " ~ this) if is_incremental() else 0 %}

{%- set touched %}
    select
        {{ cart_key("events") }} as cart_key,
        min(events.occurred_at) as occurred_at
    from {{ ref("int_web_events") }} as events
    where
        {{ is_cart_event("events") }}
        and events.sequence > {{ after }}
    group by {{ cart_key("events") }}
{%- endset %}
{#- When the first of the carts was begun of which something new is known. -#}
{%- set since = answer(
    "select min(least(touched.occurred_at, coalesce(stored.started_at, touched.occurred_at))) from ("
    ~ touched ~ ") as touched left join " ~ this ~ " as stored on touched.cart_key = stored.cart_key"
) if is_incremental() else none %}

with

{% if is_incremental() -%}
touched as {{ materialized() }} (
    {{ touched }}
),

cart_events as {{ materialized() }} (
    select
        events.*,
        touched.cart_key
    from {{ ref("int_web_events") }} as events
    inner join touched on {{ cart_key("events") }} = touched.cart_key
    where
        {{ is_cart_event("events") }}
        and events.occurred_at >= cast('{{ since or "1900-01-01" }}' as timestamp)
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
