with

sightings as (
    select * from {{ ref("int_sightings") }}
),

-- A contact point that can't be one person's alone, or can't be one at all, matches nobody.
usable as (
    select carried.*
    from {{ ref("int_record_contact_points") }} as carried
    left join {{ ref("int_blocked_contact_points") }} as blocked
        on carried.contact_point_id = blocked.contact_point_id
    where blocked.contact_point_id is null
),

contacts as (
    select * from {{ ref("stg_crm__contacts") }}
    where is_current
),

records as (
    select
        'shop' as source,
        'customer_ref' as identifier_type,
        customer_ref as identifier,
        min(first_known_at) as first_known_at
    from sightings
    where customer_ref is not null
    group by customer_ref

    union all

    select
        'crm' as source,
        'contact_id' as identifier_type,
        contact_id as identifier,
        min(first_known_at) as first_known_at
    from sightings
    where contact_id is not null
    group by contact_id

    union all

    select
        'any' as source,
        contact_point_type as identifier_type,
        contact_point as identifier,
        first_known_at
    from usable
    where is_guest
),

keyed as (
    select
        {{ hash_key("source || '|' || identifier_type || '|' || identifier") }} as identifier_id,
        {{ own_customer_id("source", "identifier_type", "identifier") }} as own_customer_id,
        source,
        identifier_type,
        identifier,
        first_known_at
    from records
),

-- Of several addresses or numbers seen with a record, the one seen last; a guest is its own.
last_seen as (
    select
        record_id,
        {{ latest_value(
            "case when contact_point_type = 'email' then contact_point end", "last_seen_at", "contact_point"
        ) }} as email,
        {{ latest_value(
            "case when contact_point_type = 'phone' then contact_point end", "last_seen_at", "contact_point"
        ) }} as phone
    from usable
    group by record_id
),

order_countries as (
    select
        documents.identifier_id as record_id,
        {{ latest_value("documents.country_code", "documents.ordered_at", "documents.order_key") }} as country_code
    from {{ ref("int_order_documents") }} as documents
    where
        documents.known_at < {{ clock_as_of() }}
        and (documents.status is null or documents.status not in ('test', 'fraud'))
    group by documents.identifier_id
),

profiles as (
    select
        {{ identifier_id("crm", "contact_id", "contacts.contact_id") }} as record_id,
        contacts.customer_ref,
        contacts.given_name,
        contacts.surname,
        cast(null as varchar) as full_name,
        contacts.gender,
        contacts.birthday as date_of_birth,
        emails.contact_point as email,
        phones.contact_point as phone,
        contacts.street as address,
        contacts.city,
        coalesce(addresses.region_code, contacts.region) as region,
        addresses.postal_code_key as postal_code,
        contacts.country_code,
        contacts.account_type
    from contacts
    left join {{ ref("int_contact_addresses") }} as addresses
        on
            contacts.contact_id = addresses.contact_id
            and contacts.delivery_id = addresses.delivery_id
    left join usable as emails
        on
            {{ identifier_id("crm", "contact_id", "contacts.contact_id") }} = emails.record_id
            and emails.contact_point_type = 'email'
            and contacts.email = emails.contact_point
    left join usable as phones
        on
            {{ identifier_id("crm", "contact_id", "contacts.contact_id") }} = phones.record_id
            and phones.contact_point_type = 'phone'
            and contacts.phone = phones.contact_point
),

described as (
    select
        keyed.identifier_id,
        keyed.source,
        keyed.identifier_type,
        keyed.identifier,
        keyed.own_customer_id,
        case when keyed.source = 'shop' then keyed.identifier else profiles.customer_ref end as customer_ref,

        profiles.given_name,
        profiles.surname,
        profiles.full_name,
        profiles.gender,
        case when profiles.record_id is null then last_seen.email else profiles.email end as email,
        case when profiles.record_id is null then last_seen.phone else profiles.phone end as phone,
        profiles.address,
        profiles.city,
        profiles.region,
        profiles.postal_code,
        coalesce(profiles.country_code, order_countries.country_code) as country,
        profiles.account_type,

        profiles.date_of_birth,

        keyed.first_known_at
    from keyed
    left join profiles on keyed.identifier_id = profiles.record_id
    left join last_seen on keyed.identifier_id = last_seen.record_id
    left join order_countries on keyed.identifier_id = order_countries.record_id
)

select * from described
