"""What was delivered and what became of it, for the data docs and the command line alike.

Read from the manifest, the quarantine, the parsed contact points and the last results of the checks; never from the
warehouse, and never with a value of a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from core.contract import load_contract
from core.home import Home
from expectations import results
from expectations.results import CheckResult, TableResult

if TYPE_CHECKING:
    from ingestion.manifest import DeliveryRow

REASONS = 5
"""Reasons told per delivery; the rest is summed up."""
OTHER_REASONS = "other reasons"

_SUPERSEDED = {
    "append": "an earlier row told the same event",
    "replace_entity": "a later delivery tells them anew",
    "snapshot": "a later delivery is the whole table",
}


@dataclass(frozen=True)
class Count:
    """So many rows or values, and what is said of them."""

    said: str
    number: int


@dataclass(frozen=True)
class Change:
    """A change of columns that the loader noticed: `severity` warning if data may be lost by it, else note."""

    severity: Literal["warning", "note"]
    said: str


@dataclass(frozen=True)
class Delivered:
    """One delivery of one table. read = accepted + superseded + rejected + erased.

    Attributes:
        received_at: naive, UTC.
        historical: delivered as history, so that it has no part in freshness and usual volume.
        rejected_because: the commonest reasons with their rows, the commonest first.
        changes: how its columns differ from the contract and from earlier deliveries.
        notices: whatever else the loader noticed.
    """

    delivery_id: str
    sequence: int
    received_at: datetime
    historical: bool
    read: int
    accepted: int
    superseded: int
    rejected: int
    erased: int
    rejected_because: tuple[Count, ...]
    changes: tuple[Change, ...]
    notices: tuple[str, ...]


@dataclass(frozen=True)
class TableDeliveries:
    """All deliveries of one table, the oldest first.

    Attributes:
        superseded_because: what superseded means for this table.
    """

    source: str
    table: str
    superseded_because: str
    deliveries: tuple[Delivered, ...]

    @property
    def full_name(self) -> str:
        return f"{self.source}.{self.table}"

    def total(self, part: Literal["read", "accepted", "superseded", "rejected", "erased"]) -> int:
        """Rows of all its deliveries."""
        return sum(int(getattr(delivery, part)) for delivery in self.deliveries)


@dataclass(frozen=True)
class ContactPoints:
    """The contact points of the lake: how many different values were given, and what is wrong with how many."""

    kind: Literal["emails", "phones"]
    values: int
    problems: tuple[Count, ...]


@dataclass(frozen=True)
class Quality:
    """Whether the data is fit, as far as it is known.

    Attributes:
        tables: those that were ever delivered, in the order of the contract.
        absent: sources that nothing was delivered of.
        results: what the last run found, table by table.
    """

    tables: tuple[TableDeliveries, ...]
    absent: tuple[str, ...]
    contact_points: tuple[ContactPoints, ...]
    results: tuple[TableResult, ...]

    @property
    def failed(self) -> list[CheckResult]:
        """Checks that did not pass in the last run, errors first."""
        return results.failed(self.results)


def read(home: Home, *, source: str | None = None, since: date | None = None) -> Quality:
    """Read what is known of the quality of a home's data.

    Args:
        source: only this source's tables, and the checks of those and of what staging makes of them.
        since: only deliveries received on this day (UTC) or later.

    Raises:
        HomeError: the manifest or the last results can't be read.
    """
    from ingestion import manifest

    rows = manifest.read(home)
    reasons = _reasons(home, rows)
    contract = load_contract().tables.values()
    tables = []
    for table in contract:
        mine = [row for row in rows if (row.source, row.table_name) == (table.source, table.name)]
        chosen = [
            _delivered(row, reasons.get((row.source, row.table_name, row.delivery_id), ()))
            for row in mine
            if since is None or row.received_at.date() >= since
        ]
        if chosen and source in (None, table.source):
            tables.append(TableDeliveries(table.source, table.name, _SUPERSEDED[table.delivery_mode], tuple(chosen)))
    delivered = {row.source for row in rows}
    return Quality(
        tuple(tables),
        tuple(dict.fromkeys(table.source for table in contract if table.source not in delivered)),
        _contact_points(home),
        tuple(result for result in results.read(home) if source is None or _is_about(result.table, source)),
    )


def _is_about(table: str, source: str) -> bool:
    return table.startswith((f"lake_{source}.", f"staging.stg_{source}__"))


def _delivered(row: DeliveryRow, reasons: Sequence[Count]) -> Delivered:
    changes = tuple(Change(change.severity, change.said) for change in row.changes)
    drift = {change.said for change in changes}
    return Delivered(
        row.delivery_id,
        row.sequence,
        row.received_at,
        row.historical,
        row.rows_read,
        row.rows_accepted,
        row.rows_superseded,
        row.rows_rejected,
        row.rows_erased,
        _commonest(reasons),
        changes,
        tuple(notice for notice in row.notices if notice not in drift),
    )


def _commonest(reasons: Sequence[Count]) -> tuple[Count, ...]:
    told = sorted(reasons, key=lambda reason: (-reason.number, reason.said))
    rest = sum(reason.number for reason in told[REASONS:])
    return (*told[:REASONS], *([Count(OTHER_REASONS, rest)] if rest else []))


def _reasons(home: Home, rows: Iterable[DeliveryRow]) -> Mapping[tuple[str, str, str], list[Count]]:
    """Why rows lie in quarantine, by source, table and delivery. A row with several reasons counts with each."""
    found: dict[tuple[str, str, str], list[Count]] = {}
    for row in rows:
        path = home.quarantine(row.source, row.table_name) / f"{row.delivery_id}.parquet"
        if row.rows_rejected and path.exists():
            counted: Counter[str] = Counter()
            for said, number in _counts(path, "reason"):
                for reason in (said or "no reason was kept").split("; "):
                    counted[reason] += number
            found[row.source, row.table_name, row.delivery_id] = [Count(*entry) for entry in counted.items()]
    return found


def _contact_points(home: Home) -> tuple[ContactPoints, ...]:
    """What is wrong with the contact points as parsed. Of those files the problems alone are read."""
    found = []
    kinds: tuple[Literal["emails", "phones"], ...] = ("emails", "phones")
    for kind in kinds:
        path = home.contact_points / f"{kind}.parquet"
        if path.exists():
            counted = _counts(path, "problem")
            problems = [Count(problem, number) for problem, number in counted if problem is not None]
            problems.sort(key=lambda count: (-count.number, count.said))
            found.append(ContactPoints(kind, sum(number for _, number in counted), tuple(problems)))
    return tuple(found)


def _counts(path: Path, column: str) -> list[tuple[str | None, int]]:
    """Rows by value of one column; no other column is read."""
    import pyarrow.parquet as parquet

    counted = parquet.read_table(path, columns=[column])[column].value_counts().to_pylist()
    return [(entry["values"], entry["counts"]) for entry in counted]
