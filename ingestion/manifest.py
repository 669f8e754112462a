"""The manifest of deliveries, `lake/deliveries.parquet`: what was taken in, and what became of each row.

It is the commit: a delivery whose rows are not in it does not exist, whatever files lie about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from core.errors import HomeError
from core.files import replacing
from core.home import Home
from ingestion.drift import Change
from ingestion.profiles import ColumnProfile

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class DeliveryRow:
    """One delivery of one table.

    Attributes:
        delivery_id: shared by the tables of one hand-over; begins with the sequence number.
        sequence: order of the hand-overs, from 1. "Later" always means this, never a file's name or time.
        received_at: naive, UTC.
        historical: its rows count as known when they occurred.
        content_hash: SHA-256 of each file in the order of `file_names`, and of what columns were renamed to on loading,
            separated by spaces.
        rows_read: always rows_accepted + rows_superseded + rows_rejected + rows_erased.
        rows_accepted: rows that stand; with rows_superseded, the rows in the accepted file.
        rows_superseded: rows that a later delivery replaced, or events that an earlier row already told.
        columns: what the columns of its files looked like; empty where that was not kept.
        changes: in what they differed from earlier deliveries.
    """

    delivery_id: str
    sequence: int
    source: str
    table_name: str
    received_at: datetime
    historical: bool
    content_hash: str
    file_names: tuple[str, ...]
    rows_read: int
    rows_accepted: int
    rows_superseded: int
    rows_rejected: int
    rows_erased: int
    notices: tuple[str, ...]
    columns: tuple[ColumnProfile, ...] = ()
    changes: tuple[Change, ...] = ()

    @property
    def file_hashes(self) -> tuple[str, ...]:
        return tuple(self.content_hash.split())


def read(home: Home) -> list[DeliveryRow]:
    """All rows of the manifest, in the order of sequence, source and table; empty when nothing was delivered yet.

    Raises:
        HomeError: the manifest can't be read.
    """
    import pyarrow.parquet as parquet

    if not home.deliveries.exists():
        return []
    try:
        said = parquet.read_table(home.deliveries).to_pylist()
        rows = [_row(row) for row in said]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HomeError(
            f"the manifest {home.deliveries} can't be read ({type(error).__name__}): restore it from a backup"
        ) from None
    return sorted(rows, key=_order)


def write(home: Home, rows: Sequence[DeliveryRow]) -> None:
    """Replace the manifest by `rows`, at once. The caller holds the lake's lock."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    names = pa.list_(pa.string())
    schema = pa.schema(
        [
            ("delivery_id", pa.string()),
            ("sequence", pa.int64()),
            ("source", pa.string()),
            ("table_name", pa.string()),
            ("received_at", pa.timestamp("us")),
            ("historical", pa.bool_()),
            ("content_hash", pa.string()),
            ("file_names", names),
            ("rows_read", pa.int64()),
            ("rows_accepted", pa.int64()),
            ("rows_superseded", pa.int64()),
            ("rows_rejected", pa.int64()),
            ("rows_erased", pa.int64()),
            ("notices", names),
            ("columns", pa.list_(_column_type())),
            ("changes", pa.list_(pa.struct([(field.name, pa.string()) for field in fields(Change)]))),
        ]
    )
    table = pa.Table.from_pylist([_said(row) for row in sorted(rows, key=_order)], schema=schema)
    with replacing(home.deliveries) as beside:
        parquet.write_table(table, beside, compression="zstd")


def next_sequence(rows: Sequence[DeliveryRow]) -> int:
    """The sequence number of the next hand-over."""
    return max((row.sequence for row in rows), default=0) + 1


def _said(row: DeliveryRow) -> dict[str, Any]:
    # dataclasses.asdict copies every value of every column of every delivery, at every load.
    return vars(row) | {
        "columns": [vars(said) for said in row.columns],
        "changes": [vars(said) for said in row.changes],
    }


def _row(said: Mapping[str, Any]) -> DeliveryRow:
    """A row as read; what an older version did not write yet is empty."""
    known = {name: _thawed(said[name]) for name in (field.name for field in fields(DeliveryRow)) if name in said}
    columns = tuple(
        ColumnProfile(**column | {"forms": tuple((form, count) for form, count in column["forms"])})
        for column in known.pop("columns", None) or ()
    )
    changes = tuple(Change(**change) for change in known.pop("changes", None) or ())
    return DeliveryRow(**known, columns=columns, changes=changes)


def _column_type() -> pa.DataType:
    import pyarrow as pa

    return pa.struct(
        [
            ("name", pa.string()),
            ("read_as", pa.string()),
            ("data_type", pa.string()),
            ("rows", pa.int64()),
            ("filled", pa.int64()),
            ("distinct", pa.int64()),
            ("length", pa.float64()),
            ("forms", pa.map_(pa.string(), pa.int64())),
        ]
    )


def _thawed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _order(row: DeliveryRow) -> tuple[int, str, str]:
    return row.sequence, row.source, row.table_name
