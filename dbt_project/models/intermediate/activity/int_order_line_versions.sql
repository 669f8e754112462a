{{ config(materialized="view") }}

with

lines as (
    select * from {{ ref("int_order_lines") }}
),

versions as (
    select
        identifiers.customer_id,
        lines.identifier_id,
        lines.source || '|' || lines.order_id || '|' || case
            when lines.line_number is not null and not lines.is_repeated_number
                then cast(lines.line_number as varchar)
            else lines.delivery_id || '.' || cast(lines.row_number as varchar)
        end as order_line_key,
        lines.source || '|' || lines.order_id as order_key,
        lines.order_id,
        lines.line_number,

        lines.source,
        lines.channel,
        lines.product_id,
        lines.category,
        lines.line_type,

        lines.quantity,
        lines.unit_price,
        lines.amount,
        lines.discount_amount,
        lines.tax_amount,
        lines.net_amount,
        lines.amount_base,

        lines.occurred_on,

        lines.occurred_at,
        lines.first_known_at,
        lines.known_at,
        lines.superseded_at
    from lines
    left join {{ ref("int_identifiers") }} as identifiers
        on lines.identifier_id = identifiers.identifier_id
)

select * from versions
