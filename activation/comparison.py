"""What differs between two releases, in numbers: segments' sizes, who entered and left and why, profiles and fields."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from activation import history, releases
from activation.releases import Release, quoted
from core.home import Home
from core.settings import Settings
from core.warehouse import in_memory

if TYPE_CHECKING:
    import duckdb

# Columns of a profile that are no field of it.
_KEYS = ("email", "customer_id", "segments")


@dataclass(frozen=True)
class SegmentChange:
    """How a segment differs.

    Attributes:
        before, after: members; None where the release has no such segment.
        causes: of entries and exits together, by word; what nothing is known of is left out.
    """

    segment: str
    before: int | None
    after: int | None
    entered: int
    left: int
    causes: dict[str, int]


@dataclass(frozen=True)
class Comparison:
    """How a release differs from another.

    Attributes:
        before, after: their numbers.
        segments: every segment of either, in alphabetical order.
        fields: profiles in both whose field differs, by field.
        profiles_added, profiles_removed: addresses in one of them only.
    """

    before: int
    after: int
    segments: list[SegmentChange]
    fields: dict[str, int]
    profiles_added: int
    profiles_removed: int
    profiles_kept: int

    @property
    def is_empty(self) -> bool:
        return (
            not self.fields
            and self.profiles_added == self.profiles_removed == 0
            and not any(segment.entered or segment.left for segment in self.segments)
        )


def compare(settings: Settings, home: Home, before: int, after: int) -> Comparison:
    """Compare two releases, with the causes that the history has of what lies between them.

    Raises:
        ReleaseError: one of them is not there, or is not as it was frozen.
    """
    first, second = releases.read(home, before), releases.read(home, after)
    releases.verify(home, first)
    releases.verify(home, second)
    with in_memory(settings) as connection:
        return between(connection, home, first, second)


def between(connection: duckdb.DuckDBPyConnection, home: Home, before: Release, after: Release) -> Comparison:
    """Compare two releases, of which the second may still be a draft. The connection is one in memory."""
    for name, release in (("before", before), ("after", after)):
        for table in ("profiles", "memberships"):
            connection.execute(f"create view {name}_{table} as from read_parquet('{quoted(release.file(table))}')")
    history.changes_view(connection, home, "known_changes")
    rows = connection.execute(
        """
        with moved as (
            select customer_id, segment, 'entered' as change from after_memberships
            anti join before_memberships using (customer_id, segment)
            union all
            select customer_id, segment, 'left' from before_memberships
            anti join after_memberships using (customer_id, segment)
        ),
        -- The last time that one moved this way tells why.
        reasons as (
            select customer_id, segment, change, arg_max(cause, release) as cause
            from known_changes
            where release > $first and release <= $last and cause is not null
            group by customer_id, segment, change
        )
        select segment, change, cause, count(*)
        from moved
        left join reasons using (customer_id, segment, change)
        group by segment, change, cause
        order by segment, change, count(*) desc, cause
        """,
        {"first": before.number, "last": after.number},
    ).fetchall()
    moves: Counter[tuple[str, str]] = Counter()
    causes: dict[str, Counter[str]] = {}
    for segment, change, cause, count in rows:
        moves[segment, change] += count
        if cause is not None:
            causes.setdefault(segment, Counter())[cause] += count
    names = sorted({*before.segments, *after.segments, *(segment for segment, _ in moves)})
    segments = [
        SegmentChange(
            name,
            before.segments.get(name),
            after.segments.get(name),
            moves[name, "entered"],
            moves[name, "left"],
            dict(causes.get(name, Counter()).most_common()),
        )
        for name in names
    ]
    added, removed, kept = _profiles(connection)
    return Comparison(before.number, after.number, segments, _fields(connection), added, removed, kept)


def _profiles(connection: duckdb.DuckDBPyConnection) -> tuple[int, int, int]:
    row = connection.execute("""
        select
            count(*) filter (where before_profiles.email is null),
            count(*) filter (where after_profiles.email is null),
            count(*) filter (where before_profiles.email = after_profiles.email)
        from before_profiles
        full join after_profiles on before_profiles.email = after_profiles.email
    """).fetchone()
    return (int(row[0]), int(row[1]), int(row[2])) if row else (0, 0, 0)


def _fields(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    columns = {
        name: [str(row[0]) for row in connection.execute(f"describe {name}_profiles").fetchall()]
        for name in ("before", "after")
    }
    names = [name for name in dict.fromkeys([*columns["before"], *columns["after"]]) if name not in _KEYS]
    if not names:
        return {}

    def value(side: str, name: str) -> str:
        escaped = name.replace('"', '""')
        return f'cast({side}_profiles."{escaped}" as varchar)' if name in columns[side] else "null"

    counted = ", ".join(
        f"count(*) filter (where {value('before', name)} is distinct from {value('after', name)})" for name in names
    )
    row = connection.execute(
        f"select {counted} from before_profiles inner join after_profiles on before_profiles.email = after_profiles.email"
    ).fetchone()
    return {name: int(count) for name, count in zip(names, row or (), strict=True) if count}
