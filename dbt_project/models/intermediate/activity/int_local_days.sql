with

utc_days as (
    {{ utc_days() }}
),

first_days as (
    select
        utc_on,
        {{ to_local_date("cast(utc_on as timestamp)") }} as first_on
    from utc_days
),

next_days as (
    select
        utc_on,
        first_on,
        cast({{ dbt.dateadd("day", 1, "first_on") }} as date) as second_on,
        cast({{ dbt.dateadd("day", 2, "first_on") }} as date) as third_on
    from first_days
),

-- A local day of 23 hours can begin and end within one UTC date.
begun as (
    select
        utc_on,
        first_on,
        second_on,
        third_on,
        {{ local_midnight("second_on") }} as second_at,
        {{ local_midnight("third_on") }} as third_at
    from next_days
)

select * from begun
