"""The command line: quick to answer, and clear about errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import DeliveryError
from orchestration.loading import parse_tables

SLOW = ("dagster", "dbt", "duckdb", "great_expectations", "matplotlib", "numpy", "pandas", "pyarrow", "sklearn")


def test_help_imports_nothing_slow() -> None:
    program = f"import sys, orchestration.cli; print([name for name in {SLOW!r} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("environment", "arguments", "expected"),
    [
        ({"MAILWRIGHT_HOME": "relative"}, ["status"], "MAILWRIGHT_HOME: must be an absolute path"),
        ({"MAILWRIGHT_HOME": "/nonexistent/home"}, ["status"], "there is no home at /nonexistent/home"),
        ({"MAILWRIGHT_HOME": "/nonexistent/home"}, ["init"], "needs a timezone and a currency"),
    ],
    ids=["wrong setting", "no home", "init without what it needs"],
)
def test_an_error_is_one_clear_line(environment: dict[str, str], arguments: list[str], expected: str) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "orchestration.cli", *arguments],
        env={**environment, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 1
    assert said.stderr.startswith("Error: ")
    assert expected in said.stderr
    assert "Traceback" not in said.stderr
    assert said.stderr.count("\n") == 1


def test_tables_may_have_several_files(tmp_path: Path) -> None:
    monday, tuesday = tmp_path / "monday.jsonl", tmp_path / "tuesday.jsonl"
    monday.touch()
    tuesday.touch()
    assert parse_tables([f"events={monday}", f"events={tuesday}"]) == {"events": [monday, tuesday]}


@pytest.mark.parametrize("pair", ["orders.csv", "=orders.csv", "orders="])
def test_a_table_without_a_file_is_refused(pair: str) -> None:
    with pytest.raises(DeliveryError):
        parse_tables([pair])
