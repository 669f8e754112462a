with

as_ofs as (

    select
        as_of,
        is_current
    from {{ ref('dim_as_ofs') }}

),

features as (

    select * from {{ ref('feat_customers') }}

),

rfm as (

    select * from {{ ref('customer_rfm') }}

),

thresholds as (

    select * from {{ ref('lifecycle_thresholds') }}

),

scores as (

    select * from {{ ref('stg_ml__scores') }}

),

batches as (

    select distinct
        model,
        model_version,
        as_of
    from scores

),

-- At each as_of the newest batch of each model, whole: whoever is not in it any more has no score. Whether the as_of is
-- the current one goes along up to the last join: who asks for `is_current = true` then reads no batch of the past.
newest_batches as (

    select
        as_ofs.as_of,
        as_ofs.is_current,
        batches.model,
        batches.model_version,
        batches.as_of as scored_at,
        row_number() over (
            partition by as_ofs.as_of, as_ofs.is_current, batches.model
            order by batches.as_of desc, batches.model_version desc
        ) as newness
    from as_ofs
    inner join batches
        on as_ofs.as_of >= batches.as_of

),

-- Who took the permission back has no score, whatever the as_of.
permitted as (

    select customer_id
    from {{ ref('customer_permissions') }}
    where may_be_profiled

),

scores_by_customer as (

    select
        scores.customer_id,
        newest_batches.as_of,
        newest_batches.is_current,
        max(case when scores.model = 'churn_180' then scores.score end) as churn_score,
        max(case when scores.model = 'churn_180' then scores.reason_1 end) as churn_reason_1,
        max(case when scores.model = 'churn_180' then scores.reason_2 end) as churn_reason_2,
        max(case when scores.model = 'churn_180' then scores.reason_3 end) as churn_reason_3,
        max(case when scores.model = 'churn_180' then scores.as_of end) as churn_scored_at,
        max(case when scores.model = 'purchase_30' then scores.score end) as purchase_30_score,
        max(case when scores.model = 'purchase_30' then scores.as_of end) as purchase_30_scored_at,
        max(case when scores.model = 'purchase_90' then scores.score end) as purchase_90_score,
        max(case when scores.model = 'purchase_90' then scores.as_of end) as purchase_90_scored_at,
        max(case when scores.model = 'clv_365' then scores.score end) as clv_365,
        max(case when scores.model = 'clv_365' then scores.low end) as clv_365_low,
        max(case when scores.model = 'clv_365' then scores.high end) as clv_365_high,
        max(case when scores.model = 'clv_365' then scores.as_of end) as clv_scored_at,
        max(case when scores.model = 'clusters' then scores.score end) as cluster_id,
        max(case when scores.model = 'clusters' then scores.label end) as cluster_name,
        max(case when scores.model = 'clusters' then scores.as_of end) as cluster_scored_at,
        max(case when scores.model = 'send_time' then scores.score end) as best_send_hour,
        max(case when scores.model = 'send_time' then scores.label end) as best_send_label,
        max(case when scores.model = 'send_time' then scores.as_of end) as send_time_scored_at
    from newest_batches
    inner join scores
        on
            newest_batches.model = scores.model
            and newest_batches.model_version = scores.model_version
            and newest_batches.scored_at = scores.as_of
    inner join permitted
        on scores.customer_id = permitted.customer_id
    where newest_batches.newness = 1
    group by
        scores.customer_id,
        newest_batches.as_of,
        newest_batches.is_current

),

-- How many of those scored have as much or more: equal customers are in a band together.
valued as (

    select
        *,
        count(clv_365) over (partition by as_of, is_current order by clv_365 desc) as customers_at_or_above,
        count(clv_365) over (partition by as_of, is_current) as customers_valued
    from scores_by_customer

),

staged as (

    select
        features.*,
        as_ofs.is_current,
        case
            when features.order_days = 0 then 'prospect'
            when features.order_days = 1 and features.age_days <= thresholds.active_days then 'onboarding'
            when features.order_days = 1 and features.age_days <= thresholds.dormant_days then 'one_time_lapsed'
            when
                features.age_days <= thresholds.active_days and features.last_gap_days > thresholds.dormant_days
                then 're_engaged'
            when features.age_days <= thresholds.active_days then 'active'
            when features.age_days <= thresholds.dormant_days then 'lapsing'
            when features.age_days <= thresholds.lost_days then 'dormant'
            else 'lost'
        end as lifecycle_stage
    from features
    inner join as_ofs
        on features.as_of = as_ofs.as_of
    inner join thresholds
        on features.as_of = thresholds.as_of

),

