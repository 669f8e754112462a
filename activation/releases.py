"""Releases: numbered, immutable sets of who may be mailed, with which fields and in which segments.

Everything after the warehouse reads a release and nothing else: planning, explaining and comparing never open the
warehouse, so they never wait for a refresh.

A release is a folder that appears by one rename. Its description holds the hash of every file and is sealed with the
home's salt, so `verify` finds whatever was changed since. Beside it `history` keeps who entered and left which segment,
`rollback` goes back to an earlier release and holds it, `retention` removes old ones.

Layout 1, of earlier versions, has neither file hashes nor a seal and says nothing of freshness: its releases are read,
compared and gone back to as they are, and every segment of theirs counts as fresh.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core import lock
from core.errors import RefreshError, ReleaseError
from core.files import replacing, sha256_of, write_atomically
from core.home import Home
from core.settings import Settings

if TYPE_CHECKING:
    import duckdb

Outcome = Literal["new", "unchanged", "replay", "held"]

LAYOUT = 2
# File in the release -> what is read from the warehouse for it. Together they are the outcome of a refresh.
TABLES = {
    "profiles": "select * from activation.sync_profiles",
    "memberships": "select customer_id, segment from activation.segment_memberships",
    # Whose an address is, also of those that may not be mailed: a refusal binds the person. Shared ones have several.
    "addresses": (
        "select email, holders.customer_id, needs_double_opt_in, is_sendable, may_profile, email in ("
        "select contact_point from marts.contact_point_records where is_blocked) as is_blocked"
        " from activation.sendable_audience left join marts.contact_point_holders as holders"
        " on holders.contact_point_type = 'email' and holders.contact_point = email"
    ),
    # Whom a refusal binds by the key of the contact or contact point that it comes by, and which stand already.
    "bindings": "select identifier_id, customer_id, ended_at from marts.refusal_bindings",
    "suppressed": "select email, suppression_type from marts.suppressed_addresses where purpose = 'marketing'",
    "funnel": "select step_number, step, addresses from activation.audience_funnel",
}
# How customers stand, to show who moved where between releases. It goes nowhere, so it makes no outcome another one.
STATES = "states"
_STATES = "select customer_id, lifecycle_stage, rfm_segment, value_tier, engagement_state from marts.customer_360"
_FREEZING = ".freezing-"
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class SegmentState:
    """A segment in a release.

    Attributes:
        members: customers in it.
        fresh: whether its members are of the release's run; if not, they are kept from before.
        as_of: the instant that its members are of, aware, in UTC; None if it never was good.
        definition: hash of its SQL, and `sql`, that SQL as rendered; None where nobody said.
        cadence: how often it is meant to be made anew: daily, weekly or monthly.
    """

    members: int
    fresh: bool
    as_of: datetime | None
    definition: str | None = None
    sql: str | None = None
    cadence: str = "daily"


@dataclass(frozen=True)
class Release:
    """One release.

    Attributes:
        number: 1, 2, 3 ...
        as_of: the instant it was computed at, aware, in UTC.
        content_hash: over the salted hashes of the rows of its tables; tells equal outcomes.
        counts: rows by table.
        states: its segments, by name.
        previous: the number of the release before it, or None.
        folder: where its files are.
        code_revision: of the checkout that froze it, ending in -dirty where files differed; or the package's version.
        versions: of the models and fits that were in force, by name.
        files: SHA-256 by name of file; empty in layout 1.
        reverts_to: the release whose audiences it brings back; None for one that a refresh made.
        confirmed_at: as_of of the last refresh that found this very outcome.
        outcome: what `freeze` did: new, unchanged (this one was there already), replay (an as_of before the newest
            release's freezes nothing) or held (nor does anything while a rollback is held).
    """

    number: int
    as_of: datetime
    content_hash: str
    counts: dict[str, int]
    states: dict[str, SegmentState]
    previous: int | None
    folder: Path
    code_revision: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    reverts_to: int | None = None
    confirmed_at: datetime | None = None
    layout: int = LAYOUT
    outcome: Outcome = "unchanged"

    @property
    def is_new(self) -> bool:
        return self.outcome == "new"

    @property
    def segments(self) -> dict[str, int]:
        """Members by segment."""
        return {name: state.members for name, state in self.states.items()}

    def file(self, table: str) -> Path:
        """Path of one of its tables, by its name in `TABLES`, or of its `STATES`."""
        return self.folder / f"{table}.parquet"

    def summary(self) -> dict[str, str | int]:
        """Label to value, for people."""
        said = {
            "new": "new",
            "unchanged": "unchanged: nothing differs from it",
            "replay": "nothing frozen: the run's as_of lies before this newest release's",
            "held": f"nothing frozen: held, as rolled back to {self.reverts_to}, until `mailwright releases resume`",
        }
        shown: dict[str, str | int] = {
            "release": self.number,
            "as of": self.as_of.isoformat(timespec="minutes"),
            "outcome": said[self.outcome],
            "sendable contacts": self.counts["profiles"],
            "memberships": self.counts["memberships"],
            "segments": len(self.states),
        }
        if stale := [name for name, state in self.states.items() if not state.fresh]:
            shown["segments kept from before"] = ", ".join(stale)
        return shown

    def describe(self) -> str:
        """Its number, and whether it is held there."""
        return f"{self.number}, held (rolled back to {self.reverts_to})" if self.outcome == "held" else str(self.number)


@dataclass(frozen=True)
class Hold:
    """That a rollback stays the newest release, whatever refreshes find."""

    release: int
    reverts_to: int


def freeze(
    settings: Settings,
    home: Home,
    connection: duckdb.DuckDBPyConnection,
    *,
    as_of: datetime | None = None,
    definitions: Mapping[str, str] | None = None,
    versions: Mapping[str, str] | None = None,
) -> Release:
    """Freeze what the warehouse holds now into the next release, unless nothing changed.

    Args:
        connection: the warehouse, opened by the caller under its lock.
        as_of: aware instant of the run; by default the one of the home's clock.
        definitions: rendered SQL by segment, kept with the release, to tell later who moved because it changed.
        versions: of the models and fits in force, to be kept with the release.

    Returns:
        The new release; or the newest one, with `outcome` saying why nothing was frozen.

    Raises:
        RefreshError: the home has no clock or an address occurs twice.
        WarehouseBusyError: another process makes a release.
    """
    from activation import history, retention, rollback

    as_of = (as_of if as_of is not None else _clock(home)).astimezone(UTC)
    with exclusively(home):
        clear(home)
        history.heal(settings, home)
        newest = latest(home)
        if newest is not None and as_of < newest.as_of:
            return replace(newest, outcome="replay")
        if newest is not None and hold(home) is not None:
            rollback.note_withdrawals(home, newest, connection)
            return replace(newest, outcome="held")
        with Draft(home, newest) as draft:
            for table, query in {**TABLES, STATES: _STATES}.items():
                draft.write(connection, table, query)
            _refuse_doubles(draft.file("profiles"), connection)
            states = _segment_states(connection, draft.file("memberships"), as_of, definitions or {}, newest)
            content_hash = content_hash_of(connection, home, draft.folder, states)
            if newest is not None and content_hash == newest.content_hash:
                _confirm(home, newest, as_of, states)
                retention.prune(settings, home)  # a run that was killed may not have come so far
                return read(home, newest.number)
            made = Release(
                draft.number,
                as_of,
                content_hash,
                draft.counts,
                states,
                newest.number if newest else None,
                draft.folder,
                code_revision=code_revision(settings.project_dir),
                versions=dict(versions or {}),
            )
            history.write(connection, home, made, newest)
            draft.commit(made)
        retention.prune(settings, home)
        return read(home, made.number, outcome="new")


def latest(home: Home) -> Release | None:
    """The newest release, or None when there is none."""
    there = numbers(home)
    return read(home, there[-1]) if there else None


def numbers(home: Home) -> list[int]:
    """Numbers of the releases that are there, ascending."""
    return sorted(int(path.name) for path in home.releases.glob("[0-9]" * 6) if (path / "release.json").exists())


def read(home: Home, number: int, *, outcome: Outcome = "unchanged") -> Release:
    """Read one release's description. Its files are not looked at: see `verify`.

    Raises:
        ReleaseError: there is none of that number, it was removed by retention, or its description can't be read.
    """
    folder = home.releases / f"{number:06}"
    try:
        said: dict[str, Any] = json.loads((folder / "release.json").read_text(encoding="utf-8"))
        said.pop("seal", None)
        said["as_of"] = _instant(said["as_of"])
        segments = said.pop("segments")
        if "layout" not in said:
            said["layout"] = 1
            segments = {name: {"members": members, "fresh": True} for name, members in segments.items()}
        said["states"] = {
            name: SegmentState(
                state["members"],
                state["fresh"],
                (state["as_of"] and _instant(state["as_of"])) if "as_of" in state else said["as_of"],
                state.get("definition"),
                state.get("sql"),
                state.get("cadence", "daily"),
            )
            for name, state in segments.items()
        }
        return _confirmed(home, Release(**said, folder=folder, outcome=outcome))
    except FileNotFoundError:
        raise ReleaseError(_why_missing(home, number)) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReleaseError(f"{folder / 'release.json'} can't be read ({error}): restore it from a backup") from None


def verify(home: Home, release: Release) -> None:
    """Check that a release is as it was frozen: its description by its seal, its files by their hashes.

    Raises:
        ReleaseError: something was changed or is missing; names it.
    """
    wanting = [table for table in TABLES if not release.file(table).exists()]
    if release.layout == 1:
        wanting = [table for table in wanting if table in ("profiles", "memberships", "addresses")]
    if wanting:
        raise ReleaseError(_spoilt(release, f"{wanting[0]}.parquet is missing"))
    if release.layout == 1:
        return
    said = json.loads((release.folder / "release.json").read_text(encoding="utf-8"))
    if not hmac.compare_digest(str(said.pop("seal", "")), _seal(home, said)):
        raise ReleaseError(_spoilt(release, "release.json was changed"))
    for name, expected in release.files.items():
        path = release.folder / name
        if not path.exists():
            raise ReleaseError(_spoilt(release, f"{name} is missing"))
        if sha256_of(path) != expected:
            raise ReleaseError(_spoilt(release, f"{name} was changed"))


def hold(home: Home) -> Hold | None:
    """The hold that is in force, if any: of a rollback that is the newest release."""
    try:
        said = json.loads(_hold_file(home).read_text(encoding="utf-8"))
        found = Hold(int(said["release"]), int(said["reverts_to"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ReleaseError(f"{_hold_file(home)} can't be read ({error}): remove it, and roll back again") from None
    there = numbers(home)
    # One that was killed before its release was there holds nothing.
    return found if there and there[-1] == found.release else None


def set_hold(home: Home, held: Hold) -> None:
    """Have a release held from the moment on that it is there."""
    write_atomically(_hold_file(home), json.dumps({"release": held.release, "reverts_to": held.reverts_to}) + "\n")


def end_hold(home: Home) -> None:
    """Let the next refresh freeze what it finds."""
    _hold_file(home).unlink(missing_ok=True)


@contextmanager
def exclusively(home: Home) -> Iterator[None]:
    """Be the only one who makes or removes releases: that is what keeps their numbers unique."""
    home.releases.mkdir(mode=0o700, parents=True, exist_ok=True)
    with lock.held(home.releases / "releases", wait_seconds=_PATIENCE_SECONDS, what="the making of releases"):
        yield


def clear(home: Home) -> None:
    """Remove what a killed process left: half of a release or file, a hold or changes whose release never came."""
    for left_over in [*home.releases.glob(f"{_FREEZING}*"), *home.releases.glob(".pruning-*")]:
        shutil.rmtree(left_over)
    for folder in (home.releases, home.releases / "history"):
        for half_written in folder.glob(".*.tmp"):
            half_written.unlink()
    there = numbers(home)
    newest = there[-1] if there else 0
    for path in (home.releases / "history").glob("[0-9]*.parquet"):
        if int(path.stem) > newest:
            path.unlink()
    if _hold_file(home).exists() and hold(home) is None:
        end_hold(home)


class Draft:
    """The next release while it is written: a hidden folder that becomes the release by one rename, or goes."""

    def __init__(self, home: Home, newest: Release | None) -> None:
        self._home = home
        self.number = 1 if newest is None else newest.number + 1
        self.folder = home.releases / f"{_FREEZING}{self.number:06}-{os.getpid()}"
        self.counts: dict[str, int] = {}

    def __enter__(self) -> Draft:
        self.folder.mkdir(mode=0o700)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)  # not there any more once it is the release

    def file(self, table: str) -> Path:
        """Path of one of its tables."""
        return self.folder / f"{table}.parquet"

    def write(self, connection: duckdb.DuckDBPyConnection, table: str, query: str) -> None:
        """Write one table, sorted: equal rows make an equal file."""
        copied = connection.execute(
            f"copy (from ({query}) order by all) to '{quoted(self.file(table))}' (format parquet, compression zstd)"
        ).fetchone()
        self.counts[table] = copied[0] if copied else 0

    def copy(self, table: str, release: Release) -> None:
        """Take over a table of another release as it is."""
        shutil.copyfile(release.file(table), self.file(table))
        self.counts[table] = release.counts[table]

    def commit(self, release: Release) -> None:
        """Describe and seal the release, and let it appear."""
        files = {path.name: sha256_of(path) for path in sorted(self.folder.glob("*.parquet"))}
        said: dict[str, Any] = {
            "layout": LAYOUT,
            "number": release.number,
            "as_of": release.as_of.astimezone(UTC).isoformat(),
            "reverts_to": release.reverts_to,
            "previous": release.previous,
            "code_revision": release.code_revision,
            "versions": dict(sorted(release.versions.items())),
            "counts": self.counts,
            "segments": {name: _state_said(state) for name, state in sorted(release.states.items())},
            "content_hash": release.content_hash,
            "files": files,
        }
        said["seal"] = _seal(self._home, said)
        (self.folder / "release.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
        for path in self.folder.iterdir():
            path.chmod(0o400)
            _flush(path)
        _flush(self.folder)
        os.rename(self.folder, self._home.releases / f"{release.number:06}")
        _flush(self._home.releases)


def content_hash_of(
    connection: duckdb.DuckDBPyConnection, home: Home, folder: Path, states: Mapping[str, SegmentState]
) -> str:
    """Hash over the salted row hashes of every table, and which segments are fresh, whatever the order of rows.

    Rows are hashed to 128 bits and the hashes summed, in two halves that can't overflow, so that millions of rows need
    no memory and no sorting. Two outcomes that differ collide with a probability of 2^-128; whoever wanted to bring a
    collision about would have to know the home's salt, and would gain that one release is not made.
    """
    salt = _salt(home).hex()
    digest = hashlib.sha256()
    for table in TABLES:
        path = quoted(folder / f"{table}.parquet")
        columns = [str(row[0]) for row in connection.execute(f"describe from read_parquet('{path}')").fetchall()]
        listed = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
        row = connection.execute(
            "select count(*), sum(cast(row_hash & 18446744073709551615 as hugeint)),"
            " sum(cast(row_hash >> 64 as hugeint))"
            f" from (select md5_number('{salt}' || cast(row({listed}) as varchar)) as row_hash"
            f" from read_parquet('{path}'))"
        ).fetchone()
        digest.update(f"{table}:{','.join(columns)}:{row}\n".encode())
    digest.update(json.dumps({name: state.fresh for name, state in sorted(states.items())}).encode())
    return digest.hexdigest()


def code_revision(root: Path) -> str:
    """What `git describe` calls the checkout, ending in -dirty where files differ; else the package's version."""
    import subprocess
    from importlib.metadata import PackageNotFoundError, version

    if (root / ".git").exists():
        try:
            said = subprocess.run(
                ["git", "-C", str(root), "describe", "--always", "--dirty", "--tags", "--abbrev=12"],
                capture_output=True,
                text=True,
                check=True,
                timeout=30,
            )
            return said.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass  # no git here, or a checkout that is somebody else's: the version has to do
    try:
        return version("mailwright")
    except PackageNotFoundError:
        return "unknown"


def quoted(path: Path) -> str:
    """A path inside single quotes of SQL."""
    return str(path).replace("'", "''")


def _segment_states(
    connection: duckdb.DuckDBPyConnection,
    memberships: Path,
    as_of: datetime,
    definitions: Mapping[str, str],
    newest: Release | None,
) -> dict[str, SegmentState]:
    """What is known of each segment: from activation.segment_status; without that table they are fresh."""
    members: dict[str, int] = dict(
        connection.execute(f"select segment, count(*) from read_parquet('{quoted(memberships)}') group by 1").fetchall()
    )
    known: dict[str, tuple[bool, datetime | None, str]] = {}
    if has_table(connection, "segment_status"):
        rows = connection.execute("select segment, is_fresh, as_of, cadence from activation.segment_status").fetchall()
        known = {
            segment: (bool(is_fresh), moment.replace(tzinfo=UTC) if moment else None, cadence)
            for segment, is_fresh, moment, cadence in rows
        }
    found = {}
    for name in sorted({*members, *known}):
        fresh, moment, cadence = known.get(name, (True, as_of, "daily"))
        before = newest.states.get(name) if newest is not None else None
        if fresh or before is None:
            sql = definitions.get(name)
            definition = hashlib.sha256(sql.encode()).hexdigest() if sql is not None else None
        else:  # members are kept from before, and so is what they were found by
            sql, definition = before.sql, before.definition
        found[name] = SegmentState(members.get(name, 0), fresh, moment, definition, sql, cadence)
    return found


def has_table(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Whether the warehouse has that table or view in its schema `activation`."""
    found = connection.execute(
        "select 1 from information_schema.tables where table_schema = 'activation' and table_name = ?", [name]
    )
    return found.fetchone() is not None


def _confirm(home: Home, release: Release, as_of: datetime, states: Mapping[str, SegmentState]) -> None:
    """Note that a later refresh found the same outcome, and how fresh its segments are; the release stays as it is."""
    said = {
        "release": release.number,
        "as_of": as_of.isoformat(),
        "segments": {name: _state_said(state) for name, state in sorted(states.items())},
    }
    write_atomically(home.releases / "confirmed.json", json.dumps(said, indent=2) + "\n")


def _confirmed(home: Home, release: Release) -> Release:
    try:
        said = json.loads((home.releases / "confirmed.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return release
    if said["release"] != release.number:
        return release
    states = {
        name: replace(
            state, fresh=later["fresh"], as_of=later["as_of"] and _instant(later["as_of"]), cadence=later["cadence"]
        )
        if (later := said["segments"].get(name))
        else state
        for name, state in release.states.items()
    }
    return replace(release, states=states, confirmed_at=_instant(said["as_of"]))


def _state_said(state: SegmentState) -> dict[str, Any]:
    return {
        "members": state.members,
        "fresh": state.fresh,
        "as_of": state.as_of.isoformat() if state.as_of is not None else None,
        "cadence": state.cadence,
        "definition": state.definition,
        "sql": state.sql,
    }


def _instant(said: str) -> datetime:
    return datetime.fromisoformat(said)


def _salt(home: Home) -> bytes:
    """The home's secret: made once, random. Without it nobody can tell from a hash what was hashed."""
    path = home.releases / "salt"
    if not path.exists():
        with replacing(path) as beside:
            beside.touch(mode=0o600)
            beside.write_bytes(secrets.token_bytes(32))
    return path.read_bytes()


def _seal(home: Home, said: Mapping[str, Any]) -> str:
    return hmac.new(_salt(home), json.dumps(said, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _hold_file(home: Home) -> Path:
    return home.releases / "hold.json"


def _why_missing(home: Home, number: int) -> str:
    there = numbers(home)
    if there and 0 < number < there[-1]:
        return (
            f"release {number} is no longer kept: there are {len(there)}, from {there[0]} to {there[-1]}"
            " (MAILWRIGHT_RELEASES_KEPT says how many)"
        )
    newest = f"; the newest is {there[-1]}" if there else ": run `mailwright refresh`"
    return f"there is no release {number} in {home.releases}{newest}"


def _spoilt(release: Release, what: str) -> str:
    return (
        f"release {release.number} is not as it was frozen: {what} in {release.folder}. Restore the folder from a"
        " backup; if it is the newest release, you may delete it and run `mailwright refresh` instead"
    )


def _refuse_doubles(profiles: Path, connection: duckdb.DuckDBPyConnection) -> None:
    row = connection.execute(
        f"select count(*) - count(distinct email) from read_parquet('{quoted(profiles)}')"
    ).fetchone()
    if row != (0,):
        raise RefreshError(
            f"activation.sync_profiles holds {row[0] if row else 0} addresses more than once or without a value:"
            " nothing is frozen; its grain is one row per address"
        )


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clock(home: Home) -> datetime:
    try:
        return datetime.fromisoformat(json.loads(home.clock.read_text())["as_of"]).replace(tzinfo=UTC)
    except (FileNotFoundError, ValueError, KeyError):
        raise RefreshError(f"{home.clock} is missing or unreadable: run `mailwright refresh`") from None
