"""A page per model: what scores, how it was judged, how today lies to training. One file, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from core.files import write_atomically
from core.home import Home
from ml.drift import Drift
from ml.model import Model
from ml.registry import Registry, Version
from ml.verbs import Scoring, Training

_TEMPLATE = Path(__file__).with_name("report.html")


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
    drifts: Sequence[Drift] = (),
) -> Path:
    """Write the report of a model anew, and return where it is.

    Args:
        training: the newest, if there was one now.
        scoring: the newest, if there was one now.
        drifts: of today's rows against those that the champion was trained on.
    """
    from jinja2 import Environment, StrictUndefined

    versions = registry.versions(model.name)
    champion = next((version for version in versions if version.role == "champion"), None)
    challenger = next((version for version in versions if version.role == "challenger"), None)

    def pictures_of(version: Version) -> Iterable[tuple[str, str]]:
        for path in sorted(registry.file(version, "").glob("*.png")):
            yield path.stem, base64.b64encode(path.read_bytes()).decode()

    environment = Environment(autoescape=True, undefined=StrictUndefined)
    text = environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        model=model,
        versions=versions,
        champion=champion,
        judged=[version for version in (champion, challenger) if version is not None],
        reason=training.decision.reason if training else None,
        trained_well=bool(training and training.decision.promote),
        scoring=scoring.reason if scoring else None,
        drifts=list(drifts),
        pictures_of=pictures_of,
        stamp=_stamp,
        shown=_shown,
        is_number=lambda value: isinstance(value, int | float),
    )
    write_atomically(page(home, model.name), text)
    return page(home, model.name)


def _stamp(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M}"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.3f}" if abs(value) < 1_000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
