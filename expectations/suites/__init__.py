"""Every suite, one file per guarded table."""

from __future__ import annotations

from expectations.rules import Group, Guard, Suite
from expectations.suites import (
    customer_lifecycle,
    customer_rfm,
    dim_customers,
    fct_order_lines,
    fct_orders,
    shop_order_lines,
    shop_orders,
    shop_products,
)

_FILES = (
    shop_orders,
    shop_order_lines,
    shop_products,
    fct_orders,
    fct_order_lines,
    dim_customers,
    customer_rfm,
    customer_lifecycle,
)


def suites(group: Group | None = None) -> list[Suite]:
    """The suites of a group, or all of them."""
    return [suite for file in _FILES if (suite := file.suite()).group == group or group is None]


def catalogue() -> list[Guard]:
    """Every check as (group, table, expectation, severity), without importing Great Expectations."""
    return [guard for suite in suites() for guard in suite.guards()]
