with

customer_refs as (
    select * from {{ ref("int_customer_refs") }}
),

contact_persons as (
    select * from {{ ref("int_contact_persons") }}
),

-- Who was seen, as far as numbers tell: the shop's own before the CRM's.
sightings as (
    select
        sightings.*,
        coalesce(customer_refs.founding_identifier, contact_persons.founding_identifier) as founding_identifier
    from {{ ref("int_sightings") }} as sightings
    left join customer_refs on sightings.customer_ref = customer_refs.customer_ref
    left join contact_persons on sightings.contact_id = contact_persons.contact_id
),

-- A shared address has one owner, whom what happens there is counted for: the person seen with it first. Its other
-- users keep it as their contact point and stay who they are.
emails as (
    select
        email,
        coalesce(founding_identifier, 'any|email|' || email) as founding_identifier,
        min(first_known_at) over (partition by email) as first_known_at
    from sightings
    where email is not null
    qualify row_number() over (
        partition by email
        order by
            case when founding_identifier is null then 1 else 0 end,
            first_known_at,
            case when founding_identifier like 'shop|%' then 0 else 1 end,
            founding_identifier
    ) = 1
),

known_by_address as (
    select
        sightings.phone,
        sightings.anonymous_id,
        sightings.first_known_at,
        coalesce(sightings.founding_identifier, emails.founding_identifier) as founding_identifier
    from sightings
    left join emails on sightings.email = emails.email
),

contacts as (
    select
        contact_persons.contact_id,
        coalesce(contact_persons.founding_identifier, emails.founding_identifier) as founding_identifier,
        contact_persons.first_known_at
    from contact_persons
    left join emails on contact_persons.email = emails.email
),

phones as (
    select
        phone,
        coalesce(founding_identifier, 'any|phone|' || phone) as founding_identifier,
        min(first_known_at) over (partition by phone) as first_known_at
    from known_by_address
    where phone is not null
    qualify row_number() over (
        partition by phone
        order by
            case when founding_identifier is null then 1 else 0 end,
            first_known_at,
            case when founding_identifier like 'shop|%' then 0 else 1 end,
            founding_identifier
    ) = 1
),

-- A device belongs to whoever named themselves on it first, backwards in time as well.
devices as (
    select
        anonymous_id,
        founding_identifier,
        min(first_known_at) over (partition by anonymous_id) as first_known_at
    from known_by_address
    where anonymous_id is not null and founding_identifier is not null
    qualify row_number() over (
        partition by anonymous_id
        order by first_known_at, case when founding_identifier like 'shop|%' then 0 else 1 end, founding_identifier
    ) = 1
),

identifiers as (
    select
        {{ identifier_id("shop", "customer_ref", "customer_ref") }} as identifier_id,
        'shop' as source,
        'customer_ref' as identifier_type,
        customer_ref as identifier,
        founding_identifier,
        first_known_at
    from customer_refs

    union all

    select
        {{ identifier_id("crm", "contact_id", "contact_id") }} as identifier_id,
        'crm' as source,
        'contact_id' as identifier_type,
        contact_id as identifier,
        founding_identifier,
        first_known_at
    from contacts

    union all

    select
        {{ identifier_id("any", "email", "email") }} as identifier_id,
        'any' as source,
        'email' as identifier_type,
        email as identifier,
        founding_identifier,
        first_known_at
    from emails

    union all

    select
        {{ identifier_id("any", "phone", "phone") }} as identifier_id,
        'any' as source,
        'phone' as identifier_type,
        phone as identifier,
        founding_identifier,
        first_known_at
    from phones

    union all

    select
        {{ identifier_id("web", "anonymous_id", "anonymous_id") }} as identifier_id,
        'web' as source,
        'anonymous_id' as identifier_type,
        anonymous_id as identifier,
        founding_identifier,
        first_known_at
    from devices
),

customers as (
    select
        identifier_id,
        source,
        identifier_type,
        identifier,
        founding_identifier,
        substr(md5(founding_identifier), 1, 16) as customer_id,
        first_known_at
    from identifiers
)

select * from customers
