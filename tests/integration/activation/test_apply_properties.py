"""Whatever is planned, withdrawn and goes wrong: destination = plan afterwards, and nobody is harmed on the way.

Nobody wrongly removed, nobody twice, nobody mailed without consent.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from activation import suppress
from activation.breakers import NAMES
from activation.connector import Contact
from activation.engine import DestinationDownError
from activation.http import RefusedError, TryAgainError
from core.errors import DestinationError
from core.home import Home
from core.settings import Settings
from tests.integration.activation.memory import kind_of
from tests.integration.activation.stage import IMPATIENT, KINDS, Stage
from tests.integration.activation.stops import Killed, stopping
from tests.integration.activation.world import AS_OF, Person

NUMBERS = range(7)
SEGMENTS = ("frequent_buyers", "onboarding", "dormant")


@dataclass(frozen=True)
class Then:
    """One person at one time; absent ones are not in the audience then."""

    segments: frozenset[str]
    rfm: str | None
    address: int


people_then = st.dictionaries(
    st.sampled_from(NUMBERS),
    st.builds(
        Then,
        segments=st.frozensets(st.sampled_from(SEGMENTS)),
        rfm=st.sampled_from(["champions", "at_risk", None]),
        address=st.sampled_from([0, 0, 0, 1]),
    ),
    min_size=1,
)
# By number of call: what it meets, before or after its work was done.
troubles = st.dictionaries(
    st.integers(1, 14),
    st.sampled_from(["fails", "answer lost", "refused whole", "revoked", "down", "withdrawal"]),
    max_size=4,
)
numbers = st.frozensets(st.sampled_from(NUMBERS), max_size=2)


def person(number: int, then: Then) -> Person:
    return Person(
        f"person{number}.{then.address}@example.com",
        f"c0000{number}",
        rfm_segment=then.rfm,
        segments=sorted(then.segments),
    )


class Watched(Stage):
    """A stage that knows who has refused, and sees to it that they are written to no more."""

    def begin(self) -> None:
        self.refused: set[int] = set()
        self.mailed: list[str] = []

    def withdraw(self, *who: int) -> None:
        new = set(who) - self.refused
        if new:
            self.refuse(*(f"person{number}.{address}@example.com" for number in sorted(new) for address in (0, 1)))
            self.refused |= new

    def watch(self, kind: str, contacts: Sequence[Contact]) -> None:
        """What goes out now must be nothing for who refused before, but what takes away from them."""
        if kind in ("unsubscribe", "erase", "archive", "prepare", "read"):
            return
        for contact in contacts:
            number = int((contact.email or "person9")[6])
            gives = bool(contact.is_new or contact.fields or contact.add) if kind == "write" else kind == "rekey"
            if gives and number in self.refused:
                self.mailed.append(f"{kind} {contact.key}")


@contextmanager
def staged(kind: str) -> Iterator[Watched]:
    """One call at a time, so that it is certain what was known before which."""
    with tempfile.TemporaryDirectory(prefix="mailwright-test-") as folder:
        home = Home.create(Path(folder) / "home", "Europe/London", "GBP")
        platform = KINDS[kind].platform
        stage = Watched(
            home, Settings(home=home.root, memory_limit="500MB", threads=1),
            kind_of(platform.key, platform.membership, connections=1),
        )  # fmt: skip
        stage.begin()
        yield stage


def settle(stage: Watched) -> None:
    """What a schedule does: tell withdrawals, plan, apply, until there is nothing to do."""
    for _ in range(4):
        push(stage)
        made = stage.plan(retry_rejected=True)
        if made.is_empty:
            return
        connector = stage.connector()
        connector.before = stage.watch
        stage.apply(made, connector=connector, override=NAMES)
    pytest.fail(f"it does not settle: {made.summary()}")


def push(stage: Watched) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("activation.sync.read", lambda settings, name: stage.sync)
        (told,) = suppress.suppress(
            stage.settings, stage.home, ["memory"], connectors={"memory": stage.connector()}, retry=IMPATIENT,
            now=stage.clock,
        )  # fmt: skip
    assert told.error is None


@pytest.mark.parametrize("kind", list(KINDS))
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.generate,))
@given(
    before=people_then, after=people_then, early=numbers, between=numbers, during=numbers,
    trouble=troubles, rejected=numbers, forgotten=numbers, stop=st.none() | st.integers(1, 60),
)  # fmt: skip
def test_destination_is_as_planned_and_nobody_is_harmed(
    kind: str,
    before: dict[int, Then],
    after: dict[int, Then],
    early: frozenset[int],
    between: frozenset[int],
    during: frozenset[int],
    trouble: dict[int, str],
    rejected: frozenset[int],
    forgotten: frozenset[int],
    stop: int | None,
) -> None:
    with staged(kind) as stage:
        stage.release([person(number, then) for number, then in sorted(before.items())])
        settle(stage)
        now = [person(number, then) for number, then in sorted(after.items())]
        stage.release(now, as_of=AS_OF + timedelta(days=1))
        stage.withdraw(*early)
        made = stage.plan()
        stage.withdraw(*between)
        stage.data.rejects = {stage.key(one) for one in now if int(one.email[6]) in rejected}
        stage.data.forgets = {stage.key(one) for one in now if int(one.email[6]) in forgotten}
        connector = stage.connector()
        calls = [0]

        def fail(kind: str, contacts: Sequence[Contact]) -> None:
            stage.watch(kind, contacts)
            calls[0] += 1
            what = trouble.get(calls[0])
            if what == "fails":
                raise TryAgainError("503")
            if what == "refused whole" and contacts:
                raise RefusedError("BAD", "no")
            if what == "revoked":
                raise DestinationError("401")
            if what == "down":
                raise DestinationDownError("gave up")
            if what == "withdrawal":
                stage.withdraw(*during)

        def lose(kind: str, contacts: Sequence[Contact]) -> None:
            if trouble.get(calls[0]) == "answer lost":
                raise TryAgainError("cut")

        try:
            if stop is None:
                connector.before, connector.after = fail, lose
                stage.apply(made, connector=connector, override=NAMES)
            else:
                with stopping(connector, stop):
                    stage.apply(made, connector=connector, override=NAMES)
            event("came through")
        except (DestinationError, Killed) as error:
            event(type(error).__name__)
        stage.withdraw(*during)
        stage.data.rejects, stage.data.forgets = set(), set()
        settle(stage)
        check(stage, now)


def check(stage: Watched, now: list[Person]) -> None:
    assert not stage.mailed, "somebody was written to after refusing"
    people = stage.data.people
    wanted = {stage.key(one): one for one in now if int(one.email[6]) not in stage.refused}
    for key, one in wanted.items():
        assert people[key].state == "subscribed", "somebody was wrongly removed"
        assert people[key].tags == {f"mw_{segment}" for segment in one.segments}
        expected = {"NAME": one.given_name, "RFM": one.rfm_segment, "ORDERS": str(one.order_count)}
        assert people[key].fields == {name: value for name, value in expected.items() if value is not None}
    for key, somebody in people.items():
        if key not in wanted:
            assert not somebody.tags, "who is not in the audience has no tag of ours"
    assert not stage.data.made or max(stage.data.made.values()) == 1, "somebody came twice"
    refused = {key for key, one in people.items() if one.email and int(one.email[6]) in stage.refused}
    assert all(people[key].state == "unsubscribed" for key in refused), "a refusal was not told"
