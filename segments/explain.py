"""Why a customer is in a segment, or is not: each condition with its value, since when, and what holds them in or out.

Reads published marts and releases. Values of personal columns are never shown, nor are addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from core.errors import MailwrightError
from core.home import Home
from core.settings import Settings
from segments import anatomy, movement
from segments.anatomy import SCHEMA, Condition
from segments.data import CUSTOMERS, Data, open_data, said_of
from segments.definitions import PREFIX, Segment, survey
from segments.versions import Version, refs_of, versions_of

if TYPE_CHECKING:
    import duckdb

DBT_PROJECT = "dbt_project"
MEMBERSHIPS = "segment_memberships"
JOURNAL = "identity_journal"


@dataclass(frozen=True)
class Change:
    """One entry or leaving, as a release noted it. The instant is naive, UTC."""

    release: int
    as_of: datetime
    change: str
    cause: str | None


@dataclass(frozen=True)
class SegmentExplanation:
    """One segment and one customer.

    Attributes:
        is_member: in it, as published.
        qualifies: whether the definition of the working tree selects the customer; None if it does not run.
        conditions: each condition of that definition; empty where it can't be taken apart.
        history: lines on entries and leavings, the newest first.
        held: what keeps the customer in or out against the definition; None if nothing does.
        problem: what could not be found out, and why.
    """

    name: str
    description: str
    is_member: bool
    qualifies: bool | None
    conditions: tuple[Condition, ...]
    history: tuple[str, ...]
    held: str | None = None
    problem: str | None = None

    @property
    def verdict(self) -> str:
        """In or not, and by what."""
        said = "in it" if self.is_member else "not in it"
        return f"{said}, {self.held}" if self.held else said


@dataclass(frozen=True)
class Sendability:
    """Whether the newest release has a customer among those to be mailed."""

    release: int
    addresses: int
    sendable: int
    refusals: tuple[str, ...]

    def describe(self) -> str:
        """One line for people."""
        if self.sendable:
            return f"yes, at {self.sendable:,} of {self.addresses:,} addresses (release {self.release})"
        if not self.addresses:
            return f"no: without an address (release {self.release})"
        reason = ", ".join(self.refusals) or "no consent, or not by the policy of the country"
        return f"no: {reason} (release {self.release})"


@dataclass(frozen=True)
class Explanation:
    """A customer and the segments: those they are in, were in or are kept out of, and those that were asked for.

    Attributes:
        as_of: aware instant of the data, in UTC.
        sendability: None before the first release.
    """

    customer_id: str
    as_of: datetime
    timezone: str
    segments: tuple[SegmentExplanation, ...]
    sendability: Sendability | None

    @property
    def as_of_text(self) -> str:
        return f"{self.as_of.astimezone(ZoneInfo(self.timezone)):%Y-%m-%d %H:%M}"


def explain(
    settings: Settings,
    home: Home,
    customer: str,
    names: Collection[str] | None = None,
    *,
    notify: Callable[[str], None] | None = None,
) -> Explanation:
    """Tell which segments a customer is in and why.

    Args:
        customer: an id, or the beginning of one.
        names: further segments to explain, whether or not the customer is in them.
        notify: told when the warehouse has to be opened.

    Raises:
        MailwrightError: nothing is published yet, or no customer, several customers or no segment have that name.
        WarehouseBusyError: a segment refs what is not published, and another process has the warehouse.
    """
    found = survey(settings.project_dir / DBT_PROJECT)
    wanted = {name.removeprefix(PREFIX) for name in names or ()}
    if unknown := sorted(wanted - set(found.names)):
        raise MailwrightError(
            f"there is no segment {', '.join(unknown)}; there are: {', '.join(found.names) or 'none'}"
        )
    versions = versions_of(found, home.timezone)
    # What nobody asked for by name does not open the warehouse.
    asked = [version.sql for name, version in versions.items() if name in wanted and version.sql]
    also = {name for version in versions.values() for name in refs_of(version.sql)} | {MEMBERSHIPS, JOURNAL}
    with open_data(settings, home, asked, also=also, notify=notify) as data:
        connection = data.connection
        customer_id = _find(connection, customer)
        memberships = _memberships(connection, home, customer_id)
        changes = _changes(connection, home, customer_id)
        explained = []
        for name, version in versions.items():
            one = _explain(connection, home, version, customer_id, memberships, changes.get(name, ()), data)
            if one.is_member or one.held or one.history or name in wanted:
                explained.append(one)
        for name in sorted(memberships - set(versions)):
            lines = tuple(_line(change, home) for change in reversed(changes.get(name, ())))
            explained.append(
                SegmentExplanation(name, "", True, None, (), lines, "although there is no definition of it any more")
            )
        return Explanation(
            customer_id, data.as_of, home.timezone, tuple(explained), _sendability(connection, home, customer_id)
        )


def _explain(
    connection: duckdb.DuckDBPyConnection,
    home: Home,
    version: Version,
    customer_id: str,
    memberships: frozenset[str],
    changes: tuple[Change, ...],
    data: Data,
) -> SegmentExplanation:
    import duckdb

    is_member = version.name in memberships
    qualifies: bool | None = None
    conditions: tuple[Condition, ...] = ()
    problem = version.problem
    if version.sql is not None:
        try:
            qualifies = anatomy.contains(connection, version.sql, customer_id)
        except duckdb.Error as error:
            problem = f"the definition does not run: {said_of(error)}"
        else:
            try:
                conditions = tuple(anatomy.conditions(connection, version.sql, customer_id, hidden=data.personal))
            except (duckdb.Error, MailwrightError):
                problem = "the definition runs, but its conditions can't be taken apart"
    return SegmentExplanation(
        version.name,
        version.segment.description if version.segment else "",
        is_member,
        qualifies,
        conditions,
        tuple(_line(change, home) for change in reversed(changes)),
        _held(version.segment, is_member, qualifies, changes, home, data.as_of),
        problem,
    )


def _held(
    segment: Segment | None,
    is_member: bool,
    qualifies: bool | None,
    changes: tuple[Change, ...],
    home: Home,
    as_of: datetime,
) -> str | None:
    """Why membership is not what the definition says."""
    if qualifies is None or segment is None or qualifies == is_member:
        return None
    last = changes[-1] if changes else None
    days = segment.min_dwell_days if is_member else segment.reentry_after_days
    if last is not None and last.change == ("entered" if is_member else "left") and days:
        until = _local(last.as_of, home) + timedelta(days=days)
        if as_of.astimezone(ZoneInfo(home.timezone)).date() < until:
            kept = "kept in by min_dwell_days" if is_member else "kept out by reentry_after_days"
            return f"{kept} until {until} ({days} days after {_local(last.as_of, home)})"
    if is_member:
        return "although its conditions do not hold: it was set aside, or changed since the last refresh"
    return "although its conditions hold: it was set aside, or changed since the last refresh"


def _find(connection: duckdb.DuckDBPyConnection, beginning: str) -> str:
    """The one customer whose id begins so.

    Raises:
        MailwrightError: there is none, or there are several.
    """
    import duckdb

    if not beginning:
        raise MailwrightError("give a customer's id, or the beginning of one")
    rows = connection.execute(
        f"""
        select customer_id from {SCHEMA}.{CUSTOMERS} where starts_with(customer_id, $1)
        order by customer_id <> $1, customer_id limit 3
        """,
        [beginning],
    ).fetchall()
    found = [str(customer) for (customer,) in rows]
    if found and (len(found) == 1 or found[0] == beginning):
        return found[0]
    if found:
        raise MailwrightError(f"several customers' ids begin with {beginning}: {', '.join(found)}, ... Give more of it")
    try:
        gone = connection.execute(
            f"""
            select customer_id from {SCHEMA}.{JOURNAL}
            where event = 'merged' and other_customer_id = $1 order by run desc, entry desc limit 1
            """,
            [beginning],
        ).fetchone()
    except duckdb.Error:
        gone = None
    if gone is not None:
        raise MailwrightError(f"customer {beginning} went into {gone[0]}: ask for that one")
    raise MailwrightError(f"no customer has the id {beginning}, as published; ids are in published customer_360")


def _memberships(connection: duckdb.DuckDBPyConnection, home: Home, customer_id: str) -> frozenset[str]:
    """The customer's segments as published; where that is missing, as of the newest release."""
    import duckdb

    try:
        rows = connection.execute(
            f"select segment from {SCHEMA}.{MEMBERSHIPS} where customer_id = $1", [customer_id]
        ).fetchall()
    except duckdb.CatalogException:
        released = movement.newest_release(home)
        if released is None:
            return frozenset()
        rows = connection.execute(
            f"select segment from read_parquet({_literal(released.memberships)}) where customer_id = $1", [customer_id]
        ).fetchall()
    return frozenset(segment for (segment,) in rows)


