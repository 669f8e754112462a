with

sessions as (
    select * from {{ ref("int_web_sessions") }}
),

identifiers as (
    select
        identifier_id,
        customer_id,
        first_known_at
    from {{ ref("int_identifiers") }}
),

attributed as (
    select
        identifiers.customer_id,
        sessions.identifier_id,
        sessions.session_key,

        sessions.campaign_source,
        sessions.campaign_name,

        sessions.event_count,
        sessions.product_view_count,
        sessions.cart_add_count,
        sessions.search_count,
        sessions.checkout_count,

        sessions.has_order,
        sessions.is_bot,

        sessions.started_on,

        sessions.started_at,
        sessions.ended_at,
        greatest(sessions.known_at, coalesce(identifiers.first_known_at, sessions.known_at)) as known_at,
        sessions.superseded_at
    from sessions
    left join identifiers on sessions.identifier_id = identifiers.identifier_id
)

select * from attributed
