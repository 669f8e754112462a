with

events as (
    select * from {{ ref("int_email_events") }}
),

campaigns as (
    select
        campaign_id,
        kind
    from {{ ref("stg_email__campaigns") }}
),

identifiers as (
    select
        identifier_id,
        customer_id,
        first_known_at
    from {{ ref("int_identifiers") }}
),

activity as (
    select
        identifiers.customer_id,
        events.identifier_id,
        events.event_id,
        coalesce(
            events.send_id, events.campaign_id || '|' || cast(events.identifier_id as varchar), events.event_id
        ) as message_id,
        events.campaign_id,
        events.send_id,

        coalesce(campaigns.kind, 'promotional') as campaign_kind,
        events.event_type,
        events.bounce_type,

        events.is_machine,

        events.occurred_on,

        events.occurred_at,
        greatest(events.known_at, coalesce(identifiers.first_known_at, events.known_at)) as known_at,
        events.machine_known_at
    from events
    left join campaigns on events.campaign_id = campaigns.campaign_id
    left join identifiers on events.identifier_id = identifiers.identifier_id
)

select * from activity
