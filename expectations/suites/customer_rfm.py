"""marts.customer_rfm: recency, frequency and monetary value."""

from __future__ import annotations

from expectations.rules import Suite, between, given, has_rows, never, none_from, none_where, one_of

KEYS = ("customer_id", "as_of")
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
    """One row per customer and as_of with an order in the window."""
    return Suite(
        group="marts",
        table="marts.customer_rfm",
        keys=KEYS,
        rules=(
            has_rows(),
            *map(given, ("r_score", "f_score", "m_score", "value_tier")),
            one_of("rfm_segment", SEGMENTS),
            between("recency_days", 0, None),
            between("frequency", 1, None),
            none_where(
                "orders_at_least_frequency",
                "orders < frequency",
                "A customer has at least as many orders as order dates",
            ),
            between(
                "monetary", -100_000, 10_000_000, reason="Wholesale customers exist; scores go by rank and bear them."
            ),
            between("average_order_value", 0, 1_000_000, reason="Likewise; it decides no score but by rank."),
            none_where(
                "customer_exists",
                "customer_id not in (select customer_id from marts.dim_customers)",
                "Every customer scored is in dim_customers",
            ),
            never(
                "scores_tell_customers_apart",
                "count(*) filter (where is_current) >= 100"
                " and (count(distinct r_score) filter (where is_current) < 3"
                " or count(distinct m_score) filter (where is_current) < 3)",
                "Fewer than three different scores now among a hundred customers or more",
                reason="The fit is probably outdated; refitting is a decision, and changes every score.",
            ),
            none_from(
                "no_recency_score_dominates",
                "select r_score from {table} where is_current group by r_score"
                " having count(*) > 0.6 * (select count(*) from {table} where is_current) and count(*) >= 100",
                "No recency score has more than 60 % of the customers now",
                reason="The fit is outdated, or orders are missing: a person says which.",
            ),
        ),
    )
