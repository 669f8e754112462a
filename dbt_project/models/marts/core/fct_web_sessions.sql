with

events as (
    select * from {{ ref("fct_web_events") }}
    where is_tracked
),

-- Who signs in during a visit was there from its beginning.
sessions as (
    select
        session_key,
        coalesce(
            min(case when customer_id is not null then identifier_id end), min(identifier_id)
        ) as identifier_id,
        count(*) as event_count,
        count(case when event_name = 'Product Viewed' then 1 end) as product_view_count,
        count(case when event_name = 'Product Added' then 1 end) as cart_add_count,
        {{ dbt.bool_or("event_name = 'Order Completed'") }} as has_order,
        {{ dbt.bool_or("is_bot") }} as is_bot,
        min(occurred_on) as started_on,
        min(occurred_at) as started_at,
        max(occurred_at) as ended_at,
        min(known_at) as known_at
    from events
    group by session_key
),

identifiers as (
    select * from {{ ref("customer_identifiers") }}
),

attributed as (
    select
        sessions.session_key,
        sessions.identifier_id,
        identifiers.customer_id,

        sessions.event_count,
        sessions.product_view_count,
        sessions.cart_add_count,

        sessions.has_order,
        sessions.is_bot,

        sessions.started_on,

        sessions.started_at,
        sessions.ended_at,
        sessions.known_at
    from sessions
    left join identifiers on sessions.identifier_id = identifiers.identifier_id
)

select * from attributed
