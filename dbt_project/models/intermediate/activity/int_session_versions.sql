with

sessions as (
    select * from {{ ref("fct_web_sessions") }}
),

versions as (
    select
        customer_id,
        identifier_id,
        session_key,

        cast(null as varchar) as campaign_name,

        event_count,
        product_view_count,
        cart_add_count,
        cast(0 as bigint) as search_count,
        cast(0 as bigint) as checkout_count,

        has_order,
        is_bot,

        started_on,

        started_at,
        ended_at,
        known_at,
        cast(null as timestamp) as superseded_at
    from sessions
)

select * from versions
