"""What checks found, and where it is kept: the last result of every check, for the data docs and the command line."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from core.errors import HomeError
from core.files import write_atomically
from core.home import Home
from expectations.rules import Group, Severity


@dataclass(frozen=True)
class CheckResult:
    """What one check found. Holds no contents: failing rows are told by their keys.

    Attributes:
        table: `schema.table`.
        severity: a failing error blocks what is downstream, a failing warning does not.
        passed: also true of a skipped check.
        checked: rows looked at.
        unexpected: rows, or other things, that break the rule.
        examples: what a few of them are: (delivery_id, row_number) in the lake, the table's own keys elsewhere, or words
            and figures for what concerns a delivery or a column.
        skipped: the table belongs to no required source and has no data.
        detail: what to know beside the counts: why it was skipped, or could not be evaluated.
        description: what holds when it passes.
        reason: why a failing warning is no error; None for errors.
        of_rows: whether `unexpected` counts rows of the table; else deliveries, columns, groups or the whole table.
    """

    table: str
    name: str
    severity: Severity
    passed: bool
    checked: int
    unexpected: int
    examples: tuple[tuple[str | int, ...], ...] = ()
    skipped: bool = False
    detail: str = ""
    description: str = ""
    reason: str | None = None
    of_rows: bool = True

    @property
    def found(self) -> str:
        """How much breaks the rule, for people: so many of so many rows, or what it is about. Empty if nothing does."""
        if self.detail:
            return self.detail
        if self.of_rows and self.unexpected:
            return f"{self.unexpected:,} of {self.checked:,} rows"
        if self.passed:
            return ""
        said = "; ".join(" / ".join(map(str, key)) for key in self.examples)
        more = self.unexpected - len(self.examples)
        return (f"{said} and {more:,} more" if more > 0 else said) if said else "the whole table"

    @property
    def rows(self) -> list[str]:
        """The rows that are told as examples, by their keys."""
        return [" / ".join(map(str, key)) for key in self.examples] if self.of_rows else []

    @property
    def blocks(self) -> bool:
        """Whether what is downstream must not run."""
        return not self.passed and self.severity == "error"


@dataclass(frozen=True)
class TableResult:
    """The last results of one table's suite.

    Attributes:
        as_of: of the run that checked it, aware, in UTC.
    """

    table: str
    group: Group
    as_of: datetime
    checks: tuple[CheckResult, ...]


def path(home: Home) -> Path:
    """Where the last results are kept."""
    return home.docs / "gx" / "results.json"


def read(home: Home) -> list[TableResult]:
    """The last results of every table that was ever checked, in the order of the suites; empty before the first run.

    Raises:
        HomeError: the file can't be read.
    """
    kept = path(home)
    if not kept.exists():
        return []
    try:
        said = json.loads(kept.read_text(encoding="utf-8"))["tables"]
        return [
            TableResult(
                entry["table"],
                entry["group"],
                datetime.fromisoformat(entry["as_of"]),
                tuple(_thawed(entry["table"], check) for check in entry["checks"]),
            )
            for entry in said
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise HomeError(
            f"{kept} can't be read ({type(error).__name__}): delete it, the next refresh writes it anew"
        ) from None


def keep(home: Home, found: Sequence[TableResult], order: Sequence[str]) -> list[TableResult]:
    """Put `found` in the place of what was kept of the same tables. Returns all that is kept now.

    Args:
        order: every guarded table; results of others, which are guarded no more, go.
    """
    kept = {result.table: result for result in [*read(home), *found]}
    merged = [kept[table] for table in order if table in kept]
    tables = [
        {
            "table": result.table,
            "group": result.group,
            "as_of": result.as_of.isoformat(),
            "checks": [_frozen(check) for check in result.checks],
        }
        for result in merged
    ]
    write_atomically(path(home), json.dumps({"tables": tables}, indent=1) + "\n")
    return merged


def failed(results: Iterable[TableResult], tables: Collection[str] | None = None) -> list[CheckResult]:
    """Checks that did not pass, errors before warnings."""
    found = [
        check
        for result in results
        if tables is None or result.table in tables
        for check in result.checks
        if not check.passed
    ]
    return sorted(found, key=lambda check: check.severity)


def _frozen(check: CheckResult) -> dict[str, object]:
    said = asdict(check)
    del said["table"]
    return said


def _thawed(table: str, said: dict[str, Any]) -> CheckResult:
    return CheckResult(table=table, **said | {"examples": tuple(map(tuple, said["examples"]))})
