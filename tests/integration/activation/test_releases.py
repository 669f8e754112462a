"""Releases: numbered, immutable, made only when something changed."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from activation import releases
from core.clock import write_clock
from core.errors import RefreshError, ReleaseError
from core.home import Home
from core.settings import Settings
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
