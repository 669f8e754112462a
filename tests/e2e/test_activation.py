"""Plan, apply, kill, withdraw, shrink and roll back at three platforms at once, on the command line."""

from __future__ import annotations

import csv
import signal
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from activation import plan
from activation.ledger import Ledger
from activation.sandbox import process
from activation.sandbox.people import People
from core.home import Home
from core.settings import Settings
from tests.conftest import CommandLine
from tests.e2e.conftest import copy_of
from tests.e2e.retailer import CUSTOMERS, DAYS, FIRST

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PLATFORMS = ("mailchimp", "braze", "sfmc")


@pytest.fixture(scope="module")
def synced(loaded_retailer: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A home that is refreshed and was synced to all three once; its tests follow each other."""
    command = copy_of(loaded_retailer, tmp_path_factory.mktemp("synced") / "home", port=8790)
    try:
        command.run("refresh")
        for name in PLATFORMS:
            said = command.run("plan", name)
            assert "contacts to create" in said
            assert "@example.com" not in said
            command.run("apply", name)
        yield command
    finally:
        command.run("sandbox", "stop")


def at(home: Home, platform: str) -> dict[str, tuple[str, str | None]]:
    """Who is at the sandbox: state and who took them out, by address."""
    people = People(home.sandbox, platform)
    try:
        return {person.email or person.key: (person.state, person.left_by) for person in people.everyone()}
    finally:
        people.close()


def last_run(command: CommandLine) -> dict[str, Any]:
    with Ledger(command.home, Settings(home=command.root)) as ledger:
        return ledger.last_runs(1)[0]


def withdraw(command: CommandLine, folder: Path, name: str, customers: Sequence[int], moment: str) -> None:
    path = folder / f"{name}.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("state", "purpose", "channel", "captured_at", "contact_id"))
        writer.writerows([("withdrawn", "marketing", "email", moment, f"C{number}") for number in customers])
    command.run("load", "crm", f"consents={path}", "--historical")


def test_everybody_who_may_be_mailed_is_there_once(synced: CommandLine) -> None:
    for platform in PLATFORMS:
        found = at(synced.home, platform)
        assert len(found) == CUSTOMERS // 2
        assert {state for state, _ in found.values()} == {"subscribed"}


@pytest.mark.parametrize("name", PLATFORMS)
def test_again_there_is_nothing_to_do(synced: CommandLine, name: str) -> None:
    assert "nothing to do" in synced.run("plan", name)
    assert "nothing to do" in synced.run("apply", name)


def test_a_withdrawal_beyond_the_clock_reaches_all_three(synced: CommandLine, tmp_path: Path) -> None:
    later = (FIRST + timedelta(days=DAYS + 400)).isoformat(sep=" ", timespec="minutes")
    withdraw(synced, tmp_path, "one", [0], later)
    said = synced.run("suppress")
    assert "ola0@" not in said
    for platform in PLATFORMS:
        found = at(synced.home, platform)
        assert found["ola0@example.com"][0] == "unsubscribed", platform
        assert sum(state == "unsubscribed" for state, _ in found.values()) == 1
    for name in PLATFORMS:
        synced.run("plan", name)
        assert plan.read(synced.home, name).creates == 0


def test_an_apply_that_is_killed_is_simply_run_again(synced: CommandLine, tmp_path: Path) -> None:
    """Every tag is sent anew with calls that take long, and the process is killed among them."""
    synced.run("plan", "mailchimp", "--full")
    url = process.start(Settings(home=synced.root, sandbox_port=synced.port), synced.home).url
    httpx.post(
        f"{url}/sandbox/mailchimp/faults", json={"kind": "latency", "seconds": 0.5, "times": 1000}
    ).raise_for_status()
    apply = synced.start("apply", "mailchimp")
    while last_run(synced)["outcome"] != "running":
        assert apply.poll() is None, apply.stdout and apply.stdout.read()
        time.sleep(0.1)
    time.sleep(2)
    apply.send_signal(signal.SIGKILL)
    apply.wait(timeout=30)
    httpx.delete(f"{url}/sandbox/mailchimp/faults").raise_for_status()
    assert "mailchimp" in synced.run("status")
    synced.run("apply", "mailchimp")
    assert "nothing to do" in synced.run("plan", "mailchimp")
    with Ledger(synced.home, Settings(home=synced.root)) as ledger:
        outcomes = [run["outcome"] for run in ledger.last_runs(10) if run["kind"] == "apply"]
    assert "killed" in outcomes
    assert len(at(synced.home, "mailchimp")) == CUSTOMERS // 2


def test_an_audience_that_shrinks_by_half_is_stopped_and_rollback_restores(synced: CommandLine, tmp_path: Path) -> None:
    moment = (FIRST + timedelta(days=DAYS - 1)).isoformat(sep=" ", timespec="minutes")
    withdraw(synced, tmp_path, "half", range(2, CUSTOMERS // 2 + 2, 2), moment)
    synced.run("refresh")
    assert "removed" in synced.run("plan", "braze")
    said = synced.run("apply", "braze", expect=1)
    assert "removed" in said
    assert "Traceback" not in said
    synced.run("apply", "braze", "--override", "removed")
    assert "removed" in last_run(synced)["overrides"]
