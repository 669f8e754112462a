"""Whatever happens: history tells every release, and going back undoes all but what was withdrawn."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

from activation import history, releases, rollback
from activation.plan import Plan
from core.home import Home
from core.settings import Settings
from tests.integration.activation.stage import Stage
from tests.integration.activation.world import AS_OF, Person

SEGMENTS = ("a", "b", "c")
DAY = timedelta(days=1)
# Audiences of five change by any share.
EVERY_BREAKER = ("added", "empty", "removed")


@contextmanager
def fresh() -> Iterator[Stage]:
    with tempfile.TemporaryDirectory() as folder:
        home = Home.create(Path(folder) / "home", "Europe/London", "GBP")
        yield Stage(home, Settings(home=home.root, memory_limit="500MB", threads=1))


def operations(made: Plan) -> set[tuple[str, str, str]]:
    with duckdb.connect() as connection:
        return set(connection.execute(f"select action, email, tag from '{made.path}'").fetchall())


memberships = st.frozensets(st.tuples(st.sampled_from(["c1", "c2", "c3"]), st.sampled_from(SEGMENTS)))
steps = st.lists(st.one_of(memberships, st.integers(1, 9), st.just("resume")), min_size=2, max_size=9).filter(
    lambda drawn: any(isinstance(step, frozenset) for step in drawn)
)


@settings(max_examples=20, deadline=None)
@given(steps)
def test_the_history_replayed_is_every_release(drawn: list[Any]) -> None:
    with fresh() as stage:
        for day, step in enumerate(drawn):
            there = releases.numbers(stage.home)
            if isinstance(step, frozenset):
                persons = [
                    Person(f"{name}@example.com", name, segments=tuple(sorted(s for c, s in step if c == name)))
                    for name in ("c1", "c2", "c3")
                ]
                stage.release(persons, AS_OF + day * DAY)
            elif step == "resume":
                rollback.resume(stage.home)
            elif there:
                rollback.rollback(stage.settings, stage.home, there[step % len(there)])
        with duckdb.connect() as connection:
            history.changes_view(connection, stage.home)
            changes = connection.execute("select release, change, customer_id, segment, cause from membership_changes")
            told = changes.fetchall()
            members: set[tuple[str, str]] = set()
            for number in releases.numbers(stage.home):
                release = releases.read(stage.home, number)
                for change, customer, segment in {row[1:4] for row in told if row[0] == number}:
                    # One enters only if outside, and leaves only if inside: stays never overlap.
                    assert ((customer, segment) in members) == (change == "left")
                    (members.remove if change == "left" else members.add)((customer, segment))
                found = connection.execute(f"from '{release.file('memberships')}'").fetchall()
                assert members == set(found), number
                if release.reverts_to is not None:
                    assert {row[4] for row in told if row[0] == number} <= {"rollback"}


person = st.fixed_dictionaries({
    "was_there": st.booleans(),
    "had": st.frozensets(st.sampled_from(SEGMENTS)),
    "was": st.sampled_from(["champions", "at_risk"]),
    "is_there": st.booleans(),
    "has": st.frozensets(st.sampled_from(SEGMENTS)),
    "is": st.sampled_from(["champions", "at_risk"]),
    "may_profile": st.booleans(),
    "refuses": st.booleans(),
})  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(st.lists(person, min_size=1, max_size=5))
def test_the_plan_after_a_rollback_is_the_inverse_less_who_withdrew(drawn: list[dict[str, Any]]) -> None:
    emails = [f"p{number}@example.com" for number in range(len(drawn))]
    named = list(zip(emails, drawn, strict=True))
    with fresh() as stage:
        stage.release([
            Person(email, email, rfm_segment=said["was"], segments=tuple(sorted(said["had"])))
            for email, said in named
            if said["was_there"]
        ])  # fmt: skip
        stage.apply(override=EVERY_BREAKER)
        stage.release(
            [
                Person(
                    email,
                    email,
                    rfm_segment=said["is"],
                    segments=tuple(sorted(said["has"])),
                    may_profile=said["may_profile"],
                )
                for email, said in named
                if said["is_there"]
            ],
            AS_OF + DAY,
            others=[(email, email) for email, said in named if not said["is_there"]],
        )
        stage.apply(override=EVERY_BREAKER)
        assert stage.plan().is_empty
        for email, said in named:
            if said["refuses"]:
                stage.refuse(email, at=AS_OF + DAY)
        rollback.rollback(stage.settings, stage.home, 1)

        expected: set[tuple[str, str, str]] = set()
        for email, said in named:
            there = said["has"] if said["is_there"] and said["may_profile"] else frozenset()
            back = said["was_there"] and said["is_there"] and not said["refuses"]
            wanted = said["had"] if back and said["may_profile"] else frozenset()
            expected |= {("tag_add", email, f"mw_{segment}") for segment in wanted - there}
            expected |= {("tag_remove", email, f"mw_{segment}") for segment in there - wanted}
            if back and said["may_profile"] and said["was"] != said["is"]:
                expected.add(("update", email, ""))
            if said["refuses"] and (said["was_there"] or said["is_there"]):
                expected.add(("unsubscribe", email, ""))
        made = stage.plan()
        assert operations(made) == expected
        stage.apply(made, override=EVERY_BREAKER)
        assert stage.plan().is_empty
