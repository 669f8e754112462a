"""Planning: what a plan holds for each key and each form of membership, and that carrying it out leaves nothing to do.

The ledger is written as an apply writes it, straight from the plan's rows, and so is the destination: sending is the
matter of other tests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from activation import plan, releases, rollback
from activation.connector import Contact, Rekey
from activation.ledger import Acknowledgement, DeadLetter, Ledger, State
from activation.plan import Plan
from activation.platform import Limit
from activation.releases import Release
from activation.sync import Breakers, Sync
from core import gate
from core.errors import PlanError
from core.home import Home
from core.settings import Settings
from tests.integration.activation.memory import Account, Memory, Somebody, kind_of, opened, register
from tests.integration.activation.world import AS_OF, Person, deliver, fill_warehouse, naive, people

NOW = AS_OF + timedelta(hours=1)
FIELDS = {"given_name": "NAME", "rfm_segment": "RFM", "order_count": "ORDERS"}
KINDS = {
    "tags by email": kind_of("email", "tags"),
    "attributes by email": kind_of("email", "attributes"),
    "attributes by customer": kind_of("customer_id", "attributes"),
}
_STATES = {
    "unsubscribe": State.UNSUBSCRIBED, "erase": State.ERASED, "rekey": State.SYNCED, "create": State.SYNCED,
    "update": State.SYNCED, "archive": State.ARCHIVED,
}  # fmt: skip


@dataclass
class Desk:
    """A home in which is planned for one destination."""

    home: Home
    settings: Settings
    kind: type[Memory]
    data: Account = field(default_factory=Account)
    deliveries: int = 0
    days: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        register(self.kind)

    @property
    def by_email(self) -> bool:
        return self.kind.platform.key == "email"

    @property
    def by_tags(self) -> bool:
        return self.kind.platform.membership == "tags"

    @property
    def sync(self) -> Sync:
        platform = self.kind.platform
        return Sync(**{
            "name": "desk", "platform": platform.name, "key": platform.key, "fields": FIELDS,
            "breakers": Breakers(floor=0), **self.options,
        })  # fmt: skip

    @property
    def connector(self) -> Memory:
        return opened(self.kind, self.data)

    def key(self, person: Person) -> str:
        return person.key if self.by_email else person.customer_id

    def release(
        self,
        persons: Sequence[Person],
        others: Sequence[tuple[str, str]] = (),
        stale: Mapping[str, datetime] | None = None,
    ) -> Release:
        """Freeze the next day's release."""
        as_of = AS_OF + timedelta(days=self.days)
        self.days += 1
        with duckdb.connect() as connection:
            fill_warehouse(connection, persons, others)
            if stale is not None:
                connection.execute(
                    "create table activation.segment_status"
                    " (segment varchar, is_fresh boolean, as_of timestamp, cadence varchar)"
                )
                for segment in {name for person in persons for name in person.segments} | set(stale):
                    connection.execute(
                        "insert into activation.segment_status values (?, ?, ?, 'daily')",
                        [segment, segment not in stale, naive(stale.get(segment, as_of))],
                    )
            return releases.freeze(self.settings, self.home, connection, as_of=as_of)

    def refuse(self, *emails: str, kind: str = "unsubscribed") -> None:
        self.deliveries += 1
        rows = [
            {"event_id": f"e{self.deliveries}-{email}", "event_type": kind, "email": email, "occurred_at": naive(AS_OF)}
            for email in emails
        ]
        deliver(self.home, self.deliveries, "email", "events", rows, AS_OF)

    def erase(self, email: str) -> None:
        self.deliveries += 1
        row = {
            "contact_point": email, "channel": "email", "purpose": "marketing", "state": "withdrawn",
            "suppression": "erasure", "captured_at": naive(AS_OF),
        }  # fmt: skip
        deliver(self.home, self.deliveries, "crm", "consents", [row], AS_OF)

    def plan(self, **options: Any) -> Plan:
        return plan.make(self.settings, self.home, self.sync, connector=self.connector, **{"now": NOW, **options})

    def rows(self, made: Plan) -> list[dict[str, Any]]:
        """The plan's operations, with fields as a mapping."""
        with duckdb.connect() as connection:
            table = connection.sql(f"from read_parquet('{made.path}')").to_arrow_table()
        return [{**row, "fields": json.loads(row["fields"])} for row in table.to_pylist()]

    def of(self, made: Plan, action: str) -> list[dict[str, Any]]:
        return [row for row in self.rows(made) if row["action"] == action]

    def ledger(self) -> Ledger:
        return Ledger(self.home, self.settings)

    def states(self) -> dict[str, State]:
        with self.ledger() as ledger:
            rows = ledger.rows(self.connector.target).to_pylist()
        return {row["key"].hex(): State(row["state"]) for row in rows}

    def carry_out(self, made: Plan | None = None, refused: Sequence[str] = ()) -> Plan:
        """Do what a plan says, at the destination and in the ledger.

        Args:
            refused: keys whose rows the platform refuses.
        """
        made = made or self.plan()
        account = self.connector
        with self.ledger() as ledger:
            run = ledger.begin(account.target, made.hash, made.base_revision, made.release, [], NOW)
            layout = ledger.layout_id(account.target, [one.name for one in made.fields])
            done, letters = [], []
            for row in self.rows(made):
                if row["key"] in refused:
                    letters.append(
                        DeadLetter(
                            bytes.fromhex(row["key"]), row["action"], row["tag"], row["content_hash"], "BAD", "no"
                        )
                    )
                    continue
                self._send(account, row)
                done.append(_acknowledgement(row, layout))
            ledger.acknowledge(run, account.target, done, NOW)
            ledger.bury(run, account.target, letters, NOW)
            ledger.end(run, "done", {}, NOW)
        return made

    def _send(self, account: Memory, row: Mapping[str, Any]) -> None:
        add, remove = tuple(row["add"]), tuple(row["remove"])
        contact = Contact(row["key"], row["email"], row["is_new"], row["fields"], add, remove)
        match row["action"]:
            case "create" | "update" | "leave":
                answer = account.write([contact])
            case "tag_add":
                answer = account.change_tag(row["tag"], [contact], [])
            case "tag_remove":
                answer = account.change_tag(row["tag"], [], [contact])
            case "rekey":
                answer = account.rekey([Rekey(Contact(row["old_key"], row["old_email"]), contact)])
            case action:
                answer = getattr(account, action)([contact])
        assert answer.accepted == {row["key"]}, (row, answer)

    def there(self) -> dict[str, tuple[str, dict[str, str], frozenset[str]]]:
        """Who is at the destination: key to state, fields and tags."""
        return {key: (one.state, one.fields, frozenset(one.tags)) for key, one in self.data.people.items()}

    def should_be(self, persons: Sequence[Person]) -> dict[str, tuple[str, dict[str, str], frozenset[str]]]:
        return {self.key(person): ("subscribed", values(person), tags(person)) for person in persons}


