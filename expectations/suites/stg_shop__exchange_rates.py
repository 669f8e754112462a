"""staging.stg_shop__exchange_rates: every version of the rates."""

from __future__ import annotations

from expectations.rules import matches

RULES = (
    matches("from_currency_is_normalised", "from_currency", "^[A-Z]{3}$", "from_currency is three capital letters"),
    matches("to_currency_is_normalised", "to_currency", "^[A-Z]{3}$", "to_currency is three capital letters"),
)
