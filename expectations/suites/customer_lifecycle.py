"""marts.customer_lifecycle: the stage that each customer is in."""

from __future__ import annotations

from expectations.rules import Suite, between, has_rows, never, none_from, none_where, one_of

KEYS = ("customer_id",)
STAGES = ("prospect", "onboarding", "one_time_lapsed", "re_engaged", "active", "lapsing", "dormant", "lost")


def suite() -> Suite:
    """One row per customer."""
    return Suite(
        group="marts",
        table="marts.customer_lifecycle",
        keys=KEYS,
        rules=(
            has_rows(),
            one_of("previous_stage", STAGES),
            between("age_days", 0, None),
            none_where(
                "prospects_have_no_order",
                "(stage = 'prospect') <> (coalesce(order_days, 0) = 0)",
                "A prospect, and nobody else, is without an order",
            ),
            none_where(
                "stage_changed_in_the_past",
                "stage_changed_on > as_of_on",
                "Nobody's stage changed after as_of",
            ),
            none_where(
                "stage_differs_from_the_previous",
                "stage = previous_stage",
                "A stage follows on another one",
            ),
            none_from(
                "every_customer_has_a_stage",
                "select customer_id from marts.dim_customers where customer_id not in (select customer_id from {table})",
                "Every customer has exactly one stage",
            ),
            never(
                "not_everyone_is_lost",
                "count(*) filter (where stage = 'lost') > 0.9 * count(*) filter (where stage <> 'prospect')"
                " and count(*) >= 100",
                "More than 90 % of customers lost: orders are probably missing",
                reason="A shop that has closed looks like this too.",
            ),
        ),
    )
