"""What can be wrong with rows: a bad one costs no other, and what is missing or double does no harm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from activation.connector import Answer
from activation.connectors import salesforce
from activation.sandbox.part import Part
from tests.integration.activation.conformance.place import IMPOSSIBLE, UNACCEPTABLE, Place, person, persons


@pytest.mark.fault("no fault")
def test_a_release_arrives_whole_and_once(place: Place) -> None:
    place.release(persons(*range(10)))
    report = place.apply()
    assert (report.rejected, report.withheld) == (0, 0)
    place.assert_settled()
    calls = len(place.watch.asked)
    assert place.apply().changed == 0
    assert not [asked for asked in place.watch.asked[calls:] if asked.is_write and "token" not in asked.path]


@pytest.mark.fault("one bad row in a batch")
def test_a_batch_that_is_refused_whole_is_halved_until_the_bad_row_is_known(place: Place) -> None:
    if place.faults is None:
        pytest.skip("refuses no rows")
    people = persons(*range(9))
    people[4].surname = UNACCEPTABLE
    place.release(people)
    place.watch.unacceptable = UNACCEPTABLE
    report = place.apply()
    assert report.rejected == 1
    sound = {number: one for number, one in people.items() if number != 4}
    assert place.differences(sound) == []
    assert place.plan().operations == 0, "a refused row is sent again only when it changes, or on request"
    people[4].surname = "Acceptable"
    place.release(people)
    place.settle()
    place.assert_settled()


@pytest.mark.fault("per-record errors inside a 200")
def test_a_row_that_a_successful_answer_refuses_is_a_dead_letter(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    if place.faults is None or place.platform.is_middleware:
        pytest.skip("says nothing of single rows: takes a call in, or refuses it")
    # Few rows are saved at once by Salesforce, all or none; its jobs tell of each.
    monkeypatch.setattr(salesforce, "SYNCHRONOUS", 1)
    people = persons(*range(9))
    people[4].email = IMPOSSIBLE
    place.release(people)
    report = place.apply()
    assert (report.rejected, report.retries) == (1, 0), "the other rows of its call have to do nothing with it"
    assert isinstance(place.part, Part)
    statuses = {call["status"] for call in place.part.people.calls(100)}
    assert statuses <= {200, 201, 202, 204}
    [letter] = place.ledger.newest_letters(place.connector.target)
    assert letter["key"].hex() == place.key(people[4])
    assert IMPOSSIBLE not in letter["words"]
    assert place.differences({number: one for number, one in people.items() if number != 4}) == []
    assert place.plan().operations == 0
    people[4].email = person(4).email
    place.release(people)
    place.apply(place.plan(retry_rejected=True))
    place.assert_settled()


@pytest.mark.fault("refused row asked for again")
def test_a_refused_row_is_sent_again_on_request(place: Place) -> None:
    if place.faults is None:
        pytest.skip("refuses no rows")
    people = persons(*range(5))
    people[4].surname = UNACCEPTABLE
    place.release(people)
    place.watch.unacceptable = UNACCEPTABLE
    place.apply()
    place.watch.unacceptable = None
    place.apply(place.plan(retry_rejected=True))
    place.assert_settled()


@pytest.mark.fault("missing fields")
def test_what_is_missing_is_left_out_and_what_goes_is_cleared(place: Place) -> None:
    people = persons(*range(5))
    people[0].country_code = people[0].rfm_segment = None
    people[1].segments = ()
    place.release(people)
    place.settle()
    place.assert_settled()
    people[0].country_code, people[2].country_code, people[3].rfm_segment = "DE", None, None
    place.release(people)
    place.settle()
    place.assert_settled()


@pytest.mark.fault("duplicates")
def test_addresses_of_one_customer_and_cases_of_one_address_are_one_contact(place: Place) -> None:
    people = persons(*range(4))
    people[9] = person(9, customer_id=people[0].customer_id)
    place.release(people)
    place.settle()
    expected = len(people) if place.platform.key == "email" else len(people) - 1
    assert sum(1 for _ in place.part.people.everyone()) == expected
    assert place.plan().operations == 0


@pytest.mark.fault("removals")
def test_who_leaves_a_segment_loses_its_tag_and_who_leaves_the_audience_loses_all(place: Place) -> None:
    people = persons(*range(6))
    place.release(people)
    place.settle()
    people[0].segments = ()
    people[1].segments = ("dormant", "onboarding")
    del people[2]
    place.release(people)
    place.settle()
    place.assert_settled()
    assert place.key(person(2)) in place.found(), "only an erasure deletes"


@pytest.mark.fault("archive on leave")
def test_who_leaves_can_be_archived_and_comes_back(place: Place) -> None:
    place.sync = place.sync.model_copy(update={"on_leave": "archive"})
    people = persons(*range(5))
    place.release(people)
    place.settle()
    place.release({number: one for number, one in people.items() if number != 2})
    place.settle()
    archived = place.found().get(place.key(person(2)))
    assert archived is None or archived.state != "subscribed"
    assert place.differences() == []
    place.release(people)
    place.settle()
    place.assert_settled()


@pytest.mark.fault("changed address or merged customer")
def test_another_key_is_a_rekey_and_no_second_contact(place: Place) -> None:
    people = persons(*range(5))
    place.release(people)
    place.settle()
    if place.platform.key == "email":
        people[1] = person(1, email="new.address@example.com")
    else:
        people[1] = person(1, customer_id="f" * 16)
        place.merge(person(1).customer_id, "f" * 16)
    place.release(people)
    made = place.plan()
    place.apply(made)
    place.settle()
    assert place.differences() == []
    mailed = [one for one in place.part.people.everyone() if one.state == "subscribed"]
    assert len(mailed) == len(people), "the contact is there under its old key too"


@pytest.mark.fault("nobody of ours touched")
def test_people_and_tags_of_others_stay(place: Place) -> None:
    place.release(persons(*range(4)))
    place.settle()
    before = {key: dict(place.part.fields_of(one)) for key, one in place.found().items()}
    people = persons(*range(4))
    people[0].surname = "Changed"
    place.release(people)
    place.settle()
    after = {key: dict(place.part.fields_of(one)) for key, one in place.found().items()}
    assert {key for key in before if before[key] != after[key]} == {place.key(person(0))}


_KIND_OF_CALL = {
    "write": "contacts",
    "change_tag": "tags",
    "unsubscribe": "unsubscribe",
    "erase": "erase",
    "archive": "archive",
    "rekey": "rekey",
}


def counted(calls: Counter[str], kind: str, method: Callable[..., Answer]) -> Callable[..., Answer]:
    def call(*arguments: Any) -> Answer:
        calls[kind] += 1
        return method(*arguments)

    return call


@pytest.mark.fault("expected calls")
def test_a_plan_expects_the_calls_that_are_made(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.release(persons(*range(18)))
    place.settle()
    people = persons(*range(25))
    for number in (0, 1, 2, 3, 4):
        del people[number]
    for number in (5, 6, 7):
        people[number].surname = "Changed"
        people[number].segments = ("onboarding", "dormant")
    people[8].segments = ()
    place.withdraw(person(9))
    place.withdraw(person(10), suppression="erasure")
    place.release(people)
    made: Counter[str] = Counter()
    for method, kind in _KIND_OF_CALL.items():
        monkeypatch.setattr(place.connector, method, counted(made, kind, getattr(place.connector, method)))
    plan = place.plan()
    before = len(place.watch.asked)
    assert place.apply(plan).retries == 0
    assert plan.calls == dict(made)
    sent = [one for one in place.watch.asked[before:] if one.is_write and not one.is_reading]
    # Salesforce deletes the row and the contact, by a call each.
    twice = plan.calls["erase"] if place.platform.name == "sfmc" else 0
    assert len(sent) == sum(plan.calls.values()) + twice
