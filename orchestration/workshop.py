"""What the steps of one run share: settings, home, the dbt runner, who is watching, and what went wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from core.errors import DestinationError, MailwrightError, WarehouseBusyError
from core.home import Home
from core.settings import Settings
from orchestration.dbt import DbtRunner
from orchestration.progress import Reporter, Tick

# How long a step waits for whoever has the warehouse before it gives up.
PATIENCE_SECONDS = 600.0


@dataclass
class Tally:
    """Counts over a run, for its summary.

    Attributes:
        seconds: by step, in the order in which they ran.
        unheeded: checks that failed without blocking.
    """

    models: int = 0
    checks_passed: int = 0
    unheeded: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def checks(self) -> str:
        """For people: how many passed, and what only warned."""
        said = f"{self.checks_passed:,} passed"
        return f"{said}, {len(self.unheeded)} warned" if self.unheeded else said


@dataclass
class Workshop:
    """One run's shared things. Made by whoever starts the run, handed to every step."""

    settings: Settings
    home: Home
    reporter: Reporter = field(default_factory=Reporter)
    tally: Tally = field(default_factory=Tally)
    failure: MailwrightError | None = None

    def __post_init__(self) -> None:
        self.dbt = DbtRunner(self.settings, self.home)

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Tick]:
        """Time one step, show its progress, and turn a failure into one clear message. See `failing_clearly`."""
        started = time.perf_counter()
        try:
            with self.failing_clearly(), self.reporter.step(title, total) as tick:
                yield tick
        finally:
            self.tally.seconds[title] = self.tally.seconds.get(title, 0.0) + time.perf_counter() - started

    @contextmanager
    def failing_clearly(self) -> Iterator[None]:
        """Turn an error of ours into Dagster's.

        Raises:
            dagster.Failure: with the message of the MailwrightError; retried only when a retry can help.
        """
        try:
            yield
        except MailwrightError as error:
            from dagster import Failure

            self.failure = error
            may_pass = isinstance(error, WarehouseBusyError | DestinationError)
            raise Failure(description=str(error), allow_retries=may_pass) from error
