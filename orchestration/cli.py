"""The command line: a thin face on the functions of the rooms.

Nothing slow is imported here: every command imports what it needs when it is called.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated

import typer

from core.errors import MailwrightError
from orchestration.commands import activate, alerts, identity, models, quality, quarantine, releases, segments
from orchestration.terminal import open_console, open_reporter, open_settings

app = typer.Typer(
    name="mailwright",
    help="From a retailer's raw customer data to audiences inside its email platform.",
    epilog="Everything is written to one folder, MAILWRIGHT_HOME (by default `data/` in the checkout).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
sample_app = typer.Typer(help="Fill a home with data to try it on.", no_args_is_help=True)
fits_app = typer.Typer(help="Constants learned from data: RFM cut points, the repurchase gap.", no_args_is_help=True)
app.add_typer(sample_app, name="sample", rich_help_panel="Data")
app.add_typer(quarantine.app, name="quarantine", rich_help_panel="Data")
app.add_typer(identity.app, name="identity", rich_help_panel="Run")
app.add_typer(fits_app, name="fits", rich_help_panel="Run")
app.add_typer(models.app, name="models", rich_help_panel="Run")
app.add_typer(segments.app, name="segments", rich_help_panel="Run")
app.command(rich_help_panel="Look")(quality.quality)
app.add_typer(alerts.app, name="alerts", rich_help_panel="Look")
app.add_typer(releases.app, name="releases", rich_help_panel="Activate")
app.command(rich_help_panel="Activate")(activate.plan)
app.command(rich_help_panel="Activate")(activate.apply)
app.command(rich_help_panel="Activate")(releases.rollback)
app.command(rich_help_panel="Activate")(activate.suppress)
app.command(rich_help_panel="Activate")(activate.reconcile)
app.add_typer(activate.syncs_app, name="syncs", rich_help_panel="Activate")
app.add_typer(activate.auth_app, name="auth", rich_help_panel="Activate")
app.add_typer(activate.sandbox_app, name="sandbox", rich_help_panel="Activate")

ResetOption = Annotated[bool, typer.Option("--reset", help="Delete the sample that is there, with its home, first.")]


def main() -> None:
    """Entry point: an error of ours is one clear line and exit code 1, never a traceback."""
    try:
        app()
    except MailwrightError as error:
        from rich.text import Text

        open_console(stderr=True).print(Text(f"Error: {error}", style="bold red"), soft_wrap=True)
        sys.exit(1)


# Data


@app.command(rich_help_panel="Data")
def init(
    timezone: Annotated[str | None, typer.Option(help="Business timezone, for example Europe/Warsaw.")] = None,
    currency: Annotated[str | None, typer.Option(help="Reporting currency, for example PLN.")] = None,
) -> None:
    """Make an empty home at MAILWRIGHT_HOME for data of your own.

    [dim]mailwright init --timezone Europe/Warsaw --currency PLN[/dim]
    """
    from core.errors import HomeError
    from core.home import Home

    settings = open_settings()
    zone, money = timezone or settings.timezone, currency or settings.currency
    if zone is None or money is None:
        raise HomeError("a new home needs a timezone and a currency: mailwright init --timezone ZONE --currency CODE")
    home = Home.create(settings.home, zone, money)
    console = open_console()
    console.print(f"Home at {home.root}: timezone {home.timezone}, reporting currency {home.currency}", soft_wrap=True)
    console.print("Next: mailwright load shop orders=orders.csv order_lines=order_lines.csv --historical")


@sample_app.command("online-retail")
def sample_online_retail(
    orders_only: Annotated[
        bool, typer.Option("--orders-only", help="Only the real orders; no simulated contacts, visits or mail.")
    ] = False,
    reset: ResetOption = False,
) -> None:
    """Load a real UK gift retailer's two years of orders.

    Contacts, consent, web visits, mail, in-store sales and demographics are simulated around the real customers, and
    labelled as simulated. The home's date becomes 2011-12-10.
    """
    _sample("online-retail", {"orders_only": orders_only}, reset)


@sample_app.command("simulated")
def sample_simulated(
    customers: Annotated[int, typer.Option(min=100, max=10_000_000, help="How many customers.")],
    reset: ResetOption = False,
) -> None:
    """Simulate a whole retailer of any size, with known ground truth.

    [dim]mailwright sample simulated --customers 100000[/dim]
    """
    _sample("simulated", {"customers": customers}, reset)


@app.command(rich_help_panel="Data")
def load(
    source: Annotated[str, typer.Argument(help="Source: shop, crm, web, email, pos, third_party, reference.")],
    tables: Annotated[
        list[str], typer.Argument(metavar="TABLE=FILE...", help="Tables and their files: CSV, Parquet or JSON lines.")
    ],
    historical: Annotated[
        bool, typer.Option("--historical", help="The rows were known when they happened: a first load of the past.")
    ] = False,
    received_at: Annotated[
        str | None,
        typer.Option(help="When this was received, if not now: a date or a time, local unless it has an offset."),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TABLE.NAME=COLUMN", help="Read a column of another name as the contract's; may be repeated."
        ),
    ] = None,
    into_sample: Annotated[
        bool,
        typer.Option("--into-sample", help="Try something out: mix the files with the sample that the home holds."),
    ] = False,
) -> None:
    """Deliver files of your own to the lake, as one hand-over.

    Columns may come in any order. A row that does not fit goes to quarantine with its reason; a table that lacks a
    required column is refused, and the others go on. The same file again is noticed; an order delivered again replaces
    its earlier version.

    [dim]mailwright load shop orders=orders.csv order_lines=lines.csv --historical
    mailwright load crm contacts=contacts.csv consents=consents.csv --historical
    mailwright load crm contacts=export.csv --rename contacts.e_mail=email
    mailwright load web events=monday.jsonl events=tuesday.jsonl[/dim]
    """
    from core.clock import parse_as_of
    from core.home import open_home
    from ingestion.matching import parse_renames
    from orchestration.loading import load_files, now, parse_tables

    settings = open_settings()
    home = open_home(settings)
    moment: datetime = now() if received_at is None else parse_as_of(received_at, home.timezone)
    files = parse_tables(tables)
    console = open_console()
    report = load_files(
        settings,
        home,
        source,
        files,
        received_at=moment,
        historical=historical,
        reporter=open_reporter(console),
        renames=parse_renames(rename or []),
        into_sample=into_sample,
    )
    for table in report.tables:
        console.print(table.describe(), style="red" if table.error else None, highlight=False, soft_wrap=True)
        for notice in table.notices:
            style = "yellow" if notice in table.warnings else "dim"
            console.print(f"  {notice}", style=style, highlight=False, soft_wrap=True)
    if report.rejected:
        console.print(f"Rejected rows and their reasons: mailwright quarantine list {source}", soft_wrap=True)
    if report.errors:
        raise typer.Exit(1)


# Run


@app.command(rich_help_panel="Run")
def refresh(
    as_of: Annotated[
        str | None,
        typer.Option(
            help="Only what was known before this date (its local midnight) or time. Default: the home's own."
        ),
    ] = None,
) -> None:
    """Everything from the lake to published marts, a release and plans. Sends nothing.

    The run shows in `mailwright ui` like any other. Interrupted, even by kill -9, it is simply started again.

    [dim]mailwright refresh --as-of 2011-12-10[/dim]
    """
    from core.home import open_home
    from orchestration.running import run_refresh
    from orchestration.showing import refresh_summary

    settings = open_settings()
    home = open_home(settings)
    console = open_console()
    tally = run_refresh(settings, home, as_of=as_of, reporter=open_reporter(console))
    refresh_summary(console, home, tally)


@fits_app.command("refit")
def fits_refit() -> None:
    """Learn the constants anew at the home's as_of, as a new version. Earlier rows keep theirs."""
    from core.home import open_home
    from orchestration.refresh import refit
    from orchestration.showing import pairs

    settings = open_settings()
    home = open_home(settings)
    console = open_console()
    with open_reporter(console).step("Learn the fits anew"):
        report = refit(settings, home)
    pairs(console, report.figures)
    console.print("The next `mailwright refresh` scores with them.")


