"""Models of a yes or no by the contract of `ml.model`: reads the warehouse, guards against leaks, trains, scores, follows up.

How one is developed, on data frames alone, is `ml.classification`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ml import classification, evaluation, leaks
from ml.classification import Classifier, Development, FittedClassifier
from ml.features import as_of_date, read, read_known, sensitivities
from ml.model import Contest, Finding, FollowUp, Refused, Scored, Trained

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

TRAITS = ("age_band", "gender", "region_type")
"""What performance is told apart by, as known at each instant. No model reads them."""

COVERAGE_MIN = 0.2
"""Share of the population with a score below which an audience by score says little of the population."""

FOLLOWED_MIN = 100  # customers of a month whose outcome is known; fewer are noise
LEAK_ROWS = 40_000
LEAK_DAYS = 30  # horizon that leaks are looked for at: leaks and honest features grow old alike over longer ones


@dataclass(frozen=True)
class ClassifierModel:
    """A classifier with its verbs."""

    classifier: Classifier

    @property
    def name(self) -> str:
        """As scores carry it."""
        return self.classifier.name

    @property
    def question(self) -> str:
        """What its probability is the answer to."""
        return self.classifier.question

    @property
    def baseline(self) -> str:
        """What it has to beat, in words."""
        from ml.reasons import in_words

        return " and ".join(in_words(feature) for feature in self.classifier.baseline) + ", fitted in the same way"

    @property
    def features(self) -> Sequence[str]:
        """Columns of feat_customers that it may read."""
        return self.classifier.features

    @property
    def reads(self) -> Sequence[str]:
        """The dbt models that it reads."""
        return ("features.feat_customers", "features.outcomes", "marts.customer_permissions", "marts.dim_as_ofs")

    @property
    def checks(self) -> Mapping[str, str]:
        """What it watches beyond drift and the age of its scores."""
        return {
            "coverage": f"At least {COVERAGE_MIN:.0%} of the customers who are asked about have a score.",
            "calibration": (
                f"The newest month whose outcome is known came true within {evaluation.OFF:.0%} of what was predicted, or"
                " within what chance allows at 95 %."
            ),
        }

    def train(self, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> Trained:
        """Develop the classifier on outcomes that were known at `as_of`.

        Raises:
            Refused: data are too few or no numbers, or a feature knows the future or a trait that it must not.
        """
        from ml import registry
        from ml.classification_report import contest_of, evaluation_of
        from ml.drift import reference_of

        model = self.classifier
        classification.check_sensitivity(model, sensitivities())
        as_of_on = as_of_date(connection, as_of)
        known, current = read_rows(connection, model, as_of)
        if not len(current):
            raise Refused(f"nobody to score: {model.name} asks about {model.population}")
        refuse_leaks(connection, model, as_of, known)
        made = classification.develop(model, known, current, as_of_on, traits=TRAITS)
        fitted = made.fitted
        recipe = (model.name, *(str(part) for part in vars(fitted.recipe).values()), *fitted.features)
        scored = current.assign(score=fitted.probabilities(current).round(classification.DECIMALS))

        def against(champion: Any) -> Contest:
            return contest_of(_against(model, known, made, champion))

        return Trained(
            label=registry.label_of(as_of, recipe, known[["customer_id", "as_of_on", "outcome", *made.plan.features]]),
            features=fitted.features,
            estimator=fitted,
            evaluation=evaluation_of(made, known),
            against=against,
            reference=reference_of(scored, [*fitted.features, "score"]),
        )

    def score(self, estimator: Any, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> Scored:
        """Score who is in the population and may be profiled.

        Raises:
            Refused: a feature is missing, of another type or infinite, there is nobody, or `estimator` is no classifier.
        """
        from ml.plots import classifiers as plots
        from ml.reasons import codes
        from ml.scores import scores_of

        fitted = _fitted(self.classifier, estimator)
        where = f"({self.classifier.population}) and feat.as_of = ?"
        frame = read(connection, fitted.features, where, [as_of])
        if not len(frame):
            raise Refused(f"nobody to score: {self.name} asks about {self.classifier.population}")
        said = fitted.score(frame)
        scores = said["score"].to_numpy()
        return Scored(
            tables={"scores": scores_of(said["customer_id"].tolist(), scores, reasons=codes(said))},
            frame=frame[list(fitted.features)].assign(score=scores),
            findings=(self._coverage(connection, as_of, len(frame)),),
            pictures={"Scores": plots.score_distribution(scores, self.classifier.event)},
        )

    def follow_up(self, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> FollowUp:
        """Compare probabilities of earlier as_ofs with what came true, by month; the newest score of a month counts."""
        from ml.classification_report import months_table
        from ml.plots import classifiers as plots

        frame = _followed(connection, self.classifier, as_of)
        months = tuple(
            month
            for month in evaluation.by_month(
                frame["month"], frame["outcome"].to_numpy(dtype=bool), frame["score"].to_numpy(dtype=float)
            )
            if month.customers >= FOLLOWED_MIN
        )
        if not months:
            return FollowUp()
        newest = months[-1]
        said = (
            f"of {newest.customers:,} customers scored in {newest.month}, {newest.observed:.1%} had the outcome,"
            f" {newest.predicted:.1%} were predicted (chance allows {newest.margin:.1%})"
        )
        return FollowUp(
            findings=(Finding("calibration", not newest.is_off, said),),
            tables={"Earlier scores, and what came of them": months_table(months)},
            pictures={"Calibration by month": plots.calibration_by_month(months, self.classifier.event)},
        )

    def _coverage(self, connection: duckdb.DuckDBPyConnection, as_of: datetime, scored: int) -> Finding:
        asked = connection.execute(
            f"select count(*) from features.feat_customers as feat where ({self.classifier.population}) and feat.as_of = ?",
            [as_of],
        ).fetchall()[0][0]
        share = scored / asked
        said = f"{scored:,} of {asked:,} customers who are asked about have a score ({share:.0%})"
        if scored < asked:
            said += "; the others may not be profiled"
        return Finding("coverage", share >= COVERAGE_MIN, said)


def read_rows(
    connection: duckdb.DuckDBPyConnection, model: Classifier, as_of: datetime, *, everybody: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows whose horizon had passed at `as_of`, with their outcome, and those of `as_of` itself; both with `TRAITS`.

    Args:
        everybody: also who may not be profiled: for figures, never for scores.

    Raises:
        Refused: a feature is missing or no number.
    """
    plain = ("history_days", *TRAITS)
    # Twice what is learned from at most: of these some instants are judged, and some have too little history.
    known = read_known(
        connection, model.features, model.horizon_days, model.target, f"({model.population}) and feat.as_of <= ?",
        [as_of - timedelta(days=model.horizon_days)], plain=plain, rows_max=2 * classification.ROWS_MAX, everybody=everybody,
    )  # fmt: skip
    current = read(
        connection,
        model.features,
        f"({model.population}) and feat.as_of = ?",
        [as_of],
        plain=plain,
        everybody=everybody,
    )
    return known, current


