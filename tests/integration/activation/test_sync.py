"""Plan and apply against the sandbox: what should be there is there, and nothing else is done."""

from __future__ import annotations

import re
from datetime import timedelta

import httpx
import pytest

from activation import old_apply as apply
from activation import old_plan as plan
from activation import releases
from activation.render import plan_markdown, report_markdown
from core.errors import DestinationError, PlanError
from tests.integration.activation.world import AS_OF, Person, World, people


def test_first_plan_creates_everyone_and_calls_nobody(world: World) -> None:
    world.release(people(3))
    made = world.plan()
    assert (made.creates, made.updates, made.tag_adds) == (3, 0, {"mw: frequent_buyers": 3})
    assert not world.faults.seen, "planning must not call the platform"
    assert world.members() == {}


def test_apply_puts_contacts_fields_and_tags_at_the_destination(world: World) -> None:
    world.release([
        Person("ada@example.com", "c1", segments=("frequent_buyers", "onboarding")),
        Person("bob@example.com", "c2", given_name="Bob", rfm_segment=None, order_count=None, segments=()),
    ])  # fmt: skip
    report = world.apply()
    members = world.members()
    assert set(members) == {"ada@example.com", "bob@example.com"}
    assert members["ada@example.com"]["status"] == "subscribed"
    assert members["ada@example.com"]["merge_fields"] == {
        "FNAME": "Ada", "LNAME": "Example", "MW_COUNTRY": "GB", "MW_RFM": "champions", "MW_ORDERS": 3,
    }  # fmt: skip
    assert members["bob@example.com"]["merge_fields"] == {"FNAME": "Bob", "LNAME": "Example", "MW_COUNTRY": "GB"}
    assert world.tags() == {"mw: frequent_buyers": {"ada@example.com"}, "mw: onboarding": {"ada@example.com"}}
    assert (report.upserted, report.tags_added, report.rejected, report.withheld) == (2, 2, 0, 0)


def test_second_run_has_nothing_to_do_and_sends_nothing(world: World) -> None:
    world.release(people(7))
    world.apply()
    world.faults.seen.clear()
    again = world.plan()
    assert again.is_empty
    assert again.summary()["changes"] == "nothing to do"
    assert world.apply(again).calls == 0
    assert not world.faults.seen


def test_expected_calls_are_the_calls_made(world: World) -> None:
    world.release(people(1203, segments=("a", "b")))
    made = world.plan()
    assert made.calls["contacts"] == 3
    assert made.calls["tags"] == 6
    assert world.apply(made).calls == sum(made.calls.values())


def test_only_what_changed_is_sent(world: World) -> None:
    before = people(4)
    world.release(before)
    world.apply()
    before[1].rfm_segment = "at_risk"
    before[2].country_code = None
    world.release(before, as_of=AS_OF + timedelta(days=1))
    made = world.plan()
    assert (made.creates, made.updates, made.unchanged) == (0, 2, 2)
    assert made.updates_by_field == {"MW_COUNTRY": 1, "MW_RFM": 1}
    assert made.tag_adds == made.tag_removes == {}
    # A marketer's own edit of a field that did not change at our side stays.
    person = world.people.find([before[1].key])[before[1].key]
    person.fields["MERGE"]["FNAME"] = "Adelaide"
    world.people.save([person])
    world.apply(made)
    fields = world.members()["person00001@example.com"]["merge_fields"]
    assert (fields["MW_RFM"], fields["FNAME"]) == ("at_risk", "Adelaide")
    assert world.members()["person00002@example.com"]["merge_fields"]["MW_COUNTRY"] == ""


def test_leaving_a_segment_and_the_audience_takes_our_tags_and_keeps_the_contact(world: World) -> None:
    persons = people(4)
    world.release(persons)
    world.apply()
    persons[0].segments = ("dormant",)
    world.release(persons[:3], as_of=AS_OF + timedelta(days=1))  # the fourth's address is in the release before only
    made = world.plan()
    assert (made.tag_adds, made.tag_removes, made.leavers) == ({"mw: dormant": 1}, {"mw: frequent_buyers": 2}, 1)
    world.apply(made)
    assert world.tags() == {
        "mw: frequent_buyers": {"person00001@example.com", "person00002@example.com"},
        "mw: dormant": {"person00000@example.com"},
    }
    assert world.members()["person00003@example.com"]["status"] == "subscribed"
    assert world.plan().is_empty


