with

current_as_of as (

    select
        as_of,
        as_of_on
    from {{ ref('dim_as_ofs') }}
    where is_current

),

customers as (

    select * from {{ ref('dim_customers') }}

),

rfm as (

    select * from {{ ref('customer_rfm') }}

),

lifecycle as (

    select * from {{ ref('customer_lifecycle') }}

),

engagement as (

    select * from {{ ref('customer_engagement') }}

),

features as (

    select
        features.customer_id,
        features.tenure_days,
        features.orders,
        features.spend_total
    from {{ ref('feat_customers') }} as features
    inner join current_as_of
        on features.as_of = current_as_of.as_of

),

-- The newest batch of each model, whole: whoever is not in it any more has no score.
batches as (

    select
        scores.*,
        rank() over (partition by scores.model order by scores.as_of desc, scores.model_version desc) as newness
    from {{ ref('stg_ml__scores') }} as scores
    inner join current_as_of
        on scores.as_of <= current_as_of.as_of

),

-- Who took the permission back since then has none either.
permitted as (

    select customer_id
    from {{ ref('customer_permissions') }}
    where may_be_profiled

),

churn_scores as (

    select
        batches.customer_id,
        batches.score,
        batches.as_of
    from batches
    inner join permitted
        on batches.customer_id = permitted.customer_id
    where
        batches.model = 'churn_180'
        and batches.newness = 1

),

clusters as (

    select
        batches.customer_id,
        cast(batches.score as integer) as cluster_id,
        batches.label as cluster_name
    from batches
    inner join permitted
        on batches.customer_id = permitted.customer_id
    where
        batches.model = 'clusters'
        and batches.newness = 1

),

final as (

    select
        customers.customer_id,
        current_as_of.as_of,
        current_as_of.as_of_on,

        customers.given_name,
        customers.surname,
        customers.email,
        customers.phone,
        customers.gender,
        customers.birthday,
        customers.age_band,
        customers.city,
        customers.region,
        customers.postal_code,
        customers.country_code,
        customers.language,
        customers.account_type,
        customers.loyalty_tier,
        customers.region_type,
        customers.first_known_on,

        lifecycle.stage as lifecycle_stage,
        lifecycle.previous_stage as previous_lifecycle_stage,
        lifecycle.stage_changed_on,
        lifecycle.first_order_on,
        lifecycle.last_order_on,
        lifecycle.order_days,
        lifecycle.age_days,
        lifecycle.is_seasonal,
        lifecycle.season_first_month,

        rfm.recency_days,
        rfm.frequency,
        rfm.orders,
        rfm.monetary,
        rfm.average_order_value,
        rfm.is_high_average_order,
        rfm.r_score,
        rfm.f_score,
        rfm.m_score,
        rfm.rfm_segment,
        rfm.value_tier,

        engagement.engagement_state,
        engagement.is_engaged_by_mail,
        engagement.last_click_at,
        engagement.last_visit_at,
        engagement.messages_delivered_180,
        engagement.click_rate,
        engagement.sessions_14,
        engagement.sessions_90,
        engagement.sessions_365,
        engagement.orders_180,
        engagement.orders_365,
        engagement.has_abandoned_cart,
        engagement.cart_abandoned_at,

        churn_scores.score as churn_score,
        case
            when churn_scores.score > {{ var('high_churn_risk') }} then 'very_high'
            when churn_scores.score > {{ var('medium_churn_risk') }} then 'high'
            when churn_scores.score > {{ var('low_churn_risk') }} then 'medium'
            when churn_scores.score is not null then 'low'
        end as churn_band,
        churn_scores.as_of as churn_scored_at,
        clusters.cluster_id,
        clusters.cluster_name,

        -- No model yet: what was spent per year since the first order, of which a newcomer has had one at least.
        cast(
            case
                when lifecycle.stage in ('prospect', 'dormant', 'lost') then 0
                else round(
                    coalesce(features.spend_total, 0) * 365
                    / case when features.tenure_days > 365 then features.tenure_days else 365 end,
                    4
                )
            end as {{ money() }}
        ) as expected_value_365
    from customers
    cross join current_as_of
    left join lifecycle
        on customers.customer_id = lifecycle.customer_id
    left join rfm
        on customers.customer_id = rfm.customer_id
    left join engagement
        on customers.customer_id = engagement.customer_id
    left join features
        on customers.customer_id = features.customer_id
    left join churn_scores
        on customers.customer_id = churn_scores.customer_id
    left join clusters
        on customers.customer_id = clusters.customer_id

)

select * from final
