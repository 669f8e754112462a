"""pos.sales as delivered: what the contract can't say of lines of till receipts."""

from __future__ import annotations

from expectations.rules import between, never, none_where

RULES = (
    none_where(
        "product_is_in_the_catalogue",
        "(select count(*) from lake_shop.products) > 0 and upper(trim(product_id)) not in"
        " (select upper(trim(product_id)) from lake_shop.products where product_id is not null)",
        "The shop's catalogue, where one is delivered, has the product",
        reason="Stores sell what the shop does not list; their sales count all the same.",
    ),
    between("quantity", -10_000, 10_000, reason="A typing error at the till is undone by its cancellation."),
    between("unit_price", 0, 100_000, reason="A line of negative price is kept, flagged and not counted."),
    never(
        "returns_are_the_exception",
        "count(*) filter (where quantity < 0) > 0.3 * count(*)",
        "More than 30 % of the lines are returns: the sign of quantity is probably reversed",
    ),
    never(
        "some_customers_are_known",
        "count(*) >= 1000 and count(customer_ref) = 0 and count(email) = 0",
        "Not one of a thousand lines or more names a customer",
        reason="Sales without a customer are counted, in no customer's mart.",
    ),
)
