"""Which releases and addresses stay for the ledger's sake."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from activation import releases, retention
from activation.connector import key_of
from activation.ledger import Acknowledgement, Ledger, State
from core.home import Home
from core.settings import Settings
from tests.integration.activation.world import Person, fill_warehouse

AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def five(home: Home, settings: Settings) -> Home:
    """A home of five releases; each has one address that no other has."""
    for number in range(1, 6):
        with duckdb.connect() as connection:
            fill_warehouse(connection, [Person(f"only{number}@example.com", f"c{number}")], [])
            releases.freeze(settings, home, connection, as_of=AT + timedelta(days=number))
    return home


def test_what_a_destination_stands_at_and_addresses_of_its_contacts_stay(five: Home) -> None:
    settings = Settings(home=five.root, releases_kept=2)
    with Ledger(five, settings) as ledger:
        for target, release in (("mailchimp/a", 2), ("braze/b", 4)):
            run = ledger.begin(target, "plan", 0, release, [], AT)
            keys = [key_of("email", f"only{number}@example.com", "") for number in (1, 2)]
            said = [Acknowledgement(bytes.fromhex(key), "create", State.SYNCED) for key in keys]
            ledger.acknowledge(run, target, said, AT)
    assert retention.prune(settings, five) == [1, 3]
    assert releases.numbers(five) == [2, 4, 5]
    with duckdb.connect() as connection:
        assert connection.execute(f"from '{retention.departed(five)}'").fetchall() == [("only1@example.com",)]
    assert _mode(retention.departed(five)) == 0o600


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777
