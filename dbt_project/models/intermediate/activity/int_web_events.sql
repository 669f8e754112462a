with

events as (
    select * from {{ ref("stg_web__events") }}
),

policies as (
    select
        country_code,
        needs_tracking_consent
    from {{ ref("consent_policies") }}
),

-- An event does not say where its visitor is; who is signed in is where the newest order went.
countries as (
    select
        documents.customer_ref,
        {{ latest_value("documents.country_code", "documents.ordered_at", "documents.order_key") }} as country_code
    from {{ ref("int_order_documents") }} as documents
    inner join {{ ref("stg_lake__clock") }} as clock on documents.known_at < clock.as_of
    where documents.customer_ref is not null
    group by documents.customer_ref
),

-- A no is a no in every country.
judged as (
    select
        events.event_id,
        events.anonymous_id,
        events.user_id,
        events.session_id,
        events.product_id,
        events.cart_id,
        events.order_id,

        events.event_type,
        events.event_name,
        events.email,
        events.page_url,
        events.referrer,
        events.user_agent,
        events.campaign_source,
        events.campaign_medium,
        events.campaign_name,
        events.currency,
        events.query,
        events.properties,

        events.quantity,
        events.price,

        events.is_bot,
        coalesce(
            {{ allows_analytics("events.tracking_consent") }},
            {{ var("web_tracking_consent_assumed") }}
            or not coalesce(policies.needs_tracking_consent, default_policy.needs_tracking_consent)
        ) as is_tracked,

        events.occurred_at,
        events.known_at
    from events
    left join countries on events.user_id = countries.customer_ref
    left join policies on countries.country_code = policies.country_code
    left join policies as default_policy on default_policy.country_code = '*'
)

select * from judged