def _acknowledgement(row: Mapping[str, Any], layout: int) -> Acknowledgement:
    key, has_hashes = bytes.fromhex(row["key"]), bool(row["field_hashes"])
    tag = [row["tag"]] if row["tag"] else []
    return Acknowledgement(
        key=bytes.fromhex(row["old_key"]) if row["old_key"] else key,
        action=row["action"],
        state=_STATES.get(row["action"]),
        content_hash=row["content_hash"] if has_hashes else None,
        layout=layout if has_hashes else None,
        field_hashes=row["field_hashes"] if has_hashes else None,
        add=tag if row["action"] == "tag_add" else row["add"],
        remove=tag if row["action"] == "tag_remove" else row["remove"],
        new_key=key if row["old_key"] else None,
    )


def values(person: Person) -> dict[str, str]:
    said = {"NAME": person.given_name, "RFM": person.rfm_segment, "ORDERS": person.order_count}
    if not person.may_profile:
        said = {"NAME": person.given_name}
    return {name: str(value) for name, value in said.items() if value is not None}


def tags(person: Person) -> frozenset[str]:
    return frozenset(f"mw_{segment}" for segment in person.segments) if person.may_profile else frozenset()


@pytest.fixture(params=KINDS)
def desk(request: pytest.FixtureRequest, home: Home, settings: Settings) -> Desk:
    return Desk(home, settings, KINDS[request.param])


@pytest.fixture
def tagging(home: Home, settings: Settings) -> Desk:
    return Desk(home, settings, KINDS["tags by email"])


# First plans.


