{{ config(materialized="view") }}

with

versions as (
    select * from {{ ref("int_order_document_versions") }}
),

standing as (
    select
        versions.source || '|' || versions.order_id as order_key,
        versions.source,
        versions.order_id,
        versions.identifier_id,
        versions.customer_ref,

        versions.email,
        versions.phone,
        versions.status,
        versions.currency,
        versions.country_code,
        versions.channel,
        versions.coupon,

        versions.discount,

        versions.price_includes_tax,
        versions.is_cancellation,
        versions.is_void,
        versions.accepts_marketing,

        versions.ordered_on,

        versions.ordered_at,
        versions.first_known_at as known_at
    from versions
    where {{ stands_at("versions", clock_as_of()) }}
)

select * from standing
