"""Applying a plan: what stops it before it begins, what it survives, and what it leaves in the ledger."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from activation import doubtful, drop_files, drops
from activation.connector import Contact, Field
from activation.doubtful import Notes
from activation.drop_files import Folder
from activation.engine import DestinationDownError, Operation, StoppedError
from activation.http import RefusedError, TryAgainError
from activation.ledger import Ledger, State
from core import gate
from core.errors import DestinationError, LedgerError, PlanError
from core.home import Home
from core.settings import Settings
from tests.integration.activation.memory import opened
from tests.integration.activation.stage import KINDS, LENIENT, NOW, Stage
from tests.integration.activation.world import AS_OF, Person, people


@pytest.fixture(params=list(KINDS))
def stage(request: pytest.FixtureRequest, home: Home, settings: Settings) -> Stage:
    return Stage(home, settings, KINDS[request.param])


@pytest.fixture
def simple(home: Home, settings: Settings) -> Stage:
    return Stage(home, settings)


def down(kind: str, contacts: Sequence[Contact]) -> None:
    raise TryAgainError("503")


# What a plan does.


def test_everybody_is_there_and_a_second_run_sends_nothing(stage: Stage) -> None:
    persons = people(7, segments=("frequent_buyers", "onboarding"))
    stage.release(persons)
    report = stage.apply()
    assert report.upserted == 7
    assert set(stage.data.people) == {stage.key(person) for person in persons}
    assert stage.data.tags() == {f"mw_{name}": set(stage.data.people) for name in persons[0].segments}
    assert set(stage.states().values()) == {State.SYNCED}
    stage.data.calls.clear()
    again = stage.plan()
    assert again.is_empty
    assert stage.apply(again).summary()["changes"] == "nothing to do"
    assert not stage.data.calls


def test_fields_and_tags_are_made_ready_first(stage: Stage) -> None:
    stage.release(people(2))
    connector = stage.connector()
    stage.apply(connector=connector)
    assert connector.prepared == [(["NAME", "RFM", "ORDERS"], ["mw_frequent_buyers"])]


def test_leaving_the_audience_takes_memberships_and_keeps_the_contact(stage: Stage) -> None:
    persons = people(3)
    stage.release(persons)
    stage.apply()
    stage.release(persons[:2], as_of=AS_OF + timedelta(days=1))
    stage.apply()
    left = stage.data.people[stage.key(persons[2])]
    assert (left.state, left.tags) == ("subscribed", set())
    assert stage.plan().is_empty


def test_a_refusal_and_an_erasure_reach_the_platform_by_a_plan_too(stage: Stage) -> None:
    persons = people(3)
    stage.release(persons)
    stage.apply()
    stage.refuse(persons[0].email)
    stage.erase(persons[1].email)
    report = stage.apply()
    assert (report.unsubscribed, report.acknowledged["erase"]) == (1, 1)
    assert {key: one.state for key, one in stage.data.people.items()} == {
        stage.key(persons[0]): "unsubscribed", stage.key(persons[2]): "subscribed",
    }  # fmt: skip
    assert stage.plan().is_empty


def test_a_changed_address_is_the_same_contact(simple: Stage) -> None:
    before = Person("old@example.com", "aa")
    simple.release([before])
    simple.apply()
    simple.data.people[before.key].fields["THEIRS"] = "kept"
    after = Person("new@example.com", "aa")
    simple.release([after], as_of=AS_OF + timedelta(days=1))
    assert simple.apply().acknowledged["rekey"] == 1
    assert set(simple.data.people) == {after.key}
    assert simple.data.people[after.key].fields["THEIRS"] == "kept"
    assert simple.data.made[after.key] == 0
    assert simple.plan().is_empty


def test_who_could_not_be_given_a_new_key_is_not_written_under_it(simple: Stage) -> None:
    before, other = Person("old@example.com", "aa"), Person("other@example.com", "bb")
    simple.release([before, other])
    simple.apply()
    after = Person("new@example.com", "aa")
    simple.release([after, other], as_of=AS_OF + timedelta(days=1))
    simple.data.rejects = {after.key}
    report = simple.apply()
    assert (report.rejected, report.withheld) == (1, 1)
    assert set(simple.data.people) == {before.key, other.key}


def test_archiving_where_the_sync_says_so(simple: Stage) -> None:
    simple.options = {"on_leave": "archive"}
    persons = people(2)
    simple.release(persons)
    simple.apply()
    simple.release(persons[:1], as_of=AS_OF + timedelta(days=1))
    assert simple.apply().acknowledged["archive"] == 1
    assert simple.data.people[persons[1].key].state == "archived"
    assert simple.plan().is_empty
    simple.release(persons, as_of=AS_OF + timedelta(days=2))
    simple.apply()
    assert simple.data.people[persons[1].key].state == "subscribed"


# What stops it before it begins.


def test_an_expired_plan_is_refused(simple: Stage) -> None:
    simple.release(people(1))
    made = simple.plan()
    simple.now = made.expires_at
    with pytest.raises(PlanError, match=r"expired .*plan again"):
        simple.apply(made)
    assert not simple.data.calls


@pytest.mark.parametrize("breaker", ["added", "removed", "floor", "stale", "gate"])
def test_a_tripped_breaker_stops_it_until_it_is_overridden_by_name(simple: Stage, breaker: str) -> None:
    limits: dict[str, dict[str, Any]] = {
        "added": {"added": 0.5},
        "removed": {"removed": 0.3},
        "floor": {"floor": 100},
        "stale": {"max_age": "36h"},
    }
    persons = people(10)
    simple.release(persons[:6] if breaker == "added" else persons)
    simple.apply()
    simple.options = {"breakers": {**LENIENT, **limits.get(breaker, {})}}
    simple.release(persons if breaker == "added" else persons[:5], as_of=AS_OF + timedelta(days=1))
    if breaker == "gate":
        gate.begin(simple.home, NOW)
    made = simple.plan()
    simple.data.calls.clear()
    with pytest.raises(PlanError, match=f"implausible and was not applied .*--override {breaker}"):
        simple.apply(made)
    with pytest.raises(PlanError, match="implausible"):
        simple.apply(made, override={"rejects"})
    assert not simple.data.calls
    assert simple.apply(made, override={breaker}, by="Grace").changed > 0
    with simple.ledger() as ledger:
        assert f"{breaker} by Grace" in str(ledger.last_runs(1)[0]["overrides"])


def test_an_override_of_no_breaker_is_said(simple: Stage) -> None:
    simple.release(people(1))
    with pytest.raises(PlanError, match="there is no breaker remove; there is: added"):
        simple.apply(override={"remove"})


def test_a_plan_of_an_older_release_is_refused(simple: Stage) -> None:
    simple.release(people(2))
    made = simple.plan()
    simple.release(people(3), as_of=AS_OF + timedelta(days=1))
    with pytest.raises(PlanError, match="of release 1, the newest is 2: plan again"):
        simple.apply(made)


def test_a_plan_from_before_another_apply_is_refused(simple: Stage) -> None:
    simple.release(people(2))
    first = simple.plan()
    simple.refuse(people(2)[1].email)
    simple.apply()
    with pytest.raises(PlanError, match="the ledger has moved"):
        simple.apply(first)


def test_a_plan_is_refused_by_another_account(simple: Stage) -> None:
    simple.release(people(1))
    with pytest.raises(PlanError, match="made for Memory one, not for Memory two"):
        simple.apply(simple.plan(), connector=opened(simple.kind, simple.data, "two"))


def test_a_plan_whose_rows_are_spoilt_is_refused(simple: Stage) -> None:
    simple.release(people(3))
    made = simple.plan()
    made.path.write_bytes(made.path.read_bytes()[:-20])
    with pytest.raises(PlanError, match="plan again"):
        simple.apply(made)
    assert not simple.data.people


def test_two_applies_at_once(simple: Stage) -> None:
    """While one works the other is refused, with a word about who is at work; nobody comes twice."""
    simple.release(people(9))
    made = simple.plan()
    connector, working, go_on = simple.connector(), threading.Event(), threading.Event()

    def wait(kind: str, contacts: Sequence[Contact]) -> None:
        working.set()
        go_on.wait(30)

    connector.before = wait
    first = threading.Thread(target=lambda: simple.apply(made, connector=connector))
    first.start()
    assert working.wait(30)
    with pytest.raises(PlanError, match=f"apply of plan {made.hash} is at work"):
        simple.apply(made)
    go_on.set()
    first.join(30)
    assert set(simple.data.made.values()) == {1}
    assert simple.apply(made).done_before == made.operations


# What may happen while it runs.


def test_a_withdrawal_between_plan_and_apply(stage: Stage) -> None:
    persons = people(3)
    stage.release(persons)
    made = stage.plan()
    stage.refuse(" Person00001@Example.com ")  # as people write it
    report = stage.apply(made)
    assert set(stage.data.people) == {stage.key(persons[0]), stage.key(persons[2])}
    assert report.withheld == (2 if stage.kind.platform.membership == "tags" else 1)
    assert stage.plan().is_empty


def test_a_withdrawal_while_it_runs_holds_for_all_later_calls(stage: Stage) -> None:
    persons = people(30)
    stage.release(persons)
    made = stage.plan()
    by_key = {stage.key(person): person for person in persons}
    refused: list[Person] = []
    lock = threading.Lock()

    def after(kind: str, contacts: Sequence[Contact]) -> None:
        with lock:
            if refused:
                return
            there = set(stage.data.people) | {contact.key for contact in contacts}
            refused.append(next(by_key[key] for key in sorted(by_key, reverse=True) if key not in there))
            stage.refuse(refused[0].email)

    connector = stage.connector()
    connector.after = after
    stage.apply(made, connector=connector)
    assert stage.key(refused[0]) not in stage.data.people
    assert len(stage.data.people) == 29
    assert stage.plan().is_empty


def test_a_credential_that_is_revoked_half_way(stage: Stage) -> None:
    persons = people(12)
    stage.release(persons)
    made = stage.plan()
    connector = stage.connector()
    calls: list[str] = []

    def before(kind: str, contacts: Sequence[Contact]) -> None:
        calls.append(kind)
        if len(calls) > 3:
            raise DestinationError("401: the key was revoked; make a new one")

    connector.before = before
    with pytest.raises(DestinationError, match="the key was revoked"):
        stage.apply(made, connector=connector)
    with stage.ledger() as ledger:
        assert ledger.last_runs(1)[0]["outcome"] == "stopped by the platform"
    claimed = set(stage.states())
    assert claimed
    assert claimed <= set(stage.data.people)
    report = stage.apply(made)
    assert report.done_before + report.changed == made.operations
    assert stage.plan().is_empty


def test_a_full_disk_stops_it_cleanly(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    persons = people(9)
    stage.release(persons)
    made = stage.plan()
    real = Ledger.acknowledge

    def full(*said: object) -> None:
        raise LedgerError("the ledger can't be read or written (database or disk is full): mend that")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "acknowledge", full)
        patch.setattr(Ledger, "end", full)
        with pytest.raises(LedgerError, match="disk is full"):
            stage.apply(made)
    assert Ledger.acknowledge is real
    assert not stage.states()
    stage.apply(made)
    assert set(stage.data.made.values()) == {1}
    assert stage.plan().is_empty


def test_a_real_full_disk(simple: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite itself finds no room: its file may not grow any more."""
    from sqlalchemy import event

    simple.release(people(60))
    made = simple.plan()
    full = [True]

    def limit(connection: object, record: object) -> None:
        if full[0]:
            pages = connection.execute("pragma page_count").fetchone()[0]  # type: ignore[attr-defined]
            connection.execute(f"pragma max_page_count = {pages}")  # type: ignore[attr-defined]

    from sqlalchemy.pool import Pool

    event.listen(Pool, "connect", limit)
    try:
        with pytest.raises(LedgerError, match="full"):
            simple.apply(made)
    finally:
        event.remove(Pool, "connect", limit)
    simple.apply(made)
    assert set(simple.data.made.values()) == {1}
    assert simple.plan().is_empty


