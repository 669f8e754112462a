with

records as (
    select * from {{ ref("contact_point_records") }}
    where is_known
),

countries as (
    select
        contact_point_type,
        contact_point,
        country_code,
        {{ dbt.bool_or("has_ordered") }} as has_ordered
    from records
    group by
        contact_point_type,
        contact_point,
        country_code
),

-- A record without a country says nothing beside one that has one.
telling as (
    select
        contact_point_type,
        contact_point,
        country_code,
        {{ dbt.bool_or("has_ordered") }} over (partition by contact_point_type, contact_point) as has_ordered,
        count(country_code) over (partition by contact_point_type, contact_point) as known_countries
    from countries
),

coded as (
    select
        telling.contact_point_type,
        telling.contact_point,
        telling.has_ordered,
        coalesce(own.country_code, '*') as country_code
    from telling
    left join {{ ref("consent_policies") }} as own on telling.country_code = own.country_code
    where telling.country_code is not null or telling.known_countries = 0
),

strictest as (
    select
        coded.contact_point_type,
        coded.contact_point,
        {{ dbt.bool_or("coded.has_ordered") }} as has_ordered,
        {{ strictest_policy("policies") }}
    from coded
    inner join {{ ref("consent_policies") }} as policies on coded.country_code = policies.country_code
    group by
        coded.contact_point_type,
        coded.contact_point
)

select * from strictest
