{{
    config(
        materialized="spine",
        slices={
            "relation": "feat_horizons",
            "keys": ["as_of", "horizon_days"],
            "columns": ["as_of_on", "closes_on", "closes_at"],
            "instant": "closes_at",
        },
        inputs={
            "int_customer_firsts": {"columns": [], "instants": ["known_at"]},
            "int_order_versions": {
                "columns": ["amount_base", "ordered_on"],
                "instants": ["known_at", "superseded_at", "reversed_known_at", "reversal_ended_at"],
            },
            "int_order_line_versions": {
                "columns": ["line_type", "amount_base", "occurred_on"],
                "where": "line_type = 'return'",
            },
            "consent_versions": {
                "columns": ["channel", "purpose", "state", "suppression", "captured_at"],
                "instants": ["known_at"],
                "where": "channel = 'email' and purpose = 'marketing'",
            },
        },
    )
}}

{%- set as_of = slice_as_of() -%}
{%- set as_of_on = slice_as_of_on() -%}
{%- set closes_on = slice_closes_on() -%}
{%- set closes_at = slice_closes_at() -%}

with

horizon as (

    select * from {{ ref('feat_horizons') }}
    where
        as_of = {{ as_of }}
        and horizon_days = {{ slice_horizon_days() }}

),

customers as (

    select customer_id from {{ ref('int_customer_firsts') }}
    where known_at < {{ as_of }}

),

-- What was known before as_of is a feature, not an outcome; what is known after the horizon has passed came too late.
bought as (

    select
        orders.customer_id,
        sum(case when {{ reversed_at('orders', closes_at) }} then 0 else 1 end) as orders,
        sum(case when {{ reversed_at('orders', closes_at) }} then 0 else orders.amount_base end) as revenue,
        sum(orders.amount_base) as sold
    from {{ ref('int_order_versions') }} as orders
    where
        orders.customer_id is not null
        and orders.ordered_on >= {{ as_of_on }}
        and orders.ordered_on < {{ closes_on }}
        and orders.known_at >= {{ as_of }}
        and {{ stands_at('orders', closes_at) }}
    group by orders.customer_id

),

returned as (

    select
        lines.customer_id,
        -sum(lines.amount_base) as returned
    from {{ ref('int_order_line_versions') }} as lines
    where
        lines.customer_id is not null
        and lines.line_type = 'return'
        and lines.occurred_on >= {{ as_of_on }}
        and lines.occurred_on < {{ closes_on }}
        and lines.known_at >= {{ as_of }}
        and {{ stands_at('lines', closes_at) }}
    group by lines.customer_id

),

unsubscribed as (

    select distinct customer_id
    from {{ ref('consent_versions') }}
    where
        customer_id is not null
        and channel = 'email'
        and purpose = 'marketing'
        and coalesce(suppression, '') != 'hard_bounce'
        and (state = 'withdrawn' or suppression is not null)
        and captured_at >= {{ as_of }}
        and captured_at < {{ closes_at }}
        and known_at < {{ closes_at }}

),

final as (

    select
        customers.customer_id,
        horizon.as_of,
        horizon.horizon_days,
        coalesce(bought.orders, 0) > 0 as bought,
        cast(coalesce(bought.orders, 0) as integer) as orders,
        cast(coalesce(bought.revenue, 0) as {{ money() }}) as revenue,
        cast(coalesce(returned.returned, 0) as {{ money() }}) as returned,
        cast(coalesce(bought.sold, 0) - coalesce(returned.returned, 0) as {{ money() }}) as net_revenue,
        unsubscribed.customer_id is not null as unsubscribed
    from customers
    cross join horizon
    left join bought
        on customers.customer_id = bought.customer_id
    left join returned
        on customers.customer_id = returned.customer_id
    left join unsubscribed
        on customers.customer_id = unsubscribed.customer_id

)

select * from final
