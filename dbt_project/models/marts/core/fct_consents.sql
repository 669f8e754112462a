with

clock as (
    select * from {{ ref("stg_lake__clock") }}
),

identifiers as (
    select * from {{ ref("int_identifiers") }}
),

contacts as (
    select * from {{ ref("stg_crm__contacts") }}
),

-- An event about a contact is about the contact point that it has for the channel; a refusal about all it ever had.
contact_points as (
    select
        contact_id,
        'email' as contact_point_type,
        email as contact_point,
        {{ dbt.bool_or("is_current") }} as is_current
    from contacts
    where email is not null
    group by
        contact_id,
        email

    union all

    select
        contact_id,
        'phone' as contact_point_type,
        phone as contact_point,
        {{ dbt.bool_or("is_current") }} as is_current
    from contacts
    where phone is not null
    group by
        contact_id,
        phone
),

crm_events as (
    select
        consents.*,
        coalesce(consents.consent_id, consents.delivery_id || '.' || cast(consents.row_number as varchar)) as event_key,
        case
            when consents.channel = 'email' then 'email'
            when consents.channel in ('sms', 'phone') then 'phone'
        end as contact_point_type,
        consents.state in ('withdrawn', 'expired') as is_refusal
    from {{ ref("stg_crm__consents") }} as consents
),

crm as (
    select
        'crm|' || crm_events.event_key as event_key,
        crm_events.contact_id,
        case
            when crm_events.contact_point is null then contact_points.contact_point
            when crm_events.contact_point_type = 'email' then {{ email_address("crm_events.contact_point") }}
            when crm_events.contact_point_type = 'phone'
                then {{ phone_e164("crm_events.contact_point", "countries.calling_code", "countries.trunk_prefix") }}
        end as contact_point,
        crm_events.contact_point_type,
        crm_events.channel,
        crm_events.purpose,
        crm_events.state,
        crm_events.suppression,
        crm_events.lawful_basis,
        'crm' as origin,
        crm_events.captured_at,
        crm_events.known_at,
        crm_events.expires_at
    from crm_events
    left join contacts on crm_events.contact_id = contacts.contact_id and contacts.is_latest
    left join {{ ref("countries") }} as countries on contacts.country_code = countries.country_code
    left join contact_points
        on
            crm_events.contact_point is null
            and crm_events.contact_id = contact_points.contact_id
            and crm_events.contact_point_type = contact_points.contact_point_type
            and (contact_points.is_current or crm_events.is_refusal)
),

checkout as (
    select
        'checkout|' || order_key as event_key,
        cast(null as varchar) as contact_id,
        email as contact_point,
        'email' as contact_point_type,
        'email' as channel,
        'marketing' as purpose,
        'granted' as state,
        cast(null as varchar) as suppression,
        'consent' as lawful_basis,
        'checkout' as origin,
        ordered_at as captured_at,
        known_at,
        cast(null as timestamp) as expires_at
    from {{ ref("int_order_documents") }}
    where accepts_marketing and email is not null and (status is null or status not in ('test', 'fraud'))
),

-- A tick in the profile grants for the address it stands beside, since the record was made or the tick was set. Taking
-- it away again is a withdrawal; an update of something else is neither.
profile_versions as (
    select
        *,
        lag(accepts_marketing) over (partition by contact_id order by sequence, known_at) as accepted_before,
        lag(email) over (partition by contact_id order by sequence, known_at) as email_before
    from contacts
    where accepts_marketing is not null and email is not null
),

profile as (
    select
        'profile|' || contact_id || '|' || delivery_id as event_key,
        contact_id,
        email as contact_point,
        'email' as contact_point_type,
        'email' as channel,
        'marketing' as purpose,
        case when accepts_marketing then 'granted' else 'withdrawn' end as state,
        case when not accepts_marketing then 'unsubscribe' end as suppression,
        'consent' as lawful_basis,
        'profile' as origin,
        coalesce(case when accepted_before is null then created_at end, updated_at, known_at) as captured_at,
        known_at,
        cast(null as timestamp) as expires_at
    from profile_versions
    where
        (accepts_marketing and (accepted_before is null or not accepted_before or email <> email_before))
        or (not accepts_marketing and accepted_before)
),

-- What people and mail servers told the email platform.
platform as (
    select
        'email|' || event_id as event_key,
        cast(null as varchar) as contact_id,
        email as contact_point,
        'email' as contact_point_type,
        'email' as channel,
        'marketing' as purpose,
        'withdrawn' as state,
        case event_type
            when 'unsubscribed' then 'unsubscribe'
            when 'complained' then 'complaint'
            else 'hard_bounce'
        end as suppression,
        cast(null as varchar) as lawful_basis,
        'email' as origin,
        occurred_at as captured_at,
        known_at,
        cast(null as timestamp) as expires_at
    from {{ ref("stg_email__events") }}
    where event_type in ('unsubscribed', 'complained') or (event_type = 'bounced' and bounce_type = 'hard')
),

consents as (
    select * from crm
    union all
    select * from checkout
    union all
    select * from profile
    union all
    select * from platform
),

-- Refusals bind as soon as they are known, whatever the as_of; everything else counts only if known before it.
binding as (
    select
        consents.*,
        {{ identifier_id("crm", "contact_id", "consents.contact_id") }} as contact_identifier_id,
        case
            when consents.contact_point_type = 'email'
                then {{ identifier_id("any", "email", "consents.contact_point") }}
            when consents.contact_point_type = 'phone'
                then {{ identifier_id("any", "phone", "consents.contact_point") }}
        end as point_identifier_id
    from consents
    cross join clock
    where consents.state in ('withdrawn', 'expired') or consents.known_at < clock.as_of
),

attributed as (
    select
        {{ hash_key("binding.event_key || '|' || coalesce(binding.contact_point, '')") }} as consent_key,
        coalesce(binding.point_identifier_id, binding.contact_identifier_id) as identifier_id,
        coalesce(contact_owners.customer_id, point_owners.customer_id) as customer_id,

        binding.contact_point,
        binding.contact_point_type,
        binding.channel,
        binding.purpose,
        binding.state,
        binding.suppression,
        binding.lawful_basis,
        binding.origin,

        binding.captured_at,
        binding.known_at,
        binding.expires_at
    from binding
    left join identifiers as contact_owners on binding.contact_identifier_id = contact_owners.identifier_id
    left join identifiers as point_owners on binding.point_identifier_id = point_owners.identifier_id
)

select * from attributed
