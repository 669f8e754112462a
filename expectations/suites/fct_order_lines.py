"""marts.fct_order_lines: every line, also those that do not count."""

from __future__ import annotations

from expectations.rules import Suite, given, has_rows, never, none_from, none_where

KEYS = ("order_line_key",)


def suite() -> Suite:
    """One row per order line."""
    return Suite(
        group="marts",
        table="marts.fct_order_lines",
        keys=KEYS,
        rules=(
            has_rows(),
            given("occurred_at"),
            given("known_at"),
            none_where(
                "sales_are_positive",
                "line_type = 'sale' and (quantity <= 0 or unit_price <= 0)",
                "A sale has a positive quantity and a positive price",
            ),
            none_where(
                "returns_are_negative",
                "line_type = 'return' and amount_base >= 0",
                "A return lowers monetary value",
            ),
            none_where(
                "product_given_for_goods",
                "line_type in ('sale', 'return') and product_id is null",
                "Goods name their product, else reversals can't be found",
            ),
            none_from(
                "orders_add_up",
                "select orders.order_key from marts.fct_orders as orders inner join ("
                "select order_key, sum(quantity * unit_price) as sold from {table} where line_type = 'sale'"
                " group by order_key) as lines using (order_key)"
                " where abs(orders.gross_amount - lines.sold) > 0.01 * greatest(1, orders.line_count)",
                "An order's gross amount is the sum of its lines of goods, but for rounding",
            ),
            never(
                "most_lines_count",
                "count(*) filter (where line_type in ('sale', 'return')) < 0.5 * count(*)",
                "Fewer than half of the lines are goods sold or returned: the mapping of is_goods is probably wrong",
                reason="A shop that mostly sells services or vouchers is possible.",
            ),
        ),
    )
