{%- set cart_events -%}
    'Product Added', 'Product Removed', 'Cart Viewed', 'Coupon Applied', 'Checkout Started', 'Checkout Step Viewed',
    'Checkout Step Completed', 'Payment Info Entered', 'Order Completed'
{%- endset -%}

with recursive

current_as_of as (

    select
        as_of,
        as_of_on
    from {{ ref('dim_as_ofs') }}
    where is_current

),

customers as (

    select customer_id from {{ ref('dim_customers') }}

),

email_events as (

    select
        email_events.customer_id,
        coalesce(email_events.send_id, email_events.campaign_id, email_events.event_id) as message_id,
        email_events.identifier_id,
        email_events.event_type,
        email_events.is_machine,
        email_events.occurred_at,
        {{ dbt.datediff("email_events.occurred_on", "current_as_of.as_of_on", "day") }} as age_days
    from {{ ref('fct_email_events') }} as email_events
    inner join current_as_of
        on email_events.known_at < current_as_of.as_of
    where
        email_events.customer_id is not null
        and email_events.event_type in ('delivered', 'opened', 'clicked')

),

sessions as (

    select
        sessions.customer_id,
        sessions.started_at,
        {{ dbt.datediff("sessions.started_on", "current_as_of.as_of_on", "day") }} as age_days
    from {{ ref('fct_web_sessions') }} as sessions
    inner join current_as_of
        on sessions.known_at < current_as_of.as_of
    where
        sessions.customer_id is not null
        and not sessions.is_bot

),

orders as (

    select
        orders.customer_id,
        orders.ordered_at,
        orders.is_reversed,
        {{ dbt.datediff("orders.ordered_on", "current_as_of.as_of_on", "day") }} as age_days
    from {{ ref('fct_orders') }} as orders
    inner join current_as_of
        on orders.known_at < current_as_of.as_of
    where orders.customer_id is not null

),

-- Only carts of the last days can be open, so only their owners' past carts matter.
cart_owners as (

    select distinct web_events.customer_id
    from {{ ref('fct_web_events') }} as web_events
    cross join current_as_of
    where
        web_events.event_name in ({{ cart_events }})
        and {{ dbt.dateadd(
            "minute", var('cart_open_hours') * 60 + var('cart_idle_minutes'), "web_events.occurred_at"
        ) }} > current_as_of.as_of

),

cart_events as (

    select
        web_events.customer_id,
        coalesce(web_events.cart_id, cast(web_events.session_key as {{ dbt.type_string() }})) as cart_key,
        web_events.event_name,
        web_events.occurred_at,
        case
            when web_events.event_name = 'Product Added' then coalesce(web_events.quantity, 1)
            when web_events.event_name = 'Product Removed' then -coalesce(web_events.quantity, 1)
            else 0
        end as units
    from {{ ref('fct_web_events') }} as web_events
    inner join cart_owners
        on web_events.customer_id = cart_owners.customer_id
    inner join current_as_of
        on web_events.known_at < current_as_of.as_of
    where
        not web_events.is_bot
        and web_events.event_name in ({{ cart_events }})

),

-- Age 0 is the day of as_of itself, which has not ended: windows end at the local midnight before it.
messages as (

    select
        customer_id,
        message_id,
        identifier_id,
        max(case when event_type = 'delivered' and age_days between 1 and 180 then 1 else 0 end) as is_delivered,
        max(case when event_type = 'opened' and not is_machine then 1 else 0 end) as is_opened,
        max(case when event_type = 'clicked' and not is_machine and age_days >= 1 then 1 else 0 end) as is_clicked
    from email_events
    group by
        customer_id,
        message_id,
        identifier_id

),

messages_by_customer as (

    select
        customer_id,
        sum(is_delivered) as messages_delivered_180,
        sum(is_delivered * is_opened) as messages_opened_180,
        sum(is_delivered * is_clicked) as messages_clicked_180
    from messages
    group by customer_id

),

