{{ config(
    materialized="incremental",
    incremental_strategy="delete+insert",
    unique_key="sighting_key",
    full_refresh=none if var("web_tracking_consent_assumed") else true,
) }}

with

new_sightings as (
    select
        {{ column_hash(["user_id", "email", "anonymous_id"]) }} as sighting_key,
        user_id,
        email,
        anonymous_id,
        min(known_at) as first_known_at,
        max(known_at) as last_known_at,
        max(occurred_at) as last_seen_at
    from {{ ref("int_web_event_rows") }}
    where
        (user_id is not null or email is not null)
        and not is_bot
        and is_tracked
        and sequence > {{ last_sequence() }}
    group by
        user_id,
        email,
        anonymous_id
),

{% if is_incremental() -%}
sightings as (
    select * from new_sightings
    union all
    select stored.*
    from {{ this }} as stored
    inner join new_sightings on stored.sighting_key = new_sightings.sighting_key
),

merged as (
    select
        sighting_key,
        user_id,
        email,
        anonymous_id,
        min(first_known_at) as first_known_at,
        max(last_known_at) as last_known_at,
        max(last_seen_at) as last_seen_at
    from sightings
    group by
        sighting_key,
        user_id,
        email,
        anonymous_id
)

select * from merged
{%- else -%}
merged as (
    select * from new_sightings
)

select * from merged
{%- endif %}
