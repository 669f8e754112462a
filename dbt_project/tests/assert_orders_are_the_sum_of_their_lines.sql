-- A failure means that an order's money is not that of its lines, or that lines of sale stand without an order.
with

lines as (
    select
        line_set_id,
        sum(amount) as gross_amount,
        sum(amount_base) as amount_base
    from {{ ref("int_order_lines") }}
    where line_type = 'sale' and superseded_at is null
    group by line_set_id
),

orders as (
    select *
    from {{ ref("int_orders") }}
    where superseded_at is null
)

select
    orders.order_id,
    lines.line_set_id
from orders
full outer join lines on orders.line_set_id = lines.line_set_id
where
    orders.line_set_id is null
    or lines.line_set_id is null
    or orders.gross_amount <> lines.gross_amount
    or orders.amount_base is distinct from lines.amount_base
