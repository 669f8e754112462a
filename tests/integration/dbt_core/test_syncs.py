"""What the ledger exported of its runs comes back as facts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from activation.ledger import Acknowledgement, DeadLetter, Ledger, State, Withheld
from core.home import Home
from core.settings import Settings
from tests.integration.dbt_core.shop import Shop

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
TARGET = "mailchimp/an-account"


def test_runs_and_their_rows_are_facts(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "home", "Europe/London", "GBP")
    ada, bob, cat = (bytes([number]) * 16 for number in (1, 2, 3))
    with Ledger(home, Settings(home=home.root)) as ledger:
        run = ledger.begin(TARGET, "abc", 0, 7, ["removed"], AT)
        said = [Acknowledgement(ada, "create", State.SYNCED), Acknowledgement(ada, "tag_add", add=["mw: a"])]
        ledger.acknowledge(run, TARGET, said, AT)
        ledger.bury(run, TARGET, [DeadLetter(bob, "create", "", b"", "invalid", "no such address")], AT)
        ledger.withhold(run, TARGET, [Withheld(cat, "update", "", "refused")], AT)
        ledger.end(run, "done", {}, AT + timedelta(seconds=90))
        unended = ledger.begin_without_plan(TARGET, "suppress", AT)
        ledger.acknowledge(unended, TARGET, [Acknowledgement(ada, "unsubscribe", State.UNSUBSCRIBED)], AT)
    shop = Shop(home, tmp_path)
    ran = shop.try_dbt("--warn-error", "build", "--select", "+fct_sync_runs +fct_sync_rows")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert shop.query("""
        select run_id, release, platform, kind, plan_hash, overrides, outcome,
            acknowledged_rows, rejected_rows, withheld_rows, duration_seconds
        from marts.fct_sync_runs
    """) == [(run, 7, "mailchimp", "apply", "abc", '["removed"]', "done", 2, 1, 1, 90)]
    assert shop.query("""
        select row_number, target, key, action, tag, outcome, code from marts.fct_sync_rows order by row_number
    """) == [
        (1, TARGET, ada.hex(), "create", None, "acknowledged", None),
        (2, TARGET, ada.hex(), "tag_add", "mw: a", "acknowledged", None),
        (3, TARGET, bob.hex(), "create", None, "rejected", "invalid"),
        (4, TARGET, cat.hex(), "update", None, "withheld", "refused"),
    ]
