{{
    config(
        materialized="spine",
        slices={
            "relation": "feat_anchors",
            "keys": ["as_of"],
            "columns": ["as_of_on", "history_days", "gap_days"],
        },
        inputs={
            "int_customer_firsts": {
                "columns": [],
                "instants": ["known_at", "email_known_at", "phone_known_at"],
            },
            "int_profile_versions": {
                "columns": [
                    "source", "gender", "age_band", "region_type", "language", "account_type", "loyalty_tier",
                    "birthday",
                ],
            },
            "int_country_versions": {"columns": ["country_code"]},
            "consent_versions": {
                "columns": ["channel", "purpose", "state", "suppression", "captured_at", "expires_at"],
                "where": "channel = 'email' and purpose = 'marketing'",
            },
            "int_order_versions": {
                "columns": [
                    "channel", "coupon", "gross_amount", "discount_amount", "amount_base", "ordered_on",
                ],
                "instants": ["known_at", "superseded_at", "reversed_known_at", "reversal_ended_at"],
            },
            "int_order_line_versions": {
                "columns": ["product_id", "category", "line_type", "amount_base", "occurred_on"],
                "where": "line_type in ('sale', 'return')",
            },
            "int_session_versions": {
                "columns": [
                    "product_view_count", "cart_add_count", "search_count", "checkout_count", "has_order", "is_bot",
                    "started_on",
                ],
                "where": "not is_bot",
            },
            "int_email_activity": {
                "columns": ["message_id", "event_type", "is_machine", "occurred_on"],
                "instants": ["known_at", "machine_known_at"],
                "where": "event_type in ('delivered', 'opened', 'clicked', 'bounced', 'unsubscribed')",
            },
        },
    )
}}

{%- set as_of = slice_as_of() -%}
{%- set as_of_on = slice_as_of_on() -%}
{%- set months = [
    "month_1", "month_2", "month_3", "month_4", "month_5", "month_6", "month_7", "month_8", "month_9", "month_10",
    "month_11", "month_12",
] -%}
{%- set runs = months | map("replace", "month", "run") | list %}

with

anchor as (

    select * from {{ ref('feat_anchors') }}
    where as_of = {{ as_of }}

),

customers as (

    select
        customer_id,
        {{ dbt.datediff(to_local_date('known_at'), as_of_on, 'day') }} as known_days,
        coalesce(email_known_at < {{ as_of }}, false) as has_email,
        coalesce(phone_known_at < {{ as_of }}, false) as has_phone
    from {{ ref('int_customer_firsts') }}
    where known_at < {{ as_of }}

),

profiles as (

    select * from {{ ref('int_profile_versions') }} as versions
    where {{ stands_at('versions', as_of) }}

),

own_profiles as (

    select * from profiles
    where source = 'crm'

),

bought_profiles as (

    select * from profiles
    where source = 'third_party'

),

countries as (

    select * from {{ ref('int_country_versions') }} as versions
    where {{ stands_at('versions', as_of) }}

),

-- A bounce is nothing that a person said.
words as (

    select versions.*
    from {{ ref('consent_versions') }} as versions
    where
        versions.customer_id is not null
        and versions.channel = 'email'
        and versions.purpose = 'marketing'
        and coalesce(versions.suppression, '') != 'hard_bounce'
        and {{ stands_at('versions', as_of) }}

),

-- The last word counts; of two said at once the refusal does.
consents as (

    select
        customer_id,
        max(
            case
                when
                    suppression is null
                    and {{ is_grant('state') }}
                    and (expires_at is null or expires_at >= {{ as_of }})
                    then captured_at
            end
        ) as granted_at,
        max(case when suppression is not null or state = 'withdrawn' then captured_at end) as refused_at,
        max(case when suppression is null and state = 'expired' then captured_at end) as expired_at
    from words
    group by customer_id

),

orders as (

    select
        versions.customer_id,
        versions.channel,
        versions.coupon,
        versions.gross_amount,
        versions.discount_amount,
        versions.amount_base,
        versions.ordered_on,
        {{ dbt.datediff('versions.ordered_on', as_of_on, 'day') }} as age_days,
        {{ reversed_at('versions', as_of) }} as is_reversed
    from {{ ref('int_order_versions') }} as versions
    where
        versions.customer_id is not null
        and {{ stands_at('versions', as_of) }}

),

