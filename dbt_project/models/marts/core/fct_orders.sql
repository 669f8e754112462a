{{ config(materialized="view") }}

with

versions as (
    select * from {{ ref("int_order_versions") }}
),

standing as (
    select
        versions.order_key,
        versions.source,
        versions.order_id,
        versions.identifier_id,
        versions.customer_id,

        versions.status,
        versions.channel,
        versions.currency,
        versions.country_code,
        versions.coupon,

        versions.line_count,
        versions.units,
        versions.gross_amount,
        versions.discount_amount,
        versions.tax_amount,
        versions.net_amount,
        versions.amount_base,

        {{ reversed_at("versions", clock_as_of()) }} as is_reversed,

        versions.ordered_on,

        versions.ordered_at,
        versions.first_known_at as known_at,
        case when {{ reversed_at("versions", clock_as_of()) }} then versions.reversed_known_at end as reversed_known_at
    from versions
    where {{ stands_at("versions", clock_as_of()) }}
)

select * from standing
