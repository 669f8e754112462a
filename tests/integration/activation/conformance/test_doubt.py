"""What was done there and never acknowledged: whatever is planned next, nothing of it is left behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from activation.ledger import Acknowledgement, Ledger
from tests.integration.activation.conformance.place import Place, person, persons


class Lost(BaseException):
    """The process is gone before the ledger has what the platform did."""


def lose(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apply, with the platform doing what it is told, until the ledger would be told the first of it."""

    def lost(ledger: Ledger, run_id: int, target: str, rows: Sequence[Acknowledgement], *_: Any) -> None:
        if rows:
            raise Lost

    made = place.plan()
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "acknowledge", lost)
        with pytest.raises(Lost):
            place.apply(made)


@pytest.mark.fault("lost acknowledgement, then another plan")
def test_what_was_never_acknowledged_is_put_right_by_the_next_plan(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = persons(*range(8))
    place.release(people)
    place.settle()
    # Of those who are there, three change; two come. All is done, and nobody here knows.
    changed = persons(*range(10), 20)
    for number in (0, 1, 2):
        changed[number].surname = "Changed"
        changed[number].segments = ("onboarding", "dormant", "frequent_buyers")
    changed[9].country_code = "DE"
    place.release(changed)
    lose(place, monkeypatch)
    # What they were is what they are to be again, but for one who refuses; of those who came one does, and one goes.
    back = persons(*range(10))
    back[9].country_code = back[9].rfm_segment = None
    refused = [person(1), person(8)]
    place.withdraw(*refused)
    place.release(back)
    place.settle()
    place.assert_settled(refused=refused)


@pytest.mark.fault("lost acknowledgement of tags")
def test_tags_that_were_never_acknowledged_are_taken_off(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    people = persons(*range(6))
    place.release(people)
    place.settle()
    changed = persons(*range(6))
    for someone in changed.values():
        someone.segments = ("onboarding", "dormant")
    place.release(changed)
    lose(place, monkeypatch)
    place.withdraw(person(1))
    del people[2]
    place.release(people)
    place.settle()
    place.assert_settled(refused=[person(1)])
