-- A failure means that orders are in a currency for which no exchange rate was delivered, so that they add nothing to
-- any sum. Deliver shop.exchange_rates from that currency to the reporting currency, or correct MAILWRIGHT_CURRENCY.
select
    orders.source,
    orders.order_id,
    orders.currency
from {{ ref("int_orders") }} as orders
where orders.amount_base is null and {{ stands_at("orders", clock_as_of()) }}
