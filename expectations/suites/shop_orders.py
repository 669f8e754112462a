"""The lake's shop.orders: order documents as delivered, re-deliveries included."""

from __future__ import annotations

from core.contract import load_contract
from expectations.rules import ROW, Suite, between, contract_rules, given, has_rows, none_from, none_where


def suite() -> Suite:
    """One row per order document and delivery."""
    return Suite(
        group="raw",
        table="lake_shop.orders",
        keys=ROW,
        rules=(
            has_rows(),
            *contract_rules(load_contract().table("shop", "orders")),
            none_from(
                "order_once_per_delivery",
                "select delivery_id, row_number from {batch}"
                " qualify count(*) over (partition by delivery_id, order_id) > 1",
                "warning",
                "A delivery tells an order once; of a repeated one the last row counts.",
            ),
            none_where(
                "order_has_lines",
                "not exists (select 1 from lake_shop.order_lines as lines where lines.order_id = guarded.order_id)",
                ROW,
                "warning",
                "An order without lines has no value and becomes no order.",
            ),
            between(
                "ordered_at",
                "1990-01-01",
                "2100-01-01",
                "critical",
                share=0.99,
            ),
            given("customer_ref", "warning", share=0.5),
            none_where(
                "currency_is_a_code",
                "not regexp_matches(trim(guarded.currency), '^[A-Za-z]{{3}}$')",
                ROW,
                "critical",
                "currency is an ISO 4217 code; another text finds no exchange rate.",
            ),
            none_where(
                "email_has_a_form",
                "not regexp_matches(trim(guarded.email), '^[^@\\s]+@[^@\\s]+[.][^@\\s]+$')",
                ROW,
                "warning",
                "email has the form of an address; another one reaches nobody.",
            ),
            between("discount", 0, None, "warning"),
            between("shipping", 0, None, "warning"),
        ),
    )
