with

customers as (

    select
        customer_id,
        first_known_on
    from {{ ref('dim_customers') }}

),

-- One fit for the whole history, so that nobody changes stage because a constant did.
thresholds as (

    select * from {{ ref('lifecycle_thresholds') }}
    where is_current

),

order_dates as (

    select distinct
        customer_id,
        ordered_on
    from {{ ref('fct_orders') }}
    where
        customer_id is not null
        and not is_reversed

),

neighbours as (

    select
        customer_id,
        ordered_on,
        lag(ordered_on, 2) over (partition by customer_id order by ordered_on) as second_last_on,
        lag(ordered_on) over (partition by customer_id order by ordered_on) as previous_on,
        lead(ordered_on) over (partition by customer_id order by ordered_on) as next_on
    from order_dates

),

gaps as (

    select
        neighbours.customer_id,
        neighbours.ordered_on,
        neighbours.previous_on is null as is_first,
        neighbours.previous_on is not null and neighbours.second_last_on is null as is_second,
        {{ dbt.datediff("neighbours.second_last_on", "neighbours.previous_on", "day") }} as earlier_gap_days,
        {{ dbt.datediff("neighbours.previous_on", "neighbours.ordered_on", "day") }} as gap_days,
        -- How old the order grew, as the last one: to the eve of the next one, else to the as_of date.
        coalesce(
            {{ dbt.datediff("neighbours.ordered_on", "neighbours.next_on", "day") }} - 1,
            {{ dbt.datediff("neighbours.ordered_on", "thresholds.as_of_on", "day") }}
        ) as grown_days,
        thresholds.active_days,
        thresholds.dormant_days,
        thresholds.lost_days
    from neighbours
    cross join thresholds

),

-- What an order made of its customer, and what the customer was on its eve.
on_orders as (

    select
        customer_id,
        ordered_on as entered_on,
        case
            when is_first then 'onboarding'
            when gap_days > dormant_days then 're_engaged'
            else 'active'
        end as stage,
        case
            when is_first then null
            when gap_days - 1 > lost_days then 'lost'
            when gap_days - 1 > dormant_days then 'dormant'
            when gap_days - 1 > active_days and is_second then 'one_time_lapsed'
            when gap_days - 1 > active_days then 'lapsing'
            when is_second then 'onboarding'
            when earlier_gap_days > dormant_days then 're_engaged'
            else 'active'
        end as stage_before
    from gaps

),

changes as (

    select
        customer_id,
        entered_on,
        stage
    from on_orders
    where
        stage_before is null
        or stage_before != stage

    union all

    -- Whoever does not order changes stage on the first day past each threshold.
    select
        customer_id,
        cast({{ dbt.dateadd("day", "active_days + 1", "ordered_on") }} as date) as entered_on,
        case when is_first then 'one_time_lapsed' else 'lapsing' end as stage
    from gaps
    where grown_days > active_days

    union all

    select
        customer_id,
        cast({{ dbt.dateadd("day", "dormant_days + 1", "ordered_on") }} as date) as entered_on,
        'dormant' as stage
    from gaps
    where grown_days > dormant_days

    union all

    select
        customer_id,
        cast({{ dbt.dateadd("day", "lost_days + 1", "ordered_on") }} as date) as entered_on,
        'lost' as stage
    from gaps
    where grown_days > lost_days

    union all

    -- Whoever was known before a first order was a prospect until then.
    select
        customers.customer_id,
        customers.first_known_on as entered_on,
        'prospect' as stage
    from customers
    left join gaps
        on
            customers.customer_id = gaps.customer_id
            and gaps.is_first
    where
        gaps.ordered_on is null
        or customers.first_known_on < gaps.ordered_on

),

final as (

    select
        customer_id,
        stage,
        lag(stage) over (partition by customer_id order by entered_on) as previous_stage,
        entered_on,
        lead(entered_on) over (partition by customer_id order by entered_on) as left_on
    from changes

)

select * from final
