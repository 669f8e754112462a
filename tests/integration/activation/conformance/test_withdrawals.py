"""Withdrawals: nobody who refused is written to, however the refusal and the calls come together."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.integration.activation.conformance.place import BATCH, Asked, Place, person, persons
from tests.integration.activation.world import AS_OF, Person


@pytest.mark.fault("compliance states")
def test_who_unsubscribed_there_is_never_brought_back(place: Place) -> None:
    people = persons(*range(6))
    place.release(people)
    place.settle()
    place.part.leave(place.there_key(person(1)), "unsubscribe")
    place.part.leave(place.there_key(person(2)), "bounce")
    for someone in people.values():
        someone.surname = "Changed"
    people[1].segments = people[2].segments = ("dormant", "onboarding")
    place.release(people)
    place.settle()
    assert place.differences(gone=[person(1), person(2)]) == []
    place.apply(place.plan(full=True))
    assert place.differences(gone=[person(1), person(2)]) == []


@pytest.mark.fault("withdrawal between plan and apply")
def test_a_withdrawal_after_the_plan_is_heeded(place: Place) -> None:
    people = persons(*range(8))
    place.release(people)
    made = place.plan()
    place.withdraw(person(3))
    before = len(place.watch.asked)
    report = place.apply(made)
    assert report.withheld > 0
    assert not place.calls_about(person(3), before)
    place.settle()
    place.assert_settled(gone=[person(3)])


@pytest.mark.fault("withdrawal during apply")
def test_a_withdrawal_while_calls_are_under_way_is_heeded(place: Place) -> None:
    place.release(persons(0))
    place.settle()
    people = persons(*range(60))
    place.release(people)
    made = place.plan()
    before = len(place.watch.asked)
    late: list[Person] = []

    def withdraw_at_the_first(asked: Asked) -> None:
        if asked.is_write and not late and b"person" in asked.raw:
            late.extend(someone for someone in people.values() if not asked.names(someone, place.key(someone)))
            place.withdraw(*late)

    place.watch.before = withdraw_at_the_first
    place.apply(made)
    place.watch.before = None
    # What other workers had under way, and no more.
    sent = [someone for someone in late if place.calls_about(someone, before)]
    assert len(sent) <= BATCH * place.platform.connections
    place.suppress()
    place.settle()
    place.assert_settled(gone=late)


@pytest.mark.fault("withdrawal without a plan")
def test_a_withdrawal_needs_no_release_no_plan_and_no_gate(place: Place) -> None:
    place.release(persons(*range(6)))
    place.settle()
    place.withdraw(person(2), at=AS_OF + timedelta(hours=1))
    place.withdraw(person(3), suppression="erasure", at=AS_OF + timedelta(hours=1))
    report = place.suppress()
    assert (report.unsubscribed, report.erased, report.pending, report.error) == (1, 1, 0, None)
    found = place.found()
    assert found[place.key(person(2))].state == "unsubscribed"
    assert place.key(person(3)) not in found
    # What is left for a plan is to take their tags away.
    place.settle()
    place.assert_settled(gone=[person(2), person(3)])


@pytest.mark.fault("withdrawal told twice")
def test_a_withdrawal_that_is_told_again_does_no_harm(place: Place) -> None:
    if place.faults is None:
        pytest.skip("makes no calls whose answer could be lost")
    place.release(persons(*range(6)))
    place.settle()
    place.withdraw(person(2))
    place.faults.order("lost", route="^(POST|PUT|PATCH|DELETE) ", times=2)
    place.settle()
    place.assert_settled(gone=[person(2)])
