"""staging.stg_shop__products: every version of the catalogue."""

from __future__ import annotations

from expectations.rules import given

RULES = (given("in_stock"), given("is_goods"), given("is_consumable"))