def test_a_first_plan_creates_everyone_and_only_reads(desk: Desk) -> None:
    desk.release(people(3))
    made = desk.plan()
    assert (made.creates, made.updates, made.tag_adds) == (3, 0, {"mw_frequent_buyers": 3})
    assert not desk.data.calls
    assert all(row["is_new"] for row in desk.of(made, "create"))
    assert desk.of(made, "create")[0]["fields"] == {"NAME": "Ada", "RFM": "champions", "ORDERS": "3"}
    assert [one for one in made.tripped if one.name == "added"] == []
    assert desk.states() == {}


def test_carrying_it_out_leaves_nothing_to_do(desk: Desk) -> None:
    persons = [*people(3), Person("bob@example.com", "c9", rfm_segment=None, order_count=None, segments=())]
    desk.release(persons)
    desk.carry_out()
    assert desk.there() == desk.should_be(persons)
    again = desk.plan()
    assert again.is_empty
    assert (again.unchanged, again.calls, again.seconds, again.samples) == (4, {}, 0.0, [])
    assert again.summary()["changes"] == "nothing to do"


def test_who_was_there_before_us_is_updated_and_never_subscribed(desk: Desk) -> None:
    persons = people(2)
    desk.data.people[desk.key(persons[0])] = Somebody(fields={"NAME": "Ada"}, tags={"their own"})
    desk.data.people[desk.key(persons[1])] = Somebody(state="unsubscribed")
    own = Somebody(tags={"their own"})
    desk.data.people["ffff"] = own
    desk.release(persons)
    made = desk.carry_out()
    assert (made.creates, made.updates, made.silent) == (0, 1, "first")
    assert desk.of(made, "update")[0]["fields"] == {"RFM": "champions", "ORDERS": "3"}
    assert not desk.of(made, "update")[0]["is_new"]
    assert dict(made.funnel)["not unsubscribed, bounced or erased there"] == 1
    assert desk.states()[desk.key(persons[1])] == State.LEFT
    assert desk.data.people["ffff"] == own
    assert desk.plan().is_empty


# Fields.


def test_only_what_changed_is_sent_and_null_clears(desk: Desk) -> None:
    persons = people(4)
    desk.release(persons)
    desk.carry_out()
    persons[1].rfm_segment = "at_risk"
    persons[2].order_count = None
    desk.release(persons)
    made = desk.plan()
    assert (made.creates, made.updates, made.unchanged) == (0, 2, 2)
    assert made.updates_by_field == {"ORDERS": 1, "RFM": 1}
    sent = {row["key"]: row["fields"] for row in desk.of(made, "update")}
    assert sent == {desk.key(persons[1]): {"RFM": "at_risk"}, desk.key(persons[2]): {"ORDERS": None}}
    desk.carry_out(made)
    assert desk.there() == desk.should_be(persons)


def test_a_field_that_is_mapped_later_is_sent_where_it_is_not_empty(desk: Desk) -> None:
    persons = [*people(1), Person("bob@example.com", "c9", country_code=None)]
    desk.release(persons)
    desk.carry_out()
    desk.options["fields"] = {"country_code": "COUNTRY", **FIELDS}
    made = desk.plan()
    assert [(row["key"], row["fields"]) for row in desk.of(made, "update")] == [
        (desk.key(persons[0]), {"COUNTRY": "GB"})
    ]
    desk.carry_out(made)
    assert desk.plan().is_empty


def test_a_full_plan_writes_everything_and_starts_nothing(desk: Desk) -> None:
    desk.options["automations"] = ["frequent_buyers"]
    persons = [*people(1), Person("bob@example.com", "c9", rfm_segment=None)]
    desk.release(persons)
    desk.carry_out()
    made = desk.plan(full=True)
    assert (made.silent, made.creates, made.updates, made.automations) == ("full", 0, 2, {})
    assert made.tag_adds == {"mw_frequent_buyers": 2}
    sent = {row["key"]: row["fields"] for row in desk.of(made, "update")}
    assert sent[desk.key(persons[1])] == {"NAME": "Ada", "RFM": None, "ORDERS": "3"}


# Memberships.


def test_who_had_no_tag_leaves_the_audience_once_too(desk: Desk) -> None:
    persons = people(4)
    persons[3].segments = ()
    desk.release(persons)
    desk.carry_out()
    desk.release(persons[:2])
    made = desk.plan()
    assert (made.leavers, made.unchanged, sum(made.tag_removes.values())) == (2, 2, 1)
    desk.carry_out()
    desk.release(persons[:1])
    assert desk.plan().leavers == 1


