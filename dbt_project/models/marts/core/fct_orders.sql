with

clock as (
    select * from {{ ref("stg_lake__clock") }}
),

documents as (
    select * from {{ ref("int_order_documents") }}
),

lines as (
    select * from {{ ref("fct_order_lines") }}
),

-- An order is as old as its earliest line, goods or not, and known as soon as a line that makes it an order.
orders as (
    select
        order_key,
        max(customer_id) as customer_id,
        count(case when line_type = 'sale' then 1 end) as line_count,
        cast(sum(case when line_type = 'sale' then quantity else 0 end) as decimal(18, 4)) as units,
        cast(sum(case when line_type = 'sale' then amount else 0 end) as decimal(18, 4)) as gross_amount,
        cast(sum(case when line_type = 'sale' then discount_amount else 0 end) as decimal(18, 4)) as discount_amount,
        cast(sum(case when line_type = 'sale' then tax_amount else 0 end) as decimal(18, 4)) as tax_amount,
        cast(sum(case when line_type = 'sale' then net_amount else 0 end) as decimal(18, 4)) as net_amount,
        cast(sum(case when line_type = 'sale' then amount_base end) as decimal(18, 4)) as amount_base,
        min(occurred_at) as ordered_at,
        min(case when line_type = 'sale' then known_at end) as known_at
    from lines
    group by order_key
    having count(case when line_type = 'sale' then 1 end) > 0
),

ordered_products as (
    select
        lines.order_key,
        orders.customer_id,
        lines.product_id,
        sum(lines.quantity) as quantity,
        min(orders.ordered_at) as ordered_at,
        min(orders.known_at) as known_at
    from lines
    inner join orders on lines.order_key = orders.order_key
    where lines.line_type = 'sale' and orders.customer_id is not null
    group by
        lines.order_key,
        orders.customer_id,
        lines.product_id
),

returns as (
    select
        customer_id,
        product_id,
        order_line_key,
        abs(quantity) as quantity,
        occurred_at,
        known_at
    from lines
    where line_type = 'return' and customer_id is not null
),

-- How much of each product was back by when, as it became known.
returned as (
    select
        ordered_products.order_key,
        ordered_products.product_id,
        ordered_products.quantity,
        returns.known_at,
        sum(returns.quantity) over (
            partition by ordered_products.order_key, ordered_products.product_id
            order by returns.known_at, returns.order_line_key
            rows unbounded preceding
        ) as returned_quantity
    from ordered_products
    inner join returns
        on
            ordered_products.customer_id = returns.customer_id
            and ordered_products.product_id = returns.product_id
            and returns.occurred_at >= ordered_products.ordered_at
            and returns.occurred_at
            <= {{ dbt.dateadd("day", var("reversal_days"), "ordered_products.ordered_at") }}
),

returned_products as (
    select
        order_key,
        product_id,
        min(known_at) as known_at
    from returned
    where returned_quantity >= quantity
    group by
        order_key,
        product_id
),

product_counts as (
    select
        order_key,
        count(*) as products,
        min(known_at) as known_at
    from ordered_products
    group by order_key
),

reversals as (
    select
        returned_products.order_key,
        greatest(max(returned_products.known_at), min(product_counts.known_at)) as reversed_known_at
    from returned_products
    inner join product_counts on returned_products.order_key = product_counts.order_key
    group by returned_products.order_key
    having count(*) = min(product_counts.products)
),

described as (
    select
        orders.order_key,
        documents.source,
        documents.order_id,
        documents.identifier_id,
        orders.customer_id,

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

        coalesce(reversals.reversed_known_at < clock.as_of, false) as is_reversed,

        {{ to_local_date("orders.ordered_at") }} as ordered_on,

        orders.ordered_at,
        orders.known_at,
        reversals.reversed_known_at
    from orders
    inner join documents on orders.order_key = documents.order_key
    left join reversals on orders.order_key = reversals.order_key
    cross join clock
)

select * from described
