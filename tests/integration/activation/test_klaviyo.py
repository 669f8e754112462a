"""Klaviyo: the connector against its part of the sandbox over HTTP, and the part against what is published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from activation.connector import Contact, Field, Rekey, key_of
from activation.connectors import klaviyo as module
from activation.connectors.klaviyo import PLATFORM
from activation.http import RefusedError, TryAgainError
from activation.sandbox.parts.klaviyo import KlaviyoPart
from activation.sandbox.specification import shipped
from core.errors import DestinationError
from tests.integration.activation.served import Served, served

FIELDS = [
    Field("given_name", "first_name", "Given name", "text"),
    Field("country_code", "location.country", "Country code", "text"),
    Field("order_count", "mw_orders", "Order count", "number"),
]
JOBS = "/profile-bulk-import-jobs"
MEDIA = "application/vnd.api+json"


@pytest.fixture
def klaviyo(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path, "klaviyo") as made:
        made.connector.prepare(FIELDS, ["mw_loyal", "mw_lapsed"])
        yield made


def contact(number: int, **changes: Any) -> Contact:
    email = changes.get("email") or f"person{number}@example.com"
    said: dict[str, Any] = {
        "key": key_of("email", email, ""), "email": email, "is_new": True,
        "fields": {"first_name": f"Given{number}", "location.country": "GB", "mw_orders": str(number)},
        "add": ("mw_loyal",),
    }  # fmt: skip
    return Contact(**{**said, **changes})


def bare(number: int, **changes: Any) -> Contact:
    """Somebody who is there already, of whom nothing changes."""
    return contact(number, **{"is_new": False, "fields": {}, "add": (), **changes})


def headers(klaviyo: Served, **changes: str) -> dict[str, str]:
    key = f"Klaviyo-API-Key {klaviyo.part.secrets['api_key']}"
    return {"Authorization": key, "revision": "2026-07-15", "Content-Type": MEDIA, **changes}


def states(klaviyo: Served) -> dict[str, str]:
    return {person.email or "": person.state for person in klaviyo.part.people.everyone()}


def routes(klaviyo: Served) -> list[str]:
    return [f"{method} {route}" for method, route, _, _ in klaviyo.calls]


def import_of(*profiles: dict[str, Any]) -> dict[str, Any]:
    return {"data": {"type": "profile-bulk-import-job", "attributes": {"profiles": {"data": list(profiles)}}}}


def test_an_import_creates_profiles_and_waits_for_its_end(klaviyo: Served) -> None:
    assert isinstance(klaviyo.part, KlaviyoPart)
    klaviyo.part.job_seconds = 0.3
    answer = klaviyo.connector.write([contact(1), contact(2, add=(), fields={})])
    assert answer.accepted == {contact(1).key, contact(2).key}
    assert not answer.rejected
    person = klaviyo.person(contact(1).key)
    assert person is not None
    assert person.email == "person1@example.com"
    assert person.fields == {"first_name": "Given1", "location.country": "GB", "mw_orders": 1, "mw_loyal": True}
    assert routes(klaviyo)[0] == f"POST {JOBS}"
    assert set(routes(klaviyo)[1:]) == {f"GET {JOBS}/{{job}}"}
    assert 2 <= len(routes(klaviyo)) <= 5


def test_an_update_changes_what_it_names_and_leaves_the_marketers_properties_alone(klaviyo: Served) -> None:
    klaviyo.connector.write([contact(1)])
    person = klaviyo.person(contact(1).key)
    assert person is not None
    person.fields["vip"] = True
    klaviyo.part.people.save([person])
    change = bare(1, fields={"mw_orders": None, "first_name": "Ada"}, add=("mw_lapsed",), remove=("mw_loyal",))
    assert klaviyo.connector.write([change]).accepted == {change.key}
    person = klaviyo.person(change.key)
    assert person is not None
    assert person.fields == {"first_name": "Ada", "location.country": "GB", "mw_lapsed": True, "vip": True}


def test_klaviyos_own_fields_are_cleared_profile_by_profile_as_an_import_cannot(klaviyo: Served) -> None:
    klaviyo.connector.write([contact(1), contact(2)])
    klaviyo.calls.clear()
    changes = [bare(1, fields={"first_name": None, "location.country": None}), bare(2, fields={"mw_orders": "9"})]
    assert klaviyo.connector.write(changes).accepted == {change.key for change in changes}
    person = klaviyo.person(changes[0].key)
    assert person is not None
    assert person.fields == {"mw_orders": 1, "mw_loyal": True}
    assert routes(klaviyo).count("POST /profile-import") == 1


@pytest.mark.parametrize(("fault", "accepted"), [("error", {2}), ("answer", {2})])
def test_a_field_that_could_not_be_cleared_is_not_acknowledged(klaviyo: Served, fault: Any, accepted: set[int]) -> None:
    klaviyo.connector.write([contact(1), contact(2)])
    said = {"errors": [{"id": "x", "code": "invalid", "title": "Invalid input.", "detail": "Given1 is no name"}]}
    options: dict[str, Any] = {"status": 400, "body": said} if fault == "answer" else {}
    klaviyo.faults.order(fault, route="profile-import$", **options)
    answer = klaviyo.connector.write([bare(1, fields={"first_name": None}), bare(2, fields={"mw_orders": "9"})])
    assert answer.accepted == {contact(number).key for number in accepted}
    assert [one.key for one in answer.rejected] == ([contact(1).key] if fault == "answer" else [])


def test_rows_that_an_import_refused_are_read_from_its_errors(klaviyo: Served) -> None:
    rows = [contact(1), *(contact(number, email=f"no address {number}") for number in range(2, 133)), contact(200)]
    answer = klaviyo.connector.write(rows)
    assert answer.accepted == {rows[0].key, rows[-1].key}
    assert {one.key for one in answer.rejected} == {row.key for row in rows[1:-1]}
    assert all(one.code == "invalid" and "no address" not in one.words for one in answer.rejected)
    # Page by page.
    assert routes(klaviyo).count(f"GET {JOBS}/{{job}}/import-errors") == 2


def error_of(**attributes: Any) -> dict[str, Any]:
    said = {"code": "invalid", "title": "Invalid input.", "detail": "Given1 is no name", "source": {}, **attributes}
    return {"data": [{"type": "import-error", "id": "0", "attributes": said}], "links": {"self": "", "next": None}}


ENDED = {
    "data": {
        "type": "profile-bulk-import-job", "id": "a",
        "attributes": {"status": "complete", "total_count": 2, "completed_count": 1, "failed_count": 1},
    }
}  # fmt: skip


@pytest.mark.parametrize(
    "attributes",
    [
        {"original_payload": {"email": "Person1@example.com"}},
        {"original_payload": {"attributes": {"email": "person1@example.com"}}},
        {"source": {"pointer": "/data/attributes/profiles/data/0/attributes/first_name"}, "original_payload": None},
        {
            "source": {"pointer": "/data/attributes/profiles/data/0"},
            "original_payload": {"email": "somebody@example.com"},
        },
    ],
    ids=["payload", "nested payload", "pointer", "pointer where the payload is nobody's"],
)
def test_an_import_error_is_matched_by_payload_or_pointer(klaviyo: Served, attributes: dict[str, Any]) -> None:
    klaviyo.faults.order("answer", route=r"GET .*/[^/]+$", body=ENDED)
    klaviyo.faults.order("answer", route="import-errors", body=error_of(**attributes))
    answer = klaviyo.connector.write([contact(1), contact(2)])
    assert answer.accepted == {contact(2).key}
    assert [(one.key, one.words) for one in answer.rejected] == [
        (contact(1).key, "Invalid input.: <first_name> is no name")
    ]


def test_errors_that_name_nobody_acknowledge_nobody(klaviyo: Served) -> None:
    for rows in ([contact(1), contact(2)], [contact(1)]):
        ended = {
            "data": {
                **ENDED["data"],
                "attributes": {"status": "complete", "completed_count": len(rows) - 1, "failed_count": 1},
            }
        }
        klaviyo.faults.order("answer", route=r"GET .*/[^/]+$", body=ended)
        klaviyo.faults.order("answer", route="import-errors", body=error_of())
        if len(rows) > 1:
            with pytest.raises(RefusedError):
                klaviyo.connector.write(rows)
        else:
            assert [one.key for one in klaviyo.connector.write(rows).rejected] == [contact(1).key]


@pytest.mark.parametrize(
    "attributes",
    [
        {"status": "cancelled"},
        {"status": "complete", "completed_count": 1, "failed_count": 0},
        {"status": "processing"},
    ],
    ids=["cancelled", "a row without a result", "never ends"],
)
def test_an_import_without_results_is_to_be_tried_again(
    klaviyo: Served, attributes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    klaviyo.faults.order("answer", route=r"GET .*/[^/]+$", times=50, body={"data": {"attributes": attributes}})
    with pytest.raises(TryAgainError):
        klaviyo.connector.write([contact(1), contact(2)])


def test_a_batch_too_large_for_one_body_goes_in_several_jobs(klaviyo: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(PLATFORM.limit("contacts"), body_bytes=1_000)
    monkeypatch.setattr(module, "PLATFORM", replace(PLATFORM, limits={**PLATFORM.limits, "contacts": small}))
    monkeypatch.setattr(
        type(klaviyo.part), "platform", replace(PLATFORM, limits={**PLATFORM.limits, "contacts": small})
    )
    rows = [contact(number) for number in range(20)]
    assert klaviyo.connector.write(rows).accepted == {row.key for row in rows}
    sent = [count for method, route, count, _ in klaviyo.calls if (method, route) == ("POST", JOBS)]
    assert len(sent) > 3
    assert sum(sent) == 20
    # One job that could not be started takes nothing from the others.
    klaviyo.faults.order("error", route=f"POST .*{JOBS}$", after=2)
    answer = klaviyo.connector.write(rows)
    assert answer.accepted == {row.key for row in rows[: sum(sent[:2])]}
    assert not answer.rejected


def test_nobody_who_left_comes_back_by_an_import(klaviyo: Served) -> None:
    rows = [contact(1), contact(2), contact(3)]
    klaviyo.connector.write(rows)
    klaviyo.part.leave(rows[0].key, "unsubscribe")
    klaviyo.part.leave(rows[1].key, "bounce")
    klaviyo.connector.unsubscribe([rows[2]])
    klaviyo.connector.write([*rows, *(replace(row, is_new=False, fields={"mw_orders": "5"}) for row in rows)])
    assert states(klaviyo) == {
        "person1@example.com": "unsubscribed", "person2@example.com": "bounced", "person3@example.com": "unsubscribed",
    }  # fmt: skip
    assert not any("subscription-bulk-create" in route for route in routes(klaviyo))


def test_subscribing_lifts_an_unsubscription_as_published_which_is_why_it_is_not_called(klaviyo: Served) -> None:
    klaviyo.connector.write([contact(1), contact(2)])
    klaviyo.part.leave(contact(1).key, "unsubscribe")
    klaviyo.part.leave(contact(2).key, "bounce")
    people = [
        {
            "type": "profile",
            "attributes": {
                "email": contact(number).email,
                "subscriptions": {"email": {"marketing": {"consent": "SUBSCRIBED"}}},
            },
        }
        for number in (1, 2)
    ]
    body = {"data": {"type": "profile-subscription-bulk-create-job", "attributes": {"profiles": {"data": people}}}}
    said = klaviyo.ask("POST", "/api/profile-subscription-bulk-create-jobs", headers(klaviyo), json=body)
    assert said.status_code == 202
    assert states(klaviyo) == {"person1@example.com": "subscribed", "person2@example.com": "bounced"}


def test_people_whose_address_is_forgotten_are_found_by_reading_the_account_once(klaviyo: Served) -> None:
    rows = [contact(number) for number in range(1, 131)]
    klaviyo.connector.write(rows)
    klaviyo.calls.clear()
    known = [replace(row, email=None, is_new=False, fields={}, add=()) for row in rows]
    gone = replace(contact(999), email=None)
    assert klaviyo.connector.unsubscribe([known[0], gone]).accepted == {known[0].key, gone.key}
    assert klaviyo.connector.erase([known[128], gone]).accepted == {known[128].key, gone.key}
    left = replace(known[2], remove=("mw_loyal",))
    assert klaviyo.connector.write([left, gone]).accepted == {left.key, gone.key}
    assert states(klaviyo)["person1@example.com"] == "unsubscribed"
    assert len(states(klaviyo)) == 129
    assert klaviyo.person(known[128].key) is None
    person = klaviyo.person(left.key)
    assert person is not None
    assert "mw_loyal" not in person.fields
    # Two pages of everybody, and one look at the address of the one to be unsubscribed.
    assert routes(klaviyo).count("GET /profiles") == 3


def test_whoever_came_after_the_account_was_read_is_not_taken_for_erased(
    klaviyo: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    klaviyo.connector.erase([replace(contact(1), email=None)])
    klaviyo.connector.write([contact(1)])
    monkeypatch.setattr(module, "REMEMBERED", 0.0)
    assert klaviyo.connector.erase([replace(contact(1), email=None)]).accepted == {contact(1).key}
    assert states(klaviyo) == {}


def test_erased_profiles_are_gone_and_may_be_made_anew(klaviyo: Served) -> None:
    klaviyo.connector.write([contact(1), contact(2)])
    assert klaviyo.connector.erase([contact(1), contact(9)]).accepted == {contact(1).key, contact(9).key}
    assert states(klaviyo) == {"person2@example.com": "subscribed"}
    klaviyo.connector.write([contact(1, fields={}, add=())])
    person = klaviyo.person(contact(1).key)
    assert person is not None
    assert person.fields == {}


def test_a_changed_address_keeps_the_profile(klaviyo: Served) -> None:
    klaviyo.connector.write([contact(1)])
    change = Rekey(bare(1), bare(2, fields={"first_name": "Ada"}))
    for _ in range(2):
        # The second time as after an answer that was lost.
        assert klaviyo.connector.rekey([change]).accepted == {change.new.key}
    people = list(klaviyo.part.people.everyone())
    assert [(one.key, one.email) for one in people] == [(change.new.key, change.new.email)]
    assert people[0].fields["first_name"] == "Ada"
    assert people[0].fields["mw_orders"] == 1
    # The old address is another's from now on, with an id of its own.
    klaviyo.connector.write([contact(1)])
    found = klaviyo.ask("GET", "/api/profiles", headers(klaviyo)).json()["data"]
    assert len({item["id"] for item in found}) == 2
    by_id = {item["attributes"]["email"]: item["id"] for item in found}
    said = klaviyo.ask(
        "GET", "/api/profiles", headers(klaviyo), params={"filter": f'equals(id,"{by_id[change.new.email]}")'}
    )
    assert [item["attributes"]["email"] for item in said.json()["data"]] == [change.new.email]


def test_a_changed_address_that_has_a_profile_becomes_one_with_it(klaviyo: Served) -> None:
    klaviyo.connector.write([contact(1), contact(2, fields={"mw_orders": "7"}, add=())])
    change = Rekey(bare(1), bare(2))
    assert klaviyo.connector.rekey([change]).accepted == {change.new.key}
    assert states(klaviyo) == {"person2@example.com": "subscribed"}
    person = klaviyo.person(change.new.key)
    assert person is not None
    assert (person.fields["mw_orders"], person.fields["first_name"]) == (7, "Given1")


@pytest.mark.parametrize("how", ["unsubscribe", "bounce"])
@pytest.mark.parametrize("who", [1, 2])
def test_whoever_left_gets_no_other_address(klaviyo: Served, how: Any, who: int) -> None:
    klaviyo.connector.write([contact(1), contact(2)] if who == 2 else [contact(1)])
    klaviyo.part.leave(contact(who).key, how)
    before = states(klaviyo)
    answer = klaviyo.connector.rekey([Rekey(bare(1), bare(2))])
    assert [(one.key, one.code) for one in answer.rejected] == [(contact(2).key, "LEFT_THERE")]
    assert states(klaviyo) == before


def test_a_rekey_of_nobody_makes_nobody_and_one_without_the_old_address_finds_it(klaviyo: Served) -> None:
    assert [one.code for one in klaviyo.connector.rekey([Rekey(bare(1), bare(2))]).rejected] == ["NOT_THERE"]
    klaviyo.connector.write([contact(1)])
    forgotten = replace(bare(1), email=None)
    assert klaviyo.connector.rekey([Rekey(forgotten, bare(2))]).accepted == {contact(2).key}
    assert states(klaviyo) == {"person2@example.com": "subscribed"}


def test_an_address_taken_meanwhile_is_tried_again(klaviyo: Served) -> None:
    klaviyo.connector.write([contact(1), contact(2)])
    empty = {"data": [], "links": {"self": "", "next": None}}
    old = klaviyo.ask(
        "GET", "/api/profiles", headers(klaviyo), params={"filter": 'equals(email,"person1@example.com")'}
    )
    klaviyo.faults.order("answer", route="GET /api/profiles", body={**empty, "data": old.json()["data"]})
    with pytest.raises(TryAgainError):
        klaviyo.connector.rekey([Rekey(bare(1), bare(2))])
    assert klaviyo.connector.rekey([Rekey(bare(1), bare(2))]).accepted == {contact(2).key}


def test_members_are_read_page_by_page_with_their_state(klaviyo: Served) -> None:
    rows = [contact(number) for number in range(1, 251)]
    klaviyo.connector.write(rows)
    klaviyo.part.leave(rows[0].key, "unsubscribe")
    klaviyo.part.leave(rows[1].key, "bounce")
    klaviyo.connector.unsubscribe([rows[2]])
    klaviyo.calls.clear()
    found = {member.key: member for member in klaviyo.connector.members()}
    assert found.keys() == {row.key for row in rows}
    assert len(routes(klaviyo)) == 3
    assert [found[row.key].state for row in rows[:4]] == ["unsubscribed", "bounced", "unsubscribed", "subscribed"]
    assert found[rows[3].key].tags == {"mw_loyal"}
    assert found[rows[3].key].fields == {"first_name": "Given4", "location.country": "GB", "mw_orders": "4"}
    assert {member.key for member in klaviyo.connector.members_among([])} == found.keys()


def test_a_link_to_elsewhere_is_not_followed_with_our_key(klaviyo: Served) -> None:
    klaviyo.connector.write([contact(1)])
    elsewhere = "https://elsewhere.example.com/api/profiles?page%5Bcursor%5D=MA%3D%3D"
    klaviyo.faults.order(
        "answer", route="GET /api/profiles", body={"data": [], "links": {"self": "", "next": elsewhere}}
    )
    assert [member.key for member in klaviyo.connector.members()] == [contact(1).key]


def test_answers_tell_of_the_steady_limit_and_a_refusal_how_long_to_wait(klaviyo: Served) -> None:
    said = klaviyo.ask("GET", "/api/profiles", headers(klaviyo))
    assert (said.headers["RateLimit-Limit"], said.headers["RateLimit-Remaining"]) == ("700", "699")
    assert 0 < int(said.headers["RateLimit-Reset"]) <= 61
    deletion = {"data": {"type": "data-privacy-deletion-job", "attributes": {"profile": {"data": {
        "type": "profile", "attributes": {"email": "nobody@example.com"}}}}}}  # fmt: skip
    # Three a second, whatever the minute has left.
    answers = [
        klaviyo.ask("POST", "/api/data-privacy-deletion-jobs", headers(klaviyo), json=deletion) for _ in range(4)
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
    assert answers[3].headers["Retry-After"] == "1"
    assert "RateLimit-Limit" not in answers[3].headers
    assert answers[3].json()["errors"][0]["code"] == "throttled"


def test_a_call_needs_key_revision_and_media_type(klaviyo: Served) -> None:
    good = headers(klaviyo)
    for changes, status in (
        ({"Authorization": ""}, 401),
        ({"Authorization": "Klaviyo-API-Key wrong"}, 401),
        ({"revision": ""}, 400),
        ({"Content-Type": "text/json"}, 415),
    ):
        said = klaviyo.ask("POST", f"/api{JOBS}", {**good, **changes}, json=import_of())
        assert said.status_code == status
        assert said.json()["errors"][0]["detail"]
    klaviyo.faults.order("revoked")
    with pytest.raises(DestinationError, match="MAILWRIGHT_KLAVIYO_API_KEY") as told:
        klaviyo.connector.write([contact(1)])
    key = klaviyo.part.secrets["api_key"]
    assert key not in str(told.value)
    assert key not in repr(klaviyo.connector) + repr(klaviyo.connector.account)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (JOBS, {"data": {"type": "profile-bulk-import-job"}}),
        (JOBS, {"data": {"type": "profiles", "attributes": {"profiles": {"data": []}}}}),
        (JOBS, import_of({"type": "profile", "attributes": {"email": 7}})),
        (JOBS, import_of()),
        (JOBS, import_of(*({"type": "profile", "attributes": {"email": "a@example.com"}} for _ in range(10_001)))),
        ("/profile-import", {"data": {"type": "profile", "attributes": {"email": "no address"}}}),
        ("/data-privacy-deletion-jobs", {"data": {"type": "data-privacy-deletion-job"}}),
    ],
    ids=["no attributes", "another type", "a number for an address", "empty", "too many", "no address", "nobody"],
)
def test_the_sandbox_refuses_what_is_not_as_published(klaviyo: Served, path: str, body: Any) -> None:
    said = klaviyo.ask("POST", f"/api{path}", headers(klaviyo), json=body)
    assert said.status_code == 400
    assert said.json()["errors"][0]["source"]


def test_the_sandboxs_answers_are_as_the_document_has_them(klaviyo: Served) -> None:
    document = shipped("klaviyo/profiles.json")
    klaviyo.connector.write([contact(number) for number in range(1, 4)])
    klaviyo.part.leave(contact(1).key, "bounce")

    def is_as_published(method: str, path: str, template: str, status: int, **options: Any) -> Any:
        said = klaviyo.ask(method, path, headers(klaviyo), **options)
        assert said.status_code == status
        assert document.knows(method, template)
        assert document.first_error_of_answer(method, template, status, said.json()) is None, said.json()
        return said.json()["data"]

    asked = {"page[size]": "2", "additional-fields[profile]": "subscriptions"}
    profiles = is_as_published("GET", "/api/profiles", "/api/profiles", 200, params=asked)
    body = import_of({"type": "profile", "attributes": {"email": "no address"}})
    job = is_as_published("POST", f"/api{JOBS}", f"/api{JOBS}", 202, json=body)["id"]
    is_as_published("GET", f"/api{JOBS}/{job}", f"/api{JOBS}/{{job_id}}", 200)
    errors = is_as_published("GET", f"/api{JOBS}/{job}/import-errors", f"/api{JOBS}/{{id}}/import-errors", 200)
    assert len(errors) == 1
    first, second = (profile["id"] for profile in profiles)
    change = {"data": {"type": "profile", "id": first, "attributes": {"email": "person2@example.com"}}}
    template = "/api/profiles/{id}"
    taken = klaviyo.ask("PATCH", f"/api/profiles/{first}", headers(klaviyo), json=change)
    assert taken.status_code == 409
    assert taken.json()["errors"][0]["meta"] == {"duplicate_profile_id": second}
    assert document.first_error_of_answer("PATCH", template, 409, taken.json()) is None
    change["data"]["attributes"] = {"first_name": None}
    is_as_published("PATCH", f"/api/profiles/{first}", template, 200, json=change)
    one = {"data": {"type": "profile", "attributes": {"email": "person9@example.com"}}}
    is_as_published("POST", "/api/profile-import", "/api/profile-import", 201, json=one)
    is_as_published("POST", "/api/profile-import", "/api/profile-import", 200, json=one)
    merge = {
        "data": {
            "type": "profile-merge",
            "id": first,
            "relationships": {"profiles": {"data": [{"type": "profile", "id": second}]}},
        }
    }
    is_as_published("POST", "/api/profile-merge", "/api/profile-merge", 201, json=merge)
