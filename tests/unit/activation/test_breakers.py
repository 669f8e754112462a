"""Breakers: each trips just beyond its limit, not at it, and says the numbers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from activation.breakers import NAMES, Numbers, check, check_rejects
from activation.sync import Breakers

LIMITS = Breakers(added=0.5, removed=0.3, floor=10, rejects=0.05, max_age="36h")
FINE = Numbers(1000, 1000, 0, 0, {"mw: a": (100, 0)}, age=timedelta(hours=36))


def tripped(numbers: Numbers) -> list[str]:
    return [one.name for one in check(numbers, LIMITS)]


def test_an_ordinary_plan_trips_nothing() -> None:
    assert check(FINE, LIMITS) == []


@pytest.mark.parametrize(
    ("at", "beyond", "name"),
    [
        pytest.param({"added": 500}, {"added": 501}, "added", id="added"),
        pytest.param({"removed": 300}, {"removed": 301}, "removed", id="removed"),
        pytest.param(
            {"segments": {"a": (100, 30)}}, {"segments": {"a": (100, 31)}}, "removed", id="removed from a segment"
        ),
        pytest.param({"audience": 10}, {"audience": 9}, "floor", id="floor"),
        pytest.param({"age": timedelta(hours=36)}, {"age": timedelta(hours=36, seconds=1)}, "stale", id="stale"),
        pytest.param({}, {"gate_failed": True}, "gate", id="gate"),
    ],
)
def test_each_trips_beyond_its_limit(at: dict, beyond: dict, name: str) -> None:
    assert tripped(replace(FINE, **at)) == []
    assert tripped(replace(FINE, **beyond)) == [name]
    assert name in NAMES


def test_an_empty_audience_is_said_beside_the_floor() -> None:
    assert tripped(Numbers(0, 0, 0, 0)) == ["floor", "empty"]


def test_the_first_plan_may_add_everybody() -> None:
    assert tripped(Numbers(1000, 0, 1000, 0)) == []
    assert tripped(Numbers(1000, 10, 990, 0, is_first=True)) == []
    assert tripped(Numbers(1000, 10, 990, 0)) == ["added"]


def test_small_segments_come_and_go() -> None:
    assert tripped(replace(FINE, segments={"a": (99, 99)})) == []


def test_an_unknown_age_is_not_stale() -> None:
    assert tripped(replace(FINE, age=None)) == []


def test_words_hold_the_numbers() -> None:
    (said,) = check(replace(FINE, removed=500, segments={"mw: a": (200, 150)}), LIMITS)
    assert said.words == (
        "500 of 1,000 (50%) contacts would leave the audience; 150 of 200 (75%) would lose mw: a; 30% may at once"
    )
    shrinking = {f"mw: {name}": (200, losing) for name, losing in zip("abcde", (80, 200, 70, 150, 60), strict=True)}
    (said,) = check(replace(FINE, segments=shrinking), LIMITS)
    assert said.words == (
        "200 of 200 (100%) would lose mw: b; 150 of 200 (75%) would lose mw: d; 80 of 200 (40%) would lose mw: a;"
        " so would many of 1 more; 30% may at once"
    )
    (said,) = check(replace(FINE, age=timedelta(hours=50)), LIMITS)
    assert said.words == "a refresh confirmed the release 50 h ago; 36 h may pass"


def test_rejects_count_once_enough_was_sent() -> None:
    assert check_rejects(199, 199, LIMITS) is None
    assert check_rejects(200, 10, LIMITS) is None
    said = check_rejects(200, 11, LIMITS)
    assert said is not None
    assert (said.name, said.words) == ("rejects", "the platform refused 11 of 200 (6%) rows; 5% may be")
