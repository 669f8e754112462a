"""shop.order_lines as delivered: what the contract can't say of the lines of order documents."""

from __future__ import annotations

from expectations.rules import between, never, none_where

_HAS_ORDER = "order_id in (select order_id from lake_shop.orders)"

RULES = (
    none_where(
        "line_has_its_order",
        f"not {_HAS_ORDER}",
        "The line's order document was delivered",
        reason="A line without it counts nowhere; a later delivery may bring it.",
    ),
    never(
        "most_lines_have_their_order",
        f"count(*) filter (where not {_HAS_ORDER}) > 0.05 * count(*)",
        "More than 5 % of the lines without an order document: a delivery of orders is missing",
    ),
    none_where(
        "product_is_in_the_catalogue",
        "(select count(*) from lake_shop.products) > 0 and upper(trim(product_id)) not in"
        " (select upper(trim(product_id)) from lake_shop.products where product_id is not null)",
        "The catalogue, where one is delivered, has the product",
        reason="What is sold no more leaves catalogues; its lines count all the same.",
    ),
    none_where(
        "product_id_is_printable",
        r"regexp_matches(product_id, '[\x00-\x1f]') or trim(product_id) = ''",
        "product_id is text without control characters; another one joins to nothing",
    ),
    between("quantity", -100_000, 100_000, reason="Wholesalers exist; a typing error is undone by its cancellation."),
    between(
        "unit_price", -100_000, 100_000, reason="Book-keeping lines are large; they count as neither sale nor return."
    ),
    none_where(
        "quantity_is_not_zero",
        "quantity = 0",
        "A line moves goods",
        reason="One of quantity zero moves neither goods nor money.",
    ),
    none_where(
        "negative_price_is_an_adjustment",
        "unit_price < 0 and not coalesce(is_adjustment, false)",
        "Only book-keeping has negative prices; goods coming back have negative quantities",
        reason="Such a line is kept, flagged and not counted.",
    ),
    never(
        "returns_are_the_exception",
        "count(*) filter (where quantity < 0 or coalesce(is_cancellation, false)) > 0.3 * count(*)",
        "More than 30 % of the lines are returns: the sign of quantity is probably reversed",
    ),
    never(
        "most_lines_have_a_price",
        "count(*) filter (where unit_price = 0) > 0.1 * count(*)",
        "More than 10 % of the lines are without a price",
        reason="Gifts and samples have none: they are kept, but count for nothing.",
    ),
)
