"""What is known of the last refresh."""

from __future__ import annotations

import multiprocessing
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from core import gate, lock
from core.errors import HomeError
from core.home import Home

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.create(tmp_path / "home", "Europe/London", "GBP")


def test_a_home_without_a_refresh_has_not_failed(home: Home) -> None:
    assert gate.read(home) == gate.Gate()
    assert not gate.read(home).failed


def test_a_refresh_that_came_through_has_not_failed(home: Home) -> None:
    gate.begin(home, NOON)
    gate.passed(home, NOON + timedelta(minutes=3))
    found = gate.read(home)
    assert (found.begun_at, found.passed_at) == (NOON, NOON + timedelta(minutes=3))
    assert not found.failed


def test_one_that_began_and_never_came_through_has_failed_and_the_time_before_is_kept(home: Home) -> None:
    gate.begin(home, NOON)
    gate.passed(home, NOON + timedelta(minutes=3))
    gate.begin(home, NOON + timedelta(days=1))
    found = gate.read(home)
    assert found.failed
    assert found.passed_at == NOON + timedelta(minutes=3)


def _refresh(root: Path, begun: Event, over: Event) -> None:
    with lock.held(root / "refresh"):
        begun.set()
        over.wait(30)


def test_of_one_that_is_at_work_nothing_is_said_yet(home: Home) -> None:
    gate.begin(home, NOON)
    context = multiprocessing.get_context("spawn")
    begun, over = context.Event(), context.Event()
    process = context.Process(target=_refresh, args=(home.root, begun, over))
    process.start()
    assert begun.wait(30)
    assert not gate.read(home).failed
    over.set()
    process.join(30)
    assert gate.read(home).failed


def test_a_spoilt_file_is_said(home: Home) -> None:
    (home.root / "gate.json").write_text("{")
    with pytest.raises(HomeError, match=r"gate\.json can't be read"):
        gate.read(home)
