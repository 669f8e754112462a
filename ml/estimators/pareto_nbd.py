"""Pareto/NBD: repeat purchases at a constant rate over a lifetime that may end at any instant.

Schmittlein, Morrison and Colombo (1987), "Counting Your Customers: Who Are They and What Will They Do Next?",
Management Science 33(1), 1-24; Fader and Hardie (2005), "A Note on Deriving the Pareto/NBD Model and Related
Expressions". Purchases come at rate lambda ~ Gamma(r, alpha); the customer stops at rate mu ~ Gamma(s, beta).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.special import exprel, gammaln, psi

from ml.estimators.lifetimes import Floats, Grouped, distinct
from ml.estimators.purchases import PurchaseModel

ROWS = 8_192  # integrals computed at a time: their nodes stay in the processor's cache

NODES = 48
LEFT = -3.4  # where u is 1e-14 of the smallest scale
DEEP = 32.0  # natural logarithms below the integrand's top at which the rule ends
BEND = 0.3
DEPTH_MAX = 600.0  # so that u does not overflow


class ParetoNBD(PurchaseModel):
    """Pareto/NBD with the parameters r, alpha (a time), s and beta (a time).

    The published likelihood is a difference of hypergeometric functions, which overflows or cancels for many purchases
    or far apart times. Integration by parts makes it a sum of two positive integrals, one of recency and one of T:

        L = G(r+x) / G(r) alpha^r beta^s [ s J(t_x) + K(T) ],
        J(t) = integral over v > t of (alpha+v)^-(r+x)   (beta+v)^-(s+1),
        K(t) = integral over v > t of (alpha+v)^-(r+x+1) (beta+v)^-s times (r+x).

    Each depends on two numbers, so that a million customers need only as many integrals as there are pairs.
    """

    names: ClassVar[tuple[str, ...]] = ("r", "alpha", "s", "beta")
    times: ClassVar[tuple[bool, ...]] = (False, True, False, True)

    def _starts(self) -> list[tuple[float, ...]]:
        return [tuple(np.log([0.5, 0.4, 0.5, 0.4])), tuple(np.log([1.0, 1.0, 1.0, 2.0]))]

    def _log_likelihood(self, theta: Floats, histories: Grouped) -> tuple[float, Floats]:
        r, alpha, s, beta = np.exp(theta)
        frequency, recency, age = histories.columns
        weight = histories.weight.astype(float)
        values, position = np.unique(frequency, return_inverse=True)
        counts = np.bincount(position, weights=weight)

        (x, t), at_recency = distinct(frequency, recency)
        stopped, d_stopped = log_tail(r + x, np.full(len(x), s + 1), alpha + t, beta + t)
        stopped += np.log(s)
        d_stopped[2] += 1 / s
        (x, t), at_age = distinct(frequency, age)
        bought, d_bought = log_tail(r + x + 1, np.full(len(x), s), alpha + t, beta + t)
        bought += np.log(r + x)
        d_bought[0] += 1 / (r + x)

        one, other = stopped[at_recency], bought[at_age]
        both = np.logaddexp(one, other)
        by_x = gammaln(r + values) - gammaln(r) + r * theta[1] + s * theta[3]
        value = counts @ by_x + weight @ both
        share = weight * np.exp(one - both)
        gradient = d_stopped @ np.bincount(at_recency, weights=share, minlength=len(stopped))
        gradient += d_bought @ np.bincount(at_age, weights=weight - share, minlength=len(bought))
        customers = counts.sum()
        gradient[0] += counts @ (psi(r + values) - psi(r) + theta[1])
        gradient[1] += customers * r / alpha
        gradient[2] += customers * theta[3]
        gradient[3] += customers * s / beta
        return float(value), gradient * np.exp(theta)

    def alive_at(self, theta: Floats, frequency: Floats, recency: Floats, age: Floats) -> Floats:
        """Share of the likelihood that belongs to lifetimes beyond T (equation 11 of the note)."""
        r, alpha, s, beta = np.exp(theta)
        (x, t), at_recency = distinct(frequency, recency)
        stopped = np.log(s) + log_tail(r + x, np.full(len(x), s + 1), alpha + t, beta + t)[0]
        (x, t), at_age = distinct(frequency, age)
        bought = np.log(r + x) + log_tail(r + x + 1, np.full(len(x), s), alpha + t, beta + t)[0]
        alive = -(r + frequency) * np.log(alpha + age) - s * np.log(beta + age)
        probability: Floats = np.exp(np.minimum(alive - np.logaddexp(stopped[at_recency], bought[at_age]), 0.0))
        return probability

    def returning_at(self, theta: Floats, frequency: Floats, age: Floats, until: Floats) -> Floats:
        """Equation 22 of the note without P(alive), written so that s = 1 is no exception."""
        r, alpha, s, beta = np.exp(theta)
        elapsed = np.log1p(until / (beta + age)[:, None])
        expected: Floats = ((r + frequency) * (beta + age) / (alpha + age))[:, None] * elapsed
        expected *= exprel((1 - s) * elapsed)
        return expected

    def draw_returning(
        self, theta: Floats, frequency: Floats, age: Floats, until: float, draws: int, generator: np.random.Generator
    ) -> Floats:
        r, alpha, s, beta = np.exp(theta)
        size = (len(frequency), draws)
        rate = generator.standard_gamma(np.broadcast_to((r + frequency)[:, None], size)) / (alpha + age)[:, None]
        stopping = generator.standard_gamma(s, size) / (beta + age)[:, None]
        lifetime = generator.standard_exponential(size) / np.maximum(stopping, 1e-300)
        drawn: Floats = generator.poisson(rate * np.minimum(lifetime, until)).astype(float)
        return drawn


def log_tail(p: Floats, q: Floats, a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Logarithm of the integral of (a + u) ** -p (b + u) ** -q over u > 0, for p + q > 1.

    It is a hypergeometric function of Gauss, which libraries give without derivatives by its parameters. Here it is the
    trapezoidal rule after a double-exponential substitution (Takahasi and Mori 1974), from the smallest scale of the
    integrand to beyond the greatest: ten digits where a and b differ by no more than a factor of 1e5.

    Returns:
        The logarithms, shape (n,), and their derivatives by p, a, q and b, shape (4, n).
    """
    value = np.empty(len(p))
    slope = np.empty((4, len(p)))
    for start in range(0, len(p), ROWS):
        part = slice(start, start + ROWS)
        value[part], slope[:, part] = _log_tail(p[part, None], q[part, None], a[part, None], b[part, None])
    return value, slope


