"""Refusals are worked out once for a state of the lake and a release, and never taken from another state."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping

import pytest

from activation import consent, refusal_cache, releases
from tests.integration.activation.stage import Stage
from tests.integration.activation.test_consent import ADA, event
from tests.integration.activation.world import Person

BOB = "bob@example.com"


@pytest.fixture
def worked_out(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often refusals were worked out."""
    times: list[int] = []
    real = consent._work_out

    def counted(*arguments: object) -> object:
        times.append(1)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(consent, "_work_out", counted)
    return times


@pytest.fixture
def released(stage: Stage) -> Stage:
    stage.release([Person(ADA, "ada"), Person(BOB, "bob")])
    return stage


def settle(stage: Stage) -> None:
    """Let every file be of a minute ago, each in its own order."""
    then = time.time() - 60
    for path in [*stage.home.lake.rglob("*.parquet"), *stage.home.releases.rglob("*.parquet")]:
        os.utime(path, (then, then))


def ask(stage: Stage) -> Mapping[str, str]:
    return consent.refusals(stage.settings, stage.home, releases.latest(stage.home)).kinds


def test_what_was_worked_out_is_asked_for_again(released: Stage, worked_out: list[int]) -> None:
    released.deliver("crm", "consents", [event()])
    settle(released)
    first = consent.refusals(released.settings, released.home, releases.latest(released.home))
    again = consent.refusals(released.settings, released.home, releases.latest(released.home))
    assert first == again
    assert first.kinds == {ADA: "unsubscribe"}
    assert first.known_at
    assert len(worked_out) == 1


def test_a_new_delivery_is_heard_at_once(released: Stage, worked_out: list[int]) -> None:
    released.deliver("crm", "consents", [event()])
    settle(released)
    assert set(ask(released)) == {ADA}
    released.deliver("crm", "consents", [event(contact_point=BOB)])
    assert set(ask(released)) == {ADA, BOB}, "while it is new nothing is kept"
    settle(released)
    assert set(ask(released)) == {ADA, BOB}
    assert set(ask(released)) == {ADA, BOB}
    assert len(worked_out) == 3


def test_another_release_asks_anew(released: Stage, worked_out: list[int]) -> None:
    released.deliver("crm", "consents", [event()])
    settle(released)
    assert set(ask(released)) == {ADA}
    released.release([Person(ADA, "ada"), Person(BOB, "ada")])
    settle(released)
    assert set(ask(released)) == {ADA, BOB}, "they are one by now"
    assert len(worked_out) == 2


def test_a_file_that_is_spoilt_is_worked_out_again(released: Stage, worked_out: list[int]) -> None:
    released.deliver("crm", "consents", [event()])
    settle(released)
    ask(released)
    (kept,) = released.home.refusals.glob("*.parquet")
    kept.write_bytes(kept.read_bytes()[:40])
    assert set(ask(released)) == {ADA}
    assert set(ask(released)) == {ADA}
    assert len(worked_out) == 2


def test_few_are_kept_for_their_owner_alone_and_all_can_be_forgotten(released: Stage) -> None:
    for number in range(refusal_cache.KEPT + 2):
        released.deliver("crm", "consents", [event(contact_point=f"person{number}@example.com")])
        settle(released)
        ask(released)
    kept = list(released.home.refusals.glob("*"))
    assert len(kept) == refusal_cache.KEPT
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
    refusal_cache.forget(released.home)
    assert not list(released.home.refusals.glob("*"))
