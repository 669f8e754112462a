"""What the lifetime models share: reading histories, grouping them, maximum likelihood with standard errors.

A customer's history is what the purchase models need to know of it (Fader, Hardie and Lee 2005):

- `frequency` x: repeat purchases, that is purchases less the first one; whole and not negative;
- `recency` t_x: time from the first purchase to the last one, 0 where there is no repeat purchase;
- `T`: time from the first purchase to the end of observation;
- `monetary` z, for the model of spend alone: mean amount of the repeat purchases; anything where there are none.

Times are in one unit, the caller's (weeks, usually); every horizon is in the same unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

FREQUENCY, RECENCY, AGE, MONETARY = "frequency", "recency", "T", "monetary"
COLUMNS = (FREQUENCY, RECENCY, AGE, MONETARY)
"""Columns by name in a table; by this order in an array, whose fourth may be left out where no spend is asked for."""

THIN_TO = 20_000  # customers of the first stage of a fit, from which the whole is a few steps away
LIMIT = 10.0  # of the logarithm of a parameter in its natural scale: beyond, it is not determined
CONVERGED = 1e-7  # distance from the maximum in standard errors
STEPS_MAX = 50


class FitRefusedError(ValueError):
    """The data cannot carry the model: too few customers, or the likelihood has no maximum.

    Its text says why and what helps. More or other data are needed, or another model; trying again does not help.
    """


# --- Reading ----------------------------------------------------------------------------------------------------------


def read_columns(X: Any, names: Sequence[str]) -> dict[str, Floats]:
    """Columns of a pyarrow table or a data frame by name, or of an array by the order of `COLUMNS`, as floats.

    Raises:
        ValueError: a column is missing or not numeric, or the array has the wrong shape.
    """
    present = feature_names(X)
    if present is not None:
        missing = [name for name in names if name not in present]
        if missing:
            raise ValueError(f"column {', '.join(missing)} is missing: there are {', '.join(present)}")
        return {name: _floats(X[name], name) for name in names}
    array = np.asarray(X)
    asked = 1 + max(COLUMNS.index(name) for name in names)
    if array.ndim != 2 or not asked <= array.shape[1] <= len(COLUMNS):
        raise ValueError(
            f"an array of shape {array.shape}: asked is (customers, {asked}) with the columns"
            f" {', '.join(COLUMNS[:asked])} in this order, or a table with these names"
        )
    return {name: _floats(array[:, COLUMNS.index(name)], name) for name in names}


def feature_names(X: Any) -> list[str] | None:
    """Names of the columns of a pyarrow table or a data frame; None of an array."""
    names = getattr(X, "column_names", None)
    if names is None:
        names = getattr(X, "columns", None)
    return None if names is None else [str(name) for name in names]


def _floats(column: Any, name: str) -> Floats:
    try:
        if hasattr(column, "cast"):  # pyarrow: decimals too, nulls as NaN
            column = column.cast("double").to_numpy()
        elif hasattr(column, "to_numpy"):
            column = column.to_numpy(dtype=float, na_value=np.nan)
        return np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError, NotImplementedError) as reason:
        raise ValueError(f"{name} holds what is not a number: {reason}") from reason


def read_histories(X: Any) -> tuple[Floats, Floats, Floats]:
    """Frequency, recency and T of every customer, checked.

    Raises:
        ValueError: a value that no history can have; the text names the column, how many rows, and the first of them.
    """
    columns = read_columns(X, COLUMNS[:3])
    frequency, recency, age = columns[FREQUENCY], columns[RECENCY], columns[AGE]
    if not len(frequency):
        raise ValueError("no customers: the table has no rows")
    for name, values in columns.items():
        refuse(~np.isfinite(values), values, f"{name} is missing or infinite")
        refuse(values < 0, values, f"{name} is negative")
    refuse(frequency != np.floor(frequency), frequency, "frequency is not a whole number")
    refuse(recency > age, recency, "recency is greater than T: the last purchase lies after the end of observation")
    refuse((frequency == 0) & (recency > 0), recency, "recency without a repeat purchase (frequency 0)")
    refuse((frequency > 0) & (recency == 0), frequency, "repeat purchases (frequency) at recency 0: count one a day")
    return frequency, recency, age


def refuse(wrong: NDArray[np.bool_], values: Floats, what: str) -> None:
    """Raise ValueError with count, first row and its value, if any row is wrong."""
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"{what} in {int(wrong.sum()):,} of {len(wrong):,} rows, first in row {row} ({values[row]:g})")


# --- Sufficient statistics --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grouped:
    """Distinct rows, sorted, and how many customers share each: the likelihood needs no more.

    Sorted, so that sums, and with them fits, are the same to the last digit in whatever order customers come.
    """

    columns: tuple[Floats, ...]
    weight: Integers

    @classmethod
    def of(cls, *columns: Floats) -> Self:
        order = np.lexsort(columns[::-1])
        ordered = [column[order] for column in columns]
        first = np.ones(len(order), dtype=bool)
        first[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in ordered])
        starts = np.flatnonzero(first)
        return cls(tuple(column[starts] for column in ordered), np.diff(starts, append=len(order)))

    @property
    def customers(self) -> int:
        return int(self.weight.sum())

    def thinned(self, customers: int) -> Self:
        """Every k-th customer of the sorted ones, so that about `customers` remain: a sample stratified by history."""
        step = -(-self.customers // customers)
        if step == 1:
            return self
        weight = np.diff(np.cumsum(self.weight) // step, prepend=0)
        kept = weight > 0
        return type(self)(tuple(column[kept] for column in self.columns), weight[kept])


def distinct(*columns: Floats) -> tuple[tuple[Floats, ...], Integers]:
    """Distinct rows of the columns, and for each row the position of its like among them."""
    codes = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        values, code = np.unique(column, return_inverse=True)
        # Numbered anew after each column: products of the numbers of distinct values would overflow.
        codes = np.unique(codes * len(values) + code, return_inverse=True)[1]
    first = np.zeros(int(codes.max()) + 1, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    return tuple(column[first] for column in columns), codes


# --- Maximum likelihood -----------------------------------------------------------------------------------------------


class Statistics(Protocol):
    """What a likelihood is computed from."""

    @property
    def customers(self) -> int: ...

    def thinned(self, customers: int) -> Self: ...


@dataclass(frozen=True)
class Maximum:
    """Where a likelihood is greatest.

    Attributes:
        theta: logarithms of the parameters.
        log_likelihood: without the penalty.
        covariance: of theta, the inverse of the negative Hessian (the penalty's included).
        evaluations: of the likelihood and its gradient, on whatever share of the customers.
    """

    theta: Floats
    log_likelihood: float
    covariance: Floats
    evaluations: int


S = TypeVar("S", bound=Statistics)


def maximise(
    likelihood: Callable[[Floats, S], tuple[float, Floats]],
    statistics: S,
    names: Sequence[str],
    starts: Sequence[Sequence[float]],
    penalty: float,
    usual_cause: str,
) -> Maximum:
    """Maximise a log-likelihood over the logarithms of its parameters.

    L-BFGS with the analytic gradient on at most `THIN_TO` customers, then Newton's method on all of them, with a
    Hessian of differences of gradients that is computed anew only where it does not serve: a million customers cost a
    few evaluations more than twenty thousand. It ends where the maximum is nearer than `CONVERGED` standard errors.

    Args:
        likelihood: sum over customers, and its gradient by theta.
        statistics: what it is computed from.
        names: of the parameters, for what is said of them.
        starts: values of theta to begin with, the second used where the first leads nowhere.
        penalty: weight of the sum of squares of theta, against the mean log-likelihood of a customer.
        usual_cause: of a likelihood without a maximum, for the error.

    Raises:
        FitRefusedError: no start leads to a maximum.
    """
    evaluations = 0

    def objective(theta: Floats, among: S) -> tuple[float, Floats]:
        nonlocal evaluations
        evaluations += 1
        value, gradient = likelihood(theta, among)
        return (
            -value / among.customers + penalty * float(theta @ theta),
            -gradient / among.customers + 2 * penalty * theta,
        )

    def hessian(theta: Floats, among: S) -> Floats:
        step = 1e-4
        rows = [objective(theta + e, among)[1] - objective(theta - e, among)[1] for e in step * np.eye(len(theta))]
        matrix = np.array(rows) / (2 * step)
        symmetric: Floats = (matrix + matrix.T) / 2
        return symmetric

    def newton(theta: Floats) -> tuple[Floats, Floats] | None:
        """Theta at the maximum and the Hessian there; None where it is not found."""
        customers = statistics.customers
        curvature, exact = hessian(theta, few), few is statistics
        value, gradient = objective(theta, statistics)
        distance = np.inf
        for _ in range(STEPS_MAX):
            if (factor := _cholesky(curvature)) is None:
                if exact:
                    return None
                curvature, exact = hessian(theta, statistics), True
                continue
            step = cho_solve(factor, gradient)
            before, distance = distance, float(np.sqrt(customers * max(gradient @ step, 0.0)))
            if distance < CONVERGED:
                at_maximum = hessian(theta, statistics)
                return (theta, at_maximum) if _cholesky(at_maximum) else None
            if distance > before / 4:
                curvature, exact, distance = hessian(theta, statistics), True, np.inf
                if (factor := _cholesky(curvature)) is None:
                    return None
                step = cho_solve(factor, gradient)
            for length in (1.0, 0.5, 0.1, 0.01):
                further = theta - length * step
                if np.abs(further).max() < LIMIT:
                    reached, slope = objective(further, statistics)
                    # Equal but for rounding counts as lower: the gradient says more there.
                    if reached <= value + 1e-12 * abs(value):
                        theta, value, gradient = further, reached, slope
                        break
            else:
                return None
        return None

    few = statistics.thinned(THIN_TO)
    at_limit: list[str] = []
    for start in starts:
        found = minimize(
            objective,
            np.asarray(start, dtype=float),
            args=(few,),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-LIMIT, LIMIT)] * len(names),
            options={"maxiter": 1000, "maxfun": 2000, "ftol": 1e-13, "gtol": 1e-7},
        )
        at_limit = [
            f"{name} towards {'infinity' if value > 0 else 'zero'}"
            for name, value in zip(names, found.x, strict=True)
            if abs(value) > LIMIT - 0.5
        ]
        if not at_limit and (polished := newton(found.x)) is not None:
            theta, curvature = polished
            factor = _cholesky(curvature)
            covariance = cho_solve(factor, np.eye(len(theta))) / statistics.customers
            return Maximum(theta, likelihood(theta, statistics)[0], covariance, evaluations)
    leads = f"; the search goes on for ever with {', '.join(at_limit)}" if at_limit else ""
    raise FitRefusedError(
        f"the histories of {statistics.customers:,} customers do not determine {', '.join(names)}: the likelihood has"
        f" no maximum that stands out{leads}. {usual_cause}. A longer history helps, or penalty=0.001, which pulls what is"
        " undetermined to its scale"
    )


def _cholesky(matrix: Floats) -> Any | None:
    """Cholesky's factor of a matrix that is positive definite beyond rounding; None of any other."""
    if not np.isfinite(matrix).all() or np.linalg.eigvalsh(matrix)[0] <= 1e-9 * np.abs(matrix).max():
        return None
    return cho_factor(matrix)


def fitted_errors(names: Sequence[str], parameters: Floats, covariance: Floats) -> dict[str, float]:
    """Standard errors of the parameters, from the covariance of their logarithms (delta method)."""
    return dict(zip(names, (parameters * np.sqrt(np.diag(covariance))).tolist(), strict=True))


def horizons(t: ArrayLike) -> Floats:
    """Horizons as an array.

    Raises:
        ValueError: one is negative, infinite or missing.
    """
    array = np.asarray(t, dtype=float)
    if not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(f"a horizon is a finite time of 0 or more, in the unit of T, and not {t!r}")
    return array
