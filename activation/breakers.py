"""Breakers: what stops a plan that is implausible, before it is applied or while it runs. Each is overridden by its name.

A plan that shrinks an audience by half is more often the work of a broken source than of half the customers. Breakers
look at numbers only; who overrode which is noted with the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from activation.sync import Breakers

Name = Literal["added", "removed", "floor", "empty", "rejects", "stale", "gate"]
NAMES: tuple[Name, ...] = ("added", "removed", "floor", "empty", "rejects", "stale", "gate")

# A segment smaller than this may be left by any share of its members: 3 of 8 is chance.
SMALLEST_SEGMENT = 100
# The share of refused rows says nothing before so many were sent.
FEWEST_SENT = 200
_NAMED = 3  # of the segments that shrink too much, those that shrink most


@dataclass(frozen=True)
class Numbers:
    """What a plan would do, as far as breakers ask.

    Attributes:
        audience: contacts that should be there.
        before: contacts that were in the audience there before.
        added: contacts that would come into it; removed: that would leave it.
        segments: by tag, contacts that have it there and how many of them would lose it.
        is_first: the destination has nothing of ours yet, or was just read anew: everybody is new to it.
        age: how long ago a refresh confirmed the release; None where nobody knows, as in a home of bygone deliveries.
        gate_failed: the last refresh did not come through its checks.
    """

    audience: int
    before: int
    added: int
    removed: int
    segments: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    is_first: bool = False
    age: timedelta | None = None
    gate_failed: bool = False


@dataclass(frozen=True)
class Tripped:
    """A breaker that stops the plan, and why."""

    name: Name
    words: str


def check(numbers: Numbers, limits: Breakers) -> list[Tripped]:
    """The breakers that a plan trips; empty where it is plausible."""
    asked: list[tuple[Name, str | None]] = [
        ("added", _added(numbers, limits)),
        ("removed", _removed(numbers, limits)),
        ("floor", _floor(numbers, limits)),
        ("empty", "nobody is in the audience" if not numbers.audience else None),
        ("stale", _stale(numbers, limits)),
        ("gate", "the last refresh did not come through its checks" if numbers.gate_failed else None),
    ]
    return [Tripped(name, words) for name, words in asked if words is not None]


def check_rejects(sent: int, rejected: int, limits: Breakers) -> Tripped | None:
    """Whether the platform refuses too many rows of a run; asked while it runs."""
    if sent < FEWEST_SENT or rejected <= limits.rejects * sent:
        return None
    return Tripped("rejects", f"the platform refused {_of(rejected, sent)} rows; {limits.rejects:.0%} may be")


def _added(numbers: Numbers, limits: Breakers) -> str | None:
    if numbers.is_first or not numbers.before or numbers.added <= limits.added * numbers.before:
        return None
    return f"{numbers.added:,} contacts would come to the {numbers.before:,} that are there; {limits.added:.0%} may at once"


def _removed(numbers: Numbers, limits: Breakers) -> str | None:
    parts = []
    if numbers.removed > limits.removed * numbers.before:
        parts.append(f"{_of(numbers.removed, numbers.before)} contacts would leave the audience")
    shrinking = sorted(
        (
            (losing / having, tag)
            for tag, (having, losing) in numbers.segments.items()
            if having >= SMALLEST_SEGMENT and losing > limits.removed * having
        ),
        key=lambda one: (-one[0], one[1]),
    )
    parts += [
        f"{_of(numbers.segments[tag][1], numbers.segments[tag][0])} would lose {tag}" for _, tag in shrinking[:_NAMED]
    ]
    if len(shrinking) > _NAMED:
        parts.append(f"so would many of {len(shrinking) - _NAMED} more")
    return f"{'; '.join(parts)}; {limits.removed:.0%} may at once" if parts else None


def _floor(numbers: Numbers, limits: Breakers) -> str | None:
    if numbers.audience >= limits.floor:
        return None
    return f"{numbers.audience:,} contacts are in the audience; it must have {limits.floor:,} at least"


def _stale(numbers: Numbers, limits: Breakers) -> str | None:
    if numbers.age is None or numbers.age <= limits.max_age:
        return None
    return f"a refresh confirmed the release {_hours(numbers.age)} ago; {_hours(limits.max_age)} may pass"


def _of(some: int, everything: int) -> str:
    share = some / everything if everything else 1.0
    return f"{some:,} of {everything:,} ({share:.0%})"


def _hours(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours:.0f} h" if hours >= 1 else f"{span.total_seconds() / 60:.0f} min"
