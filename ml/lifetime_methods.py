"""Ways to say what customers will order and spend: the plain projection, two purchase models, a regression.

Data frames in, arrays out. A frame holds one row per customer with an order and the columns `COLUMNS` as floats, null as
NaN, and `account_type` as text or null. Spend is net of returns, in the reporting currency.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ml.estimators.bg_nbd import BetaGeoNBD
from ml.estimators.gamma_gamma import GammaGamma
from ml.estimators.lifetime_value import clv
from ml.estimators.lifetimes import FREQUENCY, MONETARY, RECENCY, FitRefusedError, Floats
from ml.estimators.pareto_nbd import ParetoNBD
from ml.estimators.purchases import PurchaseModel
from ml.features import signed_log
from ml.registry import SEED

if TYPE_CHECKING:
    import pandas as pd

REQUIRED = ("age_days", "tenure_days", "order_days", "orders", "spend_total", "first_day_spend")
"""Columns that everybody with an order has a value in."""
GAPS = ("mean_gap_days", "last_gap_days", "overdue_ratio")
"""Columns without a value for who ordered on one day only."""
COLUMNS = (*REQUIRED, "orders_90", "orders_180", "spend_90", "is_churn_population", *GAPS)
WINDOW_DAYS = 180
"""The longest window among them: the regression learns from instants with this much history."""

DAYS_IN_WEEK = 7
DAYS_IN_YEAR = 365
WINSORISED = 0.99  # of spend, where parameters are learned; what is scored is left as it is
LEVEL = 0.90
DRAWS = 100
REPRESENTATIVES = 20_000  # customers whose interval is drawn at most
PENALTY = 0.001  # where maximum likelihood has no maximum
FLAT = 1.1  # a factor of a customer's value within which it is no reason
BANDS = 10
ROWS_MIN = 500  # that a regression is learned from

PROJECTION, REGRESSION = "history mean", "regression"
PURCHASE_MODELS: Mapping[str, type[PurchaseModel]] = {"BG/NBD": BetaGeoNBD, "Pareto/NBD": ParetoNBD}


@dataclass(frozen=True)
class Expected:
    """Orders and spend expected within a horizon, each of shape (customers,)."""

    orders: Floats
    spend: Floats


class Method(Protocol):
    """A way to answer, fitted."""

    @property
    def name(self) -> str:
        """As tables and rows carry it."""

    def expected(self, frame: pd.DataFrame, horizon_days: int) -> Expected:
        """What each customer of `frame` will order and spend within the horizon."""


@dataclass(frozen=True)
class Values:
    """What customers will be worth within a horizon, each of shape (customers,).

    Attributes:
        clv: expected spend, discounted.
        low, high: bounds that hold what a customer will spend, discounted, with probability `LEVEL`.
        alive: probability that the customer will order again at all; NaN where the method does not say.
    """

    orders: Floats
    spend: Floats
    clv: Floats
    low: Floats
    high: Floats
    alive: Floats


def histories(frame: pd.DataFrame) -> pd.DataFrame:
    """What the purchase models know of customers: repeat order dates, recency and T in weeks, spend per repeat date."""
    import pandas as pd

    frequency = frame["order_days"].to_numpy(dtype=float) - 1
    age, tenure = frame["age_days"].to_numpy(dtype=float), frame["tenure_days"].to_numpy(dtype=float)
    later = frame["spend_total"].to_numpy(dtype=float) - frame["first_day_spend"].to_numpy(dtype=float)
    return pd.DataFrame(
        {
            FREQUENCY: frequency,
            RECENCY: (tenure - age) / DAYS_IN_WEEK,
            "T": tenure / DAYS_IN_WEEK,
            MONETARY: np.divide(later, frequency, out=np.zeros(len(frame)), where=frequency > 0),
        }
    )


def months_of(horizon_days: int) -> int:
    """Months, at whose ends a horizon is paid."""
    return max(1, round(horizon_days * 12 / DAYS_IN_YEAR))


def discount(horizon_days: int, annual_rate: float) -> float:
    """Value now of one that is spent evenly over a horizon, paid at the end of each of its months."""
    return float(np.mean((1 + annual_rate) ** (-np.arange(1, months_of(horizon_days) + 1) / 12)))


# --- The projection ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HistoryMean:
    """What was spent so far per year since the first order, over one year at least, and nothing past dormancy."""

    name: str = PROJECTION

    def expected(self, frame: pd.DataFrame, horizon_days: int) -> Expected:
        """The same daily orders and spend for ever."""
        days = np.maximum(frame["tenure_days"].to_numpy(dtype=float), DAYS_IN_YEAR)
        share = horizon_days / days * frame["is_churn_population"].to_numpy(dtype=float)
        return Expected(
            frame["orders"].to_numpy(dtype=float) * share, frame["spend_total"].to_numpy(dtype=float) * share
        )


# --- Purchase models --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PurchasesAndSpend:
    """A model of order dates times Gamma-Gamma's spend per order date, less the share that comes back.

    Attributes:
        purchases: fitted.
        spends: fitted by account type; None is of all customers, and for those of another or unknown type.
        kept: spend less returns, over spend.
        orders_per_date: orders on a date with an order.
        typical: means over the customers of the fit: alive, purchases in a year if alive, spend per order date.
    """

    name: str
    purchases: PurchaseModel
    spends: Mapping[str | None, GammaGamma]
    kept: float
    orders_per_date: float
    typical: tuple[float, float, float]

    def expected(self, frame: pd.DataFrame, horizon_days: int) -> Expected:
        """Order dates expected, and what they are expected to bring."""
        known = histories(frame)
        dates = self.purchases.conditional_expected_purchases(known, horizon_days / DAYS_IN_WEEK)
        return Expected(dates * self.orders_per_date, dates * self.spend_per_date(frame) * self.kept)

    def spend_per_date(self, frame: pd.DataFrame) -> Floats:
        """Spend expected per order date, returns included."""
        return _spend_per_date(self.spends, frame)

    def alive(self, frame: pd.DataFrame) -> Floats:
        """Probability that each customer will order again at all."""
        return self.purchases.probability_alive(histories(frame))

    def values(self, frame: pd.DataFrame, horizon_days: int, annual_rate: float) -> Values:
        """Value with intervals: quantiles of draws of what customers spend, for `REPRESENTATIVES` of them at most.

        Of more customers, every k-th in order of frequency and expected purchases is drawn, and those next to it have
        its bounds, as multiples of the value.
        """
        known = histories(frame)
        months = months_of(horizon_days)
        value, dates, low, high = (np.empty(len(frame)) for _ in range(4))
        for account, rows in _by_account(self.spends, frame).items():
            some = known.iloc[rows]

            def valued(these: pd.DataFrame, interval: Any, spends: GammaGamma = self.spends[account]) -> Any:
                return clv(
                    self.purchases,
                    spends,
                    these,
                    months=months,
                    month=horizon_days / DAYS_IN_WEEK / months,
                    annual_discount_rate=annual_rate,
                    interval=interval,
                    level=LEVEL,
                    draws=DRAWS,
                    seed=SEED,
                )

            if len(rows) <= REPRESENTATIVES:
                said = valued(some, "outcome")
                value[rows], dates[rows], low[rows], high[rows] = said.value, said.purchases, said.low, said.high
                continue
            said = valued(some, None)
            order = np.lexsort((said.purchases, some[FREQUENCY].to_numpy()))
            step = -(-len(rows) // REPRESENTATIVES)
            drawn = order[::step]
            bounds = valued(some.iloc[drawn], "outcome")
            nearest = np.empty(len(rows), dtype=int)
            nearest[order] = np.arange(len(rows)) // step
            value[rows], dates[rows] = said.value, said.purchases
            for found, bound in ((low, bounds.low), (high, bounds.high)):
                found[rows] = said.value * (bound / np.maximum(bounds.value, np.finfo(float).tiny))[nearest]
        return Values(
            orders=dates * self.orders_per_date,
            spend=dates * self.spend_per_date(frame) * self.kept,
            clv=value * self.kept,
            low=low * self.kept,
            high=high * self.kept,
            alive=self.alive(frame),
        )

    def reasons(self, frame: pd.DataFrame) -> list[list[str | None]]:
        """What sets a customer's value apart: up to three words each, what moves it most first.

        Expected spend is a product of three factors. Each one's logarithm over that of the customers of the fit is what
        it adds to the logarithm of the value; a factor within `FLAT` of theirs is no reason.
        """
        alive, returning, spend = _factors(self.purchases, self.spends, frame)
        moved = np.column_stack(
            [
                np.log(np.maximum(factor, 1e-12) / max(usual, 1e-12))
                for factor, usual in zip((alive, returning, spend), self.typical, strict=True)
            ]
        )
        words = np.array(
            [["likely gone", "orders rarely", "small baskets"], ["still active", "orders often", "large baskets"]],
            dtype=object,
        )
        said = words[(moved > 0).astype(int), np.arange(3)]
        said[np.abs(moved) <= np.log(FLAT)] = None
        order = np.argsort(-np.abs(moved), axis=1, kind="stable")
        ranked = np.take_along_axis(said, order, axis=1)
        return [ranked[:, place].tolist() for place in range(3)]


def fit_purchases(name: str, frame: pd.DataFrame, kept: float) -> PurchasesAndSpend:
    """Fit a purchase model and Gamma-Gamma to what was known of customers at one instant.

    Amounts above the `WINSORISED` quantile count as it where spend's parameters are learned, so that a few buyers do not
    decide what everybody is expected to spend. Each account type with enough repeat buyers has its own.

    Args:
        name: one of `PURCHASE_MODELS`.
        kept: spend less returns, over spend.

    Raises:
        FitRefusedError: too few customers, or histories that do not determine the parameters.
    """
    known = histories(frame)
    purchases: PurchaseModel = _determined(PURCHASE_MODELS[name], known)
    spends: dict[str | None, GammaGamma] = {None: _fit_spend(known)}
    accounts = frame["account_type"]
    for account in sorted(set(accounts.dropna())):
        try:
            spends[account] = _fit_spend(known[(accounts == account).to_numpy()])
        except FitRefusedError:
            continue
    factors = _factors(purchases, spends, frame)
    return PurchasesAndSpend(
        name=f"{name} x Gamma-Gamma",
        purchases=purchases,
        spends=spends,
        kept=kept,
        orders_per_date=float(frame["orders"].sum() / frame["order_days"].sum()),
        typical=(float(factors[0].mean()), float(factors[1].mean()), float(factors[2].mean())),
    )


def _fit_spend(known: pd.DataFrame) -> GammaGamma:
    repeated = known.loc[known[FREQUENCY] > 0, MONETARY]
    if len(repeated):
        known = known.assign(monetary=np.minimum(known[MONETARY], np.quantile(repeated, WINSORISED)))
    fitted: GammaGamma = _determined(GammaGamma, known)
    return fitted


def _determined(kind: type[Any], known: pd.DataFrame) -> Any:
    """Maximum likelihood; where that has no maximum, with a penalty that pulls what is undetermined to its scale."""
    try:
        return kind().fit(known)
    except FitRefusedError:
        return kind(penalty=PENALTY).fit(known)


def _by_account(spends: Mapping[str | None, GammaGamma], frame: pd.DataFrame) -> dict[str | None, NDArray[np.intp]]:
    """Positions of rows by the key of `spends` that holds for them."""
    accounts = frame["account_type"].to_numpy(dtype=object)
    found: dict[str | None, NDArray[np.intp]] = {
        account: np.flatnonzero(accounts == account) for account in spends if account is not None
    }
    rest = np.ones(len(frame), dtype=bool)
    for rows in found.values():
        rest[rows] = False
    found[None] = np.flatnonzero(rest)
    return {account: rows for account, rows in found.items() if len(rows)}


def _spend_per_date(spends: Mapping[str | None, GammaGamma], frame: pd.DataFrame) -> Floats:
    known = histories(frame)
    spend = np.empty(len(frame))
    for account, rows in _by_account(spends, frame).items():
        spend[rows] = spends[account].expected_spend(known.iloc[rows])
    return spend


def _factors(
    purchases: PurchaseModel, spends: Mapping[str | None, GammaGamma], frame: pd.DataFrame
) -> tuple[Floats, Floats, Floats]:
    """Probability alive, order dates in a year if alive, spend per order date: their product is a year's spend."""
    known = histories(frame)
    alive = purchases.probability_alive(known)
    dates = purchases.conditional_expected_purchases(known, DAYS_IN_YEAR / DAYS_IN_WEEK)
    returning = np.divide(dates, alive, out=np.zeros(len(frame)), where=alive > 0)
    return alive, returning, _spend_per_date(spends, frame)


