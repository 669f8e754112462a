with

as_ofs as (

    select * from {{ ref('dim_as_ofs') }}

),

current_as_of as (

    select
        as_of,
        as_of_on
    from as_ofs
    where is_current

),

month_offsets as (

    {% for months_back in range(12) %}
    select {{ months_back }} as months_back
    {% if not loop.last %}union all{% endif %}
    {% endfor %}

),

month_starts as (

    select
        cast(
            {{ dbt.dateadd("month", "-month_offsets.months_back", dbt.date_trunc("month", "current_as_of.as_of_on")) }}
            as date
        ) as as_of_on
    from current_as_of
    cross join month_offsets

),

anchors as (

    select
        as_of,
        as_of_on,
        is_current,
        true as is_spine,
        false as is_month_start
    from as_ofs

    union all

    select
        {{ local_midnight('as_of_on') }} as as_of,
        as_of_on,
        false as is_current,
        false as is_spine,
        true as is_month_start
    from month_starts

),

merged as (

    select
        as_of,
        min(as_of_on) as as_of_on,
        {{ dbt.bool_or('is_current') }} as is_current,
        {{ dbt.bool_or('is_spine') }} as is_spine,
        {{ dbt.bool_or('is_month_start') }} as is_month_start
    from anchors
    group by as_of

)

select * from merged
