"""What segments may read: models and seeds of the dbt project with their columns, from their YAML files.

A column's YAML says whether it is personal (`meta.pii`) or sensitive (`meta.sensitivity`: none, proxy or special). What
is bought from a third party is a proxy at least, whatever its YAML says.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import yaml

from core.contract import load_contract
from core.errors import MailwrightError
from segments.definitions import FOLDER, PREFIX, PROJECT_FILE

Sensitivity = Literal["none", "proxy", "special"]

# Folders within models/ that a segment may read, besides seeds.
READABLE = ("marts/core", "marts/customers", "features")
_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Column:
    """What its YAML says of a column."""

    name: str
    data_type: str = "varchar"
    pii: bool = False
    sensitivity: Sensitivity = "none"


@dataclass(frozen=True)
class Model:
    """A model or seed.

    Attributes:
        schema: where its table lies.
        folder: within models/, or `seeds`.
        columns: by name, in small letters.
    """

    name: str
    schema: str
    folder: str
    columns: Mapping[str, Column] = field(default_factory=dict)

    @property
    def relation(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def is_readable(self) -> bool:
        return self.folder == "seeds" or any(
            self.folder == room or self.folder.startswith(f"{room}/") for room in READABLE
        )


@dataclass(frozen=True)
class Models:
    """Every model and seed of a project, by name."""

    by_name: Mapping[str, Model]

    def relation(self, name: str) -> str:
        """Schema and table of what `ref(name)` names, for `rendering.render`.

        Raises:
            LookupError: there is no such model, or a segment may not read it; says which.
        """
        return self._readable(name).relation

    def named(self, prefix: str) -> Callable[[str], str]:
        """A relation that keeps the model's name, after `prefix`, so that it can be found again in the SQL."""

        def relation(name: str) -> str:
            return f"{prefix}.{self._readable(name).name}"

        return relation

    def _readable(self, name: str) -> Model:
        model = self.by_name.get(name)
        if model is None and name.startswith(PREFIX):
            raise LookupError(f"reads {name}: segments don't build on each other")
        if model is None:
            raise LookupError(f"there is no model {name}")
        if not model.is_readable:
            raise LookupError(f"reads {name} of {model.folder}: segments read {', '.join(READABLE)} and seeds")
        return model


def read_models(project_dir: Path, *, with_columns: bool = True) -> Models:
    """Every model and seed, with the columns of those that segments may read.

    Args:
        project_dir: the dbt project.
        with_columns: False where only names matter, which is quicker.

    Raises:
        MailwrightError: a YAML file beside them, or `dbt_project.yml`, can't be read.
    """
    settings = _load(project_dir / PROJECT_FILE)
    by_name: dict[str, Model] = {}
    described: dict[str, dict[str, Column]] = {}
    root = project_dir / "models"
    for room in READABLE if with_columns else ():
        for path in sorted(root.glob(f"{room}/**/*.yml")):
            described |= dict(_described(path))
    for path in sorted(root.rglob("*.sql")):
        folder = path.relative_to(root).parent.as_posix()
        if not (path.relative_to(project_dir)).is_relative_to(FOLDER):
            schema = _schema(settings, "models", path.relative_to(root).parent.parts)
            by_name[path.stem] = Model(path.stem, schema, folder, described.get(path.stem, {}))
    for path in sorted((project_dir / "seeds").rglob("*.csv")):
        with open(path, encoding="utf-8", newline="") as file:
            header = next(csv.reader(file), [])
        by_name[path.stem] = Model(
            path.stem,
            _schema(settings, "seeds", ()),
            "seeds",
            {name.lower(): Column(name.lower()) for name in header},
        )
    return Models(by_name)


def _described(path: Path) -> Iterator[tuple[str, dict[str, Column]]]:
    bought = _bought()
    for entry in _load(path).get("models") or []:
        columns = {}
        for said in entry.get("columns") or []:
            name = str(said["name"]).lower()
            meta = {**(said.get("meta") or {}), **((said.get("config") or {}).get("meta") or {})}
            sensitivity = str(meta.get("sensitivity") or "none")
            if sensitivity not in get_args(Sensitivity):
                raise MailwrightError(
                    f"{path.name}: column {entry.get('name')}.{name} has sensitivity {sensitivity!r}; there are none,"
                    " proxy and special"
                )
            if sensitivity == "none" and name in bought:
                sensitivity = "proxy"
            columns[name] = Column(
                name, str(said.get("data_type") or "varchar"), bool(meta.get("pii")), cast(Sensitivity, sensitivity)
            )
        yield str(entry["name"]), columns


def _bought() -> frozenset[str]:
    """Names of what third parties sell: their tables' columns, less those that say whom it is about and when."""
    return frozenset(
        column.name
        for table in load_contract().tables.values()
        if table.source == "third_party"
        for column in table.columns
        if column.data_type == "varchar" and not column.pii and column.name not in ("contact_point_type", "provider")
    )


def _schema(settings: Mapping[str, Any], kind: str, folders: tuple[str, ...]) -> str:
    """The schema that `dbt_project.yml` gives to a folder: the innermost that is said."""
    here = (settings.get(kind) or {}).get(settings.get("name")) or {}
    schema = here.get("+schema", "main")
    for folder in folders:
        here = here.get(folder) or {}
        schema = here.get("+schema", schema)
    return str(schema)


def _load(path: Path) -> dict[str, Any]:
    try:
        said = yaml.load(path.read_text(encoding="utf-8"), Loader=_YAML)
    except (OSError, yaml.YAMLError) as error:
        raise MailwrightError(f"{path} can't be read: {' '.join(str(error).split())}") from None
    return said if isinstance(said, dict) else {}
