"""BG/NBD and Pareto/NBD: published figures, slow obvious likelihoods, simulated customers, bad input."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import integrate, stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from sklearn.utils import estimator_checks

from ml.estimators.bg_nbd import BetaGeoNBD, beta_nodes
from ml.estimators.gamma_gamma import GammaGamma
from ml.estimators.lifetimes import FitRefusedError, Grouped, distinct, read_histories
from ml.estimators.pareto_nbd import ParetoNBD, log_tail

MODELS = [pytest.param(BetaGeoNBD, id="bg_nbd"), pytest.param(ParetoNBD, id="pareto_nbd")]
TRUTHS = [
    pytest.param(BetaGeoNBD, "bg_nbd", (0.6, 5.0, 0.8, 2.5), id="bg_nbd"),
    pytest.param(ParetoNBD, "pareto_nbd", (0.9, 8.0, 0.7, 12.0), id="pareto_nbd"),
]


@pytest.fixture(autouse=True)
def no_warnings():
    """An overflow, or a value that is none, is an error in everything that is tested here."""
    with warnings.catch_warnings(), np.errstate(over="raise", invalid="raise", divide="raise"):
        warnings.simplefilter("error")
        yield


@pytest.fixture(scope="module")
def fitted(cdnow):
    return {model: model().fit(cdnow) for model in (BetaGeoNBD, ParetoNBD)}


def at(model: Any, **parameters: float) -> Any:
    """A model with given parameters, as if fitted."""
    given = model()
    given.parameters_ = parameters
    return given


# --- Published figures


def test_bg_nbd_reproduces_fader_hardie_and_lee(fitted):
    model = fitted[BetaGeoNBD]
    assert [round(value, 3) for value in model.parameters_.values()] == pytest.approx([0.243, 4.414, 0.793, 2.426])
    assert round(model.log_likelihood_, 1) == -9582.4


def test_pareto_nbd_reproduces_fader_hardie_and_lee(fitted):
    model = fitted[ParetoNBD]
    assert [round(value, 3) for value in model.parameters_.values()] == pytest.approx(
        [0.553, 10.578, 0.606, 11.669], abs=0.0021
    )
    assert round(model.log_likelihood_, 1) == -9595.0


def test_first_customer_of_cdnow_is_expected_to_buy_1_226_times(fitted):
    """The worked example of the paper's spreadsheet: x = 2, t_x = 30.43, T = 38.86, over the next 39 weeks."""
    one = np.array([[2, 30.43, 38.86]])
    assert fitted[BetaGeoNBD].conditional_expected_purchases(one, 39)[0] == pytest.approx(1.226, abs=5e-4)


@pytest.mark.parametrize(("model", "r2", "correlation"), [(BetaGeoNBD, 0.385, 0.62), (ParetoNBD, 0.39, 0.63)])
def test_the_39_weeks_after_are_foreseen(cdnow, fitted, model, r2, correlation):
    expected = fitted[model].conditional_expected_purchases(cdnow, 39)
    assert r2_score(cdnow["holdout_purchases"], expected) >= r2
    assert np.corrcoef(cdnow["holdout_purchases"], expected)[0, 1] >= correlation


# --- The likelihood


RATES = np.exp(np.linspace(-45, 9, 1200))
LOG_STEP = 54 / 1199


def gamma_weights(shape: float, rate: float) -> Any:
    """Of the mean over a Gamma distribution, by the trapezoidal rule on the logarithm."""
    return stats.gamma.pdf(RATES, shape, scale=1 / rate) * RATES * LOG_STEP


def bg_nbd_slowly(r, alpha, a, b, x, t_x, age):
    """The likelihood of one customer's rate and p (equation 3 of the paper), averaged over both."""

    def over_rate(time: float) -> float:
        return gamma_weights(r, alpha) @ (RATES**x * np.exp(-RATES * time))

    def over_p(stopped: int, stayed: int) -> float:
        return integrate.quad(
            lambda p: stats.beta.pdf(p, a, b) * p**stopped * (1 - p) ** stayed, 0, 1, epsabs=0, limit=200
        )[0]

    return over_rate(age) * over_p(0, x) + (over_rate(t_x) * over_p(1, x - 1) if x else 0.0)


