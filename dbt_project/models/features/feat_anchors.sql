with

as_ofs as (

    select
        *,
        cast(as_of as date) as utc_on
    from {{ ref('dim_as_ofs') }}

),

orders as (

    select * from {{ ref('int_order_versions') }}

),

order_dates as (

    select * from {{ ref('feat_order_dates') }}

),

-- Days, in UTC, are enough to tell what is known at a later day; of the as_of's own day the instant decides.
orders_known_on as (

    select
        cast(known_at as date) as known_on,
        ordered_on,
        known_at,
        superseded_at
    from orders

),

first_orders_by_day as (

    select
        known_on,
        superseded_at,
        min(ordered_on) as ordered_on
    from orders_known_on
    group by
        known_on,
        superseded_at

),

first_orders as (

    select
        as_ofs.as_of,
        min(first_orders_by_day.ordered_on) as first_order_on
    from as_ofs
    inner join first_orders_by_day
        on
            as_ofs.utc_on > first_orders_by_day.known_on
            and (first_orders_by_day.superseded_at is null or first_orders_by_day.superseded_at >= as_ofs.as_of)
    group by as_ofs.as_of

    union all

    select
        as_ofs.as_of,
        min(orders_known_on.ordered_on) as first_order_on
    from as_ofs
    inner join orders_known_on
        on
            as_ofs.utc_on = orders_known_on.known_on
            and {{ stands_at('orders_known_on', 'as_ofs.as_of') }}
    group by as_ofs.as_of

),

histories as (

    select
        as_of,
        min(first_order_on) as first_order_on
    from first_orders
    group by as_of

),

regular_gaps as (

    select
        cast(known_at as date) as known_on,
        {{ dbt.datediff('previous_on', 'ordered_on', 'day') }} as gap_days,
        known_at
    from order_dates
    where
        is_regular
        and previous_on is not null

),

gaps_by_day as (

    select
        known_on,
        gap_days,
        count(*) as gaps
    from regular_gaps
    group by
        known_on,
        gap_days

),

irregular as (

    select distinct customer_id
    from order_dates
    where not is_regular

),

-- Kept, or the engine would first meet all orders with all as_ofs.
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

irregular_dates as (

    select distinct
        as_ofs.as_of,
        irregular_orders.customer_id,
        irregular_orders.ordered_on
    from as_ofs
    inner join irregular_orders
        on
            {{ stands_at('irregular_orders', 'as_ofs.as_of') }}
            and not {{ reversed_at('irregular_orders', 'as_ofs.as_of') }}

),

irregular_gaps as (

    select
        as_of,
        {{ dbt.datediff(
            'lag(ordered_on) over (partition by as_of, customer_id order by ordered_on)', 'ordered_on', 'day'
        ) }} as gap_days
    from irregular_dates

),

gap_counts as (

    select
        as_ofs.as_of,
        gaps_by_day.gap_days,
        sum(gaps_by_day.gaps) as gaps
    from as_ofs
    inner join gaps_by_day
        on as_ofs.utc_on > gaps_by_day.known_on
    group by
        as_ofs.as_of,
        gaps_by_day.gap_days

    union all

    select
        as_ofs.as_of,
        regular_gaps.gap_days,
        count(*) as gaps
    from as_ofs
    inner join regular_gaps
        on
            as_ofs.utc_on = regular_gaps.known_on
            and as_ofs.as_of > regular_gaps.known_at
    group by
        as_ofs.as_of,
        regular_gaps.gap_days

    union all

    select
        as_of,
        gap_days,
        count(*) as gaps
    from irregular_gaps
    where gap_days is not null
    group by
        as_of,
        gap_days

),

summed as (

    select
        as_of,
        gap_days,
        sum(gaps) as gaps
    from gap_counts
    group by
        as_of,
        gap_days

),

ranked as (

    select
        as_of,
        gap_days,
        gaps,
        sum(gaps) over (partition by as_of order by gap_days) as last_rank,
        sum(gaps) over (partition by as_of) as gap_count
    from summed

),

-- The lower median of n values stands at rank ceil(n / 2).
lower_medians as (

    select
        as_of,
        gap_days as median_gap_days,
        gap_count
    from ranked
    where
        last_rank * 2 >= gap_count
        and (last_rank - gaps) * 2 < gap_count

),

final as (

    select
        as_ofs.as_of,
        as_ofs.as_of_on,
        as_ofs.is_current,
        cast({{ dbt.datediff('histories.first_order_on', 'as_ofs.as_of_on', 'day') }} as integer) as history_days,
        -- Where nobody has come back yet, nothing says that customers return soon: the longest gap allowed.
        cast(
            least(
                greatest(
                    coalesce(lower_medians.median_gap_days, {{ var('gap_days_max') }}), {{ var('gap_days_min') }}
                ),
                {{ var('gap_days_max') }}
            ) as integer
        ) as gap_days,
        cast(lower_medians.median_gap_days as integer) as median_gap_days,
        cast(coalesce(lower_medians.gap_count, 0) as bigint) as gap_count
    from as_ofs
    left join histories
        on as_ofs.as_of = histories.as_of
    left join lower_medians
        on as_ofs.as_of = lower_medians.as_of

)

select * from final
