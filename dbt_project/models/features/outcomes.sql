with

anchors as (

    select * from {{ ref('feat_anchors') }}
    where is_spine

),

current_as_of as (

    select as_of_on from anchors
    where is_current

),

customers as (

    select
        customer_id,
        as_of,
        as_of_on
    from {{ ref('feat_customers') }}

),

orders as (

    select * from {{ ref('fct_orders') }}
    where
        customer_id is not null
        and not is_reversed

),

horizons as (

    {% for days in [30, 90, 180] %}
    select {{ days }} as horizon_days
    {% if not loop.last %}union all{% endif %}
    {% endfor %}

),

-- Only horizons that have passed: an outcome that is still open is no outcome.
closed as (

    select
        customers.customer_id,
        customers.as_of,
        customers.as_of_on,
        horizons.horizon_days
    from customers
    cross join horizons
    cross join current_as_of
    where {{ dbt.datediff("customers.as_of_on", "current_as_of.as_of_on", "day") }} >= horizons.horizon_days

),

bought as (

    select
        closed.customer_id,
        closed.as_of,
        closed.horizon_days,
        count(*) as orders,
        sum(orders.amount_base) as revenue
    from closed
    inner join orders
        on
            closed.customer_id = orders.customer_id
            and closed.as_of <= orders.known_at
            and {{ dbt.datediff("closed.as_of_on", "orders.ordered_on", "day") }} between 0 and closed.horizon_days - 1
    group by
        closed.customer_id,
        closed.as_of,
        closed.horizon_days

),

final as (

    select
        closed.customer_id,
        closed.as_of,
        cast(closed.horizon_days as integer) as horizon_days,
        bought.orders is not null as bought,
        cast(coalesce(bought.orders, 0) as integer) as orders,
        cast(coalesce(bought.revenue, 0) as {{ money() }}) as revenue
    from closed
    left join bought
        on
            closed.customer_id = bought.customer_id
            and closed.as_of = bought.as_of
            and closed.horizon_days = bought.horizon_days

)

select * from final
