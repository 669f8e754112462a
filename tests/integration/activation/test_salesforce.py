"""The Marketing Cloud connector against its sandbox over real HTTP: rows, jobs, tokens, SOAP, refusals, keys."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from activation import soap, sync
from activation.connector import Contact, Field, Rekey, SandboxAccount
from activation.connectors import salesforce
from activation.connectors.salesforce import ClientCredentials, Salesforce, SalesforceAccount
from activation.http import Api, RefusedError, RetryPolicy, TryAgainError
from activation.sandbox.app import Sandbox, server
from activation.sandbox.part import Part
from activation.sandbox.parts.sfmc import SalesforcePart
from activation.sandbox.people import Person
from core.errors import DestinationError, SettingsError
from core.home import Home
from core.settings import load_settings

FIELDS = [
    Field("given_name", "FirstName", "Given name", "text"),
    Field("stage", "mw_stage", "Stage", "text"),
    Field("orders", "mw_orders", "Orders", "number"),
    Field("last", "mw_last", "Last", "date"),
]
TAGS = ["mw_loyal", "mw_dormant"]


class World:
    """A connector and the sandbox that it talks to."""

    def __init__(self, sandbox: Sandbox, url: str) -> None:
        self.sandbox = sandbox
        part: Part = sandbox.parts["sfmc"]
        assert isinstance(part, SalesforcePart)
        self.part = part
        self.part.make_columns(FIELDS, TAGS)
        self.url = url
        self.faults = sandbox.faults["sfmc"]
        self.connector = self.connect()

    def connect(self, secrets: dict[str, str] | None = None) -> Salesforce:
        account = SandboxAccount(
            self.part.account, lambda: f"{self.url}/sfmc", {**self.part.secrets, **(secrets or {})}
        )
        made = Salesforce.connect(Salesforce.sandbox_credentials(account), RetryPolicy(3, 0.01, 0.02))
        made.prepare(FIELDS, TAGS) if secrets is None else None
        return made

    def people(self) -> dict[str, Person]:
        return {person.key: person for person in self.part.people.everyone()}

    def calls(self, method: str, route: str) -> list[dict[str, Any]]:
        found = self.part.people.calls(1000)
        return [call for call in found if call["method"] == method and call["route"].endswith(route)]


@contextmanager
def serving(sandbox: Sandbox) -> Iterator[str]:
    """A real server on a free port of loopback. Gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = server(sandbox, "critical")
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        made.should_exit = True
        thread.join(10)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    sandbox = Sandbox(tmp_path, names=["sfmc"])
    with serving(sandbox) as url:
        world = World(sandbox, url)
        yield world
        world.connector.close()
    sandbox.close()


def key(number: int) -> str:
    return f"{number:016x}"


def contact(number: int, **said: Any) -> Contact:
    return Contact(key(number), f"person{number}@example.com", **said)


def many(count: int, **said: Any) -> list[Contact]:
    return [contact(number, is_new=True, **said) for number in range(count)]


@pytest.mark.parametrize("count", [3, 60], ids=["rowset", "job"])
def test_rows_are_written_with_their_types_and_cleared(world: World, count: int) -> None:
    fields = {"FirstName": 'Ada <&> "Lovelace"', "mw_orders": "12", "mw_last": "2026-01-31"}
    answer = world.connector.write(many(count, fields=fields, add=("mw_loyal",)))
    assert answer.accepted == set(world.people())
    assert len(answer.accepted) == count
    assert world.people()[key(1)].email == "person1@example.com"
    assert world.people()[key(1)].fields == {**fields, "mw_orders": 12, "mw_loyal": True}
    changes = [contact(n, fields={"mw_last": None}, add=("mw_dormant",), remove=("mw_loyal",)) for n in range(count)]
    world.connector.write(changes)
    said = world.people()[key(2)].fields
    assert "mw_last" not in said
    assert (said["FirstName"], said["mw_loyal"], said["mw_dormant"]) == (fields["FirstName"], False, True)


def test_nobody_is_made_who_only_has_segments_to_lose(world: World) -> None:
    world.connector.write(many(2, add=("mw_loyal",)))
    leaving = [Contact(key(n), remove=("mw_loyal",)) for n in (1, 7)]
    assert world.connector.write(leaving).accepted == {key(1), key(7)}
    assert {name: person.fields for name, person in world.people().items()} == {
        key(0): {"mw_loyal": True},
        key(1): {"mw_loyal": False},
    }
    assert world.connector.write(leaving[1:]).accepted == {key(7)}


