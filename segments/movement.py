"""Why an audience moved since the last release.

A membership that began or ended has one cause, the first of these that holds: the definition changed, and the old one
would have it otherwise on today's data; the customer's identity did, by a merge or split; data about the past came in
late or were corrected; a permission changed; something new happened; else time passed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.home import Home
from segments.data import evaluate, referring, relations_of
from segments.versions import is_same, refs_of

if TYPE_CHECKING:
    import duckdb

CAUSES = ("definition", "identity", "data", "consent", "behaviour", "clock")
CAUSES_TABLE = "activation.membership_causes"
CHANGES = "customer_changes"
_FLAGS = ("has_identity_change", "has_late_data", "has_consent_change", "has_new_activity")


@dataclass(frozen=True)
class Released:
    """The newest release, as its files say.

    Attributes:
        as_of: aware instant that it was computed at, in UTC.
        memberships: the file of (customer_id, segment).
        segments: names of those that it knows.
        definitions: rendered SQL by segment, of those whose definition it kept.
    """

    number: int
    as_of: datetime
    memberships: Path
    segments: frozenset[str]
    definitions: Mapping[str, str]


@dataclass(frozen=True)
class Movement:
    """How many customers entered and left a segment, by cause, since a release."""

    release: int
    as_of: datetime
    entered: Mapping[str, int]
    left: Mapping[str, int]

    def describe(self) -> str:
        """One line for people."""
        said = [
            f"{sum(counts.values()):,} {verb}" + (f" ({_causes(counts)})" if counts else "")
            for verb, counts in (("entered", self.entered), ("left", self.left))
        ]
        return f"since release {self.release}: {', '.join(said)}"


def newest_release(home: Home) -> Released | None:
    """The newest release, or None before the first one, and in a copy of a home that holds no memberships."""
    numbers = [int(path.name) for path in home.releases.glob("[0-9]" * 6) if (path / "release.json").exists()]
    if not numbers:
        return None
    folder = home.releases / f"{max(numbers):06}"
    if not (folder / "memberships.parquet").exists():
        return None
    said: dict[str, Any] = json.loads((folder / "release.json").read_text(encoding="utf-8"))
    segments: Mapping[str, Any] = said["segments"]
    kept = {name: one.get("sql") for name, one in segments.items() if isinstance(one, dict)}
    return Released(
        max(numbers),
        datetime.fromisoformat(said["as_of"]).astimezone(UTC),
        folder / "memberships.parquet",
        frozenset(segments),
        {name: sql for name, sql in kept.items() if sql},
    )


def attribute(connection: duckdb.DuckDBPyConnection, home: Home, definitions: Mapping[str, str]) -> int:
    """Write `activation.membership_causes`: what moved since the newest release, and why, for the next one to keep.

    Columns are customer_id, segment, change (entered or left) and cause. The table is written whole, and is empty before
    the first release.

    Args:
        connection: the warehouse, after `activation` was built, opened by the caller under its lock.
        definitions: rendered SQL by segment (`segments.versions.definitions`).

    Returns:
        How many memberships moved.
    """
    connection.execute("create schema if not exists activation")
    connection.execute(
        f"create or replace table {CAUSES_TABLE} (customer_id varchar, segment varchar, change varchar, cause varchar)"
    )
    released = newest_release(home)
    if released is None:
        return 0
    present = relations_of(connection)
    needed = {name for sql in (*released.definitions.values(), *definitions.values()) for name in refs_of(sql)}
    with referring(connection, {name: source for name, source in present.items() if name in needed}):
        explain_moves(
            connection,
            released,
            members="activation.segment_memberships",
            definitions=definitions,
            customers="marts.dim_customers",
            changes=present.get(CHANGES),
            out="moved_memberships",
        )
    found = connection.execute(
        f"insert into {CAUSES_TABLE} select customer_id, segment, change, cause from moved_memberships order by all"
    ).fetchone()
    connection.execute("drop table moved_memberships")
    return int(found[0]) if found else 0


def explain_moves(
    connection: duckdb.DuckDBPyConnection,
    released: Released,
    *,
    members: str,
    definitions: Mapping[str, str],
    customers: str,
    changes: str | None,
    out: str,
    only: Collection[str] | None = None,
) -> None:
    """Make the temporary table `out` (customer_id, segment, change, cause) of what moved since a release.

    Args:
        connection: offers relations as `ref.<name>`.
        members: relation of (customer_id, segment), as it is now.
        definitions: rendered SQL by segment, as it is now.
        customers: relation of all customer_ids that there are now.
        changes: relation of `customer_changes` since that release; without it nothing is known but definitions.
        only: segments to look at; by default all.
    """
    path = str(released.memberships).replace("'", "''")
    among = "" if only is None else f"where segment in ({', '.join(map(_literal, sorted(only))) or 'null'})"
    connection.execute(
        f"""
        create or replace temp table mailwright_moved as
        select
            coalesce(now.customer_id, before.customer_id) as customer_id,
            coalesce(now.segment, before.segment) as segment,
            case when before.customer_id is null then 'entered' else 'left' end as change
        from (select distinct customer_id, segment from {members} {among}) as now
        full join (select customer_id, segment from read_parquet('{path}') {among}) as before
            on now.customer_id = before.customer_id and now.segment = before.segment
        where now.customer_id is null or before.customer_id is null
        """
    )
    connection.execute("create or replace temp table mailwright_redefined (customer_id varchar, segment varchar)")
    moved = connection.execute("select distinct segment from mailwright_moved order by segment").fetchall()
    for (name,) in moved:
        _redefined(connection, released, name, definitions.get(name))
    flags = (
        f"select customer_id, {', '.join(_FLAGS)} from {changes}"
        if changes
        else f"select null as customer_id, {', '.join(f'false as {flag}' for flag in _FLAGS)} where false"
    )
    connection.execute(
        f"""
        create or replace temp table {out} as
        select
            moved.customer_id,
            moved.segment,
            moved.change,
            case
                when redefined.customer_id is not null then 'definition'
                when customers.customer_id is null or changes.has_identity_change then 'identity'
                when changes.has_late_data then 'data'
                when changes.has_consent_change then 'consent'
                when changes.has_new_activity then 'behaviour'
                else 'clock'
            end as cause
        from mailwright_moved as moved
        left join mailwright_redefined as redefined
            on moved.customer_id = redefined.customer_id and moved.segment = redefined.segment
        left join (select distinct customer_id from {customers}) as customers
            on moved.customer_id = customers.customer_id
        left join ({flags}) as changes on moved.customer_id = changes.customer_id
        """
    )
    for table in ("mailwright_moved", "mailwright_redefined"):
        connection.execute(f"drop table {table}")


def counted(connection: duckdb.DuckDBPyConnection, table: str, released: Released) -> dict[str, Movement]:
    """Movements by segment, from a table that `explain_moves` made."""
    rows = connection.execute(f"select segment, change, cause, count(*) from {table} group by all").fetchall()
    return {
        name: Movement(
            released.number,
            released.as_of,
            *(
                _ordered({cause: count for segment, said, cause, count in rows if (segment, said) == (name, change)})
                for change in ("entered", "left")
            ),
        )
        for name in sorted({row[0] for row in rows})
    }


def _redefined(connection: duckdb.DuckDBPyConnection, released: Released, name: str, sql: str | None) -> None:
    """Note whom of the moved the definition moved: all, if there is none on one side, else whom the old one has there."""
    import duckdb

    all_moved = "insert into mailwright_redefined select customer_id, segment from mailwright_moved where segment = $1"
    before = released.definitions.get(name)
    if name not in released.segments or sql is None:
        connection.execute(all_moved, [name])
        return
    if before is None or is_same(before, sql):
        return
    try:
        evaluate(connection, before, "mailwright_old_members")
    except duckdb.Error:  # it refs what is no more: on today's data it has no answer
        connection.execute(all_moved, [name])
        return
    connection.execute(
        """
        insert into mailwright_redefined
        select moved.customer_id, moved.segment
        from mailwright_moved as moved
        left join mailwright_old_members as old_members on moved.customer_id = old_members.customer_id
        where moved.segment = $1 and (moved.change = 'entered') = (old_members.customer_id is null)
        """,
        [name],
    )
    connection.execute("drop table mailwright_old_members")


def _causes(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{cause} {count:,}" for cause, count in counts.items())


def _ordered(counts: Mapping[str, int]) -> dict[str, int]:
    ranks: Sequence[str] = CAUSES
    return {cause: counts[cause] for cause in ranks if cause in counts}


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
