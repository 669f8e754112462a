"""One bad segment does not stop the rest: it is found before the run, named with its reason, and left out.

Two kinds are told apart. What stops dbt itself from reading the project (Jinja, a `ref` to nothing, YAML) is found from
the files alone, by `broken_files`, and its files are kept from dbt. What dbt can read but not use is found by
`compile_each`, which runs every segment alone against the warehouse. Both end up in the home's `segments_control`, from
which dbt knows whom to leave out of the memberships: those segments keep the members of the newest release.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import MailwrightError
from core.files import write_atomically
from core.home import Home
from segments.columns import refuse_unstated
from segments.definitions import FOLDER, PREFIX, Cadence, Problem, Segment, SegmentError, Survey, survey
from segments.models import Models, read_models
from segments.outcomes import Outcome
from segments.rendering import Relation, render

if TYPE_CHECKING:
    import duckdb

# Errors of DuckDB that speak of the SQL. Others may quote values, which are kept back.
_OF_THE_SQL = ("BinderException", "CatalogException", "ParserException", "NotImplementedException")


@dataclass(frozen=True)
class Standing:
    """How a segment stood when it was last checked.

    Attributes:
        segment: its name, without `seg_`.
        file: path of its SQL file within `dbt_project/`, or of the file at fault.
        reason: why it is set aside; None if it is not.
        fresh_at: as_of (aware, UTC) of the last check that it passed, or None if it never did.
        fresh_before: the same as of the check before, for one that turns out to be broken after all.
        cadence: daily, weekly or monthly; as last known where its YAML can't be read.
        checksum: of the SQL file without the space around it, as dbt makes it: a file that was corrected since is no longer set aside.
        outcome: what former members did next.
    """

    segment: str
    file: str
    reason: str | None = None
    fresh_at: datetime | None = None
    fresh_before: datetime | None = None
    cadence: Cadence = "daily"
    checksum: str | None = None
    outcome: Outcome | None = None

    @property
    def is_set_aside(self) -> bool:
        return self.reason is not None

    @property
    def problem(self) -> Problem | None:
        return None if self.reason is None else Problem(self.segment, self.file, self.reason)


def broken_files(project_dir: Path, found: Survey | None = None) -> dict[str, Problem]:
    """Segments whose files dbt can't read, by name. Needs no warehouse.

    Raises:
        MailwrightError: `dbt_project.yml` can't be read.
    """
    found = found or survey(project_dir)
    models = read_models(project_dir, with_columns=False)
    problems = {problem.segment: problem for problem in found.problems}
    for segment in found.segments:
        try:
            render(segment, relation=models.relation)
        except SegmentError as error:
            problems[segment.name] = error.problem
    return problems


def unusable(segments: Iterable[Segment], models: Models) -> dict[str, Problem]:
    """Segments that refer to columns which they may not refer to, or can't be followed, by name. Needs no warehouse."""
    problems: dict[str, Problem] = {}
    for segment in segments:
        try:
            refuse_unstated(segment, models)
        except SegmentError as error:
            problems[segment.name] = error.problem
    return problems


def compile_each(
    connection: duckdb.DuckDBPyConnection,
    segments: Iterable[Segment],
    models: Models,
    *,
    customers: str = "marts.dim_customers",
    timezone: str = "UTC",
) -> dict[str, Problem]:
    """Run every segment alone: one that does not compile, or gives anything but customers, each once, is a problem.

    Args:
        connection: the warehouse; nothing is written to it.
        segments: segments whose files can be read.
        models: what they may read.
        customers: table of all customers.
        timezone: business timezone.

    Returns:
        Name -> problem. The other segments are good.
    """
    return run_each(connection, segments, models.relation, customers=customers, timezone=timezone)[1]


