{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key=["visitor_key", "started_on"],
) }}

{%- set after = answer("select coalesce(max(sequence), 0) from " ~ this) if is_incremental() else 0 %}
{%- set since = answer(
    "select min(occurred_on) from " ~ ref("int_web_events") ~ " where sequence > " ~ after
) if is_incremental() else none %}
{%- set checkout_events =
    "'Checkout Started', 'Checkout Step Viewed', 'Checkout Step Completed', 'Payment Info Entered'" -%}
{#- What a visitor does on one local day, in one session of the tracker where it has any. -#}
{%- set stream_key = column_hash(["events.visitor_key", "events.session_id", "events.occurred_on"]) -%}
{#- Since when an event belongs to its day: all day long, or since it was delivered afterwards. -#}
{%- set arrived_at = "case when events.is_late then events.known_at else cast('1900-01-01' as timestamp) end" -%}
{%- set has_campaign = "events.campaign_source is not null or events.campaign_name is not null" -%}
{%- set measures -%}
        min(events.visitor_key) as visitor_key,
        -- Who signs in during a visit was there from its beginning.
        coalesce(
            min(case when events.identifier_type = 'customer_ref' then events.identifier_id end),
            min(case when events.identifier_type = 'email' then events.identifier_id end),
            min(events.identifier_id)
        ) as identifier_id,

        max(events.campaign_source) as campaign_source,
        max(events.campaign_name) as campaign_name,

        max(events.sequence) as sequence,
        count(*) as event_count,
        count(case when events.event_name = 'Product Viewed' then 1 end) as product_view_count,
        count(case when events.event_name = 'Product Added' then 1 end) as cart_add_count,
        count(case when events.event_name = 'Products Searched' then 1 end) as search_count,
        count(case when events.event_name in ({{ checkout_events }}) then 1 end) as checkout_count,

        {{ dbt.bool_or("events.event_name = 'Order Completed'") }} as has_order,
        {{ dbt.bool_or("events.is_bot") }} as is_bot,

        min(events.occurred_on) as started_on,

        min(events.occurred_at) as started_at,
        max(events.occurred_at) as ended_at,
        max(events.known_at) as known_at
{%- endset %}

with

{% if is_incremental() -%}
-- The whole day of each visitor of whom something new is known.
visitor_days as (
    select distinct
        visitor_key,
        occurred_on
    from {{ ref("int_web_events") }}
    where
        is_tracked
        and sequence > {{ after }}
),

events as {{ materialized() }} (
    select events.*
    from {{ ref("int_web_events") }} as events
    inner join visitor_days
        on
            events.visitor_key = visitor_days.visitor_key
            and events.occurred_on = visitor_days.occurred_on
    where
        events.is_tracked
        and events.occurred_on >= cast('{{ since or "1900-01-01" }}' as date)
),
{%- else -%}
events as {{ inlined() }} (
    select * from {{ ref("int_web_events") }}
    where is_tracked
),
{%- endif %}

streams as {{ materialized() }} (
    select
        {{ stream_key }} as stream_key,
        {{ measures }},
        -- One visit without a closer look: no long pause, no campaign, all of it known at once.
        count(case when {{ has_campaign }} then 1 end) = 0
        and (
            count(events.session_id) > 0
            or max(events.occurred_at)
            <= {{ dbt.dateadd("minute", var("session_gap_minutes"), "min(events.occurred_at)") }}
        )
        and min({{ arrived_at }}) = max({{ arrived_at }}) as is_whole
    from events
    group by {{ stream_key }}
),

divided as (
    select
        events.*,
        {{ stream_key }} as stream_key,
        case when {{ has_campaign }} then {{ column_hash(["events.campaign_source", "events.campaign_name"]) }} end
            as campaign_key,
        {{ arrived_at }} as arrived_at
    from events
    inner join streams on {{ stream_key }} = streams.stream_key
    where not streams.is_whole
),

arrivals as (
    select distinct
        stream_key,
        arrived_at
    from divided
),

-- An event that arrives late may part or join the visits of its day: from then on another version of them is known.
versions as (
    select
        stream_key,
        arrived_at as known_from,
        lead(arrived_at) over (partition by stream_key order by arrived_at) as known_to,
        row_number() over (partition by stream_key order by arrived_at) as version
    from arrivals
),

ordered as (
    select
        divided.*,
        versions.version,
        versions.known_from,
        versions.known_to,
        lag(divided.occurred_at) over in_order as previous_at,
        last_value(divided.campaign_key ignore nulls) over (
            in_order rows between unbounded preceding and 1 preceding
        ) as previous_campaign_key
    from divided
    inner join versions
        on
            divided.stream_key = versions.stream_key
            and divided.arrived_at <= versions.known_from
    window in_order as (
        partition by divided.stream_key, versions.version
        order by divided.occurred_at, divided.campaign_key nulls last, divided.event_id
    )
),

-- The tracker's own session is believed over a pause, not over a campaign that brings the visitor anew.
parted as (
    select
        *,
        case
            when
                previous_at < occurred_at
                and (
                    (
                        session_id is null
                        and previous_at < {{ dbt.dateadd("minute", -1 * var("session_gap_minutes"), "occurred_at") }}
                    )
                    or campaign_key <> coalesce(previous_campaign_key, -1)
                )
                then occurred_at
        end as parted_at
    from ordered
),

in_visits as (
    select
        *,
        max(parted_at) over (
            partition by stream_key, version
            order by occurred_at
            range between unbounded preceding and current row
        ) as visit_parted_at
    from parted
),

visits as (
    select
        events.stream_key,
        case
            when events.visit_parted_at is null then events.stream_key
            else {{ column_hash(["events.stream_key", "events.visit_parted_at"]) }}
        end as session_key,
        events.version,
        events.known_from,
        events.known_to,
        max(events.arrived_at) as arrived_at,
        {{ measures }}
    from in_visits as events
    group by
        events.stream_key,
        events.visit_parted_at,
        events.version,
        events.known_from,
        events.known_to
),

-- A visit that a later version leaves as it was is not told again.
compared as (
    select
        *,
        case
            when
                lag(version) over (partition by session_key order by version) = version - 1
                and lag(event_count) over (partition by session_key order by version) = event_count
                and arrived_at < known_from
                then 0
            else 1
        end as is_changed
    from visits
),

changes as (
    select
        *,
        sum(is_changed) over (
            partition by session_key order by version rows unbounded preceding
        ) as change_number
    from compared
),

standing as (
    select
        *,
        min(known_from) over (partition by session_key, change_number) as stands_from,
        case
            when not {{ dbt.bool_or("known_to is null") }} over (partition by session_key, change_number)
                then max(known_to) over (partition by session_key, change_number)
        end as superseded_at
    from changes
),

sessions as (
    select
        stream_key as session_key,
        cast(null as bigint) as stream_key,
        visitor_key,
        identifier_id,
        campaign_source,
        campaign_name,
        sequence,
        event_count,
        product_view_count,
        cart_add_count,
        search_count,
        checkout_count,
        has_order,
        is_bot,
        started_on,
        started_at,
        ended_at,
        known_at,
        cast(null as timestamp) as superseded_at
    from streams
    where is_whole

    union all

    select
        session_key,
        stream_key,
        visitor_key,
        identifier_id,
        campaign_source,
        campaign_name,
        sequence,
        event_count,
        product_view_count,
        cart_add_count,
        search_count,
        checkout_count,
        has_order,
        is_bot,
        started_on,
        started_at,
        ended_at,
        greatest(known_at, stands_from) as known_at,
        superseded_at
    from standing
    where is_changed = 1
)

select * from sessions
