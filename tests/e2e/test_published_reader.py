"""Whoever reads the published marts, in another process and in a loop, is never blocked and never sees half of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from orchestration.publishing import changes, read_publication
from tests.conftest import CommandLine

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

READER = """
import pathlib, sys, time
import duckdb

published, done = map(pathlib.Path, sys.argv[1:])
looks = 0
while True:
    last = done.exists()
    with duckdb.connect(str(published / "marts.duckdb"), read_only=True) as marts:
        for name, rows in marts.execute("select name, row_count from publication_tables").fetchall():
            assert marts.execute(f"select count(*) from {name}").fetchone() == (rows,), name
    for file in (published / "marts").glob("*.parquet"):
        duckdb.execute(f"select count(*) from read_parquet('{file}')").fetchone()
    looks += 1
    if last:
        break
    time.sleep(0.02)
print(looks)
"""


def test_a_reader_in_a_loop_during_a_refresh(refreshed_retailer: CommandLine, tmp_path: Path) -> None:
    home = refreshed_retailer.home
    before = read_publication(home)
    assert before is not None
    done = tmp_path / "done"
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(home.published), str(done)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with duckdb.connect(str(home.published / "marts.duckdb"), read_only=True) as old:
        count = old.execute("select count(*) from customer_360").fetchone()
        said = refreshed_retailer.run("refresh")
        assert old.execute("select count(*) from customer_360").fetchone() == count, "an open reader keeps its view"
    done.touch()
    looks, problems = reader.communicate(timeout=60)
    assert reader.returncode == 0, problems
    assert int(looks) > 10
    after = read_publication(home)
    assert after is not None
    assert after.finished_at > before.finished_at
    assert changes(before, after) == [], "the same lake gives the same tables"
    assert "nothing changed" in said
