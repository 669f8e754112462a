"""Rejected rows: which there are, out to a spreadsheet for repair, and back into the lake.

A row in quarantine is **open** until it is

- **replayed**: taken in after the contract or the loader was corrected, or as repaired in a file. It comes in with a new
  delivery of the same source and table that holds accepted rows only, so a row that still does not fit stays open where
  it is, and replaying again does nothing twice;
- **superseded**: the lake has its entity in a version that is newer than the rejected row, or its event already. Taking it
  in would put the older version in force, so it is only marked;
- **discarded**: somebody decided that it is not wanted.

The counts of the delivery that rejected the rows stay as they are: it read them and rejected them. The new delivery counts
what it reads like any other.

What a replayed row is replayed with: a `replace_entity` table is replaced by whole entities, so the rows of the entity that
stand, if they came with the rejected row, are carried over into the new delivery in their old order; there they supersede
themselves. Of a `snapshot`, which is one entity, all rows are carried over. Rows that were rejected because of each other (two
currencies on one order) are all in quarantine and replay together; repaired so that they agree, they are taken in. Tables are
replayed one by one: lines that were accepted while their order was rejected wait in the lake, and count when the order is
replayed.

When it was known: rows of a historical delivery come back in a historical delivery, the others are known since they are
replayed. An order is known since its first delivery, as ever, and so are its replayed lines.

No function logs or returns contents; only `export` writes them, to the file it is asked for. `replaying` takes rows in
again.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.contract import Table, load_contract
from core.files import replacing
from core.home import Home
from core.settings import Settings
from core.warehouse import in_memory
from ingestion import loader, manifest, storage
from ingestion.loader import OpenLake, Progress
from ingestion.manifest import DeliveryRow
from ingestion.repair import DELIVERY, FILE, FILE_ROW, LINE, REASON, ROW, STATE, Rejected, disarmed, received
from ingestion.sql import literal, literals

if TYPE_CHECKING:
    import duckdb

FIRST_ROWS = 5

# One row for each rejected row that is no longer open, and for each row that stands and was carried over by a replay.
_SETTLED = (
    "origin_delivery_id varchar, origin_row_number bigint, state varchar, delivery_id varchar, row_number bigint,"
    " settled_at timestamp"
)


@dataclass(frozen=True)
class Group:
    """Rejected rows of one delivery of one table that have one reason.

    Attributes:
        rows: how many there are; open + replayed + superseded + discarded.
        first_rows: row numbers of the first of them that are open (of all, where none is).
    """

    source: str
    table: str
    delivery_id: str
    reason: str
    rows: int
    open: int
    replayed: int
    superseded: int
    discarded: int
    first_rows: tuple[int, ...]


def listing(
    settings: Settings, home: Home, source: str | None = None, table: str | None = None, delivery: str | None = None
) -> list[Group]:
    """Count the rejected rows by table, delivery and reason, in this order; the most frequent reason first.

    Raises:
        HomeError: the manifest is damaged.
    """
    rows = [row for row in manifest.read(home) if source in (None, row.source) and table in (None, row.table_name)]
    groups: list[Group] = []
    with in_memory(settings) as connection:
        for of_source, name in sorted({(row.source, row.table_name) for row in rows}):
            quarantine = Quarantine(connection, home, rows, of_source, name)
            groups += quarantine.groups(delivery)
    return groups


def export(
    settings: Settings,
    home: Home,
    source: str,
    name: str,
    out: Path,
    *,
    delivery: str | None = None,
    all_states: bool = False,
) -> int:
    """Write the rejected rows of a table, the open ones or all of them, to a CSV file for repair; their number.

    Columns are called as in the contract, those unknown to it as they were received. The first ones say which row it is
    and what is wrong with it; they must stay for `replay`, in any order. A cell that a spreadsheet would take for a
    formula gets an apostrophe before it, which `replay` takes away. A line that could not be split into cells is in
    `quarantine_line`.

    Raises:
        ContractError: there is no such table.
    """
    table = load_contract().table(source, name)
    rows = manifest.read(home)
    with in_memory(settings) as connection:
        quarantine = Quarantine(connection, home, rows, source, name)
        found = list(quarantine.rows(delivery, open_only=not all_states))
    cells_of = [received(home, table, quarantine.deliveries[row.delivery_id], row) for row in found]
    columns = [column for column in table.column_names if any(column in cells for cells in cells_of)]
    columns += sorted({column for cells in cells_of for column in cells} - {*columns, LINE})
    if any(LINE in cells for cells in cells_of):
        columns.append(LINE)
    with replacing(out) as beside, open(beside, "w", encoding="utf-8-sig", errors="replace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([DELIVERY, ROW, FILE, FILE_ROW, STATE, REASON, *columns])
        for row, cells in zip(found, cells_of, strict=True):
            place = [row.delivery_id, row.row_number, row.file_name, row.file_row, row.state, row.reason]
            writer.writerow([*place, *(disarmed(cells.get(column)) for column in columns)])
    return len(found)


def discard(
    settings: Settings,
    home: Home,
    source: str,
    name: str,
    *,
    delivery: str | None = None,
    now: datetime,
    progress: Progress | None = None,
) -> int:
    """Mark the open rows of a table as not wanted; their number. They stay in the lake and are not replayed.

    Raises:
        ContractError: there is no such table.
        WarehouseBusyError: another process is loading.
    """
    table = load_contract().table(source, name)
    with loader.opened(settings, home, progress) as lake:
        quarantine = Quarantine(lake.connection, home, lake.rows, source, name)
        found = [(row.delivery_id, row.row_number) for row in quarantine.rows(delivery, open_only=True)]
        settled = [(of, number, "discarded", None, None, naive_utc(now)) for of, number in found]
        write_decisions(lake, table, settled)
    return len(found)


class Quarantine:
    """The rejected rows of one table with their states."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, home: Home, rows: Sequence[DeliveryRow], source: str, name: str
    ) -> None:
        self.connection = connection
        self.source, self.name = source, name
        self.deliveries = {row.delivery_id: row for row in rows if (row.source, row.table_name) == (source, name)}
        files = [
            storage.quarantine_file(home, source, name, row.delivery_id)
            for row in self.deliveries.values()
            if row.rows_rejected
        ]
        settled = [
            path
            for path in sorted(storage.settled_folder(home, source, name).glob("[!.]*.parquet"))
            if path.stem in self.deliveries or path.stem.startswith(storage.DECISION)
        ]
        connection.execute(f"create or replace temp table settled ({_SETTLED})")
        if settled:
            connection.execute(f"insert into settled by name select * from read_parquet([{literals(settled)}])")
        rejected = "delivery_id varchar, row_number bigint, file_name varchar, file_row bigint, reason varchar"
        connection.execute(f"create or replace temp table rejected ({rejected}, raw_row varchar)")
        if files:
            connection.execute(
                "insert into rejected by name select delivery_id, row_number, file_name, file_row, reason, raw_row"
                f" from read_parquet([{literals(files)}], union_by_name = true)"
            )
        connection.execute(
            """
            create or replace temp view quarantined as
            select rejected.*, coalesce(settled.state, 'open') as state
            from rejected
            left join settled
                on rejected.delivery_id = settled.origin_delivery_id
                and rejected.row_number = settled.origin_row_number
                and settled.state <> 'carried'
            """
        )

    def rows(self, delivery: str | None, *, open_only: bool) -> Iterator[Rejected]:
        said = self.connection.execute(
            f"""
            select delivery_id, row_number, file_name, file_row, reason, raw_row, state
            from quarantined
            where {_of(delivery)} {"and state = 'open'" if open_only else ""}
            order by delivery_id, row_number
            """
        ).fetchall()
        return (Rejected(*row) for row in said)

    def groups(self, delivery: str | None) -> list[Group]:
        said = self.connection.execute(
            f"""
            select
                delivery_id, reason, count(*) as rows,
                count(*) filter (state = 'open') as open,
                count(*) filter (state = 'replayed') as replayed,
                count(*) filter (state = 'superseded') as superseded,
                count(*) filter (state = 'discarded') as discarded,
                list(row_number order by case when state = 'open' then 0 else 1 end, row_number)[:{FIRST_ROWS}]
            from quarantined
            where {_of(delivery)}
            group by delivery_id, reason
            order by delivery_id, rows desc, reason
            """
        ).fetchall()
        return [
            Group(self.source, self.name, of, reason, rows, unsettled, replayed, superseded, discarded, tuple(first))
            for of, reason, rows, unsettled, replayed, superseded, discarded, first in said
        ]


def naive_utc(moment: datetime) -> datetime:
    """An aware instant as the lake holds it."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def write_decisions(lake: OpenLake, table: Table, settled: Sequence[tuple[Any, ...]]) -> None:
    """Write down rows that are settled without a delivery."""
    if not settled:
        return
    folder = storage.settled_folder(lake.home, table.source, table.name)
    number = 1 + max(
        (int(path.stem.removeprefix(storage.DECISION)) for path in folder.glob(f"{storage.DECISION}*")), default=0
    )
    lake.connection.execute(f"create or replace temp table decided ({_SETTLED})")
    lake.connection.executemany("insert into decided values (?, ?, ?, ?, ?, ?)", [list(row) for row in settled])
    with replacing(folder / f"{storage.DECISION}{number:06d}.parquet") as beside:
        lake.connection.execute(f"copy decided to {literal(beside)} (format parquet)")


def _of(delivery: str | None) -> str:
    return "true" if delivery is None else f"delivery_id = {literal(delivery)}"
