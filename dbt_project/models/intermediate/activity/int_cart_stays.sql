with

clock as (
    select * from {{ ref("stg_lake__clock") }}
),

-- Of carts that go on after the as_of, only what was before it: there are none unless the clock stands in the past.
going_on as (
    select distinct stored.cart_key
    from {{ ref("int_carts") }} as stored
    where
        stored.first_known_at < {{ clock_as_of() }}
        and stored.last_known_at >= {{ clock_as_of() }}
),

earlier_events as (
    select
        events.*,
        going_on.cart_key
    from {{ ref("int_web_events") }} as events
    inner join going_on on {{ cart_key("events") }} = going_on.cart_key
    where
        {{ is_cart_event("events") }}
        and events.known_at < {{ clock_as_of() }}
),

carts as (
    select carts.*
    from {{ ref("int_carts") }} as carts
    where carts.last_known_at < {{ clock_as_of() }}

    union all by name

    select * from {{ carts_as_left("earlier_events") }} as carts_as_left
),

identifiers as (
    select
        identifier_id,
        customer_id
    from {{ ref("int_identifiers") }}
),

of_customers as (
    select
        carts.*,
        identifiers.customer_id,
        {{ dbt.dateadd("minute", var("cart_idle_minutes"), "carts.left_at") }} as idle_at,
        {{ dbt.dateadd("minute", var("cart_idle_minutes") + 60 * var("cart_open_hours"), "carts.left_at") }}
            as lapses_at
    from carts
    left join identifiers on carts.identifier_id = identifiers.identifier_id
),

-- Whatever the channel, and what the site says was completed, as its order may come later.
purchases as (
    select
        orders.customer_id,
        orders.order_key,
        orders.ordered_at
    from {{ ref("int_order_versions") }} as orders
    where
        orders.customer_id is not null
        and {{ stands_at("orders", clock_as_of()) }}

    union all

    select
        customer_id,
        'shop|' || order_id as order_key,
        completed_at as ordered_at
    from of_customers
    where customer_id is not null and completed_at is not null
),

-- The first one after it was left, as long as it counts as abandoned at most.
next_purchases as (
    select
        of_customers.cart_key,
        of_customers.left_at,
        min(purchases.ordered_at) as ordered_at,
        {{ first_value_by("purchases.order_key", "purchases.ordered_at") }} as order_key
    from of_customers
    inner join purchases
        on
            of_customers.customer_id = purchases.customer_id
            and of_customers.left_at <= purchases.ordered_at
            and of_customers.lapses_at >= purchases.ordered_at
    where of_customers.completed_at is null
    group by
        of_customers.cart_key,
        of_customers.left_at
),

-- A rate stays in force until the next one; before the first one, the first is the best there is.
rates as (
    select
        daily.currency,
        daily.rate,
        case
            when lag(daily.rate_on) over (partition by daily.currency order by daily.rate_on) is null
                then cast('1900-01-01' as date)
            else daily.rate_on
        end as valid_from,
        coalesce(
            lead(daily.rate_on) over (partition by daily.currency order by daily.rate_on), cast('9999-12-31' as date)
        ) as valid_to
    from (
        select
            exchange_rates.from_currency as currency,
            exchange_rates.rate_on,
            exchange_rates.rate
        from {{ ref("stg_shop__exchange_rates") }} as exchange_rates
        inner join clock
            on
                exchange_rates.to_currency = clock.currency
                and exchange_rates.known_at < clock.as_of
        qualify row_number() over (
            partition by exchange_rates.from_currency, exchange_rates.rate_on order by exchange_rates.known_at desc
        ) = 1
    ) as daily
),

final as (
    select
        of_customers.cart_key,
        of_customers.cart_id,
        of_customers.customer_id,
        of_customers.identifier_id,
        case
            when of_customers.completed_at is not null then 'shop|' || of_customers.order_id
            else next_purchases.order_key
        end as order_key,

        of_customers.units,
        cast(
            of_customers.amount * case
                when coalesce(of_customers.currency, clock.currency) = clock.currency then 1
                else rates.rate
            end as {{ money() }}
        ) as amount_base,
        of_customers.step,

        of_customers.started_at,
        of_customers.left_at,
        of_customers.idle_at,
        of_customers.resumed_at,
        coalesce(of_customers.completed_at, next_purchases.ordered_at) as ordered_at,
        of_customers.last_known_at as known_at
    from of_customers
    cross join clock
    left join next_purchases
        on
            of_customers.cart_key = next_purchases.cart_key
            and of_customers.left_at = next_purchases.left_at
    left join rates
        on
            of_customers.currency = rates.currency
            and cast(of_customers.left_at as date) >= rates.valid_from
            and cast(of_customers.left_at as date) < rates.valid_to
)

select * from final
