-- A failure means that an order's money is not that of its lines, or that lines of sale stand without an order.
with

lines as (
    select
        order_key,
        sum(amount) as gross_amount,
        sum(amount_base) as amount_base
    from {{ ref("fct_order_lines") }}
    where line_type = 'sale'
    group by order_key
)

select
    orders.order_key,
    lines.order_key as order_key_of_lines
from {{ ref("fct_orders") }} as orders
full outer join lines on orders.order_key = lines.order_key
where
    orders.order_key is null
    or lines.order_key is null
    or orders.gross_amount <> lines.gross_amount
    or orders.amount_base is distinct from lines.amount_base
