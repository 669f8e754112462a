with

clock as (
    select * from {{ ref("stg_lake__clock") }}
),

customers as (
    select
        customer_id,
        count(case when identifier_type in ('customer_ref', 'contact_id') then 1 end) as record_count,
        min(first_known_at) as first_known_at
    from {{ ref("int_identifiers") }}
    group by customer_id
),

profiles as (
    select
        customer_id,
        max(case when field = 'given_name' then value end) as given_name,
        max(case when field = 'surname' then value end) as surname,
        max(case when field = 'email' then value end) as email,
        max(case when field = 'phone' then value end) as phone,
        max(case when field = 'gender' then value end) as gender,
        max(case when field = 'age_band' then value end) as age_band,
        max(case when field = 'city' then value end) as city,
        max(case when field = 'region' then value end) as region,
        max(case when field = 'postal_code' then value end) as postal_code,
        max(case when field = 'country_code' then value end) as country_code,
        max(case when field = 'language' then value end) as language,
        max(case when field = 'account_type' then value end) as account_type,
        max(case when field = 'loyalty_tier' then value end) as loyalty_tier,
        max(case when field = 'region_type' then value end) as region_type,
        cast(max(case when field = 'birthday' then value end) as date) as birthday
    from {{ ref("customer_golden_values") }}
    group by customer_id
),

golden as (
    select
        customers.customer_id,

        profiles.given_name,
        profiles.surname,
        profiles.email,
        profiles.phone,
        profiles.gender,
        coalesce({{ age_band("profiles.birthday", "clock.as_of_on") }}, profiles.age_band) as age_band,
        profiles.city,
        profiles.region,
        profiles.postal_code,
        profiles.country_code,
        profiles.language,
        profiles.account_type,
        profiles.loyalty_tier,
        profiles.region_type,

        customers.record_count,

        profiles.birthday,
        {{ to_local_date("customers.first_known_at") }} as first_known_on,

        customers.first_known_at
    from customers
    cross join clock
    left join profiles on customers.customer_id = profiles.customer_id
)

select * from golden
