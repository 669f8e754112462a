"""What a person sees while something runs: one line per step with its time, and a bar while it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Tick = Callable[[str], None]


class Reporter:
    """Says nothing. What runs without a person watching uses this one."""

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Tick]:
        """Report one step.

        Args:
            title: what is done, in a few words.
            total: how many times the yielded function will be called, where that is known.

        Yields:
            A function to be called for each part that is done, with its name.
        """
        yield lambda part: None

    def note(self, text: str) -> None:
        """Say one thing about the step that is running."""


class RichReporter(Reporter):
    """A spinner or a bar on a terminal; elsewhere one line per finished step."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._console = console
        self._progress: Progress | None = None
        self._columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[part]}"),
        )
        self._make = Progress

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Tick]:
        """See `Reporter.step`. A step within a step is a part of the outer one."""
        if self._progress is not None:
            outer = self._progress
            outer.update(outer.tasks[-1].id, part=title)
            yield lambda part: outer.update(outer.tasks[-1].id, part=part)
            return
        started = time.perf_counter()
        if not self._console.is_terminal:
            yield from self._plain(title, started)
            return
        with self._make(*self._columns, console=self._console, transient=True) as progress:
            self._progress = progress
            task = progress.add_task(title, total=total, part="")
            try:
                yield lambda part: progress.update(task, advance=1, part=part)
            except BaseException:
                self._progress = None
                progress.stop()
                self._line("[red]✗[/red]", title, started)
                raise
            finally:
                self._progress = None
        self._line("[green]✓[/green]", title, started)

    def _plain(self, title: str, started: float) -> Iterator[Tick]:
        try:
            yield lambda part: None
        except BaseException:
            self._line("[red]✗[/red]", title, started)
            raise
        self._line("[green]✓[/green]", title, started)

    def note(self, text: str) -> None:
        """Print one line beneath the steps."""
        self._console.print(f"  {text}", style="dim", highlight=False, soft_wrap=True, markup=False)

    def _line(self, mark: str, title: str, started: float) -> None:
        self._console.print(f"{mark} {title} [dim]{time.perf_counter() - started:.1f} s[/dim]", highlight=False)
