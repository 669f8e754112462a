from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from core.home import Home
from expectations import results
from expectations.results import CheckResult, TableResult
from ingestion import manifest
from ingestion.drift import Change
from ingestion.manifest import DeliveryRow
from orchestration.commands.quality import SHOWN, quality

AS_OF = datetime(2024, 3, 4, tzinfo=UTC)
PASSED = CheckResult("lake_shop.orders", "has_rows", "error", True, 40, 0, description="There are rows")
WARNED = CheckResult(
    "lake_shop.orders", "discount_plausible", "warning", False, 40, 2, (("d1", 7), ("d1", 9)),
    description="discount is at least 0", reason="A surcharge adds up all the same.",
)  # fmt: skip
FAILED = CheckResult("marts.fct_orders", "units_plausible", "error", False, 40, 1, (("k7",),), description="units > 0")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("MAILWRIGHT_HOME", str(tmp_path / "home"))
    return Home.create(tmp_path / "home", "Europe/London", "GBP", AS_OF)


def delivered(
    sequence: int = 1,
    *,
    source: str = "shop",
    table: str = "orders",
    day: int = 1,
    rejected: int = 0,
    changes: tuple[Change, ...] = (),
    notices: tuple[str, ...] = (),
) -> DeliveryRow:
    return DeliveryRow(
        f"{sequence:06d}-00000000", sequence, source, table, datetime(2024, 3, day), False, "", (), 40, 38 - rejected, 2,
        rejected, 0, notices, (), changes,
    )  # fmt: skip


def keep(home: Home, checks: Iterable[CheckResult]) -> None:
    by_table: dict[str, list[CheckResult]] = {}
    for check in checks:
        by_table.setdefault(check.table, []).append(check)
    found = [TableResult(table, "raw", AS_OF, tuple(mine)) for table, mine in by_table.items()]
    results.keep(home, found, list(by_table))


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(quality)
    return CliRunner().invoke(app, list(arguments))


def test_deliveries_are_told_with_reasons_and_changes(home: Home) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    change = Change("warning", "renamed", "discount", "discount looks renamed to rebate")
    manifest.write(home, [delivered(), delivered(2, day=2, rejected=3, changes=(change,), notices=("a notice",))])
    folder = home.quarantine("shop", "orders")
    folder.mkdir(parents=True)
    rows = {"reason": ["ordered_at is no time"] * 3, "raw_row": ["Zenobia Quill"] * 3}
    parquet.write_table(pa.table(rows), folder / "000002-00000000.parquet")

    said = run().output

    assert (
        "shop.orders: 2 deliveries, 80 rows read: 73 accepted, 4 superseded (a later delivery tells them anew)" in said
    )
    assert "2024-03-02 delivery 2: 40 read, 35 accepted, 2 superseded, 3 rejected" in said
    assert "rejected: ordered_at is no time (3)" in said
    assert "! columns: discount looks renamed to rebate" in said
    assert "a notice" in said
    assert said.index("delivery 2") < said.index("delivery 1"), "the newest first"
    assert "Zenobia" not in said


@pytest.mark.parametrize(
    ("checks", "code"),
    [([PASSED], 0), ([PASSED, WARNED], 0), ([PASSED, WARNED, FAILED], 1)],
    ids=["passed", "warned", "failed"],
)
def test_only_an_error_gives_exit_code_1(home: Home, checks: list[CheckResult], code: int) -> None:
    keep(home, checks)

    assert run().exit_code == code
    assert run("--json").exit_code == code


def test_failed_checks_are_told_with_counts_and_reasons_errors_first(home: Home) -> None:
    keep(home, [PASSED, WARNED, FAILED])

    said = run().output

    assert "as of 2024-03-04 00:00 UTC: 1 passed, 1 warned, 1 failed" in said
    assert "✗ error marts.fct_orders units_plausible: 1 of 40 rows" in said
    assert "! warning lake_shop.orders discount_plausible: 2 of 40 rows" in said
    assert "only a warning: A surcharge adds up all the same." in said
    assert "among them: d1 / 7; d1 / 9" in said
    assert said.index("error marts") < said.index("warning lake")


def test_a_source_shows_its_own_deliveries_and_checks(home: Home) -> None:
    manifest.write(home, [delivered(), delivered(2, source="crm", table="contacts", day=2)])
    keep(home, [WARNED, FAILED])

    result = run("--source", "crm")

    assert "crm.contacts" in result.output
    assert "shop.orders" not in result.output
    assert result.exit_code == 0, "the failed check is about another table"


def test_since_shows_later_deliveries_only(home: Home) -> None:
    manifest.write(home, [delivered(1, day=1), delivered(2, day=2), delivered(3, day=3)])

    said = run("--since", "2024-03-02").output

    assert "2 deliveries" in said
    assert "2024-03-01" not in said


def test_an_unknown_source_is_refused_with_those_there_are(home: Home) -> None:
    result = run("--source", "fax")

    assert "there is no source fax" in str(result.exception)
    assert "shop" in str(result.exception)


def test_of_many_deliveries_the_newest_are_told(home: Home) -> None:
    manifest.write(home, [delivered(number, day=number) for number in range(1, 16)])

    said = run().output

    assert said.count(": 40 read") == SHOWN
    assert "and 5 earlier" in said


def test_json_is_everything(home: Home) -> None:
    manifest.write(home, [delivered()])
    keep(home, [WARNED])

    said = json.loads(run("--json").output)

    assert said["tables"][0]["deliveries"][0]["accepted"] == 38
    assert said["results"][0]["checks"][0]["reason"] == WARNED.reason


def test_an_empty_home_says_so(home: Home) -> None:
    result = run()

    assert "Nothing was delivered." in result.output
    assert "No check has run yet" in result.output
    assert result.exit_code == 0


def test_the_warehouse_is_not_opened(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    import duckdb

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("opened a database")

    monkeypatch.setattr(duckdb, "connect", refuse)
    manifest.write(home, [delivered()])
    keep(home, [FAILED])

    assert run().exit_code == 1
