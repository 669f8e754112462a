with

clock as (
    select * from {{ ref("stg_lake__clock") }}
),

customers as (
    select customer_id from {{ ref("dim_customers") }}
),

records as (
    select
        identifiers.customer_id,
        persons.country,
        persons.date_of_birth
    from {{ ref("int_person_records") }} as persons
    inner join {{ ref("customer_identifiers") }} as identifiers on persons.identifier_id = identifiers.identifier_id
),

countries as (
    select distinct
        records.customer_id,
        coalesce(policies.country_code, '*') as country_code
    from records
    left join {{ ref("consent_policies") }} as policies on records.country = policies.country_code
    where records.country is not null
),

policies as (
    select
        customers.customer_id,
        {{ strictest_policy("policies") }}
    from customers
    left join countries on customers.customer_id = countries.customer_id
    inner join {{ ref("consent_policies") }} as policies
        on coalesce(countries.country_code, '*') = policies.country_code
    group by customers.customer_id
),

-- One record that says so is enough.
minors as (
    select distinct records.customer_id
    from records
    cross join clock
    inner join policies on records.customer_id = policies.customer_id
    where
        records.date_of_birth <= clock.as_of_on
        and {{ full_years("records.date_of_birth", "clock.as_of_on") }} < policies.minimum_age
),

profiling as (
    select
        *,
        row_number() over (
            partition by customer_id, identifier_id, channel
            order by captured_at desc, {{ carefulness("state") }}, ends_at, consent_key
        ) as newness
    from {{ ref("fct_consents") }}
    where
        purpose = 'profiling'
        and customer_id is not null
        and (is_permission or suppression is not null or not {{ is_grant("state") }})
),

-- What one person says at one contact point is for the whole of them: a profile has no addresses.
granted as (
    select distinct profiling.customer_id
    from profiling
    cross join clock
    where
        profiling.newness = 1
        and profiling.is_permission
        and (profiling.ends_at is null or profiling.ends_at > clock.as_of)
),

-- A refusal is taken back only where it was said.
refused as (
    select distinct suppressions.customer_id
    from {{ ref("fct_suppressions") }} as suppressions
    left join profiling as grants
        on
            suppressions.customer_id = grants.customer_id
            and (
                suppressions.identifier_id = grants.identifier_id
                or suppressions.contact_identifier_id = grants.contact_identifier_id
            )
            and suppressions.captured_at < grants.captured_at
            and suppressions.reach <> 'everything'
            and grants.is_permission
            and {{ is_explicit_consent("grants.lawful_basis") }}
    where
        suppressions.customer_id is not null
        and (
            suppressions.reach = 'everything'
            or (suppressions.reach = 'purpose' and suppressions.purpose = 'profiling')
        )
        and grants.consent_key is null
),

joined as (
    select
        customers.customer_id,

        policies.profiling_basis,
        case
            when minors.customer_id is not null then 'minor'
            when refused.customer_id is not null then 'refused'
            when granted.customer_id is null and policies.profiling_basis = 'consent' then 'no_consent'
        end as reason_not_profiled,

        minors.customer_id is not null as is_known_minor,

        policies.minimum_age
    from customers
    inner join policies on customers.customer_id = policies.customer_id
    left join minors on customers.customer_id = minors.customer_id
    left join refused on customers.customer_id = refused.customer_id
    left join granted on customers.customer_id = granted.customer_id
),

final as (
    select
        customer_id,

        profiling_basis,
        reason_not_profiled,

        minimum_age,

        reason_not_profiled is null as may_be_profiled,
        is_known_minor
    from joined
)

select * from final
