{#-
    Without the assumption about consent, what is used depends on where orders went last, and so on more than the events:
    made anew each time.
-#}
{{ config(
    materialized="incremental",
    incremental_strategy="append",
    full_refresh=none if var("web_tracking_consent_assumed") else true,
) }}

{%- set new = new_deliveries("web", "events") %}

with

new_rows as {{ inlined() }} (
    select * from {{ ref("int_web_event_rows") }}
    {%- if is_incremental() %}
    where sequence > {{ new.after }} and sequence <= {{ new.last }}
    {%- endif %}
),

repeats as (
    {{ repeated_rows("web", "events", ref("stg_web__events"), new) }}
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
