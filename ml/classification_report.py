"""How a development of a classifier is told: the contest that decides, figures, tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ml.evaluation import BINS, Comparison, Month
from ml.model import Contest, Evaluation, Table
from ml.plots import classifiers as plots
from ml.reasons import in_words

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ml.classification import Development


def evaluation_of(made: Development, known: pd.DataFrame) -> Evaluation:
    """A development as registry and report hold it.

    Args:
        known: the rows that it was made from.
    """
    model = made.judged.model
    outcome = made.rows["outcome"].to_numpy(dtype=bool)
    probabilities, baseline = (fitted.probabilities(made.rows) for fitted in (made.judged, made.baseline))
    importance = [(in_words(name), share) for name, share in made.importance]
    return Evaluation(
        judged_on=made.plan.split.judged.isoformat(),
        rows=len(outcome),
        baseline=contest_of(made.comparison),
        figures=figures_of(made.comparison),
        tables={
            "Data card": _data_card(made, known),
            "Calibration by tenths of customers": _tenths(outcome, probabilities),
            "Subgroups": _subgroups(made),
            "What was tried": _trials(made),
            "Base rates": Table(
                ("as of", "customers", "share with the outcome"),
                tuple((rate.anchor.isoformat(), rate.customers, rate.rate) for rate in made.base_rates),
            ),
            "Strongest reasons": Table(("feature", "share of customers"), tuple(importance)),
            "Features left out": Table(("feature", "why"), made.plan.dropped),
        },
        pictures={
            "ROC": plots.roc(outcome, probabilities, baseline, made.comparison, model.event),
            "Lift": plots.gains(outcome, probabilities, baseline, made.comparison, model.event),
            "Reliability": plots.reliability(made.comparison, model.event),
            "Importance": plots.importance(importance, model.event),
        },
    )


def contest_of(comparison: Comparison) -> Contest:
    """What decides between the two of a comparison: AUC; Brier score, of which less is better, where that got worse.

    A better ranking with worse probabilities is no better model: audiences are cut at a probability.
    """
    model, other, gain = comparison.model, comparison.baseline, comparison.gain
    if gain.low > 0 and model.brier > other.brier:
        lost = comparison.brier_gain
        return Contest("1 - Brier score", 1 - model.brier, 1 - other.brier, lost.low, lost.high)
    return Contest("AUC", model.auc.value, other.auc.value, gain.low, gain.high)


def figures_of(comparison: Comparison) -> dict[str, float]:
    """Every figure of the model by name, those of its baseline, and what a perfect model would show at that size."""
    model, baseline = comparison.model, comparison.baseline
    calibration = model.calibration
    return {
        "auc": model.auc.value,
        "auc_low": model.auc.low,
        "auc_high": model.auc.high,
        "baseline_auc": baseline.auc.value,
        "auc_gain": comparison.gain.value,
        "auc_gain_low": comparison.gain.low,
        "auc_gain_high": comparison.gain.high,
        "brier": model.brier,
        "baseline_brier": baseline.brier,
        "log_loss": model.log_loss,
        "baseline_log_loss": baseline.log_loss,
        "ece": calibration.ece,
        "perfect_ece": calibration.perfect_ece.value,
        "perfect_ece_high": calibration.perfect_ece.high,
        "baseline_ece": baseline.calibration.ece,
        "calibration_slope": calibration.slope,
        "perfect_slope_low": calibration.perfect_slope.low,
        "perfect_slope_high": calibration.perfect_slope.high,
        "calibration_intercept": calibration.intercept,
        "top_tenth_lift": model.lift.value,
        "top_tenth_lift_ceiling": model.lift.ceiling,
        "baseline_top_tenth_lift": baseline.lift.value,
        "base_rate": model.base_rate,
    }


def months_table(months: Sequence[Month]) -> Table:
    """How earlier scores did, by the month that they were made in."""
    return Table(
        ("month", "customers", "predicted", "came true", "chance allows +-", "ECE", "AUC"),
        tuple(
            (month.month, month.customers, month.predicted, month.observed, month.margin, month.ece, month.auc)
            for month in months
        ),
    )


def _data_card(made: Development, known: pd.DataFrame) -> Table:
    split, recipe, judged = made.plan.split, made.recipe, made.comparison.model
    learned = known[known["as_of_on"].dt.date.isin(split.learned)]
    final = made.fitted.learned
    return Table(
        ("what", "value"),
        (
            ("question", made.judged.model.question),
            ("learned from, to be judged", f"{len(split.learned)} instants, {split.learned[0]} to {split.learned[-1]}"),
            ("rows learned from", len(learned)),
            ("of them with the outcome", int(learned["outcome"].sum())),
            ("customers learned from", int(learned["customer_id"].nunique())),
            ("judged on", split.judged.isoformat()),
            ("customers judged", judged.customers),
            ("of them with the outcome", round(judged.base_rate * judged.customers)),
            ("what scores learned from", f"{len(final)} instants, {final[0]} to {final[-1]}"),
            ("what scores", "the model" if made.earns_its_place else "the baseline, which the model does not beat"),
            ("recipe", f"{recipe.candidate}, {recipe.calibration} calibration on instants: {recipe.scope}"),
            ("features", len(made.plan.features)),
            ("longest window of a feature", f"{made.plan.window_days} days, which the history of every row covers"),
            ("verdict", made.explanation),
        ),
    )


def _tenths(outcome: np.ndarray, probabilities: np.ndarray) -> Table:
    """Predicted against observed by tenths of customers, the highest scores first; equal scores by position."""
    import numpy as np

    rate = outcome.mean()
    rows = []
    for number, chosen in enumerate(np.array_split(np.argsort(-probabilities, kind="stable"), BINS), start=1):
        if len(chosen):
            predicted, observed = float(probabilities[chosen].mean()), float(outcome[chosen].mean())
            rows.append((number, len(chosen), predicted, observed, float(observed / rate)))
    return Table(("tenth", "customers", "predicted", "observed", "lift"), tuple(rows))


def _subgroups(made: Development) -> Table:
    return Table(
        ("trait", "value", "customers", "AUC", "predicted", "observed", "ECE"),
        tuple(
            (group.trait, group.value, group.customers, group.auc, group.predicted, group.observed, group.ece)
            for group in made.subgroups
        ),
    )


def _trials(made: Development) -> Table:
    """Candidates by AUC and calibrations by log loss; those of one period are comparable."""
    return Table(
        ("option", "judged on", "figure", "value"),
        tuple(
            (
                trial.option,
                trial.period.isoformat() if trial.period else "customers held out",
                "log loss" if " " in trial.option else "AUC",
                trial.figure,
            )
            for trial in made.trials
        ),
    )
