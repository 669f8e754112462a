"""BG/NBD: repeat purchases at a constant rate, until after some purchase the customer stops for good.

Fader, Hardie and Lee (2005), "Counting Your Customers the Easy Way: An Alternative to the Pareto/NBD Model", Marketing
Science 24(2), 275-284. Purchases come at rate lambda ~ Gamma(r, alpha); after each repeat purchase the customer stops
with probability p ~ Beta(a, b).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.special import betaln, expit, gammaln, psi

from ml.estimators.lifetimes import Floats, Grouped
from ml.estimators.purchases import PurchaseModel

NODES = 32
# Nodes where the horizon is more than FAR times alpha + T: the pole at p = -(alpha + T) / t lies close to (0, 1) there.
NODES_FAR = 256
FAR = 5.0


class BetaGeoNBD(PurchaseModel):
    """BG/NBD with the parameters r, alpha (a time), a and b.

    `probability_alive` is 1 for who never came back, since one stops only after a repeat purchase: it is no score to
    rank customers by. Rank by `conditional_expected_purchases`.
    """

    names: ClassVar[tuple[str, ...]] = ("r", "alpha", "a", "b")
    times: ClassVar[tuple[bool, ...]] = (False, True, False, False)

    def _starts(self) -> list[tuple[float, ...]]:
        return [tuple(np.log([0.5, 0.5, 0.8, 2.0])), tuple(np.log([2.0, 1.0, 0.2, 2.0]))]

    def _log_likelihood(self, theta: Floats, histories: Grouped) -> tuple[float, Floats]:
        """Equation 6 of the paper, the larger of the two terms of its sum drawn out."""
        r, alpha, a, b = np.exp(theta)
        frequency, recency, age = histories.columns
        weight = histories.weight.astype(float)
        values, position = np.unique(frequency, return_inverse=True)
        counts = np.bincount(position, weights=weight)
        repeat = frequency > 0

        rate = r + frequency
        log_age = np.log(alpha + age)
        longer = log_age - np.log(alpha + recency)
        # Log odds of having stopped against being alive.
        odds = rate[repeat] * longer[repeat] + (theta[2] - np.log(b + values - 1 + (values == 0)))[position[repeat]]
        stopped = np.zeros(len(frequency))
        stopped[repeat] = expit(odds)

        by_value = (
            gammaln(r + values) - gammaln(r) + r * theta[1] + betaln(a, b + values) - betaln(a, b)
        )  # what depends on x alone
        value = counts @ by_value - weight @ (rate * log_age) + weight[repeat] @ np.logaddexp(0.0, odds)

        by_r = counts @ (psi(r + values) - psi(r) + theta[1]) - weight @ (log_age - stopped * longer)
        by_alpha = counts.sum() * r / alpha - weight @ (
            rate * ((1 - stopped) / (alpha + age) + stopped / (alpha + recency))
        )
        stopped_by_value = np.bincount(position, weights=weight * stopped)
        both = psi(a + b) - psi(a + b + values)
        by_a = counts @ both + stopped_by_value.sum() / a
        by_b = counts @ (psi(b + values) - psi(b) + both) - stopped_by_value[values > 0] @ (
            1 / (b + values[values > 0] - 1)
        )
        return float(value), np.array([by_r * r, by_alpha * alpha, by_a * a, by_b * b])

    def alive_at(self, theta: Floats, frequency: Floats, recency: Floats, age: Floats) -> Floats:
        """Equation 8 of Fader, Hardie and Lee (2008), "Computing P(alive) Using the BG/NBD Model"."""
        r, alpha, _, b = np.exp(theta)
        alive = np.ones(len(frequency))
        repeat = frequency > 0
        x, t_x, t = frequency[repeat], recency[repeat], age[repeat]
        odds = theta[2] - np.log(b + x - 1) + (r + x) * (np.log(alpha + t) - np.log(alpha + t_x))
        alive[repeat] = expit(-odds)
        return alive

    def returning_at(self, theta: Floats, frequency: Floats, age: Floats, until: Floats) -> Floats:
        """Mean of (1 - (1 + p t / (alpha + T)) ** -(r + x)) / p over p ~ Beta(a, b + x).

        The paper's equation 10 says the same by a hypergeometric function over (a - 1), which loses every digit where
        a is near 1 or large. This has one sign and no poles: `NODES` nodes of Gauss and Jacobi for each x.
        """
        r, alpha, a, b = np.exp(theta)
        values, position = np.unique(frequency, return_inverse=True)
        expected = np.empty((len(frequency), len(until)))
        for number, x in enumerate(values):
            rows = np.flatnonzero(position == number)
            for nodes, some in (
                (NODES, rows[until.max(initial=0.0) <= FAR * (alpha + age[rows])]),
                (NODES_FAR, rows[until.max(initial=0.0) > FAR * (alpha + age[rows])]),
            ):
                if not len(some):
                    continue
                p, weights = beta_nodes(a, b + x, nodes)
                for part in np.array_split(some, -(-len(some) // 10_000)):
                    for column, t in enumerate(until):
                        growth = np.log1p(p * (t / (alpha + age[part]))[:, None])
                        expected[part, column] = -np.expm1(-(r + x) * growth) @ (weights / p)
        return expected

    def draw_returning(
        self, theta: Floats, frequency: Floats, age: Floats, until: float, draws: int, generator: np.random.Generator
    ) -> Floats:
        r, alpha, a, b = np.exp(theta)
        size = (len(frequency), draws)
        rate = generator.standard_gamma(np.broadcast_to((r + frequency)[:, None], size)) / (alpha + age)[:, None]
        stops = generator.beta(a, np.broadcast_to((b + frequency)[:, None], size))
        last = generator.geometric(np.maximum(stops, 1e-12))  # the purchase after which the customer stops
        drawn: Floats = np.minimum(generator.poisson(rate * until), last).astype(float)
        return drawn


def beta_nodes(a: float, b: float, nodes: int) -> tuple[Floats, Floats]:
    """Nodes in (0, 1) and weights, of sum 1, of the mean of a smooth function over Beta(a, b).

    Golub and Welsch (1969), "Calculation of Gauss Quadrature Rules", on the recurrence of the Jacobi polynomials: it
    holds for any a and b, where tables of weights by Gamma functions overflow.
    """
    n = np.arange(nodes, dtype=float)
    alpha, beta = b - 1, a - 1
    total = 2 * n + alpha + beta
    with np.errstate(divide="ignore", invalid="ignore"):
        diagonal = (beta**2 - alpha**2) / (total * (total + 2))
    diagonal[0] = (beta - alpha) / (alpha + beta + 2)
    k, total = n[1:], total[1:]
    # (total - 1) and (k + alpha + beta) are the same at k = 1 and cancel, as both are 0 where a + b = 1.
    ratio = np.where(k == 1, 1.0, (k + alpha + beta) / np.where(k == 1, 1.0, total - 1))
    off = 4 * k * (k + alpha) * (k + beta) * ratio / (total**2 * (total + 1))
    roots, vectors = eigh_tridiagonal(diagonal, np.sqrt(off))
    return np.clip((1 + roots) / 2, np.finfo(float).tiny, 1.0), vectors[0] ** 2