clicks_by_customer as (

    select
        customer_id,
        max(occurred_at) as last_click_at,
        min(age_days) as click_age_days
    from email_events
    where
        event_type = 'clicked'
        and not is_machine
        and age_days >= 1
    group by customer_id

),

visits_by_customer as (

    select
        customer_id,
        max(started_at) as last_visit_at,
        min(age_days) as visit_age_days,
        sum(case when age_days <= 14 then 1 else 0 end) as sessions_14,
        sum(case when age_days <= 90 then 1 else 0 end) as sessions_90,
        sum(case when age_days <= 365 then 1 else 0 end) as sessions_365
    from sessions
    where age_days >= 1
    group by customer_id

),

orders_by_customer as (

    select
        customer_id,
        min(age_days) as order_age_days,
        sum(case when age_days <= 180 then 1 else 0 end) as orders_180,
        sum(case when age_days <= 365 then 1 else 0 end) as orders_365
    from orders
    where
        age_days >= 1
        and not is_reversed
    group by customer_id

),

cart_contents as (

    select
        customer_id,
        cart_key,
        event_name,
        occurred_at,
        sum(units) over (
            partition by customer_id, cart_key
            order by occurred_at
            range between unbounded preceding and current row
        ) as units_in_cart,
        min(case when event_name = 'Order Completed' then occurred_at end)
            over (partition by customer_id, cart_key) as completed_at,
        lead(occurred_at) over (partition by customer_id, cart_key order by occurred_at) as next_event_at
    from cart_events

),

purchases as (

    select
        customer_id,
        ordered_at
    from orders
    union all
    select
        customer_id,
        occurred_at as ordered_at
    from cart_events
    where event_name = 'Order Completed'

),

-- Every time that a cart with something in it was left alone for long enough and nothing was bought meanwhile.
idle_carts as (

    select
        cart_contents.customer_id,
        cart_contents.cart_key,
        cart_contents.occurred_at as left_at,
        cart_contents.next_event_at,
        {{ dbt.dateadd("minute", var('cart_idle_minutes'), "cart_contents.occurred_at") }} as abandoned_at
    from cart_contents
    cross join current_as_of
    where
        cart_contents.units_in_cart > 0
        and (cart_contents.completed_at is null or cart_contents.completed_at > cart_contents.occurred_at)
        and {{ dbt.dateadd("minute", var('cart_idle_minutes'), "cart_contents.occurred_at") }} <= least(
            current_as_of.as_of, coalesce(cart_contents.next_event_at, current_as_of.as_of)
        )

),

next_purchases as (

    select
        idle_carts.customer_id,
        idle_carts.cart_key,
        idle_carts.left_at,
        idle_carts.abandoned_at,
        idle_carts.next_event_at,
        min(purchases.ordered_at) as purchased_at
    from idle_carts
    left join purchases
        on
            idle_carts.customer_id = purchases.customer_id
            and idle_carts.left_at <= purchases.ordered_at
    group by
        idle_carts.customer_id,
        idle_carts.cart_key,
        idle_carts.left_at,
        idle_carts.abandoned_at,
        idle_carts.next_event_at

),

abandonments as (

    select
        customer_id,
        abandoned_at,
        -- Still so at as_of: not taken up again, and nothing bought since.
        max(case when next_event_at is null and purchased_at is null then 1 else 0 end) as is_open
    from next_purchases
    where
        purchased_at is null
        or purchased_at > abandoned_at
    group by
        customer_id,
        abandoned_at

),

chained as (

    select
        customer_id,
        abandoned_at,
        is_open,
        row_number() over (partition by customer_id order by abandoned_at) as position,
        min(abandoned_at) over (
            partition by customer_id
            order by abandoned_at
            range between interval '{{ var('cart_entry_days') }}' day following and unbounded following
        ) as next_entry_at
    from abandonments

),