reversed_by_customer as (

    select
        customer_id,
        sum(amount_base) as sold
    from orders
    where
        is_reversed
        and age_days <= {{ var('rfm_window_days') }}
    group by customer_id

),

-- Small types: there are as many of these rows as orders, and all of them are sorted and summed.
order_dates as (

    select
        customer_id,
        ordered_on,
        cast(min(age_days) as integer) as age_days,
        cast(count(*) as integer) as orders,
        cast(sum(amount_base) as {{ money() }}) as amount,
        max(amount_base) as largest,
        cast(sum(gross_amount) as {{ money() }}) as gross_amount,
        cast(sum(discount_amount) as {{ money() }}) as discount_amount,
        cast(sum(case when discount_amount > 0 then 1 else 0 end) as integer) as discounted,
        cast(sum(case when coupon is not null then 1 else 0 end) as integer) as with_coupon,
        cast(sum(case when channel = 'web' then 1 else 0 end) as integer) as on_web,
        cast(sum(case when channel = 'store' then 1 else 0 end) as integer) as in_store
    from orders
    where not is_reversed
    group by
        customer_id,
        ordered_on

),

with_gaps as (

    select
        *,
        extract(month from ordered_on) as month_number,
        lag(ordered_on) over (partition by customer_id order by ordered_on) as previous_on,
        {{ dbt.datediff(
            'lag(ordered_on) over (partition by customer_id order by ordered_on)', 'ordered_on', 'day'
        ) }} as gap_days
    from order_dates

),

orders_by_customer as (

    select
        customer_id,
        min(ordered_on) as first_order_on,
        max(ordered_on) as last_order_on,
        max(previous_on) as previous_order_on,
        count(*) as order_days,
        sum(orders) as orders,
        sum(amount) as spend_total,
        sum(case when previous_on is null then amount else 0 end) as first_day_spend,

        sum(case when age_days <= {{ var('rfm_window_days') }} then 1 else 0 end) as rfm_frequency,
        sum(case when age_days <= {{ var('rfm_window_days') }} then orders else 0 end) as rfm_orders,
        sum(case when age_days <= {{ var('rfm_window_days') }} then amount else 0 end) as rfm_sold,

        {% for days in [30, 90, 180, 365, 730] %}
        sum(case when age_days between 1 and {{ days }} then orders else 0 end) as orders_{{ days }},
        {% endfor %}
        {% for days in [30, 90, 365, 730] %}
        sum(case when age_days between 1 and {{ days }} then amount else 0 end) as spend_{{ days }},
        {% endfor %}
        sum(case when age_days between 91 and 180 then orders else 0 end) as orders_90_before,
        sum(case when age_days between 91 and 180 then amount else 0 end) as spend_90_before,
        max(case when age_days between 1 and 730 then largest end) as largest_order_730,
        min(case when age_days >= 1 then age_days end) as order_age_days,

        sum(gap_days) as gaps_sum,
        sum(gap_days * gap_days) as gaps_squared,
        min(gap_days) as shortest_gap_days,
        max(gap_days) as longest_gap_days,

        {% for number in range(1, 13) %}
        sum(case when month_number = {{ number }} then 1 else 0 end) as month_{{ number }},
        {% endfor %}
        sum(
            case
                when extract(year from previous_on) = extract(year from ordered_on) then 0
                else 1
            end
        ) as order_years,
        sum(
            case
                when mod({{ dbt.datediff("cast('1900-01-01' as date)", 'ordered_on', 'day') }}, 7) >= 5 then 1
                else 0
            end
        ) as weekend_days,

        sum(case when age_days between 1 and 365 then gross_amount else 0 end) as gross_365,
        sum(case when age_days between 1 and 365 then discount_amount else 0 end) as discount_365,
        sum(case when age_days between 1 and 365 then discounted else 0 end) as discounted_orders_365,
        sum(case when age_days between 1 and 365 then with_coupon else 0 end) as coupon_orders_365,
        sum(case when age_days between 1 and 365 then on_web else 0 end) as web_orders_365,
        sum(case when age_days between 1 and 365 then in_store else 0 end) as store_orders_365
    from with_gaps
    group by customer_id

),