def test_leaving_a_segment_and_the_audience_takes_our_tags(desk: Desk) -> None:
    persons = people(4)
    desk.release(persons)
    desk.carry_out()
    persons[0].segments = ("dormant",)
    desk.release(persons[:3])
    made = desk.plan()
    assert (made.tag_adds, made.tag_removes, made.leavers) == ({"mw_dormant": 1}, {"mw_frequent_buyers": 2}, 1)
    leaving = "tag_remove" if desk.by_tags else "leave"
    gone = next(row for row in desk.of(made, leaving) if row["key"] == desk.key(persons[3]))
    assert gone["phase"] == 4
    if desk.by_email:
        assert gone["email"] == persons[3].email, "looked up in an earlier release"
    desk.carry_out(made)
    assert desk.there() == {
        **desk.should_be(persons[:3]),
        desk.key(persons[3]): ("subscribed", values(persons[3]), frozenset()),
    }
    assert desk.plan().is_empty


def test_a_segment_that_is_synced_no_more_loses_its_tag(tagging: Desk) -> None:
    tagging.release(people(2, segments=("a", "b")))
    tagging.carry_out()
    tagging.options["segments"] = ["a"]
    made = tagging.plan()
    assert (made.tag_adds, made.tag_removes) == ({}, {"mw_b": 2})
    tagging.carry_out(made)
    assert tagging.plan().is_empty


def test_without_profiling_no_tag_goes_along(desk: Desk) -> None:
    persons = people(2)
    desk.release(persons)
    desk.carry_out()
    persons[0].may_profile = False
    desk.release(persons)
    made = desk.carry_out()
    assert made.tag_removes == {"mw_frequent_buyers": 1}
    assert desk.there() == desk.should_be(persons)


def test_a_stale_segment_is_left_alone_except_by_who_may_not_have_it(desk: Desk) -> None:
    persons = people(4, segments=("a", "b"))
    desk.release(persons)
    desk.carry_out()
    persons[0].segments = ("b",)
    persons[1].segments = ()
    persons[2].may_profile = False
    long_ago = AS_OF - timedelta(days=9)
    desk.release(persons[:3], stale={"a": long_ago})
    made = desk.plan()
    assert made.tag_removes == {"mw_a": 2, "mw_b": 3}
    assert made.blocked["a"].changes == 2
    assert made.blocked["a"].since == long_ago
    assert "not synced: 2 tag changes left out" in made.blocked["a"].describe()


def test_automations_start_for_those_who_enter_later(desk: Desk) -> None:
    desk.options["automations"] = ["a"]
    persons = people(4, segments=("a",))
    persons[3].segments = ("b",)
    desk.release(persons[:2])
    made = desk.carry_out()
    assert (made.silent, made.automations) == ("first", {})
    desk.release(persons)
    made = desk.plan()
    assert (made.silent, made.automations, made.tag_adds) == (None, {"a": 1}, {"mw_a": 1, "mw_b": 1})
    desk.carry_out(made)
    assert desk.there()[desk.key(persons[2])][2] == {"mw_a", "mw_a_start"}
    assert desk.plan().is_empty
    persons[2].segments = ()
    desk.release(persons)
    desk.carry_out()
    assert desk.there()[desk.key(persons[2])][2] == set()
    persons[2].segments = ("a",)
    desk.release(persons)
    assert desk.plan().automations == {"a": 1}, "coming back is entering again"


def test_the_tag_that_starts_goes_before_the_segments_own(tagging: Desk) -> None:
    tagging.options["automations"] = ["a"]
    persons = people(2, segments=("a",))
    tagging.release(persons[:1])
    tagging.carry_out()
    tagging.release(persons)
    assert [row["tag"] for row in tagging.of(tagging.plan(), "tag_add")] == ["mw_a_start", "mw_a"]


def test_a_rollback_starts_nothing(tagging: Desk) -> None:
    tagging.options["automations"] = ["a"]
    persons = people(3, segments=("a",))
    tagging.release(persons)
    tagging.carry_out()
    for person in persons:
        person.segments = ()
    tagging.release(persons)
    tagging.carry_out()
    rollback.rollback(tagging.settings, tagging.home, 1)
    made = tagging.plan()
    assert (made.silent, made.automations, made.tag_adds) == ("goes back to release 1", {}, {"mw_a": 3})


