"""Emergency drops: the whole audience as files, written when a destination is down past its sync's deadline.

So that a campaign can go out by import. A drop has the contacts with their mapped fields and tags, and beside them a
suppression with everybody who must not be mailed; both expire. Here is also kept since when a destination is down, from
the first apply that failed to the first that came through, and until when a sync that runs by itself tries again.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from activation import desired, drop_files, releases, rollback
from activation.consent import refusals
from activation.drop_files import Folder
from activation.ledger import Ledger
from activation.sync import Sync
from core.errors import DestinationError
from core.files import write_atomically
from core.home import Home
from core.settings import Settings
from core.warehouse import in_memory

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

AUDIENCE, SUPPRESSION = "audience", "suppression"
# People go on withdrawing: who imports later takes a newer drop.
_KEPT = timedelta(hours=24)
_WRITING = timedelta(hours=1)


class PastDeadlineError(DestinationError):
    """A destination is down past its deadline. Recovery: import the drop that is named; apply when it is back."""


@dataclass(frozen=True)
class Drop:
    """One emergency drop.

    Attributes:
        folder: where its files are.
        expires_at: after it the drop must not be imported any more.
    """

    folder: Path
    contacts: int
    suppressed: int
    expires_at: datetime


def write(settings: Settings, home: Home, sync: Sync, ledger: Ledger, target: str, release: int, now: datetime) -> Drop:
    """Write the audience of a release for a sync's destination, less whoever refused up to this moment.

    A drop of that release which has not expired is replaced: refusals come in all the time. Drops of any destination that
    have expired are deleted.

    Raises:
        DestinationError: the files can't be written.
        ReleaseError: the release is not there any more.
    """
    found = releases.read(home, release)
    clear_expired(home, now)
    place = _folder(home) / f"{sync.name}-{release:06}"
    expires_at = now + min(_KEPT, sync.expires)
    refused = refusals(settings, home, found)
    with in_memory(settings) as connection:
        connection.register("known", ledger.rows(target))
        connection.register("refused", _refused(refused.kinds))
        rollback.create_profiles(connection, home, found)
        for table in ("addresses", "funnel"):
            connection.execute(f"create view {table} as from read_parquet('{releases.quoted(found.file(table))}')")
        should = desired.create(connection, found, sync)
        audience = _audience(connection, sync, should)
        suppression: pa.Table = connection.sql(
            "select email, kind as reason from refused order by email"
        ).to_arrow_table()
    folder = Folder(str(place))
    # First what takes away, so that no audience ever lies there without it.
    about = {"destination": sync.name, "release": str(release)}
    drop_files.write_table(
        folder, SUPPRESSION, suppression, kind="suppression", made_at=now, expires_at=None, about=about
    )
    drop_files.write_table(
        folder,
        AUDIENCE,
        audience,
        kind="audience",
        made_at=now,
        expires_at=expires_at,
        about={**about, "suppression": f"apply {SUPPRESSION} after importing this"},
    )
    return Drop(place, audience.num_rows, suppression.num_rows, expires_at)


def clear_expired(home: Home, now: datetime) -> list[str]:
    """Delete drops that have expired, and ones that were never finished; returns their names."""
    gone = []
    for place in sorted(_folder(home).glob("*/")):
        manifest = drop_files.read_manifest(Folder(str(place)), AUDIENCE)
        if manifest is None:
            # Another process may be writing it just now.
            is_over = now.timestamp() - place.stat().st_mtime > _WRITING.total_seconds()
        else:
            is_over = manifest.expires_at is None or manifest.expires_at <= now
        if is_over:
            shutil.rmtree(place)
            gone.append(place.name)
    return gone


def note_down(home: Home, name: str, now: datetime) -> datetime:
    """Note that a sync's destination did not take a plan; returns since when that is so."""
    if (since := down_since(home, name)) is not None:
        return since
    _write_down(home, name, {"since": now})
    return now


def note_retried(home: Home, name: str, until: datetime | None) -> None:
    """Note until when a destination that is down is tried again; None: not any more."""
    if (since := down_since(home, name)) is not None:
        _write_down(home, name, {"since": since} | ({"retried_until": until} if until is not None else {}))


def note_up(home: Home, name: str) -> None:
    """Note that it took one."""
    _down_file(home, name).unlink(missing_ok=True)


def down_since(home: Home, name: str) -> datetime | None:
    """Since when a sync's destination takes no plan; None where it does."""
    return _read_down(home, name).get("since")


def is_retried(home: Home, name: str, now: datetime) -> bool:
    """Whether a sync's destination is down and to be tried again."""
    until = _read_down(home, name).get("retried_until")
    return until is not None and now < until


def _read_down(home: Home, name: str) -> dict[str, datetime]:
    try:
        said: dict[str, str] = json.loads(_down_file(home, name).read_text(encoding="utf-8"))
        return {what: datetime.fromisoformat(moment) for what, moment in said.items()}
    except (FileNotFoundError, ValueError, AttributeError, TypeError):
        return {}


def _write_down(home: Home, name: str, moments: dict[str, datetime]) -> None:
    _folder(home).mkdir(mode=0o700, parents=True, exist_ok=True)
    said = {what: moment.astimezone(UTC).isoformat() for what, moment in moments.items()}
    write_atomically(_down_file(home, name), json.dumps(said) + "\n")


def _audience(connection: duckdb.DuckDBPyConnection, sync: Sync, should: desired.Desired) -> pa.Table:
    """Everybody who should be there, with fields under the platform's names; tags of segments that are too old stay out."""
    import pyarrow as pa

    blocked = {sync.tag_of(segment) for segment in should.stale}
    combinations = sorted(should.tags)
    connection.register(
        "shown_tags",
        pa.table({
            "combination": pa.array(combinations, pa.int32()),
            "tags": pa.array([sorted(should.tags[one] - blocked) for one in combinations], pa.list_(pa.string())),
        }),
    )  # fmt: skip
    fields = [
        f"cast(profiles.{desired.quoted_name(mapped.column)} as varchar) as {desired.quoted_name(mapped.name)}"
        for mapped in should.fields
        if mapped.column != "email"
    ]
    found: pa.Table = connection.sql(f"""
        select {", ".join(["lower(hex(desired.key)) as key", "desired.email", "desired.customer_id", *fields])},
            shown_tags.tags as segments
        from desired
        inner join profiles using (email)
        left join shown_tags using (combination)
        where desired.reason is null
        order by desired.email
    """).to_arrow_table()
    return found


def _refused(kinds: dict[str, str]) -> pa.Table:
    import pyarrow as pa

    return pa.table({"email": pa.array(kinds.keys(), pa.string()), "kind": pa.array(kinds.values(), pa.string())})


def _folder(home: Home) -> Path:
    return home.plans / "drops"


def _down_file(home: Home, name: str) -> Path:
    return _folder(home) / f"{name}.down.json"
