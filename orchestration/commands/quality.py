"""`mailwright quality`: what was delivered, what became of it, and which checks the data did not pass."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import MailwrightError
from orchestration.terminal import open_console, open_settings

if TYPE_CHECKING:
    from expectations.deliveries import Count, Delivered, Quality, TableDeliveries
    from expectations.results import CheckResult

SHOWN = 10
"""Deliveries told per table, the newest first."""

_MARKS = {"error": "✗", "warning": "!"}


def quality(
    source: Annotated[str | None, typer.Option(help="Only this source, such as shop or crm.")] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only deliveries received on this day or later.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything there is, for programs.")] = False,
) -> None:
    """What was delivered, what became of it, and which checks the data did not pass.

    Each table's deliveries over time with their accepted, superseded and rejected rows and why, changes of columns, and
    the failed checks of the last refresh. Reads the lake's manifest and quarantine and the last results, never the
    warehouse, so it works at any time. The same stands in the data docs, on the page Deliveries.

    Exit code 1 if a check of severity error failed in the last run that made it; warnings leave it at 0.

    Example: mailwright quality --source crm --since 2026-01-01
    """
    from core.contract import load_contract
    from core.home import open_home
    from expectations import deliveries

    sources = dict.fromkeys(table.source for table in load_contract().tables.values())
    if source is not None and source not in sources:
        raise MailwrightError(f"there is no source {source}; the contract has: {', '.join(sources)}")
    home = open_home(open_settings())
    known = deliveries.read(home, source=source, since=since.date() if since else None)
    if as_json:
        typer.echo(json.dumps(asdict(known), default=str, indent=2))
    else:
        console = open_console()
        for line in describe(known):
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        if (page := home.docs / "gx" / "deliveries.html").exists():
            console.print(f"Data docs: {page}", highlight=False, markup=False, soft_wrap=True)
    if any(check.blocks for check in known.failed):
        raise typer.Exit(1)


def describe(known: Quality) -> Iterator[str]:
    """The same for people, line by line."""
    if not known.tables:
        yield "Nothing was delivered."
    for table in known.tables:
        yield from _deliveries(table)
    for points in known.contact_points:
        yield f"{points.kind}: {points.values:,} different values{_because(points.problems, ', not usable: ')}"
    yield from _checks(known)


def _deliveries(table: TableDeliveries) -> Iterator[str]:
    number = len(table.deliveries)
    superseded = f" ({table.superseded_because})" if table.total("superseded") else ""
    yield (
        f"{table.full_name}: {number:,} {'delivery' if number == 1 else 'deliveries'}, {table.total('read'):,} rows read:"
        f" {table.total('accepted'):,} accepted, {table.total('superseded'):,} superseded{superseded},"
        f" {table.total('rejected'):,} rejected"
        + (f", {table.total('erased'):,} erased" if table.total("erased") else "")
    )
    for one in table.deliveries[: -SHOWN - 1 : -1]:
        yield from _delivery(one)
    if number > SHOWN:
        yield f"  and {number - SHOWN:,} earlier"


def _delivery(one: Delivered) -> Iterator[str]:
    parts = (("superseded", one.superseded), ("rejected", one.rejected), ("erased", one.erased))
    told = "".join(f", {rows:,} {part}" for part, rows in parts if rows)
    history = ", as history" if one.historical else ""
    yield (
        f"  {one.received_at:%Y-%m-%d} delivery {one.sequence}{history}: {one.read:,} read, {one.accepted:,} accepted{told}"
    )
    for reason in one.rejected_because:
        yield f"      rejected: {reason.said} ({reason.number:,})"
    for change in one.changes:
        yield f"    {_MARKS['warning'] if change.severity == 'warning' else ' '} columns: {change.said}"
    for notice in one.notices:
        yield f"      {notice}"


def _checks(known: Quality) -> Iterator[str]:
    if not known.results:
        yield "No check has run yet: mailwright refresh"
        return
    checks = [check for result in known.results for check in result.checks]
    failed = known.failed
    errors = sum(check.blocks for check in failed)
    skipped = sum(check.skipped for check in checks)
    newest = max(result.as_of for result in known.results)
    yield (
        f"Checks of the last run, as of {newest:%Y-%m-%d %H:%M} UTC: {len(checks) - len(failed) - skipped:,} passed,"
        f" {len(failed) - errors:,} warned, {errors:,} failed" + (f", {skipped:,} without data" if skipped else "")
    )
    for check in failed:
        yield from _failed(check)


def _failed(check: CheckResult) -> Iterator[str]:
    yield f"  {_MARKS[check.severity]} {check.severity} {check.table} {check.name}: {check.found}"
    yield f"      {check.description}"
    if check.reason is not None:
        yield f"      only a warning: {check.reason}"
    if check.rows:
        yield f"      among them: {'; '.join(check.rows)}"


def _because(counts: tuple[Count, ...], lead: str) -> str:
    return lead + ", ".join(f"{one.said} ({one.number:,})" for one in counts) if counts else ""
