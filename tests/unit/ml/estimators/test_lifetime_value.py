"""Gamma-Gamma and the value of customers: published figures, simulated customers, intervals, bad input."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from ml.estimators.bg_nbd import BetaGeoNBD
from ml.estimators.gamma_gamma import GammaGamma, _log_likelihood
from ml.estimators.lifetime_value import clv
from ml.estimators.lifetimes import FitRefusedError, Grouped
from ml.estimators.pareto_nbd import ParetoNBD

SPENDS = (6.0, 4.0, 15.0)
TRUTHS = [
    pytest.param(BetaGeoNBD, "bg_nbd", (0.6, 5.0, 0.8, 2.5), id="bg_nbd"),
    pytest.param(ParetoNBD, "pareto_nbd", (0.9, 8.0, 0.7, 12.0), id="pareto_nbd"),
]


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings(), np.errstate(over="raise", invalid="raise", divide="raise"):
        warnings.simplefilter("error")
        yield


@pytest.fixture(scope="module")
def spends(cdnow):
    return GammaGamma().fit(cdnow)


@pytest.fixture(scope="module")
def purchases(cdnow):
    return BetaGeoNBD().fit(cdnow)


def given(model: Any, names: Sequence[str], values: Sequence[float]) -> Any:
    """A model with given parameters that are certain, as if fitted."""
    model.parameters_ = dict(zip(names, values, strict=True))
    model.covariance_ = np.zeros((len(values), len(values)))
    return model


# --- Gamma-Gamma


def test_gamma_gamma_reproduces_fader_and_hardie(spends):
    assert list(spends.parameters_.values()) == pytest.approx([6.25, 3.74, 15.44], abs=0.01)
    assert spends.customers_ == 946
    assert spends.correlation_ == pytest.approx(0.11, abs=0.005)
    assert spends.mean_spend_ == pytest.approx(35.2, abs=0.1)


def test_the_likelihood_is_that_of_the_customers_averaged(spends):
    p, q, v = spends.parameters_.values()
    x, mean = 3.0, 20.0
    rates = np.exp(np.linspace(-40, 8, 4001))
    slowly = np.trapezoid(
        stats.gamma.pdf(mean, p * x, scale=1 / (rates * x)) * stats.gamma.pdf(rates, q, scale=1 / v) * rates,
        np.log(rates),
    )
    grouped = Grouped.of(np.array([x]), np.array([mean]))
    assert _log_likelihood(spends.theta, grouped)[0] == pytest.approx(np.log(slowly), abs=1e-9)


def test_the_gradient_is_that_of_finite_differences(cdnow, spends):
    some = cdnow[(cdnow["frequency"] > 0) & (cdnow["monetary"] > 0)]
    grouped = Grouped.of(some["frequency"].to_numpy(float), some["monetary"].to_numpy())
    for shift in (0.0, 0.7, -0.7):
        theta = spends.theta + shift
        differences = [
            (_log_likelihood(theta + e, grouped)[0] - _log_likelihood(theta - e, grouped)[0]) / 2e-5
            for e in 1e-5 * np.eye(3)
        ]
        np.testing.assert_allclose(_log_likelihood(theta, grouped)[1], differences, rtol=1e-6, atol=1e-3)


def test_expected_spend_lies_between_the_customers_own_and_everybodys(spends):
    history = pd.DataFrame({"frequency": [0, 1, 5, 5000], "monetary": [np.nan, 100.0, 100.0, 100.0]})
    expected = spends.expected_spend(history)
    assert expected[0] == pytest.approx(spends.mean_spend_)
    assert (np.diff(expected) > 0).all()
    assert expected[3] == pytest.approx(100, rel=1e-3)


def test_the_parameters_of_simulated_spends_are_found():
    generator = np.random.default_rng(11)
    p, q, v = SPENDS
    inside = 0
    for _ in range(40):
        frequency = 1 + generator.poisson(2, 800)
        nu = generator.gamma(q, 1 / v, 800)
        spend = generator.gamma(p * frequency, 1 / nu) / frequency
        fit = GammaGamma().fit(pd.DataFrame({"frequency": frequency, "monetary": spend}))
        inside += int((np.abs(fit.theta - np.log(SPENDS)) < 1.96 * np.sqrt(np.diag(fit.covariance_))).sum())
    assert 107 <= inside <= 119  # of 120; the three of a shop go together


def test_one_time_buyers_and_spend_of_zero_stay_out(cdnow, spends):
    repeat = cdnow[(cdnow["frequency"] > 0) & (cdnow["monetary"] > 0)]
    free = pd.DataFrame({"frequency": [2, 3], "monetary": [0.0, -5.0]})
    again = GammaGamma().fit(pd.concat([repeat[["frequency", "monetary"]], free]))
    assert again.left_out_ == 2
    assert again.parameters_ == spends.parameters_
    assert again.expected_spend(free) == pytest.approx([spends.mean_spend_] * 2)


def test_the_order_of_customers_and_the_form_of_the_table_change_no_digit(cdnow, spends):
    mixed = cdnow.sample(frac=1, random_state=5)
    assert GammaGamma().fit(mixed).parameters_ == spends.parameters_
    assert GammaGamma().fit(pa.Table.from_pandas(mixed)).parameters_ == spends.parameters_
    array = cdnow[["frequency", "recency", "T", "monetary"]].to_numpy(float)
    assert GammaGamma().fit(array).parameters_ == spends.parameters_


REPEAT = {"frequency": [1, 2, 3, 4] * 25, "monetary": [20.0, 25.0, 40.0, 30.0, 35.0] * 20}


@pytest.mark.parametrize(
    ("monetary", "error", "said"),
    [
        pytest.param(np.nan, ValueError, "monetary of a repeat buyer is missing or infinite in 1 of 100", id="missing"),
        pytest.param(np.inf, ValueError, "monetary of a repeat buyer is missing or infinite", id="infinite"),
    ],
)
def test_amounts_that_cannot_be_are_named(spends, monetary, error, said):
    table = pd.DataFrame(REPEAT)
    table.loc[7, "monetary"] = monetary
    for what in (GammaGamma().fit, spends.expected_spend):
        with pytest.raises(error, match=said):
            what(table)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        pytest.param(pd.DataFrame(REPEAT).head(20), "20 customers with a repeat purchase .* are too few", id="20"),
        pytest.param(pd.DataFrame(REPEAT).assign(frequency=0), "0 customers with a repeat purchase", id="one_time"),
        pytest.param(pd.DataFrame(REPEAT).assign(monetary=0.0), "0 customers with a repeat purchase", id="zeros"),
        pytest.param(
            pd.DataFrame(REPEAT).assign(monetary=30.0), "every customer spends 30 per purchase", id="constant"
        ),
    ],
)
def test_data_that_carry_no_model_are_refused_with_the_reason(table, said):
    with pytest.raises(FitRefusedError, match=said):
        GammaGamma().fit(table)


def test_spend_of_infinite_mean_is_refused():
    generator = np.random.default_rng(2)
    spend = generator.gamma(18.0, 1 / generator.gamma(0.8, 1 / 15.0, 2000)) / 3
    table = pd.DataFrame({"frequency": 3, "monetary": spend})
    with pytest.raises(FitRefusedError, match=r"mean is infinite .* Winsorise"):
        GammaGamma().fit(table)


def test_a_clone_is_not_fitted(cdnow, spends):
    with pytest.raises(NotFittedError):
        clone(spends).expected_spend(cdnow)


# --- Value


def test_value_is_the_sum_of_the_months_discounted(cdnow, purchases, spends):
    worth = clv(purchases, spends, cdnow, months=3, month=4.0, annual_discount_rate=0.2, interval=None)
    by_end = purchases.conditional_expected_purchases(cdnow, [4, 8, 12])
    in_month = np.diff(by_end, axis=1, prepend=0)
    expected = sum(in_month[:, n] / 1.2 ** ((n + 1) / 12) for n in range(3)) * spends.expected_spend(cdnow)
    np.testing.assert_allclose(worth.value, expected, rtol=1e-12)
    np.testing.assert_allclose(worth.purchases, by_end[:, 2])
    assert np.isnan([worth.low, worth.high]).all()


def test_without_discount_value_is_purchases_times_spend(cdnow, purchases, spends):
    worth = clv(purchases, spends, cdnow, annual_discount_rate=0.0, interval=None)
    np.testing.assert_allclose(worth.value, worth.purchases * worth.spend)
    assert (clv(purchases, spends, cdnow, interval=None).value < worth.value).all()


@pytest.mark.parametrize(("model", "kind", "truth"), TRUTHS)
def test_outcomes_lie_in_their_interval_as_often_as_it_says(simulated, model, kind, truth):
    """Learned from one set of customers, asked of others: what they spend afterwards, not discounted."""
    learned, others = simulated(kind, truth, 3000, seed=21), simulated(kind, truth, 3000, seed=22)
    worth = clv(
        model().fit(learned), GammaGamma().fit(learned), others,
        month=52 / 12, annual_discount_rate=0.0, level=0.8, draws=200,
    )  # fmt: skip
    # An upper bound of 0 leaves out less than it may, and below a lower bound of 0 nobody can be.
    above = (others["later_spend"] > worth.high)[worth.high > 0]
    assert above.mean() == pytest.approx(0.1, abs=3.5 * np.sqrt(0.09 / len(above)))
    assert (others["later_spend"] > 0)[worth.high == 0].mean() < 0.1
    positive = worth.low > 0
    below = others["later_spend"] < worth.low
    assert positive.sum() > 50
    assert below[positive].mean() == pytest.approx(0.1, abs=3.5 * np.sqrt(0.09 / positive.sum()))
    assert others["later_spend"].sum() == pytest.approx(worth.value.sum(), rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "kind", "truth"), TRUTHS)
def test_the_interval_of_the_mean_holds_the_true_expectation(simulated, model, kind, truth):
    """Customers of one shop are over- or underrated together, so shops are counted: 30 of them, 90 % intervals."""
    names = model.names
    asked = pd.DataFrame(
        {"frequency": [0, 2, 6], "recency": [0.0, 25, 38], "T": [40.0, 40, 40], "monetary": [0, 30, 60]}
    )
    true = clv(
        given(model(), names, truth), given(GammaGamma(), ("p", "q", "v"), SPENDS), asked, interval=None
    ).value  # fmt: skip
    inside = np.zeros(3)
    for seed in range(30):
        learned = simulated(kind, truth, 1200, seed=100 + seed, later=0.0)
        worth = clv(model().fit(learned), GammaGamma().fit(learned), asked, interval="mean", level=0.9)
        inside += (worth.low <= true) & (true <= worth.high)
    assert (inside >= 22).all()  # 3 of 1,000 times 21 or fewer of 30
    assert inside.sum() <= 89


def test_intervals_are_the_same_for_the_same_seed(cdnow, purchases, spends):
    first, again, other = (clv(purchases, spends, cdnow.head(300), seed=seed, draws=100) for seed in (1, 1, 2))
    assert (first.high == again.high).all()
    assert (first.low == again.low).all()
    assert (first.high != other.high).any()
    assert (first.value == other.value).all()


def test_a_higher_level_is_wider(cdnow, purchases, spends):
    for interval in ("outcome", "mean"):
        narrow, wide = (
            clv(purchases, spends, cdnow, interval=interval, level=level, draws=100) for level in (0.5, 0.9)
        )
        assert (wide.high >= narrow.high).all()
        assert (wide.low <= narrow.low).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"months": 0}, "months must be 1 or more"),
        ({"month": np.inf}, "a month longer than 0"),
        ({"annual_discount_rate": -1.0}, "annual_discount_rate must be above -1"),
        ({"level": 1.0}, "level must lie between 0 and 1"),
        ({"interval": "both"}, "interval is 'outcome', 'mean' or None"),
        ({"draws": 0}, "draws must be"),
    ],
)
def test_arguments_that_cannot_be_are_named(cdnow, purchases, spends, arguments, said):
    with pytest.raises(ValueError, match=said):
        clv(purchases, spends, cdnow, **arguments)
