from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from ml import evaluation


def drawn(customers: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes, and the exact probabilities that they were drawn with."""
    generator = np.random.default_rng(seed)
    probabilities = generator.beta(1.2, 2.5, customers)
    return generator.random(customers) < probabilities, probabilities


def distorted(probabilities: np.ndarray, slope: float, shift: float) -> np.ndarray:
    odds = np.log(probabilities / (1 - probabilities))
    return 1 / (1 + np.exp(-(odds - shift) / slope))


@pytest.mark.parametrize("seed", range(5))
def test_auc_by_ranks_agrees_with_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    outcome = generator.random(200) < 0.3
    scores = np.round(generator.random(200) + outcome * 0.2, 1)

    assert evaluation.auc(outcome, scores) == pytest.approx(roc_auc_score(outcome, scores))


def test_a_resample_is_the_auc_of_the_rows_it_drew_ties_included():
    generator = np.random.default_rng(1)
    outcome = generator.random(300) < 0.4
    scores = np.round(generator.random(300) + outcome * 0.3, 1), generator.random(300)

    resampled = evaluation.resampled_aucs(outcome, scores, resamples=20, seed=5)

    again = np.random.default_rng(5)
    for row in resampled:
        rows = again.integers(0, 300, 300)
        assert row == pytest.approx([roc_auc_score(outcome[rows], score[rows]) for score in scores])


def test_the_interval_of_a_gain_holds_the_truth_about_as_often_as_it_says():
    held = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        signal = generator.normal(size=400)
        outcome = generator.random(400) < 1 / (1 + np.exp(-signal))
        # Two equally noisy views of one signal: the gain between them is 0.
        views = [1 / (1 + np.exp(-(signal + generator.normal(size=400)))) for _ in range(2)]
        gain = evaluation.compare(outcome, *views, resamples=100).gain
        held += gain.low <= 0 <= gain.high
    assert 50 <= held <= 60


def test_pairing_makes_the_interval_of_two_like_scores_narrow():
    outcome, probabilities = drawn(2_000)
    nearly = np.clip(probabilities + np.random.default_rng(3).normal(0, 0.01, 2_000), 0, 1)

    compared = evaluation.compare(outcome, probabilities, nearly)

    gain, single = compared.gain, compared.model.auc
    assert gain.high - gain.low < (single.high - single.low) / 5


def test_exact_probabilities_look_calibrated():
    outcome, probabilities = drawn()

    judged = evaluation.judge(outcome, probabilities)

    calibration = judged.calibration
    assert calibration.ece <= calibration.perfect_ece.high
    assert calibration.perfect_slope.low < calibration.slope < calibration.perfect_slope.high
    assert calibration.intercept == pytest.approx(0, abs=0.05)
    assert judged.brier == pytest.approx(brier_score_loss(outcome, probabilities))
    assert judged.auc.low < judged.auc.value < judged.auc.high
    assert sum(row.customers for row in calibration.reliability) == len(outcome)


@pytest.mark.parametrize(
    ("slope", "shift"), [(0.5, 0.0), (2.0, 0.0), (1.0, 0.7)], ids=["overconfident", "timid", "low"]
)
def test_wrong_probabilities_are_found_out(slope, shift):
    outcome, probabilities = drawn()
    wrong = distorted(probabilities, slope, shift)

    calibration = evaluation.calibration(outcome, wrong)

    assert calibration.ece > calibration.perfect_ece.high
    assert calibration.slope == pytest.approx(slope, abs=0.06)
    assert calibration.intercept == pytest.approx(shift, abs=0.06)
    assert evaluation.auc(outcome, wrong) == pytest.approx(evaluation.auc(outcome, probabilities))


def test_the_calibration_line_is_the_maximum_likelihood_one():
    outcome, probabilities = drawn(3_000)
    odds = np.log(probabilities / (1 - probabilities))
    fitted = LogisticRegression(C=1e12, tol=1e-10, max_iter=5_000).fit(odds[:, None], outcome)

    intercept, slope = evaluation.calibration_line(outcome, probabilities)

    assert slope == pytest.approx(fitted.coef_[0, 0], abs=1e-4)
    assert intercept == pytest.approx(fitted.intercept_[0], abs=1e-4)


def test_what_chance_does_to_the_slope_is_what_simulated_outcomes_show():
    _, probabilities = drawn(1_500)
    generator = np.random.default_rng(2)
    slopes = [
        evaluation.calibration_line(generator.random(1_500) < probabilities, probabilities)[1] for _ in range(200)
    ]
    outcome = generator.random(1_500) < probabilities

    perfect = evaluation.calibration(outcome, probabilities).perfect_slope

    assert (perfect.high - perfect.low) / 2 == pytest.approx(1.96 * np.std(slopes), rel=0.15)


def test_a_perfect_model_of_few_customers_shows_more_error_than_one_of_many():
    few, many = (evaluation.calibration(*drawn(customers)).perfect_ece for customers in (300, 30_000))

    assert few.value == pytest.approx(many.value * 10, rel=0.3)  # with the root of their number


def test_equal_probabilities_have_no_slope():
    outcome = np.arange(100) < 30

    intercept, slope = evaluation.calibration_line(outcome, np.full(100, 0.5))

    assert slope == 0
    assert 1 / (1 + np.exp(-intercept)) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("positives", "ceiling"), [(5, 10.0), (50, 2.0)], ids=["fewer than a tenth", "more than a tenth"]
)
def test_lift_of_the_best_ranking_is_its_ceiling(positives, ceiling):
    outcome = np.arange(100) < positives
    lift = evaluation.lift(outcome, np.linspace(1, 0, 100))

    assert lift.value == pytest.approx(ceiling)
    assert lift.ceiling == pytest.approx(ceiling)


@pytest.mark.parametrize("customers", [100, 103])
def test_lift_of_equal_scores_is_one(customers):
    outcome = np.arange(customers) < 20

    assert evaluation.lift(outcome, np.full(customers, 0.4)).value == pytest.approx(1)


def test_subgroups_are_judged_apart_and_small_ones_say_their_size_only():
    outcome, probabilities = drawn(1_000)
    traits = pd.DataFrame({"gender": ["female"] * 600 + ["male"] * 50 + [None] * 350})
    wrong = probabilities.copy()
    wrong[650:] = distorted(probabilities[650:], 1.0, 1.5)

    found = {group.value: group for group in evaluation.by_subgroup(outcome, wrong, traits)}

    assert [found[value].customers for value in ("female", "male", "unknown")] == [600, 50, 350]
    assert found["male"].auc is None
    assert found["male"].ece is None
    assert found["female"].auc == pytest.approx(roc_auc_score(outcome[:600], wrong[:600]))
    unknown, female = found["unknown"], found["female"]
    assert unknown.ece is not None
    assert female.ece is not None
    assert unknown.ece > 2 * female.ece
    assert unknown.predicted is not None
    assert unknown.observed is not None
    assert unknown.predicted < unknown.observed - 0.1


def test_base_rates_by_instant():
    anchors = pd.Series([date(2024, 2, 5), date(2024, 1, 8), date(2024, 1, 8), date(2024, 2, 5)], dtype=object)

    rates = evaluation.base_rates(anchors, pd.Series([True, False, True, True]))

    assert rates == (evaluation.BaseRate(date(2024, 1, 8), 2, 0.5), evaluation.BaseRate(date(2024, 2, 5), 2, 1.0))


@pytest.mark.parametrize(
    ("outcome", "probabilities", "message"),
    [
        (np.ones(5, bool), np.full(5, 0.5), "the same outcome"),
        (np.array([True, False]), np.array([0.5, 1.5]), r"lie in \[0, 1\]"),
        (np.array([True, False]), np.array([0.5, np.nan]), r"lie in \[0, 1\]"),
        (np.array([True, False]), np.array([0.5]), "probabilities"),
        (np.array([1, 0]), np.array([0.5, 0.5]), "not bool"),
    ],
    ids=["one class", "no probability", "unknown", "another shape", "numbers for outcomes"],
)
def test_what_cannot_be_judged_is_refused(outcome, probabilities, message):
    with pytest.raises(ValueError, match=message):
        evaluation.judge(outcome, probabilities)


def test_log_loss_agrees_with_scikit_learn():
    from sklearn.metrics import log_loss

    outcome, probabilities = drawn(2_000)

    assert evaluation.log_loss(outcome, probabilities) == pytest.approx(log_loss(outcome, probabilities))
    assert evaluation.log_loss(np.array([True, False]), np.array([1.0, 0.0])) == pytest.approx(1e-6, rel=1e-3)


def test_the_interval_of_a_difference_in_brier_scores_holds_the_truth():
    outcome, probabilities = drawn()
    blurred = distorted(probabilities, 1.0, 0.5)
    expected = ((blurred - probabilities) ** 2).mean()  # of exact probabilities, whatever the outcomes
    gain = evaluation.compare(outcome, probabilities, blurred).brier_gain

    assert gain.low < expected < gain.high
    assert gain.value == pytest.approx(evaluation.brier(outcome, blurred) - evaluation.brier(outcome, probabilities))
    assert gain.high - gain.low < expected


@pytest.mark.parametrize(
    ("customers", "shift", "is_off"),
    [(4_000, 0.0, False), (4_000, 0.04, False), (4_000, 0.08, True), (40, 0.08, False)],
    ids=["exact", "too little to matter", "off", "within chance"],
)
def test_a_month_is_off_beyond_chance_and_beyond_what_matters(customers, shift, is_off):
    outcome = np.arange(customers) % 2 == 0
    probabilities = np.full(customers, 0.5 + shift)
    (month,) = evaluation.by_month(pd.Series(["2024-03"] * customers), outcome, probabilities)

    assert month.is_off is is_off
    assert month.margin == pytest.approx(1.96 * np.sqrt((0.25 - shift**2) / customers))
    assert month.predicted == pytest.approx(0.5 + shift)
    assert month.observed == 0.5


def test_months_are_judged_apart_in_order_of_time():
    months = pd.Series(["2024-04"] * 3 + ["2024-03"] * 2)
    first, second = evaluation.by_month(
        months, np.array([True, False, True, False, False]), np.array([0.9, 0.1, 0.8, 0.2, 0.4])
    )

    assert (first.month, first.customers, first.observed, first.auc) == ("2024-03", 2, 0.0, None)
    assert (second.month, second.customers, second.auc) == ("2024-04", 3, 1.0)
    assert second.ece == pytest.approx(0.4 / 3)
