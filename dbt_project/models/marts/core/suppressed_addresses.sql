with

suppressions as (
    select * from {{ ref("fct_suppressions") }}
),

records as (
    select * from {{ ref("contact_point_records") }}
    where contact_point_type = 'email'
),

holders as (
    select * from {{ ref("contact_point_holders") }}
    where contact_point_type = 'email'
),

purposes as (
    {% for purpose in ["marketing", "profiling", "third_party_sharing"] %}
    select '{{ purpose }}' as refused_purpose
    {% if not loop.last %}union all{% endif %}
    {% endfor %}
),

-- A complaint or unsubscribe is about its channel, an objection about its purpose on all; a bounce about the address.
refused as (
    select
        suppressions.*,
        purposes.refused_purpose
    from suppressions
    inner join purposes
        on
            suppressions.reach = 'everything'
            or (suppressions.reach = 'purpose' and suppressions.purpose = purposes.refused_purpose)
            or (
                suppressions.reach in ('promotional', 'address')
                and suppressions.channel = 'email'
                and purposes.refused_purpose = 'marketing'
            )
),

-- The contacts that it is by, whether or not they are anybody yet.
refusing_records as (
    select
        consent_key,
        refused_purpose,
        contact_identifier_id as record_identifier_id
    from refused
    where reach <> 'address' and contact_identifier_id is not null

    union

    select
        refused.consent_key,
        refused.refused_purpose,
        records.record_identifier_id
    from refused
    inner join records
        on
            refused.contact_point = records.contact_point
            and not records.is_blocked
    where refused.reach <> 'address'
),

bound as (
    select
        contact_point as email,
        consent_key,
        refused_purpose
    from refused
    where contact_point_type = 'email' and contact_point is not null

    union

    select
        records.contact_point as email,
        refusing_records.consent_key,
        refusing_records.refused_purpose
    from refusing_records
    inner join records on refusing_records.record_identifier_id = records.record_identifier_id

    union

    select
        holders.contact_point as email,
        refused.consent_key,
        refused.refused_purpose
    from refused
    inner join holders on refused.customer_id = holders.customer_id
),

-- Only what a person said lifts, and only for the address that it was said about.
grants as (
    select
        contact_point as email,
        purpose,
        max(captured_at) as granted_at
    from {{ ref("fct_consents") }}
    where
        is_permission
        and {{ is_explicit_consent("lawful_basis") }}
        and contact_point_type = 'email'
        and channel = 'email'
    group by
        contact_point,
        purpose
),

reasons as (
    select distinct
        consent_key,
        suppression_type,
        reach,
        captured_at
    from suppressions
),

standing as (
    select
        bound.email,
        bound.refused_purpose as purpose,
        reasons.suppression_type,
        reasons.captured_at,
        {{ gravity("reasons.suppression_type") }} as gravity
    from bound
    inner join reasons on bound.consent_key = reasons.consent_key
    left join grants
        on
            bound.email = grants.email
            and bound.refused_purpose = grants.purpose
    where
        reasons.reach in ('everything', 'address')
        or grants.granted_at is null
        or grants.granted_at <= reasons.captured_at
),

gravest as (
    select
        email,
        purpose,
        suppression_type,
        captured_at
    from standing
    qualify row_number() over (
        partition by email, purpose
        order by gravity, captured_at desc, suppression_type
    ) = 1
)

select * from gravest
