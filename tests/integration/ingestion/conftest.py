"""A home and hand-overs of real files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from core.home import Home
from core.settings import Settings, load_settings
from ingestion import accounting, loader, manifest, storage
from ingestion.report import LoadReport, TableReport

RECEIVED_AT = datetime(2012, 1, 2, 3, 4, tzinfo=UTC)


@dataclass(frozen=True)
class Lake:
    """A home with what the tests do to it. Every load is followed by a check of the accounts."""

    settings: Settings
    home: Home
    inbox: Path

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a raw file as another system would."""
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def write_parquet(self, name: str, query: str) -> Path:
        """Write the result of a query as a raw Parquet file."""
        path = self.inbox / name
        with duckdb.connect() as connection:
            connection.execute(f"copy ({query}) to '{path}' (format parquet)")
        return path

    def load(
        self, source: str, files: Mapping[str, Sequence[Path]], *, check: bool = True, **options: Any
    ) -> LoadReport:
        given: dict[str, Any] = {"received_at": RECEIVED_AT, "historical": False} | options
        report = loader.load(self.settings, self.home, source, files, **given)
        assert not check or accounting.check(self.home) == []
        return report

    def load_one(self, source: str, table: str, *files: Path, **options: Any) -> TableReport:
        [report] = self.load(source, {table: files}, **options).tables
        return report

    def _rows(self, folder: Path, columns: str) -> list[tuple[Any, ...]]:
        if not list(folder.glob("*.parquet")):
            return []
        with duckdb.connect() as connection:
            return connection.execute(
                f"select {columns} from read_parquet('{folder}/*.parquet') order by delivery_id, row_number"
            ).fetchall()

    def accepted(self, source: str, table: str, columns: str) -> list[tuple[Any, ...]]:
        """Accepted rows in the order of delivery and row number."""
        return self._rows(self.home.accepted(source, table), columns)

    def quarantined(self, source: str, table: str, columns: str) -> list[tuple[Any, ...]]:
        """Rejected rows in the order of delivery and row number."""
        return self._rows(self.home.quarantine(source, table), columns)

    def query(self, source: str, table: str, query: str) -> list[tuple[Any, ...]]:
        """The result of a query over the accepted rows, which it calls `rows`."""
        with duckdb.connect() as connection:
            folder = self.home.accepted(source, table)
            connection.execute(f"create view rows as select * from read_parquet('{folder}/*.parquet')")
            return connection.execute(query).fetchall()

    def counts(self, source: str, table: str) -> list[tuple[int, int, int, int]]:
        """Read, accepted, superseded and rejected rows of each delivery of a table."""
        return [
            (row.rows_read, row.rows_accepted, row.rows_superseded, row.rows_rejected)
            for row in manifest.read(self.home)
            if (row.source, row.table_name) == (source, table)
        ]

    def files(self) -> set[Path]:
        """All files of the lake but its lock."""
        return {path for path in self.home.lake.rglob("*") if path.is_file() and path.suffix != ".lock"}

    def raw_folder(self, source: str, table: str) -> Path:
        """Where the newest delivery's files lie."""
        return storage.raw_folder(self.home, source, table, manifest.read(self.home)[-1].delivery_id)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    return make_lake(tmp_path, monkeypatch)


@pytest.fixture
def lake_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Lake]:
    """A lake in a timezone of one's choice."""
    return lambda timezone: make_lake(tmp_path, monkeypatch, timezone)


def make_lake(folder: Path, monkeypatch: pytest.MonkeyPatch, timezone: str = "Europe/London") -> Lake:
    monkeypatch.setenv("MAILWRIGHT_HOME", str(folder / "home"))
    monkeypatch.setenv("MAILWRIGHT_THREADS", "2")
    inbox = folder / "inbox"
    inbox.mkdir(exist_ok=True)
    return Lake(load_settings(), Home.create(folder / "home", timezone, "GBP"), inbox)
