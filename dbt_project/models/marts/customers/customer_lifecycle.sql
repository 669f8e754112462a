with

customers as (

    select
        customer_id,
        first_known_on
    from {{ ref('dim_customers') }}

),

orders as (

    select * from {{ ref('fct_orders') }}
    where
        customer_id is not null
        and not is_reversed

),

current_as_of as (

    select
        as_of,
        as_of_on
    from {{ ref('dim_as_ofs') }}
    where is_current

),

thresholds as (

    select
        cast(value as integer) as gap_days,
        cast(greatest(value * {{ var('active_gaps') }}, {{ var('active_days_min') }}) as integer) as active_days,
        cast(value * {{ var('dormant_gaps') }} as integer) as dormant_days,
        cast(value * {{ var('lost_gaps') }} as integer) as lost_days
    from {{ ref('fits_in_force') }}
    where metric = 'repurchase_gap_days'

),

order_dates as (

    select distinct
        customer_id,
        ordered_on
    from orders

),

sequenced as (

    select
        customer_id,
        ordered_on,
        row_number() over (partition by customer_id order by ordered_on) as order_days,
        lag(ordered_on) over (partition by customer_id order by ordered_on) as previous_on,
        lead(ordered_on) over (partition by customer_id order by ordered_on) as next_on
    from order_dates

),

-- A stage can change on the day of an order, and on the first day past each threshold.
ages as (

    select 0 as age_days
    union
    select active_days + 1 as age_days
    from thresholds
    union
    select dormant_days + 1 as age_days
    from thresholds
    union
    select lost_days + 1 as age_days
    from thresholds

),

moments as (

    select
        sequenced.customer_id,
        cast({{ dbt.dateadd("day", "ages.age_days", "sequenced.ordered_on") }} as date) as moment_on,
        sequenced.order_days,
        ages.age_days,
        {{ dbt.datediff("sequenced.previous_on", "sequenced.ordered_on", "day") }} as last_gap_days,
        sequenced.next_on
    from sequenced
    cross join ages

),

staged as (

    select
        moments.customer_id,
        moments.moment_on,
        case
            when moments.order_days = 1 and moments.age_days <= thresholds.active_days then 'onboarding'
            when moments.order_days = 1 and moments.age_days <= thresholds.dormant_days then 'one_time_lapsed'
            when
                moments.age_days <= thresholds.active_days and moments.last_gap_days > thresholds.dormant_days
                then 're_engaged'
            when moments.age_days <= thresholds.active_days then 'active'
            when moments.age_days <= thresholds.dormant_days then 'lapsing'
            when moments.age_days <= thresholds.lost_days then 'dormant'
            else 'lost'
        end as stage
    from moments
    cross join thresholds
    cross join current_as_of
    where
        moments.moment_on <= current_as_of.as_of_on
        and (moments.next_on is null or moments.moment_on < moments.next_on)

),

first_orders as (

    select
        customer_id,
        min(ordered_on) as first_order_on
    from order_dates
    group by customer_id

),

-- Whoever was known before a first order was a prospect until then.
prospects as (

    select
        customers.customer_id,
        customers.first_known_on as moment_on,
        'prospect' as stage
    from customers
    left join first_orders
        on customers.customer_id = first_orders.customer_id
    where
        first_orders.first_order_on is null
        or customers.first_known_on < first_orders.first_order_on

),

stages as (

    select
        customer_id,
        moment_on,
        stage,
        lag(stage) over (partition by customer_id order by moment_on) as previous_stage
    from (
        select * from staged
        union all
        select * from prospects
    ) as all_moments

),

changes as (

    select
        customer_id,
        moment_on,
        stage,
        previous_stage,
        row_number() over (partition by customer_id order by moment_on desc) as newness
    from stages
    where
        previous_stage is null
        or stage != previous_stage

),

order_summary as (

    select
        customer_id,
        count(*) as order_days,
        min(ordered_on) as first_order_on,
        max(ordered_on) as last_order_on,
        count(distinct {{ dbt.date_trunc('year', 'ordered_on') }}) as order_years
    from order_dates
    group by customer_id

),

-- Every run of four calendar months, around the turn of the year too.
month_runs as (

    {% for first_month in range(1, 13) %}
    {% for offset in range(4) %}
    select
        {{ first_month }} as first_month,
        {{ (first_month + offset - 1) % 12 + 1 }} as month_number
    {% if not (first_month == 12 and loop.last) %}union all{% endif %}
    {% endfor %}
    {% endfor %}

),

run_days as (

    select
        order_dates.customer_id,
        month_runs.first_month,
        count(*) as days_in_run
    from order_dates
    inner join month_runs
        on extract(month from order_dates.ordered_on) = month_runs.month_number
    group by
        order_dates.customer_id,
        month_runs.first_month

),

best_runs as (

    select
        customer_id,
        first_month,
        days_in_run,
        row_number() over (partition by customer_id order by days_in_run desc, first_month) as run_rank
    from run_days

),

final as (

    select
        customers.customer_id,
        current_as_of.as_of,
        current_as_of.as_of_on,
        changes.stage,
        changes.previous_stage,
        changes.moment_on as stage_changed_on,
        cast(coalesce(order_summary.order_days, 0) as integer) as order_days,
        order_summary.first_order_on,
        order_summary.last_order_on,
        cast({{ dbt.datediff("order_summary.last_order_on", "current_as_of.as_of_on", "day") }} as integer) as age_days,
        -- Shares are compared in whole numbers: 0.7 is no exact float.
        coalesce(
            order_summary.order_years >= {{ var('seasonal_years_min') }}
            and best_runs.days_in_run * 100 >= order_summary.order_days * {{ var('seasonal_share_percent') }},
            false
        ) as is_seasonal,
        cast(
            case
                when
                    order_summary.order_years >= {{ var('seasonal_years_min') }}
                    and best_runs.days_in_run * 100 >= order_summary.order_days * {{ var('seasonal_share_percent') }}
                    then best_runs.first_month
            end as integer
        ) as season_first_month,
        thresholds.gap_days,
        thresholds.active_days,
        thresholds.dormant_days,
        thresholds.lost_days
    from customers
    cross join current_as_of
    cross join thresholds
    inner join changes
        on
            customers.customer_id = changes.customer_id
            and changes.newness = 1
    left join order_summary
        on customers.customer_id = order_summary.customer_id
    left join best_runs
        on
            customers.customer_id = best_runs.customer_id
            and best_runs.run_rank = 1

)

select * from final
