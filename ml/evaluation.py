"""How good probabilities are: ranking, calibration and lift, each beside what chance or a perfect model would show.

Arrays in, figures out. `outcome` is boolean, `probabilities` are of it, both of shape (customers,).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

SEED = 20111210
RESAMPLES = 200
BINS = 10
SUBGROUP_MIN = 100  # customers; a smaller subgroup says its size only
OFF = 0.05
"""Points of probability by which a month's mean prediction may miss what came true: less changes no decision."""

_EDGE = 1e-6  # probabilities are held off 0 and 1 by this where their log-odds are taken


@dataclass(frozen=True)
class Interval:
    """A figure with the bounds of 95 % of resamples, or of simulations."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Bin:
    """One row of a reliability table: customers whose predicted probability lies in [low, high)."""

    low: float
    high: float
    customers: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class Calibration:
    """Whether probabilities mean what they say.

    Attributes:
        ece: expected calibration error over tenths of probability (Naeini et al. 2015): 0 is perfect.
        perfect_ece: what it would be, had every probability been exact: mean and 95 % of simulated outcomes.
        slope: of the outcome's log-odds on the predicted ones (Cox 1958): below 1 is overconfident.
        perfect_slope: 1, with the bounds that chance alone would give at this size.
        intercept: of the same regression; with slope 1, above 0 is too low a probability throughout.
    """

    ece: float
    perfect_ece: Interval
    slope: float
    perfect_slope: Interval
    intercept: float
    reliability: tuple[Bin, ...]


@dataclass(frozen=True)
class Lift:
    """The tenth of customers with the highest scores.

    Attributes:
        value: share of positives among them over the share among all.
        ceiling: what it would be, had they all been positive, or had they been all the positives.
    """

    value: float
    ceiling: float


@dataclass(frozen=True)
class Judgement:
    """How scores did on customers whose outcome came after training."""

    customers: int
    base_rate: float
    auc: Interval
    brier: float
    log_loss: float
    calibration: Calibration
    lift: Lift


@dataclass(frozen=True)
class Comparison:
    """Two scores of the same customers.

    Attributes:
        gain: in AUC, over resamples that draw the same customers for both.
        brier_gain: how much smaller the model's Brier score is, with the bounds of its standard error over customers.
    """

    model: Judgement
    baseline: Judgement
    gain: Interval
    brier_gain: Interval


@dataclass(frozen=True)
class Subgroup:
    """How scores did among customers with one value of a trait. Figures are None below `SUBGROUP_MIN` customers.

    Attributes:
        auc: None also where all of them had the same outcome.
        predicted: mean probability, to be compared with `observed`.
    """

    trait: str
    value: str
    customers: int
    auc: float | None = None
    predicted: float | None = None
    observed: float | None = None
    ece: float | None = None


@dataclass(frozen=True)
class Month:
    """How scores of one month did, each customer once.

    Attributes:
        month: year and month, such as 2024-03.
        predicted: mean probability, to be compared with `observed`.
        margin: by how much chance moves the observed share, at 95 %, if every probability is exact.
        auc: None where all customers had the same outcome.
    """

    month: str
    customers: int
    predicted: float
    observed: float
    margin: float
    ece: float
    auc: float | None

    @property
    def is_off(self) -> bool:
        """Whether the mean prediction missed by more than chance and by more than matters (`OFF`)."""
        return abs(self.observed - self.predicted) > max(self.margin, OFF)


@dataclass(frozen=True)
class BaseRate:
    """Share of positive outcomes at one instant."""

    anchor: date
    customers: int
    rate: float


def compare(
    outcome: np.ndarray, model: np.ndarray, baseline: np.ndarray, *, resamples: int = RESAMPLES, seed: int = SEED
) -> Comparison:
    """Judge two sets of probabilities on the same customers.

    Raises:
        ValueError: shapes differ, outcomes are all alike, or a probability lies outside [0, 1].
    """
    import numpy as np

    for probabilities in (model, baseline):
        _check(outcome, probabilities)
    drawn = resampled_aucs(outcome, (model, baseline), resamples=resamples, seed=seed)
    gain = auc(outcome, model) - auc(outcome, baseline)
    low, high = np.quantile(drawn[:, 0] - drawn[:, 1], [0.025, 0.975])
    return Comparison(
        judge(outcome, model, drawn[:, 0], seed=seed),
        judge(outcome, baseline, drawn[:, 1], seed=seed),
        Interval(gain, float(low), float(high)),
        _mean((baseline - outcome) ** 2 - (model - outcome) ** 2),
    )


def judge(
    outcome: np.ndarray, probabilities: np.ndarray, resampled: np.ndarray | None = None, *, seed: int = SEED
) -> Judgement:
    """Judge one set of probabilities.

    Args:
        resampled: AUCs of resamples, where they were drawn already.

    Raises:
        ValueError: as for `compare`.
    """
    import numpy as np

    _check(outcome, probabilities)
    if resampled is None:
        resampled = resampled_aucs(outcome, (probabilities,), seed=seed)[:, 0]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Judgement(
        customers=len(outcome),
        base_rate=float(outcome.mean()),
        auc=Interval(auc(outcome, probabilities), float(low), float(high)),
        brier=brier(outcome, probabilities),
        log_loss=log_loss(outcome, probabilities),
        calibration=calibration(outcome, probabilities, seed=seed),
        lift=lift(outcome, probabilities),
    )


def auc(outcome: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve by ranks (Mann and Whitney 1947), ties counted half."""
    from scipy.stats import rankdata

    positives = int(outcome.sum())
    negatives = len(outcome) - positives
    if not positives or not negatives:
        raise ValueError(f"AUC needs both outcomes: {positives} positive and {negatives} negative")
    ranks = rankdata(scores)[outcome].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def resampled_aucs(
    outcome: np.ndarray, scores: Sequence[np.ndarray], *, resamples: int = RESAMPLES, seed: int = SEED
) -> np.ndarray:
    """AUC of each score on bootstraps of the customers, the same draws for all.

    Each score is sorted once, a resample then is a weight per customer: linear in their number.

    Returns:
        Shape (resamples, scores).
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    orders = [np.argsort(score, kind="stable") for score in scores]
    sorted_outcomes = [outcome[order] for order in orders]
    starts = [
        np.flatnonzero(np.concatenate([[True], np.diff(score[order]) != 0]))
        for score, order in zip(scores, orders, strict=True)
    ]
    drawn = np.empty((resamples, len(scores)))
    done = 0
    while done < resamples:
        counts = np.bincount(generator.integers(0, len(outcome), len(outcome)), minlength=len(outcome))
        if not 0 < counts[outcome].sum() < len(outcome):
            continue
        for column, (order, positive, start) in enumerate(zip(orders, sorted_outcomes, starts, strict=True)):
            weights = counts[order]
            positives = np.add.reduceat(np.where(positive, weights, 0), start).astype(float)
            negatives = np.add.reduceat(np.where(positive, 0, weights), start).astype(float)
            below = np.cumsum(negatives) - negatives / 2
            drawn[done, column] = (positives @ below) / (positives.sum() * negatives.sum())
        done += 1
    return drawn


def brier(outcome: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean squared difference between probability and outcome (Brier 1950)."""
    return float(((probabilities - outcome) ** 2).mean())


