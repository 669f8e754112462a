with

clock as (
    select * from {{ ref("stg_lake__clock") }}
),

identifiers as (
    select * from {{ ref("int_identifiers") }}
),

events as (
    select events.*
    from {{ ref("int_web_events") }} as events
    inner join clock on events.known_at < clock.as_of
),

tracked as (
    select
        *,
        coalesce(anonymous_id, user_id, event_id) as visitor
    from events
    where is_tracked
),

-- A visit goes on until its visitor does nothing for a while; the tracker's own session, where it has one, is believed.
paused as (
    select
        *,
        lag(occurred_at) over (partition by visitor, session_id order by occurred_at, event_id) as previous_at
    from tracked
),

starts as (
    select
        *,
        case
            when previous_at >= {{ dbt.dateadd("minute", -1 * var("session_gap_minutes"), "occurred_at") }} then null
            else occurred_at
        end as session_started_at
    from paused
),

sessions as (
    select
        *,
        coalesce(
            session_id,
            cast(max(session_started_at) over (
                partition by visitor, session_id order by occurred_at, event_id rows unbounded preceding
            ) as varchar)
        ) as visit
    from starts
),

attributed as (
    select
        sessions.event_id,
        case
            when sessions.user_id is not null then {{ identifier_id("shop", "customer_ref", "sessions.user_id") }}
            when sessions.anonymous_id is not null
                then {{ identifier_id("web", "anonymous_id", "sessions.anonymous_id") }}
            when sessions.email is not null then {{ identifier_id("any", "email", "sessions.email") }}
        end as identifier_id,
        {{ hash_key("sessions.visitor || '|' || sessions.visit") }} as session_key,
        sessions.product_id,
        sessions.cart_id,
        sessions.order_id,

        coalesce(sessions.event_name, sessions.event_type) as event_name,
        sessions.campaign_name,

        sessions.quantity,
        sessions.price,

        sessions.is_bot,
        sessions.is_tracked,

        {{ to_local_date("sessions.occurred_at") }} as occurred_on,

        sessions.occurred_at,
        sessions.known_at
    from sessions
),

-- Without the visitor's consent an event tells what became of its order, and nothing of who, where or what before.
orders_only as (
    select
        event_id,
        cast(null as bigint) as identifier_id,
        cast(null as bigint) as session_key,
        cast(null as varchar) as product_id,
        cast(null as varchar) as cart_id,
        order_id,

        coalesce(event_name, event_type) as event_name,
        campaign_name,

        cast(null as decimal(18, 4)) as quantity,
        cast(null as decimal(18, 4)) as price,

        is_bot,
        is_tracked,

        {{ to_local_date("occurred_at") }} as occurred_on,

        occurred_at,
        known_at
    from events
    where not is_tracked and order_id is not null
),

all_events as (
    select * from attributed
    union all
    select * from orders_only
),

with_customer as (
    select
        all_events.event_id,
        all_events.identifier_id,
        identifiers.customer_id,
        all_events.session_key,
        all_events.product_id,
        all_events.cart_id,
        all_events.order_id,

        all_events.event_name,
        all_events.campaign_name,

        all_events.quantity,
        all_events.price,

        all_events.is_bot,
        all_events.is_tracked,

        all_events.occurred_on,

        all_events.occurred_at,
        all_events.known_at
    from all_events
    left join identifiers on all_events.identifier_id = identifiers.identifier_id
)

select * from with_customer
