{{ config(materialized="incremental", unique_key=["source", "order_id"]) }}
-- depends_on: {{ ref("stg_shop__exchange_rates") }}
-- depends_on: {{ ref("stg_shop__products") }}

{%- set since = last_sequence() %}
{%- set totals %}
        count(*) as line_count,
        cast(sum(lines.quantity) as decimal(18, 4)) as units,
        cast(sum(lines.amount) as decimal(18, 4)) as gross_amount,
        cast(sum(lines.discount_amount) as decimal(18, 4)) as discount_amount,
        cast(sum(lines.tax_amount) as decimal(18, 4)) as tax_amount,
        cast(sum(lines.net_amount) as decimal(18, 4)) as net_amount,
        cast(sum(lines.amount_base) as decimal(18, 4)) as amount_base,
        min(lines.first_known_at) as first_known_at
{%- endset %}

with

{% if is_incremental() -%}
new_rates as (
    select
        from_currency as currency,
        min(known_at) as known_at
    from {{ ref("stg_shop__exchange_rates") }}
    where sequence > {{ since }}
    group by from_currency
),

new_products as (
    select
        product_id,
        min(known_at) as known_at
    from {{ ref("stg_shop__products") }}
    where sequence > {{ since }}
    group by product_id
),

-- Orders of new deliveries, and those that another rate or what the catalogue now says may have changed.
affected as (
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
    inner join new_rates
        on documents.currency = new_rates.currency and documents.known_at >= new_rates.known_at

    union

    select
        lines.source,
        lines.order_id
    from {{ ref("int_order_lines") }} as lines
    inner join new_products
        on lines.product_id = new_products.product_id and lines.document_known_at >= new_products.known_at
),

{% endif -%}
documents as (
    select documents.*
    from {{ ref("int_order_document_versions") }} as documents
    {% if is_incremental() %}
    inner join affected
        on documents.source = affected.source and documents.order_id = affected.order_id
    {% endif %}
),

sale_lines as (
    select lines.*
    from {{ ref("int_order_lines") }} as lines
    {% if is_incremental() %}
    inner join affected
        on lines.source = affected.source and lines.order_id = affected.order_id
    {% endif %}
    where lines.line_type = 'sale'
),

-- An order is known as soon as a line that makes it one.
wholes as (
    select
        lines.line_set_id,
        lines.document_known_at,
        {{- totals }},
        min(lines.known_at) as known_at,
        max(lines.known_at) as whole_at
    from sale_lines as lines
    group by
        lines.line_set_id,
        lines.document_known_at
),

-- Of orders whose lines are of several instants, what they were after each.
instants as (
    select distinct
        lines.line_set_id,
        lines.document_known_at,
        lines.known_at
    from sale_lines as lines
    inner join wholes
        on
            lines.line_set_id = wholes.line_set_id
            and lines.document_known_at = wholes.document_known_at
    where wholes.known_at < wholes.whole_at
),

parts as (
    select
        instants.line_set_id,
        instants.document_known_at,
        {{- totals }},
        instants.known_at,
        lead(instants.known_at) over (
            partition by instants.line_set_id, instants.document_known_at order by instants.known_at
        ) as superseded_at
    from instants
    inner join sale_lines as lines
        on
            instants.line_set_id = lines.line_set_id
            and instants.document_known_at = lines.document_known_at
            and instants.known_at >= lines.known_at
    group by
        instants.line_set_id,
        instants.document_known_at,
        instants.known_at
),

orders as (
    {%- for relation in ["wholes", "parts"] %}
    select
        line_set_id,
        document_known_at,
        line_count,
        units,
        gross_amount,
        discount_amount,
        tax_amount,
        net_amount,
        amount_base,
        first_known_at,
        known_at,
        {{ "superseded_at" if relation == "parts" else "cast(null as timestamp) as superseded_at" }}
    from {{ relation }}
    {{- "\n    where known_at = whole_at\n\n    union all\n" if relation == "wholes" }}
    {%- endfor %}
),

versions as (
    select
        documents.source,
        documents.order_id,
        documents.line_set_id,
        documents.identifier_id,

        documents.status,
        documents.channel,
        documents.currency,
        documents.country_code,
        documents.coupon,

        orders.line_count,
        orders.units,
        orders.gross_amount,
        orders.discount_amount,
        orders.tax_amount,
        orders.net_amount,
        orders.amount_base,

        documents.ordered_on,

        documents.ordered_at,
        orders.document_known_at,
        orders.first_known_at,
        orders.known_at,
        coalesce(orders.superseded_at, documents.superseded_at) as superseded_at
    from documents
    inner join orders
        on
            documents.line_set_id = orders.line_set_id
            and documents.known_at = orders.document_known_at
)

select * from versions
