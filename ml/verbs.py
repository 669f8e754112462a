"""What is done with every model: train, register, promote, score, watch. Nothing here knows one model from another."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from core.errors import ModelError
from core.home import Home
from ml.drift import PSI_ALARM, Drift, measure
from ml.features import current_as_of, nobody_to_profile
from ml.model import Evaluation, Finding, FollowUp, Model, Refused, Scored
from ml.promotion import Decision, decide
from ml.registry import Card, Registry, Version, libraries, one_thread
from ml.scores import can_read_back, newest_scores, write_tables

if TYPE_CHECKING:
    import duckdb

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """What came of training.

    Attributes:
        version: the one that was trained; None where it was refused.
        evaluation: how it was judged; None where it was refused, or trained alike before.
        decision: whether it scores from now on, and why; the reason of a refusal.
    """

    model: str
    version: Version | None
    evaluation: Evaluation | None
    decision: Decision


@dataclass(frozen=True)
class Scoring:
    """What came of scoring.

    Attributes:
        version: the champion that scored; None where nothing did.
        scored: what was written; None where nothing was.
        reason: why there are no new scores, with the age of the last ones.
        drifts: features and scores of today against those in training, the largest shift first.
    """

    model: str
    as_of: datetime
    version: Version | None = None
    scored: Scored | None = None
    reason: str | None = None
    drifts: tuple[Drift, ...] = ()


def train(model: Model, connection: duckdb.DuckDBPyConnection, registry: Registry) -> Training:
    """Train a challenger at the current as_of, keep it, and promote it if it earns its place."""
    as_of, _ = current_as_of(connection)
    champion = registry.holding(model.name, "champion")
    if (nobody := nobody_to_profile(connection)) is not None:
        return Training(model.name, None, None, Decision(False, nobody))
    try:
        with one_thread():
            trained = model.train(connection, as_of)
    except Refused as reason:
        return Training(model.name, None, None, Decision(False, f"not trained: {reason}"))
    except Exception as error:
        return Training(model.name, None, None, Decision(False, f"not trained: {_failed(model, error)}"))
    if champion is not None:
        for version in registry.versions(model.name):
            if version.label == trained.label:
                said = f"version {version.number} was trained on the same rows in the same way"
                return Training(model.name, version, trained.evaluation, Decision(False, said))
    comparison, unusable, fault = None, None, None
    if champion is not None:
        try:
            with one_thread():
                comparison = trained.against(registry.load(champion))
        except (ModelError, Refused) as reason:
            unusable = str(reason)
        except Exception as error:
            fault = _failed(model, error)
    if fault is not None:
        decision = Decision(False, f"not compared with the champion: {fault}")
    else:
        decision = decide(trained.evaluation.baseline, comparison, unusable, is_first=champion is None)
    card = Card(
        model.name,
        trained.label,
        as_of,
        trained.features,
        libraries(),
        _evaluation_said(trained.evaluation, decision),
        trained.reference,
    )
    pictures = {f"{name}.png": content for name, content in trained.evaluation.pictures.items()}
    version = registry.register(card, trained.estimator, trained.evaluation.figures, pictures)
    return Training(
        model.name, registry.promote(version) if decision.promote else version, trained.evaluation, decision
    )


def score(model: Model, connection: duckdb.DuckDBPyConnection, home: Home, registry: Registry) -> Scoring:
    """Score the customers at the current as_of by the champion; the last scores stay where that can't be."""
    as_of, _ = current_as_of(connection)
    champion = registry.holding(model.name, "champion")
    if (nobody := nobody_to_profile(connection)) is not None:
        return Scoring(model.name, as_of, champion, reason=nobody)
    if champion is None:
        return unscored(home, model.name, as_of, "there is no champion")
    try:
        with one_thread():
            scored = model.score(registry.load(champion), connection, as_of)
        drifts = tuple(measure(champion.card.reference, scored.frame))
    except (ModelError, Refused) as reason:
        return unscored(home, model.name, as_of, str(reason), champion)
    except Exception as error:
        return unscored(home, model.name, as_of, _failed(model, error), champion)
    write_tables(home, champion, as_of, scored.tables)
    return Scoring(model.name, as_of, champion, scored, drifts=drifts)


