"""The models' part of a refresh: score with the champions, train where there is none or on purpose, watch, report."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import ModelError
from core.home import Home
from core.settings import Settings
from core.warehouse import warehouse
from orchestration.workshop import PATIENCE_SECONDS

if TYPE_CHECKING:
    from ml.model import Finding, FollowUp, Model, Table
    from ml.registry import Registry, Version
    from ml.verbs import Scoring, Training


@dataclass(frozen=True)
class ModelRun:
    """What became of one model in a refresh.

    Attributes:
        champion: the version that scores; None where none does.
        training: None where nothing was trained.
        scoring: None where the registry could not be opened.
        findings: one per check of `ml.verbs.checks_of`.
        page: the report; None where the registry could not be opened.
        pictures: of the report, by caption.
    """

    model: str
    findings: tuple[Finding, ...]
    champion: Version | None = None
    training: Training | None = None
    scoring: Scoring | None = None
    followed: FollowUp | None = None
    page: Path | None = None
    pictures: dict[str, bytes] = field(default_factory=dict)

    @property
    def tables(self) -> dict[str, Table]:
        """Tables of the report, by caption."""
        from ml.model import Table

        tables: dict[str, Table] = {}
        if self.champion is not None:
            for name, said in self.champion.card.evaluation["tables"].items():
                tables[name] = Table(tuple(said["columns"]), tuple(tuple(row) for row in said["rows"]))
        if self.scoring is not None and self.scoring.scored is not None:
            tables |= self.scoring.scored.report
        if self.followed is not None:
            tables |= self.followed.tables
        return tables

    @property
    def figures(self) -> dict[str, Any]:
        """What is worth seeing at a glance."""
        figures: dict[str, Any] = {}
        if self.champion is not None:
            said = self.champion.card.evaluation
            figures |= {
                "version": f"{self.champion.number} ({self.champion.label})",
                "trained_as_of": self.champion.card.as_of.isoformat(sep=" "),
                said["metric"]: round(said["model"], 4),
                "baseline": round(said["baseline"], 4),
                "gain_of_95_percent_of_resamples": f"{said['gain_low']:+.3f} to {said['gain_high']:+.3f}",
                "judged_on": said["judged_on"],
            }
        if self.training is not None:
            figures["training"] = self.training.decision.reason
        figures["scoring"] = next(finding.said for finding in self.findings if finding.check == "scored")
        return figures


def open_registry(settings: Settings, home: Home) -> Registry:
    """Open the home's registry, or the server that is set.

    Raises:
        ModelError: it can't be reached or read.
    """
    from ml.registry import Registry

    return Registry(settings, home)


def run_model(
    settings: Settings, home: Home, model: Model, *, retrain: bool = False, registry: Registry | None = None
) -> ModelRun:
    """Score with a model's champion; train first where there is none, or where asked to. Never fails for want of data.

    Args:
        retrain: train a challenger whether there is a champion or not.
        registry: an open one; by default it is opened. One that can't be opened is a finding: last scores stay.
    """
    from ml import reports, verbs
    from ml.features import current_as_of

    with warehouse(settings, home, wait_seconds=PATIENCE_SECONDS) as connection:
        as_of: datetime = current_as_of(connection)[0]
        try:
            registry = registry or open_registry(settings, home)
            training = None
            if retrain or registry.holding(model.name, "champion") is None:
                training = verbs.train(model, connection, registry)
            scoring = verbs.score(model, connection, home, registry)
            if training is not None and training.version is None and scoring.version is None:
                # That there is no champion is no news: why there is none, is.
                scoring = verbs.unscored(home, model.name, as_of, training.decision.reason)
            findings, followed = verbs.watch(model, connection, scoring)
            report = reports.write(
                home, model, registry, training=training, scoring=scoring, followed=followed, findings=findings
            )
        except ModelError as error:
            unscored = verbs.unscored(home, model.name, as_of, str(error))
            return ModelRun(model.name, tuple(verbs.findings_of(model, unscored)))
    return ModelRun(
        model.name, tuple(findings), scoring.version, training, scoring, followed, report.path, dict(report.pictures)
    )


CONTEST = ("metric", "model", "baseline", "gain, 95 %")
"""Header of what `contest` gives."""


def contest(version: Version | None) -> tuple[str, str, str, str]:
    """How a version stands to its baseline on the newest period that it was judged on; blank without a version."""
    if version is None:
        return ("", "", "", "")
    said = version.card.evaluation
    gain = f"{said['gain_low']:+.3f} to {said['gain_high']:+.3f}"
    return (said["metric"], f"{said['model']:.3f}", f"{said['baseline']:.3f}", gain)