# --- Regression -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Regression:
    """Log-linear means of orders and spend over one horizon, by Poisson's quasi-likelihood on signed logarithms.

    Beyond its horizon the ratio of a purchase model's expectations extends it.

    Attributes:
        horizon_days: that it learned.
        orders, spend: pipelines of scikit-learn, fitted.
        unit: of spend within the pipeline.
        extension: says what comes after `horizon_days`; None where nothing does.
    """

    horizon_days: int
    orders: Any = field(repr=False)
    spend: Any = field(repr=False)
    unit: float
    extension: PurchasesAndSpend | None = None

    @property
    def name(self) -> str:
        """As tables and rows carry it."""
        return REGRESSION

    def expected(self, frame: pd.DataFrame, horizon_days: int) -> Expected:
        """Means over the horizon.

        Raises:
            ValueError: the horizon is another one than was learned, and nothing extends it.
        """
        values = _design(frame)
        orders, spend = self.orders.predict(values), self.spend.predict(values) * self.unit
        if horizon_days != self.horizon_days:
            if self.extension is None:
                raise ValueError(f"learned for {self.horizon_days} days, not for {horizon_days}")
            until = np.array([self.horizon_days, horizon_days]) / DAYS_IN_WEEK
            dates = self.extension.purchases.conditional_expected_purchases(histories(frame), until)
            longer = np.divide(dates[:, 1], dates[:, 0], out=np.ones(len(frame)), where=dates[:, 0] > 0)
            orders, spend = orders * longer, spend * longer
        return Expected(orders, spend)


