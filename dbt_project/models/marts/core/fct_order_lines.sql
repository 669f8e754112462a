{{ config(materialized="view") }}

with

versions as (
    select * from {{ ref("int_order_line_versions") }}
),

standing as (
    select
        versions.order_line_key,
        versions.order_key,
        versions.source,
        versions.order_id,
        versions.line_number,
        versions.product_id,
        versions.identifier_id,
        versions.customer_id,

        versions.category,
        versions.line_type,

        versions.quantity,
        versions.unit_price,
        versions.amount,
        versions.discount_amount,
        versions.tax_amount,
        versions.net_amount,
        versions.amount_base,

        versions.occurred_on,

        versions.occurred_at,
        versions.first_known_at as known_at
    from versions
    where {{ stands_at("versions", clock_as_of()) }}
)

select * from standing
