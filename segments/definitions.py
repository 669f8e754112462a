"""Segments as their files define them: one SQL file and one YAML file each, read without dbt.

A file that can't be read is a `Problem` of its own segment and of no other. A segment without YAML is a segment: what
its metadata lack is listed in `Segment.missing`.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from core.errors import MailwrightError

PREFIX = "seg_"
FOLDER = PurePosixPath("models/segments")
PROJECT_FILE = "dbt_project.yml"
# What every segment states in `config.meta`, in the order in which it is asked for.
METADATA = (
    "owner",
    "purpose",
    "consent_purpose",
    "expected_size",
    "cadence",
    "kpi",
    "min_dwell_days",
    "reentry_after_days",
)

Cadence = Literal["daily", "weekly", "monthly"]
ConsentPurpose = Literal["marketing", "profiling"]
Metric = Literal[
    "bought_30",
    "bought_90",
    "bought_180",
    "revenue_30",
    "revenue_90",
    "revenue_180",
    "unsubscribed_30",
    "unsubscribed_90",
    "unsubscribed_180",
]

_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Problem:
    """Why a segment can't be used.

    Attributes:
        segment: its name, without `seg_`.
        file: path of the file at fault within `dbt_project/`.
        reason: what is wrong, in a sentence without a full stop.
    """

    segment: str
    file: str
    reason: str

    def __str__(self) -> str:
        return f"segment {self.segment} (dbt_project/{self.file}): {self.reason}"


class SegmentError(MailwrightError):
    """A segment's file can't be used. Recovery: correct the file that is named; the other segments go on."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True)
class Project:
    """What a segment's Jinja may use of the dbt project around it.

    Attributes:
        variables: the `vars` of `dbt_project.yml`.
        macros: path within the project -> text of every file in `macros/`.
    """

    variables: Mapping[str, Any] = field(default_factory=dict)
    macros: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Segment:
    """One segment, as its files say.

    Attributes:
        name: without `seg_`.
        sql: the SQL file as written, with its Jinja.
        path: of the SQL file; of a segment read from an earlier revision, where it lay then.
        owner: who answers for it.
        purpose: what it is for, in a sentence.
        consent_purpose: what a contact must have agreed to: marketing or profiling.
        min_size: fewest customers that are expected, or None.
        max_size: most customers that are expected, or None.
        min_share: the same as a share of all customers, or None.
        max_share: the same as a share of all customers, or None.
        cadence: how often it is meant to be made anew.
        kpi_metric: what mail to it should move.
        kpi_effect: by how much: of a rate, the absolute difference; of revenue, the share of its mean.
        min_dwell_days: who enters stays for so many days.
        reentry_after_days: who leaves stays out for so many days.
        sensitive_purpose: why it may use columns that are sensitive, or stand for something that is.
        missing: what its metadata don't state, among `METADATA` and description.
        unknown: what its metadata state that has no meaning here.
        project: vars and macros that its SQL may use.
    """

    name: str
    sql: str
    path: Path
    description: str = ""
    owner: str | None = None
    purpose: str | None = None
    consent_purpose: ConsentPurpose = "profiling"
    min_size: int | None = None
    max_size: int | None = None
    min_share: float | None = None
    max_share: float | None = None
    cadence: Cadence = "daily"
    kpi_metric: Metric | None = None
    kpi_effect: float | None = None
    min_dwell_days: int = 0
    reentry_after_days: int = 0
    sensitive_purpose: str | None = None
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    project: Project = field(default_factory=Project, repr=False)

    @property
    def model(self) -> str:
        """Name of its dbt model, and of its table in the schema `segments`."""
        return PREFIX + self.name

    @property
    def file(self) -> str:
        """Path of the SQL file within `dbt_project/`."""
        parts = self.path.parts
        starts = [i for i in range(len(parts) - 1) if parts[i : i + 2] == FOLDER.parts]
        return "/".join(parts[starts[-1] :]) if starts else self.path.name


