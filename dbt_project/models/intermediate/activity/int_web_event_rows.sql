with

{% if var("web_tracking_consent_assumed") -%}
events as (
    select
        *,
        true as is_tracked_unsaid
    from {{ ref("stg_web__events") }}
),
{%- else -%}
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

events as (
    select
        events.*,
        not coalesce(policies.needs_tracking_consent, default_policy.needs_tracking_consent) as is_tracked_unsaid
    from {{ ref("stg_web__events") }} as events
    left join countries on events.user_id = countries.customer_ref
    left join policies on countries.country_code = policies.country_code
    left join policies as default_policy on default_policy.country_code = '*'
),
{%- endif %}

agents as (
    select * from {{ ref("int_web_agents") }}
),

consents as (
    select * from {{ ref("int_web_consents") }}
),

local_days as (
    select * from {{ ref("int_local_days") }}
),

-- A no is a no in every country.
judged as (
    select
        events.event_id,
        events.anonymous_id,
        events.user_id,
        events.email,
        events.session_id,
        events.product_id,
        events.cart_id,
        events.order_id,

        coalesce(events.event_name, events.event_type) as event_name,
        events.campaign_source,
        events.campaign_name,
        events.currency,

        events.sequence,
        events.row_number,
        events.quantity,
        events.price,

        coalesce(agents.is_bot, false) as is_bot,
        coalesce(consents.allows_analytics, events.is_tracked_unsaid) as is_tracked,

        {{ local_date_by_day("events.occurred_at", "local_days") }} as occurred_on,

        events.occurred_at,
        events.known_at,
        {{ local_day_end_by_day("events.occurred_at", "local_days") }} as day_ends_at
    from events
    left join agents on events.user_agent = agents.user_agent
    left join consents on events.tracking_consent = consents.tracking_consent
    left join local_days on cast(events.occurred_at as date) = local_days.utc_on
),

keyed as (
    select
        *,
        {{ identifier_id("shop", "customer_ref", "user_id") }} as user_key,
        {{ identifier_id("any", "email", "email") }} as email_key,
        {{ identifier_id("web", "anonymous_id", "anonymous_id") }} as device_key
    from judged
),

-- A visitor is a device; without one, who signed in or gave an address on it.
identified as (
    select
        *,
        coalesce(user_key, email_key, device_key) as identifier_id,
        case
            when user_id is not null then 'customer_ref'
            when email is not null then 'email'
            when anonymous_id is not null then 'anonymous_id'
        end as identifier_type,
        coalesce(device_key, user_key, email_key) as visitor_key
    from keyed
)

select * from identified
