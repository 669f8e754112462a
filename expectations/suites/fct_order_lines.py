"""marts.fct_order_lines: every line, also those that do not count."""

from __future__ import annotations

from expectations.rules import Suite, given, has_rows, none_from, none_where, one_of, unique

KEYS = ("order_line_key",)
LINE_TYPES = ("sale", "return", "not_goods", "adjustment", "unpriced", "void")


def suite() -> Suite:
    """One row per order line."""
    return Suite(
        group="marts",
        table="marts.fct_order_lines",
        keys=KEYS,
        rules=(
            has_rows(),
            given("order_line_key"),
            unique("order_line_key"),
            given("line_type"),
            one_of("line_type", LINE_TYPES),
            given("occurred_at"),
            given("known_at"),
            none_where(
                "sales_are_positive",
                "guarded.line_type = 'sale' and (guarded.quantity <= 0 or guarded.unit_price <= 0)",
                KEYS,
                "critical",
                "A sale has a positive quantity and a positive price.",
            ),
            none_where(
                "returns_are_negative",
                "guarded.line_type = 'return' and guarded.amount_base >= 0",
                KEYS,
                "critical",
                "A return lowers monetary value.",
            ),
            none_where(
                "product_given_for_goods",
                "guarded.line_type in ('sale', 'return') and guarded.product_id is null",
                KEYS,
                "critical",
                "Goods name their product, else reversals can't be found.",
            ),
            none_from(
                "orders_add_up",
                "select orders.order_key from marts.fct_orders as orders inner join ("
                "select order_key, sum(quantity * unit_price) as sold from {batch} where line_type = 'sale'"
                " group by order_key) as lines using (order_key)"
                " where abs(orders.gross_amount - lines.sold) > 0.01 * greatest(1, orders.line_count)",
                "critical",
                "An order's gross amount is the sum of its lines of goods, but for rounding.",
                names_rows=False,
            ),
            none_from(
                "most_lines_count",
                "select 1 as too_few from {batch} having count(*) filter (where line_type in ('sale', 'return'))"
                " < 0.5 * count(*)",
                "warning",
                "Fewer than half of the lines are goods sold or returned: the mapping of is_goods is probably wrong.",
                names_rows=False,
            ),
        ),
    )