def refuse_leaks(
    connection: duckdb.DuckDBPyConnection, model: Classifier, as_of: datetime, known: pd.DataFrame
) -> None:
    """Raise Refused if a feature knows the future, by how fast it grows old or by telling the outcome itself."""
    where = (
        f"({model.population}) and feat.as_of in (select distinct as_of from features.outcomes"
        f" where horizon_days = {LEAK_DAYS} and as_of <= ? order by as_of desc limit {leaks.PAIRS + 1})"
    )
    closed = as_of - timedelta(days=LEAK_DAYS)
    newest = read_known(
        connection, model.features, LEAK_DAYS, "outcome.bought", where, [closed], rows_max=LEAK_ROWS
    )  # fmt: skip
    aged = leaks.suspects(newest, model.features, model.baseline[0])
    named = {suspect.feature for suspect in aged}
    others = [feature for feature in model.features if feature not in named]
    if found := (*aged, *leaks.tell_tales(known, others)):
        said = "; ".join(
            f"{suspect.feature} (AUC {suspect.auc:.3f} by itself, {suspect.older_auc:.3f} four weeks before)"
            for suspect in found
        )
        raise Refused(
            f"{len(found)} feature(s) seem to know what came after as_of: {said}. Find what they are computed from, or take"
            f" them out of {model.name}"
        )


def _against(model: Classifier, known: pd.DataFrame, made: Development, champion: Any) -> evaluation.Comparison:
    """Compare what was judged with a champion, on the same customers.

    A champion that learned outcomes of the judged period would be asked what it was told, and one that was made fresh
    would always win. So its recipe is fitted anew on what the challenger learned from, and the contest is of recipes. A
    champion so old that it knows nothing of the judged period is judged as it is, its age included: that is how it
    loses to the same recipe on fresher data.
    """
    fitted = _fitted(model, champion)
    split = made.plan.split
    if max(fitted.learned) + model.reach > split.judged:
        if missing := [feature for feature in fitted.features if feature not in known.columns]:
            raise Refused(f"the champion reads {', '.join(missing)}, which {model.name} does not read any more")
        history = classification.dated(known)
        history = history[history["history_days"] >= made.plan.window_days]
        fitted = classification.fit(model, history, split, fitted.features, fitted.recipe)
    outcome = made.rows["outcome"].to_numpy(dtype=bool)
    return evaluation.compare(outcome, made.judged.probabilities(made.rows), fitted.probabilities(made.rows))


def _fitted(model: Classifier, estimator: Any) -> FittedClassifier:
    if not isinstance(estimator, FittedClassifier) or estimator.model.name != model.name:
        raise Refused(f"the estimator is a {type(estimator).__name__} and no classifier of {model.name}")
    return estimator


def _followed(connection: duckdb.DuckDBPyConnection, model: Classifier, as_of: datetime) -> pd.DataFrame:
    """The newest score of each customer and month whose outcome is known: month, score, outcome.

    Outcomes are known of the instants of the spine, which a scheduled refresh scores within the hour.
    """
    return connection.execute(
        f"""
        select strftime(as_of, '%Y-%m') as month, score, outcome
        from (
            select scored.customer_id, scored.as_of, scored.score, {model.target} as outcome
            from staging.stg_ml__scores as scored
            inner join features.outcomes as outcome
                on outcome.customer_id = scored.customer_id
                and outcome.horizon_days = {model.horizon_days:d}
                and scored.as_of between outcome.as_of and outcome.as_of + interval 1 hour
            where scored.model = $1 and scored.as_of < $2 and scored.score between 0 and 1
        )
        qualify row_number() over (partition by customer_id, month order by as_of desc) = 1
        order by month, customer_id
        """,
        [model.name, as_of],
    ).df()
