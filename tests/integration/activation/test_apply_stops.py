"""An apply that is stopped anywhere and run again brings the destination to where its plan says, and doubles nobody."""

from __future__ import annotations

import contextlib
import copy
import random
import shutil
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from activation import plan as plans
from activation import suppress
from activation.ledger import State
from activation.plan import Plan
from core.errors import PlanError
from core.home import Home
from core.settings import Settings
from tests.integration.activation.memory import Account, Somebody
from tests.integration.activation.stage import IMPATIENT, KINDS, Stage
from tests.integration.activation.stops import Killed, stopping
from tests.integration.activation.world import AS_OF, Person, people

# Over the three forms. Each stop is two applies of a home of its own: 0.6 s of processor time.
STOPS = 200


@dataclass
class Prepared:
    """A home with a plan that holds a bit of everything, to be copied; and what should come of it.

    Attributes:
        expected: by key, who should be there in the end.
        late: is in the plan's creates, and refuses later.
    """

    stage: Stage
    plan: Plan
    expected: dict[str, Somebody]
    late: Person
    points: int


def expected_of(stage: Stage, persons: list[Person]) -> dict[str, Somebody]:
    return {
        stage.key(person): Somebody(
            email=person.email,
            fields={"NAME": person.given_name, "RFM": person.rfm_segment or "", "ORDERS": str(person.order_count)},
            tags={f"mw_{segment}" for segment in person.segments},
        )
        for person in persons
    }


def prepare(folder: Path, kind: str) -> Prepared:
    home = Home.create(folder / "home", "Europe/London", "GBP")
    stage = Stage(home, Settings(home=home.root, memory_limit="500MB", threads=1), KINDS[kind])
    before = people(16, segments=("frequent_buyers", "onboarding"))
    stage.release(before)
    stage.apply()
    leaver, refusing, erased, moving = before[:4]
    # Field by field, tag by tag: some change, some don't.
    after = [replace(person) for person in before[1:]]
    for person in after[4:8]:
        person.rfm_segment = "at_risk"
    for person in after[6:11]:
        person.segments = ("dormant", "onboarding")
    moved = next(person for person in after if person.email == moving.email)
    moved.email = "moved@example.com"
    moved.segments = ("onboarding", "dormant")
    late = Person("late@example.com", "f00001")
    new = [Person(f"new{number}@example.com", f"e0000{number}") for number in range(6)]
    stage.release([*after, late, *new], as_of=AS_OF + timedelta(days=1))
    stage.refuse(refusing.email)
    stage.erase(erased.email)
    expected = expected_of(stage, [*after, late, *new])
    expected[stage.key(refusing)] = replace(expected[stage.key(refusing)], state="unsubscribed", tags=set())
    del expected[stage.key(erased)]
    gone = expected_of(stage, [leaver])
    gone[stage.key(leaver)].tags = set()
    made = stage.plan()
    assert {"unsubscribe", "erase", "create", "update"} <= actions(made)
    whole = Stage(home, stage.settings, stage.kind, copy.deepcopy(stage.data))
    with copied(stage, folder / "counted") as (counted, kept):
        connector = counted.connector()
        with stopping(connector) as stops:
            counted.apply(kept, connector=connector)
        check(counted, expected | gone)
    return Prepared(whole, made, expected | gone, late, stops.passed)


def actions(made: Plan) -> set[str]:
    import pyarrow.parquet as pq

    return set(pq.read_table(made.path).column("action").to_pylist())


class copied:  # reads as a function
    """The same home and account at another place, for the length of a block: the stage and its kept plan."""

    def __init__(self, stage: Stage, root: Path) -> None:
        self._stage, self._root = stage, root

    def __enter__(self) -> tuple[Stage, Plan]:
        shutil.copytree(self._stage.home.root, self._root)
        home = Home.open(self._root)
        settings = self._stage.settings.model_copy(update={"home": self._root})
        made = replace(self._stage, home=home, settings=settings, data=copy.deepcopy(self._stage.data))
        return made, plans.read(home, "memory")

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._root)


