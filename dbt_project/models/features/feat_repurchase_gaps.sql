with

anchors as (

    select * from {{ ref('feat_anchors') }}
    where is_spine

),

orders as (

    select * from {{ ref('fct_orders') }}
    where customer_id is not null

),

order_dates as (

    select distinct
        anchors.as_of,
        orders.customer_id,
        orders.ordered_on
    from anchors
    inner join orders
        on
            anchors.as_of > orders.known_at
            and not coalesce(orders.reversed_known_at < anchors.as_of, false)

),

dated as (

    select
        as_of,
        customer_id,
        ordered_on,
        lag(ordered_on) over (partition by as_of, customer_id order by ordered_on) as previous_on
    from order_dates

),

gaps as (

    select
        as_of,
        {{ dbt.datediff("previous_on", "ordered_on", "day") }} as gap_days
    from dated
    where previous_on is not null

),

ranked as (

    select
        as_of,
        gap_days,
        row_number() over (partition by as_of order by gap_days) as gap_rank,
        count(*) over (partition by as_of) as gap_count
    from gaps

),

lower_medians as (

    select
        as_of,
        gap_days as median_gap_days,
        gap_count
    from ranked
    -- The lower median of n values stands at rank ceil(n / 2): the larger rank whose double is n or n + 1.
    where gap_rank * 2 in (gap_count, gap_count + 1)

),

final as (

    select
        anchors.as_of,
        anchors.is_current,
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
    from anchors
    left join lower_medians
        on anchors.as_of = lower_medians.as_of

)

select * from final
