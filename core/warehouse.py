"""Connections: to the warehouse, under its lock, and to an in-memory DuckDB for what must not open the warehouse."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from core import lock
from core.home import Home
from core.settings import Settings

if TYPE_CHECKING:
    import duckdb


@contextmanager
def warehouse(
    settings: Settings, home: Home, *, wait_seconds: float = 0.0, notify: Callable[[str], None] | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the warehouse for writing, under its lock, for the length of a block. Open late, close early.

    Raises:
        WarehouseBusyError: another process has it, and still has it after `wait_seconds`.
    """
    import duckdb

    with lock.held(home.warehouse, wait_seconds=wait_seconds, notify=notify):
        connection = duckdb.connect(str(home.warehouse))
        try:
            configure(connection, settings)
            yield connection
        finally:
            connection.close()


@contextmanager
def in_memory(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory DuckDB with the settings' limits, for reading the lake, releases and published marts.

    What does not fit into memory spills to a folder of its own, which is removed at the end: left to itself, DuckDB
    would spill into the working directory.
    """
    import duckdb

    connection = duckdb.connect()
    try:
        with tempfile.TemporaryDirectory(prefix="mailwright-") as spill:
            configure(connection, settings)
            connection.execute("set temp_directory = ?", [spill])
            yield connection
    finally:
        connection.close()


def configure(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Apply memory and thread limits, and read instants as UTC whatever the machine's own zone is.

    These are `SET` statements rather than connection options: two connections of one process to one file must have
    equal options, and dbt opens the file with none.
    """
    connection.execute(f"set memory_limit = '{settings.memory_limit}'")
    connection.execute(f"set threads = {settings.threads}")
    connection.execute("set timezone = 'UTC'")
    connection.execute("set enable_progress_bar = false")
