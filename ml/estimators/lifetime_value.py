"""Customer lifetime value: purchases expected, times what they are expected to cost, discounted by the month.

Fader, Hardie and Lee (2005), "RFM and CLV", section on discounting; a purchase within a month is paid at its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import norm

from ml.estimators.gamma_gamma import GammaGamma, read_spend
from ml.estimators.lifetimes import Floats, read_histories
from ml.estimators.purchases import PurchaseModel

WEEKS_PER_MONTH = 365.25 / 12 / 7
PARAMETER_DRAWS = 20
CUSTOMERS_AT_A_TIME = 20_000


@dataclass(frozen=True)
class LifetimeValue:
    """What customers will be worth, each array of shape (customers,).

    Attributes:
        value: expected, discounted.
        low, high: bounds of the interval; NaN where none was asked for.
        purchases: expected within the months, not discounted.
        spend: expected per purchase.
    """

    value: Floats
    low: Floats
    high: Floats
    purchases: Floats
    spend: Floats


def clv(
    model: PurchaseModel,
    spends: GammaGamma,
    X: Any,
    *,
    months: int = 12,
    month: float = WEEKS_PER_MONTH,
    annual_discount_rate: float = 0.10,
    interval: Literal["outcome", "mean"] | None = "outcome",
    level: float = 0.90,
    draws: int = 400,
    seed: int = 0,
) -> LifetimeValue:
    """Value of each customer over the months after T.

    Args:
        model: fitted; says how many purchases.
        spends: fitted; says what they cost.
        X: histories with `monetary`.
        months: how many.
        month: length of one in the unit of T.
        annual_discount_rate: 0.10 makes money in a year worth 1 / 1.10 of money now.
        interval: `outcome` holds what a customer will really spend with probability `level`: quantiles of draws from the
            posterior of each customer's own rates, over draws of the parameters from their estimated covariance. `mean`
            holds the expected value, as far as the parameters are uncertain (delta method on its logarithm): right for
            sums over many customers' expectations, far too narrow for one customer. None saves the time.
        level: of the interval.
        draws: of outcomes for each customer.
        seed: of the draws. They also depend on the order of customers.

    Raises:
        ValueError: an argument or a history that cannot be.
    """
    if months < 1 or not 0 < month < np.inf:
        raise ValueError(f"months must be 1 or more and a month longer than 0, not {months!r} of {month!r}")
    if not -1 < annual_discount_rate < np.inf:
        raise ValueError(f"annual_discount_rate must be above -1 and finite, not {annual_discount_rate!r}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level!r}")
    if interval not in ("outcome", "mean", None):
        raise ValueError(f"interval is 'outcome', 'mean' or None, not {interval!r}")
    if draws < PARAMETER_DRAWS:
        raise ValueError(f"draws must be {PARAMETER_DRAWS} or more, not {draws!r}")
    frequency, recency, age = read_histories(X)
    spend_frequency, amount = read_spend(X)
    ends = month * np.arange(1, months + 1, dtype=np.float64)
    factors = (1 + annual_discount_rate) ** (-np.arange(1, months + 1) / 12)
    # Sum of factor times the increase from month to month, as weights of the sums so far.
    weights = factors - np.append(factors[1:], 0.0)

    def expected(theta: Floats, spend_theta: Floats) -> tuple[Floats, Floats, Floats]:
        by_end = model.conditional_at(theta, frequency, recency, age, ends)
        return by_end @ weights, by_end[:, -1], spends.spend_at(spend_theta, spend_frequency, amount)

    discounted, purchases, spend = expected(model.theta, spends.theta)
    value = discounted * spend
    if interval is None:
        none = np.full(len(value), np.nan)
        return LifetimeValue(value, none, none, purchases, spend)
    if interval == "mean":

        def log_value(theta: Floats) -> Floats:
            counted, _, cost = expected(theta[:4], theta[4:])
            return np.log(np.maximum(counted * cost, np.finfo(float).tiny))

        theta = np.concatenate([model.theta, spends.theta])
        spread = norm.ppf((1 + level) / 2) * _delta(log_value, theta, model.covariance_, spends.covariance_)
        return LifetimeValue(value, value * np.exp(-spread), value * np.exp(spread), purchases, spend)

    # What is drawn is not discounted purchase by purchase, but by each customer's expected discount.
    discount = np.divide(discounted, purchases, out=np.ones(len(value)), where=purchases > 0)
    generator = np.random.default_rng(seed)
    per_parameters = -(-draws // PARAMETER_DRAWS)
    thetas = generator.multivariate_normal(model.theta, model.covariance_, PARAMETER_DRAWS)
    spend_thetas = generator.multivariate_normal(spends.theta, spends.covariance_, PARAMETER_DRAWS)
    low, high = np.empty(len(value)), np.empty(len(value))
    for start in range(0, len(value), CUSTOMERS_AT_A_TIME):
        part = slice(start, start + CUSTOMERS_AT_A_TIME)
        x, t_x, t = frequency[part], recency[part], age[part]
        totals = np.empty((len(x), PARAMETER_DRAWS * per_parameters))
        for number, (theta, spend_theta) in enumerate(zip(thetas, spend_thetas, strict=True)):
            counts = model.draw_returning(theta, x, t, float(ends[-1]), per_parameters, generator)
            counts *= generator.random(counts.shape) < model.alive_at(theta, x, t_x, t)[:, None]
            totals[:, number * per_parameters : (number + 1) * per_parameters] = spends.draw_totals(
                spend_theta, spend_frequency[part], amount[part], counts, generator
            )
        bounds = np.quantile(totals, [(1 - level) / 2, (1 + level) / 2], axis=1) * discount[part]
        low[part], high[part] = bounds
    return LifetimeValue(value, low, high, purchases, spend)


def _delta(log_value: Callable[[Floats], Floats], theta: Floats, *covariances: Floats) -> Floats:
    """Standard error of each logarithm, from independent blocks of the covariance of theta."""
    step = 1e-4
    slopes = np.array([log_value(theta + e) - log_value(theta - e) for e in step * np.eye(len(theta))]) / (2 * step)
    variance = np.zeros(slopes.shape[1])
    start = 0
    for covariance in covariances:
        block = slopes[start : start + len(covariance)]
        variance += np.einsum("in,ij,jn->n", block, covariance, block)
        start += len(covariance)
    return np.sqrt(np.maximum(variance, 0.0))
