"""What every model states, and what training and scoring yield: the contract that the shared verbs rest on.

A model is one file in `ml/models/`. It answers one question about customers, names the features it reads, its baseline
and the metric that decides, and knows how to train itself on what was known at an as_of and to score with an estimator.
Keeping, promoting, writing and watching are the same for all: `ml/verbs.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa


class Refused(Exception):
    """Data are too few or too poor to train, judge or score. Its text says which, and what would be enough."""


@dataclass(frozen=True)
class Contest:
    """Two ways to answer, on the same customers of a later period, by a metric of which more is better.

    Attributes:
        metric: such as AUC.
        model: the metric of the one that has to prove itself.
        other: that of the baseline, or of the champion.
        low: 2.5 % and
        high: 97.5 % bound of the gain over paired resamples of customers.
    """

    metric: str
    model: float
    other: float
    low: float
    high: float

    @property
    def gain(self) -> float:
        """How much more the model has."""
        return self.model - self.other

    @property
    def beats(self) -> bool:
        """Whether the gain lies beyond noise."""
        return self.low > 0

    def __str__(self) -> str:
        return (
            f"{self.metric} {self.model:.3f} against {self.other:.3f} (gain {self.gain:+.3f}, 95 % of resamples"
            f" {self.low:+.3f} to {self.high:+.3f})"
        )


@dataclass(frozen=True)
class Table:
    """Rows for a report, each as long as `columns`."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Finding:
    """One thing watched, as a check shows it.

    Attributes:
        check: one of the model's `checks`.
        passed: whether all is well; where not, it is a warning: last scores stay, the refresh goes on.
        said: what was found, in a sentence.
    """

    check: str
    passed: bool
    said: str


@dataclass(frozen=True)
class Evaluation:
    """How a recipe did on the newest period whose outcome is known, which it learned nothing from.

    Attributes:
        judged_on: the period, in words or as a date.
        rows: how many were judged.
        baseline: the contest that decides whether the model earns its place.
        figures: every metric by name, as MLflow compares versions by.
        tables: for the report, by caption.
        pictures: for the report, PNG bytes by caption.
    """

    judged_on: str
    rows: int
    baseline: Contest
    figures: Mapping[str, float]
    tables: Mapping[str, Table] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """A trained model that is not kept yet.

    Attributes:
        label: `ml.registry.label_of` its as_of, recipe and rows: equal labels are equal models.
        features: columns that the estimator reads, in order.
        estimator: what scores, as joblib writes it; learned from everything known at the as_of, the judged period
            included. The baseline's own where the model does not beat it.
        evaluation: of the recipe.
        against: judges the recipe against another estimator of this model on the same period.
        reference: `ml.drift.reference_of` the features and the `score` of the rows scored at the as_of of training.
    """

    label: str
    features: tuple[str, ...]
    estimator: Any
    evaluation: Evaluation
    against: Callable[[Any], Contest]
    reference: Mapping[str, Any]


@dataclass(frozen=True)
class Scored:
    """What an estimator says of the customers at an as_of.

    Attributes:
        tables: rows by table of the home's state, without model, version and as_of, which are added: see
            `ml.scores.TABLES`. `scores` are made by `ml.scores.scores_of`.
        frame: the columns of the version's reference as they are now, a row per customer, for drift.
        findings: what this model watches in its scores, such as coverage.
        report: tables for the report, by caption.
        pictures: PNG bytes for the report, by caption.
    """

    tables: Mapping[str, pa.Table]
    frame: pd.DataFrame
    findings: tuple[Finding, ...] = ()
    report: Mapping[str, Table] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class FollowUp:
    """How earlier scores did now that their outcomes are known."""

    findings: tuple[Finding, ...] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)


class Model(Protocol):
    """One question about customers, and how it is answered. Implementations are frozen dataclasses."""

    @property
    def name(self) -> str:
        """As scores carry it."""

    @property
    def question(self) -> str:
        """What a score answers, in a sentence."""

    @property
    def baseline(self) -> str:
        """What has to be beaten, in words."""

    @property
    def features(self) -> Sequence[str]:
        """Columns of feat_customers that it may read."""

    @property
    def reads(self) -> Sequence[str]:
        """The dbt models that have to be built before, `schema.name`: not what it wrote earlier itself."""

    @property
    def checks(self) -> Mapping[str, str]:
        """What it watches beyond drift and the age of its scores: name of the check -> what it says."""

    def train(self, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> Trained:
        """Learn from what was known at `as_of`, and judge the recipe on the newest period with an outcome.

        Raises:
            Refused: data are too few or too poor.
        """

    def score(self, estimator: Any, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> Scored:
        """Score the customers at `as_of`.

        Raises:
            Refused: a feature that the estimator reads is missing or of another type.
        """

    def follow_up(self, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> FollowUp:
        """Judge scores written at earlier as_ofs (`staging.stg_ml__scores`) by what came since. Reads nothing else back."""