-- Every run of four calendar months, around the turn of the year too.
runs as (

    select
        {% for first_month in range(1, 13) %}
        {{ (months * 2)[first_month - 1:first_month + 3] | join(' + ') }} as run_{{ first_month }},
        {% endfor %}
        *
    from orders_by_customer

),

best_runs as (

    select
        *,
        greatest({{ runs | join(', ') }}) as days_in_run
    from runs

),

order_summary as (

    select
        *,
        {{ dbt.datediff('last_order_on', as_of_on, 'day') }} as age_days,
        {{ dbt.datediff('first_order_on', as_of_on, 'day') }} as tenure_days,
        {{ dbt.datediff('previous_order_on', 'last_order_on', 'day') }} as last_gap_days,
        order_days - 1 as gaps,
        (order_days - 1) * gaps_squared - gaps_sum * gaps_sum as gap_spread,
        case days_in_run
            {%- for column in runs %}
            when {{ column }} then {{ loop.index }}
            {%- endfor %}
        end as first_month,
        -- Shares are compared in whole numbers: 0.7 is no exact float.
        order_years >= {{ var('seasonal_years_min') }}
        and days_in_run * 100 >= order_days * {{ var('seasonal_share_percent') }} as is_seasonal
    from best_runs

),

lines as (

    select
        versions.customer_id,
        versions.product_id,
        versions.category,
        versions.line_type,
        versions.amount_base,
        {{ dbt.datediff('versions.occurred_on', as_of_on, 'day') }} as age_days
    from {{ ref('int_order_line_versions') }} as versions
    where
        versions.customer_id is not null
        and versions.line_type in ('sale', 'return')
        and {{ stands_at('versions', as_of) }}

),

returns_by_customer as (

    select
        customer_id,
        sum(case when age_days <= {{ var('rfm_window_days') }} then amount_base else 0 end) as returned_rfm,
        -sum(case when age_days between 1 and 365 then amount_base else 0 end) as returns_365,
        sum(case when age_days between 1 and 365 then 1 else 0 end) as return_lines_365,
        min(case when age_days >= 1 then age_days end) as return_age_days
    from lines
    where line_type = 'return'
    group by customer_id

),

products_by_customer as (

    select
        customer_id,
        count(*) as products_365,
        sum(amount) as sold_365
    from (
        select
            customer_id,
            product_id,
            sum(amount_base) as amount
        from lines
        where
            line_type = 'sale'
            and age_days between 1 and 365
        group by
            customer_id,
            product_id
    ) as by_product
    group by customer_id

),

categories as (

    select
        customer_id,
        category,
        sum(amount_base) as amount
    from lines
    where
        line_type = 'sale'
        and category is not null
        and age_days between 1 and 365
    group by
        customer_id,
        category

),

categories_by_customer as (

    select
        customer_id,
        count(*) as categories_365,
        max(amount) as top_amount,
        cast(sum(amount) as {{ money() }}) as amount,
        sum(cast(amount as decimal(38, 4)) * cast(amount as decimal(38, 4))) as amount_squared
    from categories
    group by customer_id

),

top_categories as (

    select
        categories.customer_id,
        min(categories.category) as category
    from categories
    inner join categories_by_customer
        on
            categories.customer_id = categories_by_customer.customer_id
            and categories.amount = categories_by_customer.top_amount
    group by categories.customer_id

),

sessions as (

    select
        versions.*,
        {{ dbt.datediff('versions.started_on', as_of_on, 'day') }} as age_days
    from {{ ref('int_session_versions') }} as versions
    where
        versions.customer_id is not null
        and not versions.is_bot
        and versions.started_on < {{ as_of_on }}
        and {{ stands_at('versions', as_of) }}

),

sessions_by_customer as (

    select
        customer_id,
        min(age_days) as visit_age_days,
        min(case when cart_add_count > 0 then age_days end) as cart_age_days,
        {% for days in [14, 30, 90, 365] %}
        sum(case when age_days <= {{ days }} then 1 else 0 end) as sessions_{{ days }},
        {% endfor %}
        sum(case when age_days between 31 and 60 then 1 else 0 end) as sessions_30_before,
        sum(case when age_days <= 30 then product_view_count else 0 end) as product_views_30,
        sum(case when age_days <= 90 then product_view_count else 0 end) as product_views_90,
        sum(case when age_days <= 90 then search_count else 0 end) as searches_90,
        sum(case when age_days <= 90 then cart_add_count else 0 end) as carts_90,
        sum(case when age_days <= 90 and cart_add_count > 0 then 1 else 0 end) as cart_sessions_90,
        sum(case when age_days <= 90 and cart_add_count > 0 and not has_order then 1 else 0 end) as carts_left_90,
        sum(case when age_days <= 90 and checkout_count > 0 then 1 else 0 end) as checkout_sessions_90,
        sum(case when age_days <= 90 and has_order then 1 else 0 end) as ordered_sessions_90
    from sessions
    group by customer_id

),

