"""What the models of repeat purchases have in common: fitting, and the questions that are asked of them."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ml.estimators.lifetimes import (
    COLUMNS,
    FitRefusedError,
    Floats,
    Grouped,
    distinct,
    feature_names,
    fitted_errors,
    horizons,
    maximise,
    read_histories,
)


class PurchaseModel(BaseEstimator, metaclass=ABCMeta):  # type: ignore[misc]  # scikit-learn has no types
    """A model of when customers buy again and when they stop.

    Parameters:
        penalty: weight of the sum of squares of the logarithms of the parameters (times in units of the mean T),
            against the mean log-likelihood of a customer. 0 is maximum likelihood.
        customers_min: customers that a fit needs.
        repeat_buyers_min: customers with a repeat purchase that a fit needs.

    Attributes:
        parameters_: by name; times in the unit of T.
        standard_errors_: of the parameters, by name.
        covariance_: of the logarithms of the parameters, shape (4, 4), in the order of `parameters_`.
        log_likelihood_: at the parameters, of all customers.
        customers_, repeat_buyers_: how many the fit saw.
        evaluations_: of the likelihood and its gradient.
    """

    names: ClassVar[tuple[str, ...]]
    times: ClassVar[tuple[bool, ...]]  # which of the parameters are times

    def __init__(self, *, penalty: float = 0.0, customers_min: int = 100, repeat_buyers_min: int = 20) -> None:
        self.penalty = penalty
        self.customers_min = customers_min
        self.repeat_buyers_min = repeat_buyers_min

    # --- Fitting

    def fit(self, X: Any, y: object = None) -> Self:
        """Maximum likelihood on the distinct histories.

        Args:
            X: histories; see `ml.estimators.lifetimes`.
            y: ignored; scikit-learn's pipelines pass it.

        Raises:
            ValueError: a value that no history can have.
            FitRefusedError: too few customers, or histories that do not determine the parameters.
        """
        if not 0 <= self.penalty < np.inf:
            raise ValueError(f"penalty must be 0 or more and finite, not {self.penalty!r}")
        frequency, recency, age = read_histories(X)
        self._enough(frequency, age)
        scale = float(np.sort(age).mean())  # sorted, for the same digits in any order
        grouped = Grouped.of(frequency, recency / scale, age / scale)
        found = maximise(
            self._log_likelihood,
            grouped,
            self.names,
            self._starts(),
            self.penalty,
            "Customers may differ too little, or too few may have stopped buying within the time observed",
        )
        theta = found.theta + np.where(self.times, np.log(scale), 0.0)
        values = np.exp(theta)
        self.parameters_ = dict(zip(self.names, values.tolist(), strict=True))
        self.covariance_ = found.covariance
        self.standard_errors_ = fitted_errors(self.names, values, found.covariance)
        # A density of x instants: in the caller's unit it is scale ** -x times what it is in units of the mean T.
        self.log_likelihood_ = found.log_likelihood - float(frequency.sum()) * float(np.log(scale))
        self.customers_ = len(frequency)
        self.repeat_buyers_ = int((frequency > 0).sum())
        self.evaluations_ = found.evaluations
        names = feature_names(X)
        self.n_features_in_ = len(COLUMNS[:3])
        if names is not None:
            self.feature_names_in_ = np.array(COLUMNS[:3], dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        return self

    def log_likelihood(self, X: Any) -> float:
        """Log-likelihood of histories at the fitted parameters."""
        return self._log_likelihood(self.theta, Grouped.of(*read_histories(X)))[0]

    @property
    def theta(self) -> Floats:
        """Logarithms of the fitted parameters, shape (4,)."""
        check_is_fitted(self, "parameters_")
        theta: Floats = np.log(np.array([self.parameters_[name] for name in self.names]))
        return theta

    def _enough(self, frequency: Floats, age: Floats) -> None:
        buyers = int((frequency > 0).sum())
        if len(frequency) < self.customers_min:
            raise FitRefusedError(f"{len(frequency):,} customers are too few: a fit needs {self.customers_min:,}")
        if not age.any():
            raise FitRefusedError("T is 0 for every customer: nobody was observed for any time")
        if buyers < max(self.repeat_buyers_min, 1):
            raise FitRefusedError(
                f"{buyers:,} of {len(frequency):,} customers bought a second time: a fit needs"
                f" {max(self.repeat_buyers_min, 1):,} of them to learn how often customers return"
            )

    # --- Questions

    def probability_alive(self, X: Any) -> Floats:
        """Probability that a customer has not stopped for good, given the history; shape (customers,)."""
        return self.alive_at(self.theta, *read_histories(X))

    def expected_purchases(self, t: ArrayLike) -> Floats:
        """Repeat purchases that a new customer makes on average in the time t after the first; shape of t."""
        until = horizons(t)
        one = np.zeros(1)
        return self.returning_at(self.theta, one, one, until.ravel()).reshape(until.shape)

    def conditional_expected_purchases(self, X: Any, t: ArrayLike) -> Floats:
        """Purchases expected in the time t after T, given the history.

        Args:
            X: histories.
            t: one horizon, or several.

        Returns:
            Shape (customers,), or (customers, horizons) for several.
        """
        until = horizons(t)
        expected = self.conditional_at(self.theta, *read_histories(X), until.ravel())
        return expected[:, 0] if until.ndim == 0 else expected

    def conditional_at(self, theta: Floats, frequency: Floats, recency: Floats, age: Floats, until: Floats) -> Floats:
        """`conditional_expected_purchases` at any parameters; shape (customers, horizons)."""
        # What a customer who is alive will do depends on x and T alone, of which there are few pairs.
        (some_frequency, some_age), position = distinct(frequency, age)
        returning = self.returning_at(theta, some_frequency, some_age, until)
        expected: Floats = self.alive_at(theta, frequency, recency, age)[:, None] * returning[position]
        return expected

    # --- What a model says

    @abstractmethod
    def _starts(self) -> list[tuple[float, ...]]:
        """Logarithms of parameters to begin with, times in units of the mean T."""

    @abstractmethod
    def _log_likelihood(self, theta: Floats, histories: Grouped) -> tuple[float, Floats]:
        """Sum over customers, and its gradient by theta."""

    @abstractmethod
    def alive_at(self, theta: Floats, frequency: Floats, recency: Floats, age: Floats) -> Floats:
        """Probability of being alive at T; shape (customers,)."""

    @abstractmethod
    def returning_at(self, theta: Floats, frequency: Floats, age: Floats, until: Floats) -> Floats:
        """Purchases expected by each horizon of a customer who is alive at T; shape (customers, horizons)."""

    @abstractmethod
    def draw_returning(
        self, theta: Floats, frequency: Floats, age: Floats, until: float, draws: int, generator: np.random.Generator
    ) -> Floats:
        """Numbers of purchases by a horizon of customers who are alive at T; shape (customers, draws)."""
