"""Two versions of the segments: as committed and as they lie in the working tree, and in what they differ."""

from __future__ import annotations

import difflib
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.errors import MailwrightError
from segments import anatomy
from segments.data import reference
from segments.definitions import PREFIX, Segment, SegmentError, Survey, survey, survey_at
from segments.rendering import render

Kind = Literal["added", "removed", "changed", "metadata"]

# What is said of a segment beside its SQL, in the order in which it is shown.
METADATA = (
    "description",
    "owner",
    "purpose",
    "consent_purpose",
    "min_size",
    "max_size",
    "min_share",
    "max_share",
    "cadence",
    "kpi_metric",
    "kpi_effect",
    "min_dwell_days",
    "reentry_after_days",
    "sensitive_purpose",
)


@dataclass(frozen=True)
class Version:
    """A segment as it was or is.

    Attributes:
        sql: rendered, with refs as `ref.<name>`; None where it can't be rendered.
        segment: what its files say; None where they can't be read.
        problem: why either is None.
    """

    name: str
    sql: str | None
    segment: Segment | None
    problem: str | None = None


@dataclass(frozen=True)
class Difference:
    """A segment that is not the same in two versions.

    Attributes:
        kind: `metadata` where every customer is in it as before.
        metadata: (what, before, after) of what is said of it.
        is_indirect: its file is the same, and yet its SQL is not: a var or macro changed.
    """

    name: str
    kind: Kind
    before: Version | None
    after: Version | None
    metadata: tuple[tuple[str, str, str], ...] = ()
    is_indirect: bool = False

    @property
    def sql_diff(self) -> str:
        """The rendered SQL of both versions as a unified diff; empty if one of them has none."""
        if self.before is None or self.after is None or self.before.sql is None or self.after.sql is None:
            return ""
        lines = difflib.unified_diff(self.before.sql.splitlines(), self.after.sql.splitlines(), lineterm="", n=1)
        return "\n".join(list(lines)[2:])


@dataclass(frozen=True)
class Comparison:
    """The segments of two versions by name, and the differences between them.

    Attributes:
        revision: what the working tree was compared with, as (as given, commit).
    """

    before: dict[str, Version]
    after: dict[str, Version]
    differences: tuple[Difference, ...]
    revision: tuple[str, str]


def compare(project_dir: Path, revision: str, timezone: str, names: Collection[str] | None = None) -> Comparison:
    """Compare the segments of a git revision with those of the working tree.

    Args:
        project_dir: the dbt project's folder.
        timezone: business timezone, for macros of local dates.
        names: only these segments, with or without `seg_`; by default all.

    Raises:
        MailwrightError: no repository, no such revision, or a name that neither version has.
    """
    commit = _commit(project_dir, revision)
    before = versions_of(survey_at(project_dir, commit), timezone)
    after = versions_of(survey(project_dir), timezone)
    wanted = {name.removeprefix(PREFIX) for name in names} if names else {*before, *after}
    if unknown := sorted(wanted - {*before, *after}):
        raise MailwrightError(
            f"there is no segment {', '.join(unknown)}, neither now nor at {revision}; there are:"
            f" {', '.join(sorted({*before, *after}))}"
        )
    found = (_difference(name, before.get(name), after.get(name)) for name in sorted(wanted))
    return Comparison(before, after, tuple(one for one in found if one is not None), (revision, commit))


def definitions(project_dir: Path, timezone: str) -> dict[str, str]:
    """Rendered SQL by segment, as a release keeps it. What can't be rendered is left out."""
    versions = versions_of(survey(project_dir), timezone)
    return {name: version.sql for name, version in versions.items() if version.sql is not None}


def versions_of(found: Survey, timezone: str) -> dict[str, Version]:
    """Every segment of a survey, rendered where that works."""
    versions = {problem.segment: Version(problem.segment, None, None, problem.reason) for problem in found.problems}
    for segment in found.segments:
        try:
            versions[segment.name] = Version(
                segment.name, render(segment, relation=reference, timezone=timezone), segment
            )
        except SegmentError as error:
            versions[segment.name] = Version(segment.name, None, segment, error.problem.reason)
    return versions


def refs_of(sql: str | None) -> frozenset[str]:
    """Names of the relations that rendered SQL refs; none of SQL that can't be read, which is reported where it is run."""
    try:
        return anatomy.relations(sql) if sql else frozenset()
    except MailwrightError:
        return frozenset()


def is_same(one: str, other: str) -> bool:
    """Whether two rendered segments say the same, whatever their layout and comments."""
    return one == other or _canonical(one) == _canonical(other)


def _canonical(sql: str) -> str:
    try:
        return anatomy.parse(sql).sql(dialect="duckdb", comments=False)
    except MailwrightError:
        return sql


def _difference(name: str, before: Version | None, after: Version | None) -> Difference | None:
    if before is None or after is None:
        return Difference(name, "added" if before is None else "removed", before, after)
    metadata = tuple(_metadata(before.segment, after.segment))
    same = (
        is_same(before.sql, after.sql)
        if before.sql and after.sql
        else (before.sql, before.problem)
        == (
            after.sql,
            after.problem,
        )
    )
    if same:
        return Difference(name, "metadata", before, after, metadata) if metadata else None
    files = [version.segment.sql if version.segment else None for version in (before, after)]
    return Difference(name, "changed", before, after, metadata, files[0] is not None and files[0] == files[1])


def _metadata(before: Segment | None, after: Segment | None) -> Iterator[tuple[str, str, str]]:
    if before is None or after is None:
        return
    for what in METADATA:
        one, other = getattr(before, what), getattr(after, what)
        if one != other:
            yield what, "none" if one is None else str(one), "none" if other is None else str(other)


def _commit(project_dir: Path, revision: str) -> str:
    """The commit that a revision names, so that what is read and what is shown are one.

    Raises:
        MailwrightError: there is no repository or no such revision.
    """
    if revision.startswith("-"):
        raise MailwrightError(f"{revision} is no git revision")
    try:
        done = subprocess.run(
            ["git", "-C", str(project_dir), "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise MailwrightError(f"git can't be run ({error}): an earlier definition can't be read") from None
    if done.returncode != 0:
        said = " ".join(done.stderr.split()).removeprefix("fatal: ") or f"there is no revision {revision}"
        raise MailwrightError(f"{said}: give a commit, branch or tag of the repository at {project_dir}")
    return done.stdout.strip()