# Look


@app.command(rich_help_panel="Look")
def status() -> None:
    """What is in the home: alerts, deliveries, the last refresh, segments, release, destinations, sandbox.

    Reads published marts and releases, never the warehouse, so it works at any time.
    """
    from core.home import open_home
    from orchestration.showing import show_status

    settings = open_settings()
    show_status(open_console(), settings, open_home(settings))


@app.command(rich_help_panel="Look")
def doctor() -> None:
    """Check the installation and the home, and say what to do about what is wrong."""
    from orchestration.doctor import examine

    console = open_console()
    failed = False
    for finding in examine():
        mark = {"good": "[green]✓[/green]", "note": "[yellow]•[/yellow]", "bad": "[red]✗[/red]"}[finding.level]
        console.print(f"{mark} {finding.subject}:", finding.said, highlight=False, soft_wrap=True)
        failed |= finding.level == "bad"
    if failed:
        raise typer.Exit(1)


@app.command(rich_help_panel="Look")
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Loopback port.")] = 3000,
) -> None:
    """Open the Dagster UI: the whole graph, its checks and plots. Runs until Ctrl-C."""
    from core.home import open_home
    from orchestration.serving import serve_dagster

    settings = open_settings()
    home = open_home(settings)
    console = open_console()
    serve_dagster(settings, home, port, open_reporter(console), console)


@app.command(rich_help_panel="Look")
def docs(
    serve: Annotated[bool, typer.Option("--serve", help="Serve it on loopback until Ctrl-C.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Loopback port for --serve.")] = 8026,
) -> None:
    """Write the dbt documentation as one page: every model and column, with lineage."""
    from core.home import open_home
    from orchestration.serving import write_docs

    settings = open_settings()
    home = open_home(settings)
    console = open_console()
    write_docs(settings, home, open_reporter(console), console, port=port if serve else None)


@app.command(rich_help_panel="Run")
def demo() -> None:
    """The whole way with a real retailer's data: sample, refresh, sandboxes, plans, applies, summary.

    Run it again: nothing changes, and it says so.
    """
    from orchestration.demo import run_demo

    settings = open_settings()
    console = open_console()
    run_demo(settings, console, open_reporter(console))


def _sample(name: str, options: dict[str, object], reset: bool) -> None:
    from orchestration.loading import Sample, load_sample
    from orchestration.showing import local_date

    settings = open_settings()
    console = open_console()
    home, changed = load_sample(settings, Sample(name, options), reset=reset, reporter=open_reporter(console))
    if not changed:
        console.print("This sample is loaded already; nothing changed.")
    console.print(f"Home at {home.root}, as of {local_date(home)}", soft_wrap=True, highlight=False)
    console.print("Next: mailwright refresh")


if __name__ == "__main__":
    main()
