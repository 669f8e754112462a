"""What may go wrong between us and a platform: throttling, failures, cut connections, bad rows, kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from activation.old_apply import RetryPolicy
from activation.old_ledger import SYNCED
from activation.old_mailchimp import Mailchimp
from activation.sandbox.part import Call, Endpoint, ProblemError
from activation.sandbox.parts.mailchimp import MailchimpPart
from core.errors import DestinationError
from core.settings import PROJECT_ROOT
from tests.integration.activation.world import (
    IMPATIENT,
    Fault,
    Person,
    World,
    answers,
    cut_after_work,
    kill_after_work,
    people,
)

PROBLEM = (b"content-type", b"application/problem+json")


def in_a_second() -> bytes:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True).encode()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(answers(429), id="429 without Retry-After or body"),
        pytest.param(answers(429, b'{"title": "Too Many Requests"}', [PROBLEM]), id="429 as a problem"),
        pytest.param(answers(500, b"<html>oops</html>"), id="500"),
        pytest.param(answers(503, b"", [(b"retry-after", b"0")]), id="503 with Retry-After"),
        pytest.param(answers(403, b"denied", [(b"content-type", b"text/html")]), id="403 of the edge, without JSON"),
        pytest.param(answers(200, b'{"new_members": [', []), id="200 that is half a JSON"),
        pytest.param(cut_after_work, id="cut connection after the work was done"),
    ],
)
@pytest.mark.parametrize("path", ["/lists/{list}", "/segments"], ids=["contacts", "set-up"])
def test_passing_trouble_is_retried(world: World, fault: Fault, path: str) -> None:
    list_id = world.secrets["list_id"]
    world.release(people(3))
    world.faults.order(fault, times=2, path_ends=path.replace("{list}", list_id))
    report = world.apply()
    assert report.upserted == report.tags_added == 3
    assert len(world.members()) == 3
    assert world.tags() == {"mw: frequent_buyers": {person.email for person in people(3)}}
    if path == "/lists/{list}":
        assert report.retries == 2
    assert world.plan().is_empty


@pytest.mark.parametrize("said", [b"1", "date"], ids=["seconds", "an HTTP date"])
def test_retry_after_is_waited_for(world: World, said: bytes | str) -> None:
    world.release(people(1, segments=()))
    header = in_a_second() if said == "date" else b"1"
    world.faults.order(answers(429, b"", [(b"retry-after", header)]), path_ends=world.secrets["list_id"])
    started = time.monotonic()
    assert world.apply().upserted == 1
    assert time.monotonic() - started > 0.9, "IMPATIENT alone would have waited 10 ms"


def test_a_timeout_is_retried(world: World) -> None:
    world.release(people(2, segments=()))
    world.faults.order(hang, path_ends=world.secrets["list_id"])
    impatient = Mailchimp(
        world.destination._base_url, world.destination._api_key, world.secrets["list_id"], "Mailchimp sandbox",
        account="sandbox", timeout=0.5,
    )  # fmt: skip
    report = world.apply(destination=impatient)
    assert (report.upserted, report.retries) == (2, 1)


async def hang(scope: object, receive: object, send: object) -> bool:
    import asyncio

    await asyncio.sleep(2)
    return False


def test_trouble_that_stays_stops_with_what_to_do_and_a_later_apply_goes_on(world: World) -> None:
    world.release(people(1200))
    made = world.plan()
    world.faults.order(answers(500), times=1000, path_ends="/segments/1")
    with pytest.raises(DestinationError, match=r"gave up after 4 attempts .*apply again to go on"):
        world.apply(made)
    assert world.ledger.counts(world.destination.target)[SYNCED] == 1200
    assert world.ledger.last_runs()[0]["outcome"] == "stopped by the platform"
    world.faults._orders.clear()
    report = world.apply(made)
    assert (report.done_before, report.upserted, report.tags_added) == (1200, 0, 1200)
    assert world.plan().is_empty


def test_a_platform_that_is_not_there(world: World) -> None:
    world.release(people(1))
    nowhere = Mailchimp(
        "http://127.0.0.1:1/3.0", SecretStr("k-sandbox"), world.secrets["list_id"], "Mailchimp sandbox",
        account="sandbox",
    )  # fmt: skip
    with pytest.raises(DestinationError, match="can't be reached"):
        world.apply(destination=nowhere)


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "MAILWRIGHT_MAILCHIMP_API_KEY"),
        (403, "manager's or an admin's key"),
        (404, "MAILWRIGHT_MAILCHIMP_LIST_ID"),
    ],
)
def test_what_no_retry_can_heal_stops_at_once(world: World, status: int, advice: str) -> None:
    world.release(people(2))
    world.faults.order(answers(status, b'{"title": "No"}', [PROBLEM]), times=9, path_ends=world.secrets["list_id"])
    with pytest.raises(DestinationError, match=advice):
        world.apply()
    list_id = world.secrets["list_id"]
    assert world.faults.seen["POST", f"/mailchimp/3.0/lists/{list_id}"] == 1


def test_a_batch_refused_for_one_bad_row_is_split_until_the_row_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sandbox refuses a whole call for one address here, as platforms do for what they can't parse."""

    def picky(self: MailchimpPart, call: Call, endpoint: Endpoint) -> None:
        if b"person00005@example.com" in call.raw:
            raise ProblemError(400, "Invalid Resource", "person00005@example.com of Ada can't be stored")

    monkeypatch.setattr(MailchimpPart, "validate", picky)
    world.release(people(40))
    report = world.apply()
    assert (report.upserted, report.rejected) == (39, 1)
    (letter,) = world.ledger.dead_letters(world.destination.target)
    assert (letter["code"], letter["words"]) == ("Invalid Resource", "<address> of <FNAME> can't be stored")


