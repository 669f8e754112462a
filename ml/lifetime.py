"""Lifetime value: what customers will order and spend, by the method that did best on customers of an earlier instant.

Three methods answer, each fitted on what was known at an instant: two purchase models times Gamma-Gamma, and a regression.
The chronology, `judged` being the newest instant whose horizon has passed::

    |- chosen on ----- horizon + late_days --| judged ---- horizon ---- as_of
       all methods learned from before each of the two

The recipe is: choose the method on the newest known holdout, then fit it anew. At `judged` that holdout is an earlier one,
so that the judgement is of customers that neither parameters nor choice have learned from; where there is no earlier one,
the choice is made on `judged` itself, and said to be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ml import lifetime_evaluation as evaluation
from ml.features import ROWS_MAX
from ml.model import Contest, Evaluation, Finding, FollowUp, Refused, Scored, Table, Trained
from ml.scores import can_read_back, scores_of

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from ml.lifetime_methods import Bands, Method, PurchasesAndSpend, Values

    Floats = NDArray[np.float64]

HORIZONS = (90, 180, 365)
SCORED_DAYS = 365  # the horizon of `scores`
HISTORY_HORIZONS = 3
LATE_DAYS = 2  # after a horizon's end, until its outcome is learned from
INSTANTS_MIN = 2  # that a regression learns from
CUSTOMERS_MIN = 200  # that a judgement needs
KEPT_DAYS = (
    90  # horizon over which the share of spend that does not come back is learned, from the last year's instants
)

BIAS_MAX = 0.25
COVERED_MIN = 0.80
"""What earlier scores may miss by before it is a warning: total spend moves with the season by about so much."""

_RECIPE = "lifetime-1"


@dataclass(frozen=True)
class LifetimeEstimator:
    """What scores: a method for each horizon, fitted.

    Attributes:
        features: columns of feat_customers that it reads.
        learned_on: local date of the instant that it was trained at.
        methods: by horizon in days.
        judged: horizons whose outcomes chose their methods; those of the others were chosen on the longest of them.
        bands: intervals by horizon, where the method draws none.
        coverage: by judged horizon, share of customers of the holdout whose spend lay within their interval.
        annual_discount_rate: 0.10 makes money in a year worth 1 / 1.10 of money now.
    """

    features: tuple[str, ...]
    learned_on: date
    methods: Mapping[int, Method]
    judged: tuple[int, ...]
    bands: Mapping[int, Bands]
    coverage: Mapping[int, float]
    annual_discount_rate: float

    def values(self, frame: pd.DataFrame, horizon_days: int) -> Values:
        """What each customer of `frame` will be worth within one of the horizons."""
        return _values(self.methods[horizon_days], self.bands, frame, horizon_days, self.annual_discount_rate)


@dataclass(frozen=True)
class _Instant:
    """Customers of one past instant, all methods fitted on what was known then, and how they did.

    Attributes:
        rows: customers with an order, and what they did within the horizon.
        refused: why a method is missing.
    """

    on: date
    horizon_days: int
    rows: pd.DataFrame
    methods: Mapping[str, Method]
    refused: Mapping[str, str]
    baseline: Method
    holdouts: Mapping[str, evaluation.Holdout]

    @property
    def spend(self) -> Floats:
        """What was spent within the horizon, net of returns."""
        spend: Floats = self.rows[f"next_net_{self.horizon_days}"].to_numpy(dtype=float)
        return spend

    def expected(self, method: Method) -> Floats:
        """Spend that a method expects."""
        return method.expected(self.rows, self.horizon_days).spend

    def best(self) -> evaluation.Holdout:
        """How the best method did; the baseline is none of them."""
        return evaluation.best([self.holdouts[name] for name in self.methods])


@dataclass(frozen=True)
class LifetimeModel:
    """Lifetime value as its file states it; implements `ml.model.Model`.

    Attributes:
        annual_discount_rate: 0.10 makes money in a year worth 1 / 1.10 of money now.
    """

    name: str
    question: str
    annual_discount_rate: float = 0.10
    baseline: str = (
        "history mean: what was spent so far per year since the first order, over one year at least, and nothing of"
        " those past the dormant threshold"
    )
    reads: Sequence[str] = (
        "features.feat_customers",
        "features.outcomes",
        "features.feat_order_dates",
        "marts.customer_permissions",
        "marts.dim_as_ofs",
    )
    checks: Mapping[str, str] = field(
        default_factory=lambda: {
            "horizon": "Twelve months were judged by what customers spent in twelve months, not in fewer.",
            "bias": f"Of earlier scores, expected spend lies within {BIAS_MAX:.0%} of what was spent.",
            "coverage": f"Of earlier scores, at least {COVERED_MIN:.0%} of customers spent within their interval.",
        }
    )

    @property
    def features(self) -> Sequence[str]:
        """Columns of feat_customers that it may read."""
        from ml.lifetime_methods import COLUMNS

        return (*COLUMNS, "account_type")

    # --- Training

    def train(self, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> Trained:
        """Choose a method per horizon, judge the recipe on the longest one that history allows, fit on everything.

        Raises:
            Refused: too little history, too few customers who came back, or a feature that is missing or wrong.
        """
        from ml.drift import reference_of
        from ml.registry import label_of

        current = _read(connection, as_of)
        known = _read(connection, as_of, before=True)
        as_of_on = _checked(current)["as_of_on"].iloc[0]
        instants = self._judged(known, as_of_on, _history(current))
        horizon = max(instants)
        judged = instants[horizon]
        chosen_on = self._earlier(known, judged)
        recipe = (chosen_on or judged).best().method
        if recipe not in judged.methods:  # refused there
            recipe = judged.best().method
        model, other = judged.expected(judged.methods[recipe]), judged.expected(judged.baseline)
        contest = evaluation.contest(judged.spend, model, other, horizon)

        estimator = self._estimator(current, known, as_of_on, instants, use_baseline=not contest.beats)
        frame = _scored_frame(current, estimator.values(current, SCORED_DAYS).clv)
        return Trained(
            label=label_of(
                as_of,
                [_RECIPE, str(self.annual_discount_rate), *self.features],
                _hashable(known, current),
            ),
            features=tuple(self.features),
            estimator=estimator,
            evaluation=self._evaluation(connection, contest, recipe, chosen_on, instants, estimator),
            against=lambda champion: self._against(champion, known, judged, model),
            reference=reference_of(frame, [column for column in frame.columns if column != "customer_id"]),
        )

    def _judged(self, known: pd.DataFrame, as_of_on: date, history: int) -> dict[int, _Instant]:
        """The newest instant of each horizon whose outcome is known and that history is long enough for.

        Raises:
            Refused: there is none.
        """
        found: dict[int, _Instant] = {}
        refusal: Refused | None = None
        for horizon in HORIZONS:
            if history < HISTORY_HORIZONS * horizon:
                continue
            closed = _closed(known, horizon, as_of_on)
            if not closed:
                continue
            try:
                found[horizon] = self._instant(known, closed[-1], horizon)
            except Refused as reason:
                refusal = refusal or reason
        if found:
            return found
        if refusal is not None:
            raise refusal
        needed = HISTORY_HORIZONS * min(HORIZONS)
        if history < needed:
            raise Refused(f"{history} days of history; lifetime value needs {needed} to judge {min(HORIZONS)} days")
        raise Refused(f"no instant lies {min(HORIZONS) + LATE_DAYS} days back, so no outcome is known yet")

    def _earlier(self, known: pd.DataFrame, judged: _Instant) -> _Instant | None:
        """The newest instant whose outcome was known at the judged one; None where there is none to choose on."""
        closed = _closed(known, judged.horizon_days, judged.on)
        try:
            return self._instant(known, closed[-1], judged.horizon_days) if closed else None
        except Refused:
            return None

    def _instant(self, known: pd.DataFrame, on: date, horizon: int) -> _Instant:
        """Fit every method on what was known on a day, and judge them by what came after.

        Raises:
            Refused: too few customers, no purchase model can be fitted, or all customers spent alike.
        """
        from ml.lifetime_methods import HistoryMean

        rows = known[(known["as_of_on"] == on) & known[f"next_net_{horizon}"].notna()]
        if len(rows) < CUSTOMERS_MIN:
            raise Refused(
                f"{len(rows):,} customers had ordered by {on}, {horizon} days before an outcome that can be judged;"
                f" {CUSTOMERS_MIN:,} are needed"
            )
        methods, refused = _fitted(rows, known, on, (horizon,))
        baseline = HistoryMean()
        orders, spend = (rows[f"next_{what}_{horizon}"].to_numpy(dtype=float) for what in ("orders", "net"))
        holdouts = {}
        for method in (*methods[horizon].values(), baseline):
            expected = method.expected(rows, horizon)
            holdouts[method.name] = evaluation.judge(
                method.name, horizon, orders, spend, expected.orders, expected.spend
            )
        return _Instant(on, horizon, rows, methods[horizon], refused, baseline, holdouts)

    def _estimator(
        self,
        current: pd.DataFrame,
        known: pd.DataFrame,
        as_of_on: date,
        instants: Mapping[int, _Instant],
        *,
        use_baseline: bool,
    ) -> LifetimeEstimator:
        """The method of each horizon, fitted on everything; horizons that were not judged go by the longest that was."""
        from ml.lifetime_methods import Bands, HistoryMean

        methods: dict[int, Method] = {}
        fitted = {} if use_baseline else _fitted(current, known, as_of_on, HORIZONS)[0]
        bands, coverage = {}, {}
        for horizon, instant in instants.items():
            judged: Method = instant.baseline
            if not use_baseline:
                judged = instant.methods[instant.best().method]
            bands[horizon] = Bands.of(instant.expected(judged), instant.spend, horizon)
            values = _values(judged, bands, instant.rows, horizon, 0.0)
            coverage[horizon] = evaluation.covered(instant.spend, values.low, values.high)
        for horizon in HORIZONS:
            if use_baseline:
                methods[horizon] = HistoryMean()
                continue
            nearest = horizon if horizon in instants else max(instants)
            ranked = sorted(
                (instants[nearest].holdouts[name] for name in instants[nearest].methods),
                key=lambda holdout: (holdout.method != instants[nearest].best().method, -holdout.r2),
            )
            # The best may be refused on what is known now, the next one then takes its place.
            chosen = next((name for one in ranked if (name := one.method) in fitted[horizon]), None)
            methods[horizon] = fitted[horizon][chosen] if chosen else next(iter(fitted[horizon].values()))
        return LifetimeEstimator(
            features=tuple(self.features),
            learned_on=as_of_on,
            methods=methods,
            judged=tuple(sorted(instants)),
            bands=bands,
            coverage=coverage,
            annual_discount_rate=self.annual_discount_rate,
        )

    def _against(self, champion: Any, known: pd.DataFrame, judged: _Instant, model: Floats) -> Contest:
        """The recipe against a champion, whose method is fitted anew where it learned from later than the judged instant.

        Raises:
            Refused: it is no estimator of this model, or its method can't be fitted on what was known then.
        """
        if not isinstance(champion, LifetimeEstimator):
            raise Refused(f"the champion is a {type(champion).__name__}, not a lifetime value")
        method = champion.methods[judged.horizon_days]
        if method.name == judged.baseline.name:
            method = judged.baseline
        elif champion.learned_on > judged.on:
            if method.name not in judged.methods:
                raise Refused(
                    f"the champion's {method.name} can't be fitted on what was known on {judged.on}:"
                    f" {judged.refused.get(method.name, 'it is unknown')}"
                )
            method = judged.methods[method.name]
        return evaluation.contest(judged.spend, model, judged.expected(method), judged.horizon_days)

    def _evaluation(
        self,
        connection: duckdb.DuckDBPyConnection,
        contest: Contest,
        recipe: str,
        chosen_on: _Instant | None,
        instants: Mapping[int, _Instant],
        estimator: LifetimeEstimator,
    ) -> Evaluation:
        from ml.plots import lifetime as plots

        horizon = max(instants)
        judged = instants[horizon]
        method = judged.methods[recipe]
        figures: dict[str, float] = {}
        for days, instant in instants.items():
            for part, holdout in (
                ("", instant.best() if instant is not judged else instant.holdouts[recipe]),
                ("baseline_", instant.holdouts[instant.baseline.name]),
            ):
                figures |= {
                    f"{part}r2_{days}": holdout.r2,
                    f"{part}r2_raw_{days}": holdout.r2_raw,
                    f"{part}correlation_{days}": holdout.correlation,
                    f"{part}bias_{days}": holdout.bias,
                    f"{part}calibration_{days}": holdout.calibration,
                }
            figures[f"coverage_{days}"] = estimator.coverage[days]
        pictures = {
            "Deciles": plots.deciles(
                judged.holdouts[recipe].tenths, judged.holdouts[judged.baseline.name].tenths, horizon, recipe
            )
        }
        if (purchases := _purchases_of(method)) is not None:
            weekly = _weekly(connection, judged)
            expected = _weekly_expected(purchases, judged, len(weekly))
            pictures["Weekly orders"] = plots.tracking(weekly, expected, purchases.name)
        if (now := _purchases_of(estimator.methods[SCORED_DAYS])) is not None:
            pictures["Alive"] = plots.alive(now, estimator.learned_on)
        where = (
            f"chosen on customers of {chosen_on.on}"
            if chosen_on is not None
            else "chosen on the judged customers themselves, as no earlier outcome was known by then"
        )
        return Evaluation(
            judged_on=f"{horizon} days from {judged.on}, {recipe}, {where}",
            rows=len(judged.rows),
            baseline=contest,
            figures={name: float(value) for name, value in figures.items()},
            tables={
                "Holdout by horizon and method": _holdout_table(instants, estimator),
                **_refused_table(instants),
                "Spend by tenths of what was expected": _tenths_table(judged, recipe),
                "Parameters": _parameter_table(estimator),
            },
            pictures=pictures,
        )

    # --- Scoring

    def score(self, estimator: Any, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> Scored:
        """Value of every customer with an order who may be profiled, per horizon.

        Raises:
            Refused: a feature is missing, of another type, or holds what cannot be.
        """
        if not isinstance(estimator, LifetimeEstimator):
            raise Refused(f"the estimator is a {type(estimator).__name__}, not a lifetime value")
        current = _checked(_read(connection, as_of))
        values = {horizon: estimator.values(current, horizon) for horizon in estimator.methods}
        year = values[SCORED_DAYS]
        return Scored(
            tables={
                "scores": _score_rows(current, year, estimator.methods[SCORED_DAYS]),
                "lifetime_values": _value_rows(current, values, estimator.methods),
            },
            frame=_scored_frame(current, year.clv),
            findings=(_horizon_finding(estimator),),
            report={"Value by horizon": _value_table(values, estimator)},
        )

    # --- Afterwards

    def follow_up(self, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> FollowUp:
        """What was expected against what came, of the newest scores of each horizon that has passed."""
        rows = _followed(connection, self.name) if can_read_back(connection, "lifetime_values") else []
        if not rows:
            return FollowUp()
        table = Table(
            ("Scored", "Horizon, days", "Customers", "Expected", "Spent", "Bias", "Within the interval"),
            tuple(
                (f"{scored:%Y-%m-%d}", days, customers, expected, spent, _bias(expected, spent), covered)
                for scored, days, customers, expected, spent, covered in rows
            ),
        )
        _, days, _, expected, spent, covered = rows[-1]
        bias = _bias(expected, spent)
        said = f"expected {expected:,.0f} in {days} days of {rows[-1][0]:%Y-%m-%d}, spent {spent:,.0f}"
        return FollowUp(
            findings=(
                Finding("bias", bias is not None and abs(bias) <= BIAS_MAX, said),
                Finding(
                    "coverage",
                    covered >= COVERED_MIN,
                    f"{covered:.0%} of customers spent within their 90 % interval in {days} days",
                ),
            ),
            tables={"Earlier scores and what came": table},
        )


# --- Reading ----------------------------------------------------------------------------------------------------------


def _read(connection: duckdb.DuckDBPyConnection, as_of: datetime, *, before: bool = False) -> pd.DataFrame:
    """Customers with an order who may be profiled, at `as_of`, or at all instants before it with what they did then.

    Raises:
        Refused: a column is missing or no number.
    """
    import duckdb

    from ml.lifetime_methods import COLUMNS

    condition = f"feat.as_of {'<' if before else '='} ? and feat.order_days > 0"
    source = (
        "features.feat_customers as feat inner join marts.customer_permissions as permission"
        " on permission.customer_id = feat.customer_id and permission.may_be_profiled"
    )
    selected = "".join(f", cast(feat.{column} as double) as {column}" for column in COLUMNS)
    outcomes = ""
    if before:
        for days in HORIZONS:
            outcomes += (
                f" left join features.outcomes as after_{days} on after_{days}.customer_id = feat.customer_id"
                f" and after_{days}.as_of = feat.as_of and after_{days}.horizon_days = {days}"
            )
            selected += "".join(
                f", cast(after_{days}.{column} as double) as next_{name}_{days}"
                for column, name in (("orders", "orders"), ("revenue", "revenue"), ("net_revenue", "net"))
            )
    try:
        if before:
            counted = connection.execute(f"select count(*) from {source} where {condition}", [as_of]).fetchall()
            if counted[0][0] > ROWS_MAX:
                # customer_id is 16 hex digits of a hash: those below a threshold are a fair draw, the same each time.
                condition += f" and feat.customer_id < '{int(ROWS_MAX / counted[0][0] * 16**8):08x}'"
        frame = connection.execute(
            "select feat.customer_id, feat.as_of_on, cast(feat.account_type as varchar) as account_type,"
            f" cast(feat.history_days as double) as history_days{selected} from {source}{outcomes}"
            f" where {condition} order by feat.as_of_on, feat.customer_id",
            [as_of],
        ).df()
    except (duckdb.BinderException, duckdb.ConversionException, duckdb.CatalogException) as error:
        raise Refused(f"features can't be read: {str(error).splitlines()[0]}") from error
    frame["as_of_on"] = frame["as_of_on"].dt.date
    return frame


def _checked(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame, if it is what the methods can read.

    Raises:
        Refused: nobody has an order, or a value that no customer can have.
    """
    import numpy as np

    from ml.lifetime_methods import COLUMNS, GAPS

    if not len(frame):
        raise Refused("nobody who may be profiled has an order")
    for column in COLUMNS:
        values = frame[column].to_numpy(dtype=float)
        wrong = np.isinf(values) if column in GAPS else ~np.isfinite(values)
        if wrong.any():
            raise Refused(f"{column} is missing or infinite for {int(wrong.sum()):,} of {len(frame):,} customers")
    return frame


