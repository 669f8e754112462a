"""Releases: numbered, immutable, made only when something changed."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import duckdb
import pytest

from activation import history, plan, releases, rollback
from core.clock import write_clock
from core.errors import RefreshError, ReleaseError
from core.files import sha256_of
from core.home import Home
from core.settings import Settings
from tests.integration.activation.stage import Stage
from tests.integration.activation.world import AS_OF, Person, fill_warehouse, people


def freeze(home: Home, settings: Settings, persons: list[Person], days: int = 0) -> releases.Release:
    with duckdb.connect() as connection:
        fill_warehouse(connection, persons)
        return releases.freeze(settings, home, connection, as_of=AS_OF + timedelta(days=days))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_release_describes_itself(home: Home, settings: Settings) -> None:
    made = freeze(home, settings, people(3, segments=("a", "b")))
    assert (made.number, made.is_new, made.previous, made.as_of) == (1, True, None, AS_OF)
    assert made.counts == {
        "profiles": 3,
        "memberships": 6,
        "addresses": 3,
        "bindings": 3,
        "suppressed": 0,
        "funnel": 2,
        "states": 3,
    }
    assert made.segments == {"a": 3, "b": 3}
    assert made.folder == home.releases / "000001"
    assert made.summary()["outcome"] == "new"
    read = releases.read(home, 1)
    assert (read.content_hash, read.segments, read.is_new) == (made.content_hash, made.segments, False)


def test_the_same_outcome_makes_no_new_release_whatever_the_order_of_rows(home: Home, settings: Settings) -> None:
    first = freeze(home, settings, people(50))
    again = freeze(home, settings, people(50)[::-1], days=1)
    assert (again.number, again.outcome, again.content_hash) == (1, "unchanged", first.content_hash)
    assert releases.numbers(home) == [1]


@pytest.mark.parametrize(
    "changed",
    [
        people(2),
        [*people(2), Person("else@example.com", "c00002")],
        people(3, segments=("dormant",)),
        people(3, rfm_segment="at_risk"),
        people(3, rfm_segment=None),
    ],
    ids=["someone left", "another address", "another segment", "another field", "an empty field"],
)
def test_any_change_makes_the_next_release_and_leaves_the_one_before(
    home: Home, settings: Settings, changed: list[Person]
) -> None:
    first = freeze(home, settings, people(3))
    before = contents(first.folder)
    second = freeze(home, settings, changed, days=1)
    assert (second.number, second.previous, second.is_new) == (2, 1, True)
    assert contents(first.folder) == before
    newest = releases.latest(home)
    assert newest is not None
    assert newest.number == 2


def test_a_replay_of_an_earlier_as_of_freezes_nothing(home: Home, settings: Settings) -> None:
    freeze(home, settings, people(3))
    replay = freeze(home, settings, people(1), days=-1)
    assert (replay.number, replay.outcome, replay.is_new) == (1, "replay", False)
    assert "nothing frozen" in str(replay.summary()["outcome"])
    assert releases.numbers(home) == [1]


def test_files_are_read_only_and_private(home: Home, settings: Settings) -> None:
    made = freeze(home, settings, people(1))
    assert {path.stat().st_mode & 0o777 for path in made.folder.iterdir()} == {0o400}
    assert made.folder.stat().st_mode & 0o077 == 0


def test_what_a_killed_freeze_left_is_no_release_and_is_cleared(home: Home, settings: Settings) -> None:
    left = home.releases / ".freezing-000001-99"
    left.mkdir(parents=True)
    (left / "profiles.parquet").write_bytes(b"half")
    assert releases.latest(home) is None
    assert freeze(home, settings, people(1)).number == 1
    assert not left.exists()


def test_an_address_twice_freezes_nothing(home: Home, settings: Settings) -> None:
    with pytest.raises(RefreshError, match="1 addresses more than once"):
        freeze(home, settings, [*people(2), people(2)[0]])
    assert releases.latest(home) is None


def test_the_as_of_is_the_clocks(home: Home, settings: Settings) -> None:
    with duckdb.connect() as connection:
        fill_warehouse(connection, people(1))
        with pytest.raises(RefreshError, match="run `mailwright refresh`"):
            releases.freeze(settings, home, connection)
        write_clock(home, AS_OF)
        assert releases.freeze(settings, home, connection).as_of == AS_OF


def test_a_missing_or_spoilt_release_says_what_to_do(home: Home, settings: Settings) -> None:
    with pytest.raises(ReleaseError, match="there is no release 7"):
        releases.read(home, 7)
    made = freeze(home, settings, people(1))
    description = made.folder / "release.json"
    description.chmod(0o600)
    said = json.loads(description.read_text())
    del said["counts"]
    description.write_text(json.dumps(said))
    with pytest.raises(ReleaseError, match="restore it from a backup"):
        releases.read(home, 1)


def tampered(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"!")


@pytest.mark.parametrize("table", [*releases.TABLES, releases.STATES])
def test_a_changed_file_is_found(home: Home, settings: Settings, table: str) -> None:
    made = freeze(home, settings, people(2))
    releases.verify(home, made)
    tampered(made.file(table))
    with pytest.raises(ReleaseError, match=rf"release 1 is not as it was frozen: {table}\.parquet was changed"):
        releases.verify(home, made)
    made.file(table).unlink()
    with pytest.raises(ReleaseError, match=rf"{table}\.parquet is missing"):
        releases.verify(home, made)


@pytest.mark.parametrize("change", ["as_of", "a file's hash", "the seal"])
def test_a_changed_description_is_found(home: Home, settings: Settings, change: str) -> None:
    made = freeze(home, settings, people(2))
    description = made.folder / "release.json"
    said = json.loads(description.read_text())
    if change == "as_of":
        said["as_of"] = (AS_OF + timedelta(days=3)).isoformat()
    elif change == "the seal":
        del said["seal"]
    else:
        tampered(made.file("profiles"))
        said["files"]["profiles.parquet"] = sha256_of(made.file("profiles"))
    description.chmod(0o600)
    description.write_text(json.dumps(said))
    with pytest.raises(ReleaseError, match=r"release\.json was changed"):
        releases.verify(home, releases.read(home, 1))


def test_neither_plan_nor_apply_takes_a_changed_release(stage: Stage) -> None:
    made = stage.release(people(2))
    reviewed = stage.plan()
    tampered(made.file("suppressed"))
    with pytest.raises(ReleaseError, match="Restore the folder from a backup"):
        stage.plan()
    with pytest.raises(ReleaseError, match="not as it was frozen"):
        stage.apply(reviewed)
    assert not stage.data.people


def test_a_release_says_what_it_was_made_of(home: Home, settings: Settings) -> None:
    with duckdb.connect() as connection:
        fill_warehouse(connection, people(2))
        made = releases.freeze(
            settings,
            home,
            connection,
            as_of=AS_OF,
            definitions={"frequent_buyers": "select 1", "unknown": "select 2"},
            versions={"model churn": "7"},
        )
    state = made.states["frequent_buyers"]
    assert state == releases.SegmentState(2, True, AS_OF, hashlib.sha256(b"select 1").hexdigest(), "select 1")
    assert list(made.states) == ["frequent_buyers"]
    assert made.versions == {"model churn": "7"}
    assert re.fullmatch(r"[\w.-]*[0-9a-f]{12}(-dirty)?|\d+\.\d+\.\d+", made.code_revision or "")
    assert set(made.files) == {path.name for path in made.folder.glob("*.parquet")}


def test_the_code_revision_is_gits_where_there_is_one(tmp_path: Path) -> None:
    assert releases.code_revision(tmp_path) == version("mailwright")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=A", "-c", "user.email=a@example.com"]
    (tmp_path / "file").write_text("1")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], check=True)
    clean = releases.code_revision(tmp_path)
    assert re.fullmatch("[0-9a-f]{12}", clean)
    (tmp_path / "file").write_text("2")
    assert releases.code_revision(tmp_path) == f"{clean}-dirty"


def test_rows_are_told_apart_whatever_they_hold(home: Home, settings: Settings) -> None:
    """Summed hashes must not take one distribution of the same words for another."""
    releases_seen = set()
    for given, surname in [("a", "b"), ("b", "a"), ("a, b", ""), ("", "a, b"), ("NULL", "b"), ("a'", "b"), ("ab", "")]:
        releases_seen.add(freeze(home, settings, people(1, given_name=given, surname=surname)).number)
    freeze(home, settings, people(1, given_name="a", surname="b"))
    assert releases_seen == {1, 2, 3, 4, 5, 6, 7}


def test_homes_do_not_share_hashes(tmp_path: Path, settings: Settings) -> None:
    homes = [Home.create(tmp_path / name, "Europe/London", "GBP") for name in ("one", "two")]
    first, second = (freeze(home, settings, people(2)) for home in homes)
    assert first.content_hash != second.content_hash
    assert (homes[0].releases / "salt").stat().st_mode & 0o777 == 0o600


def test_how_customers_stand_makes_no_other_outcome(home: Home, settings: Settings) -> None:
    freeze(home, settings, people(2))
    with duckdb.connect() as connection:
        fill_warehouse(connection, people(2))
        connection.execute("update marts.customer_360 set lifecycle_stage = 'dormant'")
        assert releases.freeze(settings, home, connection, as_of=AS_OF).outcome == "unchanged"


def test_an_unchanged_outcome_is_confirmed_and_the_release_stays(stage: Stage) -> None:
    first = stage.release(people(2, segments=("a",)), stale={})
    before = contents(first.folder)
    again = stage.release(people(2, segments=("a",)), AS_OF + timedelta(days=5), stale={})
    assert (again.outcome, again.as_of, again.confirmed_at) == ("unchanged", AS_OF, AS_OF + timedelta(days=5))
    assert again.states["a"].as_of == AS_OF + timedelta(days=5)
    assert contents(first.folder) == before
    releases.verify(stage.home, again)
    stale = stage.release(people(2, segments=("a",)), AS_OF + timedelta(days=6), stale={"a": AS_OF})
    assert (stale.number, stale.outcome) == (2, "new"), "going stale is another outcome"


def old_layout(release: releases.Release) -> releases.Release:
    """Rewrite a release as earlier versions had it."""
    description = release.folder / "release.json"
    said = json.loads(description.read_text())
    kept = {name: said[name] for name in ("number", "as_of", "content_hash", "counts", "previous")}
    kept["segments"] = {name: state["members"] for name, state in said["segments"].items()}
    description.chmod(0o600)
    description.write_text(json.dumps(kept))
    release.file("states").unlink()
    with duckdb.connect() as connection:
        connection.execute(f"create table a as select email, customer_id from '{release.file('addresses')}'")
        release.file("addresses").unlink()
        connection.execute(f"copy a to '{release.file('addresses')}' (format parquet)")
    shutil.rmtree(release.folder.parent / "history", ignore_errors=True)
    return releases.read(Home.open(release.folder.parents[2]), release.number)


def test_a_release_of_an_earlier_version_is_read_as_it_is(stage: Stage) -> None:
    first = old_layout(stage.release(people(2, segments=("a",))))
    assert (first.layout, first.segments, first.states["a"].fresh, first.files) == (1, {"a": 2}, True, {})
    releases.verify(stage.home, first)
    stage.apply()
    assert stage.tags() == {"mw_a": {"person00000@example.com", "person00001@example.com"}}
    with pytest.raises(ReleaseError, match="run `mailwright refresh` first, then roll back"):
        rollback.rollback(stage.settings, stage.home, 1)
    # The next one is of today's layout, knows what changed, and the old one can be gone back to.
    second = stage.release(people(1, segments=("a",)), AS_OF + timedelta(days=1))
    assert (second.number, second.layout) == (2, releases.LAYOUT)
    with duckdb.connect() as connection:
        history.changes_view(connection, stage.home)
        told = connection.execute("select release, customer_id, change, cause from membership_changes order by all")
        assert told.fetchall() == [
            (1, "c00000", "entered", None),
            (1, "c00001", "entered", None),
            (2, "c00001", "left", None),
        ]
    assert rollback.rollback(stage.settings, stage.home, 1).reverts_to == 1


def test_a_stale_segment_is_not_synced_and_is_shown(stage: Stage) -> None:
    stage.release(people(2, segments=("a", "b")), stale={})
    stage.apply()
    later = [*people(1, segments=("b",)), *people(3, segments=("a", "b"))[1:]]
    stage.release(later, AS_OF + timedelta(days=2), stale={"a": AS_OF}, cadence="weekly")
    assert not stage.plan().blocked, "kept from before, and not yet too old"
    stage.release(later, AS_OF + timedelta(days=9), stale={"a": AS_OF}, cadence="weekly")
    made = stage.plan()
    assert (made.tag_adds, made.tag_removes) == ({"mw_b": 1}, {})
    assert made.summary()["segment a"] == ("stale since 2011-12-10 00:00, not synced: 2 tag changes left out")
    assert plan.read(stage.home, "memory") == made
    stage.apply(made)
    assert len(stage.tags()["mw_a"]) == 2
    # Whoever is sendable no more, or not to be profiled, loses the tag of a stale segment as any other.
    later[1].may_profile = False
    stage.release(
        [later[1]],
        AS_OF + timedelta(days=12),
        others=[(later[0].email, later[0].customer_id)],
        stale={"a": AS_OF, "b": AS_OF},
    )
    stage.apply()
    assert "mw_a" not in stage.tags()
    # Fresh again: what was left out comes.
    stage.release(people(3, segments=("a", "b")), AS_OF + timedelta(days=13), stale={})
    assert stage.plan().tag_adds["mw_a"] == 3


def test_only_so_many_are_kept_and_what_is_needed_beside(stage: Stage) -> None:
    stage.settings = stage.settings.model_copy(update={"releases_kept": 2})
    everyone = people(9)
    for number in range(3):
        stage.release(everyone[: 9 - number], AS_OF + timedelta(days=number))
        if number == 0:
            stage.apply()
    # The destination stands at the first.
    assert releases.numbers(stage.home) == [1, 2, 3]
    stage.apply()
    stage.release(everyone[:6], AS_OF + timedelta(days=3))
    assert releases.numbers(stage.home) == [3, 4]
    assert [path.stem for path in sorted((stage.home.releases / "history").iterdir())] == [
        f"{number:06}" for number in range(1, 5)
    ]
    rollback.rollback(stage.settings, stage.home, 3)
    for days in range(4, 8):
        assert stage.release(everyone[:days], AS_OF + timedelta(days=days)).outcome == "held"
    assert releases.numbers(stage.home) == [3, 4, 5]
    with pytest.raises(ReleaseError, match="release 1 is no longer kept: there are 3, from 3 to 5"):
        releases.read(stage.home, 1)


def test_tags_of_who_left_are_removed_by_address_though_their_release_is_gone(stage: Stage) -> None:
    stage.settings = stage.settings.model_copy(update={"releases_kept": 2})
    never = Person("never.synced@example.com", "c9")
    stage.data.rejects.add(never.key)
    stage.release([*people(2), never])
    stage.apply()
    for number in range(1, 5):
        stage.release(people(1, surname=f"Example {number}"), AS_OF + timedelta(days=number))
        if number == 1:
            # Another plan moves the destination on, without touching who left.
            made = stage.plan()
            with stage.ledger() as ledger:
                run = ledger.begin(made.target, made.hash, made.base_revision, made.release, (), stage.now)
                ledger.end(run, "done", {}, stage.now)
    assert 1 not in releases.numbers(stage.home)
    departed = stage.home.releases / "departed.parquet"
    assert departed.stat().st_mode & 0o777 == 0o600
    with duckdb.connect() as connection:
        kept = connection.execute(f"from '{departed}'").fetchall()
    assert kept == [("person00001@example.com",)], "who is at no destination is not kept"
    stage.data.written.clear()
    assert stage.apply().tags_removed == 1
    gone = people(2)[1]
    assert stage.data.written == [("tag mw_frequent_buyers", gone.key, gone.email)]
    assert stage.tags() == {"mw_frequent_buyers": {"person00000@example.com"}}


def test_a_tag_is_removed_by_key_when_no_release_knows_the_address(stage: Stage) -> None:
    persons = people(2)
    first = stage.release(persons)
    stage.apply()
    newest = stage.release(persons[:1], AS_OF + timedelta(days=1))
    # As after an erasure: the address is gone from every release.
    for table in ("addresses", "profiles"):
        first.file(table).unlink()
        first.file(table).symlink_to(newest.file(table))
    stage.data.written.clear()
    stage.apply()
    assert stage.data.written == [("tag mw_frequent_buyers", persons[1].key, None)]
    assert stage.plan().is_empty
