with

clock as (
    select * from {{ ref("stg_lake__clock") }}
),

identifiers as (
    select * from {{ ref("int_identifiers") }}
),

events as (
    select
        events.*,
        coalesce(events.anonymous_id, events.user_id, events.event_id) as visitor
    from {{ ref("stg_web__events") }} as events
    inner join clock on events.known_at < clock.as_of
),

-- A visit goes on until its visitor does nothing for a while; the tracker's own session, where it has one, is believed.
paused as (
    select
        *,
        lag(occurred_at) over (partition by visitor, session_id order by occurred_at, event_id) as previous_at
    from events
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

        {{ to_local_date("sessions.occurred_at") }} as occurred_on,

        sessions.occurred_at,
        sessions.known_at
    from sessions
),

with_customer as (
    select
        attributed.event_id,
        attributed.identifier_id,
        identifiers.customer_id,
        attributed.session_key,
        attributed.product_id,
        attributed.cart_id,
        attributed.order_id,

        attributed.event_name,
        attributed.campaign_name,

        attributed.quantity,
        attributed.price,

        attributed.is_bot,

        attributed.occurred_on,

        attributed.occurred_at,
        attributed.known_at
    from attributed
    left join identifiers on attributed.identifier_id = identifiers.identifier_id
)

select * from with_customer