def _log_tail(p: Floats, q: Floats, a: Floats, b: Floats) -> tuple[Floats, Floats]:
    k = p + q - 1
    smallest = 1 / (p / a + q / b)
    span = np.log(np.maximum(a, b) / smallest)
    depth = np.where(k < DEEP, DEEP / k + np.log(-np.expm1(-DEEP / k)), np.log(np.expm1(np.minimum(DEEP / k, 1.0))))
    depth = np.minimum(depth, DEPTH_MAX)
    step = (span + np.minimum(depth, np.log(np.maximum(depth, BEND) / BEND)) - LEFT) / NODES
    z = LEFT + step * np.arange(NODES + 1)
    grown = np.exp(z)
    # log(u / smallest) is z between the scales, falls exponentially below them and rises so above.
    bent = (BEND * np.exp(-span)) * grown
    log_u = z - 1 / grown + bent
    u = smallest * np.exp(log_u)
    after_a, after_b = a + u, b + u
    log_a, log_b = np.log(after_a), np.log(after_b)
    log_h = log_u + np.log(1 + 1 / grown + bent) - p * log_a - q * log_b
    top = log_h.max(axis=1, keepdims=True)
    h = np.exp(log_h - top)
    total = h.sum(axis=1)
    h /= total[:, None]
    slope = np.array(
        [
            -np.einsum("ij,ij->i", h, log_a),
            -p[:, 0] * np.einsum("ij,ij->i", h, 1 / after_a),
            -np.einsum("ij,ij->i", h, log_b),
            -q[:, 0] * np.einsum("ij,ij->i", h, 1 / after_b),
        ]
    )
    return top[:, 0] + np.log(total) + np.log(smallest * step)[:, 0], slope
