"""Refresh, change, refresh, roll back, plan, apply, resume: on the command line, at the sandbox."""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from activation import plan, releases
from activation.sandbox.people import database
from core.home import Home
from tests.conftest import CommandLine
from tests.e2e.conftest import copy_of
from tests.e2e.retailer import CURRENCY, DAYS, FIRST

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WITHDREW = "ola0@example.com"


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def apply(command: CommandLine) -> None:
    """Carry out the newest plan; four months that pass at once are more than breakers let through."""
    tripped = plan.read(command.home, "mailchimp").tripped
    command.run("apply", "mailchimp", *(option for one in tripped for option in ("--override", one.name)))


def tagged(home: Home) -> set[tuple[str, str]]:
    """(tag, address) at the sandbox, without the tags on which automations start."""
    with closing(sqlite3.connect(f"file:{database(home.sandbox, 'mailchimp')}?mode=ro", uri=True)) as connection:
        return set(
            connection.execute(
                "select groups.name, people.email from memberships"
                " join groups on groups.id = memberships.group_id join people on people.key = memberships.key"
                " where groups.name not like '% start'"
            )
        )


def members_of(release: releases.Release) -> set[tuple[str, str]]:
    with duckdb.connect() as connection:
        return set(connection.execute(f"from '{release.file('memberships')}'").fetchall())


def test_there_and_back_again(loaded_retailer: CommandLine, tmp_path: Path) -> None:
    command = copy_of(loaded_retailer, tmp_path / "home", port=8746)
    home = command.home
    try:
        command.run("refresh")
        command.run("plan", "mailchimp")
        apply(command)
        before = tagged(home)
        assert before

        # Four months later some bought again, and one withdrew.
        later = (FIRST + timedelta(days=DAYS + 120)).isoformat(sep=" ", timespec="minutes")
        bought = [(later, f"K{customer:04}", f"Y/{customer:06}", CURRENCY) for customer in range(60)]
        orders = write(tmp_path / "o.csv", ("ordered_at", "customer_ref", "order_id", "currency"), bought)
        lines = write(
            tmp_path / "l.csv",
            ("unit_price", "quantity", "product_id", "order_id"),
            [("400.00", 2, "HERB-001", number) for _, _, number, _ in bought],
        )
        consents = write(
            tmp_path / "c.csv",
            ("state", "purpose", "channel", "captured_at", "contact_id"),
            [("withdrawn", "marketing", "email", later, "C0")],
        )
        command.run("load", "shop", f"orders={orders}", f"order_lines={lines}", "--historical")
        command.run("load", "crm", f"consents={consents}", "--historical")
        command.run("refresh")
        apply(command)
        after = tagged(home)
        assert after != before

        assert "reverts" not in command.run("releases", "list")
        assert "as it was frozen" in command.run("releases", "show", "2")
        compared = command.run("releases", "diff", "1", "2")
        assert "causes" in compared
        assert "clock" in compared, "four months pass for everyone"
        assert "@" not in compared

        asked = command.run("rollback", "1", expect=1)
        assert "Go back to release 1?" in asked
        assert "left out: may not be mailed any more  1" in asked
        assert releases.numbers(home) == [1, 2], "nobody said yes"
        assert "there is no release 7" in command.run("rollback", "7", "--yes", expect=1)
        assert "Release 3 reverts to 1" in command.run("rollback", "1", "--yes")
        assert "rolled back to 1, until `mailwright releases resume`" in " ".join(command.run("status").split())

        command.run("plan", "mailchimp")
        made = plan.read(home, "mailchimp")
        back = {(tag, email) for tag, email in before if email != WITHDREW}
        assert sum(made.tag_adds.values()) == len(back - after)
        assert sum(made.tag_removes.values()) == len(after - back)
        assert made.creates == made.unsubscribes == 0
        assert made.automations == {}, "going back starts nothing"
        apply(command)
        assert tagged(home) == back

        assert "held (rolled back to 1)" in command.run("refresh")
        assert plan.read(home, "mailchimp").is_empty
        assert releases.numbers(home) == [1, 2, 3]

        assert "Release 3, which reverts to 1, is held no longer" in command.run("releases", "resume")
        command.run("refresh")
        apply(command)
        assert tagged(home) == after
        there = [releases.read(home, number) for number in (1, 2, 3, 4)]
        assert members_of(there[3]) == members_of(there[1])

        # The mart tells the same: who is in now, and no stay begins or ends without its cause.
        with duckdb.connect(str(home.warehouse), read_only=True) as warehouse:
            stays = "activation.segment_membership_history"
            inside = warehouse.execute(f"select customer_id, segment from {stays} where left_at is null").fetchall()
            causes = warehouse.execute(f"""
                select entered_release, entered_cause from {stays} union all select left_release, left_cause from {stays}
            """).fetchall()
        assert set(inside) == members_of(there[3])
        assert {cause for release, cause in causes if release == 1} == {None}
        assert {cause for release, cause in causes if release in (3, 4)} == {"rollback"}
        assert None not in {cause for release, cause in causes if release == 2}
    finally:
        command.run("sandbox", "stop")