# Withdrawals.


def test_refusals_are_passed_on_first_and_bind_what_follows(desk: Desk) -> None:
    persons = people(4)
    desk.release(persons)
    desk.carry_out()
    desk.refuse(persons[1].email)
    desk.refuse(persons[2].email, kind="complained")
    desk.erase(persons[3].email)
    made = desk.plan()
    assert (made.unsubscribes, made.erasures, made.leavers) == (2, 1, 3)
    assert made.tag_removes == {"mw_frequent_buyers": 2}, "whoever is erased needs no tag taken off"
    first = [row for row in desk.rows(made) if row["phase"] == 1]
    assert {(row["action"], row["key"], row["email"]) for row in first} == {
        ("unsubscribe", desk.key(persons[1]), persons[1].email),
        ("unsubscribe", desk.key(persons[2]), persons[2].email),
        ("erase", desk.key(persons[3]), persons[3].email),
    }
    desk.carry_out(made)
    assert [desk.states()[desk.key(person)] for person in persons] == [
        State.SYNCED, State.UNSUBSCRIBED, State.UNSUBSCRIBED, State.ERASED,
    ]  # fmt: skip
    assert desk.plan().is_empty


def test_a_bounce_is_no_unsubscribe(tagging: Desk) -> None:
    persons = people(2)
    tagging.release(persons)
    tagging.carry_out()
    tagging.deliveries += 1
    row = {
        "event_id": "b", "event_type": "bounced", "bounce_type": "hard", "email": persons[0].email,
        "occurred_at": naive(AS_OF),
    }  # fmt: skip
    deliver(tagging.home, tagging.deliveries, "email", "events", [row], AS_OF)
    made = tagging.plan()
    assert (made.unsubscribes, made.tag_removes) == (0, {"mw_frequent_buyers": 1})


def test_who_left_there_is_not_written_again(desk: Desk) -> None:
    persons = people(2)
    desk.release(persons)
    desk.carry_out()
    desk.data.people[desk.key(persons[0])].state = "unsubscribed"
    with desk.ledger() as ledger:
        ledger.import_members(desk.connector.target, list(desk.connector.members()), NOW, list(FIELDS.values()))
    for person in persons:
        person.given_name = "Grace"
    desk.release(persons)
    made = desk.plan()
    assert [row["key"] for row in desk.of(made, "update")] == [desk.key(persons[1])]
    assert made.silent is not None, "just read"
    assert made.unsubscribes == 0


# Coming, going, and going by another name.


def test_on_leave_archive_takes_out_who_is_ours_and_brings_back_whole(desk: Desk) -> None:
    desk.options["on_leave"] = "archive"
    persons = people(3)
    desk.data.people["ffff"] = Somebody()
    desk.release(persons)
    desk.carry_out()
    desk.release(persons[:2])
    made = desk.plan()
    assert (made.archives, made.leavers) == (1, 1)
    assert [row["phase"] for row in desk.of(made, "archive")] == [5]
    desk.carry_out(made)
    assert desk.states()[desk.key(persons[2])] == State.ARCHIVED
    assert desk.data.people["ffff"].state == "subscribed", "who is not ours stays"
    assert desk.plan().is_empty
    desk.release(persons)
    made = desk.plan()
    (back,) = desk.of(made, "create")
    assert back["is_new"]
    assert back["fields"] == values(persons[2])
    desk.carry_out(made)
    assert desk.there()[desk.key(persons[2])] == desk.should_be(persons)[desk.key(persons[2])]
    assert desk.plan().is_empty


@pytest.mark.parametrize("name", ["tags by email", "attributes by email"])
def test_a_changed_address_is_a_rekey(home: Home, settings: Settings, name: str) -> None:
    desk = Desk(home, settings, KINDS[name])
    desk.options["automations"] = ["a"]
    persons = people(3, segments=("a",))
    desk.release(persons)
    desk.carry_out()
    before = persons[1]
    persons[1] = replace(before, email="new.name@example.com", order_count=None)
    desk.release(persons)
    made = desk.plan()
    assert (made.rekeys, made.creates, made.leavers, made.automations) == (1, 0, 0, {})
    (row,) = desk.of(made, "rekey")
    assert (row["phase"], row["old_key"], row["old_email"]) == (2, before.key, before.email)
    assert (row["key"], row["email"]) == (persons[1].key, persons[1].email)
    (update,) = desk.of(made, "update")
    assert (update["key"], update["fields"], update["is_new"]) == (
        persons[1].key, {"NAME": "Ada", "RFM": "champions", "ORDERS": None}, False,
    )  # fmt: skip
    assert made.tag_adds == ({} if desk.by_tags else {"mw_a": 1})
    desk.carry_out(made)
    assert desk.there() == desk.should_be(persons)
    assert desk.plan().is_empty