def _history(frame: pd.DataFrame) -> int:
    """Days of history of the whole home.

    Raises:
        Refused: it is not told.
    """
    days = frame["history_days"].max()
    if not days >= 0:
        raise Refused("history_days is missing for everybody")
    return int(days)


def _closed(known: pd.DataFrame, horizon: int, by: date) -> list[date]:
    """Instants whose outcome was known by a day, late deliveries included, with a history as long as the horizon."""
    reach = timedelta(days=horizon + LATE_DAYS)
    old = known.loc[known["history_days"] >= horizon, "as_of_on"]
    told = known.loc[known[f"next_net_{horizon}"].notna(), "as_of_on"]
    return sorted(on for on in set(old) & set(told) if on + reach <= by)


def _fitted(
    rows: pd.DataFrame, known: pd.DataFrame, on: date, horizons: Sequence[int]
) -> tuple[dict[int, dict[str, Method]], dict[str, str]]:
    """Every method that can be fitted on what was known on a day, by horizon and name; and why others can't be.

    Raises:
        Refused: no purchase model can be.
    """
    from ml.estimators.lifetimes import FitRefusedError
    from ml.lifetime_methods import PURCHASE_MODELS, REGRESSION, WINDOW_DAYS, fit_purchases, fit_regression

    rows = _checked(rows)
    refused: dict[str, str] = {}
    purchases: list[PurchasesAndSpend] = []
    kept = _kept(known, on)
    for name in PURCHASE_MODELS:
        try:
            purchases.append(fit_purchases(name, rows, kept))
        except (FitRefusedError, ValueError) as reason:
            refused[f"{name} x Gamma-Gamma"] = str(reason)
    if not purchases:
        raise Refused("; ".join(f"{name}: {reason}" for name, reason in refused.items()))
    methods: dict[int, dict[str, Method]] = {}
    for horizon in horizons:
        methods[horizon] = {one.name: one for one in purchases}
        # The longest horizon with enough instants: a purchase model says how the rest goes on.
        for learned_days in sorted((days for days in HORIZONS if days <= horizon), reverse=True):
            instants = _closed(known[known["history_days"] >= WINDOW_DAYS], learned_days, on)
            if len(instants) < INSTANTS_MIN:
                continue
            learned = known[known["as_of_on"].isin(instants) & known[f"next_net_{learned_days}"].notna()]
            try:
                methods[horizon][REGRESSION] = fit_regression(
                    _checked(learned),
                    learned[f"next_orders_{learned_days}"].to_numpy(dtype=float),
                    learned[f"next_net_{learned_days}"].to_numpy(dtype=float),
                    learned_days,
                    purchases[0],
                )
            except FitRefusedError as reason:
                refused[REGRESSION] = str(reason)
            break
        else:
            refused[REGRESSION] = f"fewer than {INSTANTS_MIN} earlier instants have an outcome that was known on {on}"
    return methods, refused


