"""How each destination stands: for `mailwright status`. Reads the ledger and kept plans; calls nobody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from activation import destinations, drops, plan, releases, sync
from activation.ledger import Ledger
from core.errors import MailwrightError, PlanError
from core.home import Home
from core.settings import Settings


@dataclass(frozen=True)
class DestinationStatus:
    """One destination.

    Attributes:
        name: of its sync.
        goes_to: which account, for people.
        release: the one that it stands at; None before the first apply.
        behind: releases that are newer than that; None before the first apply.
        contacts: those that it has acknowledged and that may be mailed.
        run: the last run: kind, outcome and when it ended, in UTC without a zone; None where there was none.
        rejects: rows that it refused and has not taken since.
        waiting: changes of the newest kept plan, where that is not carried out.
        breakers: names of those that stop it.
        down_since: since when it takes no plan, aware; None where it does.
        problem: why nothing can be said of it.
    """

    name: str
    goes_to: str
    release: int | None = None
    behind: int | None = None
    contacts: int = 0
    run: tuple[str, str, datetime | None] | None = None
    rejects: int = 0
    waiting: int = 0
    breakers: tuple[str, ...] = ()
    down_since: datetime | None = None
    problem: str | None = None


def statuses(settings: Settings, home: Home) -> list[DestinationStatus]:
    """Every destination that was ever planned. What is wrong with one is said of it, and stops no other."""
    found = []
    with Ledger(home, settings) as ledger:
        for name in sync.names():
            if not plan.was_planned(home, name):
                continue
            try:
                found.append(_status(settings, home, ledger, name))
            except MailwrightError as error:
                found.append(DestinationStatus(name, "", problem=str(error)))
    return found


def _status(settings: Settings, home: Home, ledger: Ledger, name: str) -> DestinationStatus:
    read = sync.read(settings, name)
    connector = destinations.open(settings, home, read)
    try:
        target, goes_to = connector.target, connector.description
    finally:
        connector.close()
    problem = None
    try:
        ledger.standing(target)
    except PlanError as error:
        problem = str(error)
    standing = ledger.standing(target, restored=True)
    counts = ledger.counts(target)
    runs = ledger.last_runs(1, target)
    waiting, breakers = _kept(home, name, ledger, target)
    down = drops.down_since(home, name)
    behind = None
    if standing.release is not None:
        behind = sum(number > standing.release for number in releases.numbers(home))
    return DestinationStatus(
        name,
        goes_to,
        standing.release,
        behind,
        counts.get("synced", 0),
        _run(runs[0]) if runs else None,
        counts["dead letters"],
        waiting,
        breakers,
        down,
        problem,
    )


def _run(row: dict[str, Any]) -> tuple[str, str, datetime | None]:
    return str(row["kind"]), str(row["outcome"]), row["ended_at"]


def _kept(home: Home, name: str, ledger: Ledger, target: str) -> tuple[int, tuple[str, ...]]:
    made = plan.read(home, name)
    if made.is_empty or made.target != target or ledger.is_done(target, made.hash):
        return 0, ()
    return made.operations, tuple(tripped.name for tripped in made.tripped)
