"""A small shop: deliveries through the real loader, marts through the real dbt."""

from __future__ import annotations

import contextlib
import hashlib
import io
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
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.clock import write_clock
from core.home import Home
from core.settings import PROJECT_ROOT, Settings
from ingestion.loader import load
from tests import parsing

Rows = Sequence[Mapping[str, Any]]


def record_id(record: str) -> int:
    """Key of a record that is known as `source|type|identifier`."""
    return int(hashlib.md5(record.encode()).hexdigest()[:15], 16)


def customer_id(record: str) -> str:
    """The customer that a record founds."""
    return hashlib.md5(record.encode()).hexdigest()[:16]


@dataclass
class Shop:
    """A home with what happened to it.

    Attributes:
        scratch: folder for files on their way to the lake, and for dbt's artifacts.
        project: the dbt project, or a changed copy of it.
    """

    home: Home
    scratch: Path
    project: Path = PROJECT_ROOT / "dbt_project"
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
        """Run dbt in this process, warnings being errors; returns what it printed.

        A changed project, or other variables than its own, has to be parsed anew: that the command line does.
        """
        if self.project != PROJECT_ROOT / "dbt_project" or "--vars" in arguments:
            ran = self.try_dbt("--warn-error", *arguments)
            assert ran.returncode == 0, ran.stdout + ran.stderr
            return ran.stdout
        from dbt.cli.main import dbtRunner

        from core import dbt_plugin

        folders = ("--project-dir", str(self.project), "--profiles-dir", str(self.project))
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
            for name, value in self._environment.items():
                patch.setenv(name, value)
            try:
                ran_here = dbtRunner(manifest=parsing.manifest()).invoke(
                    ["--warn-error", *arguments, *folders, *self._artifacts]
                )
            finally:
                dbt_plugin.close()
        assert ran_here.success, f"{printed.getvalue()}{ran_here.exception or ''}"
        return printed.getvalue()

    def try_dbt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run dbt by hand, on its command line, whatever comes of it."""
        return subprocess.run(
            [str(Path(sys.executable).with_name("dbt")), *arguments, *self._artifacts],
            cwd=self.project,
            env=os.environ | self._environment,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def _artifacts(self) -> tuple[str, ...]:
        return ("--target-path", str(self.scratch / "target"), "--log-path", str(self.scratch / "logs"))

    @property
    def _environment(self) -> dict[str, str]:
        return {"MAILWRIGHT_HOME": str(self.home.root), "MAILWRIGHT_MEMORY_LIMIT": "500MB"}

    def build_core(self, command: str = "build") -> None:
        """Make everything up to the features, by whatever identity resolution is said to have found."""
        beyond = ("mailwright.staging.ml", "mailwright.marts.customers", "mailwright.segments", "mailwright.activation")
        tests = ("test_type:unit", "--indirect-selection", "buildable") if command == "build" else ()
        self.dbt(command, "--exclude", *beyond, *tests)

    def resolve(self, run: int, as_of: str, persons: Mapping[str, str], journal: Rows = ()) -> None:
        """Write what a run of identity resolution would.

        Args:
            persons: record -> the record that founded its customer, each as `source|type|identifier`.
            journal: entries of the journal, without run and as_of.
        """
        said = {"run": run, "as_of": datetime.fromisoformat(as_of)}
        rows = [
            said | {"identifier_id": record_id(record), "customer_id": customer_id(founder)}
            for record, founder in persons.items()
        ]
        for table, contents in (("assignments", rows), ("journal", [{**said, **entry} for entry in journal])):
            path = self.home.identity / table / f"{run:06d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            if contents:
                pq.write_table(pa.Table.from_pylist(contents), path)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.home.warehouse), read_only=True) as connection:
            return connection.execute(sql).fetchall()
