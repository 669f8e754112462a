"""`mailwright alerts`: what is wrong, who was told, and whether telling works."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestration.terminal import open_console, open_settings

app = typer.Typer(help="What is wrong, and who is told of it.", invoke_without_command=True)


@app.callback()
def alerts(context: typer.Context) -> None:
    """List what is wrong, unless a command says otherwise."""
    if context.invoked_subcommand is None:
        list_()


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="How many of the past changes, the newest first.")] = 10,
) -> None:
    """What is wrong now, and what changed lately."""
    from core.home import open_home
    from orchestration.alerts import read
    from orchestration.showing import local, show_alerts, table

    settings = open_settings()
    home = open_home(settings)
    console = open_console()
    show_alerts(console, home)
    changes = read(home)[-limit:][::-1]
    if changes:
        rows = [
            (
                local(change.at, home),
                change.condition,
                change.state,
                ", ".join(change.told) or "nobody",
                ", ".join(change.untold) or "none",
            )
            for change in changes
        ]
        table(console, ("at", "what", "", "told by", "not delivered by"), rows, "Changes")


@app.command("test")
def test() -> None:
    """Send a test message to each channel that is configured."""
    from core.home import open_home
    from orchestration.alerts import try_out

    settings = open_settings()
    home = open_home(settings)
    console = open_console()
    found = try_out(settings, home)
    if not found:
        console.print(
            "No channel is configured: alerts are kept and shown, and nobody is told. Set MAILWRIGHT_ALERT_WEBHOOK, or"
            " MAILWRIGHT_ALERT_SMTP_URL with MAILWRIGHT_ALERT_TO and MAILWRIGHT_ALERT_FROM.",
            soft_wrap=True,
        )
    for name, problem in found.items():
        mark, said = ("[green]✓[/green]", "taken") if problem is None else ("[red]✗[/red]", problem)
        console.print(f"{mark} {name}:", said, highlight=False, soft_wrap=True)
    if any(found.values()):
        raise typer.Exit(1)
