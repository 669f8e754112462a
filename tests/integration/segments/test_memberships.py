"""Dwell times and re-entry: the model's SQL against a slow calculation, over histories drawn at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.home import Home
from core.settings import PROJECT_ROOT, Settings
from orchestration.dbt import DbtRunner, _close_dbt
from segments.definitions import Segment, read_segments
from tests import parsing

START = datetime(2025, 3, 28)  # summer time begins two days later
CUSTOMERS = ("a", "b", "c")


@dataclass
class World:
    """The model's own SQL over tables made by hand, and its rules."""

    connection: duckdb.DuckDBPyConnection
    sql: str
    segments: dict[str, Segment]

    def reset(self) -> None:
        for table in ("staging.stg_releases__membership_changes", "staging.stg_releases__memberships"):
            self.connection.execute(f"delete from warehouse.{table}")
        self.connection.execute("delete from warehouse.staging.stg_lake__segments_set_aside")
        self.customers(CUSTOMERS)

    def customers(self, ids: tuple[str, ...]) -> None:
        self.connection.execute("delete from warehouse.marts.dim_customers")
        for customer in ids:
            self.connection.execute("insert into warehouse.marts.dim_customers values (?)", [customer])

    def memberships(self, as_of: datetime, qualifying: set[tuple[str, str]]) -> set[tuple[str, str]]:
        """What the model makes at as_of of who qualifies, as (customer, segment)."""
        for name in self.segments:
            self.connection.execute(f"delete from warehouse.segments.seg_{name}")
        for customer, name in qualifying:
            self.connection.execute(f"insert into warehouse.segments.seg_{name} values (?)", [customer])
        self.connection.execute("delete from warehouse.marts.dim_as_ofs")
        self.connection.execute("insert into warehouse.marts.dim_as_ofs values (?, ?, true)", [as_of, as_of.date()])
        rows = self.connection.execute(self.sql).fetchall()
        assert len(rows) == len(set(rows)), "one row per customer and segment"
        return set(rows)

    def change(self, release: int, as_of: datetime, customer: str, name: str, change: str, cause: str | None) -> None:
        self.connection.execute(
            "insert into warehouse.staging.stg_releases__membership_changes values (?, ?, ?, ?, ?, ?)",
            [release, customer, name, change, cause, as_of],
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = Home.create(tmp_path_factory.mktemp("memberships") / "home", "UTC", "GBP")
    parsing.parse_into(home)
    runner = DbtRunner(Settings(home=home.root, memory_limit="500MB", threads=1), home)
    try:
        made = runner._invoke(["compile", "--select", "segment_memberships"], runner.manifest(), None)
    finally:
        _close_dbt()
    assert made.success, made.exception
    (sql,) = (said.node.compiled_code for said in made.result.results if said.node.name == "segment_memberships")
    segments = {segment.name: segment for segment in read_segments(PROJECT_ROOT / "dbt_project")}
    with duckdb.connect() as connection:
        connection.execute("attach ':memory:' as warehouse")
        for schema in ("marts", "staging", "segments"):
            connection.execute(f"create schema warehouse.{schema}")
        for table in (
            "marts.dim_customers (customer_id varchar)",
            "marts.dim_as_ofs (as_of timestamp, as_of_on date, is_current boolean)",
            "staging.stg_releases__membership_changes (release bigint, customer_id varchar, segment varchar,"
            " change varchar, cause varchar, as_of timestamp)",
            "staging.stg_releases__memberships (customer_id varchar, segment varchar)",
            "staging.stg_lake__segments_set_aside (segment varchar)",
            *(f"segments.seg_{name} (customer_id varchar)" for name in segments),
        ):
            connection.execute(f"create table warehouse.{table}")
        yield World(connection, sql, segments)


@dataclass
class Slow:
    """The rule as one would say it, one customer and segment at a time."""

    dwell: int
    reentry: int
    is_in: bool = False
    since: date | None = None
    by_rollback: bool = False
    changes: list[tuple[datetime, str]] = field(default_factory=list)

    def asked(self, day: date, qualifies: bool) -> bool:
        if self.since is None or self.by_rollback:
            return qualifies
        age = (day - self.since).days
        return (qualifies or age < self.dwell) if self.is_in else (qualifies and age >= self.reentry)

    def moved(self, day: date, is_in: bool, by_rollback: bool = False) -> None:
        self.is_in, self.since, self.by_rollback = is_in, day, by_rollback


# Segments of different rules: (0, 0), (14, 30), (7, 7), (30, 0).
NAMES = ("cart_abandoners", "dormant", "recent_browsers_low_engagement", "frequent_buyers")
STEP = st.tuples(
    st.sampled_from([0, 1, 3, 6, 7, 8, 13, 14, 15, 29, 30, 31]),
    st.sets(st.tuples(st.sampled_from(CUSTOMERS), st.sampled_from(NAMES))),
    st.booleans(),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, min_size=1, max_size=8))