mail as (

    select
        activity.customer_id,
        activity.message_id,
        activity.event_type,
        {{ dbt.datediff('activity.occurred_on', as_of_on, 'day') }} as age_days
    from {{ ref('int_email_activity') }} as activity
    where
        activity.customer_id is not null
        and activity.event_type in ('delivered', 'opened', 'clicked', 'bounced', 'unsubscribed')
        and activity.occurred_on < {{ as_of_on }}
        and activity.known_at < {{ as_of }}
        and not {{ machine_at('activity', as_of) }}

),

clicks_by_customer as (

    select
        customer_id,
        min(age_days) as click_age_days
    from mail
    where event_type = 'clicked'
    group by customer_id

),

-- A message counts once, by the newest of its events of a kind.
messages as (

    select
        customer_id,
        message_id,
        min(case when event_type = 'delivered' then age_days end) as delivered_age_days,
        min(case when event_type = 'opened' then age_days end) as opened_age_days,
        min(case when event_type = 'clicked' then age_days end) as clicked_age_days,
        sum(case when event_type = 'clicked' and age_days <= 90 then 1 else 0 end) as clicks_90,
        max(case when event_type = 'bounced' then 1 else 0 end) as bounced,
        max(case when event_type = 'unsubscribed' then 1 else 0 end) as unsubscribed
    from mail
    where age_days <= 180
    group by
        customer_id,
        message_id

),

mail_by_customer as (

    select
        customer_id,
        {% for days in [7, 30, 90, 180] %}
        sum(case when delivered_age_days <= {{ days }} then 1 else 0 end) as delivered_{{ days }},
        {% endfor %}
        sum(case when opened_age_days <= 180 then 1 else 0 end) as opened_180,
        {% for days in [30, 90, 180] %}
        sum(case when clicked_age_days <= {{ days }} then 1 else 0 end) as clicked_{{ days }},
        {% endfor %}
        sum(clicks_90) as clicks_90,
        sum(bounced) as bounced_180,
        sum(unsubscribed) as unsubscribed_180
    from messages
    group by customer_id

),

