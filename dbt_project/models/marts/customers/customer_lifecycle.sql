with

-- Everyone who is known: whoever never ordered is a prospect.
customers as (

    select features.*
    from {{ ref('feat_customers') }} as features
    inner join {{ ref('dim_as_ofs') }} as as_ofs
        on features.as_of = as_ofs.as_of
    where as_ofs.is_current

),

thresholds as (

    select * from {{ ref('lifecycle_thresholds') }}
    where is_current

),

current_stages as (

    select * from {{ ref('customer_lifecycle_history') }}
    where left_on is null

),

final as (

    select
        customers.customer_id,
        customers.as_of,
        customers.as_of_on,
        current_stages.stage,
        current_stages.previous_stage,
        current_stages.entered_on as stage_changed_on,
        customers.order_days,
        customers.first_order_on,
        customers.last_order_on,
        customers.age_days,
        customers.is_seasonal,
        customers.season_first_month,
        thresholds.gap_days,
        thresholds.active_days,
        thresholds.dormant_days,
        thresholds.lost_days
    from customers
    cross join thresholds
    left join current_stages
        on customers.customer_id = current_stages.customer_id

)

select * from final
