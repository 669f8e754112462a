with

clock as (
    select * from {{ ref("stg_lake__clock") }}
),

orders as (
    select * from {{ ref("stg_shop__orders") }}
),

order_lines as (
    select
        order_id,
        min(customer_ref) as customer_ref,
        max(customer_ref) as other_customer_ref,
        min(currency) as currency,
        max(currency) as other_currency,
        min(occurred_at) as occurred_at,
        min(case when occurred_at is not null then known_at end) as known_at
    from {{ ref("stg_shop__order_lines") }}
    group by order_id
),

shop_documents as (
    select
        'shop' as source,
        coalesce(orders.order_id, order_lines.order_id) as order_id,
        coalesce(order_lines.customer_ref, orders.customer_ref) as customer_ref,
        orders.email,
        orders.phone,
        orders.status,
        coalesce(order_lines.currency, orders.currency) as currency,
        orders.country_code,
        coalesce(orders.channel, 'web') as channel,
        orders.coupon,
        coalesce(orders.discount, 0) as discount,
        coalesce(orders.price_includes_tax, false) as price_includes_tax,
        coalesce(orders.is_cancellation, false) as is_cancellation,
        -- The loader sees one table at a time; header and lines are compared here.
        coalesce(
            order_lines.customer_ref <> order_lines.other_customer_ref
            or order_lines.customer_ref <> orders.customer_ref
            or order_lines.currency <> order_lines.other_currency
            or order_lines.currency <> orders.currency,
            false
        ) as is_contradictory,
        orders.accepts_marketing,
        coalesce(order_lines.occurred_at, orders.ordered_at) as ordered_at,
        least(orders.known_at, order_lines.known_at) as known_at
    from orders
    full outer join order_lines on orders.order_id = order_lines.order_id
),

sales as (
    select
        'pos' as source,
        sale_id as order_id,
        min(customer_ref) as customer_ref,
        min(email) as email,
        cast(null as varchar) as phone,
        cast(null as varchar) as status,
        min(currency) as currency,
        cast(null as varchar) as country_code,
        'store' as channel,
        cast(null as varchar) as coupon,
        cast(0 as decimal(18, 4)) as discount,
        false as price_includes_tax,
        false as is_cancellation,
        coalesce(
            min(customer_ref) <> max(customer_ref) or min(currency) <> max(currency), false
        ) as is_contradictory,
        cast(null as boolean) as accepts_marketing,
        min(sold_at) as ordered_at,
        min(known_at) as known_at
    from {{ ref("stg_pos__sales") }}
    group by sale_id
),

documents as (
    select * from shop_documents
    union all
    select * from sales
),

-- A rate stays in force until the next one; before the first one, the first is the best there is.
rates as (
    select
        exchange_rates.from_currency as currency,
        exchange_rates.rate,
        case
            when lag(exchange_rates.rate_on) over (
                partition by exchange_rates.from_currency order by exchange_rates.rate_on
            ) is null then cast('1900-01-01' as date)
            else exchange_rates.rate_on
        end as valid_from,
        coalesce(
            lead(exchange_rates.rate_on) over (
                partition by exchange_rates.from_currency order by exchange_rates.rate_on
            ),
            cast('9999-12-31' as date)
        ) as valid_to
    from {{ ref("stg_shop__exchange_rates") }} as exchange_rates
    inner join clock on exchange_rates.to_currency = clock.currency
),

with_currency as (
    select
        documents.source,
        documents.order_id,
        documents.customer_ref,
        documents.email,
        documents.phone,
        documents.status,
        documents.country_code,
        documents.channel,
        documents.coupon,
        documents.discount,
        documents.price_includes_tax,
        documents.is_cancellation,
        documents.is_contradictory,
        documents.accepts_marketing,
        documents.ordered_at,
        documents.known_at,
        coalesce(documents.currency, clock.currency) as currency,
        coalesce(documents.currency, clock.currency) = clock.currency as is_base_currency,
        {{ to_local_date("documents.ordered_at") }} as ordered_on
    from documents
    cross join clock
),

keyed as (
    select
        documents.source || '|' || documents.order_id as order_key,
        documents.source,
        documents.order_id,
        case
            when documents.customer_ref is not null
                then {{ identifier_id("shop", "customer_ref", "documents.customer_ref") }}
            when documents.email is not null then {{ identifier_id("any", "email", "documents.email") }}
            when documents.phone is not null then {{ identifier_id("any", "phone", "documents.phone") }}
        end as identifier_id,
        documents.customer_ref,

        documents.email,
        documents.phone,
        documents.status,
        documents.currency,
        documents.country_code,
        documents.channel,
        documents.coupon,

        documents.discount,
        case when documents.is_base_currency then cast(1 as decimal(18, 8)) else rates.rate end as rate_to_base,

        documents.price_includes_tax,
        documents.is_cancellation,
        coalesce(documents.status in ('test', 'fraud', 'cancelled'), false) or documents.is_contradictory as is_void,
        documents.accepts_marketing,

        documents.ordered_on,

        documents.ordered_at,
        documents.known_at
    from with_currency as documents
    left join rates
        on
            documents.currency = rates.currency
            and documents.ordered_on >= rates.valid_from
            and documents.ordered_on < rates.valid_to
            and not documents.is_base_currency
)

select * from keyed
