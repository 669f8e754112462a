"""What is said of each segment: metadata, size, effect, campaigns; and what the past says of it."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path

import duckdb
import pytest

from core.errors import MailwrightError
from core.home import Home
from segments import checks
from segments.definitions import read_segments, survey
from segments.models import read_models
from segments.outcomes import Outcome, former_outcomes
from segments.scaffold import scaffold
from segments.setting_aside import read_control
from tests.unit.segments.conftest import SQL, YAML, Write


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.create(tmp_path / "home", "Europe/London", "GBP")
    home.clock.write_text('{"as_of": "2025-01-08 00:00:00", "timezone": "Europe/London", "currency": "GBP"}\n')
    return home


@pytest.fixture
def published(home: Home, warehouse: duckdb.DuckDBPyConnection) -> Home:
    """The home with its marts published, personal columns left out."""
    home.published.mkdir()
    warehouse.execute(f"attach '{home.published / 'marts.duckdb'}' as published")
    warehouse.execute(
        "create table published.customer_360 as select * exclude (email, birthday) from marts.customer_360"
    )
    warehouse.execute("create table published.dim_customers as select customer_id from marts.dim_customers")
    warehouse.execute("detach published")
    return home


def add_past(warehouse: duckdb.DuckDBPyConnection, project: Path) -> None:
    """A past in which half of those with more than 8 orders bought again, and nobody else did."""
    (project / "models" / "marts" / "customers" / "customer_history.sql").write_text("select 1\n")
    warehouse.execute("create schema features")
    warehouse.execute(
        "create table marts.customer_history as"
        " select customer_id, orders, timestamp '2024-09-01' as as_of from marts.customer_360"
    )
    warehouse.execute(
        """
        create table features.outcomes as
        select
            customer_id,
            as_of,
            90 as horizon_days,
            orders > 8 and orders % 2 = 0 as bought,
            cast(if(orders > 8, orders, 0) as decimal(18, 4)) as revenue
        from marts.customer_history
        """
    )


def test_a_good_segment_has_nothing_to_correct(project: Path, published: Home) -> None:
    report = checks.check(published, project)
    (row,) = report.rows
    assert (row.segment, row.members, row.share, row.smallest) == ("good", 11, 0.55, None)
    assert report.errors == report.warnings == []


def test_without_marts_the_files_are_checked_and_sizes_are_unknown(project: Path, home: Home) -> None:
    for report in (checks.check(home, project), checks.check(None, project)):
        assert report.errors == []
        assert "unknown" in report.notes[0]
        assert report.rows[0].members is None


@pytest.mark.parametrize(
    ("size", "said"),
    [
        ("{min: 12}", "has 11 customers, expected are at least 12"),
        ("{max: 10}", "has 11 customers, expected are at most 10"),
        ("{min: 1, max: 10}", "has 11 customers, expected are 1 to 10"),
        ("{min_share: 0.6, max_share: 0.7}", "has 55.0% of all customers (11), expected are 60.0% to 70.0%"),
        ("{max_share: 0.5}", "expected are at most 50.0%"),
    ],
)
def test_a_size_out_of_its_range_is_a_warning(
    project: Path, write: Write, published: Home, size: str, said: str
) -> None:
    write("seg_good.yml", (YAML % "good").replace("{min: 1, max: 1000}", size))
    report = checks.check(published, project)
    assert report.errors == []
    assert said in report.warnings[0]


def test_too_few_to_learn_from_is_an_error(project: Path, write: Write, published: Home) -> None:
    write("seg_good.sql", SQL % "orders >= 18")
    assert "has 2 customers; below 3" in checks.check(published, project).errors[0]


def test_missing_metadata_is_an_error_of_the_check_and_sets_nothing_aside(
    project: Path, write: Write, published: Home
) -> None:
    write("seg_bare.sql", SQL % "orders > 10")
    report = checks.check(published, project)
    assert report.set_aside == []
    assert "segment bare: states no description, owner, purpose" in report.errors[0]
    assert "models/segments/seg_bare.yml" in report.errors[0]


def test_what_the_published_marts_lack_is_only_a_warning(project: Path, write: Write, published: Home) -> None:
    marts = project / "models" / "marts" / "customers" / "customer_360.yml"
    marts.write_text(marts.read_text() + "      - {name: brand_new, data_type: integer}\n")
    write("seg_new.sql", SQL % "brand_new > 1")
    write("seg_new.yml", YAML % "new")
    report = checks.check(published, project)
    assert report.errors == []
    assert "on the published marts it does not run" in report.warnings[0]


def test_campaigns_are_checked_with_the_segments(project: Path, published: Home) -> None:
    (project / "campaigns.yml").write_text("campaigns: [{name: x, segments: [good, nix]}]\n")
    errors = checks.check(published, project).errors
    assert any("there is no segment nix" in error for error in errors)
    assert any("has 2 segments" in error for error in errors)


def test_a_refresh_writes_how_all_stand(
    project: Path, write: Write, home: Home, warehouse: duckdb.DuckDBPyConnection
) -> None:
    add_past(warehouse, project)
    write("seg_bad.sql", SQL % "email is null")
    report = checks.refresh(warehouse, home, project, {})
    assert [problem.segment for problem in report.set_aside] == ["bad"]
    said = read_control(home)
    assert said["bad"].is_set_aside
    assert not said["good"].is_set_aside
    assert said["good"].outcome == Outcome("bought_90", "segment", "2024-09-01 00:00:00", 11, 0.454545, 1.0954)
    assert "bad" in report.markdown()


def test_the_past_of_a_segment_is_its_own_where_it_can_be_asked(
    project: Path, write: Write, warehouse: duckdb.DuckDBPyConnection
) -> None:
    add_past(warehouse, project)
    write("seg_now.sql", SQL % "orders > 8 and age_band = '25-34'")
    write("seg_now.yml", (YAML % "now").replace("bought_90", "revenue_90"))
    write("seg_open.sql", SQL % "true")
    write("seg_open.yml", (YAML % "open").replace("bought_90", "bought_180"))
    found = former_outcomes(warehouse, survey(project).segments, read_models(project))
    assert (found["good"].of, found["good"].customers, found["good"].mean) == ("segment", 11, 0.454545)
    assert (found["now"].of, found["now"].customers, found["now"].mean) == ("everyone", 20, 7.7)
    assert "open" not in found, "no horizon of 180 days has passed"


def test_an_effect_too_small_to_show_is_a_warning(
    project: Path, write: Write, home: Home, published: Home, warehouse: duckdb.DuckDBPyConnection
) -> None:
    add_past(warehouse, project)
    report = checks.refresh(warehouse, home, project, {})
    assert "is to move bought_90 by 2.0%" in report.warnings[0]
    assert checks.check(published, project).warnings == report.warnings, "the check knows what the refresh found"


def test_revenue_is_judged_by_its_variation() -> None:
    rate, revenue = (
        Outcome("bought_90", "segment", "2024-09-01", 100, 0.5, 1.0),
        Outcome("revenue_90", "segment", "2024-09-01", 100, 50.0, 2.0),
    )
    assert checks.smallest_visible(1000, rate) == pytest.approx(0.0885, abs=0.001)
    assert checks.smallest_visible(1000, revenue) == pytest.approx(0.354, abs=0.001)
    assert checks.smallest_visible(1000, replace(revenue, variation=None)) == inf


def test_a_new_segment_is_complete_and_compiles(project: Path, warehouse: duckdb.DuckDBPyConnection) -> None:
    query, description = scaffold(project, "seg_loyal_in_france")
    assert [path.name for path in (query, description)] == ["seg_loyal_in_france.sql", "seg_loyal_in_france.yml"]
    made = next(segment for segment in read_segments(project) if segment.name == "loyal_in_france")
    assert (made.missing, made.unknown) == ((), ())


@pytest.mark.parametrize(
    "name", ["", "Loyal", "loyal-ones", "1st", "a__b", "a/b", "../x", "x" * 51, "loyal ones", "a_"]
)
def test_a_bad_name_is_refused(project: Path, name: str) -> None:
    with pytest.raises(MailwrightError, match="no name for a segment"):
        scaffold(project, name)


def test_a_taken_name_is_refused(project: Path, write: Write) -> None:
    write("more/seg_deep.sql", "")
    for name in ("good", "seg_good", "deep"):
        with pytest.raises(MailwrightError, match="already"):
            scaffold(project, name)