def test_a_merged_customer_is_a_rekey(home: Home, settings: Settings) -> None:
    desk = Desk(home, settings, KINDS["attributes by customer"])
    persons = people(2)
    desk.release(persons)
    desk.carry_out()
    gone, persons[1] = persons[1], replace(persons[1], customer_id="c9")
    journal(home, merged=gone.customer_id, into="c9")
    desk.release(persons)
    made = desk.plan()
    (row,) = desk.of(made, "rekey")
    assert (row["old_key"], row["key"], made.creates) == (gone.customer_id, "c9", 0)
    desk.carry_out(made)
    assert desk.there() == desk.should_be(persons)
    assert desk.plan().is_empty


def journal(home: Home, merged: str, into: str) -> None:
    folder = home.identity / "journal"
    folder.mkdir(parents=True)
    with duckdb.connect() as connection:
        connection.execute(
            "copy (select 1 as run, 1 as entry, 'merged' as event, ? as customer_id, ? as other_customer_id)"
            f" to '{folder / '1.parquet'}' (format parquet)",
            [into, merged],
        )


def test_who_refused_under_the_old_address_is_not_taken_to_the_new_one(tagging: Desk) -> None:
    persons = people(2)
    tagging.release(persons)
    tagging.carry_out()
    old, persons[1] = persons[1], replace(persons[1], email="new.name@example.com", customer_id="c8")
    tagging.release(persons)
    tagging.refuse(old.email)
    made = tagging.plan()
    assert (made.rekeys, made.unsubscribes, made.creates) == (0, 1, 1)


def test_two_old_addresses_of_one_customer_are_no_rekey(tagging: Desk) -> None:
    persons = [Person("one@example.com", "c1"), Person("two@example.com", "c1")]
    tagging.release(persons)
    tagging.carry_out()
    tagging.release([Person("three@example.com", "c1")])
    made = tagging.plan()
    assert (made.rekeys, made.creates, made.leavers) == (0, 1, 2)


def test_a_customer_with_two_addresses_goes_once(home: Home, settings: Settings) -> None:
    desk = Desk(home, settings, KINDS["attributes by customer"])
    desk.release([Person("two@example.com", "c1"), Person("one@example.com", "c1"), Person("x@example.com", "c2")])
    made = desk.plan()
    assert (made.creates, made.further_addresses) == (2, 1)
    assert {row["email"] for row in desk.of(made, "create")} == {"one@example.com", "x@example.com"}
    assert dict(made.funnel)["one address for each customer"] == 2
    desk.carry_out(made)
    # The other address refuses for the person, who leaves altogether.
    desk.refuse("two@example.com")
    made = desk.plan()
    assert (made.unsubscribes, made.leavers) == (1, 1)


# Rows that the platform does not take.


def test_a_refused_row_is_held_back_until_it_changes_or_one_asks(desk: Desk) -> None:
    persons = people(3)
    desk.release(persons)
    desk.carry_out(refused=[desk.key(persons[1])])
    again = desk.plan()
    assert again.is_empty
    assert again.held_back == (2 if desk.by_tags else 1)
    retried = desk.plan(retry_rejected=True)
    assert (retried.creates, retried.tag_adds) == (1, {"mw_frequent_buyers": 1})
    if not desk.by_tags:
        persons[1].segments = ("a",)
        desk.release(persons)
        assert desk.plan().creates == 1, "another membership is another row"
    persons[1].given_name = "Grace"
    desk.release(persons)
    assert desk.plan().creates == 1
    desk.carry_out()
    assert desk.plan().is_empty


