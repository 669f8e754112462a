"""How long lifetime value takes: a million customers with days for times, and CDNOW's sample.

Run: python -m tests.benchmarks.bench_lifetime [--customers 1000000] [--continuous]

Processor seconds, one thread. The floor is what reading the customers costs anybody: sorting their histories once to
find the distinct ones. Figures are printed and never asserted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from tests.benchmarks.measuring import say

if TYPE_CHECKING:
    import pandas as pd

    from ml.estimators.lifetimes import Grouped

CDNOW = Path(__file__).parents[1] / "data" / "cdnow" / "cdnow_sample.csv"
WEEKS = 104


def customers(model: str, number: int, *, continuous: bool) -> pd.DataFrame:
    """Customers over two years who buy as the model of that name has it: times in weeks, whole days but if `continuous`.

    Each model has its own: where customers stop after purchases, Pareto/NBD has no maximum and refuses.
    """
    import numpy as np
    import pandas as pd

    generator = np.random.default_rng(4)
    rate = generator.gamma(0.5, 1 / 8.0, number)
    age = generator.uniform(1, WEEKS, number)
    if model == "BetaGeoNBD":
        bought = np.minimum(generator.poisson(rate * age), generator.geometric(generator.beta(0.8, 2.5, number)))
        observed = age
    else:
        observed = np.minimum(age, generator.exponential(1 / generator.gamma(0.7, 1 / 12.0, number)))
        bought = generator.poisson(rate * observed)
    # Of n instants at random the last one is at the share u ** (1 / n) of the time.
    last = np.where(bought > 0, observed * generator.random(number) ** (1 / np.maximum(bought, 1)), 0.0)
    if not continuous:
        age = np.ceil(age * 7) / 7
        last = np.minimum(np.ceil(last * 7) / 7, age)
    spend = generator.gamma(6.0, 1 / generator.gamma(4.0, 1 / 15.0, number))
    return pd.DataFrame({"frequency": bought, "recency": last, "T": age, "monetary": spend})


def as_features(table: pd.DataFrame) -> pd.DataFrame:
    """The same customers as features say it, of no account type."""
    import numpy as np

    days = np.round(table["T"] * 7)
    return table.assign(
        order_days=table["frequency"] + 1.0,
        orders=table["frequency"] + 1.0,
        tenure_days=days,
        age_days=days - np.round(table["recency"] * 7),
        spend_total=table["monetary"] * (table["frequency"] + 1),
        first_day_spend=table["monetary"],
        account_type=None,
    )


def distinct_histories(table: pd.DataFrame) -> Grouped:
    """What every fit begins with."""
    from ml.estimators.lifetimes import Grouped, read_histories

    return Grouped.of(*read_histories(table))


def cpu_seconds(work: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    """Read the command line, fit, score, print."""
    import pandas as pd

    from ml.estimators.bg_nbd import BetaGeoNBD
    from ml.estimators.gamma_gamma import GammaGamma
    from ml.estimators.lifetime_value import clv
    from ml.estimators.pareto_nbd import ParetoNBD
    from ml.lifetime_methods import REPRESENTATIVES, PurchasesAndSpend

    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench_lifetime", description=__doc__)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--continuous", action="store_true", help="times of which hardly two are equal")
    given = parser.parse_args()
    with threadpool_limits(1):
        sample = pd.read_csv(CDNOW)
        for model in (BetaGeoNBD(), ParetoNBD(), GammaGamma()):
            say(
                f"{type(model).__name__} on the {len(sample):,} of CDNOW",
                cpu_seconds(partial(model.fit, sample)),
                "s",
            )
        for purchases in (BetaGeoNBD(), ParetoNBD()):
            name = type(purchases).__name__
            table = customers(name, given.customers, continuous=given.continuous)
            grouped = distinct_histories(table)
            floor = cpu_seconds(partial(distinct_histories, table))
            say(f"floor: {len(table):,} customers, {len(grouped.weight):,} distinct histories", floor, "s", floor)
            spends = GammaGamma()
            say("GammaGamma.fit", cpu_seconds(partial(spends.fit, table)), "s", floor)
            say(f"{name}.fit", cpu_seconds(partial(purchases.fit, table)), "s", floor)
            score = partial(clv, purchases, spends, table, interval=None)
            say(f"clv of 12 months by {name}, no interval", cpu_seconds(score), "s", floor)
            method = PurchasesAndSpend(name, purchases, {None: spends}, 1.0, 1.0, (1.0, 1.0, 1.0))
            frame = as_features(table)
            whole = partial(method.values, frame, 365, 0.10)
            say(f"{name}, as it scores: with intervals of {REPRESENTATIVES:,} drawn", cpu_seconds(whole), "s", floor)


if __name__ == "__main__":
    main()
