"""What the commands show, for people: summaries and tables without a word of personal data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from core.home import Home
from core.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from activation.plan import Plan
    from activation.suppress import SuppressReport
    from orchestration.workshop import Tally


def pairs(console: Console, said: Mapping[str, Any], title: str | None = None) -> None:
    """Label to value, one per line."""
    if title:
        console.print(f"\n[bold]{title}[/bold]")
    width = max((len(label) for label in said), default=0)
    for label, value in said.items():
        console.print(f"  {label.replace('_', ' '):<{width}}  {_shown(value)}", highlight=False, soft_wrap=True)


def table(console: Console, header: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """Rows under a header; numbers to the right."""
    from rich.table import Table

    if title:
        console.print(f"\n[bold]{title}[/bold]")
    shown = Table(box=None, pad_edge=False, padding=(0, 2))
    for position, name in enumerate(header):
        number = bool(rows) and all(isinstance(row[position], int | float) for row in rows)
        shown.add_column(name, justify="right" if number else "left", header_style="dim", overflow="fold")
    for row in rows:
        shown.add_row(*(_shown(value) for value in row))
    console.print(shown, highlight=False)


def refresh_summary(console: Console, home: Home, tally: Tally) -> None:
    """What a refresh did."""
    facts = tally.facts
    changed = facts.get("changed_tables", [])
    pairs(
        console,
        {
            "as of": facts.get("as_of", ""),
            "models built": tally.models,
            "checks": tally.checks,
            "published": f"{home.published / 'marts.duckdb'} "
            + (f"({len(changed)} tables changed)" if changed else "(nothing changed)"),
            "release": facts.get("release", "none"),
            "seconds": f"{sum(tally.seconds.values()):.0f}",
        },
    )
    for problem in facts.get("segments_set_aside", []):
        console.print(f"  set aside: {problem}", style="yellow", highlight=False, soft_wrap=True, markup=False)
    if facts.get("segments_set_aside"):
        console.print("  They keep the members of their last good release; the other segments went on.")
    for name in tally.unheeded:
        console.print(f"  [yellow]warning:[/yellow] check {name} did not pass", highlight=False, soft_wrap=True)
    console.print("Next: mailwright plan mailchimp, mailwright status, or mailwright ui")


def plan_tables(plan: Plan) -> list[tuple[str, Sequence[str], Sequence[Sequence[Any]]]]:
    """Title, header and rows of what is in a plan."""
    tags = sorted({*plan.tag_adds, *plan.tag_removes})
    return [
        (title, header, rows)
        for title, header, rows in (
            ("Who is in it", ("step", "addresses"), plan.funnel),
            (
                "Memberships",
                ("tag", "to add", "to remove"),
                [(tag, plan.tag_adds.get(tag, 0), plan.tag_removes.get(tag, 0)) for tag in tags],
            ),
            ("Fields that change", ("field", "contacts"), sorted(plan.updates_by_field.items())),
            ("Automations that start", ("segment", "contacts"), sorted(plan.automations.items())),
            ("Calls", ("kind", "calls"), sorted(plan.calls.items())),
        )
        if rows
    ]


WITHDRAWALS = ("destination", "unsubscribed", "erased", "refused", "not yet", "p50", "p95", "over 24 h")


def withdrawal_rows(reports: Sequence[SuppressReport]) -> list[tuple[Any, ...]]:
    """One row per destination, under the header `WITHDRAWALS`."""
    return [
        (
            report.name,
            report.unsubscribed,
            report.erased,
            report.rejected,
            report.pending,
            _span(report.p50),
            _span(report.p95),
            len(report.overdue),
        )
        for report in reports
    ]


def show_status(console: Console, settings: Settings, home: Home) -> None:
    """Everything that can be known of a home without opening its warehouse."""
    from activation import releases
    from orchestration.publishing import read_publication, segment_sizes
    from orchestration.refresh import read_stock

    pairs(
        console,
        {
            "home": home.root,
            "timezone": home.timezone,
            "currency": home.currency,
            "as of": local_date(home) if home.as_of else "follows the clock",
        },
    )
    show_alerts(console, home)
    stock = read_stock(home)
    rows = [
        (
            said.table.full_name,
            said.deliveries,
            said.rows_accepted,
            said.rows_superseded,
            said.rows_rejected,
            local(said.last_received_at, home),
        )
        for said in stock.tables.values()
        if said.deliveries
    ]
    if rows:
        header = ("table", "deliveries", "accepted", "superseded", "rejected", "last received")
        table(console, header, rows, "Deliveries")
    else:
        console.print("\nNothing was delivered yet: mailwright sample online-retail, or mailwright load")
    if absent := [source for source, present in stock.sources.items() if not present]:
        console.print(f"  [dim]without: {', '.join(absent)}[/dim]", highlight=False, soft_wrap=True)
    publication = read_publication(home)
    if publication is None:
        console.print("\nNot refreshed yet: mailwright refresh")
    else:
        said = {
            "as of": local(publication.as_of, home),
            "finished": local(publication.finished_at, home),
            **publication.facts,
            "published tables": len(publication.tables),
        }
        pairs(console, said, "Last refresh")
        sizes = [(name, count) for name, count, _ in segment_sizes(home)]
        table(console, ("segment", "customers"), sizes, "Segments")
    release = releases.latest(home)
    console.print("\n[bold]Activation[/bold]")
    said_release = (
        f"{release.number}, {release.counts['profiles']:,} sendable contacts" if release is not None else "none yet"
    )
    if (held := releases.hold(home)) is not None:
        said_release += f"; held, as rolled back to {held.reverts_to}, until `mailwright releases resume`"
    pairs(console, {"release": said_release, "sandbox": sandbox_line(home)})
    show_destinations(console, settings, home)


def show_alerts(console: Console, home: Home) -> None:
    """What is wrong now, in red."""
    from orchestration.alerts import standing

    found = standing(home)
    console.print(f"\n[bold]Alerts[/bold]{'' if found else ': none'}")
    for change in found:
        said = f"  {change.condition}, since {local(change.at, home)}: {change.words}"
        if change.untold:
            said += f" (not delivered by {', '.join(change.untold)})"
        console.print(said, style="red", highlight=False, soft_wrap=True, markup=False)


def show_destinations(console: Console, settings: Settings, home: Home) -> None:
    """How each destination stands: lag, last run, rejects, breakers."""
    from activation.status import statuses

    found = statuses(settings, home)
    if not found:
        console.print("  No destination was planned yet: mailwright plan mailchimp")
        return
    rows = [
        (
            one.name,
            one.goes_to,
            "none yet" if one.release is None else f"{one.release}{f', {one.behind} behind' if one.behind else ''}",
            one.contacts,
            f"{one.run[0]} {one.run[1]}, {local(one.run[2], home)}" if one.run else "never",
            one.rejects,
            one.waiting,
            ", ".join(one.breakers) or "none",
        )
        for one in found
    ]
    header = ("destination", "goes to", "release", "contacts", "last run", "refused", "changes waiting", "breakers")
    table(console, header, rows, "Destinations")
    for one in found:
        if one.down_since is not None:
            console.print(
                f"  {one.name}: takes nothing since {local(one.down_since, home)}", style="red", highlight=False
            )
        if one.problem:
            console.print(f"  {one.name}: {one.problem}", style="red", highlight=False, soft_wrap=True, markup=False)


def sandbox_line(home: Home) -> str:
    """Whether the sandbox runs."""
    from activation.sandbox import process

    running = process.status(home)
    return running.url if running is not None else "not running (mailwright sandbox)"


def sandbox_contents(home: Home) -> dict[str, str]:
    """What the sandbox holds, by platform; empty if it was never started."""
    from activation.sandbox import people

    found = {path.stem: people.contents(home.sandbox, path.stem) for path in sorted(home.sandbox.glob("*.sqlite"))}
    return {
        name: ", ".join(f"{number:,} {what}" for what, number in held.items())
        for name, held in found.items()
        if any(held.values())
    }


def local_date(home: Home) -> str:
    """The home's natural as_of, for people."""
    return local(home.as_of, home) if home.as_of else "now"


def _span(span: timedelta | None) -> str:
    if span is None:
        return "-"
    return str(timedelta(seconds=round(span.total_seconds())))


def local(moment: Any, home: Home) -> str:
    """An instant, naive UTC or aware, in business time."""
    from datetime import UTC

    if moment is None:
        return "never"
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return str(aware.astimezone(ZoneInfo(home.timezone)).strftime("%Y-%m-%d %H:%M"))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.3g}" if isinstance(value, float) else str(value)
