with

rules as (
    select
        field,
        rule,
        sources,
        coalesce(nullif(taken_with, ''), field) as field_group,
        count(*) over (partition by coalesce(nullif(taken_with, ''), field)) > 1 as is_taken_with_others
    from {{ ref("identity_survivorship") }}
),

identifiers as (
    select * from {{ ref("int_identifiers") }}
),

records as (
    select
        records.*,
        identifiers.customer_id
    from {{ ref("int_person_records") }} as records
    inner join identifiers on records.identifier_id = identifiers.identifier_id
),

contacts as (
    select
        records.customer_id,
        records.identifier_id,
        contacts.given_name,
        contacts.surname,
        contacts.gender,
        contacts.city,
        contacts.region,
        coalesce(addresses.postal_code_key, contacts.postal_code) as postal_code,
        contacts.country_code,
        contacts.language,
        contacts.account_type,
        contacts.loyalty_tier,
        cast(contacts.birthday as varchar) as birthday,
        case
            when addresses.postal_code_verdict = 'valid' then 2
            when coalesce(contacts.city, addresses.postal_code_key) is not null then 1
            else 0
        end as address_verified,
        coalesce(contacts.updated_at, contacts.known_at) as valued_at
    from {{ ref("stg_crm__contacts") }} as contacts
    inner join records on {{ identifier_id("crm", "contact_id", "contacts.contact_id") }} = records.identifier_id
    left join {{ ref("int_contact_addresses") }} as addresses
        on
            contacts.contact_id = addresses.contact_id
            and contacts.delivery_id = addresses.delivery_id
    where contacts.is_current
),

contact_values as (
    {% for field in ["given_name", "surname", "gender", "birthday", "language", "account_type", "loyalty_tier"] %}
    select
        customer_id,
        identifier_id,
        'crm' as source,
        '{{ field }}' as field,
        {{ field }} as value,
        1 as verified,
        valued_at
    from contacts
    where {{ field }} is not null
    {{ "union all" if not loop.last }}
    {% endfor %}
),

contact_addresses as (
    {% for field in ["city", "region", "postal_code", "country_code"] %}
    select
        customer_id,
        identifier_id,
        'crm' as source,
        '{{ field }}' as field,
        {{ field }} as value,
        address_verified as verified,
        valued_at
    from contacts
    where {{ field }} is not null
    {{ "union all" if not loop.last }}
    {% endfor %}
),

-- Of an order the country alone is known, which any address is better than.
order_countries as (
    select
        records.customer_id,
        documents.identifier_id,
        'shop' as source,
        'country_code' as field,
        {{ latest_value("documents.country_code", "documents.ordered_at", "documents.order_key") }} as value,
        0 as verified,
        max(documents.ordered_at) as valued_at
    from {{ ref("int_order_documents") }} as documents
    inner join records on documents.identifier_id = records.identifier_id
    where
        documents.known_at < {{ clock_as_of() }}
        and documents.country_code is not null
        and (documents.status is null or documents.status not in ('test', 'fraud'))
    group by
        records.customer_id,
        documents.identifier_id
),

-- Double opt-in: whoever confirmed reads that mailbox, or holds that phone.
confirmed as (
    select distinct
        case
            when consents.channel = 'email' then {{ identifier_id("any", "email", "consents.email") }}
            else {{ identifier_id("any", "phone", "consents.phone") }}
        end as contact_point_id
    from {{ ref("stg_crm__consents") }} as consents
    where
        consents.known_at < {{ clock_as_of() }}
        and consents.state = 'confirmed'
),

bounced as (
    select distinct identifier_id as contact_point_id
    from {{ ref("fct_email_events") }}
    where event_type = 'bounced' and bounce_type = 'hard'
),

record_contact_points as (
    {% for field in ["email", "phone"] %}
    select
        customer_id,
        identifier_id,
        '{{ field }}' as field,
        {{ field }} as value,
        {{ identifier_id("any", field, field) }} as contact_point_id
    from records
    where {{ field }} is not null
    {{ "union all" if not loop.last }}
    {% endfor %}
),

