"""marts.customer_lifecycle: the stage that each customer is in."""

from __future__ import annotations

from expectations.rules import Suite, between, given, has_rows, none_from, none_where, one_of, unique

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
            given("customer_id"),
            unique("customer_id"),
            given("stage"),
            one_of("stage", STAGES),
            one_of("previous_stage", STAGES),
            between("age_days", 0, None),
            none_where(
                "prospects_have_no_order",
                "(guarded.stage = 'prospect') <> (coalesce(guarded.order_days, 0) = 0)",
                KEYS,
                "critical",
                "A prospect, and nobody else, is without an order.",
            ),
            none_where(
                "stage_changed_in_the_past",
                "guarded.stage_changed_on > guarded.as_of_on",
                KEYS,
                "critical",
                "Nobody's stage changed after as_of.",
            ),
            none_where(
                "stage_differs_from_the_previous",
                "guarded.stage = guarded.previous_stage",
                KEYS,
                "critical",
                "A stage follows on another one.",
            ),
            none_from(
                "every_customer_has_a_stage",
                "select customers.customer_id from marts.dim_customers as customers"
                " where not exists (select 1 from (select * from {batch}) as guarded where guarded.customer_id = customers.customer_id)",
                "critical",
                "Every customer has exactly one stage.",
            ),
            none_from(
                "not_everyone_is_lost",
                "select 1 as too_many from {batch} having count(*) filter (where stage = 'lost')"
                " > 0.9 * count(*) filter (where stage <> 'prospect') and count(*) >= 100",
                "warning",
                "More than 90 % of customers lost: orders are probably missing.",
                names_rows=False,
            ),
        ),
    )