def log_loss(outcome: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean surprise at the outcome, in nats (Good 1952)."""
    import numpy as np

    odds = _log_odds(probabilities)
    return float(np.logaddexp(0, np.where(outcome, -odds, odds)).mean())


def calibration(outcome: np.ndarray, probabilities: np.ndarray, *, seed: int = SEED) -> Calibration:
    """Compare probabilities with what happened, and with what would happen if they were exact."""
    import numpy as np

    generator = np.random.default_rng(seed)
    simulated = [ece(generator.random(len(outcome)) < probabilities, probabilities) for _ in range(100)]
    low, high = np.quantile(simulated, [0.025, 0.975])
    intercept, slope = calibration_line(outcome, probabilities)
    margin = 1.96 * _slope_error(probabilities)
    return Calibration(
        ece=ece(outcome, probabilities),
        perfect_ece=Interval(float(np.mean(simulated)), float(low), float(high)),
        slope=slope,
        perfect_slope=Interval(1.0, 1.0 - margin, 1.0 + margin),
        intercept=intercept,
        reliability=reliability(outcome, probabilities),
    )


def ece(outcome: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error: the mean gap between predicted and observed over tenths of probability."""
    import numpy as np

    which = _tenths(probabilities)
    predicted = np.bincount(which, weights=probabilities, minlength=BINS)
    observed = np.bincount(which, weights=outcome, minlength=BINS)
    return float(np.abs(predicted - observed).sum() / len(outcome))


def calibration_line(outcome: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """Intercept and slope of the outcome's log-odds on the predicted ones, by maximum likelihood (Newton's method).

    Equal probabilities throughout have no slope: it is 0 then, and the intercept the outcome's own log-odds.
    """
    import numpy as np

    odds = _log_odds(probabilities)
    if np.ptp(odds) == 0:
        return float(_log_odds(np.array([outcome.mean()]))[0]), 0.0
    design = np.column_stack([np.ones_like(odds), odds])
    line = np.array([0.0, 1.0])
    for _ in range(50):
        fitted = 1 / (1 + np.exp(-np.clip(design @ line, -30, 30)))
        weights = np.maximum(fitted * (1 - fitted), 1e-12)
        step = np.linalg.solve(design.T @ (design * weights[:, None]), design.T @ (outcome - fitted))
        # Full steps may overshoot where outcomes are nearly separable.
        line = line + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-10:
            break
    return float(line[0]), float(line[1])


def reliability(outcome: np.ndarray, probabilities: np.ndarray) -> tuple[Bin, ...]:
    """Predicted against observed by tenths of probability; tenths without customers are left out."""
    which = _tenths(probabilities)
    return tuple(
        Bin(
            number / BINS,
            (number + 1) / BINS,
            int(chosen.sum()),
            float(probabilities[chosen].mean()),
            float(outcome[chosen].mean()),
        )
        for number in range(BINS)
        if (chosen := which == number).any()
    )


def lift(outcome: np.ndarray, scores: np.ndarray) -> Lift:
    """Lift of the tenth with the highest scores; of equal scores at its edge, an even share counts."""
    import numpy as np

    size = len(outcome) / 10
    edge = np.partition(scores, -max(1, int(np.ceil(size))))[-max(1, int(np.ceil(size)))]
    above, level = scores > edge, scores == edge
    found = outcome[above].sum() + outcome[level].mean() * (size - above.sum())
    rate = outcome.mean()
    return Lift(float(found / size / rate), float(min(1 / rate, 10.0)))


def by_subgroup(outcome: np.ndarray, probabilities: np.ndarray, traits: pd.DataFrame) -> tuple[Subgroup, ...]:
    """Judge the scores among customers of each value of each trait; null is the value `unknown`."""
    found = []
    for trait in traits.columns:
        values = traits[trait].astype(object).where(traits[trait].notna(), "unknown").astype(str).to_numpy()
        for value in sorted(set(values)):
            chosen = values == value
            happened, predicted = outcome[chosen], probabilities[chosen]
            group = Subgroup(str(trait), value, len(happened))
            if len(happened) >= SUBGROUP_MIN:
                group = Subgroup(
                    group.trait,
                    value,
                    len(happened),
                    auc(happened, predicted) if 0 < happened.sum() < len(happened) else None,
                    float(predicted.mean()),
                    float(happened.mean()),
                    ece(happened, predicted),
                )
            found.append(group)
    return tuple(found)


def by_month(months: pd.Series[str], outcome: np.ndarray, probabilities: np.ndarray) -> tuple[Month, ...]:
    """Judge scores by the month that they were made in, in order of time."""
    import numpy as np

    names = months.to_numpy()
    found = []
    for name in sorted(set(names)):
        chosen = names == name
        happened, predicted = outcome[chosen], probabilities[chosen]
        found.append(
            Month(
                month=str(name),
                customers=len(happened),
                predicted=float(predicted.mean()),
                observed=float(happened.mean()),
                margin=float(1.96 * np.sqrt((predicted * (1 - predicted)).sum()) / len(happened)),
                ece=ece(happened, predicted),
                auc=auc(happened, predicted) if 0 < happened.sum() < len(happened) else None,
            )
        )
    return tuple(found)


def base_rates(anchors: pd.Series[Any], outcome: pd.Series[bool]) -> tuple[BaseRate, ...]:
    """Share of positive outcomes by instant, in order of time."""
    table = outcome.astype(float).groupby(anchors.to_numpy()).agg(["size", "mean"]).sort_index()
    return tuple(
        BaseRate(anchor, int(size), float(rate))
        for anchor, size, rate in zip(table.index, table["size"], table["mean"], strict=True)
    )


def _mean(values: np.ndarray) -> Interval:
    """The mean, with 95 % by its standard error."""
    mean, margin = float(values.mean()), float(1.96 * values.std() / len(values) ** 0.5)
    return Interval(mean, mean - margin, mean + margin)


def _tenths(probabilities: np.ndarray) -> np.ndarray:
    import numpy as np

    tenths: np.ndarray = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    return tenths


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    import numpy as np

    held = np.clip(probabilities, _EDGE, 1 - _EDGE)
    odds: np.ndarray = np.log(held / (1 - held))
    return odds


def _slope_error(probabilities: np.ndarray) -> float:
    """Standard error of the calibration slope if the probabilities are exact, by the Fisher information."""
    import numpy as np

    odds = _log_odds(probabilities)
    weights = probabilities * (1 - probabilities)
    if not weights.sum():
        return float("inf")
    centred = odds - np.average(odds, weights=weights)
    information = float((weights * centred**2).sum())
    return float(1 / np.sqrt(information)) if information > 0 else float("inf")


def _check(outcome: np.ndarray, probabilities: np.ndarray) -> None:
    import numpy as np

    if outcome.shape != probabilities.shape:
        raise ValueError(f"{outcome.shape} outcomes for {probabilities.shape} probabilities")
    if outcome.dtype != np.bool_:
        raise ValueError(f"outcomes are {outcome.dtype}, not bool")
    if not 0 < outcome.sum() < len(outcome):
        raise ValueError(f"all of {len(outcome)} customers had the same outcome: there is nothing to judge")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("probabilities must lie in [0, 1] and be known")