def check(stage: Stage, expected: dict[str, Somebody]) -> None:
    """The destination is as the plan says, nobody came twice, and another plan has nothing to do."""
    found = stage.data.people
    assert {key: one.tags for key, one in found.items()} == {key: one.tags for key, one in expected.items()}
    assert {key: one.state for key, one in found.items()} == {key: one.state for key, one in expected.items()}
    gone = {key for key, one in expected.items() if one.state != "subscribed"}
    assert {key: one.fields for key, one in found.items() if key not in gone} == {
        key: one.fields for key, one in expected.items() if key not in gone
    }
    assert max(stage.data.made.values()) == 1
    assert stage.plan().is_empty


@pytest.fixture(scope="module", params=list(KINDS))
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("stops"), request.param)


def test_stopped_anywhere_and_run_again(prepared: Prepared, tmp_path: Path) -> None:
    """200 stops over the three forms; at every third one, somebody refuses before it is run again."""
    chance = random.Random(6)
    share = -(-STOPS // len(KINDS))
    stops = sorted(chance.choices(range(1, prepared.points + 1), k=share))
    before = set(prepared.stage.states())
    lived = 0
    for number, at in enumerate(stops):
        with copied(prepared.stage, tmp_path / f"{number:03}") as (stage, made):
            connector = stage.connector()
            # The number of points differs a little: answers that come together share a transaction.
            with stopping(connector, at), contextlib.suppress(Killed):
                stage.apply(made, connector=connector)
                lived += 1
            claimed = {key for key, state in stage.states().items() if state is State.SYNCED}
            assert claimed - before <= set(stage.data.people), f"stop {at}: the ledger claims more than what happened"
            if number % 3:
                stage.apply(made)
                check(stage, prepared.expected)
            else:
                refuse_then_go_on(prepared, stage, made)
    assert lived < share / 5


def refuse_then_go_on(prepared: Prepared, stage: Stage, made: Plan) -> None:
    """Whoever refuses while the process is dead is written to no more, and unsubscribed if ever they got there."""
    late = prepared.late
    stage.refuse(late.email)
    stage.data.written.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("activation.sync.read", lambda settings, name: stage.sync)
        (told,) = suppress.suppress(
            stage.settings, stage.home, ["memory"], connectors={"memory": stage.connector()}, retry=IMPATIENT,
            now=stage.clock,
        )  # fmt: skip
    assert told.error is None
    stage.apply(made)
    assert not [kind for kind, _, email in stage.data.written if email == late.email and kind != "unsubscribe"]
    there = stage.data.people.get(stage.key(late))
    assert there is None or there.state == "unsubscribed"
    others = {key: one for key, one in prepared.expected.items() if key != stage.key(late)}
    assert {key: one.tags for key, one in stage.data.people.items() if key != stage.key(late)} == {
        key: one.tags for key, one in others.items()
    }


def test_two_stops_in_a_row(prepared: Prepared, tmp_path: Path) -> None:
    chance = random.Random(7)
    for number in range(10):
        with copied(prepared.stage, tmp_path / f"{number:03}") as (stage, made):
            for _ in range(3):
                connector = stage.connector()
                with stopping(connector, chance.randint(1, prepared.points // 2)), pytest.raises(Killed):
                    stage.apply(made, connector=connector)
            stage.apply(made)
            check(stage, prepared.expected)


def test_after_a_stop_a_new_plan_does_the_rest(prepared: Prepared, tmp_path: Path) -> None:
    with copied(prepared.stage, tmp_path / "one") as (stage, made):
        connector = stage.connector()
        with stopping(connector, prepared.points // 2), pytest.raises(Killed):
            stage.apply(made, connector=connector)
        rest = stage.plan()
        assert 0 < rest.operations < made.operations
        stage.apply(rest)
        check(stage, prepared.expected)
        with pytest.raises(PlanError, match="the ledger has moved"):
            stage.apply(made)


def test_an_account_of_memory_is_as_real_ones() -> None:
    """The stops mean something only if the account outlives the connector."""
    data = Account({"aa": Somebody()})
    assert copy.deepcopy(data).people is not data.people
