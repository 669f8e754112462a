"""Syncs: which profiles and segments go to which destination under which name, one YAML document each.

A document is checked against the contract of `sync_profiles`, the segments that there are and the platform's own rules
when it is read, so that a wrong name is found before anything is planned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from activation.connector import Connector, platform_named
from activation.connector import Field as MappedField
from activation.platform import FieldType, Key
from core.errors import PlanError
from core.settings import Settings

FOLDER = Path(__file__).with_name("syncs")
# Columns of sync_profiles that are keys and no fields, though the address may be mapped where a platform has a field for it.
KEYS = ("email", "customer_id", "segments")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def _duration(said: Any) -> Any:
    """Read `15m`, `36h` or `7d`."""
    if isinstance(said, str) and (found := re.fullmatch(r"(\d+)\s*([mhd])", said.strip())):
        return timedelta(**{_UNITS[found[2]]: int(found[1])})
    raise ValueError("must be a number of minutes, hours or days, for example 15m, 36h or 7d")


Duration = Annotated[timedelta, BeforeValidator(_duration)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Breakers(_Document):
    """What stops a sync before or while it runs.

    Attributes:
        added: share of the audience that one plan may add to it; the first plan adds everybody and is exempt.
        removed: share of the audience that may leave it, or leave any one segment of 100 members or more.
        floor: contacts that the audience must have at least.
        rejects: share of rows that the platform may refuse, once 200 were sent.
        max_age: how long ago the release may have been confirmed by a refresh.
    """

    added: float = Field(0.5, ge=0, le=1)
    removed: float = Field(0.3, ge=0, le=1)
    floor: int = Field(1, ge=0)
    rejects: float = Field(0.05, ge=0, le=1)
    max_age: Duration = timedelta(hours=36)


class Sync(_Document):
    """One sync's document.

    Attributes:
        name: of its file, and of the destination on the command line.
        platform: where it goes.
        key: what contacts are known by there; must be the platform's.
        purpose: the consent that everybody in it must have given.
        fields: column of sync_profiles to the platform's name of it.
        segments: `all`, or the names of some; or a mapping of name to the tag that the platform is to show.
        automations: segments that start something at the platform when somebody enters them. Each has a second tag, which
            is put on by ordinary plans only: never by a first, full, reconciling or rollback one.
        on_leave: what becomes of a contact that is no longer in the audience: `keep` it without tags, or `archive` it.
        expires: how long a kept plan may be applied.
        deadline: how long an apply goes on trying before the audience is written as a file drop.
        schedule: `after_refresh`, `manual`, or a cron expression in the business timezone.
    """

    name: str
    platform: str
    key: Key
    purpose: Literal["marketing"] = "marketing"
    description: str = ""
    fields: dict[str, str]
    segments: Literal["all"] | list[str] | dict[str, str] = "all"
    automations: list[str] = []
    on_leave: Literal["keep", "archive"] = "keep"
    breakers: Breakers = Breakers()
    expires: Duration = timedelta(hours=24)
    deadline: Duration = timedelta(hours=2)
    schedule: str = "manual"

    @model_validator(mode="after")
    def _no_doubles(self) -> Sync:
        names = list(self.fields.values())
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"fields: two columns would become {', '.join(doubled)}")
        return self

    @model_validator(mode="after")
    def _tried_until_the_deadline(self) -> Sync:
        if self.deadline > self.expires:
            raise ValueError("deadline: must not be longer than expires, as an expired plan is not tried again")
        return self

    @property
    def connector(self) -> type[Connector]:
        return platform_named(self.platform)

    def takes(self, segment: str) -> bool:
        """Whether a segment's memberships are synced."""
        return self.segments == "all" or segment in self.segments

    def tag_of(self, segment: str) -> str:
        """The platform's name of a segment: neutral, as people at the platform may see it."""
        prefix = self.connector.platform.tag_prefix
        shown = self.segments.get(segment, segment) if isinstance(self.segments, dict) else segment
        return shown if shown.startswith(prefix) else prefix + shown

    def start_tag_of(self, segment: str) -> str:
        """The tag on which an automation of that segment starts."""
        return f"{self.tag_of(segment)}{'_start' if '_' in self.connector.platform.tag_prefix else ' start'}"

    def mapped_fields(self, columns: Mapping[str, str]) -> list[MappedField]:
        """The fields in the document's order; `columns` are the release's, name to DuckDB type.

        Raises:
            PlanError: a column is not in the release.
        """
        if missing := [column for column in self.fields if column not in columns]:
            raise PlanError(
                f"sync {self.name} maps {', '.join(missing)}, which the release does not have: refresh, then plan again"
            )
        return [
            MappedField(column, name, column.replace("_", " ").capitalize(), field_type(columns[column]))
            for column, name in self.fields.items()
        ]