def _kept(known: pd.DataFrame, on: date) -> float:
    """Net of returns over gross spend, in the year before a day; 1 where none is known."""
    instants = [one for one in _closed(known, KEPT_DAYS, on) if one >= on - timedelta(days=SCORED_DAYS + KEPT_DAYS)]
    rows = known[known["as_of_on"].isin(instants)]
    gross, net = rows[f"next_revenue_{KEPT_DAYS}"].sum(), rows[f"next_net_{KEPT_DAYS}"].sum()
    return float(min(max(net / gross, 0.0), 1.0)) if gross > 0 else 1.0


def _values(
    method: Method, bands: Mapping[int, Bands], frame: pd.DataFrame, horizon_days: int, annual_rate: float
) -> Values:
    """What a method says customers are worth, with its own intervals or those of the nearest horizon's bands."""
    import numpy as np

    from ml.lifetime_methods import PurchasesAndSpend, Values, discount

    if isinstance(method, PurchasesAndSpend):
        return method.values(frame, horizon_days, annual_rate)
    expected = method.expected(frame, horizon_days)
    nearest = bands[horizon_days if horizon_days in bands else max(bands)]
    low, high = nearest.bounds(method, frame, horizon_days)
    worth = discount(horizon_days, annual_rate)
    purchases = _purchases_of(method)
    return Values(
        orders=expected.orders,
        spend=expected.spend,
        clv=expected.spend * worth,
        low=low * worth,
        high=high * worth,
        alive=np.full(len(frame), np.nan) if purchases is None else purchases.alive(frame),
    )


