"""Releases: numbered, immutable sets of who may be mailed, with which fields and in which segments.

Everything after the warehouse reads a release and nothing else: planning, explaining and comparing never open the
warehouse, so they never wait for a refresh.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core.errors import PlanError, RefreshError
from core.home import Home
from core.settings import Settings

if TYPE_CHECKING:
    import duckdb

Outcome = Literal["new", "unchanged", "replay"]

# File in the release -> what is read from the warehouse for it.
TABLES = {
    "profiles": "select * from activation.sync_profiles",
    "memberships": "select customer_id, segment from activation.segment_memberships",
    # Whose an address is, also of those that may not be mailed: a refusal binds the person. Shared ones have several.
    "addresses": (
        "select email, holders.customer_id, needs_double_opt_in, email in ("
        "select contact_point from marts.contact_point_records where is_blocked) as is_blocked"
        " from activation.sendable_audience left join marts.contact_point_holders as holders"
        " on holders.contact_point_type = 'email' and holders.contact_point = email"
    ),
    # Whom a refusal binds by the key of the contact or contact point that it comes by, and which stand already.
    "bindings": "select identifier_id, customer_id, ended_at from marts.refusal_bindings",
    "suppressed": "select email, suppression_type from marts.suppressed_addresses where purpose = 'marketing'",
    "funnel": "select step_number, step, addresses from activation.audience_funnel",
}
_FREEZING = ".freezing-"


@dataclass(frozen=True)
class Release:
    """One release.

    Attributes:
        number: 1, 2, 3 ...
        as_of: the instant it was computed at, aware, in UTC.
        content_hash: hash over the sorted rows of all its tables.
        counts: rows by table.
        segments: members by segment.
        previous: the number of the release before it, or None.
        folder: where its files are.
        outcome: what `freeze` did: new, unchanged (this one was there already) or replay (an as_of before the newest
            release's freezes nothing).
    """

    number: int
    as_of: datetime
    content_hash: str
    counts: dict[str, int]
    segments: dict[str, int]
    previous: int | None
    folder: Path
    outcome: Outcome = "unchanged"

    @property
    def is_new(self) -> bool:
        return self.outcome == "new"

    def file(self, table: str) -> Path:
        """Path of one of its tables, by its name in `TABLES`."""
        return self.folder / f"{table}.parquet"

    def summary(self) -> dict[str, str | int]:
        """Label to value, for people."""
        said = {
            "new": "new",
            "unchanged": "unchanged: nothing differs from it",
            "replay": "nothing frozen: the run's as_of lies before this newest release's",
        }
        return {
            "release": self.number,
            "as of": self.as_of.isoformat(timespec="minutes"),
            "outcome": said[self.outcome],
            "sendable contacts": self.counts["profiles"],
            "memberships": self.counts["memberships"],
            "segments": len(self.segments),
        }


def freeze(
    settings: Settings, home: Home, connection: duckdb.DuckDBPyConnection, *, as_of: datetime | None = None
) -> Release:
    """Freeze what the warehouse holds now into the next release, unless nothing changed.

    Args:
        connection: the warehouse, opened by the caller under its lock; holding that lock is what keeps numbers unique.
        as_of: aware instant of the run; by default the one of the home's clock.

    Returns:
        The new release; or the newest one, with `outcome` saying why nothing was frozen.

    Raises:
        RefreshError: the home has no clock or an address occurs twice.
    """
    as_of = as_of if as_of is not None else _clock(home)
    newest = latest(home)
    if newest is not None and as_of < newest.as_of:
        return _with_outcome(newest, "replay")
    home.releases.mkdir(parents=True, exist_ok=True)
    for left_over in home.releases.glob(f"{_FREEZING}*"):
        shutil.rmtree(left_over)
    content_hash = _content_hash(connection)
    if newest is not None and content_hash == newest.content_hash:
        return newest
    _refuse_doubles(connection)
    number = 1 if newest is None else newest.number + 1
    beside = home.releases / f"{_FREEZING}{number:06}-{os.getpid()}"
    beside.mkdir(mode=0o700)
    counts: dict[str, int] = {}
    for table, query in TABLES.items():
        path = beside / f"{table}.parquet"
        copied = connection.execute(f"copy ({query} order by all) to '{_quoted(path)}' (format parquet)").fetchone()
        counts[table] = copied[0] if copied else 0
    segments = connection.execute(f"select segment, count(*) from ({TABLES['memberships']}) group by 1 order by 1")
    release = Release(
        number, as_of, content_hash, counts, dict(segments.fetchall()), newest.number if newest else None, beside, "new"
    )
    said = {key: value for key, value in asdict(release).items() if key not in ("folder", "outcome")}
    said["as_of"] = as_of.astimezone(UTC).isoformat()
    (beside / "release.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    for path in beside.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        path.chmod(0o400)
    final = home.releases / f"{number:06}"
    os.rename(beside, final)
    return read(home, number, outcome="new")


def latest(home: Home) -> Release | None:
    """The newest release, or None when there is none."""
    numbers = [int(path.name) for path in home.releases.glob("[0-9]" * 6) if (path / "release.json").exists()]
    return read(home, max(numbers)) if numbers else None


def read(home: Home, number: int, *, outcome: Outcome = "unchanged") -> Release:
    """Read one release.

    Raises:
        PlanError: there is none of that number, or its description can't be read.
    """
    folder = home.releases / f"{number:06}"
    try:
        said: dict[str, Any] = json.loads((folder / "release.json").read_text(encoding="utf-8"))
        said["as_of"] = datetime.fromisoformat(said["as_of"])
        return Release(**said, folder=folder, outcome=outcome)
    except FileNotFoundError:
        raise PlanError(f"there is no release {number} in {home.releases}: run `mailwright refresh`") from None
    except (ValueError, KeyError, TypeError) as error:
        raise PlanError(f"{folder / 'release.json'} can't be read ({error}): restore it from a backup") from None


def _with_outcome(release: Release, outcome: Outcome) -> Release:
    return Release(**{**{name: getattr(release, name) for name in release.__dataclass_fields__}, "outcome": outcome})


def _content_hash(connection: duckdb.DuckDBPyConnection) -> str:
    """Hash over the sorted rows of every table: equal content gives an equal hash, whatever the order of rows."""
    import hashlib

    digest = hashlib.sha256()
    for table, query in TABLES.items():
        row = connection.execute(
            "select md5(string_agg(row_hash, '' order by row_hash))"
            f" from (select md5(cast(to_json(said) as varchar)) as row_hash from ({query}) as said)"
        ).fetchone()
        digest.update(f"{table}:{row[0] if row else None}\n".encode())
    return digest.hexdigest()


def _refuse_doubles(connection: duckdb.DuckDBPyConnection) -> None:
    row = connection.execute("select count(*) - count(distinct email) from activation.sync_profiles").fetchone()
    if row != (0,):
        raise RefreshError(
            f"activation.sync_profiles holds {row[0] if row else 0} addresses more than once or without a value:"
            " nothing is frozen; its grain is one row per address"
        )


def _clock(home: Home) -> datetime:
    try:
        return datetime.fromisoformat(json.loads(home.clock.read_text())["as_of"]).replace(tzinfo=UTC)
    except (FileNotFoundError, ValueError, KeyError):
        raise RefreshError(f"{home.clock} is missing or unreadable: run `mailwright refresh`") from None


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
