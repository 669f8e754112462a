{#- A view: the list is long, and its two readers want a part of it each. -#}
{{ config(materialized="view") }}

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
        replace(replace({{ dbt.split_part("listed.postal_code", "' CEDEX'", 1) }}, ' ', ''), '-', '') as code_key,
        listed.place,
        listed.region
    from listed
    inner join countries on listed.country_code = countries.country_code
)

select * from needed
