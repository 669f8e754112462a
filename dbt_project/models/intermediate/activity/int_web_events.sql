{#-
    Without the assumption about consent, what is used depends on where orders went last, and so on more than the events:
    made anew each time.
-#}
{{ config(
    materialized="incremental",
    incremental_strategy="append",
    full_refresh=none if var("web_tracking_consent_assumed") else true,
) }}

with

new_rows as {{ inlined() }} (
    select * from {{ ref("int_web_event_rows") }}
    {%- if is_incremental() %}
    where sequence > (select coalesce(max(stored.sequence), 0) from {{ this }} as stored)
    {%- endif %}
),

repeating_deliveries as (
    select sequence
    from {{ ref("stg_lake__deliveries") }}
    where
        source = 'web'
        and table_name = 'events'
        and rows_superseded > 0
),

-- Where the loader met no repeats there are none to look for. Hashes first: hardly any is left to compare exactly.
suspects as (
    select {{ column_hash(["events.event_id"]) }} as event_hash
    from {{ ref("stg_web__events") }} as events
    where
        events.sequence <= (select max(dirty.sequence) from repeating_deliveries as dirty)
        {%- if is_incremental() %}
        and events.sequence > (select coalesce(max(stored.sequence), 0) from {{ this }} as stored)
        {%- endif %}
    group by {{ column_hash(["events.event_id"]) }}
    having count(*) > 1
),

repeats as (
    select
        events.sequence,
        events.row_number
    from {{ ref("stg_web__events") }} as events
    inner join suspects on {{ column_hash(["events.event_id"]) }} = suspects.event_hash
    qualify row_number() over (partition by events.event_id order by events.sequence, events.row_number) > 1
    {%- if is_incremental() %}

    union

    select
        new_rows.sequence,
        new_rows.row_number
    from {{ this }} as events
    inner join new_rows on events.event_id = new_rows.event_id
    inner join repeating_deliveries on new_rows.sequence = repeating_deliveries.sequence
    {%- endif %}
),

told_once as (
    select new_rows.*
    from new_rows
    left join repeats
        on
            new_rows.sequence = repeats.sequence
            and new_rows.row_number = repeats.row_number
    where repeats.row_number is null
),

-- Without the visitor's consent an event tells what became of its order, and nothing of who, where or what before.
final as (
    select
        event_id,
        case when is_tracked then identifier_id end as identifier_id,
        case when is_tracked then identifier_type end as identifier_type,
        case
            when is_tracked then coalesce(visitor_key, {{ hash_key("'web|event_id|' || event_id") }})
        end as visitor_key,
        case when is_tracked then session_id end as session_id,
        case when is_tracked then product_id end as product_id,
        case when is_tracked then cart_id end as cart_id,
        order_id,

        event_name,
        campaign_source,
        campaign_name,
        case when is_tracked then currency end as currency,

        sequence,
        case when is_tracked then quantity end as quantity,
        case when is_tracked then price end as price,

        is_bot,
        is_tracked,
        known_at >= day_ends_at as is_late,

        occurred_on,

        occurred_at,
        known_at
    from told_once
    where is_tracked or order_id is not null
)

select * from final
