"""What outcomes of jobs are conditions to alert of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from activation.apply import TrippedError
from activation.drops import PastDeadlineError
from activation.engine import DestinationDownError, StoppedError
from activation.leases import AtWorkError
from activation.suppress import Overdue, SuppressReport
from core import gate
from core.errors import LedgerError, PlanError
from core.home import Home
from core.settings import Settings
from orchestration import alerts, watching

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.create(tmp_path / "home", "Europe/London", "GBP")


@pytest.fixture
def settings(home: Home) -> Settings:
    return Settings(home=home.root)


def wrong(home: Home) -> dict[str, str]:
    return {change.condition: change.words for change in alerts.standing(home)}


DOWN = DestinationDownError("gave up after 7 attempts")


@pytest.mark.parametrize(
    ("error", "by_hand", "unattended"),
    [
        pytest.param(DOWN, {"sync x"}, {"sync x"}, id="down"),
        pytest.param(StoppedError("too many"), {"sync x"}, {"sync x"}, id="too many rejects"),
        pytest.param(LedgerError("disk full"), {"sync x"}, {"sync x"}, id="ledger"),
        pytest.param(
            PastDeadlineError("down"),
            {"sync x", "x past its deadline"},
            {"sync x", "x past its deadline"},
            id="deadline",
        ),
        pytest.param(TrippedError("removed"), {"breakers of x"}, {"breakers of x"}, id="breaker"),
        pytest.param(PlanError("the plan expired"), set(), {"sync x"}, id="plan"),
        pytest.param(AtWorkError("apply is at work"), set(), set(), id="another at work"),
        pytest.param(KeyError("jane@example.com"), set(), {"sync x"}, id="a fault of ours"),
    ],
)
def test_what_stops_a_sync_is_an_alert(
    home: Home, settings: Settings, error: Exception, by_hand: set[str], unattended: set[str]
) -> None:
    for is_unattended, expected in ((False, by_hand), (True, unattended)):
        with (
            pytest.raises(type(error)),
            watching.watched_sync(settings, home, "x", unattended=is_unattended, now=lambda: NOW),
        ):
            raise error
        assert set(wrong(home)) == expected
        assert "jane" not in str(wrong(home))
        with watching.watched_sync(settings, home, "x", unattended=is_unattended, now=lambda: NOW):
            pass
        assert wrong(home) == {}


def test_withdrawals_that_fail_or_are_late(home: Home, settings: Settings) -> None:
    overdue = [Overdue("ab", "unsubscribe", NOW - 25 * HOUR)]
    watching.note_withdrawals(settings, home, [SuppressReport("x"), SuppressReport("y", overdue=overdue)], NOW)
    assert set(wrong(home)) == {"withdrawals late at y"}
    watching.note_withdrawals(settings, home, [SuppressReport("x", error="down"), SuppressReport("y")], NOW)
    assert wrong(home) == {"withdrawals at x": "down"}
    watching.note_withdrawals(settings, home, [SuppressReport("x", error="down", is_busy=True)], NOW + 30 * HOUR)
    assert set(wrong(home)) == {"withdrawals at x"}


def test_a_destination_that_nobody_can_tell_anything_for_a_day_is_late(home: Home, settings: Settings) -> None:
    report = SuppressReport("x", error="its keys are not set")
    watching.note_withdrawals(settings, home, [report], NOW)
    watching.note_withdrawals(settings, home, [report], NOW + 24 * HOUR)
    assert set(wrong(home)) == {"withdrawals at x"}
    watching.note_withdrawals(settings, home, [report], NOW + 25 * HOUR)
    assert set(wrong(home)) == {"withdrawals at x", "withdrawals late at x"}
    # That it is late is not over before it is known to be.
    watching.note_withdrawals(settings, home, [report], NOW + 26 * HOUR)
    assert set(wrong(home)) == {"withdrawals at x", "withdrawals late at x"}
    watching.note_withdrawals(settings, home, [SuppressReport("x")], NOW + 27 * HOUR)
    assert wrong(home) == {}


def test_a_run_of_withdrawals_that_another_one_is_at_is_no_failure(home: Home, settings: Settings) -> None:
    watching.note_withdrawals(settings, home, [SuppressReport("x", error="at work", is_busy=True)], NOW)
    assert wrong(home) == {}


def test_a_refresh_that_was_killed_is_noticed_by_the_next_run_of_withdrawals(home: Home, settings: Settings) -> None:
    gate.begin(home, NOW)
    watching.note_withdrawals(settings, home, [], NOW)
    assert set(wrong(home)) == {"refresh"}
    gate.begin(home, NOW + HOUR)
    gate.passed(home, NOW + 2 * HOUR)
    watching.note_refresh(settings, home, now=NOW + 2 * HOUR)
    assert wrong(home) == {}


def test_what_stopped_a_refresh_stands_until_one_comes_through(home: Home, settings: Settings) -> None:
    gate.begin(home, NOW - 2 * HOUR)
    gate.passed(home, NOW - HOUR)
    watching.note_refresh(settings, home, "the lake is not what its manifest says", now=NOW)
    # It failed before the gate was asked, so that the gate knows nothing of it.
    for moment in (NOW, NOW + HOUR):
        watching.note_withdrawals(settings, home, [], moment)
        assert wrong(home) == {"refresh": "the lake is not what its manifest says"}
    gate.begin(home, NOW + HOUR)
    watching.note_withdrawals(settings, home, [], NOW + HOUR)
    assert wrong(home) == {"refresh": "the lake is not what its manifest says"}
    gate.passed(home, NOW + 2 * HOUR)
    watching.note_refresh(settings, home, now=NOW + 2 * HOUR)
    assert wrong(home) == {}