final as (

    select
        customers.customer_id,
        anchor.as_of,
        anchor.as_of_on,
        cast(orders.age_days as integer) as age_days,
        cast(
            case when orders.age_days <= {{ var('rfm_window_days') }} then orders.age_days end as integer
        ) as recency_days,
        orders.first_order_on,
        orders.last_order_on,
        orders.previous_order_on,
        cast(sessions.visit_age_days as integer) as visit_age_days,
        cast(clicks.click_age_days as integer) as click_age_days,
        cast(sessions.cart_age_days as integer) as cart_age_days,
        cast(returned.return_age_days as integer) as return_age_days,
        cast(
            least(
                coalesce(orders.order_age_days, sessions.visit_age_days, clicks.click_age_days),
                coalesce(sessions.visit_age_days, orders.order_age_days, clicks.click_age_days),
                coalesce(clicks.click_age_days, orders.order_age_days, sessions.visit_age_days)
            ) as integer
        ) as activity_age_days,
        cast(coalesce(orders.order_days, 0) as integer) as order_days,
        cast(coalesce(orders.orders, 0) as integer) as orders,
        cast(coalesce(orders.rfm_frequency, 0) as integer) as frequency,
        cast(coalesce(orders.rfm_orders, 0) as integer) as rfm_orders,
        cast(coalesce(orders.orders_30, 0) as integer) as orders_30,
        cast(coalesce(orders.orders_90, 0) as integer) as orders_90,
        cast(coalesce(orders.orders_180, 0) as integer) as orders_180,
        cast(coalesce(orders.orders_365, 0) as integer) as orders_365,
        cast(coalesce(orders.orders_730, 0) as integer) as orders_730,
        cast(coalesce(orders.spend_30, 0) as {{ money() }}) as spend_30,
        cast(coalesce(orders.spend_90, 0) as {{ money() }}) as spend_90,
        cast(coalesce(orders.spend_365, 0) as {{ money() }}) as spend_365,
        cast(coalesce(orders.spend_730, 0) as {{ money() }}) as spend_730,
        cast(coalesce(orders.spend_total, 0) as {{ money() }}) as spend_total,
        cast(orders.first_day_spend as {{ money() }}) as first_day_spend,
        cast(
            case
                when orders.rfm_orders > 0
                    then orders.rfm_sold + coalesce(reversed_orders.sold, 0) + coalesce(returned.returned_rfm, 0)
                else 0
            end as {{ money() }}
        ) as monetary,
        {{ ratio('orders.rfm_sold', 'orders.rfm_orders') }} as average_order_value,
        cast(orders.largest_order_730 as {{ money() }}) as largest_order_730,
        cast(coalesce(returned.returns_365, 0) as {{ money() }}) as returns_365,
        cast(coalesce(orders.orders_90 - orders.orders_90_before, 0) as integer) as orders_change_90,
        cast(coalesce(orders.spend_90 - orders.spend_90_before, 0) as {{ money() }}) as spend_change_90,
        cast(coalesce(sessions.sessions_30 - sessions.sessions_30_before, 0) as integer) as sessions_change_30,
        {{ ratio('orders.spend_90', 'orders.spend_365') }} as spend_share_90,
        {{ ratio('orders.gaps_sum', 'orders.gaps') }} as mean_gap_days,
        cast(orders.last_gap_days as integer) as last_gap_days,
        cast(orders.shortest_gap_days as integer) as shortest_gap_days,
        cast(orders.longest_gap_days as integer) as longest_gap_days,
        cast(
            case
                when orders.gaps > 1
                    then {{ ratio('sqrt(orders.gap_spread)', 'orders.gaps_sum') }}
            end as {{ money() }}
        ) as gap_variation,
        {{ ratio('orders.age_days * orders.gaps', 'orders.gaps_sum') }} as overdue_ratio,
        cast(coalesce(orders.order_years, 0) as integer) as order_years,
        cast(case when orders.is_seasonal then orders.first_month end as integer) as season_first_month,
        {{ ratio('orders.days_in_run', 'orders.order_days') }} as season_share,
        coalesce(orders.is_seasonal, false) as is_seasonal,
        {{ ratio('(orders.month_10 + orders.month_11 + orders.month_12)', 'orders.order_days') }} as last_quarter_share,
        {{ ratio('orders.weekend_days', 'orders.order_days') }} as weekend_share,
        top_categories.category as top_category,
        {{ ratio('categories.top_amount', 'categories.amount') }} as top_category_share_365,
        cast(coalesce(categories.categories_365, 0) as integer) as categories_365,
        cast(
            case
                when categories.amount > 0
                    then
                        1 - {{ ratio(
                            'categories.amount_squared', 'cast(categories.amount as decimal(38, 4)) * categories.amount'
                        ) }}
            end as {{ money() }}
        ) as category_diversity_365,
        cast(coalesce(products.products_365, 0) as integer) as products_365,
        {{ ratio('orders.discount_365', 'orders.gross_365') }} as discount_share_365,
        cast(coalesce(orders.discounted_orders_365, 0) as integer) as discounted_orders_365,
        cast(coalesce(orders.coupon_orders_365, 0) as integer) as coupon_orders_365,
        {{ ratio('coalesce(returned.returns_365, 0)', 'products.sold_365') }} as return_share_365,
        cast(coalesce(returned.return_lines_365, 0) as integer) as return_lines_365,
        cast(coalesce(sessions.sessions_14, 0) as integer) as sessions_14,
        cast(coalesce(sessions.sessions_30, 0) as integer) as sessions_30,
        cast(coalesce(sessions.sessions_90, 0) as integer) as sessions_90,
        cast(coalesce(sessions.sessions_365, 0) as integer) as sessions_365,
        cast(coalesce(sessions.product_views_30, 0) as integer) as product_views_30,
        cast(coalesce(sessions.product_views_90, 0) as integer) as product_views_90,
        cast(coalesce(sessions.searches_90, 0) as integer) as searches_90,
        {{ ratio('sessions.product_views_90', 'sessions.sessions_90') }} as views_per_session_90,
        cast(coalesce(sessions.cart_sessions_90, 0) as integer) as cart_sessions_90,
        cast(coalesce(sessions.carts_90, 0) as integer) as carts_90,
        cast(coalesce(sessions.checkout_sessions_90, 0) as integer) as checkout_sessions_90,
        cast(coalesce(sessions.ordered_sessions_90, 0) as integer) as ordered_sessions_90,
        {{ ratio('sessions.carts_left_90', 'sessions.cart_sessions_90') }} as cart_leave_share_90,
        cast(coalesce(mail.delivered_7, 0) as integer) as delivered_7,
        cast(coalesce(mail.delivered_30, 0) as integer) as delivered_30,
        cast(coalesce(mail.delivered_90, 0) as integer) as delivered_90,
        cast(coalesce(mail.delivered_180, 0) as integer) as delivered_180,
        cast(coalesce(mail.opened_180, 0) as integer) as opened_180,
        cast(coalesce(mail.clicked_30, 0) as integer) as clicked_30,
        cast(coalesce(mail.clicked_90, 0) as integer) as clicked_90,
        cast(coalesce(mail.clicked_180, 0) as integer) as clicked_180,
        cast(coalesce(mail.clicks_90, 0) as integer) as clicks_90,
        cast(
            case
                when mail.delivered_180 >= {{ var('click_rate_min_delivered') }}
                    then {{ ratio('mail.clicked_180', 'mail.delivered_180') }}
            end as {{ money() }}
        ) as click_rate,
        cast(coalesce(mail.bounced_180, 0) as integer) as bounced_180,
        cast(coalesce(mail.unsubscribed_180, 0) as integer) as unsubscribed_180,
        cast(
            case when orders.web_orders_365 > 0 then 1 else 0 end
            + case when orders.store_orders_365 > 0 then 1 else 0 end
            + case when orders.orders_365 > orders.web_orders_365 + orders.store_orders_365 then 1 else 0 end as integer
        ) as channels_365,
        {{ ratio('orders.store_orders_365', 'orders.orders_365') }} as store_order_share_365,
        {{ ratio('orders.web_orders_365', 'orders.orders_365') }} as web_order_share_365,
        cast(orders.tenure_days as integer) as tenure_days,
        cast(customers.known_days as integer) as known_days,
        cast(anchor.history_days as integer) as history_days,
        coalesce({{ age_band('own_profiles.birthday', 'anchor.as_of_on') }}, bought_profiles.age_band) as age_band,
        coalesce(own_profiles.gender, bought_profiles.gender) as gender,
        bought_profiles.region_type,
        countries.country_code,
        own_profiles.language,
        own_profiles.account_type,
        own_profiles.loyalty_tier,
        customers.has_email,
        customers.has_phone,
        case
            when consents.refused_at >= coalesce(consents.granted_at, consents.refused_at) then 'refused'
            when consents.granted_at > coalesce(consents.expired_at, cast('1900-01-01' as timestamp)) then 'granted'
        end as email_consent,
        cast(anchor.gap_days as integer) as gap_days,
        coalesce(orders.age_days <= anchor.gap_days * {{ var('dormant_gaps') }}, false) as is_churn_population
    from customers
    cross join anchor
    left join order_summary as orders
        on customers.customer_id = orders.customer_id
    left join reversed_by_customer as reversed_orders
        on customers.customer_id = reversed_orders.customer_id
    left join returns_by_customer as returned
        on customers.customer_id = returned.customer_id
    left join products_by_customer as products
        on customers.customer_id = products.customer_id
    left join categories_by_customer as categories
        on customers.customer_id = categories.customer_id
    left join top_categories
        on customers.customer_id = top_categories.customer_id
    left join sessions_by_customer as sessions
        on customers.customer_id = sessions.customer_id
    left join clicks_by_customer as clicks
        on customers.customer_id = clicks.customer_id
    left join mail_by_customer as mail
        on customers.customer_id = mail.customer_id
    left join own_profiles
        on customers.customer_id = own_profiles.customer_id
    left join bought_profiles
        on customers.customer_id = bought_profiles.customer_id
    left join countries
        on customers.customer_id = countries.customer_id
    left join consents
        on customers.customer_id = consents.customer_id

)

select * from final