def watch(model: Model, connection: duckdb.DuckDBPyConnection, scoring: Scoring) -> tuple[list[Finding], FollowUp]:
    """All that is watched of a model: the age of its scores, drift, and what it watches itself.

    Returns:
        One finding per check of `checks_of`, and how earlier scores did.
    """
    followed = FollowUp()
    if can_read_back(connection):
        try:
            followed = model.follow_up(connection, scoring.as_of)
        except Refused as reason:
            _LOG.warning("earlier scores of %s can't be judged: %s", model.name, reason)
        except Exception as error:
            _failed(model, error)
    return findings_of(model, scoring, followed), followed


def findings_of(model: Model, scoring: Scoring, followed: FollowUp | None = None) -> list[Finding]:
    """One finding per check of `checks_of`."""
    found = [_scored(scoring), _drift(scoring)]
    found += scoring.scored.findings if scoring.scored is not None else ()
    found += followed.findings if followed is not None else ()
    told = {finding.check for finding in found}
    return found + [Finding(check, True, "nothing to judge yet") for check in checks_of(model) if check not in told]


def checks_of(model: Model) -> dict[str, str]:
    """What is watched of a model: name of the check -> what it says."""
    return {
        "scored": "It scored this as_of; where it did not, the last good scores stay.",
        "drift": f"No feature and no score lies further from training than index {PSI_ALARM} beyond chance.",
        **model.checks,
    }


def _evaluation_said(evaluation: Evaluation, decision: Decision) -> Mapping[str, Any]:
    """An evaluation as a card holds it."""
    return {
        "judged_on": evaluation.judged_on,
        "rows": evaluation.rows,
        "metric": evaluation.baseline.metric,
        "model": evaluation.baseline.model,
        "baseline": evaluation.baseline.other,
        "gain_low": evaluation.baseline.low,
        "gain_high": evaluation.baseline.high,
        "promoted": decision.promote,
        "reason": decision.reason,
        "figures": dict(evaluation.figures),
        "pictures": list(evaluation.pictures),
        "tables": {name: {"columns": table.columns, "rows": table.rows} for name, table in evaluation.tables.items()},
    }


def unscored(home: Home, model: str, as_of: datetime, reason: str, version: Version | None = None) -> Scoring:
    """A scoring that did not come about: why, and how old the scores are that stay."""
    last = newest_scores(home, model, as_of)
    if last is None:
        return Scoring(model, as_of, version, reason=f"{reason}; there are no earlier scores")
    days = (as_of - last).days
    aged = f"the scores of {last:%Y-%m-%d} stay, {days} day{'' if days == 1 else 's'} old"
    return Scoring(model, as_of, version, reason=f"{reason}; {aged}")


def _failed(model: Model, error: Exception) -> str:
    """What is said of an error that no model should raise: one model's fault must not keep audiences from being built."""
    _LOG.error("%s failed", model.name, exc_info=error)
    return f"it failed with {type(error).__name__}, which is a fault of the program; the log has the whole story"


def _scored(scoring: Scoring) -> Finding:
    if scoring.scored is None:
        return Finding("scored", False, scoring.reason or "not scored")
    return Finding("scored", True, f"{len(scoring.scored.frame):,} customers scored")


def _drift(scoring: Scoring) -> Finding:
    if scoring.scored is None:
        return Finding("drift", True, "nothing was scored")
    shifted = [drift for drift in scoring.drifts if drift.is_alarm]
    if shifted:
        said = ", ".join(f"{drift.column} ({drift.psi:.2f})" for drift in shifted[:5])
        return Finding(
            "drift", False, f"{len(shifted)} of {len(scoring.drifts)} columns shifted since training: {said}"
        )
    return Finding("drift", True, f"none of {len(scoring.drifts)} columns shifted since training")
