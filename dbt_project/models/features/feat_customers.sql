with

anchors as (

    select * from {{ ref('feat_anchors') }}
    where is_spine

),

rfm as (

    select * from {{ ref('feat_rfm') }}

),

gaps as (

    select * from {{ ref('feat_repurchase_gaps') }}

),

orders as (

    select * from {{ ref('fct_orders') }}
    where customer_id is not null

),

return_lines as (

    select * from {{ ref('fct_order_lines') }}
    where
        customer_id is not null
        and line_type = 'return'

),

sessions as (

    select * from {{ ref('fct_web_sessions') }}
    where
        customer_id is not null
        and not is_bot

),

email_events as (

    select * from {{ ref('fct_email_events') }}
    where
        customer_id is not null
        and not is_machine
        and event_type in ('delivered', 'clicked')

),

orders_known as (

    select
        orders.customer_id,
        anchors.as_of,
        anchors.as_of_on,
        orders.ordered_on,
        orders.amount_base,
        {{ dbt.datediff("orders.ordered_on", "anchors.as_of_on", "day") }} as age_days
    from anchors
    inner join orders
        on
            anchors.as_of > orders.known_at
            and not coalesce(orders.reversed_known_at < anchors.as_of, false)

),

orders_by_customer as (

    select
        customer_id,
        as_of,
        min(as_of_on) as as_of_on,
        min(age_days) as age_days,
        max(age_days) as tenure_days,
        count(distinct ordered_on) as order_days,
        count(*) as orders,
        {% for days in [30, 90, 365] %}
        sum(case when age_days between 1 and {{ days }} then 1 else 0 end) as orders_{{ days }},
        sum(case when age_days between 1 and {{ days }} then amount_base else 0 end) as spend_{{ days }},
        {% endfor %}
        sum(amount_base) as spend_total
    from orders_known
    group by
        customer_id,
        as_of

),

returns_by_customer as (

    select
        return_lines.customer_id,
        anchors.as_of,
        -sum(return_lines.amount_base) as returns_365
    from anchors
    inner join return_lines
        on
            anchors.as_of > return_lines.known_at
            and {{ dbt.datediff("return_lines.occurred_on", "anchors.as_of_on", "day") }} between 1 and 365
    group by
        return_lines.customer_id,
        anchors.as_of

),

sessions_by_customer as (

    select
        sessions.customer_id,
        anchors.as_of,
        {% for days in [30, 90] %}
        sum(
            case
                when {{ dbt.datediff("sessions.started_on", "anchors.as_of_on", "day") }} <= {{ days }} then 1 else 0
            end
        ) as sessions_{{ days }},
        {% endfor %}
        sum(sessions.product_view_count) as product_views_90,
        sum(sessions.cart_add_count) as carts_90
    from anchors
    inner join sessions
        on
            anchors.as_of > sessions.known_at
            and {{ dbt.datediff("sessions.started_on", "anchors.as_of_on", "day") }} between 1 and 90
    group by
        sessions.customer_id,
        anchors.as_of

),

email_by_customer as (

    select
        email_events.customer_id,
        anchors.as_of,
        sum(case when email_events.event_type = 'delivered' then 1 else 0 end) as delivered_180,
        sum(
            case
                when
                    email_events.event_type = 'clicked'
                    and {{ dbt.datediff("email_events.occurred_on", "anchors.as_of_on", "day") }} <= 90
                    then 1
                else 0
            end
        ) as clicks_90
    from anchors
    inner join email_events
        on
            anchors.as_of > email_events.known_at
            and {{ dbt.datediff("email_events.occurred_on", "anchors.as_of_on", "day") }} between 1 and 180
    group by
        email_events.customer_id,
        anchors.as_of

),

joined as (

    select
        orders_by_customer.customer_id,
        orders_by_customer.as_of,
        orders_by_customer.as_of_on,
        orders_by_customer.age_days,
        orders_by_customer.tenure_days,
        orders_by_customer.order_days,
        orders_by_customer.orders,
        orders_by_customer.orders_30,
        orders_by_customer.orders_90,
        orders_by_customer.orders_365,
        orders_by_customer.spend_30,
        orders_by_customer.spend_90,
        orders_by_customer.spend_365,
        orders_by_customer.spend_total,
        returns_by_customer.returns_365,
        rfm.recency_days,
        rfm.frequency,
        rfm.monetary,
        rfm.average_order_value,
        rfm.history_days,
        sessions_by_customer.sessions_30,
        sessions_by_customer.sessions_90,
        sessions_by_customer.product_views_90,
        sessions_by_customer.carts_90,
        email_by_customer.delivered_180,
        email_by_customer.clicks_90,
        gaps.gap_days
    from orders_by_customer
    inner join gaps
        on orders_by_customer.as_of = gaps.as_of
    left join rfm
        on
            orders_by_customer.customer_id = rfm.customer_id
            and orders_by_customer.as_of = rfm.as_of
    left join returns_by_customer
        on
            orders_by_customer.customer_id = returns_by_customer.customer_id
            and orders_by_customer.as_of = returns_by_customer.as_of
    left join sessions_by_customer
        on
            orders_by_customer.customer_id = sessions_by_customer.customer_id
            and orders_by_customer.as_of = sessions_by_customer.as_of
    left join email_by_customer
        on
            orders_by_customer.customer_id = email_by_customer.customer_id
            and orders_by_customer.as_of = email_by_customer.as_of

),

final as (

    select
        customer_id,
        as_of,
        as_of_on,
        cast(age_days as integer) as age_days,
        cast(tenure_days as integer) as tenure_days,
        cast(order_days as integer) as order_days,
        cast(orders as integer) as orders,
        cast(orders_30 as integer) as orders_30,
        cast(orders_90 as integer) as orders_90,
        cast(orders_365 as integer) as orders_365,
        cast(spend_30 as {{ money() }}) as spend_30,
        cast(spend_90 as {{ money() }}) as spend_90,
        cast(spend_365 as {{ money() }}) as spend_365,
        cast(spend_total as {{ money() }}) as spend_total,
        cast(coalesce(returns_365, 0) as {{ money() }}) as returns_365,
        recency_days,
        coalesce(frequency, 0) as frequency,
        coalesce(monetary, 0) as monetary,
        average_order_value,
        history_days,
        cast(
            case when order_days > 1 then round((tenure_days - age_days) * 1.0 / (order_days - 1), 4) end
            as {{ money() }}
        ) as mean_gap_days,
        cast(coalesce(sessions_30, 0) as integer) as sessions_30,
        cast(coalesce(sessions_90, 0) as integer) as sessions_90,
        cast(coalesce(product_views_90, 0) as integer) as product_views_90,
        cast(coalesce(carts_90, 0) as integer) as carts_90,
        cast(coalesce(delivered_180, 0) as integer) as delivered_180,
        cast(coalesce(clicks_90, 0) as integer) as clicks_90,
        age_days <= gap_days * {{ var('dormant_gaps') }} as is_churn_population
    from joined

)

select * from final
