"""Which rows of the lake no longer count because a later or an earlier row tells the same.

- replace_entity: a row is superseded when a later delivery holds its entity.
- snapshot: all rows of all deliveries but the newest.
- append with an event key: of rows with the same key the first counts (by sequence, then by row), the others are
  superseded; rows without a key always count.

Staging applies the same rules to the rows; here they are only counted, for the manifest. After a load the counts of
earlier deliveries are corrected by what is new, so that a small delivery costs one scan of the key column, whatever came
before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.contract import Table
from ingestion.sql import identifiers, literals

if TYPE_CHECKING:
    import duckdb

# A delivery id begins with the delivery's sequence number.
SEQUENCE = "cast(split_part(delivery_id, '-', 1) as bigint)"


def newly_superseded(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    earlier: Mapping[int, Path],
    standing: Mapping[int, int],
    new: Path,
) -> dict[int, int]:
    """Rows of earlier deliveries that counted until now and are replaced by the delivery in `new`, by sequence.

    Args:
        earlier: accepted files of the table's earlier deliveries, by sequence.
        standing: rows that still count in each of them.
    """
    if table.delivery_mode == "snapshot":
        return {sequence: rows for sequence, rows in standing.items() if rows}
    # Deliveries of which nothing counts any more can't lose anything.
    candidates = {sequence: path for sequence, path in earlier.items() if standing[sequence]}
    if table.delivery_mode == "append" or not candidates:
        return {}
    key = identifiers(table.entity_key)
    counted = connection.execute(
        f"""
        with candidates as (
            select {key}, {SEQUENCE} as sequence
            from {_scan(candidates.values())} as earlier
            semi join {_scan([new])} as new using ({key})
        ),

        counted as (
            select {key}, sequence, count(*) as rows
            from candidates
            group by all
        ),

        -- Of an entity's earlier versions only the newest still counted.
        newest as (
            select max(sequence) as sequence, arg_max(rows, sequence) as rows
            from counted
            group by {key}
        )

        select sequence, sum(rows)
        from newest
        group by sequence
        """
    ).fetchall()
    return {int(sequence): int(rows) for sequence, rows in counted}


def repeated_events(connection: duckdb.DuckDBPyConnection, table: Table, earlier: Sequence[Path], new: Path) -> int:
    """Rows of `new` whose event was already told, by an earlier delivery or by an earlier row of the same one."""
    if not table.event_key:
        return 0
    key = identifiers(table.event_key)
    has_key = " and ".join(f"{identifiers([column])} is not null" for column in table.event_key)
    unseen = f"select {key} from {_scan([new])} where {has_key}"
    repeated = 0
    if earlier:
        told = f"select {key} from ({unseen}) as new semi join {_scan(earlier)} as earlier using ({key})"
        repeated = _count(connection, f"select count(*) from ({told})")
        if repeated:
            unseen = f"select {key} from ({unseen}) as new anti join {_scan(earlier)} as earlier using ({key})"
    # Hashes first: eight bytes a row instead of a text, and as a rule nothing is left to compare exactly.
    suspects = f"select hash({key}) as h from ({unseen}) group by h having count(*) > 1"
    within = _count(
        connection,
        f"""
        select coalesce(sum(rows - 1), 0)
        from (select count(*) as rows from ({unseen}) where hash({key}) in ({suspects}) group by {key})
        """,
    )
    return repeated + within


def recount(connection: duckdb.DuckDBPyConnection, table: Table, files: Mapping[int, Path]) -> dict[int, int]:
    """Superseded rows of every delivery by sequence, from the definition alone. For checking; it reads everything."""
    if not files:
        return {}
    if table.delivery_mode == "snapshot":
        of_each = {s: _count(connection, f"select count(*) from {_scan([path])}") for s, path in files.items()}
        return {sequence: rows if sequence < max(files) else 0 for sequence, rows in of_each.items()}
    rows = f"select *, {SEQUENCE} as sequence from {_scan(files.values())}"
    if table.delivery_mode == "replace_entity":
        is_superseded = f"sequence < max(sequence) over (partition by {identifiers(table.entity_key)})"
    elif table.event_key:
        has_key = " and ".join(f"{identifiers([column])} is not null" for column in table.event_key)
        is_superseded = (
            f"{has_key} and row_number() over"
            f" (partition by {identifiers(table.event_key)} order by sequence, row_number) > 1"
        )
    else:
        is_superseded = "false"
    counted = connection.execute(
        f"select sequence, count(*) filter (superseded) from (select sequence, {is_superseded} as superseded from ({rows}))"
        " group by sequence"
    ).fetchall()
    return dict.fromkeys(files, 0) | {int(sequence): int(superseded) for sequence, superseded in counted}


def _scan(files: Iterable[Path]) -> str:
    return f"read_parquet([{literals(files)}])"


def _count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    counted = connection.execute(query).fetchone()
    return int(counted[0]) if counted else 0
