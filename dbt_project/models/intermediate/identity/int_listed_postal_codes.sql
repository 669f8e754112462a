with

delivered as (
    select
        country_code,
        postal_code,
        place,
        region
    from {{ ref("stg_reference__postal_codes") }}
),

shipped as (
    select
        country_code,
        postal_code,
        place,
        region
    from {{ ref("stg_shipped__postal_codes") }}
    where not exists (select 1 from delivered)
),

countries as (
    select distinct country_code
    from {{ ref("stg_crm__contacts") }}
),

listed as (
    select * from delivered
    union all
    select * from shipped
),

needed as (
    select
        listed.country_code,
        replace(replace(split_part(listed.postal_code, ' CEDEX', 1), ' ', ''), '-', '') as code_key,
        listed.place,
        listed.region
    from listed
    inner join countries on listed.country_code = countries.country_code
),

places as (
    select distinct
        country_code,
        code_key,
        {{ place_key("place") }} as place_key,
        {{ place_key("region") }} as region_key
    from needed
)

select * from places
