"""Withdrawals reach every destination by themselves: without a release, a plan or a gate, and whatever else goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from activation import doubtful, suppress
from activation.connector import Contact, Member
from activation.doubtful import Notes
from activation.engine import Operation
from activation.http import TryAgainError
from activation.ledger import State
from activation.suppress import SuppressReport, percentile
from core.errors import DestinationError
from core.home import Home
from core.settings import Settings
from tests.integration.activation.memory import Account, Somebody, opened
from tests.integration.activation.stage import IMPATIENT, KINDS, NOW, Stage
from tests.integration.activation.world import AS_OF, Person, people


@pytest.fixture(params=list(KINDS))
def stage(request: pytest.FixtureRequest, home: Home, settings: Settings) -> Stage:
    return Stage(home, settings, KINDS[request.param])


def put(stage: Stage, *persons: Person) -> None:
    """They are at the destination, and the ledger knows."""
    for person in persons:
        stage.data.people[stage.key(person)] = Somebody(email=person.email)
    with stage.ledger() as ledger:
        members = (Member(key, one.state) for key, one in stage.data.people.items())
        ledger.import_members(stage.connector().target, members, NOW)


def push(stage: Stage, monkeypatch: pytest.MonkeyPatch, **connectors: Any) -> list[SuppressReport]:
    syncs = {"memory": stage.sync, **dict.fromkeys(connectors, stage.sync)}
    monkeypatch.setattr("activation.sync.read", lambda settings, name: syncs[name])
    return suppress.suppress(
        stage.settings, stage.home, sorted(syncs), connectors={"memory": stage.connector(), **connectors},
        retry=IMPATIENT, now=stage.clock,
    )  # fmt: skip


def test_a_refusal_is_told_and_then_not_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    persons = people(3)
    stage.release(persons)
    put(stage, *persons)
    stage.refuse(persons[1].email, at=NOW - timedelta(minutes=7))
    (report,) = push(stage, monkeypatch)
    assert (report.unsubscribed, report.pending, report.error) == (1, 0, None)
    assert report.p50 == report.p95 == timedelta(minutes=7)
    assert stage.data.people[stage.key(persons[1])].state == "unsubscribed"
    assert stage.data.people[stage.key(persons[0])].state == "subscribed"
    assert stage.states()[stage.key(persons[1])] is State.UNSUBSCRIBED
    stage.data.calls.clear()
    (again,) = push(stage, monkeypatch)
    assert (again.unsubscribed, again.p95) == (0, None)
    assert not stage.data.calls


def test_as_of_and_a_failed_gate_hold_nothing_up(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    from core import gate

    persons = people(2)
    stage.release(persons)
    put(stage, *persons)
    gate.begin(stage.home, NOW)
    stage.refuse(persons[0].email, at=AS_OF + timedelta(days=4000))
    assert push(stage, monkeypatch)[0].unsubscribed == 1


def test_without_any_release_an_address_is_found_by_its_key(
    home: Home, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(home, settings)
    persons = people(2)
    put(stage, *persons)
    stage.refuse(" Person00001@Example.com")
    assert push(stage, monkeypatch)[0].unsubscribed == 1
    assert stage.data.people[persons[1].key].state == "unsubscribed"


def test_a_release_whose_files_are_spoilt_holds_nothing_up(
    home: Home, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(home, settings)
    persons = people(2)
    release = stage.release(persons)
    put(stage, *persons)
    release.file("addresses").write_bytes(b"spoilt")
    stage.refuse(persons[1].email)
    assert push(stage, monkeypatch)[0].unsubscribed == 1


def test_a_document_with_a_mistake_holds_nothing_up(
    home: Home, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    stage = Stage(home, settings)
    put(stage, *people(1))
    stage.refuse(people(1)[0].email)
    (tmp_path / "memory.yml").write_text(f"platform: {stage.kind.platform.name}\nfields: {{no_such_column: X}}\n")
    monkeypatch.setattr("activation.sync.FOLDER", tmp_path)
    (report,) = suppress.suppress(settings, home, ["memory"], connectors={"memory": stage.connector()}, now=stage.clock)
    assert (report.unsubscribed, report.error) == (1, None)


def test_customers_are_found_by_this_and_by_older_releases(
    home: Home, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(home, settings, KINDS["attributes by customer"])
    merged, moved, stayed = (
        Person("old@example.com", "aa"), Person("moved@example.com", "bb"), Person("stays@example.com", "cc"),
    )  # fmt: skip
    stage.release([merged, moved, stayed])
    put(stage, merged, moved, stayed)
    # The customer aa is gone; bb has another address now, and the one it had is somebody else's.
    now = [Person("new@example.com", "bb"), stayed, Person("moved@example.com", "dd")]
    stage.release(now, as_of=AS_OF + timedelta(days=1))
    stage.refuse("old@example.com", "moved@example.com")
    push(stage, monkeypatch)
    assert {key: one.state for key, one in stage.data.people.items()} == {
        "aa": "unsubscribed", "bb": "subscribed", "cc": "subscribed",
    }  # fmt: skip


@pytest.mark.parametrize("planned", [True, False], ids=["under the agreed address", "perhaps under the refused one"])
def test_who_agreed_for_another_address_later_is_told_only_where_the_refused_one_may_be_there(
    home: Home, settings: Settings, monkeypatch: pytest.MonkeyPatch, planned: bool
) -> None:
    stage = Stage(home, settings, KINDS["attributes by customer"])
    refused, agreed, other = (
        Person("ada@example.com", "aa"), Person("ada.new@example.com", "aa"), Person("bob@example.com", "bb"),
    )  # fmt: skip
    if not planned:
        stage.release([refused, other])
        stage.apply()
    stage.refuse(refused.email, at=AS_OF + timedelta(days=1))
    consent = {"contact_point": agreed.email, "channel": "email", "purpose": "marketing", "state": "confirmed"}
    later = AS_OF + timedelta(days=2)
    stage.deliver("crm", "consents", [{**consent, "captured_at": later.replace(tzinfo=None)}], later)
    stage.release([agreed, other], as_of=AS_OF + timedelta(days=3), others=[(refused.email, "aa")])
    if planned:
        stage.apply()
    push(stage, monkeypatch)
    assert stage.data.people["aa"].state == ("subscribed" if planned else "unsubscribed")
    assert stage.data.people["bb"].state == "subscribed"


def test_erasure_deletes_whoever_is_there_even_if_unsubscribed_before(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    persons = people(3)
    stage.release(persons)
    put(stage, *persons)
    stage.refuse(persons[0].email)
    push(stage, monkeypatch)
    stage.erase(persons[0].email)
    stage.erase(persons[1].email)
    (report,) = push(stage, monkeypatch)
    assert (report.erased, report.unsubscribed) == (2, 0)
    assert set(stage.data.people) == {stage.key(persons[2])}
    assert stage.states()[stage.key(persons[0])] is State.ERASED
    assert push(stage, monkeypatch)[0].erased == 0


def test_a_bounce_and_an_expired_consent_are_not_told(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    persons = people(2)
    stage.release(persons)
    put(stage, *persons)
    bounce = {"event_id": "b", "event_type": "bounced", "bounce_type": "hard", "email": persons[0].email}
    stage.deliver("email", "events", [{**bounce, "occurred_at": AS_OF.replace(tzinfo=None)}], AS_OF)
    assert push(stage, monkeypatch)[0].unsubscribed == 0


def test_a_destination_that_fails_holds_up_no_other_and_raises_the_alarm_after_a_day(
    home: Home, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(home, settings)
    persons = people(3)
    stage.release(persons)
    put(stage, *persons)
    broken = opened(stage.kind, Account({key: Somebody() for key in stage.data.people}), "two")
    with stage.ledger() as ledger:
        ledger.import_members(broken.target, broken.members(), NOW)

    def before(kind: str, contacts: Sequence[Contact]) -> None:
        raise TryAgainError("503")

    broken.before = before
    stage.refuse(persons[0].email, at=NOW - timedelta(hours=25))
    stage.refuse(persons[1].email, at=NOW - timedelta(hours=1))
    working, failing = push(stage, monkeypatch, two=broken)
    assert (working.unsubscribed, working.error, working.overdue) == (2, None, [])
    assert (failing.unsubscribed, failing.pending) == (0, 2)
    assert failing.error is not None
    assert "gave up after 3 attempts" in failing.error
    assert [one.key for one in failing.overdue] == [persons[0].key]
    assert failing.summary()["ALARM: for more than 24 hours"] == 1
    assert "@" not in repr(failing)


def test_a_grant_that_comes_while_it_is_told_is_heeded(
    home: Home, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(home, settings)
    person = Person("ada@example.com", "aa")
    stage.release([person], as_of=AS_OF + timedelta(days=9))
    put(stage, person)
    stage.refuse(person.email)
    connector = stage.connector()

    def before(kind: str, contacts: Sequence[Contact]) -> None:
        if not stage.data.calls["asked"]:
            stage.data.calls["asked"] += 1
            consent = {"contact_point": person.email, "channel": "email", "purpose": "marketing", "state": "confirmed"}
            later = AS_OF + timedelta(days=1)
            stage.deliver("crm", "consents", [{**consent, "captured_at": later.replace(tzinfo=None)}], later)
            raise TryAgainError("503")

    connector.before = before
    (report,) = push(stage, monkeypatch, memory=connector)
    assert report.unsubscribed == 0
    assert stage.data.people[person.key].state == "subscribed"


def test_who_may_have_been_created_without_an_answer_is_told_too(
    home: Home, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process was killed between the platform's answer and the ledger, and the person refused since."""
    stage = Stage(home, settings)
    there, absent = people(2)
    stage.release([there, absent])
    stage.data.people[there.key] = Somebody()
    target = stage.connector().target
    Notes(home, target, "hash", 1).note([Operation("create", Contact(one.key)) for one in (there, absent)])
    stage.refuse(there.email)
    (report,) = push(stage, monkeypatch)
    assert report.unsubscribed == 1
    assert stage.data.people[there.key].state == "unsubscribed"
    with stage.ledger() as ledger:
        keys = {bytes.fromhex(one.key) for one in (there, absent)}
        assert doubtful.unknown(home, ledger, target, keys) == {bytes.fromhex(absent.key)}


