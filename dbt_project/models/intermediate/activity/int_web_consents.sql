{{ config(materialized="incremental", incremental_strategy="delete+insert", unique_key="tracking_consent") }}

with

consents as (
    select distinct tracking_consent
    from {{ ref("stg_web__events") }}
    where
        tracking_consent is not null
        and sequence > {{ last_sequence() }}
),

judged as (
    select
        tracking_consent,
        {{ allows_analytics("tracking_consent") }} as allows_analytics
    from consents
)

select * from judged
