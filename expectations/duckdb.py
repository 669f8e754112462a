"""Great Expectations on DuckDB: the one place that knows what its SQL engine lacks there.

Read in great-expectations 1.24.1 with duckdb-engine 0.17.0 and SQLAlchemy 2.1.9:

- `SqlAlchemyExecutionEngine.get_connection` gives the connection back to the pool before the rows of a query are
  fetched, except for four dialects whose connection it keeps. duckdb-engine has one cursor per connection, and giving
  that back clears it, so every metric fails with `list index out of range`. Here the connection is kept for DuckDB too.
- `SqlAlchemyExecutionEngine.get_inspector` reflects columns through PostgreSQL's catalogue, of which DuckDB has no
  `pg_collation`. The engine then falls back to a query that forgets the schema. Here columns come from `describe`.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import duckdb_engine
from great_expectations.datasource.fluent.sql_datasource import SQLDatasource
from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine

if TYPE_CHECKING:
    import duckdb
    import sqlalchemy
    from great_expectations.data_context.data_context.abstract_data_context import AbstractDataContext


class DuckDBExecutionEngine(SqlAlchemyExecutionEngine):
    """The SQL engine with a persisted connection and DuckDB's own reflection."""

    @contextmanager
    def get_connection(self) -> Iterator[sqlalchemy.Connection]:
        """The same connection each time, as the parent does for SQLite.

        A query that fails is rolled back: DuckDB refuses every later one of its transaction.
        """
        if self._connection is None:
            self._connection = self.engine.connect()
        try:
            yield self._connection
        except Exception:
            self._connection.rollback()
            raise

    def close(self) -> None:
        """Give the connection back, while the one that it is a cursor of is still open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self.engine.dispose()

    def get_inspector(self) -> _Inspector:
        """What Great Expectations asks of SQLAlchemy's inspector."""
        return _Inspector(self)


class _Inspector:
    """Columns of a table or view, from `describe`."""

    def __init__(self, engine: DuckDBExecutionEngine) -> None:
        self._engine = engine
        self.dialect = engine.engine.dialect

    def get_pk_constraint(self, table_name: str, schema: str | None = None) -> dict[str, Any]:
        return {}

    def get_columns(self, table_name: str, schema: str | None = None) -> list[dict[str, Any]]:
        quote = self.dialect.identifier_preparer.quote
        name = ".".join(quote(str(part)) for part in (schema, table_name) if part)
        with self._engine.get_connection() as connection:
            rows = connection.exec_driver_sql(f"describe {name}").fetchall()
        return [{"name": row[0], "type": row[1]} for row in rows]


class DuckDBDatasource(SQLDatasource):
    """A SQL data source whose metrics run in the engine above."""

    type: Literal["duckdb"] = "duckdb"  # type: ignore[assignment]  # each data source names its own type

    @property
    def execution_engine_type(self) -> builtins.type[SqlAlchemyExecutionEngine]:
        return DuckDBExecutionEngine


def add_datasource(context: AbstractDataContext, name: str, connection: duckdb.DuckDBPyConnection) -> DuckDBDatasource:
    """Add `connection`, which stays open and the caller's, to `context` as a data source.

    Great Expectations gets cursors of that connection: opening the database a second time would need equal options,
    and an in-memory one has no second opening.
    """
    source = DuckDBDatasource(
        name=name,
        connection_string="duckdb://",
        kwargs={"creator": lambda: duckdb_engine.ConnectionWrapper(connection.cursor())},
    )
    added = context.add_datasource(datasource=source)
    assert isinstance(added, DuckDBDatasource)
    return added
