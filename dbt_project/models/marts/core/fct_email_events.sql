with

events as (
    select
        activity.event_id,
        activity.identifier_id,
        activity.customer_id,
        activity.message_id,
        activity.campaign_id,
        activity.send_id,

        activity.campaign_kind,
        activity.event_type,
        activity.bounce_type,

        {{ machine_at("activity", clock_as_of()) }} as is_machine,

        activity.occurred_on,

        activity.occurred_at,
        activity.known_at,
        case when {{ machine_at("activity", clock_as_of()) }} then activity.machine_known_at end as machine_known_at
    from {{ ref("int_email_activity") }} as activity
    where activity.known_at < {{ clock_as_of() }}
)

select * from events