def test_rows_over_the_platforms_limits_are_left_out_with_reasons(home: Home, settings: Settings) -> None:
    made_kind = kind_of("email", "attributes")
    made_kind.platform = replace(
        made_kind.platform, name="narrow", most_tags=2, fields=replace(made_kind.platform.fields, longest=12)
    )
    desk = Desk(home, settings, made_kind)
    persons = people(3)
    desk.release(persons)
    desk.carry_out()
    persons[0].given_name = "Wolfeschlegelsteinhausen"
    persons[0].segments = ()
    persons[1].segments = ("a", "b", "c")
    desk.release([*persons, Person(f"{'x' * 250}@example.com", "c9")])
    made = desk.plan()
    assert made.invalid == {"NAME over 12 characters": 1, "address over 254 characters": 1, "over 2 segments": 1}
    assert made.funnel[-1] == ("valid there", 1)
    # They keep what is there, but lose what they left.
    assert [(row["action"], row["remove"]) for row in desk.rows(made)] == [("leave", ["mw_frequent_buyers"])] * 2
    assert made.leavers == 2
    assert made.summary()["left out: over 2 segments"] == 1


def test_a_customer_id_that_is_no_key_is_left_out(home: Home, settings: Settings) -> None:
    desk = Desk(home, settings, KINDS["attributes by customer"])
    desk.release([Person("a@example.com", "c1"), Person("b@example.com", "not a key")])
    made = desk.plan()
    assert (made.creates, made.invalid) == (1, {"no customer id that can be a key": 1})


# What a plan says.


def test_calls_time_and_points_follow_from_the_platforms_limits(home: Home, settings: Settings) -> None:
    made_kind = kind_of("email", "attributes")
    made_kind.platform = replace(
        made_kind.platform,
        name="dear",
        limits={"contacts": Limit(batch=2, calls=4, seconds=1.0), "unsubscribe": Limit(calls=1, seconds=2.0)},
        points_per_change=1,
    )
    desk = Desk(home, settings, made_kind)
    desk.release(people(5))
    made = desk.plan()
    assert (made.calls, made.seconds, made.points) == ({"contacts": 3}, 0.75, 5 * (3 + 1))
    desk.carry_out(made)
    desk.refuse(people(1)[0].email)
    made = desk.plan()
    assert (made.calls, made.seconds, made.points) == ({"contacts": 1, "unsubscribe": 1}, 2.25, 1)


def test_additions_and_removals_of_a_tag_share_calls(tagging: Desk) -> None:
    persons = people(8, segments=("a",))
    tagging.release(persons[:4])
    tagging.carry_out()
    for person in persons[:4]:
        person.segments = ()
    tagging.release(persons)
    assert tagging.plan().calls == {"contacts": 2, "tags": 2}


def test_breakers_are_told_and_nothing_is_hidden(tagging: Desk) -> None:
    persons = people(10)
    tagging.options["breakers"] = Breakers(floor=6, added=0.5, removed=0.3)
    tagging.release(persons)
    assert tagging.plan().tripped == []
    tagging.carry_out()
    tagging.release(persons[:5])
    made = tagging.plan(now=NOW + timedelta(days=5))
    assert [one.name for one in made.tripped] == ["removed", "floor", "stale"]
    assert made.summary()["breaker removed"] == "5 of 10 (50%) contacts would leave the audience; 30% may at once"
    tagging.carry_out(made)
    tagging.release(people(30))
    assert [one.name for one in tagging.plan().tripped] == ["added"]


def test_a_gate_that_failed_trips(tagging: Desk) -> None:
    tagging.release(people(1))
    gate.begin(tagging.home, NOW - timedelta(hours=2))
    assert [one.name for one in tagging.plan().tripped] == ["gate"]
    gate.passed(tagging.home, NOW - timedelta(hours=1))
    assert tagging.plan().tripped == []
    assert [one.name for one in tagging.plan(now=NOW + timedelta(hours=36)).tripped] == ["stale"]


def test_samples_are_masked_and_say_what_is_empty(tagging: Desk) -> None:
    persons = [*people(30, segments=("a", "b")), Person("zoe@example.com", "c9", rfm_segment=None, segments=("b",))]
    tagging.release(persons)
    made = tagging.plan()
    first, second = made.samples
    assert (first.segment, first.members, len(first.contacts)) == ("a", 30, 20)
    assert first.contacts[0] == {"address": "p***@e***.com", "NAME": "A***", "RFM": "champions", "ORDERS": "3"}
    assert first.empty == {"NAME": 0, "RFM": 0, "ORDERS": 0}
    assert (second.members, second.empty["RFM"]) == (31, round(1 / 31, 4))
    assert "person" not in repr(made.samples)


