with

as_ofs as (

    select
        as_of,
        is_current
    from {{ ref('dim_as_ofs') }}

),

-- Whoever has an order in the RFM window.
buyers as (

    select * from {{ ref('feat_customers') }}
    where frequency > 0

),

fits as (

    select * from {{ ref('fits_in_force') }}

),

grid as (

    select * from {{ ref('rfm_grid') }}

),

cut_points as (

    select
        as_of,
        metric,
        account_type,
        max(fit_version) as fit_version,
        max(case when k = 1 then value end) as cut_1,
        max(case when k = 2 then value end) as cut_2,
        max(case when k = 3 then value end) as cut_3,
        max(case when k = 4 then value end) as cut_4
    from fits
    group by
        as_of,
        metric,
        account_type

),

scored as (

    select
        buyers.customer_id,
        buyers.as_of,
        buyers.as_of_on,
        as_ofs.is_current,
        buyers.last_order_on,
        buyers.recency_days,
        buyers.frequency,
        buyers.rfm_orders as orders,
        buyers.monetary,
        buyers.average_order_value,
        buyers.history_days,
        buyers.account_type,
        recency_cuts.fit_version,
        5 - {{ cut_points_exceeded('buyers.recency_days', 'recency_cuts') }} as r_score,
        1 + {{ cut_points_exceeded('buyers.frequency', 'frequency_cuts') }} as f_score,
        case
            when monetary_cuts.metric is not null
                then 1 + {{ cut_points_exceeded('buyers.monetary', 'monetary_cuts') }}
            else 1 + {{ cut_points_exceeded('buyers.monetary', 'overall_monetary_cuts') }}
        end as m_score,
        buyers.average_order_value >= order_value_cuts.cut_4 as is_high_average_order
    from buyers
    inner join as_ofs
        on buyers.as_of = as_ofs.as_of
    left join cut_points as recency_cuts
        on
            buyers.as_of = recency_cuts.as_of
            and recency_cuts.metric = 'recency_days'
    left join cut_points as frequency_cuts
        on
            buyers.as_of = frequency_cuts.as_of
            and frequency_cuts.metric = 'frequency'
    left join cut_points as overall_monetary_cuts
        on
            buyers.as_of = overall_monetary_cuts.as_of
            and overall_monetary_cuts.metric = 'monetary'
            and overall_monetary_cuts.account_type = 'all'
    -- Business and private customers are measured among their like, where a source tells them apart.
    left join cut_points as monetary_cuts
        on
            buyers.as_of = monetary_cuts.as_of
            and buyers.account_type = monetary_cuts.account_type
            and monetary_cuts.metric = 'monetary'
    left join cut_points as order_value_cuts
        on
            buyers.as_of = order_value_cuts.as_of
            and order_value_cuts.metric = 'average_order_value'

),

final as (

    select
        scored.customer_id,
        scored.as_of,
        scored.as_of_on,
        scored.is_current,
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
