"""A broken segment is found, named with its reason and left out; the others go on."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from core.home import Home
from segments.definitions import Problem, survey
from segments.models import read_models
from segments.setting_aside import (
    blamed,
    broken_files,
    compile_each,
    project_without,
    read_control,
    run_each,
    set_aside,
    standings,
    unusable,
    write_control,
)
from tests.unit.segments.conftest import SQL, YAML, Write

C360 = "{{ ref('customer_360') }}"
NOON, LATER = datetime(2025, 1, 1, 12, tzinfo=UTC), datetime(2025, 1, 8, 12, tzinfo=UTC)


def problems(project: Path, connection: duckdb.DuckDBPyConnection) -> dict[str, Problem]:
    """Everything that a refresh would set aside."""
    found, models = survey(project), read_models(project)
    said = broken_files(project, found)
    readable = [segment for segment in found.segments if segment.name not in said]
    said |= unusable(readable, models)
    return said | compile_each(connection, [s for s in readable if s.name not in said], models)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("select customer_id fro", "there is no column customer_id"),
        (SQL % "orders > ", "can't be read"),
        (SQL % "nix > 1", "there is no column nix"),
        ("select customer_id from {{ ref('nix') }}", "there is no model nix"),
        ("select customer_id from {{ ref('customer_360' }}", "line 1"),
        (f"select customer_id from {C360} union all select 'c01'", "1 customers more than once"),
        (f"select nullif(customer_id, 'c03') as customer_id from {C360}", "1 rows without a customer"),
        (f"select customer_id || 'x' as customer_id from {C360}", "20 that are no customers"),
        ("select 1 as customer_id", "1 that are no customers"),
        (f"select customer_id, orders from {C360}", "returns customer_id, orders instead of customer_id alone"),
        (f"select orders from {C360}", "returns orders instead of customer_id alone"),
        (SQL % "email is not null", "personal data.*customer_360.email"),
        (SQL % "country_code = 'FR'", "states no sensitive_purpose"),
        ("", "is empty"),
        (SQL % "orders > 1" + ";", "not one select|syntax error"),
    ],
    ids=[
        "no table",
        "syntax",
        "column",
        "ref",
        "jinja",
        "duplicates",
        "nulls",
        "strangers",
        "numbers",
        "two columns",
        "other column",
        "personal",
        "sensitive",
        "empty",
        "semicolon",
    ],
)
def test_a_broken_segment_is_set_aside_and_no_other(
    project: Path, write: Write, warehouse: duckdb.DuckDBPyConnection, sql: str, said: str
) -> None:
    write("seg_bad.sql", sql)
    found = problems(project, warehouse)
    assert list(found) == ["bad"]
    assert found["bad"].file == "models/segments/seg_bad.sql"
    assert re.search(said, found["bad"].reason), found["bad"].reason


def test_a_segment_without_metadata_or_members_is_good(
    project: Path, write: Write, warehouse: duckdb.DuckDBPyConnection
) -> None:
    write("seg_bare.sql", SQL % "orders > 100")
    assert problems(project, warehouse) == {}
    sizes, failed = run_each(warehouse, survey(project).segments, read_models(project).relation)
    assert (sizes, failed) == ({"bare": 0, "good": 11}, {})


def test_a_value_that_stops_the_sql_is_kept_back(
    project: Path, write: Write, warehouse: duckdb.DuckDBPyConnection
) -> None:
    write("seg_bad.sql", SQL % "cast(customer_id as integer) = 1")
    reason = problems(project, warehouse)["bad"].reason
    assert "Conversion Error" in reason
    assert "c00" not in reason


def test_what_breaks_dbt_is_left_out_of_what_dbt_sees(project: Path, write: Write, tmp_path: Path) -> None:
    write("seg_bad.sql", SQL % "{{ nix }}")
    write("seg_bad.yml", YAML % "bad")
    write("more/seg_worse.sql", "")
    write("more/seg_fine.sql", SQL % "true")
    write("seg_yaml.sql", SQL % "true")
    write("seg_yaml.yml", "models: [")
    broken = broken_files(project)
    assert sorted(broken) == ["bad", "worse", "yaml"]
    for _ in range(2):  # what an earlier time left behind goes
        seen = project_without(project, tmp_path / "seen", broken)
        files = {path.relative_to(seen).as_posix() for path in (seen / "models" / "segments").rglob("seg_*")}
        assert files == {
            "models/segments/seg_good.sql",
            "models/segments/seg_good.yml",
            "models/segments/more/seg_fine.sql",
        }
    assert (seen / "dbt_project.yml").read_text() == (project / "dbt_project.yml").read_text()
    assert (seen / "models" / "marts" / "customers" / "customer_360.sql").exists()
    assert (project / "models" / "segments" / "seg_bad.sql").exists()
    assert project_without(project, tmp_path / "seen", {}) == project


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("Compilation Error in test nix (models/segments/seg_bad.yml) 'test_nix' is undefined", "bad"),
        ("Compilation Error in model seg_bad (models/segments/more/seg_bad.sql)", "bad"),
        ("Model 'model.mailwright.segment_memberships' depends on 'seg_bad' which is disabled", "bad"),
        ("Compilation Error in model customer_360", None),
        ("Compilation Error in model seg_gone", None),
    ],
)
def test_the_segment_that_dbt_speaks_of(message: str, name: str | None) -> None:
    assert blamed(message, {"bad", "good"}) == name


def test_a_set_aside_segment_remembers_when_it_was_good(project: Path, write: Write, tmp_path: Path) -> None:
    home = Home.create(tmp_path / "home", "Europe/London", "GBP")
    assert set_aside(home) == {}
    write_control(home, standings(survey(project), {}, read_control(home), NOON, {}))
    first = read_control(home)["good"]
    assert (first.fresh_at, first.cadence, first.is_set_aside) == (NOON, "weekly", False)

    write("seg_good.yml", "models: [")
    found = survey(project)
    write_control(home, standings(found, {p.segment: p for p in found.problems}, read_control(home), LATER, {}))
    kept = read_control(home)["good"]
    assert (kept.fresh_at, kept.cadence, kept.is_set_aside) == (NOON, "weekly", True)
    assert set_aside(home)["good"].file == "models/segments/seg_good.yml"

    write("seg_good.yml", YAML % "good")
    write_control(home, standings(survey(project), {}, read_control(home), LATER, {}))
    assert read_control(home)["good"].fresh_at == LATER
    write_control(home, standings(survey(project), {}, read_control(home), NOON, {}))
    assert read_control(home)["good"].fresh_at == LATER, "a replay makes nothing older"


def test_the_control_is_left_alone_when_nothing_changed(project: Path, tmp_path: Path) -> None:
    home = Home.create(tmp_path / "home", "Europe/London", "GBP")
    write_control(home, standings(survey(project), {}, {}, NOON, {}))
    before = home.segments_control.stat().st_mtime_ns
    write_control(home, standings(survey(project), {}, {}, NOON, {}))
    assert home.segments_control.stat().st_mtime_ns == before