def _purchases_of(method: Method) -> PurchasesAndSpend | None:
    """The purchase model that a method is, or that extends it; None of the projection."""
    from ml.lifetime_methods import PurchasesAndSpend, Regression

    fitted = method.extension if isinstance(method, Regression) else method
    return fitted if isinstance(fitted, PurchasesAndSpend) else None


def _scored_frame(frame: pd.DataFrame, score: Floats) -> pd.DataFrame:
    from ml.lifetime_methods import COLUMNS

    return frame[["customer_id", *COLUMNS]].assign(score=score)


def _hashable(known: pd.DataFrame, current: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    rows = pd.concat([known, current], ignore_index=True)
    return rows.assign(as_of_on=pd.to_datetime(rows["as_of_on"]))


# --- Order dates by week, for the picture -----------------------------------------------------------------------------


def _weekly(connection: duckdb.DuckDBPyConnection, judged: _Instant) -> Floats:
    """Order dates of the judged customers by week after the judged instant."""
    import numpy as np
    import pyarrow as pa

    weeks = judged.horizon_days // 7
    connection.register("lifetime_judged", pa.table({"customer_id": judged.rows["customer_id"].tolist()}))
    try:
        found = connection.execute(
            "select date_diff('day', cast(? as date), dates.ordered_on) // 7 as week, count(*)"
            " from features.feat_order_dates as dates inner join lifetime_judged using (customer_id)"
            " where dates.ordered_on >= ? and dates.ordered_on < ? group by week",
            [judged.on, judged.on, judged.on + timedelta(days=7 * weeks)],
        ).fetchall()
    finally:
        connection.unregister("lifetime_judged")
    counts = np.zeros(weeks)
    for week, number in found:
        counts[week] = number
    return counts


def _weekly_expected(method: PurchasesAndSpend, judged: _Instant, weeks: int) -> Floats:
    import numpy as np

    from ml.lifetime_methods import histories

    until = np.arange(1.0, weeks + 1)
    by_week = method.purchases.conditional_expected_purchases(histories(judged.rows), until)
    return np.diff(by_week.sum(axis=0), prepend=0.0)


# --- What is written and shown ----------------------------------------------------------------------------------------


def _score_rows(frame: pd.DataFrame, year: Values, method: Method) -> Any:
    from ml.lifetime_methods import PurchasesAndSpend

    return scores_of(
        frame["customer_id"].tolist(),
        year.clv.round(4),
        intervals=(year.low.round(4), year.high.round(4)),
        reasons=method.reasons(frame) if isinstance(method, PurchasesAndSpend) else (),
    )


def _value_rows(frame: pd.DataFrame, values: Mapping[int, Values], methods: Mapping[int, Method]) -> Any:
    import pyarrow as pa

    parts = []
    for horizon, said in values.items():
        parts.append(
            pa.table(
                {
                    "customer_id": pa.array(frame["customer_id"].tolist(), pa.string()),
                    "horizon_days": pa.array([horizon] * len(frame), pa.int32()),
                    "expected_orders": said.orders.round(6),
                    "expected_spend": said.spend.round(4),
                    "clv": said.clv.round(4),
                    "clv_low": said.low.round(4),
                    "clv_high": said.high.round(4),
                    "probability_alive": pa.array(said.alive.round(6), from_pandas=True),
                    "method": pa.array([methods[horizon].name] * len(frame), pa.string()),
                }
            )
        )
    return pa.concat_tables(parts).sort_by([("customer_id", "ascending"), ("horizon_days", "ascending")])


def _horizon_finding(estimator: LifetimeEstimator) -> Finding:
    longest = max(estimator.judged)
    if SCORED_DAYS in estimator.judged:
        return Finding("horizon", True, f"{estimator.methods[SCORED_DAYS].name} did best over {SCORED_DAYS} days")
    return Finding(
        "horizon",
        False,
        f"history is shorter than {HISTORY_HORIZONS} x {SCORED_DAYS} days, or no such outcome is known: twelve months"
        f" are what {estimator.methods[SCORED_DAYS].name} expects, which was judged on {longest} days",
    )


def _holdout_table(instants: Mapping[int, _Instant], estimator: LifetimeEstimator) -> Table:
    rows: list[tuple[Any, ...]] = []
    for horizon, instant in sorted(instants.items()):
        for name, one in instant.holdouts.items():
            rows.append(
                (
                    horizon,
                    str(instant.on),
                    _said(instant.methods.get(name, instant.baseline), horizon),
                    "yes" if estimator.methods[horizon].name == name else "",
                    one.customers,
                    one.r2,
                    one.r2_raw,
                    one.r2_orders,
                    one.correlation,
                    one.bias,
                    one.calibration,
                    one.error,
                )
            )
    return Table(
        (
            "Horizon, days",
            "From",
            "Method",
            "Scores",
            "Customers",
            "R2",
            "R2, not winsorised",
            "R2 of orders",
            "Correlation",
            "Bias",
            "Error by tenths",
            "Mean absolute error",
        ),
        tuple(rows),
    )


def _refused_table(instants: Mapping[int, _Instant]) -> dict[str, Table]:
    rows = tuple(
        (horizon, str(instant.on), name, reason)
        for horizon, instant in sorted(instants.items())
        for name, reason in instant.refused.items()
    )
    return {"Methods left out": Table(("Horizon, days", "From", "Method", "Why"), rows)} if rows else {}


def _said(method: Method, horizon: int) -> str:
    """A method's name, with what it learned where that is a shorter horizon."""
    from ml.lifetime_methods import Regression

    if isinstance(method, Regression) and method.horizon_days != horizon:
        return f"{method.name} on {method.horizon_days} days, extended"
    return method.name


def _tenths_table(judged: _Instant, recipe: str) -> Table:
    model, other = judged.holdouts[recipe].tenths, judged.holdouts[judged.baseline.name].tenths
    return Table(
        ("Tenth", "Customers", "Expected", "Spent", "Expected by the history mean", "Spent by its tenths"),
        tuple(
            (number, one.customers, one.predicted, one.observed, base.predicted, base.observed)
            for number, (one, base) in enumerate(zip(model, other, strict=True), start=1)
        ),
    )


def _parameter_table(estimator: LifetimeEstimator) -> Table:
    rows: list[tuple[Any, ...]] = []
    told: set[str] = set()
    for _, method in sorted(estimator.methods.items()):
        fitted = _purchases_of(method)
        if fitted is None or fitted.name in told:
            continue
        told.add(fitted.name)
        parts: list[tuple[str, Any]] = [(fitted.name.split(" x ")[0], fitted.purchases)]
        parts += [(f"Gamma-Gamma, {account or 'all accounts'}", spend) for account, spend in fitted.spends.items()]
        for part, model in parts:
            rows += [
                (part, name, value, model.standard_errors_[name], model.customers_)
                for name, value in model.parameters_.items()
            ]
            if model.penalty:
                rows.append((part, "penalty, as the likelihood has no maximum", model.penalty, None, model.customers_))
            if part.startswith("Gamma-Gamma"):
                rows.append((part, "correlation of frequency and spend", model.correlation_, None, model.customers_))
        rows.append((fitted.name, "share of spend that is kept", fitted.kept, None, None))
        rows.append((fitted.name, "orders per order date", fitted.orders_per_date, None, None))
    return Table(("Model", "Parameter", "Value", "Standard error", "Customers"), tuple(rows))


def _value_table(values: Mapping[int, Values], estimator: LifetimeEstimator) -> Table:
    return Table(
        ("Horizon, days", "Method", "Customers", "Orders", "Spend", "Value, discounted", "Interval held, on holdout"),
        tuple(
            (
                horizon,
                estimator.methods[horizon].name,
                len(said.clv),
                float(said.orders.sum()),
                float(said.spend.sum()),
                float(said.clv.sum()),
                estimator.coverage.get(horizon),
            )
            for horizon, said in sorted(values.items())
        ),
    )


# --- Following up -----------------------------------------------------------------------------------------------------


def _followed(
    connection: duckdb.DuckDBPyConnection, model: str
) -> list[tuple[datetime, int, int, float, float, float]]:
    """Earlier values whose horizon has passed: as_of, horizon, customers, expected, spent, share within the interval.

    The interval is of discounted spend, so that what was spent is discounted as what was expected was.
    """
    return connection.execute(
        """
        select
            said.as_of,
            said.horizon_days,
            count(*) as customers,
            sum(said.expected_spend) as expected,
            cast(sum(outcome.net_revenue) as double) as spent,
            avg(
                case
                    when
                        greatest(cast(outcome.net_revenue as double), 0)
                        * coalesce(said.clv / nullif(said.expected_spend, 0), 1)
                        between said.clv_low and said.clv_high
                        then 1.0
                    else 0.0
                end
            ) as covered
        from staging.stg_ml__lifetime_values as said
        inner join features.outcomes as outcome
            on
                outcome.customer_id = said.customer_id
                and outcome.as_of = said.as_of
                and outcome.horizon_days = said.horizon_days
        inner join marts.customer_permissions as permission
            on permission.customer_id = said.customer_id and permission.may_be_profiled
        where said.model = ?
        group by said.as_of, said.horizon_days
        order by said.as_of, said.horizon_days
        """,
        [model],
    ).fetchall()


def _bias(expected: float, spent: float) -> float | None:
    return expected / spent - 1 if spent > 0 else None