final as (

    select
        staged.customer_id,
        staged.as_of,
        staged.as_of_on,
        staged.is_current,

        staged.lifecycle_stage,

        rfm.r_score,
        rfm.f_score,
        rfm.m_score,
        rfm.rfm_segment,
        rfm.value_tier,
        rfm.is_high_average_order,
        rfm.fit_version,

        case
            when staged.activity_age_days <= {{ var('engaged_days') }} then 'engaged'
            when staged.activity_age_days <= {{ var('engagement_lapsing_days') }} then 'lapsing'
            when staged.delivered_180 >= {{ var('unengaged_min_delivered') }} then 'unengaged'
            when staged.activity_age_days is null then 'never'
            else 'quiet'
        end as engagement_state,
        coalesce(staged.click_age_days <= {{ var('engaged_days') }}, false) as is_engaged_by_mail,
        cast({{ dbt.dateadd('day', '-staged.click_age_days', 'staged.as_of_on') }} as date) as last_click_on,
        cast({{ dbt.dateadd('day', '-staged.visit_age_days', 'staged.as_of_on') }} as date) as last_visit_on,

        valued.churn_score,
        case
            when valued.churn_score > {{ var('high_churn_risk') }} then 'very_high'
            when valued.churn_score > {{ var('medium_churn_risk') }} then 'high'
            when valued.churn_score > {{ var('low_churn_risk') }} then 'medium'
            when valued.churn_score is not null then 'low'
        end as churn_band,
        valued.churn_reason_1,
        valued.churn_reason_2,
        valued.churn_reason_3,
        valued.churn_scored_at,

        {% for days in [30, 90] %}
        valued.purchase_{{ days }}_score,
        case
            when valued.purchase_{{ days }}_score > {{ var('high_purchase_chance') }} then 'high'
            when valued.purchase_{{ days }}_score > {{ var('low_purchase_chance') }} then 'medium'
            when valued.purchase_{{ days }}_score is not null then 'low'
        end as purchase_{{ days }}_band,
        valued.purchase_{{ days }}_scored_at,
        {% endfor %}

        cast(valued.clv_365 as {{ money() }}) as clv_365,
        cast(valued.clv_365_low as {{ money() }}) as clv_365_low,
        cast(valued.clv_365_high as {{ money() }}) as clv_365_high,
        case
            when valued.clv_365 <= 0 then 'low'
            when
                valued.customers_at_or_above * 100 <= valued.customers_valued * {{ var('high_clv_percent') }}
                then 'high'
            when
                valued.customers_at_or_above * 100
                <= valued.customers_valued * ({{ var('high_clv_percent') }} + {{ var('medium_clv_percent') }})
                then 'medium'
            when valued.clv_365 is not null then 'low'
        end as clv_band,
        valued.clv_scored_at,

        cast(valued.cluster_id as integer) as cluster_id,
        valued.cluster_name,
        valued.cluster_scored_at,

        cast(valued.best_send_hour as integer) as best_send_hour,
        valued.best_send_label,
        valued.send_time_scored_at,

        -- Without a model: what was spent per year since the first order, of which a newcomer has had one at least.
        cast(
            case
                when staged.lifecycle_stage in ('prospect', 'dormant', 'lost') then 0
                else round(
                    staged.spend_total * 365 / case when staged.tenure_days > 365 then staged.tenure_days else 365 end,
                    4
                )
            end as {{ money() }}
        ) as expected_value_365,

        staged.age_days,
        staged.recency_days,
        staged.first_order_on,
        staged.last_order_on,
        staged.previous_order_on,
        staged.visit_age_days,
        staged.click_age_days,
        staged.cart_age_days,
        staged.return_age_days,
        staged.activity_age_days,
        staged.order_days,
        staged.orders,
        staged.frequency,
        staged.rfm_orders,
        staged.orders_30,
        staged.orders_90,
        staged.orders_180,
        staged.orders_365,
        staged.orders_730,
        staged.spend_30,
        staged.spend_90,
        staged.spend_365,
        staged.spend_730,
        staged.spend_total,
        staged.first_day_spend,
        staged.monetary,
        staged.average_order_value,
        staged.largest_order_730,
        staged.returns_365,
        staged.orders_change_90,
        staged.spend_change_90,
        staged.sessions_change_30,
        staged.spend_share_90,
        staged.mean_gap_days,
        staged.last_gap_days,
        staged.shortest_gap_days,
        staged.longest_gap_days,
        staged.gap_variation,
        staged.overdue_ratio,
        staged.order_years,
        staged.season_first_month,
        staged.season_share,
        staged.is_seasonal,
        staged.last_quarter_share,
        staged.weekend_share,
        staged.top_category,
        staged.top_category_share_365,
        staged.categories_365,
        staged.category_diversity_365,
        staged.products_365,
        staged.discount_share_365,
        staged.discounted_orders_365,
        staged.coupon_orders_365,
        staged.return_share_365,
        staged.return_lines_365,
        staged.sessions_14,
        staged.sessions_30,
        staged.sessions_90,
        staged.sessions_365,
        staged.product_views_30,
        staged.product_views_90,
        staged.searches_90,
        staged.views_per_session_90,
        staged.cart_sessions_90,
        staged.carts_90,
        staged.checkout_sessions_90,
        staged.ordered_sessions_90,
        staged.cart_leave_share_90,
        staged.delivered_7,
        staged.delivered_30,
        staged.delivered_90,
        staged.delivered_180,
        staged.opened_180,
        staged.clicked_30,
        staged.clicked_90,
        staged.clicked_180,
        staged.clicks_90,
        staged.click_rate,
        staged.bounced_180,
        staged.unsubscribed_180,
        staged.channels_365,
        staged.store_order_share_365,
        staged.web_order_share_365,
        staged.tenure_days,
        staged.known_days,
        staged.history_days,
        staged.age_band,
        staged.gender,
        staged.region_type,
        staged.country_code,
        staged.language,
        staged.account_type,
        staged.loyalty_tier,
        staged.has_email,
        staged.has_phone,
        staged.email_consent,
        staged.gap_days,
        staged.is_churn_population
    from staged
    left join rfm
        on
            staged.customer_id = rfm.customer_id
            and staged.as_of = rfm.as_of
    left join valued
        on
            staged.customer_id = valued.customer_id
            and staged.as_of = valued.as_of
            and staged.is_current = valued.is_current

)

select * from final