def test_a_job_says_of_each_row_what_became_of_it_in_order(world: World) -> None:
    contacts = [contact(n, fields={"mw_last": "soon" if n % 7 == 3 else "2026-01-01"}) for n in range(2600)]
    answer = world.connector.write(contacts)
    bad = {key(n) for n in range(2600) if n % 7 == 3}
    assert {one.key for one in answer.rejected} == bad
    assert answer.accepted == {one.key for one in contacts} - bad
    assert set(world.people()) == answer.accepted
    assert len(world.calls("GET", "/results")) == 2, "results come in pages"
    assert "soon" not in answer.rejected[0].words


def test_a_deadlocked_row_is_neither_taken_nor_refused(world: World) -> None:
    world.part.deadlocks = 1
    answer = world.connector.write(many(60))
    assert len(answer.accepted) == 30
    assert answer.rejected == []
    assert len(world.connector.write(many(60)).accepted) == 60


def test_a_job_without_a_status_is_waited_for(world: World) -> None:
    early = {"requestId": "x", "resultMessages": []}
    world.faults.order("answer", times=3, route="/status$", status=200, body=early)
    assert len(world.connector.write(many(60)).accepted) == 60
    assert len(world.calls("GET", "/status")) >= 4


def test_a_job_that_never_ends_is_given_up_and_acknowledges_nobody(world: World) -> None:
    pending = {"status": {"requestStatus": "Pending"}, "requestId": "x"}
    world.faults.order("answer", times=None, route="/status$", status=200, body=pending)
    impatient = Salesforce(world.connector.account, world.connector.api, patience=0.2, sleep=lambda _: None)
    with pytest.raises(TryAgainError, match="did not end"):
        impatient.write(many(60))


def test_results_that_do_not_fit_the_rows_acknowledge_nobody(world: World) -> None:
    errors = {"page": 1, "items": [{"status": "Error", "message": "no", "errorCode": 2}], "requestId": "x"}
    world.faults.order("answer", route="/results", status=200, body=errors)
    with pytest.raises(RefusedError, match="UNCLEAR"):
        world.connector.write([*many(59), contact(99, fields={"mw_last": "soon"})])


def test_rows_before_the_first_bad_one_are_saved_and_halving_finds_it(world: World) -> None:
    contacts = [contact(n, fields={"mw_last": "soon" if n == 5 else "2026-01-01"}) for n in range(9)]
    with pytest.raises(RefusedError) as caught:
        world.connector.write(contacts)
    assert caught.value.code == "10006"
    assert set(world.people()) == {key(n) for n in range(5)}
    rejected, pending = [], [contacts]
    while pending:
        some = pending.pop()
        try:
            world.connector.write(some)
        except RefusedError:
            half = len(some) // 2
            rejected += some if len(some) == 1 else []
            pending += [some[:half], some[half:]] if len(some) > 1 else []
    assert [one.key for one in rejected] == [key(5)]
    assert set(world.people()) == {key(n) for n in range(9) if n != 5}


def test_a_refusal_without_a_reason_is_tried_again(world: World) -> None:
    passing = {"errorcode": 10006, "message": "Unable to save rows for data extension ID x", "documentation": ""}
    world.faults.order("answer", route="rowset", status=400, body=passing)
    with pytest.raises(TryAgainError):
        world.connector.write(many(3))


def test_it_says_which_columns_are_missing_and_of_which_type(world: World) -> None:
    more = [*FIELDS, Field("other", "mw_other", "Other", "text"), Field("x", "mw_loyal", "X", "number")]
    with pytest.raises(DestinationError) as caught:
        world.connector.prepare(more, ["mw_dormant", "mw_new_segment"])
    words = str(caught.value)
    assert "it has no mw_other (Text), mw_new_segment (Boolean)" in words
    assert "mw_loyal must be Number, and is Boolean" in words


def test_the_sandbox_has_the_columns_of_the_shipped_document(world: World) -> None:
    settings = load_settings()
    project = settings.project_dir / "dbt_project"
    document = sync.read(settings, "sfmc")
    tags = [document.tag_of(name) for name in sync.segment_names(project)]
    tags += [document.start_tag_of(name) for name in document.automations]
    world.connector.prepare(document.mapped_fields(sync.contract_columns(project)), tags)


def test_another_data_extension_is_not_there(world: World) -> None:
    account = dataclasses.replace(world.connector.account, data_extension="Other <&>")
    with pytest.raises(DestinationError, match="there is no such data extension"):
        Salesforce.connect(account).prepare(FIELDS, TAGS)
    with pytest.raises(DestinationError, match="there is no such data extension"):
        Salesforce.connect(account).write([contact(1)])