def test_a_row_that_the_answer_does_not_mention_is_not_acknowledged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = MailchimpPart._shapes

    def forgetful(self: MailchimpPart, people: Sequence[Any], *rest: Any) -> list[dict[str, Any]]:
        return shapes(self, people[1:], *rest)

    monkeypatch.setattr(MailchimpPart, "_shapes", forgetful)
    world.release(people(3))
    assert world.apply().upserted == 2
    monkeypatch.setattr(MailchimpPart, "_shapes", shapes)
    again = world.plan()
    assert (again.creates, again.tag_adds) == (1, {"mw: frequent_buyers": 1})
    world.apply(again)
    assert world.plan().is_empty


def test_an_apply_that_goes_on_does_not_repeat_what_was_refused(world: World) -> None:
    world.release([*people(2), Person("not an address", "c9")])
    made = world.plan()
    world.faults.order(answers(500), times=100, path_ends="/segments/1")
    with pytest.raises(DestinationError):
        world.apply(made)
    world.faults._orders.clear()
    report = world.apply(made)
    assert (report.rejected, report.upserted, report.done_before) == (0, 0, 3)
    assert len(world.ledger.dead_letters(world.destination.target)) == 1


def test_a_withdrawal_between_plan_and_apply_is_withheld(world: World) -> None:
    world.release(people(3))
    made = world.plan()
    world.refuse("Person00001@Example.com ")  # as people write it
    report = world.apply(made)
    assert set(world.members()) == {"person00000@example.com", "person00002@example.com"}
    assert (report.upserted, report.withheld) == (2, 2)  # the contact, and its tag
    assert world.plan().is_empty


def test_a_withdrawal_while_applying_holds_for_the_batches_after_it(world: World) -> None:
    """It arrives when the first of the contacts' calls has been answered: nothing later mentions the person."""
    world.release(people(600))
    made = world.plan()
    late = "person00599@example.com"
    arrived: list[str] = []

    def deliver(method: str, path: str) -> None:
        if method == "POST" and path.endswith(world.secrets["list_id"]) and not arrived:
            arrived.append(path)
            world.refuse(late)

    world.faults.after = deliver
    world.destination.connections = 1
    world.apply(made)
    assert late not in world.tags()["mw: frequent_buyers"]
    assert len(world.tags()["mw: frequent_buyers"]) == 599
    again = world.plan()
    synced = late in world.members()
    assert again.unsubscribes == int(synced)
    world.apply(again)
    assert not synced or world.members()[late]["status"] == "unsubscribed"


def test_a_withdrawal_during_a_retry_takes_the_person_out_of_the_repeated_call(world: World) -> None:
    world.release(people(3))
    made = world.plan()
    list_id = world.secrets["list_id"]

    async def refuse_then_fail(scope: object, receive: object, send: object) -> bool:
        world.refuse("person00002@example.com")
        return bool(await answers(500)(scope, receive, send))  # type: ignore[arg-type]

    world.faults.order(refuse_then_fail, path_ends=list_id)
    report = world.apply(made)
    assert set(world.members()) == {"person00000@example.com", "person00001@example.com"}
    assert report.retries == 1


def test_a_refusal_is_passed_on_as_an_unsubscribe(world: World) -> None:
    persons = people(3)
    world.release(persons)
    world.apply()
    world.refuse("person00001@example.com")
    made = world.plan()
    assert (made.unsubscribes, made.leavers, made.tag_removes) == (1, 1, {"mw: frequent_buyers": 1})
    world.apply(made)
    assert world.members()["person00001@example.com"]["status"] == "unsubscribed"
    assert world.tags()["mw: frequent_buyers"] == {"person00000@example.com", "person00002@example.com"}
    assert world.plan().is_empty


