with

customers as (

    select * from {{ ref('dim_customers') }}

),

history as (

    select * from {{ ref('customer_history') }}
    where is_current = true

),

lifecycle as (

    select * from {{ ref('customer_lifecycle') }}

),

engagement as (

    select * from {{ ref('customer_engagement') }}

),

pressure as (

    select * from {{ ref('contact_pressure') }}

),

favourites as (

    select * from {{ ref('customer_category_affinities') }}
    where rank = 1

),

final as (

    select
        history.customer_id,
        history.as_of,
        history.as_of_on,

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

        history.lifecycle_stage,
        lifecycle.previous_stage as previous_lifecycle_stage,
        lifecycle.stage_changed_on,

        history.r_score,
        history.f_score,
        history.m_score,
        history.rfm_segment,
        history.value_tier,
        history.is_high_average_order,
        history.fit_version,

        history.engagement_state,
        history.is_engaged_by_mail,
        engagement.messages_delivered_180,
        engagement.is_sunset,
        history.last_click_on,
        history.last_visit_on,
        engagement.has_abandoned_cart,
        engagement.cart_abandoned_at,
        engagement.cart_amount_base,
        pressure.promotional_7,
        pressure.promotional_30,
        pressure.last_promotional_at,

        history.churn_score,
        history.churn_band,
        history.churn_reason_1,
        history.churn_reason_2,
        history.churn_reason_3,
        history.churn_scored_at,
        history.purchase_30_score,
        history.purchase_30_band,
        history.purchase_30_scored_at,
        history.purchase_90_score,
        history.purchase_90_band,
        history.purchase_90_scored_at,
        history.clv_365,
        history.clv_365_low,
        history.clv_365_high,
        history.clv_band,
        history.clv_scored_at,
        history.cluster_id,
        history.cluster_name,
        history.cluster_scored_at,
        history.best_send_hour,
        history.best_send_label,
        history.send_time_scored_at,
        favourites.category as favourite_category,
        favourites.affinity as favourite_category_affinity,
        favourites.scored_at as favourite_category_scored_at,
        history.expected_value_365,

        history.age_days,
        history.recency_days,
        history.first_order_on,
        history.last_order_on,
        history.previous_order_on,
        history.visit_age_days,
        history.click_age_days,
        history.cart_age_days,
        history.return_age_days,
        history.activity_age_days,
        history.order_days,
        history.orders,
        history.frequency,
        history.rfm_orders,
        history.orders_30,
        history.orders_90,
        history.orders_180,
        history.orders_365,
        history.orders_730,
        history.spend_30,
        history.spend_90,
        history.spend_365,
        history.spend_730,
        history.spend_total,
        history.first_day_spend,
        history.monetary,
        history.average_order_value,
        history.largest_order_730,
        history.returns_365,
        history.orders_change_90,
        history.spend_change_90,
        history.sessions_change_30,
        history.spend_share_90,
        history.mean_gap_days,
        history.last_gap_days,
        history.shortest_gap_days,
        history.longest_gap_days,
        history.gap_variation,
        history.overdue_ratio,
        history.order_years,
        history.season_first_month,
        history.season_share,
        history.is_seasonal,
        history.last_quarter_share,
        history.weekend_share,
        history.top_category,
        history.top_category_share_365,
        history.categories_365,
        history.category_diversity_365,
        history.products_365,
        history.discount_share_365,
        history.discounted_orders_365,
        history.coupon_orders_365,
        history.return_share_365,
        history.return_lines_365,
        history.sessions_14,
        history.sessions_30,
        history.sessions_90,
        history.sessions_365,
        history.product_views_30,
        history.product_views_90,
        history.searches_90,
        history.views_per_session_90,
        history.cart_sessions_90,
        history.carts_90,
        history.checkout_sessions_90,
        history.ordered_sessions_90,
        history.cart_leave_share_90,
        history.delivered_7,
        history.delivered_30,
        history.delivered_90,
        history.delivered_180,
        history.opened_180,
        history.clicked_30,
        history.clicked_90,
        history.clicked_180,
        history.clicks_90,
        history.click_rate,
        history.bounced_180,
        history.unsubscribed_180,
        history.channels_365,
        history.store_order_share_365,
        history.web_order_share_365,
        history.tenure_days,
        history.known_days,
        history.history_days,
        history.has_email,
        history.has_phone,
        history.email_consent,
        history.gap_days,
        history.is_churn_population
    from history
    left join customers
        on history.customer_id = customers.customer_id
    left join lifecycle
        on history.customer_id = lifecycle.customer_id
    left join engagement
        on history.customer_id = engagement.customer_id
    left join pressure
        on history.customer_id = pressure.customer_id
    left join favourites
        on history.customer_id = favourites.customer_id

)

select * from final