def fit_regression(
    learned: pd.DataFrame, orders: Floats, spend: Floats, horizon_days: int, extension: PurchasesAndSpend | None = None
) -> Regression:
    """Learn from customers at instants whose horizon has passed.

    Args:
        learned: customers at those instants.
        orders, spend: what they ordered and spent within the horizon. Spend above the `WINSORISED` quantile of the
            buyers' counts as it, and below 0 as 0.
        extension: what says how the horizon goes on.

    Raises:
        FitRefusedError: too few rows, or nobody spent anything.
    """
    from sklearn.linear_model import PoissonRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(learned) < ROWS_MIN:
        raise FitRefusedError(f"{len(learned):,} customers at earlier instants are too few: {ROWS_MIN:,} are needed")
    bought = spend[spend > 0]
    if not len(bought) or not orders.sum() > 0:
        raise FitRefusedError(f"nobody spent anything within {horizon_days} days of an earlier instant")
    held = np.clip(spend, 0, np.quantile(bought, WINSORISED))
    unit = float(held.mean())
    values = _design(learned)

    def pipeline() -> Any:
        return make_pipeline(StandardScaler(), PoissonRegressor(alpha=1e-3, solver="newton-cholesky", max_iter=300))

    return Regression(
        horizon_days=horizon_days,
        orders=pipeline().fit(values, orders),
        spend=pipeline().fit(values, held / unit),
        unit=unit,
        extension=extension,
    )


