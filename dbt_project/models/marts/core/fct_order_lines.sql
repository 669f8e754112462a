with

clock as (
    select * from {{ ref("stg_lake__clock") }}
),

documents as (
    select * from {{ ref("int_order_documents") }}
),

products as (
    select * from {{ ref("stg_shop__products") }}
),

identifiers as (
    select * from {{ ref("int_identifiers") }}
),

lines as (
    select
        'shop' as source,
        order_id,
        line_number,
        delivery_id,
        row_number,
        product_id,
        quantity,
        unit_price,
        discount,
        tax,
        is_goods,
        is_cancellation,
        is_adjustment,
        occurred_at,
        known_at
    from {{ ref("stg_shop__order_lines") }}

    union all

    select
        'pos' as source,
        sale_id as order_id,
        line_number,
        delivery_id,
        row_number,
        product_id,
        quantity,
        unit_price,
        discount,
        cast(0 as decimal(18, 4)) as tax,
        is_goods,
        false as is_cancellation,
        false as is_adjustment,
        sold_at as occurred_at,
        known_at
    from {{ ref("stg_pos__sales") }}
),

repeated_numbers as (
    select
        source,
        order_id,
        line_number
    from lines
    where line_number is not null
    group by
        source,
        order_id,
        line_number
    having count(*) > 1
),

typed as (
    select
        documents.order_key || '|' || case
            when lines.line_number is not null and repeated_numbers.line_number is null
                then cast(lines.line_number as varchar)
            else lines.delivery_id || '.' || cast(lines.row_number as varchar)
        end as order_line_key,
        documents.order_key,
        documents.source,
        documents.order_id,
        lines.line_number,
        lines.product_id,
        documents.identifier_id,
        case
            when lines.is_adjustment then 'adjustment'
            when documents.is_void then 'void'
            when not coalesce(lines.is_goods, products.is_goods, true) then 'not_goods'
            when lines.unit_price <= 0 then 'unpriced'
            when lines.quantity = 0 then 'unpriced'
            when lines.quantity < 0 or lines.is_cancellation or documents.is_cancellation then 'return'
            else 'sale'
        end as line_type,
        documents.is_cancellation,
        lines.quantity,
        lines.unit_price,
        cast(lines.quantity * lines.unit_price as decimal(18, 4)) as price,
        abs(lines.discount) as line_discount,
        case when documents.price_includes_tax then abs(lines.tax) else 0 end as tax_amount,
        abs(documents.discount) as order_discount,
        documents.rate_to_base,
        coalesce(lines.occurred_at, documents.ordered_at) as occurred_at,
        greatest(lines.known_at, coalesce(lines.occurred_at, documents.ordered_at)) as known_at
    from lines
    inner join documents on lines.source = documents.source and lines.order_id = documents.order_id
    left join products on lines.product_id = products.product_id
    left join repeated_numbers
        on
            lines.source = repeated_numbers.source
            and lines.order_id = repeated_numbers.order_id
            and lines.line_number = repeated_numbers.line_number
),

known as (
    select typed.*
    from typed
    inner join clock on typed.known_at < clock.as_of
),

-- The discount of a whole order is spread over its goods by amount. Rounding the running share, not each share, makes
-- the parts add up to the whole.
discounted as (
    select
        order_line_key,
        order_discount,
        cast(sum(abs(price)) over (partition by order_key) as decimal(18, 4)) as total,
        cast(sum(abs(price)) over (
            partition by order_key order by order_line_key rows unbounded preceding
        ) as decimal(18, 4)) as running,
        cast(abs(price) as decimal(18, 4)) as price
    from known
    where order_discount > 0 and line_type = case when is_cancellation then 'return' else 'sale' end
),

shares as (
    select
        order_line_key,
        cast(round(least(order_discount, total) * running / total, 4) as decimal(18, 4))
        - cast(round(least(order_discount, total) * (running - price) / total, 4) as decimal(18, 4)) as order_discount
    from discounted
),

amounts as (
    select
        known.*,
        case
            when known.line_type = 'return' then -abs(known.price)
            else known.price
        end as amount,
        case
            when known.line_type in ('sale', 'return') then known.line_discount + coalesce(shares.order_discount, 0)
            else 0
        end as discount_amount,
        case when known.line_type = 'return' then -1 else 1 end as direction
    from known
    left join shares on known.order_line_key = shares.order_line_key
),

attributed as (
    select
        amounts.order_line_key,
        amounts.order_key,
        amounts.source,
        amounts.order_id,
        amounts.line_number,
        amounts.product_id,
        amounts.identifier_id,
        identifiers.customer_id,

        amounts.line_type,

        amounts.quantity,
        amounts.unit_price,
        cast(amounts.amount as decimal(18, 4)) as amount,
        cast(amounts.discount_amount as decimal(18, 4)) as discount_amount,
        cast(amounts.tax_amount as decimal(18, 4)) as tax_amount,
        cast(
            amounts.amount - amounts.direction * (amounts.discount_amount + amounts.tax_amount) as decimal(18, 4)
        ) as net_amount,
        cast(
            cast(
                amounts.amount - amounts.direction * (amounts.discount_amount + amounts.tax_amount) as decimal(18, 4)
            ) * amounts.rate_to_base as decimal(18, 4)
        ) as amount_base,

        {{ to_local_date("amounts.occurred_at") }} as occurred_on,

        amounts.occurred_at,
        amounts.known_at
    from amounts
    left join identifiers on amounts.identifier_id = identifiers.identifier_id
)

select * from attributed