def test_a_kept_plan_reads_back_equal_and_is_private(tagging: Desk) -> None:
    tagging.release(people(2))
    made = tagging.plan()
    assert plan.read(tagging.home, "desk") == made
    assert plan.read(tagging.home, "desk", made.hash[:6]) == made
    assert made.expires_at == NOW + timedelta(hours=24)
    kept = sorted(tagging.home.plans.glob(f"desk-{made.hash}*"))
    assert [path.suffix for path in kept] == [".json", ".parquet", ".json"]
    for path in kept:
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.suffix == ".parquet" or "@example.com" not in path.read_text()
    assert tagging.plan() == made, "the same plan twice has the same hash"
    assert tagging.plan(now=NOW + timedelta(hours=1)).hash == made.hash
    with pytest.raises(PlanError, match="no kept plan for des:"):
        plan.read(tagging.home, "des")


def test_what_goes_into_the_hash(tagging: Desk) -> None:
    persons = people(2)
    tagging.release(persons)
    hashes = [tagging.plan().hash]
    tagging.refuse(persons[0].email)
    hashes.append(tagging.plan().hash)
    tagging.options["on_leave"] = "archive"
    hashes.append(tagging.plan().hash)
    tagging.release(persons[1:])
    hashes.append(tagging.plan().hash)
    assert len(set(hashes)) == 4


def test_without_a_release_planning_says_what_to_do(tagging: Desk) -> None:
    with pytest.raises(PlanError, match="run `mailwright refresh`"):
        tagging.plan()


# Any history of audiences.

NAMES = ("ada", "bob", "cem", "dan")
a_person = st.builds(
    Person,
    email=st.sampled_from([f"{name}@example.com" for name in NAMES]),
    customer_id=st.sampled_from(["c1", "c2", "c3", "c4", "c5"]),
    given_name=st.sampled_from(["Ada", "Grace"]),
    rfm_segment=st.sampled_from(["loyal", None]),
    order_count=st.sampled_from([1, None]),
    segments=st.sampled_from([(), ("a",), ("a", "b"), ("b",)]),
    may_profile=st.booleans(),
)


def unique(by_email: bool) -> st.SearchStrategy[list[Person]]:
    keys = [lambda person: person.email]
    if not by_email:
        keys.append(lambda person: person.customer_id)
    return st.lists(a_person, max_size=4, unique_by=tuple(keys))


@pytest.mark.parametrize("name", KINDS)
@hypothesis_settings(max_examples=6, deadline=None)
@given(said=st.data())
def test_any_history_ends_as_planned_and_leaves_nothing_to_do(
    tmp_path_factory: pytest.TempPathFactory, name: str, said: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("home") / "home"
    home = Home.create(root, "Europe/London", "GBP")
    desk = Desk(home, Settings(home=root, memory_limit="500MB", threads=1), KINDS[name])
    desk.options["on_leave"] = said.draw(st.sampled_from(["keep", "archive"]))
    gone: set[str] = set()
    for _ in range(3):
        persons = said.draw(unique(desk.by_email))
        leaving = said.draw(st.sampled_from([None, *NAMES])) if desk.by_email else None
        desk.release(persons)
        if leaving:
            desk.refuse(f"{leaving}@example.com")
        desk.carry_out()
        assert desk.plan().is_empty
        there = desk.there()
        states = desk.states()
        gone |= {key for key, state in states.items() if state in (State.UNSUBSCRIBED, State.ERASED)}
        wanted = {key: what for key, what in desk.should_be(persons).items() if states.get(key) == State.SYNCED}
        for key, what in wanted.items():
            assert there[key] == what
        for key, (state, _, has) in there.items():
            if key not in wanted:
                assert not has, "who is not in the audience has no tag of ours"
            assert (state == "unsubscribed") == (key in gone)


def test_now_is_the_wall_clock_by_default(tagging: Desk) -> None:
    tagging.release(people(1))
    made = plan.make(tagging.settings, tagging.home, tagging.sync, connector=tagging.connector)
    assert abs(made.made_at - datetime.now(UTC)) < timedelta(minutes=1)
