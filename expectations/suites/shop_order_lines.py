"""The lake's shop.order_lines: lines as delivered, re-deliveries included."""

from __future__ import annotations

from core.contract import load_contract
from expectations.rules import ROW, Suite, between, contract_rules, has_rows, none_from, none_where


def suite() -> Suite:
    """One row per line of an order document and delivery."""
    return Suite(
        group="raw",
        table="lake_shop.order_lines",
        keys=ROW,
        rules=(
            has_rows(),
            *contract_rules(load_contract().table("shop", "order_lines")),
            none_where(
                "line_has_its_order",
                "not exists (select 1 from lake_shop.orders as orders where orders.order_id = guarded.order_id)",
                ROW,
                "warning",
                "The line's order document was delivered; without it the line counts nowhere.",
            ),
            none_from(
                "most_lines_have_their_order",
                "select 1 as too_many from (select * from {batch}) as guarded left join"
                " (select distinct order_id from lake_shop.orders) as orders using (order_id)"
                " having count(*) filter (where orders.order_id is null) > 0.05 * count(*)",
                "critical",
                "More than 5 % of the lines without an order document: a delivery of orders is missing.",
                names_rows=False,
            ),
            none_from(
                "line_number_once_per_order",
                "select delivery_id, row_number from {batch} where line_number is not null"
                " qualify count(*) over (partition by delivery_id, order_id, line_number) > 1",
                "warning",
                "Within an order of a delivery a line_number names one line.",
            ),
            none_where(
                "product_is_in_the_catalogue",
                "exists (select 1 from lake_shop.products) and not exists (select 1 from lake_shop.products as products"
                " where upper(trim(products.product_id)) = upper(trim(guarded.product_id)))",
                ROW,
                "warning",
                "The catalogue, where one is delivered, has the product.",
            ),
            none_where(
                "product_id_is_printable",
                "regexp_matches(guarded.product_id, '[\\x00-\\x1f]') or trim(guarded.product_id) = ''",
                ROW,
                "critical",
                "product_id is text without control characters; another one joins to nothing.",
            ),
            between("quantity", -100_000, 100_000, "warning"),
            between("unit_price", -100_000, 100_000, "warning"),
            none_where(
                "quantity_is_not_zero",
                "guarded.quantity = 0",
                ROW,
                "warning",
                "A line of quantity zero moves neither goods nor money.",
            ),
            none_where(
                "negative_price_is_an_adjustment",
                "guarded.unit_price < 0 and not coalesce(guarded.is_adjustment, false)",
                ROW,
                "warning",
                "Only book-keeping has negative prices; goods coming back have negative quantities.",
            ),
            none_from(
                "returns_are_the_exception",
                "select 1 as too_many from {batch}"
                " having count(*) filter (where quantity < 0 or coalesce(is_cancellation, false)) > 0.3 * count(*)",
                "critical",
                "More than 30 % of the lines are returns: the sign of quantity is probably reversed.",
                names_rows=False,
            ),
            none_from(
                "most_lines_have_a_price",
                "select 1 as too_many from {batch} having count(*) filter (where unit_price = 0) > 0.1 * count(*)",
                "warning",
                "More than 10 % of the lines without a price: they are kept, but count for nothing.",
                names_rows=False,
            ),
        ),
    )
