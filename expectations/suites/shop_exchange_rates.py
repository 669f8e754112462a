"""shop.exchange_rates as delivered: what the contract can't say of rates."""

from __future__ import annotations

from expectations.rules import CURRENCY_FORM, between, matches, none_from, none_where

RULES = (
    between("rate", 0, None, above_low=True),
    matches("from_currency_is_a_code", "trim(from_currency)", CURRENCY_FORM, "from_currency is an ISO 4217 code"),
    matches("to_currency_is_a_code", "trim(to_currency)", CURRENCY_FORM, "to_currency is an ISO 4217 code"),
    none_where(
        "own_rate_is_one",
        "upper(trim(from_currency)) = upper(trim(to_currency)) and rate <> 1",
        "A currency is worth one of itself",
    ),
    none_from(
        "rates_do_not_jump",
        "select {keys} from {table}"
        " window pair as (partition by from_currency, to_currency order by rate_on, delivery_id, row_number)"
        " qualify rate > 5 * lag(rate) over pair or rate < 0.2 * lag(rate) over pair",
        "No rate is five times, or a fifth of, the one before it",
        reason="Currencies are reformed; far more often a rate is turned upside down or loses its decimal point.",
    ),
)
