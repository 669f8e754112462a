"""What the classifiers are worth: each against recency alone, against a perfect model, and against who knows the truth.

Run: python -m tests.benchmarks.bench_classifiers HOME [HOME ...] [--everybody]

Each home has been built (`mailwright refresh`, or `dbt build`), and is only read. Of the simulated retailer the truth
is known, and an oracle is scored with it: it knows each customer's order rate, season and dropout probability, and in
its second form also who has left for good. It does not know of the stores and of orders that messages caused.
"""

from __future__ import annotations

import argparse
import resource
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from ml import evaluation
from ml.candidates import threads
from ml.classification import Classifier, Development, develop
from ml.classifiers import TRAITS, read_rows
from ml.features import current_as_of
from ml.model import Refused
from ml.models.churn import CHURN
from ml.models.purchase import PURCHASE_30, PURCHASE_90

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pandas as pd

MODELS = tuple(model.classifier for model in (CHURN, PURCHASE_30, PURCHASE_90))
SCORED = 1_000_000


def main() -> None:
    """Read the command line and print one block per home and model."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench_classifiers", description=__doc__)
    parser.add_argument("homes", nargs="+", type=Path)
    parser.add_argument(
        "--everybody", action="store_true", help="also who may not be profiled: figures only, no scores"
    )
    parser.add_argument("--models", nargs="+", default=[model.name for model in MODELS])
    given = parser.parse_args()
    for home in given.homes:
        for model in MODELS:
            if model.name in given.models:
                bench(home, model, everybody=given.everybody)


def bench(home: Path, model: Classifier, *, everybody: bool = False) -> None:
    """Develop one model on one home and print its figures."""
    import duckdb

    connection = duckdb.connect(str(home / "warehouse.duckdb"), read_only=True)
    connection.execute("set threads = 1")
    as_of, as_of_on = current_as_of(connection)
    known, current = read_rows(connection, model, as_of, everybody=everybody)
    print(
        f"\n{model.name} on {home}, as of {as_of_on}: {len(known):,} known rows, {len(current):,} to score", flush=True
    )
    start = _cpu()
    try:
        made = develop(model, known, current, as_of_on, traits=TRAITS)
    except Refused as reason:
        print(f"  refused: {reason}")
        return
    print(f"  developed in {_cpu() - start:.0f} CPU s, {_memory():.1f} GB at most")
    _say(made)
    if (home / "truth" / "processes.parquet").exists():
        _say_oracle(connection, home / "truth", model, made, known)
    _say_speed(made, current)
    connection.close()


def _say(made: Development) -> None:
    model, baseline = made.comparison.model, made.comparison.baseline
    calibration = model.calibration
    split = made.plan.split
    print(
        f"  learned {split.learned[0]} to {split.learned[-1]} ({len(split.learned)}), judged on {split.judged}:"
        f" {model.customers:,} customers, base rate {model.base_rate:.3f}"
    )
    print(
        f"  {made.recipe.candidate}, {made.recipe.calibration} on {made.recipe.scope}; {len(made.plan.features)} features"
        f" of at most {made.plan.window_days} days"
    )
    print(f"  {made.explanation}")
    print(
        f"  ECE {calibration.ece:.4f} (a perfect model {calibration.perfect_ece.value:.4f}, up to"
        f" {calibration.perfect_ece.high:.4f}), slope {calibration.slope:.3f} (perfect {calibration.perfect_slope.low:.3f}"
        f" to {calibration.perfect_slope.high:.3f}), intercept {calibration.intercept:+.3f}"
    )
    print(
        f"  lift in the top tenth {model.lift.value:.2f} of {model.lift.ceiling:.2f} possible, the baseline"
        f" {baseline.lift.value:.2f}; ECE of the baseline {baseline.calibration.ece:.4f}"
    )
    for line in calibration.reliability:
        print(
            f"    {line.low:.1f}-{line.high:.1f} {line.customers:>7,} predicted {line.predicted:.3f} observed {line.observed:.3f}"
        )
    print("  base rates", " ".join(f"{rate.anchor}:{rate.rate:.3f}" for rate in made.base_rates))
    print("  importance", " ".join(f"{name}:{share:.2f}" for name, share in made.importance[:8]))
    for trial in made.trials:
        print(f"    tried {trial.option} on {trial.period}: {trial.figure:.4f}")
    for group in made.subgroups:
        if group.ece is not None:
            print(f"    {group.trait} {group.value}: {group.customers:,} AUC {group.auc or 0:.3f} ECE {group.ece:.3f}")


def _say_oracle(
    connection: duckdb.DuckDBPyConnection, truth: Path, model: Classifier, made: Development, known: pd.DataFrame
) -> None:
    """Score the evaluation's customers with the truth, and print how far the model is from that."""
    import numpy as np

    rows = known[known["as_of_on"].dt.date == made.plan.split.judged].merge(_truth(connection, truth), on="customer_id")
    outcome = rows["outcome"].to_numpy(dtype=bool)
    with threads():
        model_scores, recency = made.judged.probabilities(rows), made.baseline.probabilities(rows)
    for name, knows_who_left in (("who knows the process", False), ("who knows also who has left", True)):
        bought = oracle(rows, made.plan.split.judged, model.horizon_days, knows_who_left=knows_who_left)
        oracle_scores = np.clip(bought if model.target == "outcome.bought" else 1 - bought, 0, 1)
        aucs = [evaluation.auc(outcome, scores) for scores in (oracle_scores, model_scores, recency)]
        briers = [evaluation.brier(outcome, scores) for scores in (oracle_scores, model_scores, recency)]
        print(
            f"  oracle {name}, {len(rows):,} customers: AUC {aucs[0]:.3f}, the model {aucs[1]:.3f} ({aucs[1] - aucs[0]:+.3f}),"
            f" recency {aucs[2]:.3f}; Brier {briers[0]:.4f}, {briers[1]:.4f}, {briers[2]:.4f}"
        )


