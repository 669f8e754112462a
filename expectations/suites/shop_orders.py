"""shop.orders as delivered: what the contract can't say of order documents."""

from __future__ import annotations

from expectations.rules import between, given, none_where

RULES = (
    none_where(
        "order_has_lines",
        "order_id not in (select order_id from lake_shop.order_lines where order_id is not null)",
        "The order's lines were delivered",
        reason="An order without lines has no value and becomes no order; a later delivery may bring them.",
    ),
    given("customer_ref", share=0.5, reason="Guests are customers too; a shop that has mostly guests is unusual."),
    between("discount", 0, None, reason="A surcharge written as a negative discount is odd, but adds up."),
    between("shipping", 0, None, reason="Shipping is no part of an order's value."),
)
