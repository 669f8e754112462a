{%- set fields = [
    "gender", "age_band", "region_type", "country_code", "language", "account_type", "loyalty_tier", "birthday"
] -%}

with

identifiers as (
    select
        identifier_id,
        identifier_type,
        identifier,
        customer_id,
        first_known_at
    from {{ ref("int_identifiers") }}
),

contacts as (
    select
        'crm' as source,
        identifiers.customer_id,
        identifiers.identifier_id,

        contacts.gender,
        cast(null as varchar) as age_band,
        cast(null as varchar) as region_type,
        contacts.country_code,
        contacts.language,
        contacts.account_type,
        contacts.loyalty_tier,

        case when contacts.birthday_given >= cast('1900-01-01' as date) then contacts.birthday_given end as birthday,

        contacts.known_at as valued_at,
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

-- Bought data are about a contact point and so about its owner, since it is known whose it is.
demographics as (
    select
        'third_party' as source,
        identifiers.customer_id,
        identifiers.identifier_id,

        max(demographics.gender) as gender,
        max(demographics.age_band) as age_band,
        max(demographics.region_type) as region_type,
        cast(null as varchar) as country_code,
        cast(null as varchar) as language,
        cast(null as varchar) as account_type,
        cast(null as varchar) as loyalty_tier,

        cast(null as date) as birthday,

        demographics.known_at as valued_at,
        greatest(demographics.known_at, identifiers.first_known_at) as known_at,
        demographics.superseded_at
    from {{ ref("stg_third_party__demographics_versions") }} as demographics
    inner join identifiers
        on
            demographics.contact_point_type = identifiers.identifier_type
            and demographics.contact_point = identifiers.identifier
    group by
        identifiers.customer_id,
        identifiers.identifier_id,
        identifiers.first_known_at,
        demographics.delivery_id,
        demographics.known_at,
        demographics.superseded_at
),

-- What another version took the place of before it counted is nothing that was ever known.
versions as (
    select *
    from (
        select * from contacts
        union all
        select * from demographics
    ) as described
    where superseded_at is null or superseded_at > known_at
),

counted as (
    select
        *,
        count(*) over (partition by source, customer_id) as versions
    from versions
),

-- Where a customer has several records or versions, a row for each span in which nothing about them changed.
instants as (
    select
        source,
        customer_id,
        known_at as changed_at
    from counted
    where versions > 1

    union

    select
        source,
        customer_id,
        superseded_at as changed_at
    from counted
    where versions > 1 and superseded_at is not null
),

spans as (
    select
        source,
        customer_id,
        changed_at as known_at,
        lead(changed_at) over (partition by source, customer_id order by changed_at) as superseded_at
    from instants
),

combined as (
    select
        spans.source,
        spans.customer_id,
        {% for field in fields %}
        {{ latest_value("counted." ~ field, "counted.valued_at", "counted.identifier_id") }} as {{ field }},
        {% endfor %}
        spans.known_at,
        spans.superseded_at
    from spans
    inner join counted
        on
            spans.source = counted.source
            and spans.customer_id = counted.customer_id
            and spans.known_at >= counted.known_at
            and (counted.superseded_at is null or spans.known_at < counted.superseded_at)
    group by
        spans.source,
        spans.customer_id,
        spans.known_at,
        spans.superseded_at
),

profiles as (
    select
        source,
        customer_id,

        gender,
        age_band,
        region_type,
        country_code,
        language,
        account_type,
        loyalty_tier,

        birthday,

        known_at,
        superseded_at
    from counted
    where versions = 1

    union all

    select
        source,
        customer_id,

        gender,
        age_band,
        region_type,
        country_code,
        language,
        account_type,
        loyalty_tier,

        birthday,

        known_at,
        superseded_at
    from combined
)

select * from profiles
