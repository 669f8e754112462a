with

listed as (
    select distinct
        country_code,
        code_key
    from {{ ref("int_listed_postal_codes") }}
),

listed_countries as (
    select distinct country_code
    from listed
),

formats as (
    select * from {{ ref("postal_formats") }}
),

given as (
    select distinct
        country_code,
        postal_code
    from {{ ref("stg_crm__contacts") }}
    where postal_code is not null
),

compact as (
    select
        given.country_code,
        given.postal_code,
        {{ postal_code_key("given.postal_code") }} as compact_code,
        formats.pattern,
        coalesce(formats.joined_by, '') as joined_by,
        formats.matched_on
    from given
    left join formats on given.country_code = formats.country_code
),

parts as (
    select
        *,
        {{ postal_code_parts("compact_code", "pattern") }} as code_parts
    from compact
),

-- A country without a known format can't be malformed, only empty.
read as (
    select
        country_code,
        postal_code,
        matched_on,
        case
            when pattern is null then nullif(compact_code, '')
            else {{ dbt.split_part("code_parts", "'|'", 1) }}
        end as first_part,
        nullif({{ dbt.split_part("code_parts", "'|'", 2) }}, '') as second_part,
        joined_by
    from parts
),

written as (
    select
        country_code,
        postal_code,
        first_part || coalesce(joined_by || second_part, '') as postal_code_key,
        case when matched_on = 'first' then first_part else first_part || coalesce(second_part, '') end as code_key
    from read
),

verdicts as (
    select
        written.country_code,
        written.postal_code,
        written.postal_code_key,
        written.code_key,

        case
            when written.postal_code_key is null then 'malformed'
            when listed_countries.country_code is null then 'not_covered'
            when listed.code_key is null then 'unknown'
            else 'valid'
        end as verdict
    from written
    left join listed_countries on written.country_code = listed_countries.country_code
    left join listed
        on
            written.country_code = listed.country_code
            and written.code_key = listed.code_key
)

select * from verdicts
