"""What is watched: the conditions that outcomes of jobs speak of, for `alerts` to tell of.

| condition | wrong when |
| --- | --- |
| `sync NAME` | an apply, or a sync that runs by itself, did not come through |
| `NAME past its deadline` | its destination took nothing for longer than its `deadline`: the audience lies as a file drop |
| `breakers of NAME` | a breaker stops the newest plan |
| `withdrawals at NAME` | the job `suppress` could not tell that destination |
| `withdrawals late at NAME` | some have not been acknowledged there for more than 24 hours |
| `refresh` | the last refresh failed, was stopped by a check or was killed |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from core import gate
from core.errors import DestinationError, HomeError, LedgerError, MailwrightError
from core.home import Home
from core.settings import Settings
from orchestration import alerts

if TYPE_CHECKING:
    from activation.plan import Plan
    from activation.suppress import SuppressReport

REFRESH = "refresh"


@contextmanager
def watched_sync(
    settings: Settings,
    home: Home,
    name: str,
    *,
    unattended: bool,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Iterator[None]:
    """Note how a sync ends.

    Args:
        unattended: it runs by itself, so that whatever stops it is worth an alert. Of one that somebody runs by hand only
            what is wrong with the destination or the ledger is: of the rest they read themselves.
    """
    try:
        yield
    except Exception as error:
        if problems := _problems(name, error, unattended):
            alerts.note(settings, home, problems, now=now())
        raise
    well = (f"sync {name}", f"{name} past its deadline", f"breakers of {name}")
    alerts.note(settings, home, dict.fromkeys(well), now=now())


def _problems(name: str, error: Exception, unattended: bool) -> dict[str, str | None]:
    from activation.apply import TrippedError
    from activation.drops import PastDeadlineError
    from activation.leases import AtWorkError

    words = str(error)
    match error:
        case TrippedError():
            return {f"breakers of {name}": words}
        case PastDeadlineError():
            return {f"sync {name}": words, f"{name} past its deadline": words}
        case DestinationError() | LedgerError():
            return {f"sync {name}": words}
        case AtWorkError():
            return {}  # that one says how it ends
        case MailwrightError() if unattended:
            return {f"sync {name}": words}
        case _ if unattended:
            # The message of an error that is not ours may hold anything.
            return {f"sync {name}": f"{type(error).__name__}; the whole story is in `mailwright ui`"}
    return {}


def note_plan(settings: Settings, home: Home, plan: Plan, now: datetime) -> None:
    """Note whether breakers stop a plan of the newest release."""
    words = "; ".join(f"{tripped.name}: {tripped.words}" for tripped in plan.tripped)
    alerts.note(settings, home, {f"breakers of {plan.destination}": words or None}, now=now)


def note_withdrawals(
    settings: Settings, home: Home, reports: Sequence[SuppressReport], now: datetime | None = None
) -> None:
    """Note how each destination took withdrawals, and whether the last refresh came through: this looks most often."""
    from activation.suppress import ALARM

    now = now or datetime.now(UTC)
    since = {change.condition: change.at for change in alerts.standing(home)}
    problems: dict[str, str | None] = {}
    for report in reports:
        if report.is_busy:
            continue
        failed, late = f"withdrawals at {report.name}", f"withdrawals late at {report.name}"
        problems[failed] = report.error
        if report.overdue:
            problems[late] = f"{len(report.overdue)} are not acknowledged for more than 24 hours"
        elif report.error is None:
            problems[late] = None
        elif failed in since and now - since[failed] > ALARM:
            # Nobody can tell then which of them it has.
            problems[late] = f"it could not be told of any for more than 24 hours: {report.error}"
    alerts.note(settings, home, problems | _refresh(home, None), now=now)


def note_refresh(settings: Settings, home: Home, failure: str | None = None, now: datetime | None = None) -> None:
    """Note how the last refresh ended.

    Args:
        failure: what stopped it, where that is known.
    """
    alerts.note(settings, home, _refresh(home, failure), now=now)


def _refresh(home: Home, failure: str | None) -> dict[str, str | None]:
    if failure is not None:
        return {REFRESH: failure}
    try:
        last = gate.read(home)
    except HomeError as error:
        return {REFRESH: str(error)}
    failed_at = next((change.at for change in alerts.standing(home) if change.condition == REFRESH), None)
    if last.failed and last.begun_at is not None:
        # What is known already says more than this.
        said = f"it began at {last.begun_at:%Y-%m-%d %H:%M} UTC and did not come through its checks"
        return {} if failed_at is not None else {REFRESH: said}
    if failed_at is not None and last.passed_at is not None and last.passed_at > failed_at:
        return {REFRESH: None}
    return {}
