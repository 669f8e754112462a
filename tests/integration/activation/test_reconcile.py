"""Reconcile: what differs between a ledger and its destination is reported, and repaired without harming anybody."""

from __future__ import annotations

from typing import Any

import pytest

from activation.ledger import State
from activation.reconcile import Differences, reconcile
from core.errors import PlanError
from core.home import Home
from core.settings import Settings
from tests.integration.activation.memory import Somebody
from tests.integration.activation.stage import KINDS, Stage
from tests.integration.activation.world import people


@pytest.fixture(params=list(KINDS))
def stage(request: pytest.FixtureRequest, home: Home, settings: Settings) -> Stage:
    made = Stage(home, settings, KINDS[request.param])
    made.release(people(6))
    made.apply()
    return made


def read(stage: Stage, **options: Any) -> Differences:
    return reconcile(stage.settings, stage.home, stage.sync, connector=stage.connector(), now=stage.clock, **options)


def spoil(stage: Stage) -> list[str]:
    """Marketers and people do things over there."""
    keys = [stage.key(person) for person in people(6)]
    there = stage.data.people
    del there[keys[0]]
    there[keys[1]].state = "unsubscribed"
    there[keys[2]].tags.clear()
    there[keys[3]].tags.add("mw_of_another_time")
    there[keys[4]].fields["NAME"] = "Adelaide"
    there["ee" * 16] = Somebody(tags={"theirs"})
    return keys


def test_nothing_differs_after_an_apply(stage: Stage) -> None:
    found = read(stage)
    assert found.is_none
    assert found.summary() == {"destination": "Memory one", "members there": 6, "differences": "none"}


def test_what_differs_is_reported_and_the_ledger_stays_as_it_was(stage: Stage) -> None:
    spoil(stage)
    before = stage.states()
    found = read(stage)
    assert (found.missing, found.left, found.unknown, found.tags, found.fields) == (1, 1, 1, 2, {"NAME": 1})
    assert found.members == 5
    assert stage.states() == before
    assert read(stage) == found
    assert stage.plan().is_empty


def test_after_repairing_the_next_plan_puts_it_right_and_brings_nobody_back(stage: Stage) -> None:
    keys = spoil(stage)
    assert read(stage, repair=True).repaired
    assert stage.states()[keys[1]] is State.LEFT
    made = stage.plan()
    assert made.silent == "reconciled"
    stage.apply(made)
    there = stage.data.people
    assert there[keys[1]].state == "unsubscribed"
    assert there["ee" * 16].tags == {"theirs"}
    for key in (keys[0], keys[2], keys[3], keys[4], keys[5]):
        assert (there[key].state, there[key].tags) == ("subscribed", {"mw_frequent_buyers"})
        assert there[key].fields["NAME"] == "Ada"
    assert stage.plan().is_empty
    assert read(stage).is_none


def test_who_was_unsubscribed_by_us_and_came_back_is_told_of_again_while_the_refusal_stands(stage: Stage) -> None:
    person = people(6)[0]
    stage.refuse(person.email)
    stage.apply()
    stage.data.people[stage.key(person)].state = "subscribed"
    assert read(stage, repair=True).returned == 1
    assert stage.plan().unsubscribes == 1


def test_resending_sends_everybody_again_silently(stage: Stage) -> None:
    spoil(stage)
    assert read(stage, resend=True).resent == 6
    made = stage.plan()
    assert (made.silent, made.updates) == ("reconciled", 6)


def test_nobody_else_may_be_at_work(stage: Stage) -> None:
    with stage.ledger() as ledger, ledger.lease(stage.connector().target, "apply of plan x"):  # noqa: SIM117
        with pytest.raises(PlanError, match="apply of plan x is at work"):
            read(stage)
