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

contact_points as (
    select
        contact_id,
        'email' as contact_point_type,
        email as contact_point,
        min(known_at) as shown_from
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
        min(known_at) as shown_from
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
            when consents.channel = 'email' or consents.email is not null then 'email'
            when consents.channel in ('sms', 'phone') then 'phone'
        end as contact_point_type,
        consents.state in ('withdrawn', 'expired') or consents.suppression is not null as is_refusal
    from {{ ref("stg_crm__consents") }} as consents
),

-- An event about a contact is about the contact point that it had when it was said, so that a grant stays with its
-- address; a refusal is about all it ever had.
meant as (
    select
        crm_events.event_key,
        contact_points.contact_point
    from crm_events
    cross join clock
    inner join contact_points
        on
            crm_events.contact_id = contact_points.contact_id
            and crm_events.contact_point_type = contact_points.contact_point_type
            and (crm_events.is_refusal or contact_points.shown_from < clock.as_of)
    where crm_events.contact_point is null
    qualify
        crm_events.is_refusal
        or row_number() over (
            partition by crm_events.event_key
            order by
                case when contact_points.shown_from <= crm_events.captured_at then 0 else 1 end,
                case when contact_points.shown_from <= crm_events.captured_at then contact_points.shown_from end desc,
                contact_points.shown_from,
                contact_points.contact_point
        ) = 1
),

crm as (
    select
        'crm|' || crm_events.event_key as event_key,
        crm_events.contact_id,
        case
            when crm_events.contact_point is null then meant.contact_point
            when crm_events.contact_point_type = 'email' then crm_events.email
            when crm_events.contact_point_type = 'phone'
                then {{ parsed_phone(
                    "phones", "crm_events.contact_point", "countries.calling_code", "countries.trunk_prefix"
                ) }}
        end as contact_point,
        crm_events.contact_point_type,
        crm_events.channel,
        crm_events.purpose,
        crm_events.state,
        crm_events.suppression,
        crm_events.lawful_basis,
        crm_events.notice_version,
        crm_events.captured_by,
        crm_events.evidence,
        'crm' as origin,
        crm_events.captured_at,
        crm_events.known_at,
        crm_events.expires_at
    from crm_events
    left join contacts on crm_events.contact_id = contacts.contact_id and contacts.is_latest
    left join {{ ref("countries") }} as countries on contacts.country_code = countries.country_code
    left join {{ ref("stg_lake__phones") }} as phones
        on crm_events.contact_point = phones.given and coalesce(contacts.country_code, '') = phones.country_code
    left join meant on crm_events.event_key = meant.event_key
),

checkout as (
    select
        'checkout|' || granted.order_key as event_key,
        cast(null as varchar) as contact_id,
        granted.email as contact_point,
        'email' as contact_point_type,
        'email' as channel,
        'marketing' as purpose,
        'granted' as state,
        cast(null as varchar) as suppression,
        'consent' as lawful_basis,
        cast(null as varchar) as notice_version,
        'checkout' as captured_by,
        granted.order_key as evidence,
        'checkout' as origin,
        granted.ordered_at as captured_at,
        granted.known_at,
        cast(null as timestamp) as expires_at
    from {{ ref("int_checkout_consents") }} as granted
    where {{ stands_at("granted", clock_as_of()) }}
),

-- A tick in the profile grants for the address it stands beside, since the record was made or the tick was set. Taking
-- it away again is a withdrawal; an update of something else is neither.
profile_versions as (
    select
        *,
        lag(accepts_marketing) over (
            partition by contact_id order by sequence, known_at, row_number
        ) as accepted_before,
        lag(email) over (partition by contact_id order by sequence, known_at, row_number) as email_before
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
        cast(null as varchar) as notice_version,
        'profile' as captured_by,
        contact_id || '.' || delivery_id as evidence,
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
        cast(null as varchar) as notice_version,
        'email platform' as captured_by,
        event_id as evidence,
        'email' as origin,
        occurred_at as captured_at,
        known_at,
        cast(null as timestamp) as expires_at
    from {{ ref("stg_email__events") }}
    where event_type in ('unsubscribed', 'complained') or (event_type = 'bounced' and bounce_type = 'hard')
    qualify row_number() over (partition by event_id order by sequence, row_number) = 1
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
    where
        consents.state in ('withdrawn', 'expired')
        or consents.suppression is not null
        or consents.known_at < clock.as_of
),

-- What the country asks for. Grants are for a contact point, so they follow its policy, whoever has it.
judged as (
    select
        binding.*,
        {{ is_grant("binding.state") }} and binding.suppression is null as is_grant,
        {{ is_explicit_consent("binding.lawful_basis") }} as is_explicit,
        coalesce(policies.needs_double_opt_in, default_policy.needs_double_opt_in) as needs_double_opt_in,
        coalesce(policies.allows_soft_opt_in, default_policy.allows_soft_opt_in)
        and coalesce(policies.has_ordered, false) as allows_soft_opt_in,
        case
            when policies.contact_point is null then default_policy.implied_consent_days
            else policies.implied_consent_days
        end as implied_consent_days,
        coalesce(policies.profiling_basis, default_policy.profiling_basis) as profiling_basis
    from binding
    left join {{ ref("consent_policies") }} as default_policy on default_policy.country_code = '*'
    left join {{ ref("contact_point_policies") }} as policies
        on
            binding.contact_point_type = policies.contact_point_type
            and binding.contact_point = policies.contact_point
),

attributed as (
    select
        {{ hash_key("judged.event_key || '|' || coalesce(judged.contact_point, '')") }} as consent_key,
        coalesce(judged.point_identifier_id, judged.contact_identifier_id) as identifier_id,
        judged.contact_identifier_id,
        coalesce(contact_owners.customer_id, point_owners.customer_id) as customer_id,

        judged.contact_point,
        judged.contact_point_type,
        judged.channel,
        judged.purpose,
        judged.state,
        judged.suppression,
        judged.lawful_basis,
        judged.notice_version,
        judged.captured_by,
        judged.evidence,
        judged.origin,

        judged.is_grant
        and case
            when judged.is_explicit
                then
                    judged.purpose <> 'marketing'
                    or judged.channel not in ('email', 'sms')
                    or judged.state = 'confirmed'
                    or not judged.needs_double_opt_in
            when judged.purpose = 'marketing' then judged.allows_soft_opt_in
            when judged.purpose = 'profiling' then judged.profiling_basis = 'legitimate_interest'
            else false
        end as is_permission,

        judged.captured_at,
        judged.known_at,
        coalesce(contact_owners.first_known_at, point_owners.first_known_at) as attributed_at,
        judged.expires_at,
        case
            when not judged.is_grant or judged.is_explicit or judged.purpose <> 'marketing' then judged.expires_at
            else least(
                judged.expires_at,
                {{ dbt.dateadd("day", "judged.implied_consent_days", "judged.captured_at") }}
            )
        end as ends_at
    from judged
    left join identifiers as contact_owners on judged.contact_identifier_id = contact_owners.identifier_id
    left join identifiers as point_owners on judged.point_identifier_id = point_owners.identifier_id
)

select * from attributed
