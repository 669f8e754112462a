"""Gamma-Gamma: what customers spend per purchase, when spend and frequency are unrelated.

Fader, Hardie and Lee (2005), "RFM and CLV: Using Iso-Value Curves for Customer Base Analysis", Journal of Marketing
Research 42(4), 415-430; Fader and Hardie (2013), "The Gamma-Gamma Model of Monetary Value". Amounts of one customer are
Gamma(p, nu), where nu ~ Gamma(q, v) differs between customers.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy.special import gammaln, psi
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ml.estimators.lifetimes import (
    FREQUENCY,
    MONETARY,
    FitRefusedError,
    Floats,
    Grouped,
    feature_names,
    fitted_errors,
    maximise,
    read_columns,
    refuse,
)

NAMES = ("p", "q", "v")


class GammaGamma(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Gamma-Gamma with the parameters p, q and v (an amount).

    It learns from customers with a repeat purchase and positive `monetary`; the others are counted and left out.

    Parameters:
        penalty: weight of the sum of squares of the logarithms of the parameters (v in units of the mean spend), against
            the mean log-likelihood of a customer. 0 is maximum likelihood.
        repeat_buyers_min: customers with a repeat purchase that a fit needs.

    Attributes:
        parameters_: by name.
        standard_errors_: of the parameters, by name.
        covariance_: of the logarithms of the parameters, shape (3, 3).
        log_likelihood_: at the parameters.
        correlation_: Pearson's, of frequency and mean spend among the customers of the fit. The model takes it for 0;
            beyond about 0.3 either way, what frequent customers spend is misjudged.
        customers_: of the fit.
        left_out_: customers with repeat purchases whose spend was 0 or less.
    """

    def __init__(self, *, penalty: float = 0.0, repeat_buyers_min: int = 50) -> None:
        self.penalty = penalty
        self.repeat_buyers_min = repeat_buyers_min

    def fit(self, X: Any, y: object = None) -> Self:
        """Maximum likelihood on the distinct pairs of frequency and mean spend.

        Args:
            X: histories with `frequency` and `monetary`; see `ml.estimators.lifetimes`.
            y: ignored; scikit-learn's pipelines pass it.

        Raises:
            ValueError: a value that cannot be.
            FitRefusedError: too few customers, all of one spend, or spend so spread that its mean is infinite.
        """
        if not 0 <= self.penalty < np.inf:
            raise ValueError(f"penalty must be 0 or more and finite, not {self.penalty!r}")
        all_frequency, all_spend = read_spend(X)
        bought = (all_frequency > 0) & (all_spend > 0)
        frequency, spend = all_frequency[bought], all_spend[bought]
        if len(frequency) < max(self.repeat_buyers_min, 3):
            raise FitRefusedError(
                f"{len(frequency):,} customers with a repeat purchase and positive spend are too few: a fit needs"
                f" {max(self.repeat_buyers_min, 3):,}"
            )
        if np.ptp(spend) <= 1e-9 * spend.max():
            raise FitRefusedError(f"every customer spends {spend[0]:g} per purchase: there is no spread to learn from")
        scale = float(np.sort(spend).mean())  # sorted, for the same digits in any order
        found = maximise(
            _log_likelihood,
            Grouped.of(frequency, spend / scale),
            NAMES,
            [tuple(np.log([4.0, 4.0, 1.0])), tuple(np.log([1.0, 2.0, 1.0]))],
            self.penalty,
            "Spend may differ too little, between customers or between one customer's purchases, or too much",
        )
        theta = found.theta + np.array([0.0, 0.0, np.log(scale)])
        p, q, v = np.exp(theta).tolist()
        if q <= 1:
            raise FitRefusedError(
                f"spend differs so much between customers that the model's mean is infinite (q = {q:.3f}, above 1 is"
                f" asked): a few customers spend up to {spend.max() / np.median(spend):,.0f} times the median. Winsorise"
                " monetary, or keep business accounts apart"
            )
        self.parameters_ = {"p": p, "q": q, "v": v}
        self.covariance_ = found.covariance
        self.standard_errors_ = fitted_errors(NAMES, np.exp(theta), found.covariance)
        self.log_likelihood_ = found.log_likelihood - len(frequency) * float(np.log(scale))
        self.correlation_ = float(np.corrcoef(frequency, spend)[0, 1]) if np.ptp(frequency) else 0.0
        self.customers_ = len(frequency)
        self.left_out_ = int(((all_frequency > 0) & (all_spend <= 0)).sum())
        self.evaluations_ = found.evaluations
        self.n_features_in_ = 2
        if feature_names(X) is not None:
            self.feature_names_in_ = np.array([FREQUENCY, MONETARY], dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        return self

    @property
    def theta(self) -> Floats:
        """Logarithms of the fitted parameters, shape (3,)."""
        check_is_fitted(self, "parameters_")
        theta: Floats = np.log(np.array([self.parameters_[name] for name in NAMES]))
        return theta

    @property
    def mean_spend_(self) -> float:
        """Mean spend per purchase over all customers, p v / (q - 1)."""
        p, q, v = np.exp(self.theta)
        return float(p * v / (q - 1))

    def expected_spend(self, X: Any) -> Floats:
        """Mean spend per purchase that is expected of each customer from now on; shape (customers,).

        A weighted mean of the customer's own and everybody's, the more their own the more they bought; everybody's of
        who has no repeat purchase of positive spend.
        """
        return self.spend_at(self.theta, *read_spend(X))

    def spend_at(self, theta: Floats, frequency: Floats, spend: Floats) -> Floats:
        """`expected_spend` at any parameters: equation 5 of Fader and Hardie (2013)."""
        p, q, v = np.exp(theta)
        x = np.where(spend > 0, frequency, 0.0)
        expected: Floats = p * (v + x * np.where(x > 0, spend, 0.0)) / (p * x + q - 1)
        return expected

    def draw_totals(
        self, theta: Floats, frequency: Floats, spend: Floats, purchases: Floats, generator: np.random.Generator
    ) -> Floats:
        """Totals of numbers of purchases to come, shape (customers, draws) as `purchases`."""
        p, q, v = np.exp(theta)
        x = np.where(spend > 0, frequency, 0.0)
        shape = np.broadcast_to((p * x + q)[:, None], purchases.shape)
        nu = generator.standard_gamma(shape) / (v + x * np.where(x > 0, spend, 0.0))[:, None]
        totals: Floats = generator.standard_gamma(p * purchases) / np.maximum(nu, 1e-300)
        return totals


def read_spend(X: Any) -> tuple[Floats, Floats]:
    """Frequency and mean spend of every customer, checked; spend is 0 of who has no repeat purchase.

    Raises:
        ValueError: a frequency that is not a count, or the spend of a repeat buyer missing or infinite.
    """
    columns = read_columns(X, (FREQUENCY, MONETARY))
    frequency, spend = columns[FREQUENCY], columns[MONETARY]
    if not len(frequency):
        raise ValueError("no customers: the table has no rows")
    refuse(~np.isfinite(frequency), frequency, "frequency is missing or infinite")
    refuse(frequency < 0, frequency, "frequency is negative")
    refuse(frequency != np.floor(frequency), frequency, "frequency is not a whole number")
    refuse((frequency > 0) & ~np.isfinite(spend), spend, "monetary of a repeat buyer is missing or infinite")
    return frequency, np.where(frequency > 0, spend, 0.0)


def _log_likelihood(theta: Floats, spends: Grouped) -> tuple[float, Floats]:
    """Equation 1a of Fader and Hardie (2013), summed over customers, and its gradient by theta."""
    p, q, v = np.exp(theta)
    frequency, spend = spends.columns
    weight = spends.weight.astype(float)
    values, position = np.unique(frequency, return_inverse=True)
    counts = np.bincount(position, weights=weight)
    total = frequency * spend
    log_total = np.log(total)
    log_after = np.log(total + v)

    by_value = gammaln(p * values + q) - gammaln(p * values) - gammaln(q) + q * theta[2]
    value = counts @ by_value + weight @ (p * frequency * log_total - np.log(spend) - (p * frequency + q) * log_after)

    after = psi(p * values + q)
    by_p = counts @ (values * (after - psi(p * values))) + weight @ (frequency * (log_total - log_after))
    by_q = counts @ (after - psi(q) + theta[2]) - weight @ log_after
    by_v = counts.sum() * q / v - weight @ ((p * frequency + q) / (total + v))
    return float(value), np.array([by_p * p, by_q * q, by_v * v])