def test_a_ledger_restored_from_yesterdays_backup(stage: Stage) -> None:
    import shutil

    from activation.reconcile import reconcile

    persons = people(4)
    stage.release(persons)
    stage.apply()
    backup = stage.home.root / "backup.db"
    with stage.ledger():
        pass
    shutil.copy(stage.home.ledger, backup)
    persons[0].given_name = "Grace"
    stage.release(persons[:3], as_of=AS_OF + timedelta(days=1))
    made = stage.plan()
    stage.apply(made)
    for path in stage.home.root.glob("ledger.db-*"):
        path.unlink()
    shutil.copy(backup, stage.home.ledger)
    for act in (stage.plan, lambda: stage.apply(made)):
        with pytest.raises(PlanError, match=r"older than the home remembers .*reconcile"):
            act()
    found = reconcile(stage.settings, stage.home, stage.sync, connector=stage.connector(), repair=True, now=stage.clock)
    assert found.repaired
    stage.apply()
    assert stage.data.people[stage.key(persons[0])].fields["NAME"] == "Grace"
    assert stage.data.people[stage.key(persons[3])].tags == set()
    assert stage.plan().is_empty


def test_too_many_rejects_stop_it(simple: Stage) -> None:
    persons = people(400)
    simple.release(persons)
    simple.options = {"breakers": {**LENIENT, "rejects": 0.05}}
    simple.data.rejects = {person.key for person in persons[::2]}
    made = simple.plan()
    with pytest.raises(StoppedError, match=r"the platform refused .* rows; 5% may be; look at the dead letters"):
        simple.apply(made)
    with simple.ledger() as ledger:
        assert ledger.last_runs(1)[0]["outcome"] == "stopped by the breaker rejects"
    assert simple.apply(made, override={"rejects"}).rejected > 0


