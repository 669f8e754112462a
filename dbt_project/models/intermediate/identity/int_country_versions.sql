with

identifiers as (
    select
        identifier_id,
        customer_id
    from {{ ref("int_identifiers") }}
),

contacts as (
    select
        identifiers.customer_id,
        identifiers.identifier_id,
        contacts.contact_id,
        contacts.delivery_id,
        contacts.country_code,
        contacts.city,
        coalesce(contacts.updated_at, contacts.known_at) as valued_at,
        contacts.known_at,
        min(contacts.known_at) over (
            partition by contacts.contact_id
            order by contacts.sequence, contacts.row_number
            rows between 1 following and unbounded following
        ) as superseded_at
    from {{ ref("stg_crm__contacts") }} as contacts
    inner join identifiers
        on {{ identifier_id("crm", "contact_id", "contacts.contact_id") }} = identifiers.identifier_id
),

orders as (
    select
        source,
        order_id,
        identifier_id,
        country_code,
        ordered_at as valued_at,
        known_at,
        superseded_at
    from {{ ref("int_order_document_versions") }}
    where
        known_at < {{ clock_as_of() }}
        and country_code is not null
        and (status is null or status not in ('test', 'fraud'))
),

-- What records say all in all; it lasts where nothing that was said later leaves the country out.
records as (
    select
        customer_id,
        min(country_code) as country_code,
        max(country_code) as other_country_code,
        min(case when country_code is not null then known_at end) as known_at,
        count(country_code) = count(*) as is_lasting
    from contacts
    group by
        customer_id,
        identifier_id
    having count(country_code) > 0

    union all

    select
        identifiers.customer_id,
        ordered.country_code,
        ordered.other_country_code,
        ordered.known_at,
        ordered.is_lasting
    from (
        select
            identifier_id,
            min(country_code) as country_code,
            max(country_code) as other_country_code,
            min(known_at) as known_at,
            coalesce(min(case when superseded_at is null then known_at end) = min(known_at), false) as is_lasting
        from orders
        group by identifier_id
    ) as ordered
    inner join identifiers on ordered.identifier_id = identifiers.identifier_id
),

customers as (
    select
        customer_id,
        min(country_code) as country_code,
        min(known_at) as known_at,
        min(country_code) = max(other_country_code)
        and coalesce(min(case when is_lasting then known_at end) = min(known_at), false) as is_settled
    from records
    group by customer_id
),

-- Nearly everybody is of one country, ever since any is known. Of the others, all that was said and how long it stood.
claims as (
    select
        contacts.customer_id,
        contacts.identifier_id,
        contacts.country_code,
        -- An address is better than a country alone.
        case when coalesce(contacts.city, addresses.postal_code_key) is not null then 0 else 1 end as address_rank,
        1 as source_rank,
        '' as order_key,
        contacts.valued_at,
        contacts.known_at,
        contacts.superseded_at
    from contacts
    inner join customers on contacts.customer_id = customers.customer_id
    left join {{ ref("int_contact_addresses") }} as addresses
        on
            contacts.contact_id = addresses.contact_id
            and contacts.delivery_id = addresses.delivery_id
    where not customers.is_settled and contacts.country_code is not null

    union all

    select
        identifiers.customer_id,
        orders.identifier_id,
        orders.country_code,
        1 as address_rank,
        2 as source_rank,
        orders.source || '|' || orders.order_id as order_key,
        orders.valued_at,
        orders.known_at,
        orders.superseded_at
    from orders
    inner join identifiers on orders.identifier_id = identifiers.identifier_id
    inner join customers on identifiers.customer_id = customers.customer_id
    where not customers.is_settled
),

instants as (
    select
        customer_id,
        known_at as changed_at
    from claims

    union

    select
        customer_id,
        superseded_at as changed_at
    from claims
    where superseded_at is not null
),

-- The newest address counts, as in the golden record; what is known of its postal code does not, as that may change.
believed as (
    select
        instants.customer_id,
        instants.changed_at,
        claims.country_code
    from instants
    left join claims
        on
            instants.customer_id = claims.customer_id
            and instants.changed_at >= claims.known_at
            and (claims.superseded_at is null or instants.changed_at < claims.superseded_at)
    qualify row_number() over (
        partition by instants.customer_id, instants.changed_at
        order by
            claims.address_rank,
            claims.valued_at desc,
            claims.source_rank,
            claims.identifier_id,
            claims.order_key desc
    ) = 1
),

changed as (
    select *
    from believed
    qualify
        row_number() over (partition by customer_id order by changed_at) = 1
        or country_code is distinct from lag(country_code) over (partition by customer_id order by changed_at)
),

spans as (
    select
        customer_id,
        country_code,
        changed_at as known_at,
        lead(changed_at) over (partition by customer_id order by changed_at) as superseded_at
    from changed
),

versions as (
    select
        customer_id,
        country_code,
        known_at,
        cast(null as timestamp) as superseded_at
    from customers
    where is_settled

    union all

    select
        customer_id,
        country_code,
        known_at,
        superseded_at
    from spans
    where country_code is not null
)

select * from versions
