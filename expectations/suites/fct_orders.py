"""marts.fct_orders: valid orders of every channel."""

from __future__ import annotations

from expectations.rules import Suite, between, given, has_rows, never, none_where

KEYS = ("order_key",)


def suite() -> Suite:
    """One row per valid order."""
    return Suite(
        group="marts",
        table="marts.fct_orders",
        keys=KEYS,
        rules=(
            has_rows(),
            none_where(
                "ordered_before_known",
                "known_at < ordered_at",
                "An order is known no earlier than it happened, else the past learns from the future",
            ),
            given("amount_base"),
            between("amount_base", 0, None),
            none_where(
                "amount_base_is_no_outlier",
                "amount_base > 1000000",
                "No order is above a million: probably a typing error, and it decides every mean",
                reason="Business customers do order for millions; medians and scores by rank bear it.",
            ),
            between("gross_amount", 0, None, above_low=True),
            between("line_count", 1, None),
            between("units", 0, None, above_low=True),
            given(
                "customer_id",
                share=0.5,
                reason="Unattributed orders are counted and shown as a share; they are in no customer's mart.",
            ),
            none_where(
                "customer_exists",
                "customer_id is not null and customer_id not in (select customer_id from marts.dim_customers)",
                "The order's customer is in dim_customers, else its money is in no mart",
            ),
            never(
                "reversals_are_the_exception",
                "count(*) filter (where is_reversed) > 0.25 * count(*)",
                "More than a quarter of the orders reversed: returns are probably matched wrongly",
                reason="A season's returns can come near that where everything is sent back in one parcel.",
            ),
            never(
                "orders_are_recent",
                "max(ordered_at) < (select max(as_of) - interval 30 day from staging.stg_lake__clock)",
                "The newest order is more than 30 days older than as_of: a delivery is probably missing",
                reason="A shop may close for a month, and a past as_of may be asked for on purpose.",
            ),
        ),
    )
