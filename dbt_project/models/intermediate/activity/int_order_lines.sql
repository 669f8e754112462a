{{ config(materialized="incremental", unique_key=["source", "order_id"]) }}

{%- set since = last_sequence() %}
{#-
    Orders of new deliveries; those that became known when new rates were there; and those that hold a product of which
    the catalogue now says something.
-#}
{%- set affected %}
    select
        source,
        order_id
    from {{ ref("int_order_document_versions") }}
    where header_sequence > {{ since }} or line_sequence > {{ since }}

    union

    select
        documents.source,
        documents.order_id
    from {{ ref("int_order_document_versions") }} as documents
    inner join (
        select
            from_currency as currency,
            min(known_at) as known_at
        from {{ ref("stg_shop__exchange_rates") }}
        where sequence > {{ since }}
        group by from_currency
    ) as new_rates
        on documents.currency = new_rates.currency and documents.known_at >= new_rates.known_at

    union

    select
        lines.source,
        lines.order_id
    from {{ this }} as lines
    inner join (
        select
            product_id,
            min(case when sequence > {{ since }} then known_at end) as known_at,
            min(sequence) > {{ since }} as is_new
        from {{ ref("stg_shop__products") }}
        group by product_id
        having max(sequence) > {{ since }}
    ) as new_products
        on
            lines.product_id = new_products.product_id
            and (lines.document_known_at >= new_products.known_at or new_products.is_new)
{%- endset %}
{#- The first delivery that any of their lines came in. -#}
{%- set first = answer(
    "select min(documents.line_sequence) from " ~ ref("int_order_document_versions") ~ " as documents inner join ("
    ~ affected ~ ") as affected on documents.source = affected.source and documents.order_id = affected.order_id"
) if is_incremental() else none %}
{%- set first = first or 0 %}
{%- set forever = "cast('9999-12-31' as timestamp)" %}
{%- set line_type %}case
            when lines.is_adjustment then 'adjustment'
            when documents.is_void then 'void'
            when not coalesce(lines.is_goods, products.is_goods, true) then 'not_goods'
            when lines.unit_price <= 0 then 'unpriced'
            when lines.quantity = 0 then 'unpriced'
            when lines.quantity < 0 or lines.is_cancellation or documents.is_cancellation then 'return'
            else 'sale'
        end
{%- endset %}
{%- set lines_of_documents %}{{ ref("int_delivered_lines") }} as lines
    inner join documents
        on
            lines.source = documents.source
            and lines.order_id = documents.order_id
            and lines.sequence = documents.line_sequence
            and lines.sequence >= {{ first }}
    left join {{ ref("int_product_versions") }} as products
        on
            lines.product_id = products.product_id
            and documents.known_at >= products.known_at
            and documents.known_at < coalesce(products.superseded_at, {{ forever }})
{%- endset %}

with

{% if is_incremental() -%}
affected as {{ materialized() }} (
    {{ affected }}
),

{% endif -%}
documents as (
    select
        documents.*,
        case
            when documents.currency = clock.currency then cast(1 as decimal(18, 8))
            else rates.rate_to_base
        end as rate_to_base
    from {{ ref("int_order_document_versions") }} as documents
    cross join {{ ref("stg_lake__clock") }} as clock
    left join {{ ref("int_order_rates") }} as rates
        on
            documents.currency = rates.currency
            and documents.ordered_on = rates.ordered_on
            and documents.rates_known_at = rates.rates_known_at
    {% if is_incremental() %}
    inner join affected
        on documents.source = affected.source and documents.order_id = affected.order_id
    {% endif %}
    where documents.line_set_id is not null
),

-- A line is told by its number, where that is its own.
repeated_numbers as (
    select
        documents.line_set_id,
        documents.known_at as document_known_at,
        lines.line_number
    from {{ ref("int_delivered_lines") }} as lines
    inner join documents
        on
            lines.source = documents.source
            and lines.order_id = documents.order_id
            and lines.sequence = documents.line_sequence
            and lines.sequence >= {{ first }}
    where documents.may_repeat_numbers
    group by
        documents.line_set_id,
        documents.known_at,
        lines.line_number
    having count(*) > 1
),

-- The discount of a whole order is spread over its goods by amount. Rounding the running share, not each share, makes
-- the parts add up to the whole.
discounted_goods as (
    select
        documents.line_set_id,
        documents.known_at as document_known_at,
        lines.row_number,
        case
            when lines.line_number is not null and repeated_numbers.line_number is null
                then cast(lines.line_number as varchar)
            else lines.delivery_id || '.' || cast(lines.row_number as varchar)
        end as line,
        abs(documents.discount) as order_discount,
        abs(cast(lines.quantity * lines.unit_price as decimal(18, 4))) as price
    from {{ lines_of_documents }}
    left join repeated_numbers
        on
            documents.line_set_id = repeated_numbers.line_set_id
            and documents.known_at = repeated_numbers.document_known_at
            and lines.line_number = repeated_numbers.line_number
    where
        documents.discount <> 0
        and {{ line_type }} = case when documents.is_cancellation then 'return' else 'sale' end
),

running as (
    select
        line_set_id,
        document_known_at,
        row_number,
        order_discount,
        price,
        cast(sum(price) over (partition by line_set_id, document_known_at) as decimal(18, 4)) as total,
        cast(sum(price) over (
            partition by line_set_id, document_known_at order by line rows unbounded preceding
        ) as decimal(18, 4)) as running
    from discounted_goods
),

shares as (
    select
        line_set_id,
        document_known_at,
        row_number,
        cast(round(least(order_discount, total) * running / total, 4) as decimal(18, 4))
        - cast(round(least(order_discount, total) * (running - price) / total, 4) as decimal(18, 4)) as order_discount
    from running
),

typed as (
    select
        documents.source,
        documents.order_id,
        documents.line_set_id,
        lines.line_number,
        repeated_numbers.line_number is not null as is_repeated_number,
        lines.delivery_id,
        lines.row_number,
        lines.product_id,
        documents.identifier_id,

        documents.channel,
        products.category,
        {{ line_type }} as line_type,

        lines.quantity,
        lines.unit_price,
        cast(lines.quantity * lines.unit_price as decimal(18, 4)) as price,
        cast(abs(lines.discount) + coalesce(shares.order_discount, 0) as decimal(18, 4)) as discount,
        cast(case when documents.price_includes_tax then abs(lines.tax) else 0 end as decimal(18, 4)) as tax_amount,
        documents.rate_to_base,

        coalesce(lines.occurred_at, documents.ordered_at) as occurred_at,
        documents.known_at as document_known_at,
        documents.first_known_at,
        documents.superseded_at
    from {{ lines_of_documents }}
    left join repeated_numbers
        on
            documents.line_set_id = repeated_numbers.line_set_id
            and documents.known_at = repeated_numbers.document_known_at
            and lines.line_number = repeated_numbers.line_number
    left join shares
        on
            documents.line_set_id = shares.line_set_id
            and documents.known_at = shares.document_known_at
            and lines.row_number = shares.row_number
),

amounts as (
    select
        *,
        case when line_type = 'return' then -abs(price) else price end as amount,
        case
            when line_type in ('sale', 'return') then discount
            else cast(0 as decimal(18, 4))
        end as discount_amount,
        case when line_type = 'return' then -1 else 1 end as direction
    from typed
),

net_amounts as (
    select
        *,
        cast(amount - direction * (discount_amount + tax_amount) as decimal(18, 4)) as net_amount
    from amounts
),

versions as (
    select
        source,
        order_id,
        line_set_id,
        line_number,
        delivery_id,
        row_number,
        product_id,
        identifier_id,

        channel,
        category,
        line_type,

        quantity,
        unit_price,
        cast(amount as decimal(18, 4)) as amount,
        discount_amount,
        tax_amount,
        net_amount,
        cast(net_amount * rate_to_base as decimal(18, 4)) as amount_base,

        is_repeated_number,

        {{ to_local_date("occurred_at") }} as occurred_on,

        occurred_at,
        document_known_at,
        greatest(first_known_at, occurred_at) as first_known_at,
        greatest(document_known_at, occurred_at) as known_at,
        superseded_at
    from net_amounts
    where superseded_at is null or superseded_at > coalesce(occurred_at, document_known_at)
)

select * from versions