@dataclass(frozen=True)
class Survey:
    """Every segment of a project: those that can be read, and what is wrong with the others."""

    segments: tuple[Segment, ...]
    problems: tuple[Problem, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All names, of readable and broken segments, sorted."""
        return tuple(sorted({said.name for said in self.segments} | {said.segment for said in self.problems}))

    def segment(self, name: str) -> Segment:
        """The segment of that name, with or without `seg_`.

        Raises:
            SegmentError: it can't be read.
            MailwrightError: there is none; names those that there are.
        """
        wanted = name.removeprefix(PREFIX)
        for segment in self.segments:
            if segment.name == wanted:
                return segment
        for problem in self.problems:
            if problem.segment == wanted:
                raise SegmentError(problem)
        raise MailwrightError(f"there is no segment {wanted}; there are: {', '.join(self.names) or 'none'}")


def read_segments(project_dir: Path) -> list[Segment]:
    """All segments of the project, by name.

    Raises:
        SegmentError: one of them can't be read; see `survey` for going on with the others.
    """
    return _all_or_error(survey(project_dir))


def read_segments_at(project_dir: Path, revision: str) -> list[Segment]:
    """All segments as they were at a git revision, with the vars and macros of then.

    Raises:
        SegmentError: one of them can't be read.
        MailwrightError: the project is in no git repository, or there is no such revision.
    """
    return _all_or_error(survey_at(project_dir, revision))


def survey(project_dir: Path) -> Survey:
    """Read every segment of the project as it is on disk; what is broken is told apart."""
    return _survey(project_dir, _files_on_disk(project_dir))


def survey_at(project_dir: Path, revision: str) -> Survey:
    """Read every segment as it was at a git revision; what was broken is told apart.

    Raises:
        MailwrightError: the project is in no git repository, or there is no such revision.
    """
    return _survey(project_dir, _files_at(project_dir, revision))


def variables(project_dir: Path) -> dict[str, Any]:
    """The `vars` of the project.

    Raises:
        MailwrightError: `dbt_project.yml` can't be read.
    """
    return _variables((project_dir / PROJECT_FILE).read_text(encoding="utf-8"))


class _ExpectedSize(BaseModel):
    model_config = ConfigDict(extra="forbid")

    min: int | None = Field(None, ge=0)
    max: int | None = Field(None, ge=0)
    min_share: float | None = Field(None, ge=0, le=1)
    max_share: float | None = Field(None, ge=0, le=1)

    @model_validator(mode="after")
    def _is_a_range(self) -> _ExpectedSize:
        sides = ((self.min, self.max), (self.min_share, self.max_share))
        if all(low is None and high is None for low, high in sides):
            raise ValueError("says neither min and max (customers) nor min_share and max_share (of all customers)")
        if any(low is not None and high is not None and low > high for low, high in sides):
            raise ValueError("begins above its end")
        return self


class _Kpi(BaseModel):
    model_config = ConfigDict(extra="forbid")

    metric: Metric
    effect: float = Field(gt=0)


class _Meta(BaseModel):
    """`config.meta` of a segment. Nothing is required here: what is missing is reported, not refused."""

    model_config = ConfigDict(extra="allow")

    owner: str | None = Field(None, min_length=1)
    purpose: str | None = Field(None, min_length=1)
    consent_purpose: ConsentPurpose | None = None
    expected_size: _ExpectedSize | None = None
    cadence: Cadence | None = None
    kpi: _Kpi | None = None
    min_dwell_days: int | None = Field(None, ge=0, strict=True)
    reentry_after_days: int | None = Field(None, ge=0, strict=True)
    sensitive_purpose: str | None = Field(None, min_length=1)


def _all_or_error(found: Survey) -> list[Segment]:
    if found.problems:
        raise SegmentError(found.problems[0])
    return list(found.segments)


def _survey(project_dir: Path, files: Mapping[str, str | None]) -> Survey:
    """Make segments of files.

    Args:
        files: path within the project -> text, or None where it is no UTF-8.
    """
    said = files.get(PROJECT_FILE)
    project = Project(
        _variables(said) if said else {},
        {name: text for name, text in files.items() if name.startswith("macros/") and text is not None},
    )
    queries: dict[str, list[str]] = {}
    for name in sorted(files):
        if _is_segment_file(name) and name.endswith(".sql"):
            queries.setdefault(PurePosixPath(name).stem, []).append(name)
    described, problems = _descriptions(files, frozenset(queries))
    segments: list[Segment] = []
    for model, paths in queries.items():
        if model.removeprefix(PREFIX) in problems:
            continue
        try:
            segments.append(_segment(project_dir, project, model, paths, files, described.get(model)))
        except SegmentError as error:
            problems[error.problem.segment] = error.problem
    return Survey(tuple(segments), tuple(problems[name] for name in sorted(problems)))


def _segment(
    project_dir: Path,
    project: Project,
    model: str,
    paths: list[str],
    files: Mapping[str, str | None],
    described: tuple[str, Mapping[str, Any]] | None,
) -> Segment:
    """Make a segment of its SQL file and the entry that describes it.

    Raises:
        SegmentError: either can't be used.
    """
    name, file = model.removeprefix(PREFIX), paths[0]
    if not model.startswith(PREFIX) or not name:
        raise SegmentError(Problem(name, file, f"a segment's file is named {PREFIX}<name>.sql"))
    if len(paths) > 1:
        raise SegmentError(Problem(name, file, f"there are several files of this name: {', '.join(paths)}"))
    sql = files[file]
    if sql is None:
        raise SegmentError(Problem(name, file, "is no text in UTF-8"))
    if not sql.strip():
        raise SegmentError(Problem(name, file, "is empty"))
    path = project_dir / file
    if described is None:
        return Segment(name, sql, path, missing=("description", *METADATA), project=project)
    yaml_file, entry = described
    try:
        config = entry.get("config") or {}
        if config.get("enabled") is False:
            raise ValueError("switches the segment off: delete its files instead")
        meta = _Meta.model_validate({**(entry.get("meta") or {}), **(config.get("meta") or {})})
    except (ValidationError, ValueError, TypeError, AttributeError) as error:
        raise SegmentError(Problem(name, yaml_file, _told(error))) from None
    size = meta.expected_size or _ExpectedSize.model_construct(min=None, max=None, min_share=None, max_share=None)
    description = " ".join(str(entry.get("description") or "").split())
    return Segment(
        name,
        sql,
        path,
        description,
        meta.owner,
        meta.purpose,
        meta.consent_purpose or "profiling",
        size.min,
        size.max,
        size.min_share,
        size.max_share,
        meta.cadence or "daily",
        meta.kpi.metric if meta.kpi else None,
        meta.kpi.effect if meta.kpi else None,
        meta.min_dwell_days or 0,
        meta.reentry_after_days or 0,
        meta.sensitive_purpose,
        (
            *(() if description else ("description",)),
            *(key for key in METADATA if getattr(meta, key) is None),
        ),
        tuple(sorted(meta.model_extra or {})),
        project,
    )


def _descriptions(
    files: Mapping[str, str | None], models: frozenset[str]
) -> tuple[dict[str, tuple[str, Mapping[str, Any]]], dict[str, Problem]]:
    """What the YAML files say: model -> (file, its entry), and segment -> what is wrong with its YAML.

    A file that can't be read is the fault of the segments that it is named for or that its text names; of all others it
    is none.
    """
    described: dict[str, tuple[str, Mapping[str, Any]]] = {}
    problems: dict[str, Problem] = {}
    for name in sorted(files):
        if not _is_segment_file(name) or not name.endswith((".yml", ".yaml")):
            continue
        try:
            entries = list(_entries(files[name]))
        except (yaml.YAMLError, ValueError) as error:
            blamed = {PurePosixPath(name).stem} | {model for model in models if model in (files[name] or "").split()}
            for model in blamed:
                segment = model.removeprefix(PREFIX)
                problems[segment] = Problem(segment, name, _told(error))
            continue
        for entry in entries:
            model = str(entry["name"])
            if model in described:
                segment = model.removeprefix(PREFIX)
                problems[segment] = Problem(segment, name, f"{model} is described in {described[model][0]} as well")
            described[model] = (name, entry)
    return described, problems


def _entries(text: str | None) -> Iterator[Mapping[str, Any]]:
    if text is None:
        raise ValueError("is no text in UTF-8")
    said = yaml.load(text, Loader=_YAML)
    if said is None:
        return
    if not isinstance(said, dict):
        raise ValueError("holds no mapping with `models:`")
    entries = said.get("models") or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and entry.get("name") for entry in entries):
        raise ValueError("`models:` is no list of models with a name each")
    yield from entries


def _is_segment_file(name: str) -> bool:
    return name.startswith(f"{FOLDER}/")


def _variables(text: str) -> dict[str, Any]:
    try:
        said = yaml.load(text, Loader=_YAML).get("vars") or {}
    except (yaml.YAMLError, AttributeError) as error:
        raise MailwrightError(f"dbt_project/{PROJECT_FILE} can't be read: {_told(error)}") from None
    return dict(said)


def _files_on_disk(project_dir: Path) -> dict[str, str | None]:
    paths = [project_dir / PROJECT_FILE]
    for folder in (FOLDER, PurePosixPath("macros")):
        for root, _, names in os.walk(project_dir / folder, followlinks=True):
            paths += [Path(root) / name for name in names if name.endswith((".sql", ".yml", ".yaml"))]
    return {path.relative_to(project_dir).as_posix(): _text(path.read_bytes()) for path in paths if path.is_file()}


def _files_at(project_dir: Path, revision: str) -> dict[str, str | None]:
    """The same files at a git revision.

    Raises:
        MailwrightError: there is no repository or no such revision.
    """
    if revision.startswith("-"):
        raise MailwrightError(f"{revision} is no git revision")
    listed = _git(
        project_dir, "ls-tree", "-r", "-z", "--name-only", revision, "--", str(FOLDER), "macros", PROJECT_FILE
    )
    names = [name for name in listed.decode().split("\0") if name.endswith((".sql", ".yml", ".yaml"))]
    if not names:
        return {}
    packed = _git(project_dir, "archive", "--format=tar", revision, "--", *names)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        return {
            member.name: _text(file.read())
            for member in archive
            if member.isfile() and (file := archive.extractfile(member)) is not None
        }


def _git(folder: Path, *arguments: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, check=False)
    except OSError as error:
        raise MailwrightError(f"git can't be run ({error}): an earlier definition can't be read") from None
    if done.returncode != 0:
        said = " ".join(done.stderr.decode(errors="replace").split()).removeprefix("fatal: ")
        raise MailwrightError(f"git can't read {folder} as it was: {said}")
    return done.stdout


def _text(content: bytes) -> str | None:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _told(error: Exception) -> str:
    """One line of what is wrong: of YAML the place, of metadata the key."""
    if isinstance(error, ValidationError):
        return "; ".join(
            f"{'.'.join(map(str, ('meta', *problem['loc'])))}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        )
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem or 'is no YAML'}"
    return " ".join(str(error).split())