def _changes(connection: duckdb.DuckDBPyConnection, home: Home, customer_id: str) -> Mapping[str, tuple[Change, ...]]:
    """Entries and leavings by segment, the oldest first."""
    folder = home.releases / "history"
    if not any(folder.glob("*.parquet")):
        return {}
    rows = connection.execute(
        f"""
        select segment, release, as_of, change, cause from read_parquet({_literal(folder / "*.parquet")})
        where customer_id = $1 order by release
        """,
        [customer_id],
    ).fetchall()
    found: dict[str, tuple[Change, ...]] = {}
    for segment, *said in rows:
        found[segment] = (*found.get(segment, ()), Change(*said))
    return found


def _sendability(connection: duckdb.DuckDBPyConnection, home: Home, customer_id: str) -> Sendability | None:
    released = movement.newest_release(home)
    if released is None:
        return None
    folder = released.memberships.parent
    row = connection.execute(
        f"""
        with mine as (
            select distinct email from read_parquet({_literal(folder / "addresses.parquet")}) where customer_id = $1
        )

        select
            count(*),
            count(*) filter (where email in (select email from read_parquet({_literal(folder / "profiles.parquet")}))),
            list_sort(list_distinct(list(suppressed.suppression_type)))
        from mine
        left join read_parquet({_literal(folder / "suppressed.parquet")}) as suppressed using (email)
        """,
        [customer_id],
    ).fetchone()
    addresses, sendable, refusals = row or (0, 0, [])
    return Sendability(released.number, addresses, sendable, tuple(kind for kind in refusals or () if kind))


def _line(change: Change, home: Home) -> str:
    cause = f" ({change.cause})" if change.cause else ""
    return f"{change.change} on {_local(change.as_of, home)}, with release {change.release}{cause}"


def _local(moment: datetime, home: Home) -> date:
    return moment.replace(tzinfo=UTC).astimezone(ZoneInfo(home.timezone)).date()


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
