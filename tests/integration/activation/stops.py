"""Stop an apply at any of the points where it touches the platform or the ledger, as a kill would, in process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from activation import engine
from activation.doubtful import Notes
from activation.ledger import Ledger
from tests.integration.activation.memory import Memory

_OF_LEDGER = ("begin", "end", "acknowledge", "bury", "withhold", "note_requests", "layout_id")


class Killed(BaseException):
    """The process is gone. No `Exception`, so that nothing recovers from it."""


class Stops:
    """Counts the points; from the `at`-th on, nothing happens any more.

    A point lies before and after each call to the platform and each write of the ledger. The lease is let go of as it is
    when its process is dead.
    """

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.passed = 0

    def point(self, *_: object) -> None:
        self.passed += 1
        if self.at is not None and self.passed >= self.at:
            raise Killed

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def touch(*arguments: Any, **options: Any) -> Any:
            self.point()
            said = function(*arguments, **options)
            self.point()
            return said

        return touch


@contextmanager
def stopping(connector: Memory, at: int | None = None) -> Iterator[Stops]:
    """Within the block, an apply with this connector is killed at its `at`-th point; None only counts them."""
    stops = Stops(at)
    connector.before = connector.after = stops.point
    with pytest.MonkeyPatch.context() as patch:
        # Each answer is written at once: how many points there are does not hang on how fast the machine is.
        patch.setattr(engine, "_GROUP_SECONDS", 0.0)
        for name in _OF_LEDGER:
            patch.setattr(Ledger, name, stops.around(getattr(Ledger, name)))
        for name in ("note", "settle"):
            patch.setattr(Notes, name, stops.around(getattr(Notes, name)))
        yield stops
