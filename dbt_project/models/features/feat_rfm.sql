with

anchors as (

    select * from {{ ref('feat_anchors') }}

),

orders as (

    select * from {{ ref('fct_orders') }}

),

return_lines as (

    select * from {{ ref('fct_order_lines') }}
    where
        customer_id is not null
        and line_type = 'return'

),

history as (

    select
        anchors.as_of,
        {{ dbt.datediff("min(orders.ordered_on)", "min(anchors.as_of_on)", "day") }} as history_days
    from anchors
    inner join orders
        on anchors.as_of > orders.known_at
    group by anchors.as_of

),

orders_in_window as (

    select
        orders.customer_id,
        anchors.as_of,
        anchors.as_of_on,
        orders.ordered_on,
        orders.amount_base,
        -- A reversal counts from when it was known: at an earlier anchor the order still stood.
        coalesce(orders.reversed_known_at < anchors.as_of, false) as is_reversed
    from anchors
    inner join orders
        on
            anchors.as_of > orders.known_at
            and {{ dbt.datediff("orders.ordered_on", "anchors.as_of_on", "day") }} <= {{ var('rfm_window_days') }}
    where orders.customer_id is not null

),

bought as (

    select
        customer_id,
        as_of,
        as_of_on,
        max(case when not is_reversed then ordered_on end) as last_order_on,
        count(distinct case when not is_reversed then ordered_on end) as order_days,
        sum(case when not is_reversed then 1 else 0 end) as orders,
        sum(case when not is_reversed then amount_base else 0 end) as amount_unreversed,
        sum(amount_base) as amount_sold
    from orders_in_window
    group by
        customer_id,
        as_of,
        as_of_on

),

returned as (

    select
        return_lines.customer_id,
        anchors.as_of,
        sum(return_lines.amount_base) as amount_returned
    from anchors
    inner join return_lines
        on
            anchors.as_of > return_lines.known_at
            and {{ dbt.datediff("return_lines.occurred_on", "anchors.as_of_on", "day") }}
            <= {{ var('rfm_window_days') }}
    group by
        return_lines.customer_id,
        anchors.as_of

),

final as (

    select
        bought.customer_id,
        bought.as_of,
        bought.as_of_on,
        bought.last_order_on,
        cast({{ dbt.datediff("bought.last_order_on", "bought.as_of_on", "day") }} as integer) as recency_days,
        cast(bought.order_days as integer) as frequency,
        cast(bought.orders as integer) as orders,
        cast(bought.amount_sold + coalesce(returned.amount_returned, 0) as {{ money() }}) as monetary,
        cast(round(bought.amount_unreversed / bought.orders, 4) as {{ money() }}) as average_order_value,
        cast(history.history_days as integer) as history_days
    from bought
    inner join history
        on bought.as_of = history.as_of
    left join returned
        on
            bought.customer_id = returned.customer_id
            and bought.as_of = returned.as_of
    where bought.orders > 0

)

select * from final