def pareto_nbd_slowly(r, alpha, s, beta, x, t_x, age):
    """The likelihood of one customer's two rates (equation 3 of the note), averaged over both."""
    rate, stop = RATES[:, None], RATES[None, :]
    both = rate + stop
    given = rate**x * (rate * np.exp(-both * age) + stop * np.exp(-both * t_x)) / both
    return gamma_weights(r, alpha) @ given @ gamma_weights(s, beta)


@pytest.mark.parametrize(
    ("model", "slowly", "parameters"),
    [
        pytest.param(BetaGeoNBD, bg_nbd_slowly, (0.9, 4.4, 0.8, 2.4), id="bg_nbd"),
        pytest.param(ParetoNBD, pareto_nbd_slowly, (1.4, 10.6, 1.6, 11.7), id="pareto_nbd"),
        pytest.param(ParetoNBD, pareto_nbd_slowly, (2.5, 3.0, 1.2, 40.0), id="pareto_nbd_beta_greater"),
    ],
)
@pytest.mark.parametrize("history", [(0, 0.0, 30.0), (1, 2.0, 30.0), (4, 25.0, 30.0)], ids=["none", "once", "often"])
def test_likelihood_is_that_of_the_customers_averaged(model, slowly, parameters, history):
    given = at(model, **dict(zip(model.names, parameters, strict=True)))
    assert given.log_likelihood(np.array([history])) == pytest.approx(np.log(slowly(*parameters, *history)), abs=1e-8)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("shift", [0.0, -1.5, 1.5], ids=["at_the_maximum", "below", "above"])
def test_gradient_is_that_of_finite_differences(cdnow, fitted, model, shift):
    grouped = Grouped.of(*read_histories(cdnow))
    theta = fitted[model].theta + shift * np.array([1, -0.5, 0.7, 1])
    likelihood = fitted[model]._log_likelihood
    gradient = likelihood(theta, grouped)[1]
    steps = 1e-5 * np.eye(4)
    differences = [(likelihood(theta + e, grouped)[0] - likelihood(theta - e, grouped)[0]) / 2e-5 for e in steps]
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("p", [0.3, 2.0, 80.0])
@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.01, 100.0), (300.0, 0.02)])
def test_log_tail_is_the_integral(p, a, b):
    q = 1.3

    def integrand(log_u: Any) -> Any:
        return -p * np.logaddexp(np.log(a), log_u) - q * np.logaddexp(np.log(b), log_u) + log_u

    grid = np.linspace(-60, 120, 180 * 64 + 1)
    values = integrand(grid)
    expected = values.max() + np.log(np.exp(np.maximum(values - values.max(), -700)).sum() / 64)
    value, _ = log_tail(*(np.array([number]) for number in (p, q, a, b)))
    assert value[0] == pytest.approx(expected, abs=1e-9)


def test_beta_nodes_have_the_moments_of_beta():
    for a, b in ((0.8, 2.4), (0.02, 0.03), (0.5, 0.5), (40.0, 3000.0)):
        nodes, weights = beta_nodes(a, b, 32)
        for power in (0, 1, 2, 5):
            moment = np.prod([(a + k) / (a + b + k) for k in range(power)])
            assert weights @ nodes**power == pytest.approx(moment, rel=1e-9)


# --- Learning from simulated customers


@pytest.mark.parametrize(("model", "kind", "truth"), TRUTHS)
def test_the_parameters_of_simulated_customers_are_found(simulated, model, kind, truth):
    fit = model().fit(simulated(kind, truth, 6000, seed=7))
    distance = (fit.theta - np.log(truth)) @ np.linalg.solve(fit.covariance_, fit.theta - np.log(truth))
    assert distance < stats.chi2.ppf(0.999, 4)
    np.testing.assert_allclose(list(fit.parameters_.values()), truth, rtol=0.5)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "kind", "truth"), TRUTHS)
