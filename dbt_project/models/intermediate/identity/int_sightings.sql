with

-- Every version, as of contacts: what an order said once was known then, whatever a later delivery puts in its place.
-- The standing version was seen last.
documents as (
    select
        source,
        customer_ref,
        cast(null as varchar) as contact_id,
        email,
        phone,
        cast(null as varchar) as anonymous_id,
        case
            when superseded_at < {{ clock_as_of() }} then {{ dbt.dateadd("microsecond", -1, "ordered_at") }}
            else ordered_at
        end as seen_at,
        known_at
    from {{ ref("int_order_document_versions") }}
    where
        known_at < {{ clock_as_of() }}
        and (status is null or status not in ('test', 'fraud'))
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
    where known_at < {{ clock_as_of() }}
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
        known_at < {{ clock_as_of() }}
        and (
            (channel = 'email' and email is not null)
            or (channel in ('sms', 'phone') and phone is not null)
        )
),

-- A row for all of it, which is as much as its least and greatest tell.
web_sightings as (
    select
        'web' as source,
        sightings.user_id as customer_ref,
        cast(null as varchar) as contact_id,
        sightings.email,
        cast(null as varchar) as phone,
        sightings.anonymous_id,
        sightings.last_seen_at as seen_at,
        sightings.first_known_at as known_at
    from {{ ref("int_web_sightings") }} as sightings
    where sightings.last_known_at < {{ clock_as_of() }}
),

-- Of what goes on after the as_of, only what was before it: there is none of it unless the clock stands in the past.
earlier_web_sightings as (
    select
        'web' as source,
        events.user_id as customer_ref,
        cast(null as varchar) as contact_id,
        events.email,
        cast(null as varchar) as phone,
        events.anonymous_id,
        events.occurred_at as seen_at,
        events.known_at
    from {{ ref("int_web_event_rows") }} as events
    inner join {{ ref("int_web_sightings") }} as sightings
        on {{ column_hash(["events.user_id", "events.email", "events.anonymous_id"]) }} = sightings.sighting_key
    where
        not events.is_bot
        and events.is_tracked
        and events.known_at < {{ clock_as_of() }}
        and sightings.first_known_at < {{ clock_as_of() }}
        and sightings.last_known_at >= {{ clock_as_of() }}
),

sightings as (
    select * from documents
    union all
    select * from contacts
    union all
    select * from consents
    union all
    select * from web_sightings
    union all
    select * from earlier_web_sightings
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