contact_points as (
    select
        record_contact_points.customer_id,
        record_contact_points.identifier_id,
        coalesce(
            case when contacts.identifier_id is not null then 'crm' end, carried.last_seen_in
        ) as source,
        record_contact_points.field,
        record_contact_points.value,
        case
            when bounced.contact_point_id is not null then 0
            when confirmed.contact_point_id is not null then 2
            when judged.is_disposable or not judged.is_valid then 0
            else 1
        end as verified,
        coalesce(contacts.valued_at, carried.last_seen_at) as valued_at
    from record_contact_points
    inner join {{ ref("int_record_contact_points") }} as carried
        on
            record_contact_points.identifier_id = carried.record_id
            and record_contact_points.contact_point_id = carried.contact_point_id
    inner join {{ ref("int_contact_points") }} as judged
        on record_contact_points.contact_point_id = judged.identifier_id
    left join contacts on record_contact_points.identifier_id = contacts.identifier_id
    left join confirmed on record_contact_points.contact_point_id = confirmed.contact_point_id
    left join bounced on record_contact_points.contact_point_id = bounced.contact_point_id
),

-- Bought data are about a contact point and so about its owner. They fill gaps and make nobody a customer.
demographics as (
    select
        identifiers.customer_id,
        identifiers.identifier_id,
        {{ latest_value("demographics.age_band", "demographics.known_at", "demographics.age_band") }} as age_band,
        {{ latest_value("demographics.gender", "demographics.known_at", "demographics.gender") }} as gender,
        {{ latest_value("demographics.region_type", "demographics.known_at", "demographics.region_type") }}
            as region_type,
        max(demographics.known_at) as valued_at
    from {{ ref("stg_third_party__demographics") }} as demographics
    inner join identifiers
        on
            demographics.contact_point_type = identifiers.identifier_type
            and demographics.contact_point = identifiers.identifier
    group by
        identifiers.customer_id,
        identifiers.identifier_id
),

bought_values as (
    {% for field in ["gender", "age_band", "region_type"] %}
    select
        customer_id,
        identifier_id,
        'third_party' as source,
        '{{ field }}' as field,
        {{ field }} as value,
        1 as verified,
        valued_at
    from demographics
    where {{ field }} is not null
    {{ "union all" if not loop.last }}
    {% endfor %}
),

all_values as (
    select * from contact_values
    union all
    select * from contact_addresses
    union all
    select * from order_countries
    union all
    select * from contact_points
    union all
    select * from bought_values
),

ruled as (
    select
        all_values.*,
        rules.field_group,
        rules.is_taken_with_others,
        rules.rule,
        {{ dbt.position("' ' || all_values.source || ' '", "' ' || rules.sources || ' '") }} as source_rank
    from all_values
    inner join rules
        on
            all_values.field = rules.field
            and {{ dbt.position("' ' || all_values.source || ' '", "' ' || rules.sources || ' '") }} > 0
),

-- Most of what is said of a customer one record alone says, so that there is nothing to decide.
contests as (
    select
        customer_id,
        field_group
    from ruled
    group by
        customer_id,
        field_group
    having min(identifier_id) < max(identifier_id) or min(source) < max(source)
),

contested as (
    select ruled.*
    from ruled
    inner join contests
        on
            ruled.customer_id = contests.customer_id
            and ruled.field_group = contests.field_group
),

-- What a record offers for a field, or for a group of fields that go together.
offers as (
    select
        customer_id,
        field_group,
        identifier_id,
        source,
        rule,
        source_rank,
        value as content,
        verified,
        valued_at
    from contested
    where not is_taken_with_others

    union all

    select
        customer_id,
        field_group,
        identifier_id,
        source,
        max(rule) as rule,
        max(source_rank) as source_rank,
        {{ dbt.listagg("value", "'|'", "order by field") }} as content,
        max(verified) as verified,
        max(valued_at) as valued_at
    from contested
    where is_taken_with_others
    group by
        customer_id,
        field_group,
        identifier_id,
        source
),

counted as (
    select
        *,
        count(*) over (partition by customer_id, field_group, content) as occurrences
    from offers
),

outdone as (
    select
        customer_id,
        field_group,
        identifier_id,
        source
    from counted
    qualify row_number() over (
        partition by customer_id, field_group
        order by
            case when rule = 'most_recent_verified' then verified end desc,
            case when rule = 'most_recent_verified' then valued_at end desc,
            case when rule = 'source_priority' then source_rank end,
            case when rule in ('most_frequent', 'source_priority') then occurrences end desc,
            source_rank,
            valued_at desc,
            identifier_id
    ) > 1
),

golden as (
    select
        ruled.customer_id,
        ruled.field,

        ruled.value,
        ruled.rule,
        ruled.source,
        ruled.identifier_id,

        ruled.valued_at
    from ruled
    left join outdone
        on
            ruled.customer_id = outdone.customer_id
            and ruled.field_group = outdone.field_group
            and ruled.identifier_id = outdone.identifier_id
            and ruled.source = outdone.source
    where outdone.customer_id is null
)

select * from golden
