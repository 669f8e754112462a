"""`mailwright quarantine`: rejected rows, out for repair and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestration.terminal import open_console, open_settings

if TYPE_CHECKING:
    from ingestion.quarantine import Group

app = typer.Typer(help="Rejected rows: list them, export them for repair, take them in again.", no_args_is_help=True)

TableArgument = Annotated[str, typer.Argument(metavar="SOURCE.TABLE", help="For example shop.orders.")]
DeliveryOption = Annotated[str | None, typer.Option(metavar="ID", help="Only rows that this delivery rejected.")]


@app.command("list")
def list_(
    what: Annotated[
        str | None, typer.Argument(metavar="[SOURCE[.TABLE]]", help="Only of this source, or this table.")
    ] = None,
    delivery: DeliveryOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the rows of one table to this CSV file: it holds personal data.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also rows that were replayed, superseded or discarded since.")
    ] = False,
) -> None:
    """Which rows were rejected, and why. Contents are shown nowhere but in the file asked for.

    [dim]mailwright quarantine list
    mailwright quarantine list shop.orders --out rejected.csv[/dim]
    """
    from core.errors import DeliveryError
    from core.home import open_home
    from ingestion import quarantine

    settings = open_settings()
    home = open_home(settings)
    console = open_console()
    source, table = _source_and_table(what)
    if out is not None:
        if source is None or table is None:
            raise DeliveryError("say which table to export, as SOURCE.TABLE, for example shop.orders")
        written = quarantine.export(settings, home, source, table, out, delivery=delivery, all_states=everything)
        console.print(f"{written:,} rows of {what} written to {out}", highlight=False, soft_wrap=True)
        console.print(
            f"Repair them, leave the first two columns, and: mailwright quarantine replay {what} {out}",
            style="dim",
            highlight=False,
            soft_wrap=True,
        )
        return
    groups = quarantine.listing(settings, home, source, table, delivery)
    shown = [group for group in groups if group.open or everything]
    if not shown:
        console.print("No rejected rows wait here." if groups else "No row was rejected.")
        return
    _print_groups(shown)
    waiting = sum(group.open for group in shown)
    console.print(f"{waiting:,} rows wait to be replayed or discarded.", highlight=False)


@app.command()
def replay(
    what: TableArgument,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="The repaired rows, as `list --out` wrote them.")
    ] = None,
    delivery: DeliveryOption = None,
) -> None:
    """Take rejected rows in again: as they came, after the contract was corrected, or as repaired in a file.

    They come in as a new delivery. What still does not fit stays where it is; what the lake has in a newer version since is
    marked and left out. Running it again does nothing twice.

    [dim]mailwright quarantine replay shop.orders
    mailwright quarantine replay shop.orders repaired.csv[/dim]
    """
    from core.home import open_home
    from ingestion import replaying
    from orchestration.loading import now

    settings = open_settings()
    home = open_home(settings)
    console = open_console()
    source, table = _one_table(what)
    report = replaying.replay(
        settings, home, source, table, file=file, delivery=delivery, received_at=now(), progress=_ignore
    )
    said = {
        "replayed": report.replayed,
        "superseded by what was delivered since": report.superseded,
        "settled before": report.settled_before,
        "still rejected": report.still_rejected.total(),
    }
    counts = ", ".join(f"{count:,} {name}" for name, count in said.items() if count) or "nothing to do"
    console.print(f"{what}: {report.tried:,} rows tried: {counts}", highlight=False, soft_wrap=True)
    if report.carried:
        console.print(
            f"  {report.carried:,} accepted rows that belong to them were delivered again with them",
            style="dim",
            highlight=False,
            soft_wrap=True,
        )
    for reason, count in report.still_rejected.most_common():
        console.print(f"  {count:,} x {reason}", style="dim", highlight=False, soft_wrap=True)
    for delivery_id in report.deliveries:
        console.print(f"Delivery {delivery_id}: `mailwright refresh` takes it further", highlight=False, soft_wrap=True)


@app.command()
def discard(what: TableArgument, delivery: DeliveryOption = None) -> None:
    """Mark rejected rows as not wanted. They stay in the lake, and are not replayed.

    [dim]mailwright quarantine discard shop.orders --delivery 000007-1f3a9c2e[/dim]
    """
    from core.home import open_home
    from ingestion import quarantine
    from orchestration.loading import now

    settings = open_settings()
    home = open_home(settings)
    source, table = _one_table(what)
    rows = quarantine.discard(settings, home, source, table, delivery=delivery, now=now())
    open_console().print(f"{what}: {rows:,} rows discarded", highlight=False, soft_wrap=True)


def _print_groups(groups: list[Group]) -> None:
    from rich.table import Table

    grid = Table(box=None, pad_edge=False)
    states = [name for name in ("open", "replayed", "superseded", "discarded") if any(getattr(g, name) for g in groups)]
    for name in ("table", "delivery"):
        grid.add_column(name, no_wrap=True)
    for name in states:
        grid.add_column(name, justify="right")
    grid.add_column("rows", overflow="fold")
    grid.add_column("reason", overflow="fold")
    for group in groups:
        first = ", ".join(map(str, group.first_rows)) + (", ..." if group.rows > len(group.first_rows) else "")
        counts = [f"{getattr(group, name):,}" for name in states]
        grid.add_row(f"{group.source}.{group.table}", group.delivery_id, *counts, first, group.reason)
    open_console().print(grid, highlight=False, markup=False)


def _source_and_table(what: str | None) -> tuple[str | None, str | None]:
    if what is None:
        return None, None
    from core.contract import load_contract
    from core.errors import ContractError

    source, dot, table = what.partition(".")
    contract = load_contract()
    if dot:
        contract.table(source, table)
        return source, table
    known = sorted({of for of, _ in contract.tables})
    if source not in known:
        raise ContractError(f"there is no source {source}; the contract has: {', '.join(known)}")
    return source, None


def _one_table(what: str) -> tuple[str, str]:
    from core.errors import DeliveryError

    source, table = _source_and_table(what)
    if source is None or table is None:
        raise DeliveryError(f"say which table, as SOURCE.TABLE, for example {what}.orders")
    return source, table


def _ignore(said: str) -> None:
    """Say nothing: the report says it."""
