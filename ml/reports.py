"""A page per model: what scores, how it was judged, how today lies to training. One file, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.files import write_atomically
from core.home import Home

if TYPE_CHECKING:
    from ml.model import Finding, FollowUp, Model
    from ml.registry import Registry, Version
    from ml.verbs import Scoring, Training

_TEMPLATES = Path(__file__).parent


@dataclass(frozen=True)
class Report:
    """A page that was written, and the pictures on it by caption."""

    path: Path
    pictures: Mapping[str, bytes]


def page(home: Home, model: str) -> Path:
    """Where a model's report is."""
    return home.docs / "models" / f"{model}.html"


def write(
    home: Home,
    model: Model,
    registry: Registry,
    *,
    training: Training | None = None,
    scoring: Scoring | None = None,
    followed: FollowUp | None = None,
    findings: Sequence[Finding] = (),
) -> Report:
    """Write the report of a model anew.

    Args:
        training: the newest, if there was one now.
        scoring: the newest, if there was one now.
        followed: how earlier scores did.
        findings: what is watched, as it was found now.
    """
    versions = registry.versions(model.name)
    champion = next((version for version in versions if version.role == "champion"), None)
    challenger = next((version for version in versions if version.role == "challenger"), None)
    judged = [version for version in (champion, challenger) if version is not None]
    of_versions = {version.number: dict(_pictures(registry, version)) for version in judged}
    scored = scoring.scored if scoring is not None else None
    now = (dict(scored.pictures) if scored else {}) | (dict(followed.pictures) if followed else {})
    _render(
        page(home, model.name),
        "report.html",
        model=model,
        versions=versions,
        champion=champion,
        judged=judged,
        training=training,
        scoring=scoring,
        findings=findings,
        drifts=scoring.drifts if scoring is not None else (),
        tables_now=(dict(scored.report) if scored else {}) | (dict(followed.tables) if followed else {}),
        pictures_now=now,
        pictures_of=of_versions,
    )
    return Report(page(home, model.name), (of_versions[champion.number] if champion is not None else {}) | now)


def _pictures(registry: Registry, version: Version) -> Iterable[tuple[str, bytes]]:
    for name in version.card.evaluation["pictures"]:
        yield name, registry.file(version, f"{name}.png").read_bytes()


def _render(path: Path, template: str, **said: Any) -> None:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"stamp": _stamp, "shown": _shown, "picture": _picture}
    environment.tests["numeric"] = lambda value: isinstance(value, int | float) and not isinstance(value, bool)
    write_atomically(path, environment.get_template(template).render(**said))


def _picture(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _stamp(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M}"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 1_000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
