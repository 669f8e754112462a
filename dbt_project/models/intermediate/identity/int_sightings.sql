with

clock as (
    select * from {{ ref("stg_lake__clock") }}
),

documents as (
    select
        source,
        customer_ref,
        cast(null as varchar) as contact_id,
        email,
        phone,
        cast(null as varchar) as anonymous_id,
        ordered_at as seen_at,
        known_at
    from {{ ref("int_order_documents") }}
    where status is null or status not in ('test', 'fraud')
),

contacts as (
    select
        'crm' as source,
        customer_ref,
        contact_id,
        email,
        phone,
        cast(null as varchar) as anonymous_id,
        updated_at as seen_at,
        known_at
    from {{ ref("stg_crm__contacts") }}
),

consents as (
    select
        'crm' as source,
        cast(null as varchar) as customer_ref,
        contact_id,
        case when channel = 'email' then email end as email,
        case when channel in ('sms', 'phone') then phone end as phone,
        cast(null as varchar) as anonymous_id,
        captured_at as seen_at,
        known_at
    from {{ ref("stg_crm__consents") }}
    where
        (channel = 'email' and email is not null)
        or (channel in ('sms', 'phone') and phone is not null)
),

web_events as (
    select
        'web' as source,
        user_id as customer_ref,
        cast(null as varchar) as contact_id,
        email,
        cast(null as varchar) as phone,
        anonymous_id,
        occurred_at as seen_at,
        known_at
    from {{ ref("int_web_events") }}
    where (user_id is not null or email is not null) and not is_bot and is_tracked
),

sightings as (
    select * from documents
    union all
    select * from contacts
    union all
    select * from consents
    union all
    select * from web_events
),

known as (
    select
        sightings.source,
        sightings.customer_ref,
        sightings.contact_id,
        sightings.email,
        sightings.phone,
        sightings.anonymous_id,
        min(sightings.known_at) as first_known_at,
        max(coalesce(sightings.seen_at, sightings.known_at)) as last_seen_at
    from sightings
    inner join clock on sightings.known_at < clock.as_of
    where coalesce(sightings.customer_ref, sightings.contact_id, sightings.email, sightings.phone) is not null
    group by
        sightings.source,
        sightings.customer_ref,
        sightings.contact_id,
        sightings.email,
        sightings.phone,
        sightings.anonymous_id
),

-- Whose sighting it is. A contact is not the shop number that it names until resolution says so: the CRM may be wrong.
of_records as (
    select
        *,
        case
            when contact_id is not null then {{ identifier_id("crm", "contact_id", "contact_id") }}
            when customer_ref is not null then {{ identifier_id("shop", "customer_ref", "customer_ref") }}
            when email is not null then {{ identifier_id("any", "email", "email") }}
            else {{ identifier_id("any", "phone", "phone") }}
        end as record_id,
        case
            when contact_id is not null then 'crm'
            when customer_ref is not null then 'shop'
            else 'any'
        end as record_source
    from known
)

select * from of_records
