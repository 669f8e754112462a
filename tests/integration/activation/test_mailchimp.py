"""The Mailchimp connector against Mailchimp's part of the sandbox."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from activation.connector import Contact, Field, Member, Rekey
from activation.connectors.mailchimp import PLATFORM, Mailchimp, MailchimpSettings
from activation.http import RefusedError, TryAgainError
from activation.platform import Limit
from activation.sandbox.part import template
from activation.sandbox.parts.mailchimp import hash_of
from core.errors import DestinationError, SettingsError
from core.home import Home
from tests.integration.activation.served import Served, served

FIELDS = [
    Field("given_name", "FNAME", "Given name", "text"),
    Field("order_count", "MW_ORDERS", "Order count", "number"),
    Field("last_order_on", "MW_LAST", "Last order on", "date"),
]
TAGS = ["mw: loyal", "mw: dormant"]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path / "sandbox", "mailchimp") as made:
        made.connector.prepare(FIELDS, TAGS)
        yield made


def contact(number: int, **said: str | None) -> Contact:
    email = f"Person{number}@example.com"
    return Contact(hash_of(email), email, is_new=True, fields=said)


def keys(*contacts: Contact) -> set[str]:
    return {one.key for one in contacts}


def tagged(place: Served, tag: str) -> set[str]:
    people = place.part.people
    return {person.key for person in people.page(100, group=people.groups()[tag].id)}


def test_what_is_missing_is_made_once(place: Served) -> None:
    made = [(method, route) for method, route, _, _ in place.calls]
    assert made.count(("POST", "/lists/{list}/merge-fields")) == 2
    assert made.count(("POST", "/lists/{list}/segments")) == 2
    place.calls.clear()
    place.connector.prepare(FIELDS, TAGS)
    assert {method for method, *_ in place.calls} == {"GET"}


def test_contacts_are_created_and_changed_by_field(place: Served) -> None:
    first = contact(1, FNAME="Ada", MW_ORDERS="3", MW_LAST="2011-12-09")
    assert place.connector.write([first]).accepted == keys(first)
    assert place.person(first.key).fields["MERGE"] == {"FNAME": "Ada", "MW_ORDERS": 3, "MW_LAST": "2011-12-09"}  # type: ignore[union-attr]
    place.connector.write([contact(1, MW_ORDERS="4", MW_LAST=None)])
    assert place.person(first.key).fields["MERGE"] == {"FNAME": "Ada", "MW_ORDERS": 4, "MW_LAST": ""}  # type: ignore[union-attr]


def test_a_bad_row_is_told_from_the_others_in_the_platforms_words_without_personal_data(place: Served) -> None:
    good, long = contact(1, FNAME="Ada"), contact(2, FNAME="x" * 256)
    fake = Contact("00", "marmaduke@nowhere", is_new=True)
    answer = place.connector.write([good, long, fake])
    assert answer.accepted == keys(good)
    assert {rejection.code for rejection in answer.rejected} == {"ERROR_GENERIC"}
    said = " ".join(rejection.words for rejection in answer.rejected)
    assert "at most 255 bytes" in said
    assert "looks fake" in said
    assert "marmaduke" not in said


@pytest.mark.parametrize("how", ["unsubscribe", "bounce"])
def test_nobody_who_left_is_brought_back(place: Served, how: str) -> None:
    one = contact(1)
    place.connector.write([one])
    place.part.leave(one.key, how)  # type: ignore[arg-type]
    before = place.person(one.key).state  # type: ignore[union-attr]
    assert place.connector.write([one]).accepted == keys(one)
    assert place.person(one.key).state == before  # type: ignore[union-attr]
    place.connector.archive([one])
    place.connector.write([one])
    assert place.person(one.key).state == before  # type: ignore[union-attr]


def test_unsubscribing_erasing_and_archiving_count_as_done_for_who_is_not_there(place: Served) -> None:
    one, stranger = contact(1), Contact("0" * 32)
    place.connector.write([one])
    for call, state in (
        (place.connector.unsubscribe, "unsubscribed"),
        (place.connector.archive, "archived"),
        (place.connector.archive, "archived"),
    ):
        assert call([Contact(one.key), stranger]).accepted == keys(one, stranger)
        assert place.person(one.key).state == state  # type: ignore[union-attr]
    assert place.connector.erase([Contact(one.key), stranger]).accepted == keys(one, stranger)
    assert place.person(one.key) is None
    (refused,) = place.connector.write([one]).rejected
    assert "permanently deleted" in refused.words


def test_tags_by_address_and_by_key(place: Served) -> None:
    people = [contact(number) for number in range(3)]
    place.connector.write(people)
    assert place.connector.change_tag("mw: loyal", people, []).accepted == keys(*people)
    gone = [people[0], Contact(people[1].key)]
    assert place.connector.change_tag("mw: loyal", [], gone).accepted == keys(*gone)
    assert tagged(place, "mw: loyal") == keys(people[2])
    # Again, as after a lost answer: what is as wanted is acknowledged, and strangers are not.
    stranger = contact(9)
    answer = place.connector.change_tag("mw: loyal", [people[2], stranger], gone)
    assert answer.accepted == keys(people[2], *gone)
    assert [(one.key, one.code) for one in answer.rejected] == [(stranger.key, "NOT_ADDED")]
    # The tag was deleted there: nobody has it any more.
    place.connector.prepare([], [])
    place.part.people.delete_group(place.part.people.groups()["mw: dormant"].id)
    place.connector.prepare([], [])
    assert place.connector.change_tag("mw: dormant", [], people).accepted == keys(*people)


def test_a_changed_address_keeps_tags_and_consent(place: Served) -> None:
    old, new, other = contact(1, FNAME="Ada"), contact(2), contact(3)
    place.connector.write([old])
    place.connector.change_tag("mw: loyal", [old], [])
    for _ in range(2):  # again, as after a lost answer
        assert place.connector.rekey([Rekey(old, new)]).accepted == keys(new)
    assert place.person(old.key) is None
    assert place.person(new.key).fields["MERGE"] == {"FNAME": "Ada"}  # type: ignore[union-attr]
    assert tagged(place, "mw: loyal") == keys(new)
    (refused,) = place.connector.rekey([Rekey(contact(7), contact(8))]).rejected
    assert (refused.key, refused.code) == (contact(8).key, "NOT_THERE")
    place.connector.write([other])
    with pytest.raises(RefusedError, match="Member Exists"):
        place.connector.rekey([Rekey(other, new)])


def test_members_are_read_back_page_by_page(place: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("activation.connectors.mailchimp.PAGE", Limit(batch=2))
    people = [contact(number, MW_ORDERS=str(number), FNAME="Ada") for number in range(5)]
    place.connector.write(people)
    many = [f"mw: {number:02}" for number in range(60)]
    place.connector.prepare(FIELDS, many)
    for tag in many:
        place.connector.change_tag(tag, people[:1], [])
    group = place.part.people.make_group("VIP dinner")
    place.part.people.put_into(group.id, [people[1].key])
    place.part.leave(people[2].key, "bounce")
    place.connector.unsubscribe([people[3]])
    place.connector.archive([people[4]])
    found = {member.key: member for member in place.connector.members()}
    assert found.keys() == keys(*people[:4]), "an archived contact is not listed"
    assert found[people[0].key].tags == frozenset(many), "all of them, where a page shows 50"
    assert found[people[1].key] == Member(people[1].key, "subscribed", frozenset(), {"FNAME": "Ada", "MW_ORDERS": "1"})
    assert [found[people[number].key].state for number in (2, 3)] == ["bounced", "unsubscribed"]


def test_a_403_without_json_is_a_limit_and_one_with_json_is_none(place: Served) -> None:
    place.faults.order("answer", status=403)
    with pytest.raises(TryAgainError):
        place.connector.write([contact(1)])
    place.faults.order("answer", status=403, body={"title": "Forbidden"})
    with pytest.raises(DestinationError, match="manager's"):
        place.connector.write([contact(1)])


def test_all_that_it_sends_and_is_answered_is_as_the_document_has_it(place: Served) -> None:
    """Each call is in the published document; bodies were held against it by the part, answers are here."""
    document = place.part.specification
    assert document is not None
    routes = [(template(endpoint.path), endpoint) for endpoint in place.part.routes()]
    checked: set[tuple[str, str]] = set()

    def check(response: httpx.Response) -> None:
        path = response.request.url.path.removeprefix("/mailchimp")
        method = response.request.method
        found = next(one for pattern, one in routes if one.method == method and pattern.fullmatch(path))
        route = found.path.removeprefix("/3.0")
        assert document.knows(method, route), (method, route)
        if response.read():
            assert document.first_error_of_answer(method, route, response.status_code, response.json()) is None
        checked.add((method, route))

    place.connector.api._http().event_hooks["response"].append(check)
    one, wrong = contact(1, FNAME="Ada", MW_ORDERS="3"), contact(3, MW_ORDERS="9" * 3, MW_LAST="never")
    place.connector.prepare([*FIELDS, Field("x", "MW_X", "X", "text")], [*TAGS, "mw: more"])
    assert len(place.connector.write([one, wrong]).rejected) == 1
    place.connector.change_tag("mw: loyal", [one, contact(9)], [])
    place.connector.change_tag("mw: loyal", [], [Contact(one.key)])
    assert len(list(place.connector.members())) == 1
    place.connector.rekey([Rekey(one, contact(2))])
    for call in (place.connector.unsubscribe, place.connector.archive, place.connector.erase):
        call([contact(2), contact(9)])
    assert len(checked) == 12


class TestAccount:
    """The real account, from the environment."""

    @pytest.fixture(autouse=True)
    def _nothing_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in MailchimpSettings.model_fields:
            monkeypatch.delenv(f"MAILWRIGHT_MAILCHIMP_{name.upper()}", raising=False)

    def set(self, monkeypatch: pytest.MonkeyPatch, **said: str) -> None:
        for name, value in said.items():
            monkeypatch.setenv(f"MAILWRIGHT_MAILCHIMP_{name.upper()}", value)

    def test_nothing_set_is_no_account(self, home: Home) -> None:
        assert Mailchimp.credentials(home) is None

    def test_a_key_says_its_data_centre(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        self.set(monkeypatch, api_key="0123456789abcdef-us19", list_id="abc123")
        found = Mailchimp.credentials(home)
        assert found is not None
        connector = Mailchimp.connect(found)
        assert found.base_url == "https://us19.api.mailchimp.com/3.0"
        assert connector.target == "mailchimp/us19/abc123"
        assert "0123456789abcdef" not in f"{found!r} {connector!r} {connector.description} {vars(connector)!r}"

    def test_a_token_needs_its_data_centre_said(self, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        self.set(monkeypatch, access_token="0123456789abcdef", list_id="abc123")
        with pytest.raises(SettingsError, match="MAILWRIGHT_MAILCHIMP_SERVER"):
            Mailchimp.credentials(home)
        self.set(monkeypatch, server="us7")
        found = Mailchimp.credentials(home)
        assert found is not None
        assert found.key == SecretStr("0123456789abcdef")

    @pytest.mark.parametrize(
        ("said", "names"),
        [
            ({"api_key": "0123456789abcdef-us19"}, "MAILWRIGHT_MAILCHIMP_LIST_ID"),
            ({"api_key": "0123456789abcdef-evil.example.com/", "list_id": "abc"}, "MAILWRIGHT_MAILCHIMP_SERVER"),
            ({"api_key": "k-us1", "list_id": "abc", "server": "us1.evil"}, "MAILWRIGHT_MAILCHIMP_SERVER"),
            ({"api_key": "k-us1", "list_id": "../x"}, "MAILWRIGHT_MAILCHIMP_LIST_ID"),
        ],
    )
    def test_what_is_wrong_is_named_without_the_key(
        self, home: Home, monkeypatch: pytest.MonkeyPatch, said: dict[str, str], names: str
    ) -> None:
        self.set(monkeypatch, **said)
        with pytest.raises(SettingsError, match=names) as caught:
            Mailchimp.credentials(home)
        assert "0123456789abcdef" not in str(caught.value)


def test_the_documents_limits_are_the_parts(place: Served) -> None:
    with pytest.raises(RefusedError):
        place.connector.write([contact(number) for number in range(PLATFORM.limit("contacts").batch + 1)])
    assert re.fullmatch(PLATFORM.fields.pattern, "MW_FAVCAT")
