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
        known_at
    from {{ ref("stg_crm__contacts") }}
),

consents as (
    select
        'crm' as source,
        cast(null as varchar) as customer_ref,
        cast(null as varchar) as contact_id,
        {{ email_address("contact_point") }} as email,
        cast(null as varchar) as phone,
        cast(null as varchar) as anonymous_id,
        known_at
    from {{ ref("stg_crm__consents") }}
    where channel = 'email'
),

web_events as (
    select
        'web' as source,
        user_id as customer_ref,
        cast(null as varchar) as contact_id,
        email,
        cast(null as varchar) as phone,
        anonymous_id,
        known_at
    from {{ ref("stg_web__events") }}
    where (user_id is not null or email is not null) and not is_bot
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
        min(sightings.known_at) as first_known_at
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
)

select * from known
