"""The model registry: MLflow, in a SQLite file and a folder under `home.models`, or on the server that is set.

One registered model per model name. Each version holds its estimator, a card (what it reads, what it was trained with,
how it was judged) and its report. Of a model's versions at most one is `champion`, which scores, and one `challenger`,
the newest that was trained and not promoted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from core.errors import ModelError
from core.files import sha256_of
from core.home import Home
from core.settings import Settings

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

Role = Literal["champion", "challenger"]
ROLES: tuple[Role, ...] = ("champion", "challenger")
SEED = 20111210
STAMP = "%Y%m%dT%H%M%S"

_UNREAD = datetime(1970, 1, 1)  # of a card that is not read yet
_CARD = "card.json"
_ESTIMATOR = "estimator.joblib"
# A server that is down is told within seconds: the refresh goes on with the last scores.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Card:
    """What is known of a trained model, beside its estimator.

    Attributes:
        model: its name, as scores carry it.
        label: as_of stamp and digest of all that training depends on: equal labels are equal models.
        as_of: naive UTC instant that it was trained at; no later knowledge went in.
        features: columns that it reads, in order.
        libraries: versions that it was trained with, and needs to be read.
        evaluation: how it was judged, as JSON holds it.
        reference: distributions in training that drift is measured against, as JSON holds it.
    """

    model: str
    label: str
    as_of: datetime
    features: tuple[str, ...]
    libraries: Mapping[str, str]
    evaluation: Mapping[str, Any]
    reference: Mapping[str, Any]
    seed: int = SEED


@dataclass(frozen=True)
class Version:
    """A registered model: its number in MLflow, its card, its part, and the digest of its estimator's file."""

    number: int
    card: Card
    role: Role | None
    run_id: str
    digest: str

    @property
    def model(self) -> str:
        """The model's name."""
        return self.card.model

    @property
    def label(self) -> str:
        """What scored rows carry."""
        return self.card.label


