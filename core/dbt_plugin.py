"""dbt-duckdb plugin: dbt takes the warehouse's lock and limits like everybody else, also when run by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt_common.exceptions import DbtRuntimeError

from core import lock
from core.errors import MailwrightError
from core.home import Home
from core.settings import PROJECT_ROOT, load_settings
from core.warehouse import configure

_locked: set[Path] = set()


class Plugin(BasePlugin):
    """Named in `dbt_project/profiles.yml`. Made before dbt opens the warehouse."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        warehouse = Path(self.creds.path).resolve() if self.creds else None
        if warehouse is None or warehouse in _locked:
            return
        try:
            Home.open(warehouse.parent)  # else dbt would fill a folder that no home can then be made in
            lock.acquire(warehouse)
        except MailwrightError as error:
            raise DbtRuntimeError(str(error)) from None
        _locked.add(warehouse)

    def configure_connection(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Once for the database, which all of dbt's threads share: so they share one memory limit as well.

        What does not fit spills into `warehouse.duckdb.tmp`, DuckDB's own place beside its file. Nothing reads rows in the
        order in which they were written, and keeping it would hold big tables in memory until they are complete.
        """
        try:
            configure(conn, load_settings())
        except MailwrightError as error:
            raise DbtRuntimeError(str(error)) from None
        conn.execute("set preserve_insertion_order = false")

    def configure_cursor(self, cursor: duckdb.DuckDBPyConnection) -> None:
        """Say where the project stands; dbt itself may only know it relative to where it was called."""
        cursor.execute("set variable dbt_project = ?", [str(PROJECT_ROOT / "dbt_project")])


def close() -> None:
    """Close dbt's connection and give its lock back, for a process that goes on after dbt is done."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    DuckDBConnectionManager.close_all_connections()
    while _locked:
        lock.release(_locked.pop())
