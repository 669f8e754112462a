from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from ml import candidates
from ml.candidates import CANDIDATES, GroupCalibratedClassifier
from ml.evaluation import auc, calibration
from ml.reasons import contributions, top_reasons

NAMES = ("recency", "spend", "visits", "noise")


def sample(rows: int = 3_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Values with holes, and outcomes: recency raises, spend lowers, and visits only where spend is low; noise nothing."""
    generator = np.random.default_rng(seed)
    values = np.column_stack(
        [
            generator.exponential(60, rows),
            generator.lognormal(3, 1, rows),
            generator.poisson(3, rows),
            generator.normal(size=rows),
        ]
    ).astype(float)
    odds = np.log1p(values[:, 0]) - 0.8 * np.log1p(values[:, 1]) - 0.4 * values[:, 2] * (values[:, 1] < 20)
    outcome = (generator.random(rows) < 1 / (1 + np.exp(-odds))).astype(int)
    values[generator.random(rows) < 0.2, 2] = np.nan
    return values, outcome


@pytest.fixture(autouse=True)
def one_thread():
    with candidates.threads():
        yield


@parametrize_with_checks([GroupCalibratedClassifier()])
def test_it_keeps_the_contract_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", CANDIDATES)
def test_fitting_again_gives_the_same_scores_to_the_last_bit(name):
    values, outcome = sample(1_000)
    groups = np.arange(1_000) // 2
    first, second = (
        GroupCalibratedClassifier(candidates.make(name)).fit(values, outcome, groups).predict_proba(values)
        for _ in range(2)
    )

    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("name", CANDIDATES)
def test_contributions_add_up_to_what_the_candidate_says(name):
    values, outcome = sample()
    pipeline = candidates.make(name).fit(values, outcome)
    added = contributions(pipeline, values)

    said = pipeline.predict_proba(values)[:, 1] if name == "forest" else pipeline.decision_function(values)
    rest = said - added.sum(axis=1)

    assert added.shape == values.shape
    assert np.ptp(rest) < 1e-6  # the same for everybody: the mean in training
    if name != "boosting":
        assert rest[0] == pytest.approx(said.mean(), abs=0.02)


@pytest.mark.parametrize("name", CANDIDATES)
def test_values_missing_only_when_scoring_add_up_too(name):
    values, outcome = sample()
    pipeline = candidates.make(name).fit(values, outcome)
    values[::3, 0] = np.nan
    added = contributions(pipeline, values)
    said = pipeline.predict_proba(values)[:, 1] if name == "forest" else pipeline.decision_function(values)

    assert np.ptp(said - added.sum(axis=1)) < 1e-6


@pytest.mark.parametrize("name", CANDIDATES)
def test_reasons_point_the_way_the_feature_moved_the_score(name):
    values, outcome = sample()
    pipeline = candidates.make(name).fit(values, outcome)
    extreme = np.array([[900.0, 20.0, 3.0, 0.0], [60.0, 2_000.0, 3.0, 0.0]])

    reasons = top_reasons(pipeline, extreme, NAMES)

    assert list(reasons["reason_1"]) == ["recency", "spend"]
    assert list(reasons["direction_1"]) == ["up", "down"]
    everybody = top_reasons(pipeline, values, NAMES)
    assert (everybody["reason_1"] == "noise").mean() < 0.05
    ranked = np.abs(contributions(pipeline, values))
    first = everybody["reason_1"].cat.codes.to_numpy()
    assert np.allclose(ranked[np.arange(len(ranked)), first], ranked.max(axis=1))


def test_fewer_features_than_reasons_leave_the_rest_empty():
    values, outcome = sample()
    pipeline = candidates.make("logistic").fit(values[:, :2], outcome)

    reasons = top_reasons(pipeline, values[:, :2], NAMES[:2])

    assert reasons["reason_2"].notna().all()
    assert reasons[["reason_3", "direction_3"]].isna().all(axis=None)


def test_reasons_of_nobody():
    values, outcome = sample()
    pipeline = candidates.make("boosting").fit(values, outcome)

    assert contributions(pipeline, values[:0]).shape == (0, 4)
    assert len(top_reasons(pipeline, values[:0], NAMES)) == 0


def test_reasons_do_not_depend_on_who_is_scored_beside(monkeypatch):
    values, outcome = sample()
    pipeline = candidates.make("boosting").fit(values, outcome)
    together = top_reasons(pipeline, values, NAMES)
    monkeypatch.setattr("ml.reasons._CHUNK", 700)

    assert together.equals(top_reasons(pipeline, values, NAMES))


@pytest.mark.parametrize("method", candidates.METHODS)
def test_probabilities_mean_what_they_say_on_customers_not_learned_from(method):
    """A forest without calibration is timid, and one calibrated on its own training rows overconfident."""
    values, outcome = sample(6_000)
    later, happened = sample(6_000, seed=1)
    groups = np.arange(6_000) // 3
    fitted = GroupCalibratedClassifier(candidates.make("forest"), method=method).fit(values, outcome, groups)

    found = calibration(happened.astype(bool), fitted.predict_proba(later)[:, 1])

    assert found.slope == pytest.approx(1, abs=0.12)
    assert found.ece < 0.025


def test_customers_whose_rows_repeat_do_not_flatter_the_calibration():
    """Twenty equal rows per customer of pure noise: rows held out by customer show that nothing was learned."""
    generator = np.random.default_rng(0)
    values = np.tile(generator.normal(size=(120, 5)), (20, 1))
    outcome = np.tile(generator.integers(0, 2, 120), 20)
    grouped = GroupCalibratedClassifier(candidates.make("boosting"))

    by_customer = grouped.held_out(values, outcome, np.tile(np.arange(120), 20))
    by_row = grouped.held_out(values, outcome)

    assert auc(outcome.astype(bool), by_row) > 0.9
    assert auc(outcome.astype(bool), by_customer) < 0.65


def test_only_the_chosen_rows_calibrate():
    """Of the second half of the rows the outcome is half as likely: calibrated on it, probabilities are as low."""
    generator = np.random.default_rng(0)
    values, outcome = sample(8_000)
    newer = np.arange(8_000) >= 4_000
    outcome = np.where(newer & (generator.random(8_000) < 0.5), 0, outcome)
    fitted = GroupCalibratedClassifier(candidates.make("logistic")).fit(values, outcome, calibrating=newer)

    assert fitted.predict_proba(values[newer])[:, 1].mean() == pytest.approx(outcome[newer].mean(), abs=0.01)


def test_a_calibration_never_turns_a_ranking_round():
    odds = np.linspace(-3, 3, 100)

    turned = candidates.make_calibrator("sigmoid", odds, (odds < 0).astype(int)).predict(odds)

    assert (np.diff(turned) > 0).all()


def test_an_isotonic_calibration_is_never_certain():
    odds = np.linspace(-3, 3, 100)

    probabilities = candidates.make_calibrator("isotonic", odds, (odds > 0).astype(int)).predict(odds)

    assert 0 < probabilities.min() < probabilities.max() < 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: candidates.make("neural"), "no candidate is called 'neural'"),
        (lambda: candidates.make_calibrator("beta", np.zeros(2), np.array([0, 1])), "no calibration is called 'beta'"),
        (lambda: candidates.make_calibrator("sigmoid", np.zeros(2), np.zeros(2)), "needs both outcomes"),
        (lambda: GroupCalibratedClassifier().fit(np.zeros((9, 1)), np.zeros(9)), "two classes are needed"),
    ],
    ids=["candidate", "calibration", "calibration of one class", "one class"],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
