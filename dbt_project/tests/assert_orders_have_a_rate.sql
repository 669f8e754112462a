-- A failure means that orders are in a currency for which no exchange rate was delivered, so that they add nothing to
-- any sum. Deliver shop.exchange_rates from that currency to the reporting currency, or correct MAILWRIGHT_CURRENCY.
select
    orders.source,
    orders.order_id,
    orders.currency
from {{ ref("int_orders") }} as orders
inner join {{ ref("stg_lake__clock") }} as clock on {{ stands_at("orders", "clock.as_of") }}
where orders.amount_base is null
