"""The lake's tables as views in a DuckDB of our own, so that raw checks need not open the warehouse.

The views are what dbt's `create_lake_views` makes in the warehouse: every accepted file of a table, with the contract's
columns, also those that an older file is without, or no row where nothing was delivered.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from core.contract import Table
from core.home import Home

if TYPE_CHECKING:
    import duckdb


def accepted_files(home: Home, table: Table) -> list[str]:
    """Paths of a table's accepted files, in order of delivery."""
    return [str(path) for path in sorted(home.accepted(table.source, table.name).glob("*.parquet"))]


def create(connection: duckdb.DuckDBPyConnection, home: Home, tables: Iterable[Table]) -> None:
    """Create `lake_<source>.<table>` for each of `tables`.

    A column keeps the type it has in the files where that is wider than the contract's, so that a check can see it.
    """
    for table in tables:
        columns = [(column.name, column.data_type) for column in table.columns]
        columns += [("delivery_id", "varchar"), ("row_number", "bigint")]
        typed = ", ".join(f"cast(null as {data_type}) as {name}" for name, data_type in columns)
        body = f"select {typed} where false"
        if files := accepted_files(home, table):
            listed = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
            body += f" union all by name select * from read_parquet([{listed}], union_by_name = true)"
        connection.execute(f"create schema if not exists lake_{table.source}")
        connection.execute(f"create or replace view lake_{table.source}.{table.name} as {body}")