CHILD = """
import os, sys
from pydantic import SecretStr
from activation import old_apply as apply
from activation import old_plan as plan
from activation.old_mailchimp import Mailchimp
from core.home import Home
from core.settings import load_settings
settings = load_settings()
home = Home.open(settings.home)
destination = Mailchimp(sys.argv[1], SecretStr(os.environ["KEY"]), sys.argv[2], "Mailchimp sandbox", account="sandbox")
apply.apply(settings, home, plan.read(home, "mailchimp"), destination=destination)
"""


@pytest.mark.parametrize(
    ("where", "call"),
    [("/lists/{list}", 1), ("/lists/{list}", 3), ("/segments/1", 2), ("/segments", 1)],
    ids=["first call of contacts", "third call of contacts", "second call of a tag", "set-up"],
)
def test_kill_9_then_apply_again_completes_and_doubles_nothing(world: World, where: str, call: int) -> None:
    world.release(people(1100, segments=("frequent_buyers", "onboarding")))
    made = world.plan()
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(world.destination._base_url), world.secrets["list_id"]],
        cwd=PROJECT_ROOT,
        env={**os.environ, "KEY": world.secrets["api_key"], "MAILWRIGHT_HOME": str(world.home.root)},
    )
    path = where.replace("{list}", world.secrets["list_id"])
    passing = {"left": call - 1}

    async def pass_by(scope: object, receive: object, send: object) -> bool:
        passing["left"] -= 1
        return False

    if call > 1:
        world.faults.order(pass_by, times=call - 1, path_ends=path)
    world.faults.order(kill_after_work(world, child.pid), path_ends=path)
    assert child.wait(60) == -signal.SIGKILL
    world.faults._orders.clear()

    acknowledged = world.ledger.counts(world.destination.target)
    assert acknowledged.get(SYNCED, 0) <= len(world.members()), "the ledger claims no more than what happened"
    assert acknowledged.get(SYNCED, 0) + acknowledged["tags"] < made.operations
    report = world.apply(made)
    assert report.done_before == acknowledged.get(SYNCED, 0) + acknowledged["tags"]
    assert report.done_before + report.changed == made.operations
    everyone = {person.email for person in people(1100)}
    assert set(world.members()) == everyone
    assert world.tags() == {"mw: frequent_buyers": everyone, "mw: onboarding": everyone}
    assert report.rejected == 0
    assert [run["outcome"] for run in world.ledger.last_runs()] == ["done", "killed"]
    assert world.plan().is_empty


def test_after_a_kill_a_new_plan_holds_only_what_is_left(world: World) -> None:
    world.release(people(3))
    made = world.plan()
    world.faults.order(answers(500), times=100, path_ends="/segments/1")
    with pytest.raises(DestinationError):
        world.apply(made)
    world.faults._orders.clear()
    rest = world.plan()
    assert (rest.creates, rest.tag_adds) == (0, {"mw: frequent_buyers": 3})
    world.apply(rest)
    assert world.plan().is_empty


def test_requests_are_noted_without_anything_personal(world: World) -> None:
    world.release([*people(2), Person("person7@example.com", "c7")])
    world.apply()
    world.refuse("person7@example.com")
    world.apply()
    from sqlalchemy import select

    from activation.old_ledger import requests

    with world.ledger._engine.connect() as connection:
        rows = connection.execute(select(requests)).mappings().all()
    routes = {(row["method"], row["route"], row["status"]) for row in rows}
    assert ("POST", "/lists/{list}", 200) in routes
    assert ("PATCH", "/lists/{list}/members/{hash}", 200) in routes
    assert {row["rows"] for row in rows if row["route"] == "/lists/{list}"} == {3}


def test_waits_grow_and_respect_the_platform() -> None:
    policy = RetryPolicy()
    for attempt, most in ((1, 1.0), (3, 4.0), (20, 60.0)):
        assert most / 2 <= policy.wait(attempt, None) <= most
    assert policy.wait(1, 17.0) == 17.0
    assert policy.wait(1, 99_999.0) == policy.longest_retry_after
    assert IMPATIENT.wait(1, None) <= 0.01


def test_the_account_limits_connections_at_once(world: World, api: httpx.Client) -> None:
    import threading

    late = world.sandbox.faults["mailchimp"].order("latency", times=13, seconds=1.5, route="tag-search")
    with httpx.Client(base_url=api.base_url, auth=api.auth, trust_env=False, timeout=20) as many:
        got: list[int] = []
        threads = [
            threading.Thread(target=lambda: got.append(many.get("tag-search?name=mw").status_code)) for _ in range(13)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 10
        while late.met < 13 and time.monotonic() < deadline:
            time.sleep(0.01)
        for thread in threads:
            thread.join()
    assert sorted(got) == [200] * 10 + [429] * 3
