"""The lake as views in a DuckDB of our own, so that raw checks need not open the warehouse.

The views are what dbt's `create_lake_views` makes in the warehouse: every accepted file of a table, with the contract's
columns, also those that an older file is without, or no row where nothing was delivered; the manifest; and the clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from core.contract import Table
from core.home import Home

if TYPE_CHECKING:
    import duckdb

_MANIFEST = (
    "cast(null as varchar) as delivery_id, cast(null as bigint) as sequence, cast(null as varchar) as source,"
    " cast(null as varchar) as table_name, cast(null as timestamp) as received_at, cast(null as boolean) as historical,"
    " cast(null as bigint) as rows_read, cast(null as bigint) as rows_accepted, cast(null as bigint) as rows_superseded,"
    " cast(null as bigint) as rows_rejected,"
    ' cast(null as struct(severity varchar, kind varchar, "column" varchar, said varchar)[]) as changes'
)


def accepted_files(home: Home, table: Table) -> list[str]:
    """Paths of a table's accepted files, in order of delivery."""
    return [str(path) for path in sorted(home.accepted(table.source, table.name).glob("*.parquet"))]


def create(connection: duckdb.DuckDBPyConnection, home: Home, tables: Iterable[Table], as_of: datetime) -> None:
    """Create `lake_<source>.<table>` for each of `tables`, `lake.deliveries` and `lake.clock`.

    A column keeps the type it has in the files where that is wider than the contract's, so that a check can see it.
    """
    for table in tables:
        columns = [(column.name, column.data_type) for column in table.columns]
        columns += [("delivery_id", "varchar"), ("row_number", "bigint")]
        typed = ", ".join(f"cast(null as {data_type}) as {name}" for name, data_type in columns)
        body = f"select {typed} where false"
        if files := accepted_files(home, table):
            listed = ", ".join(map(_quoted, files))
            body += f" union all by name select * from read_parquet([{listed}], union_by_name = true)"
        connection.execute(f"create schema if not exists lake_{table.source}")
        connection.execute(f"create or replace view lake_{table.source}.{table.name} as {body}")
    manifest = f"select {_MANIFEST} where false"
    if home.deliveries.exists():
        manifest += f" union all by name select * from read_parquet({_quoted(str(home.deliveries))})"
    instant = as_of.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")
    connection.execute("create schema if not exists lake")
    connection.execute(f"create or replace view lake.deliveries as {manifest}")
    connection.execute(f"create or replace view lake.clock as select timestamp '{instant}' as as_of")


def _quoted(path: str) -> str:
    return "'" + path.replace("'", "''") + "'"