-- A person enters at most once in so many days: from one entry to the first abandonment that may be another.
entries as (

    select
        customer_id,
        abandoned_at,
        is_open,
        next_entry_at
    from chained
    where position = 1

    union all

    select
        chained.customer_id,
        chained.abandoned_at,
        chained.is_open,
        chained.next_entry_at
    from entries
    inner join chained
        on
            entries.customer_id = chained.customer_id
            and entries.next_entry_at = chained.abandoned_at

),

open_carts as (

    select
        entries.customer_id,
        max(entries.abandoned_at) as cart_abandoned_at
    from entries
    cross join current_as_of
    where
        entries.is_open = 1
        and {{ dbt.dateadd("hour", var('cart_open_hours'), "entries.abandoned_at") }} > current_as_of.as_of
    group by entries.customer_id

),

joined as (

    select
        customers.customer_id,
        current_as_of.as_of,
        current_as_of.as_of_on,
        coalesce(messages_by_customer.messages_delivered_180, 0) as messages_delivered_180,
        coalesce(messages_by_customer.messages_opened_180, 0) as messages_opened_180,
        coalesce(messages_by_customer.messages_clicked_180, 0) as messages_clicked_180,
        coalesce(visits_by_customer.sessions_14, 0) as sessions_14,
        coalesce(visits_by_customer.sessions_90, 0) as sessions_90,
        coalesce(visits_by_customer.sessions_365, 0) as sessions_365,
        coalesce(orders_by_customer.orders_180, 0) as orders_180,
        coalesce(orders_by_customer.orders_365, 0) as orders_365,
        clicks_by_customer.click_age_days,
        least(
            clicks_by_customer.click_age_days,
            visits_by_customer.visit_age_days,
            orders_by_customer.order_age_days
        ) as activity_age_days,
        clicks_by_customer.last_click_at,
        visits_by_customer.last_visit_at,
        open_carts.cart_abandoned_at
    from customers
    cross join current_as_of
    left join messages_by_customer
        on customers.customer_id = messages_by_customer.customer_id
    left join clicks_by_customer
        on customers.customer_id = clicks_by_customer.customer_id
    left join visits_by_customer
        on customers.customer_id = visits_by_customer.customer_id
    left join orders_by_customer
        on customers.customer_id = orders_by_customer.customer_id
    left join open_carts
        on customers.customer_id = open_carts.customer_id

),

final as (

    select
        customer_id,
        as_of,
        as_of_on,
        case
            when activity_age_days <= {{ var('engaged_days') }} then 'engaged'
            when activity_age_days <= {{ var('engagement_lapsing_days') }} then 'lapsing'
            when messages_delivered_180 >= {{ var('unengaged_min_delivered') }} then 'unengaged'
            when activity_age_days is null then 'never'
            else 'quiet'
        end as engagement_state,
        coalesce(click_age_days <= {{ var('engaged_days') }}, false) as is_engaged_by_mail,
        cast(activity_age_days as integer) as activity_age_days,
        last_click_at,
        last_visit_at,
        cast(messages_delivered_180 as integer) as messages_delivered_180,
        cast(messages_opened_180 as integer) as messages_opened_180,
        cast(messages_clicked_180 as integer) as messages_clicked_180,
        cast(
            case
                when messages_delivered_180 >= {{ var('click_rate_min_delivered') }}
                    then round(messages_clicked_180 * 1.0 / messages_delivered_180, 4)
            end as {{ money() }}
        ) as click_rate,
        cast(sessions_14 as integer) as sessions_14,
        cast(sessions_90 as integer) as sessions_90,
        cast(sessions_365 as integer) as sessions_365,
        cast(orders_180 as integer) as orders_180,
        cast(orders_365 as integer) as orders_365,
        cart_abandoned_at is not null as has_abandoned_cart,
        cart_abandoned_at
    from joined

)

select * from final