def libraries() -> dict[str, str]:
    """Versions that a stored estimator depends on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("scikit-learn", "numpy", "pandas")}


def label_of(as_of: datetime, recipe: Sequence[str], frame: pd.DataFrame) -> str:
    """Name a model by its as_of and a digest of its recipe, training rows, seed and libraries."""
    import pandas as pd

    digest = hashlib.sha256(json.dumps([list(recipe), SEED, libraries()]).encode())
    digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return f"{as_of:{STAMP}}-{digest.hexdigest()[:12]}"


def _told(method: Callable[P, R]) -> Callable[P, R]:
    """Turn what MLflow and its store raise into a ModelError."""

    @wraps(method)
    def telling(*args: P.args, **kwargs: P.kwargs) -> R:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return method(*args, **kwargs)
        except (MlflowException, SQLAlchemyError) as error:
            registry = args[0]
            assert isinstance(registry, Registry)
            first = str(error).strip().splitlines()[0][:200]
            raise ModelError(
                f"the model registry at {registry.shown} failed: {first}. Models are neither trained nor scored anew;"
                " the last scores stay"
            ) from error

    return telling


class Registry:
    """The models of a home."""

    def __init__(self, settings: Settings, home: Home) -> None:
        """Open the registry; on its own SQLite file the first time makes the tables, which takes seconds.

        Raises:
            ModelError: the server can't be reached, or the file is none of MLflow's.
        """
        self.artifacts = home.models / "artifacts"
        self._server = settings.mlflow_uri
        self._uri = self._server or f"sqlite:///{home.models / 'mlflow.db'}"
        self.shown = self._server or str(home.models / "mlflow.db")
        home.models.mkdir(parents=True, exist_ok=True)
        self._client = self._connect()

    @property
    def is_remote(self) -> bool:
        """Whether the models are on a server."""
        return self._server is not None

    @property
    def uri(self) -> str:
        """What `mlflow ui --backend-store-uri` takes."""
        return self._uri

    @_told
    def _connect(self) -> MlflowClient:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        client.search_registered_models(max_results=1)
        return client

    @_told
    def versions(self, model: str) -> list[Version]:
        """All versions of a model, the newest first; none if it was never trained."""
        found = self._client.search_model_versions(f"name = '{model}'")
        roles = self._roles(model)
        return sorted((self._version(one, roles) for one in found), key=lambda one: -one.number)

    def holding(self, model: str, role: Role) -> Version | None:
        """The version that is champion or challenger."""
        return next((version for version in self.versions(model) if version.role == role), None)

    def find(self, model: str, wanted: str) -> Version:
        """A version by its number, its label or its role.

        Raises:
            ModelError: there is none.
        """
        for version in self.versions(model):
            if wanted in (str(version.number), version.label, version.role):
                return version
        raise ModelError(f"{model} has no version {wanted}: see `mailwright models list`")

    @_told
    def register(
        self, card: Card, estimator: Any, metrics: Mapping[str, float], files: Mapping[str, str | bytes]
    ) -> Version:
        """Keep a trained model as challenger; what was trained alike before is returned as it is.

        Args:
            card: what is known of it.
            estimator: anything that joblib writes.
            metrics: figures that MLflow's own page compares by.
            files: further artefacts by name, such as its report.
        """
        for version in self.versions(card.model):
            if version.label == card.label:
                return version
        run = self._client.create_run(self._experiment(card.model), run_name=card.label)
        run_id = run.info.run_id
        for name, value in metrics.items():
            self._client.log_metric(run_id, name, value)
        self._client.log_param(run_id, "as_of", card.as_of.isoformat(sep=" "))
        self._client.log_param(run_id, "features", ", ".join(card.features)[:6000])
        with tempfile.TemporaryDirectory(prefix="mailwright-model-") as folder:
            digest = self._write(Path(folder), card, estimator, files)
            if self.is_remote:
                self._client.log_artifacts(run_id, folder)
            else:
                # Not by MLflow, which writes to where the home was when the model was first trained.
                shutil.copytree(folder, self._local(card.model, run_id), dirs_exist_ok=True)
        self._client.set_terminated(run_id)
        if not self._client.search_registered_models(f"name = '{card.model}'"):
            self._client.create_registered_model(card.model)
        # The version goes last: one whose artefacts are not whole is not found.
        made = self._client.create_model_version(
            card.model,
            source=run.info.artifact_uri,
            run_id=run_id,
            tags={"label": card.label, "as_of": card.as_of.isoformat(sep=" "), "sha256": digest},
        )
        self._client.set_registered_model_alias(card.model, "challenger", made.version)
        return Version(int(made.version), card, "challenger", run_id, digest)

    @_told
    def promote(self, version: Version) -> Version:
        """Make a version the champion; the champion before stays registered, without a part."""
        self._client.set_registered_model_alias(version.model, "champion", str(version.number))
        if version.role == "challenger":
            self._client.delete_registered_model_alias(version.model, "challenger")
        return replace(version, role="champion")

    def load(self, version: Version) -> Any:
        """The estimator of a version.

        Raises:
            ModelError: its file is missing, was changed since it was written, or needs other libraries.
        """
        import joblib

        if dict(version.card.libraries) != libraries():
            raise ModelError(
                f"{version.model} version {version.number} was trained with {_spoken(version.card.libraries)}, and here"
                f" are {_spoken(libraries())}: train it again with `mailwright models train {version.model}`"
            )
        path = self.file(version, _ESTIMATOR)
        if not path.is_file() or sha256_of(path) != version.digest:
            state = "was changed since it was written" if path.is_file() else "is missing"
            raise ModelError(
                f"the estimator of {version.model} version {version.number} {state} ({path}): restore it from a backup,"
                f" or train again with `mailwright models train {version.model}`"
            )
        return joblib.load(path)

    @_told
    def file(self, version: Version, name: str) -> Path:
        """Where an artefact of a version is; one on a server is fetched to a temporary folder."""
        if self._server is None:
            # Not by MLflow's absolute address: a home may be moved.
            return self._local(version.model, version.run_id) / name
        return Path(self._client.download_artifacts(version.run_id, name))

    def _local(self, model: str, run_id: str) -> Path:
        return self.artifacts / model / run_id / "artifacts"

    def _experiment(self, model: str) -> str:
        found = self._client.get_experiment_by_name(model)
        if found is not None:
            return str(found.experiment_id)
        location = None if self._server else (self.artifacts / model).as_uri()
        return str(self._client.create_experiment(model, artifact_location=location))

    def _write(self, folder: Path, card: Card, estimator: Any, files: Mapping[str, str | bytes]) -> str:
        import joblib

        joblib.dump(estimator, folder / _ESTIMATOR)
        (folder / _CARD).write_text(_card_text(card), encoding="utf-8")
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return sha256_of(folder / _ESTIMATOR)

    def _roles(self, model: str) -> dict[int, Role]:
        found = self._client.search_registered_models(f"name = '{model}'")
        aliases = found[0].aliases if found else {}
        # One that is both is champion.
        return {int(aliases[role]): role for role in reversed(ROLES) if role in aliases}

    def _version(self, said: ModelVersion, roles: Mapping[int, Role]) -> Version:
        number, run_id = int(said.version), str(said.run_id)
        unread = Version(
            number, Card(said.name, said.tags["label"], _UNREAD, (), {}, {}, {}), None, run_id, said.tags["sha256"]
        )
        card = _read_card(self.file(unread, _CARD))
        return replace(unread, card=card, role=roles.get(number))


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


def _card_text(card: Card) -> str:
    said = {**asdict(card), "as_of": card.as_of.isoformat(sep=" ")}
    return json.dumps(said, indent=2, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    """Numbers of NumPy as Python's; anything else, such as a date, in words."""
    return value.item() if hasattr(value, "item") else str(value)


def _read_card(path: Path) -> Card:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return Card(**{**said, "as_of": datetime.fromisoformat(said["as_of"]), "features": tuple(said["features"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"the card of a model can't be read ({path}): {error}. Restore it from a backup") from None


def _spoken(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
