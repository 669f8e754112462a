"""Going back to an earlier release, staying there, and going on."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from datetime import datetime, timedelta

import duckdb
import pytest
import yaml

from activation import history, releases, rollback
from activation.comparison import compare
from activation.plan import Plan
from core.errors import ReleaseError
from core.home import Home
from core.settings import PROJECT_ROOT
from tests.integration.activation.stage import FIELDS, Stage
from tests.integration.activation.world import AS_OF, Person, fill_warehouse, naive, people

DAY = timedelta(days=1)


def changes(home: Home) -> list[tuple[int, str, str, str, str | None]]:
    """(release, customer, segment, change, cause) of the whole history."""
    with duckdb.connect() as connection:
        history.changes_view(connection, home)
        found = connection.execute(
            "select release, customer_id, segment, change, cause from membership_changes order by all"
        )
        return found.fetchall()


def memberships(release: releases.Release) -> set[tuple[str, str]]:
    with duckdb.connect() as connection:
        return set(connection.execute(f"from '{release.file('memberships')}'").fetchall())


def profiles(release: releases.Release) -> dict[str, dict[str, object]]:
    with duckdb.connect() as connection:
        found = connection.execute(f"from '{release.file('profiles')}'")
        names = [column[0] for column in found.description]
        return {row[names.index("email")]: dict(zip(names, row, strict=True)) for row in found.fetchall()}


def operations(made: Plan) -> set[tuple[str, str, str]]:
    """(action, address, tag) of a plan."""
    with duckdb.connect() as connection:
        return set(connection.execute(f"select action, email, tag from '{made.path}'").fetchall())


def journal(home: Home, rows: Sequence[tuple[str, str, str | None]]) -> None:
    """Write what became of customers: (event, customer, the other one)."""
    folder = home.identity / "journal"
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(
            "create table journal (run bigint, entry bigint, as_of timestamp, event varchar, customer_id varchar,"
            " other_customer_id varchar, identifier_ids bigint[], evidence varchar)"
        )
        for run, (event, customer, other) in enumerate(rows, 1):
            connection.execute(
                "insert into journal values (?, 1, ?, ?, ?, ?, [], '{}')", [run, naive(AS_OF), event, customer, other]
            )
        connection.execute(f"copy journal to '{folder}/000001.parquet' (format parquet)")


def changed() -> list[Person]:
    """Five people of `people(4)` a day later: one in another segment, one of another field, one gone, one new."""
    persons = people(3)
    persons[0].segments = ("dormant",)
    persons[1].rfm_segment = "at_risk"
    return [*persons, Person("new@example.com", "c_new")]


def test_the_next_plan_undoes_the_difference(stage: Stage) -> None:
    stage.release(people(4))
    stage.apply()
    gone = [("person00003@example.com", "c00003")]
    stage.release(changed(), AS_OF + DAY, others=gone)
    there = stage.plan()
    stage.apply(there)
    assert operations(there) == {
        ("tag_add", "person00000@example.com", "mw_dormant"),
        ("tag_remove", "person00000@example.com", "mw_frequent_buyers"),
        ("update", "person00001@example.com", ""),
        ("tag_remove", "person00003@example.com", "mw_frequent_buyers"),
        ("create", "new@example.com", ""),
        ("tag_add", "new@example.com", "mw_frequent_buyers"),
    }
    made = rollback.rollback(stage.settings, stage.home, 1)
    assert (made.number, made.reverts_to, made.previous, made.outcome) == (3, 1, 2, "new")
    back = stage.plan()
    assert operations(back) == {
        ("tag_remove", "person00000@example.com", "mw_dormant"),
        ("tag_add", "person00000@example.com", "mw_frequent_buyers"),
        ("update", "person00001@example.com", ""),
        ("tag_remove", "new@example.com", "mw_frequent_buyers"),
        # person00003 may not be mailed any more: nothing brings that back.
    }
    stage.apply(back)
    assert stage.plan().is_empty
    assert stage.tags()["mw_frequent_buyers"] == {f"person0000{number}@example.com" for number in range(3)}
    assert stage.fields("person00001@example.com")["RFM"] == "champions"


def test_a_rollback_is_held_over_refreshes_until_resumed(stage: Stage) -> None:
    stage.release(people(2))
    stage.release(people(3), AS_OF + DAY)
    rollback.rollback(stage.settings, stage.home, 1)
    held = stage.release(people(5), AS_OF + 2 * DAY)
    assert (held.number, held.outcome) == (3, "held")
    assert "held, as rolled back to 1, until `mailwright releases resume`" in str(held.summary()["outcome"])
    assert held.describe() == "3, held (rolled back to 1)"
    assert stage.plan().creates == 2
    assert rollback.resume(stage.home) == releases.Hold(3, 1)
    assert rollback.resume(stage.home) is None
    after = stage.release(people(5), AS_OF + 2 * DAY)
    assert (after.number, after.outcome, after.reverts_to) == (4, "new", None)
    assert stage.plan().creates == 5


def test_history_tells_of_the_rollback_and_of_its_end(stage: Stage) -> None:
    stage.release(people(1, segments=("a",)))
    stage.release(people(1, segments=("b",)), AS_OF + DAY)
    rollback.rollback(stage.settings, stage.home, 1)
    rollback.resume(stage.home)
    stage.release(people(1, segments=("b", "c")), AS_OF + 2 * DAY)
    assert changes(stage.home) == [
        (1, "c00000", "a", "entered", None),
        (2, "c00000", "a", "left", None),
        (2, "c00000", "b", "entered", None),
        (3, "c00000", "a", "entered", "rollback"),
        (3, "c00000", "b", "left", "rollback"),
        (4, "c00000", "a", "left", "rollback"),
        (4, "c00000", "b", "entered", "rollback"),
        (4, "c00000", "c", "entered", None),
    ]


def test_a_refusal_since_is_not_undone(stage: Stage) -> None:
    stage.release(people(4))
    stage.apply()
    stage.refuse("person00000@example.com", at=AS_OF + DAY)
    # Known to nothing but the lake: the newest release was frozen before.
    stage.release(people(4, segments=()), AS_OF + DAY)
    stage.apply()
    stage.refuse("person00001@example.com", at=AS_OF + DAY)
    made = rollback.rollback(stage.settings, stage.home, 1)
    assert set(profiles(made)) == {"person00002@example.com", "person00003@example.com"}
    assert operations(stage.plan()) == {
        ("unsubscribe", "person00001@example.com", ""),
        ("tag_add", "person00002@example.com", "mw_frequent_buyers"),
        ("tag_add", "person00003@example.com", "mw_frequent_buyers"),
    }
    # And one that comes in while it is held binds as ever.
    stage.refuse("person00002@example.com", at=AS_OF + DAY)
    assert ("tag_add", "person00002@example.com", "mw_frequent_buyers") not in operations(stage.plan())


def test_an_address_that_nothing_is_known_of_any_more_stays_out(stage: Stage) -> None:
    stage.release(people(3))
    stage.release(people(2), AS_OF + DAY)
    assert set(profiles(rollback.rollback(stage.settings, stage.home, 1))) == {
        "person00000@example.com",
        "person00001@example.com",
    }


def test_who_may_no_longer_be_profiled_comes_back_without_what_was_worked_out(stage: Stage) -> None:
    stage.release(people(2))
    stage.apply()
    later = people(2, segments=("dormant",))
    later[0].may_profile = False
    stage.release(later, AS_OF + DAY)
    stage.apply()
    expected = rollback.preview(stage.settings, stage.home, 1)
    assert (expected.withheld, expected.unprofiled) == (0, 1)
    found = profiles(rollback.rollback(stage.settings, stage.home, 1))
    assert found["person00000@example.com"] == {
        "email": "person00000@example.com", "customer_id": "c00000", "given_name": "Ada", "surname": "Example",
        "country_code": "GB", "rfm_segment": None, "order_count": None, "segments": [],
    }  # fmt: skip
    assert found["person00001@example.com"]["segments"] == ["frequent_buyers"]
    stage.apply()
    assert stage.tags()["mw_frequent_buyers"] == {"person00001@example.com"}


@pytest.mark.parametrize(
    ("withdrawn", "left"),
    [("mailing", {"mw_a": {"person00001@example.com"}}), ("profiling", {"mw_a": {"person00001@example.com"}})],
)
def test_what_a_refresh_finds_withdrawn_binds_while_held(
    stage: Stage, withdrawn: str, left: dict[str, set[str]]
) -> None:
    """As when a consent expires, or a birthday turns up: the lake holds no refusal, only the models know."""
    stage.release(people(2, segments=("a",)))
    rollback.rollback(stage.settings, stage.home, 1)
    stage.apply()
    later = people(2, segments=("a",))
    others: list[tuple[str, str]] = []
    if withdrawn == "mailing":
        others = [(later[0].email, later[0].customer_id)]
        later = later[1:]
    else:
        later[0].may_profile = False
    assert stage.release(later, AS_OF + DAY, others=others).outcome == "held"
    stage.apply()
    assert stage.tags() == left
    fields = stage.fields("person00000@example.com")
    assert fields["NAME"] == "Ada"
    assert not fields.get("RFM") if withdrawn == "profiling" else fields["RFM"] == "champions"
    # It takes away for as long as it is so, and no longer than the hold.
    stage.release(people(2, segments=("a",)), AS_OF + 2 * DAY)
    assert operations(stage.plan()) >= {("tag_add", "person00000@example.com", "mw_a")}
    rollback.resume(stage.home)
    assert not (stage.home.releases / "withdrawn.parquet").exists()


def test_customers_merged_since_come_back_as_one(stage: Stage) -> None:
    stage.release([
        Person("ada@example.com", "c1", segments=("a",)),
        Person("lovelace@example.com", "c2", segments=("b",)),
        Person("bob@example.com", "c3", segments=("b",)),
    ])  # fmt: skip
    later = [
        Person("ada@example.com", "c0", segments=("c",)),
        Person("lovelace@example.com", "c0", segments=("c",)),
        Person("bob@example.com", "c3", segments=("b",)),
    ]
    stage.release(later, AS_OF + DAY)
    # c1 and c2 went one after the other; c3 went, and came back.
    journal(
        stage.home,
        [("merged", "c2", "c1"), ("merged", "c0", "c2"), ("merged", "c0", "c3"), ("restored", "c3", "c0")],
    )
    made = rollback.rollback(stage.settings, stage.home, 1)
    assert memberships(made) == {("c0", "a"), ("c0", "b"), ("c3", "b")}
    found = profiles(made)
    assert {email: (row["customer_id"], row["segments"]) for email, row in found.items()} == {
        "ada@example.com": ("c0", ["a"]),
        "lovelace@example.com": ("c0", ["b"]),
        "bob@example.com": ("c3", ["b"]),
    }


def test_an_address_that_is_anothers_by_now_keeps_what_is_said_of_that_person(stage: Stage) -> None:
    stage.release([Person("info@example.com", "c1", given_name="Ada", segments=("a",))])
    stage.release([Person("info@example.com", "c2", given_name="Bob", segments=("b",))], AS_OF + DAY)
    found = profiles(rollback.rollback(stage.settings, stage.home, 1))
    assert (found["info@example.com"]["given_name"], found["info@example.com"]["segments"]) == ("Bob", ["b"])


def test_a_rollback_can_be_rolled_back_and_so_on(stage: Stage) -> None:
    first = stage.release(people(2, segments=("a",)))
    second = stage.release(people(3, segments=("b",)), AS_OF + DAY)
    rollback.rollback(stage.settings, stage.home, 1)
    again = rollback.rollback(stage.settings, stage.home, 2)
    assert (again.number, again.reverts_to) == (4, 2)
    assert memberships(again) == memberships(second)
    assert profiles(again) == profiles(second)
    assert releases.hold(stage.home) == releases.Hold(4, 2)
    # The rollback itself is a release as any other.
    third = rollback.rollback(stage.settings, stage.home, 3)
    assert memberships(third) == memberships(first)
    rollback.resume(stage.home)
    assert stage.release(people(3, segments=("b",)), AS_OF + DAY).outcome == "new"


def test_rolling_back_to_the_newest_holds_it(stage: Stage) -> None:
    first = stage.release(people(2))
    made = rollback.rollback(stage.settings, stage.home, 1)
    assert compare(stage.settings, stage.home, 1, 2).is_empty
    assert (made.content_hash, made.reverts_to) == (first.content_hash, 1)
    assert stage.release(people(3), AS_OF + DAY).outcome == "held"


def test_what_cannot_be_gone_back_to_is_refused(stage: Stage) -> None:
    with pytest.raises(ReleaseError, match=r"there is no release 1 in .*: run `mailwright refresh`"):
        rollback.rollback(stage.settings, stage.home, 1)
    first = stage.release(people(2))
    stage.release(people(3), AS_OF + DAY)
    with pytest.raises(ReleaseError, match=r"there is no release 9 in .*; the newest is 2"):
        rollback.rollback(stage.settings, stage.home, 9)
    spoilt = first.file("memberships")
    spoilt.chmod(0o600)
    spoilt.write_bytes(spoilt.read_bytes() + b"x")
    with pytest.raises(ReleaseError, match=r"release 1 is not as it was frozen: memberships.parquet was changed"):
        rollback.preview(stage.settings, stage.home, 1)
    with pytest.raises(ReleaseError, match="not as it was frozen"):
        rollback.rollback(stage.settings, stage.home, 1)
    assert releases.numbers(stage.home) == [1, 2]
    assert releases.hold(stage.home) is None
    assert not list(stage.home.releases.glob(".freezing-*"))
    shutil.rmtree(first.folder)
    with pytest.raises(ReleaseError, match="release 1 is no longer kept"):
        rollback.rollback(stage.settings, stage.home, 1)


def test_a_preview_says_what_would_change_and_changes_nothing(stage: Stage) -> None:
    stage.release(people(4))
    stage.release(changed(), AS_OF + DAY, others=[("person00003@example.com", "c00003")])
    expected = rollback.preview(stage.settings, stage.home, 1)
    assert expected.summary() == {
        "newest release": 2,
        "goes back to": 1,
        "profiles that come back": 0,
        "profiles that go": 1,
        "fields that change": 1,
        "segment entries": 2,  # person00003 is in the segment, though not to be mailed
        "segment exits": 2,
        "left out: may not be mailed any more": 1,
    }
    assert (releases.numbers(stage.home), releases.hold(stage.home)) == ([1, 2], None)
    assert not (stage.home.releases / "history" / "000003.parquet").exists()


def test_a_field_that_came_since_is_emptied(stage: Stage) -> None:
    def release(as_of: datetime, column: str) -> None:
        with duckdb.connect() as connection:
            fill_warehouse(connection, people(1))
            connection.execute(f"alter table activation.sync_profiles add column {column} varchar default 'vip'")
            releases.freeze(stage.settings, stage.home, connection, as_of=as_of)

    stage.release(people(1))
    stage.apply()
    release(AS_OF + DAY, "circle")
    stage.options = {"fields": {**FIELDS, "circle": "CIRCLE"}}
    stage.apply()
    assert stage.fields("person00000@example.com")["CIRCLE"] == "vip"
    rollback.rollback(stage.settings, stage.home, 1)
    made = stage.plan()
    assert made.updates_by_field == {"CIRCLE": 1}
    stage.apply(made)
    assert "CIRCLE" not in stage.fields("person00000@example.com")


def test_segments_compare_by_who_moved_and_why(stage: Stage) -> None:
    stage.release(people(3, segments=("a",)))
    stage.release([*people(2, segments=("a",)), Person("x@example.com", "cx", segments=("b",))], AS_OF + DAY)
    rollback.rollback(stage.settings, stage.home, 1)
    compared = compare(stage.settings, stage.home, 2, 3)
    assert [(s.segment, s.before, s.after, s.entered, s.left, s.causes) for s in compared.segments] == [
        ("a", 2, 3, 1, 0, {"rollback": 1}),
        ("b", 1, None, 0, 1, {"rollback": 1}),
    ]
    assert (compared.profiles_added, compared.profiles_removed, compared.profiles_kept) == (0, 1, 2)


def test_what_nobody_worked_out_is_what_goes_without_permission() -> None:
    """The columns that sync_profiles gives whether or not one may be profiled, and no others."""
    folder = PROJECT_ROOT / "dbt_project" / "models" / "activation"
    sql = (folder / "sync_profiles.sql").read_text()
    described = yaml.safe_load((folder / "sync_profiles.yml").read_text())["models"][0]["columns"]
    listed = re.search(r"for column in \[(.*?)\]", sql, re.DOTALL)
    assert listed is not None
    worked_out = {*re.findall(r"'(\w+)'", listed[1]), "segments"}
    assert {column["name"] for column in described} - worked_out == set(rollback.SAID)
