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
        orders.known_at,
        orders.superseded_at,
        reversals.reversed_known_at,
        reversals.reversal_ended_at
    from orders
    left join {{ ref("int_identifiers") }} as identifiers
        on orders.identifier_id = identifiers.identifier_id
    left join {{ ref("int_order_reversals") }} as reversals
        on
            orders.line_set_id = reversals.line_set_id
            and orders.document_known_at = reversals.document_known_at
)

select * from versions
