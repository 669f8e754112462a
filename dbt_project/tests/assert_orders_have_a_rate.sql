-- A failure means that orders are in a currency for which no exchange rate was delivered, so that they add nothing to
-- any sum. Deliver shop.exchange_rates from that currency to the reporting currency, or correct MAILWRIGHT_CURRENCY.
select
    order_key,
    currency
from {{ ref("fct_orders") }}
where amount_base is null
