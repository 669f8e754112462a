with

rfm as (

    select feat_rfm.*
    from {{ ref('feat_rfm') }} as feat_rfm
    inner join {{ ref('dim_as_ofs') }} as as_ofs
        on feat_rfm.as_of = as_ofs.as_of
    where as_ofs.is_current

),

customers as (

    select
        customer_id,
        account_type
    from {{ ref('dim_customers') }}

),

fits as (

    select * from {{ ref('fits_in_force') }}

),

grid as (

    select * from {{ ref('rfm_grid') }}

),

cut_points as (

    select
        metric,
        account_type,
        max(fit_version) as fit_version,
        max(case when k = 1 then value end) as cut_1,
        max(case when k = 2 then value end) as cut_2,
        max(case when k = 3 then value end) as cut_3,
        max(case when k = 4 then value end) as cut_4
    from fits
    group by
        metric,
        account_type

),

scored as (

    select
        rfm.*,
        customers.account_type,
        recency_cuts.fit_version,
        5 - {{ cut_points_exceeded('rfm.recency_days', 'recency_cuts') }} as r_score,
        1 + {{ cut_points_exceeded('rfm.frequency', 'frequency_cuts') }} as f_score,
        case
            when monetary_cuts.metric is not null then 1 + {{ cut_points_exceeded('rfm.monetary', 'monetary_cuts') }}
            else 1 + {{ cut_points_exceeded('rfm.monetary', 'overall_monetary_cuts') }}
        end as m_score,
        rfm.average_order_value >= order_value_cuts.cut_4 as is_high_average_order
    from rfm
    left join customers
        on rfm.customer_id = customers.customer_id
    left join cut_points as recency_cuts
        on recency_cuts.metric = 'recency_days'
    left join cut_points as frequency_cuts
        on frequency_cuts.metric = 'frequency'
    left join cut_points as overall_monetary_cuts
        on
            overall_monetary_cuts.metric = 'monetary'
            and overall_monetary_cuts.account_type = 'all'
    -- Business and private customers are measured among their like, where a source tells them apart.
    left join cut_points as monetary_cuts
        on
            monetary_cuts.metric = 'monetary'
            and customers.account_type = monetary_cuts.account_type
    left join cut_points as order_value_cuts
        on order_value_cuts.metric = 'average_order_value'

),

final as (

    select
        scored.customer_id,
        scored.as_of,
        scored.as_of_on,
        scored.last_order_on,
        scored.recency_days,
        scored.frequency,
        scored.orders,
        scored.monetary,
        scored.average_order_value,
        scored.history_days,
        cast(scored.r_score as integer) as r_score,
        cast(scored.f_score as integer) as f_score,
        cast(scored.m_score as integer) as m_score,
        grid.rfm_segment,
        case
            when scored.m_score = 5 then 'top'
            when scored.m_score = 4 then 'high'
            when scored.m_score = 3 then 'middle'
            else 'low'
        end as value_tier,
        scored.is_high_average_order,
        scored.account_type,
        scored.fit_version
    from scored
    left join grid
        on
            scored.r_score = grid.r_score
            and scored.f_score = grid.f_score

)

select * from final