def test_standard_errors_hold_the_truth_as_often_as_they_say(simulated, model, kind, truth):
    """Over 30 simulated shops the 95 % intervals of four parameters hold 114 on average; 8 fewer is past chance."""
    inside = 0
    for seed in range(30):
        fit = model().fit(simulated(kind, truth, 1500, seed=seed, later=0.0))
        inside += int((np.abs(fit.theta - np.log(truth)) < 1.96 * np.sqrt(np.diag(fit.covariance_))).sum())
    assert 106 <= inside <= 120


@pytest.mark.parametrize(("model", "kind", "truth"), TRUTHS)
def test_what_simulated_customers_do_next_is_expected(simulated, model, kind, truth):
    customers = simulated(kind, truth, 6000, seed=3)
    given = at(model, **dict(zip(model.names, truth, strict=True)))
    expected = given.conditional_expected_purchases(customers, 52.0)
    for part in (customers["frequency"] == 0, customers["frequency"].between(1, 2), customers["frequency"] > 2):
        error = (customers["later"] - expected)[part]
        assert abs(error.mean()) < 3.5 * error.std() / np.sqrt(part.sum())
    assert given.expected_purchases(customers["T"]).sum() == pytest.approx(customers["frequency"].sum(), rel=0.05)


@pytest.mark.parametrize(("model", "kind", "truth"), TRUTHS)
def test_draws_have_the_expected_mean(model, kind, truth):
    frequency, age = np.array([0.0, 2.0, 9.0]), np.array([10.0, 30.0, 50.0])
    given, theta = model(), np.log(truth)
    draws = given.draw_returning(theta, frequency, age, 40.0, 40_000, np.random.default_rng(1))
    expected = given.returning_at(theta, frequency, age, np.array([40.0]))[:, 0]
    assert (np.abs(draws.mean(axis=1) - expected) < 4 * draws.std(axis=1) / 200).all()


# --- Limits and directions


@pytest.mark.parametrize("model", MODELS)
def test_longer_silence_makes_alive_less_probable(fitted, model):
    silence = np.array([[5, 30.0, 30.0 + weeks] for weeks in (0, 5, 20, 100)])
    alive = fitted[model].probability_alive(silence)
    assert (np.diff(alive) < 0).all()
    assert ((alive > 0) & (alive <= 1)).all()


@pytest.mark.parametrize("model", MODELS)
def test_the_more_often_and_the_longer_ahead_the_more_is_expected(fitted, model):
    expected = fitted[model].conditional_expected_purchases(np.array([[x, 38.0, 38.5] for x in (1, 3, 9)]), [0, 4, 52])
    assert (expected[:, 0] == 0).all()
    assert (np.diff(expected, axis=0)[:, 1:] > 0).all()
    assert (np.diff(expected, axis=1) > 0).all()


def test_bg_nbd_takes_one_time_buyers_for_alive_so_that_it_ranks_them_first(cdnow, fitted):
    """Why customers are ranked by expected purchases and never by the probability of being alive."""
    once = cdnow["frequency"] == 0
    alive = fitted[BetaGeoNBD].probability_alive(cdnow)
    assert (alive[once] == 1).all()
    returned = cdnow["holdout_purchases"] > 0
    ranked = {
        name: stats.mannwhitneyu(score[returned], score[~returned]).statistic / (returned.sum() * (~returned).sum())
        for name, score in (
            ("alive", alive),
            ("expected", fitted[BetaGeoNBD].conditional_expected_purchases(cdnow, 39)),
        )
    }
    assert ranked["alive"] < 0.4 < 0.7 < ranked["expected"]


def test_pareto_nbd_with_s_of_1_is_the_limit_of_its_neighbours():
    history = np.array([[3, 20.0, 30.0]])
    expected = [
        at(ParetoNBD, r=0.5, alpha=10.0, s=s, beta=12.0).conditional_expected_purchases(history, 52)[0]
        for s in (0.999, 1.0, 1.001)
    ]
    assert expected[1] == pytest.approx((expected[0] + expected[2]) / 2, rel=1e-6)


def test_bg_nbd_with_a_of_1_is_the_limit_of_its_neighbours():
    history = np.array([[3, 20.0, 30.0]])
    expected = [
        at(BetaGeoNBD, r=0.5, alpha=10.0, a=a, b=2.0).conditional_expected_purchases(history, 52)[0]
        for a in (0.999, 1.0, 1.001)
    ]
    assert expected[1] == pytest.approx((expected[0] + expected[2]) / 2, rel=1e-6)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("scale", [0.02, 1.0, 50.0])
