"""What every command starts with: the settings, a console to print on, and a reporter of progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from core.settings import Settings
    from orchestration.progress import RichReporter


def open_settings() -> Settings:
    """The settings, from the environment."""
    from core.settings import load_settings

    return load_settings()


def open_console(*, stderr: bool = False) -> Console:
    """A console whose lines don't wrap when they go to a file."""
    from rich.console import Console

    console = Console(stderr=stderr)
    if not console.is_terminal:
        console.width = 140
    return console


def open_reporter(console: Console) -> RichReporter:
    """A reporter that shows each step and its progress on the console."""
    from orchestration.progress import RichReporter

    return RichReporter(console)