def test_a_tag_is_removed_by_key_when_no_release_knows_the_address(world: World) -> None:
    persons = people(2)
    first = world.release(persons)
    world.apply()
    world.release(persons[:1], as_of=AS_OF + timedelta(days=1))
    # As after an erasure: the address is gone from every release.
    for table in ("addresses", "profiles"):
        first.file(table).unlink()
        newest = releases.latest(world.home)
        assert newest is not None
        first.file(table).symlink_to(newest.file(table))
    made = world.plan()
    assert made.calls["tags by key"] == 1
    world.apply(made)
    assert world.tags() == {"mw: frequent_buyers": {"person00000@example.com"}}
    assert world.plan().is_empty


def test_the_marketers_own_tags_and_contacts_stay(world: World, api: httpx.Client) -> None:
    api.put("members/own@example.com", json={"email_address": "own@example.com", "status_if_new": "subscribed"})
    dinner = {"tags": [{"name": "VIP dinner", "status": "active"}]}
    api.post("members/own@example.com/tags", json=dinner)
    persons = people(2)
    world.release(persons)
    world.apply()
    api.post("members/person00000@example.com/tags", json=dinner)
    world.release(persons[1:], as_of=AS_OF + timedelta(days=1))
    world.apply()
    assert world.tags()["VIP dinner"] == {"own@example.com", "person00000@example.com"}


@pytest.mark.parametrize("how", ["unsubscribe", "bounce"])
def test_who_left_at_the_platform_is_never_subscribed_again(world: World, how: str) -> None:
    persons = people(2)
    world.release(persons)
    world.apply()
    world.people.leave(persons[0].key, how)
    persons[0].given_name = "Grace"
    world.release(persons, as_of=AS_OF + timedelta(days=1))
    world.apply()
    member = world.members()["person00000@example.com"]
    assert member["status"] == {"unsubscribe": "unsubscribed", "bounce": "cleaned"}[how]
    assert member["merge_fields"]["FNAME"] == "Grace"


def test_a_rejected_record_in_a_200_is_a_dead_letter_and_the_others_are_acknowledged(world: World) -> None:
    persons = [*people(3), Person("not an address", "c9")]
    world.release(persons)
    report = world.apply()
    assert (report.upserted, report.rejected) == (3, 1)
    assert set(world.members()) == {person.email for person in people(3)}
    (letter,) = world.ledger.dead_letters(world.destination.target)
    assert (letter["action"], letter["code"]) == ("create", "ERROR_GENERIC")
    assert letter["words"] == "<address> looks fake or invalid, please enter a real email address."
    # Held back until something about it changes, or one asks for it.
    again = world.plan()
    assert again.is_empty
    assert again.held_back == 2  # the contact and its tag
    assert world.plan(retry_rejected=True).creates == 1
    persons[3].given_name = "Changed"
    world.release(persons, as_of=AS_OF + timedelta(days=1))
    assert world.plan().creates == 1


def test_a_contact_deleted_at_the_platform_is_said_and_not_resurrected(world: World, api: httpx.Client) -> None:
    persons = people(3)
    world.release(persons)
    world.apply()
    api.delete(f"members/{persons[0].key}")
    for person in persons:
        person.segments = ("frequent_buyers", "onboarding")
    world.release(persons, as_of=AS_OF + timedelta(days=1))
    report = world.apply()
    assert (report.tags_added, report.rejected) == (2, 1)
    assert set(world.members()) == {"person00001@example.com", "person00002@example.com"}
    assert world.plan().is_empty


def test_the_plan_of_an_older_release_is_refused(world: World) -> None:
    world.release(people(2))
    made = world.plan()
    world.release(people(3), as_of=AS_OF + timedelta(days=1))
    with pytest.raises(PlanError, match="the plan is of release 1, the newest is 2: plan again"):
        world.apply(made)
    assert world.members() == {}


