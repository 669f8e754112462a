"""What a change of segments does: old and new definition on the same data and as_of.

Reads published marts; only a segment that refs what is not published has the warehouse opened. Shows counts and masked
ids, no personal data.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from core.home import Home
from core.settings import Settings
from segments import anatomy, markdown, movement
from segments.data import CUSTOMERS, Data, Place, evaluate, open_data, said_of
from segments.versions import Comparison, Difference, Kind, Version, compare, refs_of

if TYPE_CHECKING:
    import duckdb

    from segments.backtest import Backtest

DBT_PROJECT = "dbt_project"
SAMPLE = 5
OVERLAPS_MAX = 8  # other segments that are shown for one

_MEMBERS = "mailwright_reviewed"  # (segment, side, customer_id); side is before, after or both
_BEFORE, _AFTER = "mailwright_before", "mailwright_after"


@dataclass(frozen=True)
class Overlap:
    """Customers that a segment shares with another one, before and after."""

    other: str
    before: int
    after: int


@dataclass(frozen=True)
class SegmentChange:
    """One segment that differs.

    Attributes:
        before: customers by the old definition; None where there is none, or it does not run.
        after: by the new one.
        stayed: in both.
        overlaps: with other segments, where it changed.
        entered_sample: some ids of those that enter, masked.
        left_sample: of those that leave.
        notes: what a reviewer should see: a size out of its range, doubles, a definition that does not run.
        moved: since the newest release, by cause; None without one.
    """

    difference: Difference
    before: int | None
    after: int | None
    entered: int = 0
    left: int = 0
    stayed: int = 0
    overlaps: tuple[Overlap, ...] = ()
    entered_sample: tuple[str, ...] = ()
    left_sample: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    moved: movement.Movement | None = None

    @property
    def name(self) -> str:
        return self.difference.name

    @property
    def kind(self) -> Kind:
        return self.difference.kind

    @property
    def share(self) -> float | None:
        """Customers in both per customer in either (Jaccard index); None where neither definition has any."""
        either = self.entered + self.left + self.stayed
        return self.stayed / either if either else None


@dataclass(frozen=True)
class SegmentDiff:
    """Every segment that differs between a revision and the working tree.

    Attributes:
        revision: (as given, commit).
        as_of: aware instant of the data, in UTC.
        place: where the definitions were evaluated.
        reason: why not on the published marts.
        left_out: other segments that take no part in the overlaps, with the reason.
        backtests: by segment, if asked for.
    """

    revision: tuple[str, str]
    as_of: datetime
    timezone: str
    place: Place
    reason: str | None
    changes: tuple[SegmentChange, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    backtests: Mapping[str, Backtest] = field(default_factory=dict)

    @property
    def data(self) -> str:
        """What the definitions were evaluated on, for people."""
        local = self.as_of.astimezone(ZoneInfo(self.timezone))
        where = "published marts" if self.place == "published" else f"the warehouse, as {self.reason}"
        return f"{where}, as of {local:%Y-%m-%d %H:%M}"

    def rows(self) -> list[tuple[str, ...]]:
        """One row per segment under `HEADER`."""
        return [
            (
                change.name,
                {"metadata": "metadata only"}.get(change.kind, change.kind)
                + (" by a var or macro" if change.difference.is_indirect else ""),
                _count(change.before),
                _count(change.after),
                f"{change.entered:,}",
                f"{change.left:,}",
                f"{change.stayed:,}",
                "" if change.share is None else f"{change.share:.1%}",
            )
            for change in self.changes
        ]

    def markdown(self) -> str:
        """The whole of it for a pull request."""
        given, commit = self.revision
        lines = ["## Segments that change", ""]
        if not self.changes:
            return "\n".join([*lines, f"None, compared with `{given}` ({commit[:10]}).", ""])
        lines += [f"Compared with `{given}` ({commit[:10]}), on {self.data}.", ""]
        lines += markdown.table(HEADER, self.rows())
        for change in self.changes:
            lines += ["", f"### {change.name}", "", *_details(change)]
            if backtest := self.backtests.get(change.name):
                lines += ["", *backtest.markdown()]
        lines += [f"\nNot in the overlaps: {name} ({reason})" for name, reason in sorted(self.left_out.items())]
        return "\n".join([*lines, ""])


HEADER = ("segment", "change", "before", "after", "entered", "left", "stayed", "in both of either")


def diff(
    settings: Settings,
    home: Home,
    revision: str = "HEAD",
    names: Collection[str] | None = None,
    *,
    sample: int = SAMPLE,
    backtest: bool = False,
    notify: Callable[[str], None] | None = None,
) -> SegmentDiff:
    """Compare the segments of a git revision with those of the working tree.

    Args:
        names: only these segments; by default all.
        sample: how many masked ids to show of those that enter and of those that leave.
        backtest: replay both definitions over the past as well (see `segments.backtest`).
        notify: told what takes long, or has to be waited for.

    Raises:
        MailwrightError: no repository, no such revision or segment, or nothing is published yet.
        WarehouseBusyError: the warehouse is needed, and another process has it.
    """
    compared = compare(settings.project_dir / DBT_PROJECT, revision, home.timezone, names)
    changed = [one for one in compared.differences if one.kind != "metadata"]
    queries = [version.sql for one in changed for version in (one.before, one.after) if version and version.sql]
    others = [version.sql for version in compared.after.values() if version.sql]
    also = {name for sql in others for name in refs_of(sql)} | {movement.CHANGES}
    with open_data(settings, home, queries, also=also, notify=notify) as data:
        review = _Review(data, home, compared, sample)
        changes = tuple(review.changes())
        found = SegmentDiff(
            compared.revision, data.as_of, home.timezone, data.place, data.reason, changes, review.left_out
        )
    if not backtest or not changed:
        return found
    from dataclasses import replace

    from segments.backtest import replay

    return replace(found, backtests=replay(settings, home, changed, notify=notify))


def masked(customer_id: str) -> str:
    """A customer's id as it is shown in a sample: its first four and last two characters."""
    return f"{customer_id[:4]}…{customer_id[-2:]}" if len(customer_id) > 6 else "…"


