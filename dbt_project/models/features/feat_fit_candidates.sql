with

anchors as (

    select * from {{ ref('feat_anchors') }}

),

rfm as (

    select * from {{ ref('feat_rfm') }}

),

gaps as (

    select * from {{ ref('feat_repurchase_gaps') }}

),

customers as (

    select
        customer_id,
        account_type
    from {{ ref('dim_customers') }}

),

current_as_of as (

    select as_of from anchors
    where is_current

),

-- Recency has a season: its cut points come from the twelve month starts, each with its own window.
recency_values as (

    select
        'recency_days' as metric,
        'all' as account_type,
        cast(rfm.recency_days as {{ money() }}) as value
    from rfm
    inner join anchors
        on rfm.as_of = anchors.as_of
    where anchors.is_month_start

),

current_rfm as (

    select
        rfm.*,
        customers.account_type
    from rfm
    inner join current_as_of
        on rfm.as_of = current_as_of.as_of
    left join customers
        on rfm.customer_id = customers.customer_id

),

current_values as (

    select
        'frequency' as metric,
        'all' as account_type,
        cast(frequency as {{ money() }}) as value
    from current_rfm

    union all

    select
        'monetary' as metric,
        'all' as account_type,
        monetary as value
    from current_rfm

    union all

    select
        'monetary' as metric,
        account_type,
        monetary as value
    from current_rfm
    where account_type is not null

    union all

    select
        'average_order_value' as metric,
        'all' as account_type,
        average_order_value as value
    from current_rfm

),

ranked as (

    select
        metric,
        account_type,
        value,
        row_number() over (partition by metric, account_type order by value) as value_rank,
        count(*) over (partition by metric, account_type) as value_count
    from (
        select * from recency_values
        union all
        select * from current_values
    ) as pooled

),

quintiles as (

    {% for k in range(1, 5) %}
    select {{ k }} as k
    {% if not loop.last %}union all{% endif %}
    {% endfor %}

),

-- Nearest rank, (k * n + 4) div 5, in integers: a quantile function would get k / 5 as an inexact float.
cut_points as (

    select
        ranked.metric,
        ranked.account_type,
        quintiles.k,
        ranked.value
    from ranked
    inner join quintiles
        on
            ranked.value_rank * 5 >= quintiles.k * ranked.value_count
            and ranked.value_rank * 5 <= quintiles.k * ranked.value_count + 4

),

fitted as (

    select
        metric,
        account_type,
        k,
        value
    from cut_points

    union all

    select
        'repurchase_gap_days' as metric,
        'all' as account_type,
        0 as k,
        cast(gap_days as {{ money() }}) as value
    from gaps
    where is_current

),

final as (

    select
        current_as_of.as_of as fit_as_of,
        fitted.metric,
        fitted.account_type,
        cast(fitted.k as integer) as k,
        cast(fitted.value as {{ money() }}) as value
    from fitted
    cross join current_as_of

)

select * from final
