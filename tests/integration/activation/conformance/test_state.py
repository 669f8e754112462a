"""What can be wrong on our side: two at once, an older ledger, no room on the disk."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from activation import reconcile
from core.errors import MailwrightError, PlanError
from tests.integration.activation.conformance.place import IMPATIENT, Asked, Place, person, persons


@pytest.mark.fault("two applies at once")
def test_a_second_apply_is_turned_away_and_spoils_nothing(place: Place) -> None:
    place.release(persons(*range(9)))
    made = place.plan()
    said: list[str] = []
    tried: list[Asked] = []

    def try_another() -> None:
        try:
            place.apply(made, connector=place.reconnect())
        except PlanError as error:
            said.append(str(error))

    def meet(asked: Asked) -> None:
        if asked.is_write and not tried:
            tried.append(asked)
            other.start()
            other.join(30)

    other = threading.Thread(target=try_another)
    place.watch.before = meet
    place.apply(made)
    assert len(said) == 1
    assert "is at work" in said[0]
    place.assert_settled()


@pytest.mark.fault("restored older ledger")
def test_a_ledger_of_yesterday_is_noticed_and_reconciled(place: Place) -> None:
    people = persons(*range(6))
    place.release(people)
    place.settle()
    yesterday = place.home.root / "yesterday.db"
    shutil.copy(place.home.ledger, yesterday)
    people[1].surname = "Changed"
    del people[2]
    people[7] = person(7)
    place.release(people)
    place.withdraw(person(3))
    place.settle()
    for path in place.home.ledger.parent.glob(f"{place.home.ledger.name}*"):
        path.unlink()
    shutil.copy(yesterday, place.home.ledger)
    with pytest.raises(PlanError, match="reconcile"):
        place.plan()
    can_read = place.platform.can_read
    reconcile.reconcile(
        place.settings, place.home, place.sync, repair=can_read, resend=not can_read,
        connector=place.connector, retry=IMPATIENT, now=place.now,
    )  # fmt: skip
    place.settle()
    place.assert_settled(gone=[person(3)])


@pytest.fixture
def full_disk() -> Iterator[Any]:
    """A switch: from when it is on, SQLite has no room for another page."""
    state = {"is_full": False}

    def limit(connection: Any, _: Any) -> None:
        if state["is_full"]:
            pages = connection.execute("pragma page_count").fetchone()[0]
            connection.execute(f"pragma max_page_count = {pages}")

    def limit_again(connection: Any, *_: Any) -> None:
        limit(connection, None)

    event.listen(Engine, "connect", limit)
    event.listen(Engine, "checkout", limit_again)
    yield state
    event.remove(Engine, "connect", limit)
    event.remove(Engine, "checkout", limit_again)


@pytest.mark.fault("disk full")
def test_a_full_disk_stops_cleanly_and_a_later_apply_goes_on(place: Place, full_disk: dict[str, bool]) -> None:
    place.release(persons(*range(3)))
    place.settle()
    people = persons(*range(200, 320))
    place.release({**persons(*range(3)), **people})
    made = place.plan()
    full_disk["is_full"] = True
    with pytest.raises(MailwrightError):
        place.apply(made)
    full_disk["is_full"] = False
    place.settle()
    place.assert_settled()
