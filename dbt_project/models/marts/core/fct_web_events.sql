with

identifiers as (
    select
        identifier_id,
        customer_id
    from {{ ref("int_identifiers") }}
),

events as (
    select
        events.*,
        {{ column_hash(["events.visitor_key", "events.session_id", "events.occurred_on"]) }} as stream_key
    from {{ ref("int_web_events") }} as events
    where events.known_at < {{ clock_as_of() }}
),

-- As a rule a visitor's day is one visit, or one for each session of the tracker; these are the others.
parted_visits as (
    select
        sessions.stream_key,
        sessions.session_key,
        sessions.started_at,
        sessions.ended_at
    from {{ ref("int_web_sessions") }} as sessions
    where
        sessions.stream_key is not null
        and {{ stands_at("sessions", clock_as_of()) }}
),

attributed as (
    select
        events.event_id,
        events.identifier_id,
        identifiers.customer_id,
        case when events.is_tracked then coalesce(parted_visits.session_key, events.stream_key) end as session_key,
        events.product_id,
        events.cart_id,
        events.order_id,

        events.event_name,
        events.campaign_source,
        events.campaign_name,
        events.currency,

        events.quantity,
        events.price,

        events.is_bot,
        events.is_tracked,

        events.occurred_on,

        events.occurred_at,
        events.known_at
    from events
    left join identifiers on events.identifier_id = identifiers.identifier_id
    left join parted_visits
        on
            events.stream_key = parted_visits.stream_key
            and events.is_tracked
            and events.occurred_at between parted_visits.started_at and parted_visits.ended_at
)

select * from attributed