# Tokens.


def test_one_token_serves_every_thread(world: World) -> None:
    world.connector.close()
    fresh = world.connect({})
    before = len(world.calls("POST", "/v2/token"))
    threads = [threading.Thread(target=fresh.write, args=([contact(n)],)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(world.people()) == 12
    assert len(world.calls("POST", "/v2/token")) == before + 1


def test_a_token_is_renewed_when_it_has_expired_and_when_it_is_refused(world: World) -> None:
    now = [0.0]
    account = world.connector.account
    api = Api(salesforce.PLATFORM, account.base_url, description="x", auth=ClientCredentials(account, lambda: now[0]))
    connector = Salesforce(account, api)

    def tokens() -> int:
        return len(world.calls("POST", "/v2/token"))

    start = tokens()
    connector.write([contact(1)])
    now[0] += 1078
    connector.write([contact(1)])
    assert tokens() == start + 1
    now[0] += 1
    connector.write([contact(1)])
    assert tokens() == start + 2
    world.part.expire()
    threads = [threading.Thread(target=connector.write, args=([contact(n)],)) for n in range(10, 18)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(world.people()) == {key(n) for n in [1, *range(10, 18)]}
    assert tokens() == start + 3
    world.part.expire()
    assert connector.unsubscribe([contact(1)]).accepted == {key(1)}, "SOAP says it by a fault"
    assert tokens() == start + 4
    api.close()


def test_a_wrong_secret_stops_and_is_not_said(world: World) -> None:
    connector = world.connect({"client_secret": "hunter2hunter2"})
    with pytest.raises(DestinationError, match="gives no access token") as caught:
        connector.write([contact(1)])
    assert not isinstance(caught.value, TryAgainError)
    assert "hunter2" not in f"{caught.value}{connector!r}{connector.account!r}"


@pytest.mark.parametrize("fault", ["throttled", "error", "html", "garbled", "lost", "reset"])
def test_no_token_this_time_is_tried_again(world: World, fault: Any) -> None:
    fresh = world.connect({})
    world.faults.order(fault, route="/v2/token$")
    with pytest.raises(TryAgainError):
        fresh.write([contact(1)])
    assert fresh.write([contact(1)]).accepted == {key(1)}


@pytest.mark.parametrize("fault", ["throttled", "throttled_bare", "error", "html", "garbled", "lost", "reset"])
@pytest.mark.parametrize("route", ["rowset", "PUT .*async", "Service.asmx"])
def test_no_answer_this_time_is_tried_again(world: World, fault: Any, route: str) -> None:
    def work() -> set[str]:
        if route == "Service.asmx":
            return world.connector.unsubscribe([contact(1)]).accepted
        return world.connector.write(many(2 if route == "rowset" else 60)).accepted

    world.faults.order(fault, route=route)
    with pytest.raises(TryAgainError):
        work()
    assert key(1) in work()


@pytest.mark.parametrize("fault", ["throttled", "error", "html", "garbled", "lost", "reset"])
def test_looking_at_a_job_is_repeated(world: World, fault: Any) -> None:
    world.faults.order(fault, route="/status$", seconds=0.01)
    assert len(world.connector.write(many(60)).accepted) == 60
    assert len(world.calls("PUT", "/rows")) == 1


def test_a_missing_permission_stops(world: World) -> None:
    world.faults.order("revoked")
    with pytest.raises(DestinationError, match="lacks a permission"):
        world.connector.write([contact(1)])


# Refusals, deletion, keys.


def test_a_refusal_holds_for_who_was_sent_something_and_for_who_was_not(world: World) -> None:
    world.connector.write(many(120))
    gone = Contact(key(5000))
    answer = world.connector.unsubscribe([contact(1), Contact(key(2)), gone])
    assert answer.accepted == {key(1), key(2), gone.key}
    assert answer.rejected == []
    subscribers = world.part.people.documents("subscriber")
    assert {name: said["status"] for name, said in subscribers.items()} == dict.fromkeys(
        [key(1), key(2)], "Unsubscribed"
    )
    # A row that is written again changes nothing of it.
    world.connector.write(many(120, fields={"mw_stage": "active"}))
    assert {name for name, person in world.people().items() if person.state == "unsubscribed"} == {key(1), key(2)}


def test_one_bad_refusal_does_not_hold_up_the_others(world: World) -> None:
    answer = world.connector.unsubscribe([contact(1), Contact(key(2), "no address"), contact(3)])
    assert answer.accepted == {key(1), key(3)}
    assert [(one.key, one.code) for one in answer.rejected] == [(key(2), "2")]


def test_answers_in_another_order_are_told_apart(world: World) -> None:
    world.connector.write(many(3))
    world.faults.order("shuffled", times=None)
    answer = world.connector.unsubscribe([Contact(key(2), "no address"), contact(1), contact(3)])
    assert (answer.accepted, [one.key for one in answer.rejected]) == ({key(1), key(3)}, [key(2)])
    contacts = [contact(n, fields={"mw_last": "soon" if n == 7 else "2026-01-01"}) for n in range(60)]
    assert [one.key for one in world.connector.write(contacts).rejected] == [key(7)]


def test_an_erasure_deletes_row_and_contact_and_may_be_repeated(world: World) -> None:
    world.connector.write(many(130))
    world.connector.unsubscribe([contact(1)])
    wanted = [Contact(key(n)) for n in range(120)]
    assert world.connector.erase(wanted).accepted == {one.key for one in wanted}
    assert set(world.people()) == {key(n) for n in range(120, 130)}
    assert world.part.people.forgotten([key(1)]) == {key(1)}
    assert world.part.people.documents("subscriber") == {}
    assert world.connector.erase(wanted).accepted == {one.key for one in wanted}


def test_archived_is_out_of_the_audience_and_still_refused_when_back(world: World) -> None:
    world.connector.write(many(3))
    world.connector.unsubscribe([contact(1)])
    assert world.connector.archive([contact(1), contact(2)]).accepted == {key(1), key(2)}
    assert set(world.people()) == {key(0)}
    world.connector.write(many(3))
    assert world.people()[key(1)].state == "unsubscribed"


def test_a_row_that_can_not_be_deleted_is_refused_in_its_words(world: World) -> None:
    world.connector.write(many(2))
    fault = soap.element("StatusMessage", "Row of person1@example.com is locked")
    body = (
        f'<s:Envelope xmlns:s="{soap.ENVELOPE}"><s:Body><DeleteResponse><Results><StatusCode>Error</StatusCode>{fault}'
        "<ErrorCode>7</ErrorCode><OrdinalID>0</OrdinalID></Results></DeleteResponse></s:Body></s:Envelope>"
    )
    world.faults.order("answer", route="Service.asmx", status=200, body=body, headers={"Content-Type": "text/xml"})
    answer = world.connector.archive([contact(1)])
    assert [(one.code, one.words) for one in answer.rejected] == [("7", "Row of <address> is locked")]


def test_a_merged_customer_keeps_what_is_not_ours_and_a_refusal(world: World) -> None:
    world.part.make_columns([Field("x", "LoyaltyNumber", "", "text"), Field("x", "Points", "", "number")], ["IsVip"])
    world.connector.write(many(3, fields={"FirstName": "Ada", "mw_last": "2026-01-31"}, add=("mw_loyal",)))
    person = world.people()[key(1)]
    person.fields |= {"LoyaltyNumber": "L-1", "Points": 7, "IsVip": True}
    world.part.people.save([person])
    world.part.leave(key(2), "unsubscribe")
    changes = [
        Rekey(contact(1), Contact(key(11), "new@example.com", fields={"FirstName": "Ada M."})),
        Rekey(contact(2), Contact(key(12), "other@example.com")),
        Rekey(contact(77), Contact(key(13), "third@example.com", fields={"FirstName": "Cem"})),
    ]
    connector = world.connect()
    for _ in range(2):
        assert connector.rekey(changes).accepted == {key(11), key(12), key(13)}
        there = world.people()
        assert set(there) == {key(0), key(11), key(12), key(13)}
        assert there[key(11)].email == "new@example.com"
        assert there[key(11)].fields["FirstName"] == "Ada M."
        assert there[key(11)].fields["LoyaltyNumber"] == "L-1"
        assert str(there[key(11)].fields["Points"]) == "7"
        assert (there[key(11)].fields["IsVip"], there[key(11)].fields["mw_loyal"]) == (True, True)
        assert str(there[key(11)].fields["mw_last"]) == "2026-01-31"
        assert there[key(12)].state == "unsubscribed"


def test_members_come_page_by_page_even_when_a_page_is_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activation.sandbox.parts.sfmc.PAGE", 100)
    world.connector.write(many(100, fields={"mw_orders": "3", "mw_stage": "a&b"}, add=("mw_loyal",)))
    world.connector.write([contact(n, fields={"mw_last": "2026-02-01"}) for n in range(100, 260)])
    world.part.people.save([Person("somebody.else", "else@example.com")])
    world.part.leave(key(1), "unsubscribe")
    world.part.leave(key(2), "bounce")
    world.faults.order("lost", route="Service.asmx", after=3)
    found = list(world.connect().members())
    there = {member.key: member for member in found}
    assert len(found) == len(there) == 260
    assert [there[key(n)].state for n in range(3)] == ["subscribed", "unsubscribed", "bounced"]
    assert there[key(0)].tags == {"mw_loyal"}
    assert there[key(0)].fields == {"mw_orders": "3", "mw_stage": "a&b"}
    assert there[key(200)].fields == {"mw_last": "2026-02-01"}


# XML and settings.


@pytest.mark.parametrize(
    "document",
    [
        '<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>',
        '<?xml version="1.0"?><!DOCTYPE x SYSTEM "file:///etc/passwd"><x/>',
        "<html><br></html>",
        "",
        "<x>",
    ],
)
def test_xml_that_could_expand_or_is_none_is_not_read(document: str) -> None:
    with pytest.raises(ValueError, match="XML"):
        soap.parse(document)


def test_an_answer_with_entities_is_no_answer(world: World) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>'
    world.faults.order("answer", route="Service.asmx", status=200, body=bomb, headers={"Content-Type": "text/xml"})
    with pytest.raises(TryAgainError, match="no whole answer"):
        world.connector.archive([contact(1)])


def test_values_can_not_leave_their_element(world: World) -> None:
    mean = f"a@example.com</EmailAddress><Status>Active</Status>{salesforce.TOKEN}\x0b"
    world.connector.unsubscribe([Contact(key(1), mean)])
    assert world.part.people.documents("subscriber") == {}
    assert escape("</") in soap.element("x", "</y>")


SETTINGS = {
    "SUBDOMAIN": "mcabcdefghijklmnopqrstuvwxyz",
    "CLIENT_ID": "hunter2id",
    "CLIENT_SECRET": "hunter2secret",
    "DATA_EXTENSION": "Newsletter people",
}


def test_the_real_account_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home.create(tmp_path / "home", "Europe/London", "GBP")
    assert Salesforce.credentials(home) is None
    for name, value in SETTINGS.items():
        monkeypatch.setenv(f"MAILWRIGHT_SFMC_{name}", value)
    account = Salesforce.credentials(home)
    assert isinstance(account, SalesforceAccount)
    assert account.base_url == "https://mcabcdefghijklmnopqrstuvwxyz.rest.marketingcloudapis.com"
    assert account.soap_url == "https://mcabcdefghijklmnopqrstuvwxyz.soap.marketingcloudapis.com"
    assert Salesforce.connect(account).target == "sfmc/mcabcdefghijklmnopqrstuvwxyz/Newsletter people"
    assert "hunter2" not in f"{account!r}{Salesforce.connect(account)!r}"


@pytest.mark.parametrize("subdomain", ["mc.evil.example", "mc/evil", "evil", "mcabcdefghij@evil", "mcabcdefghij#x", ""])
def test_a_subdomain_is_one_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subdomain: str) -> None:
    home = Home.create(tmp_path / "home", "Europe/London", "GBP")
    for name, value in {**SETTINGS, "SUBDOMAIN": subdomain}.items():
        monkeypatch.setenv(f"MAILWRIGHT_SFMC_{name}", value)
    with pytest.raises(SettingsError, match="MAILWRIGHT_SFMC_SUBDOMAIN") as caught:
        Salesforce.credentials(home)
    assert "hunter2" not in str(caught.value)


def test_some_of_an_account_is_not_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home.create(tmp_path / "home", "Europe/London", "GBP")
    monkeypatch.setenv("MAILWRIGHT_SFMC_SUBDOMAIN", SETTINGS["SUBDOMAIN"])
    with pytest.raises(SettingsError, match="MAILWRIGHT_SFMC_CLIENT_ID: is needed too"):
        Salesforce.credentials(home)


def test_nothing_personal_is_noted(world: World) -> None:
    seen: list[tuple[Any, ...]] = []
    world.connector.observe(lambda *said: seen.append(said))
    world.connector.write([contact(1)])
    world.connector.unsubscribe([contact(1)])
    world.connector.erase([contact(1)])
    assert {said[1] for said in seen} >= {"/hub/v1/dataevents/key:{key}/rowset", "/Service.asmx#Subscriber"}
    assert not any(key(1) in str(said) or "example.com" in str(said) for said in seen)
