from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from ml.drift import Drift, measure, reference_of

GENERATOR = np.random.default_rng(1)
TRAINING = pd.DataFrame(
    {
        "spend": GENERATOR.lognormal(3.0, 1.0, 20_000),
        "orders": GENERATOR.poisson(1.2, 20_000).astype(float),
        "gap": np.where(GENERATOR.random(20_000) < 0.4, np.nan, GENERATOR.exponential(30, 20_000)),
        "constant": np.zeros(20_000),
    }
)


def drift_of(column: str, now: pd.DataFrame) -> Drift:
    reference = json.loads(json.dumps(reference_of(TRAINING, list(TRAINING.columns))))
    return {drift.column: drift for drift in measure(reference, now)}[column]


def test_what_was_drawn_alike_gives_no_alarm() -> None:
    again = TRAINING.sample(5_000, random_state=2)
    for column in TRAINING.columns:
        drift = drift_of(column, again)
        assert drift.psi < 0.02
        assert not drift.is_alarm
        assert not drift.is_warning


def test_rows_as_in_training_do_not_differ_at_all() -> None:
    for drift in measure(reference_of(TRAINING, ["spend", "orders", "gap"]), TRAINING):
        assert (drift.psi, drift.statistic) == (0.0, 0.0)


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_a_shift_is_an_alarm_in_either_direction(factor: float) -> None:
    assert drift_of("spend", TRAINING.assign(spend=TRAINING["spend"] * factor)).is_alarm


def test_a_source_that_falls_away_is_an_alarm() -> None:
    drift = drift_of("gap", TRAINING.assign(gap=np.nan))
    assert drift.is_alarm
    assert drift.null_then == pytest.approx(0.4, abs=0.01)
    assert drift.null_now == 1.0


def test_a_tiny_difference_in_many_rows_is_none() -> None:
    many = pd.DataFrame({"spend": GENERATOR.lognormal(3.0, 1.0, 1_000_000) * 1.05})
    drift = measure(reference_of(many / 1.05, ["spend"]), many)[0]
    assert drift.statistic > drift.critical
    assert not drift.is_alarm
    assert not drift.is_warning


def test_a_large_difference_in_few_rows_is_none() -> None:
    assert not drift_of("spend", TRAINING.assign(spend=TRAINING["spend"] * 3).head(3)).is_alarm


def test_the_index_is_that_of_the_formula() -> None:
    training = pd.DataFrame({"x": [0.0] * 50 + [1.0] * 50})
    now = pd.DataFrame({"x": [0.0] * 20 + [1.0] * 80})
    drift = measure(reference_of(training, ["x"]), now)[0]
    assert drift.psi == pytest.approx((0.2 - 0.5) * math.log(0.2 / 0.5) + (0.8 - 0.5) * math.log(0.8 / 0.5), abs=1e-4)
    assert drift.statistic == pytest.approx(0.3)


def test_a_feature_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="gap was there in training"):
        drift_of("spend", TRAINING.drop(columns="gap"))
