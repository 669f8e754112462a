"""Applies that end anywhere: by a stop at a random point, or by kill -9. Another apply brings what was planned.

SOAK is how often each is repeated: 1 in ordinary runs, more in `make soak`.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from activation.ledger import Ledger
from tests.integration.activation.conformance import killed
from tests.integration.activation.conformance.place import SEGMENTS, Asked, Place, person, persons
from tests.integration.activation.world import Person

SOAK = int(os.environ.get("SOAK", "1"))
STOPS = 200
KILLS = 10
CALLS = ("prepare", "write", "change_tag", "unsubscribe", "erase", "archive", "rekey")
WRITES = ("acknowledge", "bury", "withhold", "note_requests", "end")


class Stopped(BaseException):
    """The process is to end here, as far as the engine can tell."""


class Stops:
    """Stops at the point-th touch of the platform or the ledger, before or after it is done."""

    def __init__(self) -> None:
        self.point = 0
        self._touched = 0
        self._lock = threading.Lock()

    def at(self, point: int) -> None:
        self.point, self._touched = point, 0

    def touch(self) -> None:
        with self._lock:
            self._touched += 1
            is_here = self._touched == self.point
        if is_here:
            raise Stopped

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def touched(*arguments: Any, **options: Any) -> Any:
            self.touch()
            done = function(*arguments, **options)
            self.touch()
            return done

        return touched


@pytest.fixture
def stops(place: Place, monkeypatch: pytest.MonkeyPatch) -> Stops:
    made = Stops()
    for name in CALLS:
        monkeypatch.setattr(place.connector, name, made.around(getattr(place.connector, name)))
    for name in WRITES:
        monkeypatch.setattr(Ledger, name, made.around(getattr(Ledger, name)))
    return made


def changed(dice: random.Random, most: int = 60) -> dict[int, Person]:
    """A release of many changes against the one before."""
    people = persons(*range(dice.randrange(3), most))
    for someone in dice.sample(list(people.values()), most // 2):
        someone.surname = f"Surname{dice.randrange(9)}"
        someone.segments = tuple(dice.sample(SEGMENTS, dice.randrange(4)))
    return people


@pytest.mark.fault("stops at 200 random points")
@pytest.mark.parametrize("seed", range(SOAK))
def test_an_apply_that_stops_anywhere_goes_on_where_it_was(place: Place, stops: Stops, seed: int) -> None:
    dice = random.Random(f"{place.platform.name} {seed}")
    place.release(persons(*range(60)))
    place.settle()
    gone: list[Person] = []
    stopped = 0
    while stopped < STOPS:
        place.release(changed(dice))
        made = place.plan()
        while made.operations and stopped < STOPS:
            # Few steps a time, so that one plan is stopped often and all over.
            stops.at(dice.randrange(1, 8))
            try:
                place.apply(made)
            except Stopped:
                stopped += 1
                if dice.random() < 0.03:
                    gone.append(person(dice.randrange(3, 60)))
                    place.withdraw(gone[-1])
                if dice.random() < 0.1:
                    made = place.plan()
            else:
                made = place.plan()
        stops.at(0)
        place.settle()
        place.assert_settled(refused=gone)


class Strike:
    """Kills a process at its count-th write."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._pid: int | None = None
        self._is_known = threading.Event()

    def at(self, pid: int) -> None:
        self._pid = pid
        self._is_known.set()

    def __call__(self, asked: Asked) -> None:
        if asked.is_write:
            self._left -= 1
            if self._left == 0 and self._is_known.wait(10) and self._pid is not None:
                os.kill(self._pid, signal.SIGKILL)


@contextmanager
def forks() -> Iterator[Any]:
    """A server of warm processes: each apply is one, without the seconds that imports take."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([killed.__name__])
    yield context


@pytest.mark.fault("10 times kill -9")
@pytest.mark.parametrize("seed", range(SOAK))
def test_an_apply_that_is_killed_anywhere_goes_on_where_it_was(place: Place, seed: int) -> None:
    dice = random.Random(f"kill {place.platform.name} {seed}")
    place.release(persons(*range(20)))
    place.settle()
    people = {**changed(dice, 30), **persons(*range(100, 100 + 12 * KILLS))}
    place.release(people)
    made = place.plan()
    deaths = 0
    with forks() as context:
        while deaths < KILLS:
            die = dice.choice(killed.WAYS)
            # A server's calls are counted over here, at the other end of the wire.
            strike = Strike(dice.randrange(1, 4))
            is_struck = place.faults is not None and "call" in die
            place.watch.before = strike if is_struck and die == "before call" else None
            place.watch.after = strike if is_struck and die == "after call" else None
            way = "" if is_struck else die
            child = context.Process(target=killed.go_on, args=(*place.for_a_process(), made.hash, place.now(), way))
            child.start()
            strike.at(child.pid)
            child.join(60)
            assert child.exitcode == -signal.SIGKILL, f"was to be killed {die}, and ended with {child.exitcode}"
            deaths += 1
    place.watch.before = place.watch.after = None
    place.apply(made)
    place.assert_settled()