def test_going_on_does_not_repeat_what_was_refused(simple: Stage) -> None:
    persons = people(6)
    simple.release(persons)
    simple.data.rejects = {persons[0].key}
    made = simple.plan()
    connector = simple.connector()
    connector.before = lambda kind, contacts: down(kind, contacts) if kind.startswith("tag") else None
    with pytest.raises(DestinationDownError):
        simple.apply(made, connector=connector)
    simple.data.calls.clear()
    report = simple.apply(made)
    assert (report.rejected, report.upserted, report.done_before) == (0, 0, 6)
    assert "write" not in simple.data.calls
    assert report.withheld == 1, "the tag of whom the platform did not take"


def test_a_set_up_that_is_refused_says_so(simple: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    simple.release(people(1))

    def refuse(fields: Sequence[Field], tags: object) -> None:
        raise RefusedError("TOO_MANY", "you have too many merge fields")

    connector = simple.connector()
    monkeypatch.setattr(connector, "prepare", refuse)
    with pytest.raises(DestinationError, match="refuses to set up our fields or tags: you have too many"):
        simple.apply(connector=connector)


def test_the_ledger_holds_neither_addresses_nor_values(stage: Stage) -> None:
    persons = people(3, given_name="Marmaduke")
    stage.data.rejects = {stage.key(persons[0])}
    stage.release(persons)
    stage.apply()
    stage.refuse(persons[1].email)
    stage.apply()
    held = [*stage.home.root.glob("ledger.db*"), *(stage.home.state / "syncs").rglob("*.parquet")]
    found = b"".join(path.read_bytes() for path in held).lower()
    for personal in (b"@example", b"marmaduke", b"champions"):
        assert personal not in found


# When a destination stays down.


def test_a_full_plan_that_was_interrupted_is_sent_whole(simple: Stage) -> None:
    simple.release(people(4))
    simple.apply()
    for somebody in simple.data.people.values():
        somebody.fields.clear()  # at the platform, and the ledger does not know
    made = simple.plan(full=True)
    connector = simple.connector()
    connector.before = down
    with pytest.raises(DestinationDownError):
        simple.apply(made, connector=connector)
    assert simple.apply(made).done_before == 0
    assert [somebody.fields["NAME"] for somebody in simple.data.people.values()] == ["Ada"] * 4
    assert simple.apply(made).calls == 0


def test_down_past_the_deadline_the_audience_is_written_as_files(simple: Stage) -> None:
    persons = people(5, segments=("frequent_buyers",))
    simple.release(persons)
    made = simple.plan()
    simple.refuse(persons[4].email)
    connector = simple.connector()
    connector.before = down
    with pytest.raises(DestinationDownError, match="gave up"):
        simple.apply(made, connector=connector)
    assert drops.down_since(simple.home, "memory") == NOW
    simple.now = NOW + timedelta(hours=2)
    with pytest.raises(drops.PastDeadlineError, match=r"down since 2026-03-01 12:00 UTC, past its deadline"):
        simple.apply(made, connector=connector)
    (place,) = (path for path in (simple.home.plans / "drops").iterdir() if path.is_dir())
    folder = Folder(str(place))
    audience, suppression = (drop_files.read_table(folder, name) for name in ("audience", "suppression"))
    assert audience.column("email").to_pylist() == [person.email for person in persons[:4]]
    assert audience.column("NAME").to_pylist() == ["Ada"] * 4
    assert audience.column("segments").to_pylist() == [["mw_frequent_buyers"]] * 4
    assert suppression.to_pylist() == [{"email": persons[4].email, "reason": "unsubscribe"}]
    manifest = drop_files.read_manifest(folder, "audience")
    assert manifest is not None
    assert manifest.expires_at == simple.now + timedelta(hours=24)
    assert all(path.stat().st_mode & 0o077 == 0 for path in place.iterdir())
    # It comes back: the plan is kept and completes.
    assert simple.apply(made).upserted == 4
    assert drops.down_since(simple.home, "memory") is None
    assert drops.clear_expired(simple.home, manifest.expires_at - timedelta(seconds=1)) == []
    assert drops.clear_expired(simple.home, manifest.expires_at) == [place.name]
    assert not place.exists()


# Contacts that nobody answered for.


def test_what_was_sent_without_an_answer_stays_in_doubt_until_the_ledger_has_it(simple: Stage) -> None:
    persons = people(4)
    simple.release(persons)
    simple.data.forgets = {persons[0].key}
    report = simple.apply()
    assert report.unanswered == 1
    target = simple.connector().target
    assert doubtful.keys(simple.home, target) == {persons[0].key}
    simple.data.forgets = set()
    simple.apply()
    assert not list((simple.home.state / "syncs" / "doubtful").iterdir())


def test_files_of_doubt_are_private(home: Home) -> None:
    Notes(home, "memory/one", "hash", 1).note([Operation("create", Contact("aa"))])
    (path,) = (Path(path) for path in (home.state / "syncs" / "doubtful").iterdir())
    assert path.stat().st_mode & 0o077 == 0


def test_expected_calls_are_the_calls_made(stage: Stage) -> None:
    stage.release(people(8, segments=("frequent_buyers", "onboarding")))
    made = stage.plan()
    assert stage.apply(made).calls == sum(made.calls.values()) > 0


def test_who_was_deleted_there_is_said_and_not_brought_back(stage: Stage) -> None:
    persons = people(3)
    stage.release(persons)
    stage.apply()
    del stage.data.people[stage.key(persons[0])]
    for person in persons:
        person.segments = ("frequent_buyers", "onboarding")
    stage.release(persons, as_of=AS_OF + timedelta(days=1))
    assert stage.apply().rejected == 1
    assert set(stage.data.people) == {stage.key(person) for person in persons[1:]}
    assert stage.plan().is_empty
