"""Refusals, read straight from the lake: who is bound, by what, and what lifts it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activation.consent import Gate, refusals
from tests.integration.activation.stage import Stage
from tests.integration.activation.world import AS_OF, Person, naive, people

BEFORE = AS_OF - timedelta(days=30)
AFTER = AS_OF + timedelta(days=300)
ADA = "ada@example.com"


def event(state: str = "withdrawn", at: Any = BEFORE, **said: Any) -> dict[str, Any]:
    return {
        "contact_point": ADA, "channel": "email", "purpose": "marketing", "state": state, "captured_at": naive(at), **said,
    }  # fmt: skip


def kinds(stage: Stage) -> Mapping[str, str]:
    from activation import releases

    newest = releases.latest(stage.home)
    assert newest is not None
    return refusals(stage.settings, stage.home, newest).kinds


@pytest.fixture
def released(stage: Stage) -> Stage:
    """Ada has two addresses; Bob shares the second with her."""
    stage.release([Person(ADA, "ada")], others=[("ada.two@example.com", "ada"), ("ada.two@example.com", "bob")])
    return stage


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        pytest.param(event(), "unsubscribe", id="withdrawn"),
        pytest.param(event("Withdrawn ", channel="Email"), "unsubscribe", id="in other letters"),
        pytest.param(event(at=AFTER), "unsubscribe", id="after the release's as_of"),
        pytest.param(event(suppression="complaint"), "complaint", id="complaint"),
        pytest.param(event(channel="phone", suppression="objection"), "objection", id="objection on another channel"),
        pytest.param(
            event(channel="post", purpose="profiling", suppression="legal"), "legal", id="legal is everything"
        ),
        pytest.param(event("expired"), "expired", id="expired"),
        pytest.param(event(channel="sms"), None, id="another channel's withdrawal"),
        pytest.param(event(purpose="profiling"), None, id="another purpose"),
        pytest.param(event(purpose="profiling", suppression="objection"), None, id="objection to profiling"),
        pytest.param(event("granted"), None, id="grant"),
        pytest.param(event("pending"), None, id="pending"),
    ],
)
def test_what_the_crm_says(released: Stage, said: dict[str, Any], kind: str | None) -> None:
    released.deliver("crm", "consents", [said])
    assert kinds(released).get(ADA) == kind


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({"event_type": "unsubscribed"}, "unsubscribe"),
        ({"event_type": "complained"}, "complaint"),
        ({"event_type": "bounced", "bounce_type": "hard"}, "hard_bounce"),
        ({"event_type": "bounced", "bounce_type": "soft"}, None),
        ({"event_type": "clicked"}, None),
    ],
)
def test_what_the_platform_says(released: Stage, said: dict[str, Any], kind: str | None) -> None:
    released.refuse(" Ada@EXAMPLE.com", **said)
    assert kinds(released).get(ADA) == kind


@pytest.mark.parametrize(
    ("kind", "others"), [("unsubscribe", True), ("complaint", True), ("hard_bounce", False), ("expired", False)]
)
def test_a_refusal_binds_the_person_and_a_bounce_the_address(released: Stage, kind: str, others: bool) -> None:
    state = {"state": "expired"} if kind == "expired" else {"suppression": kind}
    released.deliver("crm", "consents", [event(**state)])
    assert set(kinds(released)) == {ADA, *(["ada.two@example.com"] if others else [])}


def test_a_refusal_at_a_shared_address_binds_all_who_share_it(released: Stage) -> None:
    released.refuse("ada.two@example.com")
    assert ADA in kinds(released)


def test_a_refusal_of_a_contact_binds_every_address_it_ever_had(released: Stage) -> None:
    contact = {"contact_id": "k1", "email": "old@example.com"}
    released.deliver("crm", "contacts", [contact])
    released.deliver("crm", "contacts", [{**contact, "email": ADA}])
    released.deliver("crm", "consents", [event(contact_id="k1", contact_point=None)])
    assert {"old@example.com", ADA} <= set(kinds(released))


@pytest.mark.parametrize(
    ("ticks", "refused"),
    [([True, False], True), ([False], False), ([True], False), ([True, False, True], False), ([True, None], False)],
)
def test_a_tick_in_the_profile_taken_away_is_a_withdrawal(
    released: Stage, ticks: list[bool | None], refused: bool
) -> None:
    for number, tick in enumerate(ticks):
        at = naive(BEFORE + timedelta(days=number))
        released.deliver(
            "crm",
            "contacts",
            [
                {
                    "contact_id": "k",
                    "email": ADA,
                    "accepts_marketing": tick,
                    "updated_at": at,
                    "created_at": naive(BEFORE),
                }
            ],
            at=BEFORE + timedelta(days=number),
        )
    assert (ADA in kinds(released)) == refused


@pytest.mark.parametrize(
    ("suppression", "granted", "received", "lifted"),
    [
        pytest.param("unsubscribe", BEFORE + timedelta(days=1), BEFORE + timedelta(days=1), True, id="a later grant"),
        pytest.param("unsubscribe", BEFORE, BEFORE, False, id="a grant of the same instant"),
        pytest.param("unsubscribe", BEFORE - timedelta(days=1), BEFORE, False, id="an earlier grant"),
        pytest.param("unsubscribe", AFTER, AFTER, False, id="a grant after the release's as_of"),
        pytest.param("unsubscribe", BEFORE + timedelta(days=1), AFTER, False, id="a grant received after it"),
        pytest.param("complaint", BEFORE + timedelta(days=1), BEFORE + timedelta(days=1), True, id="after a complaint"),
        pytest.param("hard_bounce", BEFORE + timedelta(days=1), BEFORE + timedelta(days=1), False, id="no bounce"),
        pytest.param("erasure", BEFORE + timedelta(days=1), BEFORE + timedelta(days=1), False, id="no erasure"),
        pytest.param("legal", BEFORE + timedelta(days=1), BEFORE + timedelta(days=1), False, id="no legal suppression"),
    ],
)
def test_what_lifts_a_refusal(released: Stage, suppression: str, granted: Any, received: Any, lifted: bool) -> None:
    released.deliver("crm", "consents", [event(suppression=suppression)], at=BEFORE)
    released.deliver("crm", "consents", [event("confirmed", granted)], at=received)
    assert (ADA not in kinds(released)) == lifted


@pytest.mark.parametrize(("status", "lifted"), [("paid", True), (None, True), ("test", False)])
def test_a_checkout_tick_lifts_for_its_own_address_only(released: Stage, status: str | None, lifted: bool) -> None:
    released.refuse(ADA, at=BEFORE)
    later = BEFORE + timedelta(days=1)
    order = {"order_id": "1", "ordered_at": naive(later), "email": ADA, "accepts_marketing": True, "status": status}
    released.deliver("shop", "orders", [order], at=later)
    found = kinds(released)
    assert (ADA not in found) == lifted
    assert "ada.two@example.com" in found, "a grant is for one address; the refusal was the person's"


def test_an_empty_lake_refuses_nobody(released: Stage) -> None:
    assert kinds(released) == {}


def test_the_gate_sees_a_delivery_at_once_and_reads_no_more_than_needed(
    released: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from activation import consent, releases

    newest = releases.latest(released.home)
    assert newest is not None
    reads: list[int] = []
    real = consent.refusals

    def counted(*said: Any, **options: Any) -> Any:
        reads.append(1)
        return real(*said, **options)

    monkeypatch.setattr(consent, "refusals", counted)
    gate = Gate(released.settings, released.home, newest)
    assert ADA not in gate.refusals()
    assert ADA not in gate.refusals()
    assert len(reads) == 1
    released.refuse(ADA)
    assert ADA in gate.refusals()
    assert len(reads) == 2
    for source, table in consent.TABLES:
        if (folder := released.home.accepted(source, table)).exists():
            os.utime(folder, (1, 1))  # an hour later, so to say
    assert ADA in gate.refusals()
    monkeypatch.setattr(
        consent, "_fingerprint", lambda home: pytest.fail("files were looked at, though no folder changed")
    )
    assert ADA in gate.refusals()
    assert len(reads) == 2


def test_without_a_release_a_refusal_binds_its_address_and_its_contact(stage: Stage) -> None:
    stage.deliver(
        "crm", "contacts", [{"contact_id": "ada", "email": ADA}, {"contact_id": "ada", "email": "a2@example.com"}]
    )
    stage.deliver("crm", "consents", [event(contact_id="ada")])
    stage.refuse("Bob@Example.com")
    found = refusals(stage.settings, stage.home, None)
    assert found.kinds == {ADA: "unsubscribe", "a2@example.com": "unsubscribe", "bob@example.com": "unsubscribe"}
    assert set(found.known_at) == set(found.kinds)


@pytest.mark.parametrize(("state", "lifts"), [("confirmed", True), ("granted", False)])
def test_without_a_release_only_a_confirmed_consent_lifts_a_refusal(stage: Stage, state: str, lifts: bool) -> None:
    stage.deliver("crm", "consents", [event(), event(state, BEFORE + timedelta(days=1))])
    found = refusals(stage.settings, stage.home, None, as_of=BEFORE + timedelta(days=60))
    assert (ADA not in found) is lifts
    assert ADA in refusals(stage.settings, stage.home, None)


def test_a_refusal_is_known_since_its_delivery(released: Stage) -> None:
    from activation import releases

    late = AS_OF + timedelta(days=3)
    released.deliver("crm", "consents", [event()], at=late)
    found = refusals(released.settings, released.home, releases.latest(released.home))
    assert found.known_at[ADA] == naive(late)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(refused=st.sets(st.integers(0, 5)), between=st.sets(st.integers(0, 5)))
def test_nobody_who_refused_is_ever_sent(stage: Stage, refused: set[int], between: set[int]) -> None:
    """Whenever a refusal is delivered, before planning or between plan and apply, nothing is sent for that person."""
    import shutil

    shutil.rmtree(stage.home.lake, ignore_errors=True)
    fresh = f"{stage.deliveries}{len(refused)}{len(between)}-{stage.deliveries}"
    persons = [Person(f"{fresh}.{person.email}", f"{fresh}{person.customer_id}") for person in people(6)]
    stage.release(persons, as_of=AS_OF + timedelta(days=stage.deliveries + 1))
    for number in refused:
        stage.refuse(persons[number].email)
    made = stage.plan()
    for number in between:
        stage.refuse(persons[number].email)
    stage.apply(made, override=["added", "removed", "empty"])  # each time, everybody is another
    expected = {person.email for number, person in enumerate(persons) if number not in refused | between}
    assert {
        one.email for one in stage.data.people.values() if one.email and one.email.startswith(f"{fresh}.")
    } == expected
    assert {
        email for email in stage.tags().get("mw_frequent_buyers", set()) if email and email.startswith(fresh)
    } == expected
    stage.deliveries += 1