def test_a_plan_from_before_another_apply_is_refused(world: World) -> None:
    world.release(people(2))
    first = world.plan()
    world.refuse("person00001@example.com")
    second = world.plan()
    assert second.hash != first.hash
    world.apply(second)
    with pytest.raises(PlanError, match="the ledger has moved"):
        world.apply(first)


def test_a_plan_is_refused_by_another_account(world: World) -> None:
    world.release(people(1))
    made = world.plan()
    world.destination.target = "mailchimp/us19/other"
    with pytest.raises(PlanError, match="plan again"):
        world.apply(made)


def test_a_plan_whose_rows_were_changed_is_refused(world: World) -> None:
    world.release(people(3))
    made = world.plan()
    made.path.write_bytes(made.path.read_bytes()[:-20])
    with pytest.raises(PlanError, match="plan again"):
        world.apply(made)
    assert not world.members()


def test_one_apply_at_a_time(world: World) -> None:
    world.release(people(1))
    made = world.plan()
    with apply._only_one(world.home, "mailchimp"), pytest.raises(PlanError, match="another apply to mailchimp"):
        world.apply(made)
    assert world.apply(made).upserted == 1


def test_a_kept_plan_reads_back_equal_and_is_private(world: World) -> None:
    world.release(people(2))
    made = world.plan()
    assert plan.read(world.home, "mailchimp") == made
    assert plan.read(world.home, "mailchimp", made.hash[:6]) == made
    for path in (made.path, made.path.with_suffix(".json")):
        assert path.stat().st_mode & 0o777 == 0o600
    assert "example.com" not in made.path.with_suffix(".json").read_text()
    assert plan.make(world.settings, world.home, world.destination) == made, "the same plan twice has the same hash"


def test_without_a_release_planning_says_what_to_do(world: World) -> None:
    with pytest.raises(PlanError, match="run `mailwright refresh`"):
        world.plan()


def test_unknown_destination_is_named(world: World) -> None:
    with pytest.raises(PlanError, match="no destination 'pigeon'; there is: mailchimp"):
        plan.make(world.settings, world.home, "pigeon")


def test_two_columns_never_share_a_field(world: World) -> None:
    from dataclasses import replace

    from activation.old_mailchimp import Mailchimp

    world.release(people(1))
    destination = Mailchimp("http://127.0.0.1:1", world.destination._api_key, "x", "x", account="x")
    once = destination.fields
    destination.fields = lambda columns: [replace(field, name="SAME") for field in once(columns)]  # type: ignore[method-assign]
    with pytest.raises(PlanError, match="two columns would become one field"):
        plan.make(world.settings, world.home, destination)


def test_ledger_holds_neither_addresses_nor_values(world: World) -> None:
    world.release([*people(2, given_name="Marmaduke"), Person("bad address marmaduke", "c9", given_name="Marmaduke")])
    world.apply()
    world.refuse("person00001@example.com")
    world.apply()
    found = b"".join(path.read_bytes() for path in world.home.root.glob("ledger.db*")).lower()
    assert b"@example" not in found
    assert b"marmaduke" not in found
    assert b"champions" not in found


def test_secrets_are_in_no_repr_error_or_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    key = world.secrets["api_key"]
    world.release(people(1))
    made = world.plan()
    said = [repr(world.destination), repr(vars(world.destination)), repr(made)]
    world.sandbox.faults["mailchimp"].order("revoked")
    with pytest.raises(DestinationError) as caught:
        world.apply(made)
    assert "MAILWRIGHT_MAILCHIMP_API_KEY" in str(caught.value)
    said += [str(caught.value), repr(caught.value), caplog.text]
    assert not [text for text in said if key in text]
    assert not re.search(r"person0+@", "".join(said)), "nor is an address"


def test_reports_render(world: World) -> None:
    world.release([*people(2), Person("not an address", "c9")])
    made = world.plan()
    assert "| contacts to create | 3 |" in plan_markdown(made)
    assert "| mw: frequent_buyers | 3 | 0 |" in plan_markdown(made)
    report = world.apply(made)
    assert "| contacts upserted | 2 |" in report_markdown(report)
    assert "looks fake or invalid" in report_markdown(report)