def test_while_a_plan_is_applied_what_it_creates_is_left_to_the_next_run(
    home: Home, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(home, settings)
    known, coming = people(2)
    stage.release([known, coming])
    put(stage, known)
    target = stage.connector().target
    Notes(home, target, "hash", 1).note([Operation("create", Contact(coming.key))])
    stage.refuse(known.email, coming.email)
    with stage.ledger() as ledger, ledger.lease(target, "apply"):
        assert push(stage, monkeypatch)[0].unsubscribed == 1, "beside the apply"
    assert set(stage.states()) == {known.key}
    assert push(stage, monkeypatch)[0].unsubscribed == 1


def test_a_revoked_key_is_reported_by_its_destination(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    persons = people(1)
    stage.release(persons)
    put(stage, *persons)
    stage.refuse(persons[0].email)
    connector = stage.connector()

    def before(kind: str, contacts: Sequence[Contact]) -> None:
        raise DestinationError("401: the key was revoked")

    connector.before = before
    (report,) = push(stage, monkeypatch, memory=connector)
    assert report.error == "401: the key was revoked"
    assert report.pending == 1


def test_a_name_that_is_no_sync_is_said(home: Home, settings: Settings) -> None:
    (report,) = suppress.suppress(settings, home, ["pigeon"])
    assert report.error is not None
    assert "there is no sync 'pigeon'" in report.error


@pytest.mark.parametrize(
    ("minutes", "percent", "expected"),
    [([], 95, None), ([4], 50, 4), ([1, 2, 3, 4], 50, 2), (list(range(1, 101)), 95, 95), ([1, 9], 95, 9)],
)
def test_percentiles_are_by_nearest_rank(minutes: list[int], percent: int, expected: int | None) -> None:
    found = percentile([timedelta(minutes=one) for one in minutes], percent)
    assert found == (None if expected is None else timedelta(minutes=expected))
