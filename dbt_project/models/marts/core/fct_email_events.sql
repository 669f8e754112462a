with

clock as (
    select * from {{ ref("stg_lake__clock") }}
),

identifiers as (
    select * from {{ ref("int_identifiers") }}
),

events as (
    select events.*
    from {{ ref("stg_email__events") }} as events
    inner join clock on events.known_at < clock.as_of
),

deliveries as (
    select
        send_id,
        min(occurred_at) as delivered_at
    from events
    where event_type = 'delivered' and send_id is not null
    group by send_id
),

campaign_links as (
    select
        campaign_id,
        count(distinct url) as links
    from events
    where event_type = 'clicked'
    group by campaign_id
),

-- A scanner follows every link of a message, within a minute; with fewer than three links a person might as well.
followed_all_links as (
    select clicks.send_id
    from events as clicks
    inner join campaign_links on clicks.campaign_id = campaign_links.campaign_id
    where clicks.event_type = 'clicked' and clicks.send_id is not null and campaign_links.links >= 3
    group by clicks.send_id
    having
        count(distinct clicks.url) = max(campaign_links.links)
        and max(clicks.occurred_at) <= {{ dbt.dateadd("minute", 1, "min(clicks.occurred_at)") }}
),

judged as (
    select
        events.event_id,
        events.campaign_id,
        events.send_id,
        {{ identifier_id("any", "email", "events.email") }} as identifier_id,

        events.event_type,
        events.bounce_type,

        case
            when events.event_type = 'opened' then events.is_mail_machine
            when events.event_type = 'clicked'
                then
                    events.is_mail_machine
                    or followed_all_links.send_id is not null
                    or coalesce(
                        events.occurred_at
                        <= {{ dbt.dateadd("second", var("machine_click_seconds"), "deliveries.delivered_at") }},
                        false
                    )
            else false
        end as is_machine,

        {{ to_local_date("events.occurred_at") }} as occurred_on,

        events.occurred_at,
        events.known_at
    from events
    left join deliveries on events.send_id = deliveries.send_id
    left join followed_all_links on events.send_id = followed_all_links.send_id
),

attributed as (
    select
        judged.event_id,
        judged.identifier_id,
        identifiers.customer_id,
        judged.campaign_id,
        judged.send_id,

        judged.event_type,
        judged.bounce_type,

        judged.is_machine,

        judged.occurred_on,

        judged.occurred_at,
        judged.known_at
    from judged
    left join identifiers on judged.identifier_id = identifiers.identifier_id
)

select * from attributed