def run_each(
    connection: duckdb.DuckDBPyConnection,
    segments: Iterable[Segment],
    relation: Relation,
    *,
    customers: str = "marts.dim_customers",
    timezone: str = "UTC",
) -> tuple[dict[str, int], dict[str, Problem]]:
    """As `compile_each`, on whatever `relation` names; also how many customers each good segment returns, by name."""
    sizes: dict[str, int] = {}
    problems: dict[str, Problem] = {}
    for segment in segments:
        try:
            sizes[segment.name] = _run_alone(connection, segment, relation, customers, timezone)
        except SegmentError as error:
            problems[segment.name] = error.problem
    return sizes, problems


def standings(
    found: Survey,
    problems: Mapping[str, Problem],
    before: Mapping[str, Standing],
    as_of: datetime,
    outcomes: Mapping[str, Outcome],
) -> list[Standing]:
    """How every segment stands now, by name.

    Args:
        found: the segments as read from their files.
        problems: why some of them are set aside.
        before: how they stood at the check before; a set aside one keeps its `fresh_at` and cadence from it.
        as_of: aware instant of the run.
        outcomes: what former members did next, by segment.
    """
    readable = {segment.name: segment for segment in found.segments}
    said = []
    for name in sorted({*readable, *problems}):
        segment, problem, former = readable.get(name), problems.get(name), before.get(name)
        before_this = former.fresh_at if former is not None else None
        fresh_at = before_this
        if problem is None:
            fresh_at = as_of if before_this is None else max(as_of, before_this)
        said.append(
            Standing(
                name,
                problem.file if problem is not None else readable[name].file,
                problem.reason if problem is not None else None,
                fresh_at,
                before_this,
                segment.cadence if segment is not None else former.cadence if former is not None else "daily",
                hashlib.sha256(segment.sql.strip().encode()).hexdigest() if segment is not None else None,
                outcomes.get(name),
            )
        )
    return said


def write_control(home: Home, said: Sequence[Standing]) -> None:
    """Write how the segments stand where dbt, `segments check` and the release read it."""
    lines = [json.dumps(_to_json(standing), sort_keys=True) for standing in said]
    text = "[\n" + ",\n".join(lines) + "\n]\n"
    if not home.segments_control.exists() or home.segments_control.read_text(encoding="utf-8") != text:
        write_atomically(home.segments_control, text)


def read_control(home: Home) -> dict[str, Standing]:
    """How the segments stood at the last check, by name; empty before the first one.

    Raises:
        MailwrightError: the file can't be read.
    """
    if not home.segments_control.exists():
        return {}
    try:
        said = [_from_json(entry) for entry in json.loads(home.segments_control.read_text(encoding="utf-8"))]
    except (ValueError, TypeError, KeyError) as error:
        raise MailwrightError(
            f"{home.segments_control} can't be read ({error}): delete it, the next refresh writes it anew"
        ) from None
    return {standing.segment: standing for standing in said}


def set_aside_too(home: Home, problems: Mapping[str, Problem]) -> None:
    """Set aside segments that passed the check and turned out to be broken when they were built."""
    said = read_control(home)
    for name, problem in problems.items():
        former = said.get(name, Standing(name, problem.file))
        said[name] = replace(former, reason=problem.reason, fresh_at=former.fresh_before)
    write_control(home, [said[name] for name in sorted(said)])


def set_aside(home: Home) -> dict[str, Problem]:
    """The segments that the last check set aside, by name."""
    return {name: said.problem for name, said in read_control(home).items() if said.problem is not None}


def project_without(project_dir: Path, folder: Path, left_out: Mapping[str, Problem]) -> Path:
    """The dbt project without the files of some segments, as links in a folder that is made anew.

    Its folders are real and its files links: dbt does not look into folders that are links.

    Args:
        project_dir: the project as it is.
        folder: where the links go; it lies in the home and holds nothing else.
        left_out: segments to leave out. Of a YAML file at fault that describes others too, their metadata go with it.

    Returns:
        `folder`, or `project_dir` itself when nothing is left out.
    """
    if not left_out:
        return project_dir
    _empty(folder)
    hidden = {PREFIX + name for name in left_out} | set(left_out)
    files = {problem.file for problem in left_out.values()}
    for root, folders, names in os.walk(project_dir):
        here = Path(root).relative_to(project_dir)
        folders[:] = [name for name in folders if (here / name).as_posix() not in ("target", "logs")]
        (folder / here).mkdir(exist_ok=True)
        for name in names:
            path = Path(root) / name
            is_segment = here.is_relative_to(FOLDER)
            if not is_segment or (path.stem not in hidden and (here / name).as_posix() not in files):
                (folder / here / name).symlink_to(path)
    return folder