def test_the_model_agrees_with_the_rule(world: World, steps: list[tuple[int, set[tuple[str, str]], bool]]) -> None:
    world.reset()
    slow = {
        (customer, name): Slow(world.segments[name].min_dwell_days, world.segments[name].reentry_after_days)
        for customer in CUSTOMERS
        for name in NAMES
    }
    as_of = START
    for number, (days, qualifying, rolled_back) in enumerate(steps, 1):
        as_of += timedelta(days=max(days, 1))
        expected = {key for key, one in slow.items() if one.asked(as_of.date(), key in qualifying)}
        assert world.memberships(as_of, qualifying) == expected
        assert world.memberships(as_of, qualifying) == expected
        # The release: what the refresh found, or what a rollback says instead.
        frozen = qualifying if rolled_back else expected
        for (customer, name), one in slow.items():
            if one.is_in != ((customer, name) in frozen):
                change = "left" if one.is_in else "entered"
                world.change(number, as_of, customer, name, change, "rollback" if rolled_back else None)
                one.moved(as_of.date(), not one.is_in, rolled_back)
        # The same instant again gives the same, although a release of it is there now.
        assert world.memberships(as_of, qualifying) == expected


def test_dwell_and_reentry_end_on_their_day(world: World) -> None:
    world.reset()
    world.change(1, START, "a", "dormant", "entered", None)
    world.change(1, START, "b", "dormant", "entered", None)
    left = START + timedelta(days=20)
    world.change(2, left, "b", "dormant", "left", "behaviour")
    dwell, reentry = world.segments["dormant"].min_dwell_days, world.segments["dormant"].reentry_after_days
    assert (dwell, reentry) == (14, 30)
    assert world.memberships(START + timedelta(days=13), set()) >= {("a", "dormant")}
    assert ("a", "dormant") not in world.memberships(START + timedelta(days=14), set())
    assert ("b", "dormant") not in world.memberships(left + timedelta(days=29), {("b", "dormant")})
    assert ("b", "dormant") in world.memberships(left + timedelta(days=30), {("b", "dormant")})


def test_who_is_no_customer_any_more_does_not_stay(world: World) -> None:
    world.reset()
    world.change(1, START, "a", "dormant", "entered", None)
    world.customers(("b", "c"))
    assert world.memberships(START + timedelta(days=1), {("a", "dormant"), ("b", "dormant")}) == {("b", "dormant")}


def test_a_replay_of_the_past_knows_no_later_release(world: World) -> None:
    world.reset()
    world.change(1, START, "a", "dormant", "entered", None)
    world.change(2, START + timedelta(days=20), "a", "dormant", "left", None)
    assert world.memberships(START + timedelta(days=10), set()) == {("a", "dormant")}
    assert world.memberships(START - timedelta(days=1), set()) == set()


def test_a_segment_that_is_gone_has_nobody(world: World) -> None:
    world.reset()
    world.change(1, START, "a", "no_longer_there", "entered", None)
    assert world.memberships(START + timedelta(days=1), set()) == set()
