with

contacts as (
    select
        contacts.contact_id,
        contacts.delivery_id,
        contacts.country_code,
        contacts.city,
        contacts.region,
        postal_codes.postal_code_key,
        postal_codes.code_key,
        postal_codes.verdict
    from {{ ref("stg_crm__contacts") }} as contacts
    left join {{ ref("int_postal_codes") }} as postal_codes
        on
            contacts.postal_code = postal_codes.postal_code
            and contacts.country_code is not distinct from postal_codes.country_code
),

with_regions as (
    select
        contacts.*,
        {{ place_key("contacts.city") }} as city_key,
        regions.region_code,
        {{ place_key("regions.name") }} as region_key
    from contacts
    left join {{ ref("regions") }} as regions
        on
            contacts.country_code = regions.country_code
            and {{ country_key("contacts.region") }} = regions.name_key
),

-- What is said once is looked up once. Towns are compared only where the code is in the list.
said as (
    select distinct
        country_code,
        code_key,
        city_key,
        region_key
    from with_regions
    where verdict = 'valid'
),

areas as (
    select distinct
        country_code,
        substr(code_key, 1, 2) as area
    from said
),

listed as (
    select
        listed.country_code,
        listed.code_key,
        areas.area,
        {{ place_key("listed.place") }} as place_key,
        {{ place_key("listed.region") }} as region_key
    from {{ ref("int_listed_postal_codes") }} as listed
    inner join areas
        on
            listed.country_code = areas.country_code
            and substr(listed.code_key, 1, 2) = areas.area
),

agreeing_cities as (
    select
        said.country_code,
        said.code_key,
        said.city_key
    from said
    inner join listed
        on
            said.country_code = listed.country_code
            and said.code_key = listed.code_key
    where {{ are_similar_places("said.city_key", "listed.place_key") }}

    union

    -- Codes name quarters, people the town: a town with a code that begins alike agrees as well.
    select
        said.country_code,
        said.code_key,
        said.city_key
    from said
    inner join listed
        on
            said.country_code = listed.country_code
            and substr(said.code_key, 1, 2) = listed.area
            and said.city_key = listed.place_key
),

agreeing_regions as (
    select distinct
        said.country_code,
        said.code_key,
        said.region_key
    from said
    inner join listed
        on
            said.country_code = listed.country_code
            and said.code_key = listed.code_key
            and (said.region_key = listed.region_key or listed.region_key is null)
),

checked as (
    select
        with_regions.contact_id,
        with_regions.delivery_id,

        with_regions.postal_code_key,
        with_regions.verdict as postal_code_verdict,
        with_regions.region_code,

        coalesce(
            with_regions.verdict = 'valid'
            and with_regions.city_key is not null
            and agreeing_cities.city_key is null,
            false
        ) as is_city_in_doubt,
        coalesce(
            with_regions.verdict = 'valid'
            and with_regions.region_key is not null
            and agreeing_regions.region_key is null,
            false
        ) as is_region_in_doubt
    from with_regions
    left join agreeing_cities
        on
            with_regions.country_code = agreeing_cities.country_code
            and with_regions.code_key = agreeing_cities.code_key
            and with_regions.city_key = agreeing_cities.city_key
    left join agreeing_regions
        on
            with_regions.country_code = agreeing_regions.country_code
            and with_regions.code_key = agreeing_regions.code_key
            and with_regions.region_key = agreeing_regions.region_key
)

select * from checked
