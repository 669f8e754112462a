"""marts.customer_rfm: recency, frequency and monetary value."""

from __future__ import annotations

from expectations.rules import Suite, between, given, has_rows, none_from, none_where, one_of, unique

KEYS = ("customer_id",)
SCORES = (1, 2, 3, 4, 5)
SEGMENTS = (
    "inactive",
    "lapsed_loyal",
    "hibernating",
    "at_risk",
    "cant_lose",
    "about_to_sleep",
    "need_attention",
    "loyal",
    "promising",
    "new",
    "potential_loyalist",
    "champions",
)


def suite() -> Suite:
    """One row per customer with an order in the window."""
    return Suite(
        group="marts",
        table="marts.customer_rfm",
        keys=KEYS,
        rules=(
            has_rows(),
            given("customer_id"),
            unique("customer_id"),
            *(rule for score in ("r_score", "f_score", "m_score") for rule in (given(score), one_of(score, SCORES))),
            given("rfm_segment"),
            one_of("rfm_segment", SEGMENTS),
            given("value_tier"),
            one_of("value_tier", ("top", "high", "middle", "low")),
            between("recency_days", 0, None),
            between("frequency", 1, None),
            none_where(
                "orders_at_least_frequency",
                "guarded.orders < guarded.frequency",
                KEYS,
                "critical",
                "A customer has at least as many orders as order dates.",
            ),
            between("monetary", -100_000, 10_000_000, "warning"),
            between("average_order_value", 0, 1_000_000, "warning"),
            none_where(
                "customer_exists",
                "not exists"
                " (select 1 from marts.dim_customers as customers where customers.customer_id = guarded.customer_id)",
                KEYS,
                "critical",
                "Every customer scored is in dim_customers.",
            ),
            none_from(
                "scores_tell_customers_apart",
                "select 1 as uniform from {batch} having count(*) >= 100 and (count(distinct r_score) < 3"
                " or count(distinct m_score) < 3)",
                "warning",
                "Fewer than three different scores among a hundred customers or more: the fit is probably outdated.",
                names_rows=False,
            ),
            none_from(
                "no_recency_score_dominates",
                "select r_score from {batch} group by r_score"
                " having count(*) > 0.6 * (select count(*) from {batch}) and count(*) >= 100",
                "warning",
                "One recency score for more than 60 % of customers: the fit is outdated, or orders are missing.",
                names_rows=False,
            ),
        ),
    )
