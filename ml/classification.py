"""Models of a yes or no: what one is, which instants it learns from and is judged on, and how it is chosen and fitted.

Data frames in, fitted models and figures out: no registry, no home, no clock. A frame holds one row per customer and
instant, of the model's population:

- customer_id, as_of_on (local date of the instant), history_days (days of history that the whole home had then);
- outcome: boolean, for instants whose horizon has passed;
- the features, as numbers: null is NaN.

The chronology of one development, `judged` being the evaluation instant::

    |- learned ----------------------------|-- horizon + late_days --| judged --- horizon --- as_of
       candidates and calibration are chosen on periods rolled back within here

Afterwards the same recipe learns from all outcomes known at as_of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from ml import evaluation
from ml.model import Refused

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

NUMERIC_FEATURES = (
    "age_days",
    "tenure_days",
    "order_days",
    "orders_30",
    "orders_90",
    "orders_180",
    "orders_365",
    "spend_30",
    "spend_90",
    "spend_365",
    "spend_total",
    "average_order_value",
    "returns_365",
    "orders_change_90",
    "mean_gap_days",
    "last_gap_days",
    "longest_gap_days",
    "gap_variation",
    "overdue_ratio",
    "season_share",
    "last_quarter_share",
    "weekend_share",
    "categories_365",
    "products_365",
    "discount_share_365",
    "visit_age_days",
    "sessions_30",
    "sessions_90",
    "sessions_365",
    "product_views_90",
    "carts_90",
    "click_age_days",
    "delivered_90",
    "clicked_90",
    "clicked_180",
)
"""What customers did, in numbers: no trait of who they are is among them."""

ROWS_MAX = 200_000  # rows that a model learns from at most
CHOICE_ROWS = 30_000  # rows that a candidate learns from while candidates are compared
PERIODS = 3  # earlier evaluations that choices are made on
ANCHORS_MIN = 2
NEWEST = 3  # anchors that `newest` calibrates on
YEAR = timedelta(days=364)  # 52 weeks: the same weekday
ISOTONIC_MIN = 2_000  # customers below which an isotonic calibration overfits (Niculescu-Mizil and Caruana 2005: 1,000)
DECIMALS = 6  # of a score: another machine's last bit makes no other bytes
NEARLY_AS_GOOD = 0.002  # AUC by which a simpler candidate may be worse


@dataclass(frozen=True)
class Classifier:
    """One model, as its file states it.

    Attributes:
        name: as scores and registry carry it.
        question: what its probability is the answer to, yes being positive.
        population: SQL condition on `feat`, which is feat_customers: of whom it is asked.
        target: SQL of the positive outcome on `outcome`, which is outcomes at `horizon_days`.
        event: the positive outcome in words, as figures say it: "probability of ...".
        features: columns of feat_customers, all numbers.
        baseline: features of the model that it has to beat, fitted the same way.
        late_days: how long after a horizon's end its outcome is first learned from, so that late deliveries are in.
        positives_min, negatives_min: customers of each outcome that training, calibration and judging need.
        purpose: why features that stand in for a sensitive trait may be read; without one they are refused.
    """

    name: str
    question: str
    population: str
    target: str
    horizon_days: int
    event: str = "yes"
    features: tuple[str, ...] = NUMERIC_FEATURES
    baseline: tuple[str, ...] = ("age_days",)
    late_days: int = 2
    positives_min: int = 100
    negatives_min: int = 100
    purpose: str | None = None

    def __post_init__(self) -> None:
        if missing := set(self.baseline) - set(self.features):
            raise ValueError(f"{self.name}: baseline features {sorted(missing)} are not among its features")

    @property
    def season(self) -> timedelta:
        """How far from a year before an instant has its season: the shorter the horizon, the nearer.

        On the simulated retailer, with late December calibrating too, the odds of a purchase within 30 days of late
        November were 1.4 times what was predicted.
        """
        return timedelta(days=min(28, max(14, self.horizon_days // 6)))

    @property
    def reach(self) -> timedelta:
        """From an instant until its outcome may be learned from."""
        return timedelta(days=self.horizon_days + self.late_days)


@dataclass(frozen=True)
class Split:
    """Instants, by local date in order, whose outcome was known when `judged` began, and `judged` itself."""

    learned: tuple[date, ...]
    judged: date


@dataclass(frozen=True)
class Plan:
    """What a model is developed from.

    Attributes:
        window_days: longest feature window that the history covers; longer features are dropped.
        dropped: features left out, each with the reason.
    """

    split: Split
    features: tuple[str, ...]
    window_days: int
    dropped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Recipe:
    """How a model is fitted.

    Attributes:
        candidate: one of `ml.candidates.CANDIDATES`.
        calibration: sigmoid or isotonic.
        scope: which instants calibrate: `newest`, `season` (those around one year before what is scored), or `both`.
    """

    candidate: str = "logistic"
    calibration: str = "sigmoid"
    scope: str = "newest"


@dataclass(frozen=True)
class Trial:
    """How one option did on one earlier period; `period` is None where customers, not time, divide the rows.

    Attributes:
        figure: AUC of a candidate, log loss of a calibration.
    """

    option: str
    period: date | None
    figure: float


@dataclass(frozen=True)
class FittedClassifier:
    """A model that scores.

    Attributes:
        classifier: `ml.candidates.GroupCalibratedClassifier`, fitted.
        learned: instants that it learned from.
    """

    model: Classifier
    features: tuple[str, ...]
    recipe: Recipe
    learned: tuple[date, ...]
    classifier: Any = field(repr=False)

    def probabilities(self, frame: pd.DataFrame) -> np.ndarray:
        """Calibrated probability of the outcome per row.

        Raises:
            Refused: a feature is missing, no number, or infinite.
        """
        values = matrix(frame, self.features)
        scores: np.ndarray = self.classifier.predict_proba(values)[:, 1]
        return scores

    def score(self, frame: pd.DataFrame) -> pd.DataFrame:
        """One row per row of `frame`: customer_id, score, and reason_1, direction_1 to reason_3, direction_3.

        Raises:
            Refused: as for `probabilities`.
        """
        import pandas as pd

        from ml.reasons import top_reasons

        values = matrix(frame, self.features)
        scores = pd.DataFrame(
            {
                "customer_id": frame["customer_id"].to_numpy(),
                "score": self.classifier.predict_proba(values)[:, 1].round(DECIMALS),
            }
        )
        return pd.concat([scores, top_reasons(self.classifier.estimator_, values, self.features)], axis=1)


@dataclass(frozen=True)
class Development:
    """A model, how it came about, and how its recipe did on customers whose outcome came after what it had learned.

    Attributes:
        rows: those of `plan.split.judged`.
        judged: what the comparison is of: learned from `plan.split.learned` only.
        baseline: what it is compared with, learned from the same instants.
        comparison: of the two on `rows`.
        earns_its_place: whether it ranks better than the baseline beyond chance, with probabilities that are no worse.
        fitted: what scores, learned from every outcome known at as_of: the model, or the baseline where the model does
            not earn its place.
        importance: features with the share of customers' scores that they were the strongest reason of, most first.
    """

    plan: Plan
    recipe: Recipe
    trials: tuple[Trial, ...]
    comparison: evaluation.Comparison
    subgroups: tuple[evaluation.Subgroup, ...]
    base_rates: tuple[evaluation.BaseRate, ...]
    importance: tuple[tuple[str, float], ...]
    earns_its_place: bool
    explanation: str
    judged: FittedClassifier
    baseline: FittedClassifier
    fitted: FittedClassifier
    rows: pd.DataFrame = field(repr=False)


def develop(
    model: Classifier,
    known: pd.DataFrame,
    current: pd.DataFrame,
    as_of_on: date,
    *,
    traits: Sequence[str] = (),
    threads: int = 1,
) -> Development:
    """Choose a recipe on earlier periods, judge it on the newest known one beside the baseline, and fit it on everything.

    Args:
        known: rows whose horizon has passed.
        current: rows to be scored, of the current instant.
        as_of_on: local date of the current instant.
        traits: columns of `known` that subgroups are judged by; they are in no model.
        threads: number of threads to compute on. Scores are equal to the last digit on an equal number.

    Raises:
        Refused: too little history, too few customers of an outcome, or a column is missing, no number, or infinite.
    """
    from ml import candidates
    from ml.reasons import top_reasons

    with candidates.threads(threads):
        plan = make_plan(model, known, current, as_of_on)
        known = dated(known)
        known = known[known["history_days"] >= plan.window_days]
        recipe, trials = choose(model, known, plan)
        split = plan.split
        judged = fit(model, known, split, plan.features, recipe)
        baseline = fit(model, known, split, model.baseline, Recipe(scope=recipe.scope))
        rows = _at(known, [split.judged])
        outcome = rows["outcome"].to_numpy(dtype=bool)
        probabilities = judged.probabilities(rows)
        comparison = evaluation.compare(outcome, probabilities, baseline.probabilities(rows))
        earns, explanation = earns_its_place(comparison)
        everything = Split(learnable(model, _anchors(known), as_of_on), as_of_on)
        bare = Recipe(scope=recipe.scope)
        fitted = fit(model, known, everything, *((plan.features, recipe) if earns else (model.baseline, bare)))
        strongest = top_reasons(judged.classifier.estimator_, matrix(rows, plan.features), plan.features)["reason_1"]
        shares = strongest.astype(str).value_counts(normalize=True, sort=False)
        return Development(
            plan=plan,
            recipe=recipe,
            trials=trials,
            comparison=comparison,
            subgroups=evaluation.by_subgroup(outcome, probabilities, rows[list(traits)]),
            base_rates=evaluation.base_rates(known["as_of_on"].dt.date, known["outcome"]),
            importance=tuple(
                (name, float(shares[name])) for name in sorted(shares.index, key=lambda name: (-shares[name], name))
            ),
            earns_its_place=earns,
            explanation=explanation,
            judged=judged,
            baseline=baseline,
            fitted=fitted,
            rows=rows,
        )


def check_sensitivity(model: Classifier, sensitivities: Mapping[str, str | None]) -> None:
    """Refuse features that tell what a model must not know.

    Args:
        sensitivities: `meta.sensitivity` per column of feat_customers: none, proxy or special.

    Raises:
        Refused: a feature is of a special category, or a proxy for which the model states no purpose.
    """
    for feature in model.features:
        sensitivity = sensitivities.get(feature)
        if sensitivity == "special":
            raise Refused(f"{model.name}: {feature} is of a special category, which no model reads")
        if sensitivity == "proxy" and not model.purpose:
            raise Refused(f"{model.name}: {feature} stands in for a sensitive trait, and the model states no purpose")


def make_plan(model: Classifier, known: pd.DataFrame, current: pd.DataFrame, as_of_on: date) -> Plan:
    """Choose instants and features: the longest feature windows for which enough instants have the history.

    Raises:
        Refused: too little history, too few customers of an outcome, nothing to tell customers apart by, or a column is
            missing, no number, or infinite.
    """
    known = dated(known)
    for frame in (known, current):
        matrix(frame, model.features)
    history = int(current["history_days"].max()) if len(current) else 0
    if history < 3 * model.horizon_days:
        raise Refused(f"{history} days of history; {model.name} needs 3 x {model.horizon_days} days")
    refusal: Refused | None = None
    for window in sorted({window_of(feature) for feature in model.features}, reverse=True):
        covered = known[known["history_days"] >= window]
        try:
            split = split_in_time(model, _anchors(covered), as_of_on)
        except Refused as reason:
            refusal = refusal or reason
            continue
        return _with_features(model, covered, current, split, window)
    raise refusal or Refused(f"{model.name} has no features")


def split_in_time(model: Classifier, anchors: Iterable[date], as_of_on: date) -> Split:
    """Choose instants so that nothing that a model learns from ends after what it is judged on begins.

    Raises:
        Refused: no outcome is known yet, or too few were known when the newest such instant began.
    """
    closed = learnable(model, anchors, as_of_on)
    if not closed:
        raise Refused(f"no instant lies {model.reach.days} days back, so no outcome is known yet")
    learned = learnable(model, closed, closed[-1])
    if len(learned) < ANCHORS_MIN:
        raise Refused(
            f"{len(learned)} instant(s) with enough history whose outcome was known on {closed[-1]};"
            f" {model.name} needs {ANCHORS_MIN}"
        )
    return Split(learned, closed[-1])


def learnable(model: Classifier, anchors: Iterable[date], judged: date) -> tuple[date, ...]:
    """Instants whose outcome was known at `judged`, late deliveries included, in order."""
    return tuple(sorted(anchor for anchor in anchors if anchor + model.reach <= judged))


def earlier_periods(
    model: Classifier, split: Split, most: int = PERIODS, *, with_season: bool = False
) -> tuple[Split, ...]:
    """Splits within what may be learned, newest first: each judged by outcomes that were known at `split.judged`.

    Args:
        with_season: only those that know instants of a year before what they are judged on.
    """
    rolled = [
        Split(learned, judged)
        for judged in reversed(split.learned)
        if len(learned := learnable(model, split.learned, judged)) >= ANCHORS_MIN
    ]
    if with_season:
        rolled = [period for period in rolled if "season" in scopes(model, period)]
    if len(rolled) <= most:
        return tuple(rolled)
    # Evenly over all of them: neighbours share most of their outcomes, and a year has seasons.
    return tuple(rolled[number * (len(rolled) - 1) // (most - 1)] for number in range(most))


def scopes(model: Classifier, split: Split) -> dict[str, tuple[date, ...]]:
    """Instants that may calibrate: the newest, and where they are known those around a year before `judged`, or both."""
    newest = split.learned[-NEWEST:]
    season = tuple(anchor for anchor in split.learned if abs(split.judged - YEAR - anchor) <= model.season)
    if not season:
        return {"newest": newest}
    return {"newest": newest, "season": season, "both": tuple(sorted({*newest, *season}))}


def choose(model: Classifier, known: pd.DataFrame, plan: Plan) -> tuple[Recipe, tuple[Trial, ...]]:
    """Choose candidate and calibration on periods before the evaluation.

    Where the history holds no earlier period, candidates are compared by customers held out (GroupKFold). Where no
    earlier period could try a calibration by season, the newest instants and those of a year ago calibrate together: on
    Online Retail II (churn judged in May 2011) that made an ECE of .039, the season alone .100, the newest alone .018; in
    a steady business it is the season that is right.
    """
    from ml import candidates

    known = dated(known)
    periods, seasonal = (
        [
            split
            for split in earlier_periods(model, plan.split, with_season=with_season)
            if _is_enough(model, _at(known, split.learned)) and _is_enough(model, _at(known, [split.judged]))
        ]
        for with_season in (False, True)
    )
    trials: list[Trial] = []
    odds: dict[tuple[str, date], np.ndarray] = {}
    for name in candidates.CANDIDATES:
        for split in periods:
            odds[name, split.judged] = _odds_of_period(name, known, split, plan.features)
            outcome = draw(_at(known, [split.judged]), CHOICE_ROWS)["outcome"].to_numpy(dtype=bool)
            trials.append(Trial(name, split.judged, evaluation.auc(outcome, odds[name, split.judged])))
        if not periods:
            trials.append(Trial(name, None, _auc_held_out(name, known, plan)))
    means = _means(trials)
    best = max(means.values())
    candidate = next(name for name in candidates.CANDIDATES if means[name] >= best - NEARLY_AS_GOOD)
    tried = []
    # Options are compared on periods that can try all of them: one alone would be chance.
    for split in seasonal or periods:
        if (candidate, split.judged) not in odds:
            odds[candidate, split.judged] = _odds_of_period(candidate, known, split, plan.features)
        tried += _try_calibrations(model, candidate, known, split, plan.features, odds[candidate, split.judged])
    available = scopes(model, plan.split)
    untried = "both" in available and not any(trial.option.endswith("both") for trial in tried)
    options = {trial.option for trial in tried}
    complete = {
        period for period in {trial.period for trial in tried}
        if {trial.option for trial in tried if trial.period == period} == options
    }  # fmt: skip
    losses = _means([trial for trial in tried if trial.period in complete])
    losses = {option: loss for option, loss in losses.items() if option.split(" ")[1] in available}
    calibration, scope = (
        min(sorted(losses), key=lambda option: losses[option]).split(" ") if losses else ("sigmoid", "newest")
    )
    return Recipe(candidate, calibration, "both" if untried else scope), (*trials, *tried)


def fit(
    model: Classifier, known: pd.DataFrame, split: Split, features: Sequence[str], recipe: Recipe
) -> FittedClassifier:
    """Fit a recipe on what was known at `split.judged`.

    Raises:
        Refused: too few customers of an outcome.
        ValueError: an outcome would be known only after `split.judged`: the model would know the future.
    """
    from ml import candidates

    if max(split.learned) + model.reach > split.judged:
        raise ValueError(f"outcomes of {max(split.learned)} are known only after {split.judged}")
    rows = draw(_at(dated(known), split.learned), ROWS_MAX)
    _enough(model, rows, "training")
    calibrating = _calibrating(model, rows, split, recipe.scope)
    classifier = candidates.GroupCalibratedClassifier(candidates.make(recipe.candidate), method=recipe.calibration)
    classifier.fit(
        matrix(rows, features),
        rows["outcome"].to_numpy(dtype=bool).astype(int),
        groups=_codes(rows["customer_id"]),
        calibrating=calibrating,
    )
    return FittedClassifier(model, tuple(features), recipe, split.learned, classifier)


def earns_its_place(comparison: evaluation.Comparison) -> tuple[bool, str]:
    """Whether the model ranks better than its baseline beyond chance with a Brier score no worse, and why, in words."""
    model, baseline, gain = comparison.model, comparison.baseline, comparison.gain
    figures = (
        f"AUC {model.auc.value:.3f} against {baseline.auc.value:.3f} by the baseline (gain {gain.value:+.3f}, 95 % of"
        f" resamples {gain.low:+.3f} to {gain.high:+.3f}), Brier {model.brier:.3f} against {baseline.brier:.3f}"
    )
    if gain.low > 0 and model.brier <= baseline.brier:
        return True, f"the model earns its place: {figures}"
    return False, f"the model does not beat its baseline: {figures}"


def window_of(feature: str) -> int:
    """Days of history that a feature looks back on by its name: twice the number where it compares two periods.

    Features over all history have no window.
    """
    days = feature.rsplit("_", 1)[-1]
    return (2 if "_change_" in feature else 1) * int(days) if days.isdigit() else 0


def draw(frame: pd.DataFrame, rows_max: int) -> pd.DataFrame:
    """About `rows_max` rows at most: customers, whole, by a hash of their id, so that the same are drawn each time."""
    import numpy as np
    import pandas as pd

    if len(frame) <= rows_max:
        return frame
    hashes = pd.util.hash_array(frame["customer_id"].to_numpy(dtype=object))
    return frame[hashes < np.uint64(rows_max / len(frame) * 2**64)]


def matrix(frame: pd.DataFrame, features: Sequence[str]) -> np.ndarray:
    """The features as floats, shape (rows, features), null as NaN.

    Raises:
        Refused: one is missing, no number, or infinite.
    """
    import numpy as np
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    if missing := [feature for feature in features if feature not in frame.columns]:
        raise Refused(f"feature(s) {', '.join(missing)} are missing: build feat_customers again, or train anew without")
    values = np.empty((len(frame), len(features)))
    for number, feature in enumerate(features):
        column = frame[feature]
        if not (is_numeric_dtype(column) or is_bool_dtype(column) or column.isna().all()):
            raise Refused(f"feature {feature} is of type {column.dtype}, not a number")
        values[:, number] = column.to_numpy(dtype=float, na_value=np.nan)
        if infinite := int(np.isinf(values[:, number]).sum()):
            first = frame["customer_id"].to_numpy()[np.isinf(values[:, number]).argmax()]
            raise Refused(f"feature {feature} is infinite in {infinite} row(s), first for customer {first}")
    return values


def _with_features(model: Classifier, known: pd.DataFrame, current: pd.DataFrame, split: Split, window: int) -> Plan:
    learned, judged = _at(known, split.learned), _at(known, [split.judged])
    _enough(model, learned, "training")
    _enough(model, judged, "judging")
    dropped: dict[str, str] = {}
    for feature in model.features:
        if window_of(feature) > window:
            dropped[feature] = f"looks back {window_of(feature)} days, further than the history of enough instants"
            continue
        for what, frame in (("training", learned), ("scoring", current)):
            column = frame[feature]
            if column.isna().all():
                dropped.setdefault(feature, f"null for everybody in {what}")
            elif column.nunique(dropna=False) < 2:
                dropped.setdefault(feature, f"the same for everybody in {what}")
    if lost := [feature for feature in model.baseline if feature in dropped]:
        raise Refused(f"{model.name} cannot be compared with its baseline: {lost[0]} is {dropped[lost[0]]}")
    features = tuple(feature for feature in model.features if feature not in dropped)
    return Plan(split, features, window, tuple(dropped.items()))


def _odds_of_period(name: str, known: pd.DataFrame, split: Split, features: Sequence[str]) -> np.ndarray:
    """Log-odds on a period by a candidate that learned from what was known then."""
    from ml import candidates

    rows, judged = draw(_at(known, split.learned), CHOICE_ROWS), draw(_at(known, [split.judged]), CHOICE_ROWS)
    fitted = candidates.make(name).fit(matrix(rows, features), rows["outcome"].to_numpy(dtype=bool).astype(int))
    return candidates.log_odds(fitted.predict_proba(matrix(judged, features))[:, 1])


def _auc_held_out(name: str, known: pd.DataFrame, plan: Plan) -> float:
    """AUC of a candidate on customers that it had not learned from, in the instants that may be learned."""
    from ml import candidates

    rows = draw(_at(known, plan.split.learned), CHOICE_ROWS)
    outcome = rows["outcome"].to_numpy(dtype=bool)
    grouped = candidates.GroupCalibratedClassifier(candidates.make(name))
    odds = grouped.held_out(matrix(rows, plan.features), outcome.astype(int), _codes(rows["customer_id"]))
    return evaluation.auc(outcome, odds)


def _try_calibrations(
    model: Classifier,
    candidate: str,
    known: pd.DataFrame,
    split: Split,
    features: Sequence[str],
    odds: np.ndarray,
) -> list[Trial]:
    """Log loss on a period of each calibration, named `method scope`, learned from what was known then.

    Args:
        odds: of the candidate on that period.
    """
    from ml import candidates

    rows, judged = draw(_at(known, split.learned), CHOICE_ROWS), draw(_at(known, [split.judged]), CHOICE_ROWS)
    values, codes = matrix(rows, features), rows["outcome"].to_numpy(dtype=bool).astype(int)
    grouped = candidates.GroupCalibratedClassifier(candidates.make(candidate))
    held_out = grouped.held_out(values, codes, _codes(rows["customer_id"]))
    outcome = judged["outcome"].to_numpy(dtype=bool)
    trials = []
    for scope, anchors in scopes(model, split).items():
        chosen = _is_at(rows, anchors)
        for method in candidates.METHODS:
            if codes[chosen].min() == codes[chosen].max() or (method == "isotonic" and chosen.sum() < ISOTONIC_MIN):
                continue
            probabilities = candidates.make_calibrator(method, held_out[chosen], codes[chosen]).predict(odds)
            trials.append(Trial(f"{method} {scope}", split.judged, evaluation.log_loss(outcome, probabilities)))
    return trials


def _calibrating(model: Classifier, rows: pd.DataFrame, split: Split, scope: str) -> np.ndarray:
    """Which rows calibrate: those of the scope if they are enough, else all."""
    import numpy as np

    chosen = _is_at(rows, scopes(model, split).get(scope, split.learned[-NEWEST:]))
    return chosen if _is_enough(model, rows[chosen]) else np.ones(len(rows), dtype=bool)


def _means(trials: Sequence[Trial]) -> dict[str, float]:
    figures: dict[str, list[float]] = {}
    for trial in trials:
        figures.setdefault(trial.option, []).append(trial.figure)
    return {option: sum(values) / len(values) for option, values in figures.items()}


def _enough(model: Classifier, rows: pd.DataFrame, role: str) -> None:
    """Raise Refused unless there are enough customers of either outcome."""
    for outcome, least, said in ((True, model.positives_min, "yes"), (False, model.negatives_min, "no")):
        customers = rows.loc[rows["outcome"].to_numpy(dtype=bool) == outcome, "customer_id"].nunique()
        if customers < least:
            raise Refused(f"{customers} customers with the outcome {said} for {role}; {model.name} needs {least}")


def _is_enough(model: Classifier, rows: pd.DataFrame) -> bool:
    try:
        _enough(model, rows, "")
    except Refused:
        return False
    return True


def dated(frame: pd.DataFrame) -> pd.DataFrame:
    """`as_of_on` as pandas holds instants, whether it came as dates or not.

    Raises:
        Refused: a column that every frame has is missing, or an outcome is unknown.
    """
    import pandas as pd

    for column in ("customer_id", "as_of_on", "history_days", "outcome"):
        if column not in frame.columns:
            raise Refused(f"column {column} is missing")
    if unknown := int(frame["outcome"].isna().sum()):
        raise Refused(f"{unknown} row(s) have no outcome: only instants whose horizon has passed can be learned from")
    if frame["as_of_on"].dtype.kind == "M":
        return frame
    return frame.assign(as_of_on=pd.to_datetime(frame["as_of_on"]))


def _anchors(known: pd.DataFrame) -> list[date]:
    import pandas as pd

    return sorted(pd.Timestamp(anchor).date() for anchor in known["as_of_on"].unique())


def _is_at(frame: pd.DataFrame, anchors: Sequence[date]) -> np.ndarray:
    import pandas as pd

    return frame["as_of_on"].isin(pd.to_datetime(list(anchors))).to_numpy()


def _at(frame: pd.DataFrame, anchors: Sequence[date]) -> pd.DataFrame:
    return frame[_is_at(frame, anchors)]


def _codes(customers: pd.Series[str]) -> np.ndarray:
    import pandas as pd

    return pd.factorize(customers)[0]