class _Review:
    """One comparison, on open data."""

    def __init__(self, data: Data, home: Home, compared: Comparison, sample: int) -> None:
        self._data, self._home, self._compared, self._sample = data, home, compared, sample
        self._connection: duckdb.DuckDBPyConnection = data.connection
        self._problems: dict[tuple[str, str], str] = {}
        self._doubles: dict[str, int] = {}
        self.left_out: dict[str, str] = {}

    def changes(self) -> Iterator[SegmentChange]:
        """One per difference, by name."""
        self._connection.execute(
            f"create or replace temp table {_MEMBERS} (segment varchar, side varchar, customer_id varchar)"
        )
        changed = {one.name for one in self._compared.differences if one.kind != "metadata"}
        for name in sorted(changed):
            for side, versions in (("before", self._compared.before), ("after", self._compared.after)):
                self._take(name, side, versions.get(name))
        if changed:
            # What stays as it is, for the overlaps.
            for name in sorted({*self._compared.before, *self._compared.after} - changed):
                self._take(name, "both", self._compared.after.get(name) or self._compared.before[name])
                if problem := self._problems.get((name, "both")):
                    self.left_out[name] = problem
        moves = self._moves(changed)
        for difference in self._compared.differences:
            yield self._change(difference, moves.get(difference.name))

    def _take(self, name: str, side: str, version: Version | None) -> None:
        """Evaluate one version of a segment into the table of members."""
        import duckdb

        if version is None:
            return
        if version.sql is None:
            self._problems[name, side] = version.problem or "can't be read"
            return
        try:
            members, rows = evaluate(self._connection, version.sql, "mailwright_set")
        except duckdb.Error as error:
            self._problems[name, side] = said_of(error)
            return
        if side != "before" and rows > members:
            self._doubles[name] = rows - members
        self._connection.execute(f"insert into {_MEMBERS} select '{name}', '{side}', customer_id from mailwright_set")

    def _change(self, difference: Difference, moved: movement.Movement | None) -> SegmentChange:
        name = difference.name
        if difference.kind == "metadata":
            size = self._published_size(name)
            return SegmentChange(difference, size, size, stayed=size or 0, notes=tuple(self._notes(difference, size)))
        for side, table in (("before", _BEFORE), ("after", _AFTER)):
            self._connection.execute(
                f"create or replace temp table {table} as"
                f" select customer_id from {_MEMBERS} where segment = $1 and side = $2",
                [name, side],
            )
        entered, left, stayed = self._counts()
        before = None if difference.before is None or (name, "before") in self._problems else left + stayed
        after = None if difference.after is None or (name, "after") in self._problems else entered + stayed
        if (name, "before") in self._problems or (name, "after") in self._problems:
            # With one side unknown, nobody can be said to enter or leave.
            return SegmentChange(difference, before, after, notes=tuple(self._notes(difference, after)))
        return SegmentChange(
            difference,
            before,
            after,
            entered,
            left,
            stayed,
            tuple(self._overlaps(name)),
            self._masked(_AFTER, _BEFORE),
            self._masked(_BEFORE, _AFTER),
            tuple(self._notes(difference, after)),
            moved,
        )

    def _counts(self) -> tuple[int, int, int]:
        row = self._connection.execute(
            f"""
            select
                count(*) filter (where before.customer_id is null),
                count(*) filter (where after.customer_id is null),
                count(*) filter (where before.customer_id = after.customer_id)
            from {_BEFORE} as before
            full join {_AFTER} as after on before.customer_id = after.customer_id
            """
        ).fetchone()
        return row if row is not None else (0, 0, 0)

    def _overlaps(self, name: str) -> Iterator[Overlap]:
        """With every other segment as it is on each side; only those that change, the largest change first."""
        rows = self._connection.execute(
            f"""
            with shared as (
                select members.segment, 'before' as side
                from {_MEMBERS} as members
                inner join {_BEFORE} as mine on members.customer_id = mine.customer_id
                where members.segment <> $1 and members.side in ('before', 'both')

                union all

                select members.segment, 'after' as side
                from {_MEMBERS} as members
                inner join {_AFTER} as mine on members.customer_id = mine.customer_id
                where members.segment <> $1 and members.side in ('after', 'both')
            ),

            counted as (
                select
                    segment,
                    count(*) filter (where side = 'before') as before,
                    count(*) filter (where side = 'after') as after
                from shared
                group by segment
            )

            select segment, before, after from counted
            where before <> after
            order by abs(after - before) desc, segment
            limit {OVERLAPS_MAX}
            """,
            [name],
        ).fetchall()
        return (Overlap(other, before, after) for other, before, after in rows)

    def _masked(self, among: str, less: str) -> tuple[str, ...]:
        """Some of the customers in one table and not in the other: the same ones every time."""
        rows = self._connection.execute(
            f"""
            select customer_id from {among} anti join {less} using (customer_id)
            order by md5(customer_id), customer_id limit {self._sample}
            """
        ).fetchall()
        return tuple(masked(customer) for (customer,) in rows)

    def _moves(self, changed: Collection[str]) -> dict[str, movement.Movement]:
        """Since the newest release: the new definitions against what it holds."""
        released = movement.newest_release(self._home)
        if released is None or not changed:
            return {}
        broken = {name for name, side in self._problems if side == "after"}
        movement.explain_moves(
            self._connection,
            released,
            members=f"(select * from {_MEMBERS} where side = 'after')",
            definitions={name: one.sql for name, one in self._compared.after.items() if one.sql},
            customers=f"{anatomy.SCHEMA}.{CUSTOMERS}",
            changes=self._changes_since(released),
            out="mailwright_moves",
            only=set(changed) - broken,
        )
        return movement.counted(self._connection, "mailwright_moves", released)

    def _changes_since(self, released: movement.Released) -> str | None:
        """The published customer changes, if they are those since this release and not since an earlier one."""
        import duckdb

        relation = f"{anatomy.SCHEMA}.{movement.CHANGES}"
        try:
            found = self._connection.execute(f"select max(released_at) from {relation}").fetchone()
        except duckdb.Error:
            return None
        if found is None or found[0] is None:
            return None
        return relation if found[0] == released.as_of.replace(tzinfo=None) else None

    def _published_size(self, name: str) -> int | None:
        """Customers of a segment whose definition is the same."""
        version = self._compared.after[name]
        if not self._connection.execute(f"select 1 from {_MEMBERS} where segment = $1 limit 1", [name]).fetchone():
            self._take(name, "both", version)
        if (name, "both") in self._problems:
            return None
        row = self._connection.execute(f"select count(*) from {_MEMBERS} where segment = $1", [name]).fetchone()
        return int(row[0]) if row else None

    def _notes(self, difference: Difference, size: int | None) -> Iterator[str]:
        for side, called in (("before", "old"), ("after", "new"), ("both", "unchanged")):
            if problem := self._problems.get((difference.name, side)):
                yield f"the {called} definition does not run: {problem}"
        if doubles := self._doubles.get(difference.name):
            yield f"{doubles:,} rows repeat a customer or name none: a refresh would set the segment aside"
        segment = difference.after.segment if difference.after else None
        if segment is None or size is None:
            return
        customers = self._customers()
        low = max(segment.min_size or 0, (segment.min_share or 0) * customers)
        high = min(
            customers if segment.max_size is None else segment.max_size,
            customers if segment.max_share is None else segment.max_share * customers,
        )
        if size < low:
            yield f"{size:,} customers are fewer than the {low:,.0f} that its YAML expects at least"
        elif size > high:
            yield f"{size:,} customers are more than the {high:,.0f} that its YAML expects at most"

    def _customers(self) -> int:
        row = self._connection.execute(f"select count(*) from {anatomy.SCHEMA}.{CUSTOMERS}").fetchone()
        return int(row[0]) if row else 0


def _details(change: SegmentChange) -> Iterator[str]:
    """Lines of Markdown on one segment, below the table of all."""
    items = [f"**Note:** {note}" for note in change.notes]
    items += [f"{what.replace('_', ' ')}: {one} → {other}" for what, one, other in change.difference.metadata]
    if change.overlaps:
        shared = ", ".join(f"{one.other} {one.before:,} → {one.after:,}" for one in change.overlaps)
        items.append(f"customers shared with other segments: {shared}")
    for verb, ids in (("enter", change.entered_sample), ("leave", change.left_sample)):
        if ids:
            items.append(f"some that {verb}: {', '.join(f'`{one}`' for one in ids)}")
    if change.moved is not None:
        items.append(change.moved.describe())
    yield from (f"- {item}" for item in items)
    if not items:
        yield "Nothing else to say."
    if sql := change.difference.sql_diff:
        yield from ("", "<details><summary>Rendered SQL</summary>", "", "```diff", sql, "```", "", "</details>")


def _count(size: int | None) -> str:
    return "–" if size is None else f"{size:,}"