def field_type(kind: str) -> FieldType:
    """The type of a field, from a SQL type's name."""
    kind = kind.upper()
    if kind.startswith(("TINYINT", "SMALLINT", "INT", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "NUMERIC")):
        return "number"
    return "boolean" if kind.startswith("BOOL") else "date" if kind == "DATE" else "text"


def names(folder: Path = FOLDER) -> list[str]:
    """Names of the syncs that there are."""
    return sorted(path.stem for path in folder.glob("*.yml"))


def read(settings: Settings, name: str, folder: Path = FOLDER) -> Sync:
    """Read one sync's document and check it.

    Raises:
        PlanError: there is none of that name, or something in it is wrong; says what, where, and what there is instead.
    """
    path = folder / f"{name}.yml"
    if name not in names(folder):
        raise PlanError(
            f"there is no sync {name!r}; there is: {', '.join(names(folder)) or 'none'} (in {folder.name}/)"
        )
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(said, dict):
            raise PlanError(f"{path.name}: must be a mapping of settings")
        sync = Sync(**{**said, "name": name})
    except yaml.YAMLError as error:
        raise PlanError(f"{path.name} is no YAML: {error}") from None
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc'])) or 'document'}: {one['msg']}" for one in error.errors()]
        raise PlanError(f"{path.name}: {'; '.join(lines)}") from None
    if problems := check(settings, sync):
        raise PlanError(f"{path.name}: {'; '.join(problems)}")
    return sync


def check(settings: Settings, sync: Sync) -> list[str]:
    """What is wrong with a sync by the marts' contract and by its platform's rules; empty where nothing is."""
    platform = sync.connector.platform
    rule, project = platform.fields, settings.project_dir / "dbt_project"
    problems = []
    if sync.key != platform.key:
        problems.append(f"key: {platform.title} knows contacts by {platform.key}, not by {sync.key}")
    columns = contract_columns(project)
    for column, name in sync.fields.items():
        if column not in columns or column in ("customer_id", "segments"):
            choice = ", ".join(sorted(set(columns) - {"customer_id", "segments"}))
            problems.append(f"fields.{column}: sync_profiles has no such field; it has {choice}")
            continue
        if name not in rule.standard and not name.startswith(rule.prefix):
            problems.append(
                f"fields.{column}: {name!r} must be one of {platform.title}'s own or begin with {rule.prefix}"
            )
        if not re.fullmatch(rule.pattern, name):
            problems.append(f"fields.{column}: {name!r} is no name that {platform.title} takes ({rule.pattern})")
        if field_type(columns[column]) not in rule.types:
            problems.append(f"fields.{column}: {platform.title} takes no {field_type(columns[column])}")
    if rule.most is not None and len(sync.fields) > rule.most:
        problems.append(f"fields: {platform.title} takes {rule.most} at most, here are {len(sync.fields)}")
    there = segment_names(project)
    named = [] if sync.segments == "all" else list(sync.segments)
    for where, segments in (("segments", named), ("automations", sync.automations)):
        problems += [f"{where}: there is no segment {segment!r}" for segment in segments if segment not in there]
    problems += [f"automations: {segment} is not synced" for segment in sync.automations if not sync.takes(segment)]
    count = len(there if sync.segments == "all" else named) + len(sync.automations)
    if platform.most_tags is not None and count > platform.most_tags:
        problems.append(
            f"segments: {platform.title} keeps {platform.most_tags} a contact, here are {count} with automations: name fewer"
        )
    return problems


def contract_columns(project: Path) -> dict[str, str]:
    """Columns of the contract of sync_profiles, name to type."""
    path = project / "models" / "activation" / "sync_profiles.yml"
    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    model = next(model for model in said["models"] if model["name"] == "sync_profiles")
    return {column["name"]: str(column["data_type"]) for column in model["columns"]}


def segment_names(project: Path) -> set[str]:
    """Names of the segments that there are files of."""
    return {path.stem.removeprefix("seg_") for path in (project / "models" / "segments").glob("seg_*.sql")}