def blamed(message: str, names: Iterable[str]) -> str | None:
    """The segment among `names` that a message of dbt speaks of first, by its file or its model; None if of none."""
    known = set(names)
    for match in re.finditer(rf"{re.escape(str(FOLDER))}/(?:\S+/)?([\w-]+)\.(?:sql|ya?ml)|\b({PREFIX}\w+)", message):
        name = (match[1] or match[2]).removeprefix(PREFIX)
        if name in known:
            return name
    return None


def _run_alone(
    connection: duckdb.DuckDBPyConnection, segment: Segment, relation: Relation, customers: str, timezone: str
) -> int:
    sql = render(segment, relation=relation, timezone=timezone)
    with _telling(segment):
        described = connection.execute(f"describe {sql}").fetchall()
    columns = [str(row[0]).lower() for row in described]
    if columns != ["customer_id"]:
        raise SegmentError(
            Problem(segment.name, segment.file, f"returns {', '.join(columns)} instead of customer_id alone")
        )
    with _telling(segment):
        counted = connection.execute(
            f"""
            with said as (
            {sql}
            )

            select
                count(*),
                count(*) - count(customer_id),
                count(customer_id) - count(distinct customer_id),
                count(*) filter (
                    where customer_id is not null
                    and cast(customer_id as varchar) not in (
                        select customer_id from {customers} where customer_id is not null
                    )
                )
            from said
            """
        ).fetchone()
    rows, nulls, doubles, strangers = counted or (0, 0, 0, 0)
    wrong = [
        f"{count:,} {what}"
        for count, what in (
            (nulls, "rows without a customer"),
            (doubles, "customers more than once"),
            (strangers, "that are no customers"),
        )
        if count
    ]
    if wrong:
        raise SegmentError(Problem(segment.name, segment.file, f"returns {' and '.join(wrong)}"))
    return int(rows)


@contextmanager
def _telling(segment: Segment) -> Iterator[None]:
    """Turn an error of DuckDB into the segment's problem. A lost connection or a full disk is not the segment's."""
    import duckdb

    try:
        yield
    except (duckdb.IOException, duckdb.ConnectionException, duckdb.InterruptException):
        raise
    except duckdb.Error as error:
        first = " ".join(str(error).split("\n\n")[0].split("\nLINE")[0].split())
        if type(error).__name__ not in _OF_THE_SQL:
            first = re.sub(r"'[^']*'|\"[^\"]*\"", "…", first)
        said = first if len(first) <= 250 else first[:249] + "…"
        raise SegmentError(Problem(segment.name, segment.file, f"does not run: {said}")) from None


def _empty(folder: Path) -> None:
    """Make an empty folder of links, taking away what an earlier one held. Links are removed, never what they point at."""
    if folder.is_symlink():
        folder.unlink()
    for root, folders, names in os.walk(folder, topdown=False):
        for name in [*names, *folders]:
            path = Path(root) / name
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.mkdir(parents=True, exist_ok=True)


def _to_json(standing: Standing) -> dict[str, Any]:
    said = asdict(standing)
    for name in ("fresh_at", "fresh_before"):
        said[name] = said[name].astimezone(UTC).isoformat() if said[name] else None
    return said


def _from_json(said: dict[str, Any]) -> Standing:
    outcome = Outcome(**said["outcome"]) if said.get("outcome") else None
    moments = {
        name: datetime.fromisoformat(said[name]) if said.get(name) else None for name in ("fresh_at", "fresh_before")
    }
    return Standing(**{**said, **moments, "outcome": outcome})
