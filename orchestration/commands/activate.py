"""`mailwright plan`, `apply`, `reconcile`, `suppress`, `syncs`, `auth` and `sandbox`: audiences at the platforms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestration.terminal import open_console, open_reporter, open_settings

if TYPE_CHECKING:
    from rich.console import Console

    from activation.plan import Plan

syncs_app = typer.Typer(help="Syncs: what goes to which platform under which name.", no_args_is_help=True)
auth_app = typer.Typer(help="Get a platform's keys by its own consent page.", no_args_is_help=True)
sandbox_app = typer.Typer(
    help="Email platforms to try things on: a local server that behaves like each of them.", invoke_without_command=True
)


def _complete(incomplete: str) -> list[str]:
    from activation import sync

    return [name for name in sync.names() if name.startswith(incomplete)]


DestinationArgument = Annotated[
    str, typer.Argument(metavar="DEST", help="Name of a sync: see `mailwright syncs list`.", autocompletion=_complete)
]


def plan(
    destination: DestinationArgument,
    release: Annotated[int | None, typer.Option(min=1, help="Of this release; by default the newest.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the plan's numbers there, as JSON.")] = None,
    show: Annotated[
        str | None,
        typer.Option(metavar="SEGMENT", help="Also show 20 of a segment's contacts, masked, as they would go."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Send everything anew, whatever was acknowledged.")] = False,
    retry_rejected: Annotated[
        bool,
        typer.Option("--retry-rejected", help="Also rows that the platform refused and that did not change since."),
    ] = False,
) -> None:
    """Show what a sync would change at the destination, and keep it for review. Changes nothing there.

    A destination's first plan reads who is there already.

    [dim]mailwright plan mailchimp
    mailwright plan braze --show onboarding[/dim]
    """
    from core.files import write_atomically
    from core.home import open_home
    from orchestration.syncing import plan_sync

    settings = open_settings()
    home = open_home(settings)
    console = open_console()
    made = plan_sync(
        settings,
        home,
        destination,
        release=release,
        full=full,
        retry_rejected=retry_rejected,
        reporter=open_reporter(console),
    )
    _show_plan(console, made)
    if show is not None:
        _show_sample(console, made, show)
    if out is not None:
        write_atomically(out, made.header.read_text(encoding="utf-8"))
        console.print(f"Written to {out}", soft_wrap=True, highlight=False)


def apply(
    destination: DestinationArgument,
    plan_hash: Annotated[str | None, typer.Option("--plan", help="The plan's hash; default: the newest plan.")] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(metavar="BREAKER", help="Go on although this breaker stops it; may be repeated. It is noted."),
    ] = None,
) -> None:
    """Carry out a kept plan, and nothing beyond it.

    Interrupted, even by kill -9, it is simply started again. Without keys in the environment it goes to the sandbox,
    which is started if need be.

    [dim]mailwright plan mailchimp && mailwright apply mailchimp
    mailwright apply mailchimp --override removed[/dim]
    """
    from core.home import open_home
    from orchestration.showing import pairs
    from orchestration.syncing import apply_sync

    settings = open_settings()
    home = open_home(settings)
    console = open_console()
    report = apply_sync(
        settings, home, destination, plan_hash=plan_hash, override=override or [], reporter=open_reporter(console)
    )
    pairs(console, report.summary())
    for words, count in report.reasons.most_common(5):
        console.print(f"  refused: {count:,} x {words}", style="yellow", highlight=False, soft_wrap=True, markup=False)


def reconcile(
    destination: DestinationArgument,
    repair: Annotated[
        bool, typer.Option("--repair", help="Have the ledger follow what is there; the next plan mends the rest.")
    ] = False,
    resend: Annotated[
        bool, typer.Option("--resend", help="For a platform that can't be read: forget what it acknowledged.")
    ] = False,
) -> None:
    """Read the destination and say where it differs from the ledger. Whoever left there by themselves stays gone.

    [dim]mailwright reconcile mailchimp --repair && mailwright plan mailchimp[/dim]
    """
    from core.home import open_home
    from orchestration.showing import pairs
    from orchestration.syncing import reconcile_sync

    settings = open_settings()
    home = open_home(settings)
    console = open_console()
    found = reconcile_sync(settings, home, destination, repair=repair, resend=resend, reporter=open_reporter(console))
    pairs(console, found.summary())


def suppress(
    destinations: Annotated[
        list[str] | None, typer.Argument(metavar="[DEST]...", help="Syncs; by default every one that was ever planned.")
    ] = None,
) -> None:
    """Push every unsubscribe, objection, suppression and erasure to the destinations, now.

    Needs no plan and no release, and heeds no breaker. `mailwright ui` has it as a job that runs every 5 minutes.
    """
    from core.home import open_home
    from orchestration.showing import WITHDRAWALS, table, withdrawal_rows
    from orchestration.syncing import suppress_syncs

    settings = open_settings()
    home = open_home(settings)
    console = open_console()
    reports = suppress_syncs(settings, home, destinations, reporter=open_reporter(console))
    if not reports:
        console.print("No destination was planned yet, so none knows anybody: nothing to push.")
        return
    table(console, WITHDRAWALS, withdrawal_rows(reports))
    for report in reports:
        if report.error:
            console.print(
                f"  {report.name}: {report.error}", style="red", highlight=False, soft_wrap=True, markup=False
            )
    if any(report.error or report.overdue for report in reports):
        raise typer.Exit(1)


@syncs_app.command("list")
def syncs_list() -> None:
    """Every sync: its platform, where it goes now, when it runs."""
    from activation import sync
    from core.home import open_home
    from orchestration.showing import table

    settings = open_settings()
    home = open_home(settings)
    rows = []
    for name in sync.names():
        read = sync.read(settings, name)
        real = read.connector.credentials(home)
        segments = "all" if read.segments == "all" else str(len(read.segments))
        where = real.description if real is not None else "sandbox"
        rows.append((name, read.connector.platform.title, where, len(read.fields), segments, read.schedule))
    table(open_console(), ("sync", "platform", "goes to", "fields", "segments", "schedule"), rows)


@syncs_app.command("check")
def syncs_check() -> None:
    """Check every sync's document against the marts, the segments and its platform's rules."""
    from activation import sync
    from core.errors import PlanError

    settings = open_settings()
    console = open_console()
    failed = False
    for name in sync.names():
        try:
            sync.read(settings, name)
            console.print(f"[green]✓[/green] {name}")
        except PlanError as error:
            failed = True
            console.print(f"[red]✗[/red] {name}:", str(error), highlight=False, soft_wrap=True, markup=False)
    if failed:
        raise typer.Exit(1)


@syncs_app.command("rejects")
def syncs_rejects(
    destination: DestinationArgument,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 20,
) -> None:
    """Rows that the platform refused, in its own words. They go again when they change, or by `plan --retry-rejected`."""
    from activation.ledger import Ledger
    from core.home import open_home
    from orchestration.showing import table
    from orchestration.syncing import connected

    settings = open_settings()
    home = open_home(settings)
    console = open_console()
    with connected(settings, home, destination) as (_, to), Ledger(home, settings) as ledger:
        letters = ledger.newest_letters(to.target, limit)
    if not letters:
        console.print("Nothing was refused.")
        return
    rows = [
        (f"{row['at']:%Y-%m-%d %H:%M}", row["action"], row["tag"], row["key"].hex(), row["words"]) for row in letters
    ]
    table(console, ("at (UTC)", "action", "tag", "contact", "the platform's words"), rows)


@auth_app.command("mailchimp")
def auth_mailchimp(
    out: Annotated[
        Path, typer.Option(help="File for the lines to set in the environment, readable by you alone.")
    ] = Path("mailchimp.env"),
) -> None:
    """Have Mailchimp's own page grant access, and write what to set in the environment to a file.

    Register an application at Mailchimp with the redirect address http://127.0.0.1:8026/oauth/mailchimp, and set
    MAILWRIGHT_MAILCHIMP_CLIENT_ID and MAILWRIGHT_MAILCHIMP_CLIENT_SECRET first.
    """
    from activation import oauth

    console = open_console()
    granted = oauth.authorize(
        say=lambda address: console.print(f"If no browser opens: {address}", highlight=False, soft_wrap=True)
    )
    oauth.write(granted, out)
    console.print(f"Written to {out}. To use it: set -a; . {out}; set +a", highlight=False, soft_wrap=True)


@sandbox_app.callback()
def sandbox(context: typer.Context) -> None:
    """Start the sandbox in the background, unless a command says otherwise."""
    if context.invoked_subcommand is None:
        sandbox_start()


@sandbox_app.command("start")
def sandbox_start() -> None:
    """Start the sandbox in the background."""
    from activation.sandbox import process
    from core.home import open_home

    settings = open_settings()
    running = process.start(settings, open_home(settings))
    open_console().print(f"The sandbox is at {running.url}", soft_wrap=True)


@sandbox_app.command("stop")
def sandbox_stop() -> None:
    """Stop the sandbox. What it holds is kept."""
    from activation.sandbox import process
    from core.home import open_home

    settings = open_settings()
    stopped = process.stop(open_home(settings))
    open_console().print("The sandbox is stopped." if stopped else "The sandbox was not running.")


@sandbox_app.command("status")
def sandbox_status() -> None:
    """Say whether the sandbox runs, and what it holds."""
    from core.home import open_home
    from orchestration.showing import pairs, sandbox_contents, sandbox_line

    home = open_home(open_settings())
    console = open_console()
    console.print(sandbox_line(home), highlight=False, soft_wrap=True)
    pairs(console, sandbox_contents(home))


def _show_plan(console: Console, plan: Plan) -> None:
    """What a plan would change, without a word of personal data."""
    from orchestration.showing import pairs, plan_tables, table

    pairs(console, plan.summary())
    if plan.is_empty:
        return
    for title, header, rows in plan_tables(plan):
        table(console, header, rows, title)
    for tripped in plan.tripped:
        console.print(
            f"  [red]stopped by breaker {tripped.name}:[/red] {tripped.words}", highlight=False, soft_wrap=True
        )
    options = "".join(f" --override {tripped.name}" for tripped in plan.tripped)
    console.print(f"\nNothing was sent. To carry it out: mailwright apply {plan.destination}{options}", soft_wrap=True)


def _show_sample(console: Console, plan: Plan, segment: str) -> None:
    from core.errors import PlanError
    from orchestration.showing import table

    found = {sample.segment: sample for sample in plan.samples}
    if segment not in found:
        raise PlanError(
            f"nobody in this plan is in {segment!r}; there is: {', '.join(found) or 'none, as nothing changes'}"
        )
    sample = found[segment]
    header = tuple(sample.contacts[0]) if sample.contacts else ("address",)
    rows = [tuple(contact.values()) for contact in sample.contacts]
    table(console, header, rows, f"{len(rows)} of {sample.members:,} members of {segment}, masked")
    table(console, ("field", "empty"), [(name, f"{share:.0%}") for name, share in sample.empty.items()], "Empty fields")