def _design(frame: pd.DataFrame) -> Floats:
    """Signed logarithms of the columns and of rates made of them; of a gap that is not there yet, the tenure."""
    columns = {name: frame[name].to_numpy(dtype=float) for name in COLUMNS}
    tenure = columns["tenure_days"]
    for name in ("mean_gap_days", "last_gap_days"):
        columns[name] = np.where(np.isnan(columns[name]), tenure, columns[name])
    columns["overdue_ratio"] = np.nan_to_num(columns["overdue_ratio"])
    # A month more, so that who came yesterday has no rate of 365 a year.
    years = (tenure + 30) / DAYS_IN_YEAR
    columns["dates_a_year"] = columns["order_days"] / years
    columns["spend_a_year"] = columns["spend_total"] / years
    columns["spend_a_date"] = columns["spend_total"] / np.maximum(columns["order_days"], 1)
    business = (frame["account_type"].to_numpy(dtype=object) == "business").astype(float)
    return np.column_stack([signed_log(np.column_stack(list(columns.values()))), business])


# --- Intervals of methods that draw nothing ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Bands:
    """What customers really spent, by tenth of what was predicted: quantiles on customers that nothing was learned from.

    Attributes:
        horizon_days: of the predictions.
        edges: highest prediction of each band but the last, shape (bands - 1,).
        mean: prediction in each band, and
        low, high: quantiles of spend in it, each of shape (bands,).
    """

    horizon_days: int
    edges: Floats
    mean: Floats
    low: Floats
    high: Floats

    @classmethod
    def of(cls, predicted: Floats, spent: Floats, horizon_days: int) -> Bands:
        """Measure the bands."""
        edges = np.unique(np.quantile(predicted, np.linspace(0, 1, BANDS + 1)[1:-1], method="lower"))
        edges = edges[edges < predicted.max()]
        band = np.searchsorted(edges, predicted, side="left")
        held = np.maximum(spent, 0.0)
        bounds = np.array(
            [np.quantile(held[band == one], [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) for one in range(len(edges) + 1)]
        )
        mean = np.array([predicted[band == one].mean() for one in range(len(edges) + 1)])
        return cls(horizon_days, edges, mean, bounds[:, 0], bounds[:, 1])

    def bounds(self, method: Method, frame: pd.DataFrame, horizon_days: int) -> tuple[Floats, Floats]:
        """Bounds of spend within a horizon: those of the band, in proportion to the prediction.

        Of another horizon than was measured, they are as many times the prediction: too wide for a longer one, over
        which chance evens out, and too narrow for a shorter one.
        """
        measured = method.expected(frame, self.horizon_days).spend
        wanted = measured if horizon_days == self.horizon_days else method.expected(frame, horizon_days).spend
        band = np.searchsorted(self.edges, measured, side="left")
        # Where nothing is predicted, the quantiles themselves, by the length of the horizon.
        times = np.where(
            self.mean[band] > 0,
            wanted / np.maximum(self.mean[band], np.finfo(float).tiny),
            horizon_days / self.horizon_days,
        )
        return self.low[band] * times, self.high[band] * times