def test_extreme_customers_and_parameters_give_finite_answers(fitted, model, scale):
    parameters = {name: value * scale for name, value in fitted[model].parameters_.items()}
    customers = np.array([[0, 0, 0], [0, 0, 5000], [1, 1e-3, 5000], [2000, 4990, 5000], [3000, 9, 10], [1, 10, 10]])
    given = at(model, **parameters)
    alive = given.probability_alive(customers)
    expected = given.conditional_expected_purchases(customers, [1, 52, 5000])
    assert ((alive >= 0) & (alive <= 1)).all()
    assert (np.isfinite(expected) & (expected >= 0)).all()
    assert np.isfinite(given.log_likelihood(customers))
    assert np.isfinite(given._log_likelihood(given.theta, Grouped.of(*read_histories(customers)))[1]).all()


# --- The same data, the same digits


@pytest.mark.parametrize("model", MODELS)
def test_the_order_of_customers_changes_no_digit(cdnow, fitted, model):
    again = model().fit(cdnow.sample(frac=1, random_state=5))
    assert again.parameters_ == fitted[model].parameters_
    assert (again.covariance_ == fitted[model].covariance_).all()


@pytest.mark.parametrize("model", MODELS)
def test_days_instead_of_weeks_change_only_the_times(cdnow, fitted, model):
    days = cdnow.assign(recency=cdnow["recency"] * 7, T=cdnow["T"] * 7)
    expected = np.array(list(fitted[model].parameters_.values())) * np.where(model.times, 7, 1)
    again = model().fit(days)
    np.testing.assert_allclose(list(again.parameters_.values()), expected, rtol=1e-6)
    assert again.log_likelihood_ == pytest.approx(again.log_likelihood(days), abs=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_a_fit_that_begins_with_a_share_of_the_customers_ends_where_all_lead(cdnow, fitted, model, monkeypatch):
    monkeypatch.setattr("ml.estimators.lifetimes.THIN_TO", 500)
    again = model().fit(cdnow)
    np.testing.assert_allclose(again.theta, fitted[model].theta, atol=1e-6)
    np.testing.assert_allclose(again.covariance_, fitted[model].covariance_, rtol=1e-3)


def test_columns_come_by_name_or_in_order(cdnow, fitted):
    names = ["frequency", "recency", "T", "monetary"]
    expected = fitted[BetaGeoNBD].conditional_expected_purchases(cdnow, 10)
    for table in (
        cdnow[names[::-1]],
        pa.Table.from_pandas(cdnow),
        cdnow[names].to_numpy(),
        cdnow[names[:3]].to_numpy(),
    ):
        assert (fitted[BetaGeoNBD].conditional_expected_purchases(table, 10) == expected).all()


def test_distinct_rows_and_where_they_are():
    columns = np.array([1.0, 0.0, 1.0, 1.0]), np.array([2.0, 2.0, 2.0, 3.0])
    rows, position = distinct(*columns)
    assert len(rows[0]) == 3
    for column, kept in zip(columns, rows, strict=True):
        assert (kept[position] == column).all()


def test_thinning_keeps_a_share_of_every_kind():
    grouped = Grouped.of(np.repeat([0.0, 1.0, 2.0], [700, 200, 100]))
    thin = grouped.thinned(100)
    assert (grouped.customers, thin.customers) == (1000, 100)
    assert thin.weight.tolist() == [70, 20, 10]


# --- Bad input


GOOD: dict[str, list[float]] = {
    "frequency": [2, 0, 1] * 40,
    "recency": [3.0, 0.0, 1.5] * 40,
    "T": [10.0, 9.0, 8.0] * 40,
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("frequency", -1, "frequency is negative"),
        ("frequency", 1.5, "not a whole number"),
        ("recency", 11.0, "recency is greater than T"),
        ("recency", 0.0, "repeat purchases .* at recency 0"),
        ("T", np.nan, "T is missing or infinite in 1 of 120 rows, first in row 0"),
        ("T", np.inf, "T is missing or infinite"),
        ("frequency", 0, "recency without a repeat purchase"),
    ],
)
def test_values_that_cannot_be_are_named(model, column, value, said):
    table = pd.DataFrame(GOOD).astype(float)
    table.loc[0, column] = value
    with pytest.raises(ValueError, match=said):
        model().fit(table)
    with pytest.raises(ValueError, match=said):
        at(model, **dict.fromkeys(model.names, 1.0)).probability_alive(table)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("table", "said"),
    [
        pytest.param(pd.DataFrame(GOOD).head(20), "20 customers are too few", id="20_customers"),
        pytest.param(
            pd.DataFrame(GOOD).assign(frequency=0, recency=0.0), "0 of 120 customers bought a second", id="one_time"
        ),
        pytest.param(pd.DataFrame(GOOD) * 0, "T is 0 for every customer", id="zeros"),
        pytest.param(
            pd.DataFrame({"frequency": [5] * 200, "recency": [10.0] * 200, "T": [10.0] * 200}),
            "do not determine r, alpha",
            id="constant",
        ),
    ],
)
def test_data_that_carry_no_model_are_refused_with_the_reason(model, table, said):
    with pytest.raises(FitRefusedError, match=said):
        model().fit(table)


