"""The steps of a sync, each callable without Dagster: plan, apply, withdrawals, reconciling.

A destination whose keys are not in the environment is the home's sandbox, which comes up at the first call.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from core.errors import DestinationError, MailwrightError, PlanError
from core.home import Home
from core.settings import Settings
from orchestration import watching
from orchestration.progress import Reporter, Tick

if TYPE_CHECKING:
    from activation.apply import ApplyReport
    from activation.connector import Connector
    from activation.plan import Plan
    from activation.reconcile import Differences
    from activation.suppress import SuppressReport
    from activation.sync import Sync


def _wall_clock() -> datetime:
    return datetime.now(UTC)


@contextmanager
def connected(settings: Settings, home: Home, name: str) -> Iterator[tuple[Sync, Connector]]:
    """The sync of that name and its destination.

    Raises:
        PlanError: there is no such sync, or its document is wrong.
    """
    from activation import destinations, sync

    read = sync.read(settings, name)
    connector = destinations.open(settings, home, read)
    try:
        yield read, connector
    finally:
        connector.close()


def plan_sync(
    settings: Settings,
    home: Home,
    name: str,
    *,
    release: int | None = None,
    full: bool = False,
    retry_rejected: bool = False,
    reporter: Reporter | None = None,
    now: datetime | None = None,
) -> Plan:
    """Compare a release with what the destination has acknowledged, and keep the difference as a plan.

    Raises:
        PlanError: there is no release or no such sync, or the ledger is older than the home.
        DestinationError: a first plan reads the members that are there, and could not.
    """
    from activation import plan, releases

    now = now or datetime.now(UTC)
    with (reporter or Reporter()).step(f"Plan {name}"), connected(settings, home, name) as (sync, to):
        wanted = releases.read(home, release) if release is not None else None
        made = plan.make(settings, home, sync, wanted, connector=to, full=full, retry_rejected=retry_rejected, now=now)
    if release is None:
        watching.note_plan(settings, home, made, now)
    return made


def plan_known(settings: Settings, home: Home, reporter: Reporter) -> dict[str, Plan | MailwrightError]:
    """Plan every sync that was planned before; what keeps one from being planned holds up no other.

    A destination's first plan is made by hand, as it reads who is there already.
    """
    from activation import plan, sync

    found: dict[str, Plan | MailwrightError] = {}
    for name in sync.names():
        if plan.was_planned(home, name):
            try:
                found[name] = plan_sync(settings, home, name, reporter=reporter)
            except MailwrightError as error:
                found[name] = error
    return found


def apply_sync(
    settings: Settings,
    home: Home,
    name: str,
    *,
    plan_hash: str | None = None,
    override: Collection[str] = (),
    reporter: Reporter | None = None,
) -> ApplyReport:
    """Carry out a kept plan.

    Args:
        plan_hash: which plan; the newest by default.
        override: breakers that are to let it pass, by name; noted in the ledger with who said so.

    Raises:
        PlanError: there is no such plan, it is out of date, or a breaker stops it.
        DestinationError: the platform can't be reached or refuses us.
    """
    from activation import plan

    kept = plan.read(home, name, plan_hash)
    with watching.watched_sync(settings, home, name, unattended=False):
        return _apply(settings, home, kept, override, reporter or Reporter(), _wall_clock)


def run_sync(
    settings: Settings,
    home: Home,
    name: str,
    *,
    reporter: Reporter | None = None,
    now: Callable[[], datetime] = _wall_clock,
) -> tuple[Plan, ApplyReport]:
    """Carry out a sync that runs by itself: go on with its plan where one was interrupted, else plan; then apply.

    Where the destination is down it is noted that this is to be tried again, until the plan expires.

    Raises:
        PlanError: as `plan_sync` and `apply_sync`; TrippedError, as nobody is there to override a breaker.
        DestinationError: the platform can't be reached or refuses us.
    """
    from activation import drops
    from activation.apply import TrippedError

    with watching.watched_sync(settings, home, name, unattended=True, now=now):
        wanted = _unfinished(settings, home, name, now())
        wanted = wanted or plan_sync(settings, home, name, reporter=reporter, now=now())
        try:
            return wanted, _apply(settings, home, wanted, (), reporter or Reporter(), now)
        except DestinationError:
            drops.note_retried(home, name, wanted.expires_at)
            raise
        except TrippedError:
            drops.note_retried(home, name, None)  # somebody has to look at it first
            raise


def waiting_for_destinations(home: Home, names: Sequence[str], now: datetime) -> list[str]:
    """Those of the syncs whose destination is down, and which are to be tried again."""
    from activation import drops

    return [name for name in names if drops.is_retried(home, name, now)]


def clear_expired_drops(home: Home, now: datetime) -> list[str]:
    """Delete emergency drops that must not be imported any more; returns their names."""
    from activation import drops

    return drops.clear_expired(home, now)


def suppress_syncs(
    settings: Settings, home: Home, names: Sequence[str] | None = None, *, reporter: Reporter | None = None
) -> list[SuppressReport]:
    """Push every withdrawal that a destination does not know of yet.

    Args:
        names: of syncs; by default all that were ever planned: no other knows anybody.
    """
    from activation import plan, suppress, sync

    known = names or [name for name in sync.names() if plan.was_planned(home, name)]
    with (reporter or Reporter()).step("Push withdrawals"):
        reports = suppress.suppress(settings, home, known)
    watching.note_withdrawals(settings, home, reports)
    return reports


def reconcile_sync(
    settings: Settings,
    home: Home,
    name: str,
    *,
    repair: bool = False,
    resend: bool = False,
    reporter: Reporter | None = None,
) -> Differences:
    """Read a destination and compare it with the ledger; with `repair` the ledger follows what is there."""
    from activation import reconcile

    with (reporter or Reporter()).step(f"Read {name}"), connected(settings, home, name) as (sync, to):
        return reconcile.reconcile(settings, home, sync, connector=to, repair=repair, resend=resend)


def _apply(
    settings: Settings,
    home: Home,
    plan: Plan,
    override: Collection[str],
    reporter: Reporter,
    now: Callable[[], datetime],
) -> ApplyReport:
    from activation import apply

    with (
        connected(settings, home, plan.destination) as (_, to),
        reporter.step(f"Apply {plan.destination}", total=plan.operations or None) as tick,
    ):
        by = getpass.getuser() if override else None
        return apply.apply(
            settings, home, plan, connector=to, override=override, by=by, progress=_stepwise(tick), now=now
        )


def _unfinished(settings: Settings, home: Home, name: str, now: datetime) -> Plan | None:
    """The kept plan that an apply of it was interrupted in, where it can still be gone on with.

    Planning anew would compare with what is half done: of a first plan, the rest would trip the breaker `added`.
    """
    from activation import plan, releases
    from activation.ledger import Ledger

    try:
        kept = plan.read(home, name)
    except PlanError:
        return None
    newest = releases.latest(home)
    if newest is None or newest.number != kept.release or kept.expires_at <= now:
        return None
    with Ledger(home, settings) as ledger:
        is_begun = ledger.standing(kept.target).plan_hash == kept.hash
        return kept if is_begun and not ledger.is_done(kept.target, kept.hash) else None


def _stepwise(tick: Tick) -> Callable[[int, int], None]:
    """Turn "so many of so many are done" into one tick per thing done."""
    told = 0

    def progress(done: int, total: int) -> None:
        nonlocal told
        for _ in range(done - told):
            tick("")
        told = done

    return progress