def oracle(rows: pd.DataFrame, at: date, horizon_days: int, *, knows_who_left: bool) -> np.ndarray:
    """Probability of an order within the horizon by the process that made the orders.

    In the time of the customer's season orders are a Poisson process; after each the customer leaves with their own
    probability p. Silent for a while t at rate r, they are still there with probability (1 - p) exp(-r t) over that plus p.
    """
    import numpy as np

    from samples.simulated import SCOPE, seasons

    curves = dict(zip(("whole year", "spring", "autumn"), seasons(), strict=True))
    day = (at - SCOPE.start.date()).days
    found = np.zeros(len(rows))
    age = rows["age_days"].to_numpy(dtype=int)
    for season, curve in curves.items():
        chosen = (rows["season"] == season).to_numpy()
        last = curve[np.clip(day - age[chosen], 0, len(curve) - 1)]
        silent = (curve[day] - last) / 365
        ahead = (curve[min(day + horizon_days, len(curve) - 1)] - curve[day]) / 365
        rate = rows.loc[chosen, "orders_a_year"].to_numpy()
        leaves = rows.loc[chosen, "dropout_probability"].to_numpy()
        if knows_who_left:
            stays = (rows.loc[chosen, "is_alive"] | (rows.loc[chosen, "last_order_on"].dt.date >= at)).to_numpy(
                dtype=float
            )
        else:
            silence = (1 - leaves) * np.exp(-rate * silent)
            stays = silence / (leaves + silence)
        found[chosen] = stays * (1 - np.exp(-rate * ahead))
    return found


def _truth(connection: duckdb.DuckDBPyConnection, truth: Path) -> pd.DataFrame:
    """The process behind each customer who is exactly one person, with their last order that no message caused."""
    return connection.execute(
        """
        with persons as (
            select identifiers.customer_id, people.person_id, people.is_alive, processes.*
            from marts.customer_identifiers as identifiers
            inner join read_parquet($people) as people on people.customer_ref = identifiers.identifier
            inner join read_parquet($processes) as processes using (person_id)
            where identifiers.source = 'shop' and identifiers.identifier_type = 'customer_ref'
        ),
        last_orders as (
            select customer_id, max(ordered_on) as last_order_on
            from marts.fct_orders
            where source = 'shop' and order_id not in (select order_id from read_parquet($caused))
            group by customer_id
        )
        select
            customer_id, any_value(is_alive) as is_alive, any_value(season) as season,
            any_value(orders_a_year) as orders_a_year, any_value(dropout_probability) as dropout_probability,
            any_value(last_order_on)::timestamp as last_order_on
        from persons inner join last_orders using (customer_id)
        group by customer_id
        having count(distinct person_id) = 1
        """,
        {name: str(truth / f"{file}.parquet") for name, file in
         (("people", "people"), ("processes", "processes"), ("caused", "caused_orders"))},
    ).df()  # fmt: skip


def _say_speed(made: Development, current: pd.DataFrame) -> None:
    import pandas as pd

    many = pd.concat([current] * -(-SCORED // len(current)), ignore_index=True).head(SCORED)
    with threads():
        start = _cpu()
        made.fitted.probabilities(many)
        alone = _cpu() - start
        start = _cpu()
        scored = made.fitted.score(many)
    print(
        f"  {SCORED:,} customers scored in {alone:.1f} CPU s, with reasons in {_cpu() - start:.1f}, {_memory():.1f} GB at"
        f" most; {(scored['score'] > 0.7).mean():.1%} above .7"
    )


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


if __name__ == "__main__":
    main()