@pytest.mark.parametrize("model", MODELS)
def test_a_penalty_determines_what_the_data_leave_open(simulated, model):
    steady = simulated("pareto_nbd", (2.0, 20.0, 1.0, 1e6), 2000, seed=1)
    with pytest.raises(FitRefusedError, match=r"penalty=0\.001"):
        model().fit(steady)
    expected = model(penalty=0.001).fit(steady).conditional_expected_purchases(steady, 52.0)
    assert expected.sum() == pytest.approx(steady["later"].sum(), rel=0.15)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        pytest.param(pd.DataFrame(GOOD).drop(columns="T"), "column T is missing", id="column_missing"),
        pytest.param(pd.DataFrame(GOOD).assign(T="long"), "T holds what is not a number", id="text"),
        pytest.param(np.ones((5, 2)), r"shape \(5, 2\)", id="two_columns"),
        pytest.param(np.ones(5), r"shape \(5,\)", id="one_dimension"),
        pytest.param(pd.DataFrame(GOOD).head(0), "no customers", id="no_rows"),
        pytest.param(pa.table({**GOOD, "T": [None, *GOOD["T"][1:]]}), "T is missing or infinite", id="null"),
    ],
)
def test_tables_of_another_form_are_named(table, said):
    with pytest.raises(ValueError, match=said):
        BetaGeoNBD().fit(table)


@pytest.mark.parametrize("t", [-1, np.inf, [1, np.nan]])
def test_a_horizon_is_a_time(fitted, t):
    with pytest.raises(ValueError, match="a horizon is a finite time"):
        fitted[BetaGeoNBD].expected_purchases(t)


def test_a_penalty_is_not_negative(cdnow):
    with pytest.raises(ValueError, match="penalty must be 0 or more"):
        BetaGeoNBD(penalty=-1).fit(cdnow)


# --- scikit-learn's contract, whose checks that fit on noise do not apply to histories


@pytest.mark.parametrize("model", [BetaGeoNBD, ParetoNBD, GammaGamma])
@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
    ],
)
def test_scikit_learns_checks_that_need_no_data(model, check):
    check(model.__name__, model())


@pytest.mark.parametrize("model", MODELS)
def test_a_clone_is_not_fitted_and_fits_alike(cdnow, fitted, model):
    unfitted = clone(model(penalty=1e-5).fit(cdnow))
    assert unfitted.get_params() == {"penalty": 1e-5, "customers_min": 100, "repeat_buyers_min": 20}
    with pytest.raises(NotFittedError):
        unfitted.probability_alive(cdnow)
    again = unfitted.set_params(penalty=0.0)
    assert again.fit(cdnow) is again
    assert again.parameters_ == fitted[model].parameters_
    assert again.feature_names_in_.tolist() == ["frequency", "recency", "T"]
