{{ config(materialized="incremental", incremental_strategy="delete+insert", unique_key="message_key") }}

{%- set columns = [
    "event_id", "identifier_id", "message_key", "campaign_id", "send_id", "link_key", "event_type", "bounce_type",
    "sequence", "is_mail_machine", "occurred_on", "occurred_at", "known_at",
] %}

{%- set new = new_deliveries("email", "events") %}

with

rows_given as {{ inlined() }} (
    select
        events.event_id,
        {{ identifier_id("any", "email", "events.email") }} as identifier_id,
        case
            when events.send_id is not null then {{ column_hash(["events.send_id"]) }}
            when events.campaign_id is not null then {{ column_hash(["events.campaign_id", "events.email"]) }}
            else {{ column_hash(["events.event_id"]) }}
        end as message_key,
        events.campaign_id,
        events.send_id,
        case when events.event_type = 'clicked' and events.url is not null then {{ column_hash(["events.url"]) }} end
            as link_key,
        events.event_type,
        events.bounce_type,
        events.sequence,
        events.row_number,
        events.event_type in ('opened', 'clicked') and events.is_mail_machine as is_mail_machine,
        {{ local_date_by_day("events.occurred_at", "local_days") }} as occurred_on,
        events.occurred_at,
        events.known_at
    from {{ ref("stg_email__events") }} as events
    left join {{ ref("int_local_days") }} as local_days on cast(events.occurred_at as date) = local_days.utc_on
    {%- if is_incremental() %}
    where events.sequence > {{ new.after }} and events.sequence <= {{ new.last }}
    {%- endif %}
),

repeats as (
    {{ repeated_rows("email", "events", ref("stg_email__events"), new) }}
),

told_once as {{ materialized() if is_incremental() else inlined() }} (
    select rows_given.*
    from rows_given
    left join repeats
        on
            rows_given.sequence = repeats.sequence
            and rows_given.row_number = repeats.row_number
    where repeats.row_number is null
),

{% if is_incremental() -%}
-- A link that turns out to have been known earlier changes which clicks followed every link of their campaign.
campaigns_seen_anew as (
    select told_once.campaign_id
    from told_once
    inner join {{ this }} as stored
        on
            told_once.campaign_id = stored.campaign_id
            and told_once.known_at < stored.known_at
            and stored.event_type = 'clicked'
    where told_once.event_type = 'clicked'
    group by told_once.campaign_id
),

messages as (
    select message_key from told_once
    union
    select stored.message_key
    from {{ this }} as stored
    inner join campaigns_seen_anew on stored.campaign_id = campaigns_seen_anew.campaign_id
    where stored.event_type = 'clicked'
),

events as {{ materialized() }} (
    select
        {{ columns | join(",\n        ") }}
    from told_once

    union all

    select
        stored.{{ columns | join(",\n        stored.") }}
    from {{ this }} as stored
    inner join messages on stored.message_key = messages.message_key
),

campaigns_clicked as (
    select distinct campaign_id
    from events
    where event_type = 'clicked'
),

clicks_of_campaigns as (
    select
        event_id,
        campaign_id,
        link_key,
        known_at
    from events
    where event_type = 'clicked'

    union

    select
        stored.event_id,
        stored.campaign_id,
        stored.link_key,
        stored.known_at
    from {{ this }} as stored
    inner join campaigns_clicked on stored.campaign_id = campaigns_clicked.campaign_id
    where stored.event_type = 'clicked'
),
{%- else -%}
events as {{ inlined() }} (
    select
        {{ columns | join(",\n        ") }}
    from told_once
),

clicks_of_campaigns as (
    select
        event_id,
        campaign_id,
        link_key,
        known_at
    from events
    where event_type = 'clicked'
),
{%- endif %}

clicks as {{ materialized() }} (
    select * from events
    where event_type = 'clicked'
),

deliveries as (
    select
        events.message_key,
        events.occurred_at,
        events.known_at
    from events
    where
        events.event_type = 'delivered'
        and events.message_key in (select clicks.message_key from clicks)
    qualify row_number() over (
        partition by events.message_key order by events.known_at, events.occurred_at, events.event_id
    ) = 1
),

new_links as (
    select
        campaign_id,
        known_at,
        case
            when row_number() over (partition by campaign_id, link_key order by known_at, event_id) = 1 then 1
            else 0
        end as is_new
    from clicks_of_campaigns
    where campaign_id is not null and link_key is not null
),

-- How many links of a campaign were known by when.
campaign_links as (
    select
        campaign_id,
        known_at,
        max(links) as links
    from (
        select
            campaign_id,
            known_at,
            sum(is_new) over (
                partition by campaign_id order by known_at range between unbounded preceding and current row
            ) as links
        from new_links
    ) as counted
    group by
        campaign_id,
        known_at
),

followed as (
    select
        event_id,
        message_key,
        campaign_id,
        known_at,
        occurred_at,
        case
            when
                link_key is not null
                and row_number() over (partition by message_key, link_key order by known_at, event_id) = 1 then 1
            else 0
        end as is_new
    from clicks
),

followed_so_far as (
    select
        event_id,
        message_key,
        campaign_id,
        known_at,
        sum(is_new) over so_far as links,
        min(occurred_at) over so_far as first_at,
        max(occurred_at) over so_far as last_at
    from followed
    window so_far as (
        partition by message_key order by known_at range between unbounded preceding and current row
    )
),

-- A scanner follows every link of a message, within a minute; with fewer than three links a person might as well.
thorough as (
    select
        followed_so_far.event_id,
        min(
            case
                when
                    campaign_links.links >= 3
                    and followed_so_far.links = campaign_links.links
                    and followed_so_far.last_at <= {{ dbt.dateadd("minute", 1, "followed_so_far.first_at") }}
                    then followed_so_far.known_at
            end
        ) over (
            partition by followed_so_far.message_key
            order by followed_so_far.known_at
            range between current row and unbounded following
        ) as machine_known_at
    from followed_so_far
    left join campaign_links
        on
            followed_so_far.campaign_id = campaign_links.campaign_id
            and followed_so_far.known_at = campaign_links.known_at
),

judged_clicks as (
    select
        clicks.{{ columns | join(",\n        clicks.") }},
        least(
            case when clicks.is_mail_machine then clicks.known_at end,
            case
                when
                    clicks.occurred_at
                    <= {{ dbt.dateadd("second", var("machine_click_seconds"), "deliveries.occurred_at") }}
                    then greatest(clicks.known_at, deliveries.known_at)
            end,
            thorough.machine_known_at
        ) as machine_known_at
    from clicks
    left join deliveries on clicks.message_key = deliveries.message_key
    left join thorough on clicks.event_id = thorough.event_id
),

judged as (
    select
        {{ columns | join(",\n        ") }},
        case when is_mail_machine then known_at end as machine_known_at
    from events
    where event_type <> 'clicked'

    union all

    select * from judged_clicks
),

final as (
    select
        event_id,
        identifier_id,
        message_key,
        campaign_id,
        send_id,
        link_key,

        event_type,
        bounce_type,

        sequence,

        is_mail_machine,
        machine_known_at is not null as is_machine,

        occurred_on,

        occurred_at,
        known_at,
        machine_known_at
    from judged
)

select * from final
