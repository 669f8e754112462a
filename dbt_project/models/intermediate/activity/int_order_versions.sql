{{ config(materialized="view") }}

with

orders as (
    select * from {{ ref("int_orders") }}
),

versions as (
    select
        identifiers.customer_id,
        orders.identifier_id,
        orders.source || '|' || orders.order_id as order_key,
        orders.order_id,

        orders.source,
        orders.status,
        orders.channel,
        orders.currency,
        orders.country_code,
        orders.coupon,

        orders.line_count,
        orders.units,
        orders.gross_amount,
        orders.discount_amount,
        orders.tax_amount,
        orders.net_amount,
        orders.amount_base,

        orders.ordered_on,

        orders.ordered_at,
        orders.first_known_at,
        coalesce(greatest(orders.known_at, reversals.stands_from), orders.known_at) as known_at,
        coalesce(least(orders.superseded_at, reversals.stands_until), orders.superseded_at, reversals.stands_until)
            as superseded_at,
        reversals.reversed_known_at,
        reversals.reversal_ended_at
    from orders
    left join {{ ref("int_identifiers") }} as identifiers
        on orders.identifier_id = identifiers.identifier_id
    left join {{ ref("int_order_reversals") }} as reversals
        on
            orders.line_set_id = reversals.line_set_id
            and orders.document_known_at = reversals.document_known_at
            -- A version that was reversed twice is two, each with its time.
            and orders.known_at < coalesce(reversals.stands_until, cast('9999-12-31' as timestamp))
            and coalesce(orders.superseded_at, cast('9999-12-31' as timestamp))
            > coalesce(reversals.stands_from, cast('1900-01-01' as timestamp))
)

select * from versions
