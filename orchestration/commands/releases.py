"""`mailwright releases` and `mailwright rollback`: what was released, what changed between two releases, going back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.terminal import open_console, open_settings

if TYPE_CHECKING:
    from rich.console import Console

    from activation.comparison import Comparison, SegmentChange

app = typer.Typer(help="Releases: what was frozen, how two differ, and ending a rollback.", no_args_is_help=True)

NumberArgument = Annotated[int, typer.Argument(metavar="N", min=1, help="The release's number.")]


@app.command("list")
def list_() -> None:
    """Every release that is kept, the newest last."""
    from activation import releases
    from core.home import open_home
    from orchestration.showing import local, table

    home = open_home(open_settings())
    console = open_console()
    there = releases.numbers(home)
    if not there:
        console.print("There is no release yet: mailwright refresh")
        return
    held = releases.hold(home)
    rows = []
    for number in there:
        release = releases.read(home, number)
        notes = [f"reverts to {release.reverts_to}"] if release.reverts_to is not None else []
        notes += ["held"] if held is not None and held.release == number else []
        stale = sum(not state.fresh for state in release.states.values())
        notes += [f"{stale} segments kept from before"] if stale else []
        rows.append((
            number,
            local(release.as_of, home),
            release.counts["profiles"],
            release.counts["memberships"],
            len(release.states),
            release.code_revision or "unknown",
            ", ".join(notes),
        ))  # fmt: skip
    header = ("release", "as of", "sendable", "memberships", "segments", "code", "")
    table(console, header, rows)
    if held is not None:
        console.print(_HELD)


@app.command()
def show(number: NumberArgument) -> None:
    """One release: what it holds, how fresh each segment is, and whether it is as it was frozen."""
    from activation import releases
    from core.errors import ReleaseError
    from core.home import open_home
    from orchestration.showing import local, pairs, table

    home = open_home(open_settings())
    console = open_console()
    release = releases.read(home, number)
    try:
        releases.verify(home, release)
        state = "as it was frozen" if release.layout > 1 else "made by an earlier version, which kept no hashes"
    except ReleaseError as error:
        state = str(error)
    held = releases.hold(home)
    said: dict[str, Any] = {
        "release": f"{number}{', held' if held is not None and held.release == number else ''}",
        "as of": local(release.as_of, home),
    }
    if release.confirmed_at is not None:
        said["found the same as of"] = local(release.confirmed_at, home)
    if release.reverts_to is not None:
        said["reverts to"] = release.reverts_to
    said |= {
        "previous": release.previous or "none",
        "code": release.code_revision or "unknown",
        **release.versions,
        "content": release.content_hash,
        "checked": state,
    }
    pairs(console, said)
    counted = sorted(release.counts.items())
    table(console, ("table", "rows"), counted, "Tables")
    rows = [
        (
            name,
            found.members,
            "fresh" if found.fresh else "kept from before",
            local(found.as_of, home) if found.as_of else "never",
        )
        for name, found in release.states.items()
    ]
    if rows:
        table(console, ("segment", "customers", "", "as of"), rows, "Segments")


@app.command()
def diff(
    before: Annotated[int, typer.Argument(metavar="A", min=1, help="The earlier release.")],
    after: Annotated[int, typer.Argument(metavar="B", min=1, help="The later release.")],
) -> None:
    """How release B differs from release A: segments, who moved and why, profiles, fields. Numbers only.

    [dim]mailwright releases diff 3 4[/dim]
    """
    from activation.comparison import compare
    from core.home import open_home

    settings = open_settings()
    home = open_home(settings)
    show_comparison(open_console(), compare(settings, home, before, after))


@app.command()
def resume() -> None:
    """End a rollback: the next refresh freezes what it finds, and the plan after it brings that to the platform."""
    from activation import rollback as rollbacks
    from core.home import open_home

    console = open_console()
    ended = rollbacks.resume(open_home(open_settings()))
    if ended is None:
        console.print("Nothing is held: every refresh may make a release.")
        return
    console.print(f"Release {ended.release}, which reverts to {ended.reverts_to}, is held no longer.", highlight=False)
    console.print("Next: mailwright refresh")


def rollback(
    number: Annotated[int, typer.Argument(metavar="N", min=1, help="The release to go back to.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")] = False,
) -> None:
    """Go back to release N, and stay there until `mailwright releases resume`.

    Makes a new release with N's audiences, which further refreshes leave as it is. Nothing is sent: the next plan lists
    what has to be undone at the platform. Who withdrew since stays out.

    [dim]mailwright rollback 12 && mailwright plan mailchimp[/dim]
    """
    from activation import rollback as rollbacks
    from core.home import open_home
    from orchestration.showing import pairs

    settings = open_settings()
    home = open_home(settings)
    console = open_console()
    expected = rollbacks.preview(settings, home, number)
    pairs(console, expected.summary())
    show_comparison(console, expected.comparison)
    if not yes:
        typer.confirm(f"\nGo back to release {number}?", abort=True)
    made = rollbacks.rollback(settings, home, number)
    console.print(f"\nRelease {made.number} reverts to {number}. {_HELD}", highlight=False, soft_wrap=True)
    console.print("Nothing was sent. Next: mailwright plan mailchimp")


_HELD = "It is held: refreshes make no release until `mailwright releases resume`."


def show_comparison(console: Console, compared: Comparison) -> None:
    """Tables of a comparison, without a word of personal data."""
    from orchestration.showing import table

    if compared.is_empty:
        console.print("Profiles and memberships are the same.")
        return
    rows = [_segment_row(segment) for segment in compared.segments]
    if rows:
        table(console, ("segment", "before", "after", "entered", "left", "causes"), rows, "Segments")
    table(
        console,
        ("profiles", "number"),
        [
            ("added", compared.profiles_added),
            ("removed", compared.profiles_removed),
            ("in both", compared.profiles_kept),
        ],
        "Profiles",
    )
    if compared.fields:
        table(console, ("field", "profiles"), sorted(compared.fields.items()), "Fields that differ")


def _segment_row(segment: SegmentChange) -> tuple[Any, ...]:
    causes = ", ".join(f"{cause} {count:,}" for cause, count in segment.causes.items())
    before = "-" if segment.before is None else segment.before
    after = "-" if segment.after is None else segment.after
    return (segment.segment, before, after, segment.entered, segment.left, causes)
