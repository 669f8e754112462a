{#- What carts are made of, for the table that is stored and for a clock that stands before some of what it holds. -#}

{% macro cart_key(events) -%}
    {#- The site's cart, wherever it is opened; without one, what a visitor does on a day is one cart. -#}
    case
        when {{ events }}.cart_id is not null then {{ column_hash([events ~ ".cart_id"]) }}
        else {{ column_hash([events ~ ".visitor_key", events ~ ".session_id", events ~ ".occurred_on"]) }}
    end
{%- endmacro %}

{% macro is_cart_event(events) -%}
    {{ events }}.is_tracked
    and not {{ events }}.is_bot
    and {{ events }}.event_name in (
        'Product Added', 'Product Removed', 'Cart Viewed', 'Coupon Applied', 'Checkout Started', 'Checkout Step Viewed',
        'Checkout Step Completed', 'Payment Info Entered', 'Order Completed'
    )
{%- endmacro %}

{% macro carts_as_left(events) -%}
    {#-
        One row per cart and time that it was left alone for `cart_idle_minutes`, with what was in it then and how far it
        had come. `events` names the cart events, with `cart_key`. What happens to a cart after its order is left out.
    -#}
    {%- set idle = var("cart_idle_minutes") -%}
    {%- set units -%}
        case
            when event_name = 'Product Added' then coalesce(quantity, 1)
            when event_name = 'Product Removed' then -coalesce(quantity, 1)
            else 0
        end
    {%- endset -%}
    {%- set step -%}
        case
            when event_name = 'Payment Info Entered' then 3
            when event_name like 'Checkout%' then 2
            else 1
        end
    {%- endset -%}
    {%- set identifier -%}
        coalesce(
            min(case when identifier_type = 'customer_ref' then identifier_id end),
            min(case when identifier_type = 'email' then identifier_id end),
            min(identifier_id)
        )
    {%- endset -%}
    (
        with

        carts as {{ materialized() }} (
            select
                cart_key,
                min(cart_id) as cart_id,
                {{ identifier }} as identifier_id,
                max(currency) as currency,
                max(sequence) as sequence,
                sum({{ units }}) as units,
                sum({{ units }} * price) as amount,
                max({{ step }}) as step,
                min(case when event_name = 'Order Completed' then order_id end) as order_id,
                min(occurred_at) as started_at,
                max(occurred_at) as left_at,
                min(case when event_name = 'Order Completed' then occurred_at end) as completed_at,
                min(known_at) as first_known_at,
                max(known_at) as last_known_at
            from {{ events }}
            group by cart_key
        ),

        -- As a rule a cart is filled, and paid or left, within the hour.
        resumed as (
            select
                events.*,
                carts.completed_at
            from {{ events }} as events
            inner join carts on events.cart_key = carts.cart_key
            where
                carts.left_at >= {{ dbt.dateadd("minute", idle, "carts.started_at") }}
                or carts.completed_at < carts.left_at
        ),

        touches as (
            select
                *,
                sum({{ units }}) over so_far as units_so_far,
                sum({{ units }} * price) over so_far as amount_so_far,
                max({{ step }}) over so_far as step_so_far,
                lead(occurred_at) over (partition by cart_key order by occurred_at, event_id) as next_at
            from resumed
            where completed_at is null or occurred_at <= completed_at
            window so_far as (
                partition by cart_key order by occurred_at range between unbounded preceding and current row
            )
        ),

        times_left as (
            select
                cart_key,
                units_so_far,
                amount_so_far,
                step_so_far,
                occurred_at as left_at,
                next_at
            from touches
            where next_at is null or next_at >= {{ dbt.dateadd("minute", idle, "occurred_at") }}
        )

        select
            cart_key,
            cart_id,
            identifier_id,
            order_id,
            currency,
            sequence,
            cast(units as decimal(18, 4)) as units,
            cast(amount as decimal(18, 4)) as amount,
            step,
            started_at,
            left_at,
            cast(null as timestamp) as resumed_at,
            completed_at,
            first_known_at,
            last_known_at
        from carts
        where
            left_at < {{ dbt.dateadd("minute", idle, "started_at") }}
            and (completed_at is null or completed_at >= left_at)

        union all

        select
            carts.cart_key,
            carts.cart_id,
            carts.identifier_id,
            case when times_left.next_at is null then carts.order_id end as order_id,
            carts.currency,
            carts.sequence,
            cast(times_left.units_so_far as decimal(18, 4)) as units,
            cast(times_left.amount_so_far as decimal(18, 4)) as amount,
            times_left.step_so_far as step,
            carts.started_at,
            times_left.left_at,
            times_left.next_at as resumed_at,
            case when times_left.next_at is null then carts.completed_at end as completed_at,
            carts.first_known_at,
            carts.last_known_at
        from times_left
        inner join carts on times_left.cart_key = carts.cart_key
    )
{%- endmacro %}
