"""A small shop: deliveries through the real loader, marts through the real dbt command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from core.clock import write_clock
from core.home import Home
from core.settings import PROJECT_ROOT, Settings
from ingestion.loader import load

Rows = Sequence[Mapping[str, Any]]


@dataclass
class Shop:
    """A home with what happened to it.

    Attributes:
        scratch: folder for files on their way to the lake, and for dbt's artifacts.
    """

    home: Home
    scratch: Path
    _delivered: int = field(default=0, init=False)

    def deliver(self, source: str, received_at: str | None = None, **tables: Rows) -> None:
        """Hand over tables of one source; historical unless `received_at` (UTC) is given."""
        self._delivered += 1
        files = {}
        for table, rows in tables.items():
            path = self.scratch / f"{self._delivered}_{table}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            files[table] = [path]
        received = datetime.fromisoformat(received_at or "2026-01-01").replace(tzinfo=UTC)
        settings = Settings(home=self.home.root, memory_limit="500MB", threads=2)
        load(settings, self.home, source, files, received_at=received, historical=received_at is None)

    def set_clock(self, as_of: str) -> None:
        write_clock(self.home, datetime.fromisoformat(as_of).replace(tzinfo=UTC))

    def dbt(self, *arguments: str) -> str:
        """Run dbt by hand, warnings being errors; returns what it printed."""
        ran = subprocess.run(
            [
                str(Path(sys.executable).with_name("dbt")),
                "--warn-error",
                *arguments,
                *("--target-path", str(self.scratch / "target"), "--log-path", str(self.scratch / "logs")),
            ],
            cwd=PROJECT_ROOT / "dbt_project",
            env=os.environ | {"MAILWRIGHT_HOME": str(self.home.root), "MAILWRIGHT_MEMORY_LIMIT": "500MB"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.home.warehouse), read_only=True) as connection:
            return connection.execute(sql).fetchall()
