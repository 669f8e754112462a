with

as_ofs as (

    select * from {{ ref('dim_as_ofs') }}

),

orders as (

    select * from {{ ref('int_order_versions') }}

),

order_dates as (

    select * from {{ ref('feat_order_dates') }}

),

month_offsets as (

    {% for months_back in range(12) %}
    select {{ months_back }} as months_back
    {% if not loop.last %}union all{% endif %}
    {% endfor %}

),

months as (

    select distinct
        cast(
            {{ dbt.dateadd('month', '-month_offsets.months_back', dbt.date_trunc('month', 'as_ofs.as_of_on')) }}
            as date
        ) as month_on
    from as_ofs
    cross join month_offsets

),

month_starts as (

    select
        month_on,
        {{ local_midnight('month_on') }} as month_at
    from months

),

-- A date is a customer's last from the first midnight at which it is known to that at which the next one is not yet.
regular_dates as (

    select
        ordered_on,
        {{ dbt.date_trunc('month', to_local_date('known_at')) }} as known_month_on,
        {{ dbt.date_trunc('month', to_local_date('next_known_at')) }} as next_known_month_on
    from order_dates
    where is_regular

),

last_dates as (

    select
        ordered_on,
        known_month_on,
        next_known_month_on,
        count(*) as customers
    from regular_dates
    group by
        ordered_on,
        known_month_on,
        next_known_month_on

),

irregular as (

    select distinct customer_id
    from order_dates
    where not is_regular

),

-- Kept, or the engine would first meet all orders with all months.
irregular_orders as {{ materialized() }} (

    select
        orders.customer_id,
        orders.ordered_on,
        orders.known_at,
        orders.superseded_at,
        orders.reversed_known_at,
        orders.reversal_ended_at
    from orders
    inner join irregular
        on orders.customer_id = irregular.customer_id

),

irregular_last_dates as (

    select
        month_starts.month_on,
        irregular_orders.customer_id,
        max(irregular_orders.ordered_on) as ordered_on
    from month_starts
    inner join irregular_orders
        on
            {{ stands_at('irregular_orders', 'month_starts.month_at') }}
            and not {{ reversed_at('irregular_orders', 'month_starts.month_at') }}
    group by
        month_starts.month_on,
        irregular_orders.customer_id

),

counts as (

    select
        month_starts.month_on,
        {{ dbt.datediff('last_dates.ordered_on', 'month_starts.month_on', 'day') }} as recency_days,
        last_dates.customers
    from month_starts
    inner join last_dates
        on
            month_starts.month_on > last_dates.known_month_on
            and (last_dates.next_known_month_on is null or month_starts.month_on <= last_dates.next_known_month_on)

    union all

    select
        month_on,
        {{ dbt.datediff('ordered_on', 'month_on', 'day') }} as recency_days,
        1 as customers
    from irregular_last_dates

),

final as (

    select
        month_on,
        cast(recency_days as integer) as recency_days,
        cast(sum(customers) as bigint) as customers
    from counts
    where recency_days <= {{ var('rfm_window_days') }}
    group by
        month_on,
        recency_days

)

select * from final
