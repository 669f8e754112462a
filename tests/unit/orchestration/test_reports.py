"""What people read: failures of dbt and of checks in a line, progress, pictures, the doctor's pins."""

from __future__ import annotations

import io
from typing import Any

import pytest
from dagster import Failure, SensorResult, SkipReason

from core.errors import DestinationError, RefreshError, WarehouseBusyError
from core.home import Home
from core.settings import Settings
from expectations.results import CheckResult
from orchestration import markdown
from orchestration.checks import describe
from orchestration.dbt import NodeResult, StageReport, personal_columns
from orchestration.doctor import pinned_versions
from orchestration.jobs import evaluate
from orchestration.progress import RichReporter
from orchestration.workshop import Workshop


def node(name: str, status: str, **said: Any) -> NodeResult:
    kind = said.pop("kind", "model")
    message = said.pop("message", "")
    return NodeResult(f"{kind}.mailwright.{name}", name, kind, f"models/{name}.sql", status, message, 0.1, **said)


def test_a_failed_model_is_named_with_its_file_and_the_gist_of_the_error() -> None:
    message = (
        "Runtime Error in model fct_orders (models/fct_orders.sql)\n"
        '  Binder Error: Referenced column "amont" not found\n'
        "  > in macro statement (macros/etc/statement.sql)\n"
        "  compiled code at target/run/fct_orders.sql"
    )
    report = StageReport("core", (node("fct_orders", "error", message=message), node("feat_rfm", "skipped")))
    with pytest.raises(RefreshError) as raised:
        report.raise_if_failed()
    assert str(raised.value) == (
        "dbt stage core failed (1 that depend on it were skipped): model fct_orders (dbt_project/models/fct_orders.sql):"
        ' Binder Error: Referenced column "amont" not found'
    )


def test_a_failed_test_fails_the_stage_and_a_warning_does_not() -> None:
    warned = StageReport("core", (node("not_null_x", "warn", kind="test", failures=3),))
    warned.raise_if_failed()
    assert (warned.tests_passed, warned.tests_warned) == (0, 1)
    with pytest.raises(RefreshError, match="unit test rfm_scores"):
        StageReport("core", (node("rfm_scores", "fail", kind="unit_test", message="actual differs"),)).raise_if_failed()


def test_at_most_five_failures_are_listed() -> None:
    report = StageReport("core", tuple(node(f"model_{number}", "error", message="boom") for number in range(7)))
    with pytest.raises(RefreshError, match="and 2 more"):
        report.raise_if_failed()


def test_personal_columns_are_read_from_either_place() -> None:
    manifest = {
        "nodes": {
            "model.mailwright.dim_customers": {
                "resource_type": "model",
                "name": "dim_customers",
                "columns": {
                    "customer_id": {"meta": {}},
                    "email": {"meta": {"pii": True}},
                    "phone": {"meta": {}, "config": {"meta": {"pii": True}}},
                },
            }
        }
    }
    assert personal_columns(manifest, "dim_customers") == {"email", "phone"}
    assert personal_columns(manifest, "unknown") == frozenset()


def test_a_failed_check_names_rows_and_no_contents() -> None:
    result = CheckResult("lake_shop.orders", "status_known", "error", False, 100, 2, (("d1", 7), ("d2", 9)))
    assert describe(result) == (
        "check status_known on lake_shop.orders failed: 2 of 100 rows, among them d1 row 7, d2 row 9."
        " What depends on it was not built"
    )


@pytest.mark.parametrize(
    ("error", "may_be_retried"),
    [(RefreshError("broken"), False), (WarehouseBusyError("busy"), True), (DestinationError("down"), True)],
    ids=["deterministic", "busy", "destination"],
)
def test_only_what_may_pass_is_retried(home: Home, error: Exception, may_be_retried: bool) -> None:
    shop = Workshop(Settings(home=home.root), home)
    with pytest.raises(Failure) as raised, shop.step("Try"):
        raise error
    assert raised.value.allow_retries is may_be_retried
    assert raised.value.description == str(error)
    assert shop.failure is error
    assert "Try" in shop.tally.seconds


def test_progress_is_one_line_a_step_where_there_is_no_terminal() -> None:
    from rich.console import Console

    written = io.StringIO()
    reporter = RichReporter(Console(file=written, width=100))
    with reporter.step("First", total=2) as tick:
        tick("part")
    with pytest.raises(ValueError, match="no"), reporter.step("Second"):
        raise ValueError("no")
    lines = written.getvalue().splitlines()
    assert [line[:8].rstrip() for line in lines] == ["✓ First", "✗ Second"]


def test_a_step_within_a_step_is_part_of_it_on_a_terminal() -> None:
    from rich.console import Console

    written = io.StringIO()
    reporter = RichReporter(Console(file=written, width=100, force_terminal=True))
    with reporter.step("Outer") as tick, reporter.step("Inner") as inner:
        tick("one")
        inner("two")
    assert written.getvalue().count("✓") == 1


@pytest.mark.parametrize(
    ("cursor", "newest", "asks"),
    [(None, 0, False), (None, 3, True), ("3", 3, False), ("3", 4, True), ("4", 3, False)],
)
def test_the_sensor_asks_once_per_newest_delivery(cursor: str | None, newest: int, asks: bool) -> None:
    said = evaluate(cursor, lambda: newest)
    if not asks:
        assert isinstance(said, SkipReason)
        return
    assert isinstance(said, SensorResult)
    assert said.cursor == str(newest)
    assert said.run_requests is not None
    assert [request.run_key for request in said.run_requests] == [f"delivery-{newest}"]


def test_a_picture_needs_no_file_beside_it() -> None:
    assert markdown.image(b"\x89PNG", "x") == "![x](data:image/png;base64,iVBORw==)"


def test_markdown_tables_escape_and_group_digits() -> None:
    assert markdown.table(("a", "b"), [("x|y", 1234), (None, 0.12345)]) == (
        "| a | b |\n| --- | --- |\n| x\\|y | 1,234 |\n|  | 0.123 |"
    )


def test_pins_are_read_from_the_lock_file() -> None:
    text = "# made by uv\nduckdb==2.0.0 \\\n    --hash=sha256:ab\ndagster[x]==1.13.27 ; python_version >= '3.11' \\\n"
    assert pinned_versions(text) == {"duckdb": "2.0.0", "dagster": "1.13.27"}


@pytest.fixture
def home(tmp_path: Any) -> Home:
    return Home.create(tmp_path / "home", "Europe/London", "GBP")
