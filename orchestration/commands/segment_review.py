"""`mailwright segments diff` and `explain`: what a change of segments does, and why a customer is in which."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.errors import MailwrightError
from orchestration.terminal import open_console, open_reporter, open_settings

if TYPE_CHECKING:
    from rich.console import Console

    from segments.diff import SegmentChange, SegmentDiff
    from segments.explain import Explanation, SegmentExplanation


def diff(
    revision: Annotated[
        str, typer.Argument(metavar="[REV]", help="A git revision to compare the working tree with.")
    ] = "HEAD",
    segment: Annotated[
        list[str] | None, typer.Option("--segment", metavar="NAME", help="Only this segment; may be repeated.")
    ] = None,
    markdown: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write Markdown for a pull request as well; with -, print that instead."),
    ] = None,
    backtest: Annotated[
        bool, typer.Option("--backtest", help="Replay both definitions over the past. Opens the warehouse.")
    ] = False,
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a picture of each replayed segment there.")
    ] = None,
    sample: Annotated[int, typer.Option(min=0, max=100, help="How many masked ids to show.")] = 5,
) -> None:
    """What a change of segments does: old and new definition on the same data and as_of.

    Who enters, leaves and stays, the overlap with other segments, and why it moved since the last release. Reads what is
    published; only a segment that refs something else has the warehouse opened.

    [dim]mailwright segments diff
    mailwright segments diff origin/main --segment high_clv --markdown -
    mailwright segments diff HEAD~3 --backtest --plots plots[/dim]
    """
    from core.home import open_home
    from segments.diff import diff as compare

    if plots is not None and not backtest:
        raise MailwrightError("--plots shows replays: give --backtest as well")
    settings = open_settings()
    home = open_home(settings)
    console = open_console(stderr=markdown == "-")
    with open_reporter(console).step("Compare the segments") as tick:
        found = compare(settings, home, revision, segment, sample=sample, backtest=backtest, notify=tick)
    if plots is not None:
        from segments.plots import draw

        for file in draw(found, plots):
            console.print(f"Written: {file}", highlight=False, soft_wrap=True)
    if markdown == "-":
        typer.echo(found.markdown(), nl=False)
        return
    _show_diff(console, found)
    if markdown is not None:
        file = Path(markdown)
        if not file.absolute().parent.is_dir():
            raise MailwrightError(f"--markdown {file}: there is no folder {file.absolute().parent}")
        file.write_text(found.markdown(), encoding="utf-8")
        console.print(f"Written: {file}", highlight=False, soft_wrap=True)


def explain(
    customer: Annotated[str, typer.Argument(metavar="CUSTOMER", help="A customer's id, or the beginning of one.")],
    segment: Annotated[
        list[str] | None,
        typer.Option(
            "--segment", metavar="NAME", help="Also this segment, if the customer never was in it; repeatable."
        ),
    ] = None,
) -> None:
    """Which segments a customer is in or was in, and why: each condition with its value, since when, and what holds them.

    Reads published marts and releases, and shows no personal data.

    [dim]mailwright segments explain 4f1a
    mailwright segments explain 4f1a --segment high_clv[/dim]
    """
    from core.home import open_home
    from segments.explain import explain as tell

    settings = open_settings()
    home = open_home(settings)
    console = open_console()
    _show_explanation(console, tell(settings, home, customer, segment, notify=console.print))


def _show_diff(console: Console, found: SegmentDiff) -> None:
    from orchestration.showing import table
    from segments.diff import HEADER

    given, commit = found.revision
    if not found.changes:
        console.print(f"No segment differs from {given} ({commit[:10]}).", highlight=False)
        return
    console.print(f"Compared with {given} ({commit[:10]}), on {found.data}", highlight=False, soft_wrap=True)
    table(console, HEADER, found.rows())
    for change in found.changes:
        _show_change(console, change)
        if backtest := found.backtests.get(change.name):
            for title, header, rows in backtest.tables():
                table(console, header, rows, f"{change.name}: {title}")
            for note in backtest.notes:
                console.print(f"  {note}", style="yellow", highlight=False, soft_wrap=True)
    for name, reason in sorted(found.left_out.items()):
        console.print(f"Not in the overlaps: {name} ({reason})", style="yellow", highlight=False, soft_wrap=True)


def _show_change(console: Console, change: SegmentChange) -> None:
    from orchestration.showing import pairs

    said = {what: f"{before} → {after}" for what, before, after in change.difference.metadata}
    if change.overlaps:
        said["shared with"] = ", ".join(f"{one.other} {one.before:,} → {one.after:,}" for one in change.overlaps)
    if change.entered_sample:
        said["some that enter"] = ", ".join(change.entered_sample)
    if change.left_sample:
        said["some that leave"] = ", ".join(change.left_sample)
    if change.moved is not None:
        said["moved"] = change.moved.describe()
    if not said and not change.notes:
        return
    pairs(console, said, change.name)
    for note in change.notes:
        console.print(f"  {note}", style="yellow", highlight=False, markup=False, soft_wrap=True)


def _show_explanation(console: Console, found: Explanation) -> None:
    from orchestration.showing import pairs

    pairs(
        console,
        {
            "customer": found.customer_id,
            "as of": found.as_of_text,
            "in segments": ", ".join(one.name for one in found.segments if one.is_member) or "none",
            **({"can be mailed": found.sendability.describe()} if found.sendability is not None else {}),
        },
    )
    for one in found.segments:
        _show_segment(console, one)


def _show_segment(console: Console, one: SegmentExplanation) -> None:
    from orchestration.showing import table

    console.print(f"\n[bold]{one.name}[/bold]: {one.verdict}", highlight=False, soft_wrap=True)
    if one.description:
        console.print(f"  {one.description}", style="dim", highlight=False, markup=False, soft_wrap=True)
    for line in one.history:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    if one.problem:
        console.print(f"  {one.problem}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    if one.conditions:
        rows = [
            (
                {True: "yes", False: "no", None: "not reached"}[condition.holds]
                + (f" ({condition.rows_holding} of {condition.rows} rows)" if condition.rows > 1 else ""),
                condition.sql,
                ", ".join(f"{name} = {'none' if value is None else value}" for name, value in condition.values),
                condition.step,
            )
            for condition in one.conditions
        ]
        table(console, ("holds", "condition", "this customer", "in"), rows)
