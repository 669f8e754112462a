"""marts.fct_orders: valid orders of every channel."""

from __future__ import annotations

from expectations.rules import Suite, between, given, has_rows, none_from, none_where, one_of, unique

KEYS = ("order_key",)


def suite() -> Suite:
    """One row per valid order."""
    return Suite(
        group="marts",
        table="marts.fct_orders",
        keys=KEYS,
        rules=(
            has_rows(),
            given("order_key"),
            unique("order_key"),
            given("ordered_at"),
            given("known_at"),
            one_of("source", ("shop", "pos")),
            none_where(
                "ordered_before_known",
                "guarded.known_at < guarded.ordered_at",
                KEYS,
                "critical",
                "An order is known no earlier than it happened, else the past learns from the future.",
            ),
            given("amount_base"),
            between("amount_base", 0, None),
            none_where(
                "amount_base_is_no_outlier",
                "guarded.amount_base > 1000000",
                KEYS,
                "warning",
                "An order above a million is probably a typing error, and decides every mean.",
            ),
            between("gross_amount", 0, None, strict_low=True),
            between("line_count", 1, None),
            between("units", 0, None, strict_low=True),
            given("customer_id", "warning", share=0.5),
            none_where(
                "customer_exists",
                "guarded.customer_id is not null and not exists"
                " (select 1 from marts.dim_customers as customers where customers.customer_id = guarded.customer_id)",
                KEYS,
                "critical",
                "The order's customer is in dim_customers, else its money is in no mart.",
            ),
            none_from(
                "reversals_are_the_exception",
                "select 1 as too_many from {batch} having count(*) filter (where is_reversed) > 0.25 * count(*)",
                "warning",
                "More than a quarter of the orders reversed: returns are probably matched wrongly.",
                names_rows=False,
            ),
            none_from(
                "orders_are_recent",
                "select 1 as too_old from {batch} having max(ordered_at)"
                " < (select max(as_of) - interval 30 day from staging.stg_lake__clock)",
                "warning",
                "The newest order is more than 30 days older than as_of: a delivery is probably missing.",
                names_rows=False,
            ),
        ),
    )
