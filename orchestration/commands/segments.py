"""`mailwright segments`: segments as code, checked and compared without the warehouse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from orchestration.commands import segment_review
from orchestration.terminal import open_console, open_settings

if TYPE_CHECKING:
    from pathlib import Path

    from core.home import Home
    from core.settings import Settings

app = typer.Typer(help="Segments as code: begin one, check all, see how they overlap.", no_args_is_help=True)


@app.command()
def new(name: Annotated[str, typer.Argument(help="Small letters, digits and underscores.")]) -> None:
    """Begin a segment: one SQL file and one YAML file, to be filled in.

    [dim]mailwright segments new loyal_in_france[/dim]
    """
    from segments.scaffold import scaffold

    settings = open_settings()
    console = open_console()
    query, description = scaffold(settings.project_dir / "dbt_project", name)
    for path in (query, description):
        console.print(f"Written: {path.relative_to(settings.project_dir)}", highlight=False, soft_wrap=True)
    console.print("Next: say in the SQL who is in it, and in the YAML what it is for; then")
    console.print("  mailwright segments check       # is all of it stated, and how many are they?")
    console.print(
        f"  mailwright segments diff --segment {query.stem.removeprefix('seg_')}   # who would enter and leave"
    )
    console.print("  mailwright refresh              # its members, its tag in the next plan")


@app.command("list")
def list_() -> None:
    """Every segment with its purpose, owner, cadence and members of the last refresh."""
    from orchestration.publishing import segment_sizes
    from orchestration.showing import table
    from segments.definitions import survey
    from segments.setting_aside import set_aside

    settings = open_settings()
    home = _home(settings)
    console = open_console()
    found = survey(settings.project_dir / "dbt_project")
    sizes = {name: customers for name, customers, _ in segment_sizes(home)} if home is not None else {}
    broken = {problem.segment for problem in found.problems} | (set(set_aside(home)) if home is not None else set())
    rows = [
        (
            segment.name,
            f"{sizes[segment.name]:,}" if segment.name in sizes else "",
            "set aside" if segment.name in broken else segment.cadence,
            segment.owner or "",
            segment.purpose or "",
        )
        for segment in found.segments
    ]
    rows += [(problem.segment, "", "set aside", "", "") for problem in found.problems]
    table(console, ("segment", "customers", "cadence", "owner", "purpose"), sorted(rows))


@app.command()
def check() -> None:
    """Is every segment usable, described, of its expected size, and large enough to show its effect?

    Looks at the files and at the published marts, never at the warehouse. Ends with 1 if something has to be corrected.
    """
    from orchestration.showing import table
    from segments import checks

    settings = open_settings()
    console = open_console()
    report = checks.check(_home(settings), settings.project_dir / "dbt_project")
    table(console, checks.HEADER, [row.cells for row in report.rows])
    for kind, style, said in (
        ("error", "red", report.errors),
        ("warning", "yellow", report.warnings),
        ("note", "dim", report.notes),
    ):
        for line in said:
            console.print(f"{kind}: {line}", style=style, highlight=False, soft_wrap=True, markup=False)
    if report.errors:
        raise typer.Exit(1)
    console.print("Nothing has to be corrected.")


@app.command()
def overlap() -> None:
    """How much of each segment lies in each other one, as of the last refresh."""
    from core.home import open_home
    from orchestration.publishing import segment_overlap

    open_console().print(segment_overlap(open_home(open_settings())).table(), highlight=False)


@app.command()
def campaigns() -> None:
    """Who is addressed as a member of which segment in each campaign of campaigns.yml: each customer once."""
    import duckdb

    from orchestration.showing import table
    from segments.campaigns import check_campaigns, read_campaigns, waterfall
    from segments.definitions import survey

    settings = open_settings()
    console = open_console()
    project = settings.project_dir / "dbt_project"
    found, problems = read_campaigns(project)
    problems += check_campaigns(found, survey(project).names)
    with duckdb.connect(str(_published(settings)), read_only=True) as connection:
        steps = waterfall(connection, "segment_memberships", found)
    for campaign in found:
        mine = [step for step in steps if step.campaign == campaign.name]
        rows = [(step.priority, step.segment, step.members, step.addressed) for step in mine]
        rows_shown = [*rows, ("", "together", "", sum(step.addressed for step in mine))]
        title = f"{campaign.name}: {campaign.description}" if campaign.description else campaign.name
        table(console, ("", "segment", "customers", "addressed as"), rows_shown, title)
    if not found and not problems:
        console.print("There are no campaigns: dbt_project/campaigns.yml names none.")
    for line in problems:
        console.print(f"error: {line}", style="red", highlight=False, soft_wrap=True, markup=False)
    if problems:
        raise typer.Exit(1)


app.command()(segment_review.diff)
app.command()(segment_review.explain)


def _home(settings: Settings) -> Home | None:
    """The home, or None where there is none yet: files can be checked all the same."""
    from core.home import MARKER, open_home

    return open_home(settings) if (settings.home / MARKER).exists() else None


def _published(settings: Settings) -> Path:
    from core.errors import RefreshError
    from core.home import open_home

    path = open_home(settings).published / "marts.duckdb"
    if not path.exists():
        raise RefreshError("nothing is published yet: run `mailwright refresh`")
    return path
