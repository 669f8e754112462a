"""Suites of what the models say, as it comes back: `stg_ml__*` but for the fits.

Earlier batches were looked at when they were written. So what takes sorting or grouping looks at the newest as_of alone.
"""

from __future__ import annotations

from expectations.rules import Rule, Suite, between, given, none_from, none_where, one_of

LIST_LENGTH = 20
"""Products recommended to a customer, or shown with a product, at most."""


def suites() -> list[Suite]:
    """Each may be without rows: a model that was refused says nothing."""
    return [_scores(), _lifetime_values(), _recommendations(), _similar_products(), _category_affinities()]


def _scores() -> Suite:
    return Suite(
        group="staging",
        table="staging.stg_ml__scores",
        keys=("model", "customer_id", "as_of"),
        rules=(
            _once("customer_scored_once", ("model", "customer_id"), "A model scores a customer once at an as_of"),
            given("as_of"),
            none_where(
                "score_or_label", "score is null and label is null", "Every customer has a score or a label, or no row"
            ),
            none_where("score_is_finite", "not isfinite(score)", "A score is a number, and a finite one"),
            none_where(
                "chance_is_a_probability",
                "(model like 'churn%' or model like 'purchase%') and not coalesce(score between 0 and 1, false)",
                "Scores of churn and of purchases are probabilities",
            ),
            none_where(
                "value_is_not_negative",
                "model like 'clv%' and not coalesce(score >= 0, false)",
                "Nobody is expected to bring less than nothing",
            ),
            none_where(
                "interval_is_one",
                "low > high or (low is null) <> (high is null)",
                "An interval has two ends, and they are in order",
            ),
            none_where(
                "cluster_has_number_and_name",
                "model = 'clusters' and (score < 1 or score <> floor(score) or label is null)",
                "Clusters are numbered from 1, and named",
            ),
            none_where(
                "send_time_is_an_hour_of_the_week",
                "model = 'send_time' and (score not between 0 and 167 or score <> floor(score) or label is null)",
                "Hours of the week go from 0, Monday 00:00, to 167, and are named",
            ),
            none_where(
                "reasons_come_in_order",
                "(reason_1 is null and reason_2 is not null) or (reason_2 is null and reason_3 is not null)",
                "Who has a second reason has a first",
            ),
        ),
        optional=True,
    )


def _lifetime_values() -> Suite:
    return Suite(
        group="staging",
        table="staging.stg_ml__lifetime_values",
        keys=("model", "customer_id", "horizon_days", "as_of"),
        rules=(
            _once(
                "customer_valued_once",
                ("model", "customer_id", "horizon_days"),
                "A model values a customer once over a horizon",
            ),
            between("horizon_days", 1, None),
            none_where(
                "expected_is_not_negative",
                "not coalesce(clv >= 0 and expected_orders >= 0 and expected_spend >= 0, false)",
                "Value, orders and spend expected are given, and no less than nothing",
            ),
            none_where(
                "interval_is_not_negative",
                "not coalesce(0 <= clv_low and clv_low <= clv_high, false)",
                "What a customer will bring lies between two amounts, neither of them negative. What is expected on average"
                " may lie outside of them: most of those who hardly ever come back will bring nothing",
            ),
            between("probability_alive", 0, 1),
        ),
        optional=True,
    )


def _recommendations() -> Suite:
    return Suite(
        group="staging",
        table="staging.stg_ml__recommendations",
        keys=("model", "customer_id", "rank", "as_of"),
        rules=(
            given("product_id"),
            between("rank", 1, LIST_LENGTH),
            _ranked_once("recommended_in_one_order", "customer_id"),
            one_of("source", ("history", "similar", "category", "popular")),
            none_where(
                "reason_is_another_product",
                "because_product_id = product_id and source <> 'history'",
                "A product is recommended because of itself only where it was bought or looked at before",
            ),
        ),
        optional=True,
    )


def _similar_products() -> Suite:
    return Suite(
        group="staging",
        table="staging.stg_ml__similar_products",
        keys=("model", "product_id", "rank", "as_of"),
        rules=(
            between("rank", 1, LIST_LENGTH),
            _ranked_once("shown_in_one_order", "product_id"),
            none_where("goes_with_another", "similar_product_id = product_id", "No product goes with itself"),
        ),
        optional=True,
    )


def _category_affinities() -> Suite:
    return Suite(
        group="staging",
        table="staging.stg_ml__category_affinities",
        keys=("model", "customer_id", "rank", "as_of"),
        rules=(
            given("category"),
            between("rank", 1, None),
            _once(
                "category_ranked_once",
                ("model", "customer_id", "rank"),
                "Each of a customer's categories has a rank of its own",
            ),
            between("affinity", 0, 1),
            none_from(
                "affinities_are_shares",
                f"select model, customer_id from {{table}} where {_NEWEST} group by all having sum(affinity) > 1.001",
                "A customer's affinities are shares of one whole",
            ),
        ),
        optional=True,
    )


_NEWEST = "as_of = (select max(as_of) from {table})"


def _once(name: str, columns: tuple[str, ...], description: str) -> Rule:
    """No two rows of the newest as_of share the values of `columns`."""
    listed = ", ".join(columns)
    return none_from(
        name, f"select {listed} from {{table}} where {_NEWEST} group by {listed} having count(*) > 1", description
    )


def _ranked_once(name: str, whose: str) -> Rule:
    """No two rows of a list of the newest as_of have one rank: each sets a bit, so that no row needs to be sorted."""
    bit = f"(1::bigint << least(greatest(rank, 0), {LIST_LENGTH + 1}))"
    return none_from(
        name,
        f"select model, {whose} from {{table}} where {_NEWEST}"
        f" group by model, {whose} having sum({bit}) <> bit_or({bit})",
        "No two products of a list have the same rank",
    )
