"""Where models and scores are kept: a model with its card under `home.models`, scores under `home.state`.

A model is trained on purpose and used again for `KEEP` days, so that a refresh that is repeated changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.files import replacing, write_atomically
from core.home import Home

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

KEEP = timedelta(days=28)
"""How long after its as_of a model is used before another one is trained."""

SEED = 20111210
STAMP = "%Y%m%dT%H%M%S"


@dataclass(frozen=True)
class Card:
    """What is known of a trained model.

    Attributes:
        model: its name, as scores carry it.
        version: as_of stamp and digest of all that training depends on: equal versions are equal models.
        as_of: naive UTC instant that it was trained at; no later knowledge went in.
        features: columns that it reads, in order.
        libraries: versions that it was trained with, and needs to be read.
        report: its evaluation, as the model's own module writes it.
    """

    model: str
    version: str
    as_of: datetime
    features: tuple[str, ...]
    seed: int
    libraries: Mapping[str, str]
    report: Mapping[str, Any]


def libraries() -> dict[str, str]:
    """Versions that a stored model depends on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("scikit-learn", "numpy", "pandas")}


def version_of(as_of: datetime, features: Sequence[str], frame: pd.DataFrame) -> str:
    """Name a model by its as_of and a digest of features, training rows, seed and libraries."""
    import pandas as pd

    digest = hashlib.sha256(json.dumps([list(features), SEED, libraries()]).encode())
    digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return f"{as_of:{STAMP}}-{digest.hexdigest()[:12]}"


def save(home: Home, card: Card, estimator: Any) -> Path:
    """Store a model and its card. The card goes last: a model without one was not finished, and is not found."""
    import joblib

    folder = _folder(home, card.model) / card.version
    with replacing(folder / "model.joblib") as beside:
        joblib.dump(estimator, beside)
    said = {**card.__dict__, "as_of": card.as_of.isoformat(sep=" "), "features": list(card.features)}
    write_atomically(folder / "card.json", json.dumps(said, indent=2) + "\n")
    return folder


def usable(home: Home, model: str, as_of: datetime, features: Sequence[str]) -> Card | None:
    """The newest card of a model trained at most `KEEP` before `as_of`, on these features, with these libraries."""
    cards = [_read(path) for path in sorted(_folder(home, model).glob("*/card.json"))]
    fitting = [
        card
        for card in cards
        if as_of - KEEP < card.as_of <= as_of and card.features == tuple(features) and card.libraries == libraries()
    ]
    return max(fitting, key=lambda card: (card.as_of, card.version), default=None)


def load(home: Home, card: Card) -> Any:
    """The estimator of a card that this home's own training wrote."""
    import joblib

    return joblib.load(_folder(home, card.model) / card.version / "model.joblib")


def scores_path(home: Home, model: str, as_of: datetime) -> Path:
    """Where a model's scores at `as_of` are."""
    return home.state / "scores" / f"{model}__{as_of:{STAMP}}.parquet"


def write_scores(
    home: Home,
    card: Card,
    as_of: datetime,
    customers: Sequence[str],
    scores: np.ndarray,
    labels: Sequence[str | None],
) -> Path:
    """Write one row per customer, in order of customer_id: equal scores are equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = len(customers)
    rows = pa.table(
        {
            "model": pa.array([card.model] * count, pa.string()),
            "model_version": pa.array([card.version] * count, pa.string()),
            "customer_id": pa.array(list(customers), pa.string()),
            "as_of": pa.array([as_of] * count, pa.timestamp("us")),
            "score": pa.array(scores, pa.float64()),
            "label": pa.array(list(labels), pa.string()),
        }
    ).sort_by("customer_id")
    path = scores_path(home, card.model, as_of)
    with replacing(path) as beside:
        pq.write_table(rows, beside, compression="zstd")
    return path


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: sums over several differ in their last bits from run to run."""
    # A limit holds for the libraries that are loaded by then. Without it, clusters took 88 s in place of 7 on two busy
    # cores.
    import sklearn.cluster
    import sklearn.linear_model  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


def _read(path: Path) -> Card:
    said = json.loads(path.read_text(encoding="utf-8"))
    said["as_of"] = datetime.fromisoformat(said["as_of"])
    said["features"] = tuple(said["features"])
    return Card(**said)


def _folder(home: Home, model: str) -> Path:
    return home.models / model
