"""Braze: the connector against its part of the sandbox over HTTP, and the part against what is published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from activation import connectors
from activation.connector import Contact, Field, Rekey, State
from activation.connectors.braze import PLATFORM
from activation.http import RefusedError, TryAgainError
from activation.sandbox.parts.braze import NO_IDENTIFIER, NO_VALID_DATA, BrazePart
from core.errors import DestinationError
from tests.integration.activation.served import Served, served

FIELDS = [
    Field("email", "email", "Email", "text"),
    Field("given_name", "first_name", "Given name", "text"),
    Field("order_count", "mw_orders", "Order count", "number"),
    Field("is_seasonal", "mw_seasonal", "Is seasonal", "boolean"),
]
TRACK = ("POST", "/users/track")


@pytest.fixture
def braze(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path, "braze") as made:
        made.connector.prepare(FIELDS, ["mw_loyal", "mw_lapsed"])
        yield made


def contact(number: int, **changes: Any) -> Contact:
    said: dict[str, Any] = {
        "key": f"{number:016x}", "email": f"person{number}@example.com", "is_new": True,
        "fields": {"email": f"person{number}@example.com", "first_name": f"Given{number}", "mw_orders": str(number)},
        "add": ("mw_loyal",),
    }  # fmt: skip
    return Contact(**{**said, **changes})


def bearer(braze: Served) -> dict[str, str]:
    return {"Authorization": f"Bearer {braze.part.secrets['api_key']}"}


def state_of(braze: Served, *contacts: Contact) -> list[State]:
    found = {member.key: member.state for member in braze.connector.members_among([one.key for one in contacts])}
    return [found[one.key] for one in contacts]


def test_new_users_come_with_address_fields_and_segments_and_no_word_of_subscription(braze: Served) -> None:
    answer = braze.connector.write([contact(1), contact(2, add=(), fields={"mw_seasonal": "true", "first_name": None})])
    assert answer.accepted == {f"{1:016x}", f"{2:016x}"}
    assert not answer.rejected
    first, second = braze.person(f"{1:016x}"), braze.person(f"{2:016x}")
    assert first is not None
    assert second is not None
    assert (first.email, first.fields) == (
        "person1@example.com", {"first_name": "Given1", "mw_orders": 1, "mw_segments": ["mw_loyal"]},
    )  # fmt: skip
    assert second.email == "person2@example.com"
    assert second.fields == {"mw_seasonal": True}
    assert braze.part.people.documents("address") == {}


def test_a_change_sends_segments_apart_and_leaves_the_marketers_values_alone(braze: Served) -> None:
    braze.connector.write([contact(1)])
    person = braze.person(f"{1:016x}")
    assert person is not None
    person.fields["mw_segments"].append("theirs")
    person.fields["vip"] = True
    braze.part.people.save([person])
    change = contact(1, is_new=False, fields={"mw_orders": None}, add=("mw_lapsed",), remove=("mw_loyal",))
    assert braze.connector.write([change]).accepted == {change.key}
    person = braze.person(change.key)
    assert person is not None
    assert person.fields == {"first_name": "Given1", "vip": True, "mw_segments": ["theirs", "mw_lapsed"]}


def test_an_update_does_not_bring_back_whom_somebody_deleted(braze: Served) -> None:
    braze.connector.write([contact(1)])
    braze.part.people.delete([contact(1).key])
    assert braze.connector.write([contact(1, is_new=False)]).accepted == {contact(1).key}
    assert braze.person(contact(1).key) is None


def test_a_row_that_is_refused_in_a_201_is_known_by_its_index(braze: Served) -> None:
    # Two objects for the first contact move the indices of those behind it.
    moved = contact(1, is_new=False, remove=("mw_lapsed",))
    rows = [moved, contact(2, email="no address", fields={}), contact(3)]
    answer = braze.connector.write(rows)
    assert answer.accepted == {moved.key, rows[2].key}
    assert [(one.key, one.code) for one in answer.rejected] == [(rows[1].key, "INVALID")]
    assert braze.calls == [(*TRACK, 3, 201)]


def test_a_call_without_one_good_row_is_refused_as_a_whole_in_the_rows_words(braze: Served) -> None:
    with pytest.raises(RefusedError) as refused:
        braze.connector.write([contact(1, email="no address", fields={})])
    assert "address" in refused.value.words
    said = braze.ask("POST", "/users/track", bearer(braze), json={"attributes": [{"first_name": "Ada"}]})
    errors = [{"type": NO_IDENTIFIER, "input_array": "attributes", "index": 0}]
    assert said.status_code == 400
    assert said.json() == {"message": NO_VALID_DATA, "errors": errors}


def test_words_of_a_refusal_hold_no_address(braze: Served) -> None:
    body = {
        "message": "success", "attributes_processed": 1,
        "errors": [{"type": "Other@example.com (Given1) is unknown", "input_array": "attributes", "index": 0}],
    }  # fmt: skip
    braze.faults.order("answer", status=201, body=body)
    answer = braze.connector.write([contact(1), contact(2)])
    assert [one.words for one in answer.rejected] == ["<address> (<first_name>) is unknown"]


def test_queued_during_maintenance_counts_as_taken(braze: Served) -> None:
    assert isinstance(braze.part, BrazePart)
    braze.part.is_in_maintenance = True
    assert braze.connector.write([contact(1)]).accepted == {contact(1).key}
    assert braze.calls == [(*TRACK, 1, 202)]
    assert braze.person(contact(1).key) is not None


@pytest.mark.parametrize(
    "body",
    [
        {"message": "success", "attributes_processed": 1},
        {"message": "success", "errors": [{"type": "broken", "input_array": "attributes"}]},
        {"message": "success", "errors": [{"type": "broken", "input_array": "attributes", "index": 7}]},
    ],
    ids=["a row is missing", "an error without an index", "an index of no row"],
)
def test_an_answer_that_does_not_say_which_rows_acknowledges_none(braze: Served, body: Any) -> None:
    braze.faults.order("answer", status=201, body=body)
    with pytest.raises(RefusedError):
        braze.connector.write([contact(1), contact(2)])
    if "errors" in body:
        braze.faults.order("answer", status=201, body=body)
        alone = braze.connector.write([contact(1)])
        assert not alone.accepted
        assert [one.key for one in alone.rejected] == [contact(1).key]


def test_more_than_75_objects_go_in_several_calls(braze: Served) -> None:
    rows = [contact(number, is_new=False, remove=("mw_lapsed",)) for number in range(PLATFORM.limit("contacts").batch)]
    assert braze.connector.write(rows).accepted == {row.key for row in rows}
    assert [status for *_, status in braze.calls] == [201, 201]


def test_a_refusal_is_set_by_key_and_holds_for_the_address(braze: Served) -> None:
    twin = contact(2, email="person1@example.com", fields={})
    braze.connector.write([contact(1), twin, contact(3)])
    known = replace(contact(1), email=None)
    assert braze.connector.unsubscribe([known, contact(9)]).accepted == {known.key, contact(9).key}
    assert state_of(braze, contact(1), twin, contact(3)) == ["unsubscribed", "unsubscribed", "subscribed"]
    assert braze.person(contact(9).key) is None
    # Whoever comes with that address later has refused already, and an update says nothing of it.
    late = contact(4, email="person1@example.com", fields={"email": "person1@example.com"})
    braze.connector.write([late, contact(1, is_new=False)])
    assert state_of(braze, late, contact(1)) == ["unsubscribed", "unsubscribed"]


def test_erased_users_are_gone_and_unknown_ones_count_as_done(braze: Served) -> None:
    braze.connector.write([contact(1), contact(2)])
    answer = braze.connector.erase([replace(contact(1), email=None), contact(9)])
    assert answer.accepted == {contact(1).key, contact(9).key}
    assert braze.person(contact(1).key) is None
    assert braze.person(contact(2).key) is not None


def rekey(old: int, new: int, **changes: Any) -> Rekey:
    bare: dict[str, Any] = {"is_new": False, "fields": {}, "add": ()}
    return Rekey(contact(old, **bare), contact(new, **{**bare, **changes}))


def test_a_rename_keeps_the_user_and_frees_the_old_id(braze: Served) -> None:
    braze.connector.write([contact(1)])
    change = rekey(1, 2, fields={"first_name": "Ada"}, remove=("mw_loyal",))
    assert braze.connector.rekey([change]).accepted == {change.new.key}
    person = braze.person(change.new.key)
    assert person is not None
    assert person.fields == {"first_name": "Ada", "mw_orders": 1, "mw_segments": []}
    # Were the old id still the user's, deleting it would delete the user.
    braze.connector.erase([contact(1)])
    assert braze.person(change.new.key) is not None


@pytest.mark.parametrize("route", ["rename", "remove"])
def test_a_rename_whose_answer_was_lost_is_done_when_repeated(braze: Served, route: str) -> None:
    braze.connector.write([contact(1)])
    change = rekey(1, 2)
    braze.faults.order("lost", route=route)
    with pytest.raises(TryAgainError):
        braze.connector.rekey([change])
    answer = braze.connector.rekey([change])
    assert answer.accepted == {change.new.key}
    assert not answer.rejected
    assert braze.part.people.documents("deprecated") == {}
    assert braze.person(contact(1).key) is None


def test_two_users_become_one_where_the_new_id_is_in_use(braze: Served) -> None:
    braze.connector.write([contact(1), contact(2, fields={"mw_orders": "7"})])
    change = rekey(1, 2)
    assert braze.connector.rekey([change]).accepted == {change.new.key}
    person = braze.person(change.new.key)
    assert braze.person(change.old.key) is None
    assert person is not None
    assert person.fields == {"first_name": "Given1", "mw_orders": 7, "mw_segments": ["mw_loyal"]}
    braze.faults.order("lost", route="merge")
    assert braze.connector.rekey([change]).accepted == {change.new.key}, "once more, as nobody has the old id now"


def test_a_rename_of_nobody_is_refused_and_makes_nobody(braze: Served) -> None:
    answer = braze.connector.rekey([rekey(1, 2)])
    assert [(one.key, one.code) for one in answer.rejected] == [(contact(2).key, "NOT_THERE")]
    assert braze.person(contact(2).key) is None


def test_members_are_read_by_key_with_what_they_did_themselves(braze: Served) -> None:
    rows = [contact(number) for number in range(1, 121)]
    braze.connector.write(rows)
    braze.part.leave(rows[1].key, "unsubscribe")
    braze.part.leave(rows[2].key, "bounce")
    keys = [row.key for row in rows] + [contact(999).key]
    found = {member.key: member for member in braze.connector.members_among(keys)}
    assert found.keys() == {row.key for row in rows}
    assert list(braze.connector.members()) == []
    assert [found[row.key].state for row in rows[:4]] == ["subscribed", "unsubscribed", "bounced", "subscribed"]
    assert found[rows[0].key].tags == {"mw_loyal"}
    assert found[rows[0].key].fields == {"email": "person1@example.com", "first_name": "Given1", "mw_orders": "1"}
    exports = [call for call in braze.calls if call[1] == "/users/export/ids"]
    assert [rows for _, _, rows, _ in exports] == [50, 50, 21]


def test_lists_of_those_who_left_are_read_page_by_page(braze: Served) -> None:
    rows = [contact(number) for number in range(1, 1_004)]
    for start in range(0, len(rows), 75):
        braze.connector.write(rows[start : start + 75])
    for row in rows[:1_002]:
        braze.part.leave(row.key, "unsubscribe")
    braze.calls.clear()
    assert state_of(braze, rows[0], rows[1_001], rows[1_002]) == ["unsubscribed", "unsubscribed", "subscribed"]
    assert [route for _, route, _, _ in braze.calls].count("/email/unsubscribes") == 3


def test_the_lists_take_dates_limits_and_addresses_as_published(braze: Served) -> None:
    braze.connector.write([contact(1), contact(2), contact(3)])
    for number in (1, 2, 3):
        braze.part.leave(contact(number).key, "bounce")
    today = datetime.now(UTC).date()
    days = {"start_date": str(today), "end_date": str(today + timedelta(days=1))}

    def emails(**query: str) -> list[str]:
        said = braze.ask("GET", "/email/hard_bounces", bearer(braze), params=query)
        assert said.status_code == 200
        return [entry["email"] for entry in said.json()["emails"]]

    assert emails(**days) == [f"person{number}@example.com" for number in (3, 2, 1)]
    assert emails(**days, sort_direction="asc", limit="2", offset="1") == ["person2@example.com", "person3@example.com"]
    assert emails(end_date=days["end_date"], email="Person2@example.com") == ["person2@example.com"]
    assert emails(start_date=str(today - timedelta(days=2)), end_date=str(today)) == []
    for wrong in (
        {},
        {"start_date": days["start_date"]},
        {**days, "limit": "501"},
        {**days, "start_date": "yesterday"},
    ):
        assert braze.ask("GET", "/email/unsubscribes", bearer(braze), params=wrong).status_code == 400


def test_every_answer_tells_of_the_limit_and_one_call_too_many_is_refused(
    braze: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = braze.ask("POST", "/users/track", bearer(braze), json={"attributes": [{"external_id": "a", "mw_x": 1}]})
    assert (said.headers["X-RateLimit-Limit"], said.headers["X-RateLimit-Remaining"]) == ("3000", "2999")
    assert 0 < int(said.headers["X-RateLimit-Reset"]) - datetime.now(UTC).timestamp() < 5
    few = replace(PLATFORM.limit("contacts"), calls=2, seconds=60.0)
    monkeypatch.setattr(type(braze.part), "platform", replace(PLATFORM, limits={**PLATFORM.limits, "contacts": few}))
    braze.part.windows.clear()
    statuses = []
    for _ in range(3):
        said = braze.ask("POST", "/users/track", bearer(braze), json={"attributes": [{"external_id": "a", "mw_x": 1}]})
        statuses.append((said.status_code, said.headers["X-RateLimit-Remaining"]))
    assert statuses == [(201, "1"), (201, "0"), (429, "0")]
    assert "Retry-After" not in said.headers
    with pytest.raises(TryAgainError, match="429"):
        braze.connector.write([contact(1)])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/users/track", {"attributes": [{"external_id": str(number)} for number in range(76)]}),
        ("/users/track", {}),
        ("/users/delete", {"external_ids": [str(number) for number in range(51)]}),
        ("/users/delete", {"external_ids": ["a"], "braze_ids": ["b"]}),
        ("/users/merge", {"merge_updates": "a"}),
        ("/users/merge", {"merge_updates": [{"identifier_to_merge": {"external_id": "a"}}]}),
        ("/users/external_ids/rename", {"external_id_renames": []}),
        ("/users/export/ids", {"external_ids": [str(number) for number in range(51)]}),
        ("/email/status", {"email": "a@example.com", "subscription_state": "maybe"}),
    ],
)
def test_the_sandbox_refuses_what_is_not_as_published(braze: Served, path: str, body: Any) -> None:
    said = braze.ask("POST", path, bearer(braze), json=body)
    assert said.status_code == 400
    assert said.json()["message"]


def test_without_a_good_key_nothing_is_done_and_the_key_is_never_told(braze: Served) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        assert braze.ask("POST", "/users/track", headers, json={"attributes": []}).status_code == 401
    braze.faults.order("revoked")
    with pytest.raises(DestinationError, match="MAILWRIGHT_BRAZE_API_KEY") as told:
        braze.connector.write([contact(1)])
    key = braze.part.secrets["api_key"]
    assert key not in str(told.value)
    assert key not in repr(braze.connector) + repr(braze.connector.account)


def test_an_array_keeps_its_newest_25_values(braze: Served) -> None:
    braze.connector.write([contact(1, add=tuple(f"mw_{number}" for number in range(25)))])
    braze.connector.write([contact(1, is_new=False, fields={}, add=("mw_new",))])
    person = braze.person(contact(1).key)
    assert person is not None
    assert person.fields["mw_segments"][0] == "mw_1"
    assert person.fields["mw_segments"][-1] == "mw_new"


def test_it_is_found_as_every_connector_is() -> None:
    assert "braze" in {path.stem for path in Path(connectors.__path__[0]).glob("*.py")}
