{{ config(materialized="view") }}

with

visits as (
    select
        sessions.customer_id,
        sessions.identifier_id,
        'web' as channel,
        'visited' as activity,
        cast(sessions.session_key as varchar) as object_id,
        cast(null as decimal(18, 4)) as amount_base,
        false as is_machine,
        sessions.is_bot,
        sessions.started_on as occurred_on,
        sessions.started_at as occurred_at,
        sessions.known_at
    from {{ ref("int_session_versions") }} as sessions
    where {{ stands_at("sessions", clock_as_of()) }}
),

steps as (
    select
        identifiers.customer_id,
        events.identifier_id,
        'web' as channel,
        case events.event_name
            when 'Product Viewed' then 'viewed_product'
            when 'Product Added' then 'added_to_cart'
            else 'started_checkout'
        end as activity,
        case
            when events.event_name = 'Checkout Started' then events.cart_id
            else events.product_id
        end as object_id,
        cast(null as decimal(18, 4)) as amount_base,
        false as is_machine,
        events.is_bot,
        events.occurred_on,
        events.occurred_at,
        events.known_at
    from {{ ref("int_web_events") }} as events
    left join {{ ref("int_identifiers") }} as identifiers on events.identifier_id = identifiers.identifier_id
    where
        events.is_tracked
        and events.known_at < {{ clock_as_of() }}
        and events.event_name in ('Product Viewed', 'Product Added', 'Checkout Started')
),

orders as (
    select
        orders.customer_id,
        orders.identifier_id,
        case when orders.source = 'pos' then 'store' else 'shop' end as channel,
        'ordered' as activity,
        orders.order_key as object_id,
        orders.amount_base,
        false as is_machine,
        false as is_bot,
        orders.ordered_on as occurred_on,
        orders.ordered_at as occurred_at,
        orders.known_at
    from {{ ref("int_order_versions") }} as orders
    where {{ stands_at("orders", clock_as_of()) }}
),

returns as (
    select
        lines.customer_id,
        lines.identifier_id,
        case when lines.source = 'pos' then 'store' else 'shop' end as channel,
        'returned' as activity,
        lines.order_line_key as object_id,
        lines.amount_base,
        false as is_machine,
        false as is_bot,
        lines.occurred_on,
        lines.occurred_at,
        lines.known_at
    from {{ ref("int_order_line_versions") }} as lines
    where lines.line_type = 'return' and {{ stands_at("lines", clock_as_of()) }}
),

mail as (
    select
        events.customer_id,
        events.identifier_id,
        'email' as channel,
        case events.event_type when 'delivered' then 'received_mail' else events.event_type end as activity,
        events.message_id as object_id,
        cast(null as decimal(18, 4)) as amount_base,
        {{ machine_at("events", clock_as_of()) }} as is_machine,
        false as is_bot,
        events.occurred_on,
        events.occurred_at,
        events.known_at
    from {{ ref("int_email_activity") }} as events
    where
        events.known_at < {{ clock_as_of() }}
        and events.event_type in ('delivered', 'opened', 'clicked', 'unsubscribed', 'complained', 'bounced')
),

activity as (
    {%- for channel in ["visits", "steps", "orders", "returns", "mail"] %}
    select
        customer_id,
        identifier_id,
        channel,
        activity,
        object_id,
        amount_base,
        is_machine,
        is_bot,
        occurred_on,
        occurred_at,
        known_at
    from {{ channel }}
    {{- "\n\n    union all\n" if not loop.last }}
    {%- endfor %}
)

select * from activity
