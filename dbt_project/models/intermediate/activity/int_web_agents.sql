{{ config(materialized="incremental", incremental_strategy="delete+insert", unique_key="user_agent") }}

with

agents as (
    select distinct user_agent
    from {{ ref("stg_web__events") }}
    where
        user_agent is not null
        and sequence > {{ last_sequence() }}
),

judged as (
    select
        user_agent,
        {{ is_bot("user_agent") }} as is_bot
    from agents
)

select * from judged
