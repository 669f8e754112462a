"""The real orders alone, with no other source, go through the whole line."""

from __future__ import annotations

import os
import subprocess
import sys

import duckdb
import pytest

from core.settings import PROJECT_ROOT
from orchestration.publishing import read_publication
from tests.conftest import CommandLine

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_valid_and_unattributed_orders(orders_only: CommandLine) -> None:
    publication = read_publication(orders_only.home)
    assert publication is not None
    assert publication.facts["orders"] == "39516"
    assert publication.facts["unattributed_orders"] == "2922"


def test_daily_aggregates_stand_for_the_tables_not_copied(orders_only: CommandLine) -> None:
    with duckdb.connect(str(orders_only.home.published / "marts.duckdb"), read_only=True) as marts:
        tables = {name for (name,) in marts.execute("select table_name from duckdb_tables()").fetchall()}
        assert not tables & {"fct_order_lines", "fct_web_events", "fct_web_sessions", "fct_email_events"}
        counted = marts.execute("select sum(orders), sum(amount_base) from daily_orders").fetchone()
        expected = marts.execute("select count(*), sum(amount_base) from fct_orders").fetchone()
    assert counted == expected


def test_status_shows_absent_sources_without_opening_the_warehouse(orders_only: CommandLine) -> None:
    with duckdb.connect(str(orders_only.home.warehouse)):  # as a refresh would hold it
        said = orders_only.run("status")
    assert "without: crm, email, pos, reference, third_party, web" in said
    assert "frequent_buyers" in said


def test_doctor_finds_nothing_wrong(orders_only: CommandLine) -> None:
    said = orders_only.run("doctor")
    assert "every one accounted for" in said


def test_the_same_sample_again_changes_nothing(orders_only: CommandLine) -> None:
    assert "nothing changed" in orders_only.run("sample", "online-retail", "--orders-only")


def test_another_sample_is_not_mixed_in(orders_only: CommandLine) -> None:
    said = orders_only.run("sample", "simulated", "--customers", "100", expect=1)
    assert "holds the sample online-retail" in said


def test_dbt_by_hand_finds_the_same_warehouse_without_deprecations(orders_only: CommandLine, tmp_path: object) -> None:
    process = subprocess.run(
        [
            os.path.join(os.path.dirname(sys.executable), "dbt"), "build", "--no-use-colors",
            "--target-path", f"{tmp_path}/target", "--log-path", f"{tmp_path}/logs",
        ],
        cwd=PROJECT_ROOT / "dbt_project",
        env=orders_only.environment,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout[-3000:]
    assert "deprecat" not in process.stdout.lower()
