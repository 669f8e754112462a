with

clock as (
    select * from {{ ref("stg_lake__clock") }}
),

identifiers as (
    select * from {{ ref("int_identifiers") }}
),

customers as (
    select
        customer_id,
        {{ latest_value("case when identifier_type = 'email' then identifier end", "first_known_at", "identifier") }}
            as email,
        {{ latest_value("case when identifier_type = 'phone' then identifier end", "first_known_at", "identifier") }}
            as phone,
        count(case when identifier_type in ('customer_ref', 'contact_id') then 1 end) as record_count,
        min(first_known_at) as first_known_at
    from identifiers
    group by customer_id
),

contacts as (
    select
        identifiers.customer_id,
        contacts.*
    from {{ ref("stg_crm__contacts") }} as contacts
    inner join identifiers
        on {{ identifier_id("crm", "contact_id", "contacts.contact_id") }} = identifiers.identifier_id
    where contacts.is_current
),

-- The golden record: of each field what the record that changed last says, if it says anything.
profiles as (
    select
        customer_id,
        {{ latest_value("given_name", "updated_at", "contact_id") }} as given_name,
        {{ latest_value("surname", "updated_at", "contact_id") }} as surname,
        {{ latest_value("email", "updated_at", "contact_id") }} as email,
        {{ latest_value("phone", "updated_at", "contact_id") }} as phone,
        {{ latest_value("gender", "updated_at", "contact_id") }} as gender,
        {{ latest_value("birthday", "updated_at", "contact_id") }} as birthday,
        {{ latest_value("language", "updated_at", "contact_id") }} as language,
        {{ latest_value("account_type", "updated_at", "contact_id") }} as account_type,
        {{ latest_value("loyalty_tier", "updated_at", "contact_id") }} as loyalty_tier
    from contacts
    group by customer_id
),

-- An address is taken whole, so that no town stands with another one's postal code.
addresses as (
    select
        customer_id,
        city,
        region,
        postal_code,
        country_code
    from contacts
    where coalesce(city, postal_code, country_code) is not null
    qualify row_number() over (
        partition by customer_id
        order by
            case when coalesce(city, postal_code) is null then 1 else 0 end,
            coalesce(updated_at, cast('1900-01-01' as timestamp)) desc,
            contact_id desc
    ) = 1
),

order_countries as (
    select
        identifiers.customer_id,
        {{ latest_value("documents.country_code", "documents.ordered_at", "documents.order_key") }} as country_code
    from {{ ref("int_order_documents") }} as documents
    inner join clock on documents.known_at < clock.as_of
    inner join identifiers on documents.identifier_id = identifiers.identifier_id
    group by identifiers.customer_id
),

-- Bought data fill gaps in what is known of a customer and make nobody one.
demographics as (
    select
        identifiers.customer_id,
        {{ latest_value("demographics.age_band", "demographics.known_at", "demographics.contact_point") }} as age_band,
        {{ latest_value("demographics.gender", "demographics.known_at", "demographics.contact_point") }} as gender,
        {{ latest_value("demographics.region_type", "demographics.known_at", "demographics.contact_point") }}
            as region_type
    from {{ ref("stg_third_party__demographics") }} as demographics
    inner join identifiers
        on
            demographics.contact_point_type = identifiers.identifier_type
            and demographics.contact_point = identifiers.identifier
    group by identifiers.customer_id
),

golden as (
    select
        customers.customer_id,

        profiles.given_name,
        profiles.surname,
        coalesce(profiles.email, customers.email) as email,
        coalesce(profiles.phone, customers.phone) as phone,
        coalesce(profiles.gender, demographics.gender) as gender,
        coalesce({{ age_band("profiles.birthday", "clock.as_of_on") }}, demographics.age_band) as age_band,
        addresses.city,
        addresses.region,
        addresses.postal_code,
        coalesce(addresses.country_code, order_countries.country_code) as country_code,
        profiles.language,
        profiles.account_type,
        profiles.loyalty_tier,
        demographics.region_type,

        customers.record_count,

        profiles.birthday,
        {{ to_local_date("customers.first_known_at") }} as first_known_on,

        customers.first_known_at
    from customers
    cross join clock
    left join profiles on customers.customer_id = profiles.customer_id
    left join addresses on customers.customer_id = addresses.customer_id
    left join order_countries on customers.customer_id = order_countries.customer_id
    left join demographics on customers.customer_id = demographics.customer_id
)

select * from golden
