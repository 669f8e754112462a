"""The steps of a sync, each callable without Dagster: plan, apply, withdrawals, reconciling.

A destination whose keys are not in the environment is the home's sandbox, which comes up at the first call.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from core.errors import MailwrightError
from core.home import Home
from core.settings import Settings
from orchestration.progress import Reporter, Tick

if TYPE_CHECKING:
    from activation.apply import ApplyReport
    from activation.connector import Connector
    from activation.plan import Plan
    from activation.reconcile import Differences
    from activation.suppress import SuppressReport
    from activation.sync import Sync


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
) -> Plan:
    """Compare a release with what the destination has acknowledged, and keep the difference as a plan.

    Raises:
        PlanError: there is no release or no such sync, or the ledger is older than the home.
        DestinationError: a first plan reads the members that are there, and could not.
    """
    from activation import plan, releases

    with (reporter or Reporter()).step(f"Plan {name}"), connected(settings, home, name) as (sync, to):
        wanted = releases.read(home, release) if release is not None else None
        return plan.make(settings, home, sync, wanted, connector=to, full=full, retry_rejected=retry_rejected)


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
    from activation import apply, plan

    kept = plan.read(home, name, plan_hash)
    with (
        connected(settings, home, name) as (_, to),
        (reporter or Reporter()).step(f"Apply {name}", total=kept.operations or None) as tick,
    ):
        by = getpass.getuser() if override else None
        return apply.apply(settings, home, kept, connector=to, override=override, by=by, progress=_stepwise(tick))


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
        return suppress.suppress(settings, home, known)


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


def _stepwise(tick: Tick) -> Callable[[int, int], None]:
    """Turn "so many of so many are done" into one tick per thing done."""
    told = 0

    def progress(done: int, total: int) -> None:
        nonlocal told
        for _ in range(done - told):
            tick("")
        told = done

    return progress
