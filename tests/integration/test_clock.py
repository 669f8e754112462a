"""Which as_of a run gets, and which are refused: with deliveries that the real loader took."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.clock import resolve_as_of
from core.errors import MailwrightError
from core.home import Home
from core.settings import Settings
from ingestion.loader import load

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def deliver(home: Home, folder: Path, ordered_at: str, received_at: str | None = None) -> None:
    """One order of the shop; historical unless `received_at` is given."""
    file = folder / "orders.jsonl"
    file.write_text(json.dumps({"order_id": ordered_at, "ordered_at": ordered_at}) + "\n")
    received = datetime.fromisoformat(received_at or "2025-12-01").replace(tzinfo=UTC)
    settings = Settings(home=home.root, memory_limit="500MB", threads=2)
    load(settings, home, "shop", {"orders": [file]}, received_at=received, historical=received_at is None)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.create(tmp_path / "home", "Europe/London", "GBP")


@pytest.mark.parametrize(
    ("given", "instant"),
    [
        pytest.param("2011-03-27", "2011-03-27T00:00+00:00", id="day that begins before summer time does"),
        pytest.param("2011-03-28", "2011-03-27T23:00+00:00", id="first whole day of summer time"),
        pytest.param("2011-03-27T01:30", "2011-03-27T01:30+00:00", id="skipped: moves forward"),
        pytest.param("2011-10-30T01:30", "2011-10-30T00:30+00:00", id="ambiguous: the earlier one"),
        pytest.param("2011-10-30T01:30+00:00", "2011-10-30T01:30+00:00", id="an offset says which"),
        pytest.param("2012-02-29", "2012-02-29T00:00+00:00", id="29 February"),
    ],
)
def test_a_given_as_of_is_an_instant(home: Home, tmp_path: Path, given: str, instant: str) -> None:
    deliver(home, tmp_path, "2010-01-01T12:00:00Z")
    assert resolve_as_of(home, given, NOW).instant == datetime.fromisoformat(instant)


@pytest.mark.parametrize(
    ("timezone", "day", "instant"),
    [
        pytest.param("America/Sao_Paulo", "2011-10-16", "2011-10-16T03:00+00:00", id="midnight skipped: one o'clock"),
        pytest.param("America/Havana", "2011-11-13", "2011-11-13T04:00+00:00", id="midnight twice: the first"),
        pytest.param("Pacific/Apia", "2012-02-29", "2012-02-28T10:00+00:00", id="29 February, ahead of UTC"),
    ],
)
def test_a_date_begins_where_its_own_clocks_say(tmp_path: Path, timezone: str, day: str, instant: str) -> None:
    home = Home.create(tmp_path / "elsewhere", timezone, "GBP")
    deliver(home, tmp_path, "2010-01-01T12:00:00Z")
    assert resolve_as_of(home, day, NOW).instant == datetime.fromisoformat(instant)


@pytest.mark.parametrize(
    ("newest", "instant"),
    [
        pytest.param("2011-03-26T12:00:00Z", "2011-03-27T00:00+00:00", id="before summer time begins"),
        pytest.param("2011-03-27T12:00:00Z", "2011-03-27T23:00+00:00", id="on the day that summer time begins"),
        pytest.param("2011-10-30T00:30:00Z", "2011-10-31T00:00+00:00", id="in the hour that comes twice"),
        pytest.param("2011-10-29T23:30:00Z", "2011-10-31T00:00+00:00", id="past local midnight, not yet in UTC"),
        pytest.param("2012-02-28T12:00:00Z", "2012-02-29T00:00+00:00", id="before 29 February"),
        pytest.param("2012-02-29T12:00:00Z", "2012-03-01T00:00+00:00", id="on 29 February"),
    ],
)
def test_a_home_of_history_stands_at_the_midnight_after_its_newest_order(
    home: Home, tmp_path: Path, newest: str, instant: str
) -> None:
    deliver(home, tmp_path, newest)
    decided = resolve_as_of(home, None, NOW)
    assert (decided.instant, decided.origin) == (datetime.fromisoformat(instant), "newest order")


@pytest.mark.parametrize("given", ["2011-02-29", "2011-13-01", "yesterday", "2011-03-27T25:00", ""])
def test_what_is_no_date_is_refused(home: Home, given: str) -> None:
    with pytest.raises(MailwrightError, match="neither a date"):
        resolve_as_of(home, given, NOW)


def test_the_future_is_refused(home: Home) -> None:
    with pytest.raises(MailwrightError, match="lies in the future"):
        resolve_as_of(home, "2026-01-02", NOW)


def test_now_is_no_future_and_the_next_second_is(home: Home, tmp_path: Path) -> None:
    deliver(home, tmp_path, "2010-01-01T12:00:00Z")
    assert resolve_as_of(home, NOW.isoformat(), NOW).instant == NOW
    with pytest.raises(MailwrightError, match="lies in the future"):
        resolve_as_of(home, (NOW + timedelta(seconds=1)).isoformat(), NOW)


def test_a_future_that_nobody_gave_is_refused_as_well(home: Home, tmp_path: Path) -> None:
    """Orders of today, delivered as history: their day has not passed. A date pinned to the home goes wrong likewise."""
    deliver(home, tmp_path, "2025-12-31T12:00:00Z")
    assert resolve_as_of(home, None, NOW).instant == NOW
    with pytest.raises(MailwrightError, match=r"2026-01-01 \(the midnight after the newest order.* in the future"):
        resolve_as_of(home, None, NOW - timedelta(seconds=1))
    pinned = Home.create(tmp_path / "pinned", "Europe/London", "GBP", as_of=NOW + timedelta(days=1))
    with pytest.raises(MailwrightError, match=r"2026-01-02 \(the home's own date\) lies in the future"):
        resolve_as_of(pinned, None, NOW)


def test_before_the_first_order_nothing_can_be_made(home: Home, tmp_path: Path) -> None:
    deliver(home, tmp_path, "2010-01-01T12:00:00Z")
    with pytest.raises(MailwrightError, match=r"before anything was known of an order \(2010-01-01 12:00"):
        resolve_as_of(home, "2010-01-01T12:00:00", NOW)
    assert resolve_as_of(home, "2010-01-01T12:00:01", NOW).origin == "given"


def test_an_order_delivered_live_is_known_when_it_was_received(home: Home, tmp_path: Path) -> None:
    deliver(home, tmp_path, "2010-01-01T12:00:00Z", received_at="2010-01-03")
    with pytest.raises(MailwrightError, match="before anything was known of an order"):
        resolve_as_of(home, "2010-01-02", NOW)
    assert resolve_as_of(home, "2010-01-04", NOW).origin == "given"


def test_a_home_without_orders_says_so_elsewhere(home: Home) -> None:
    assert resolve_as_of(home, "2010-01-01", NOW).origin == "given"
