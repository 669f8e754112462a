"""Reconcile: read a destination and report, or repair, where the ledger differs from it.

Repairing changes the ledger only: the next plan then holds what is to be changed over there, and starts no automation.
Whoever left by themselves is noted as gone and never subscribed again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from activation import destinations, doubtful, releases
from activation import sync as syncs
from activation.connector import Connector, Member, key_sql
from activation.http import RetryPolicy, TryAgainError
from activation.ledger import Ledger, State
from activation.ledger_records import field_hash, pack
from activation.ledger_tables import FIELD_HASH_BYTES
from activation.releases import quoted
from activation.sync import Sync
from core.errors import DestinationError, PlanError
from core.home import Home
from core.settings import Settings
from core.warehouse import in_memory

if TYPE_CHECKING:
    import duckdb

_AT_ONCE = 5_000
_THERE = (State.SYNCED, State.FOUND)


@dataclass(frozen=True)
class Differences:
    """Where the ledger and the destination differ, in contacts.

    Attributes:
        members: contacts that the destination has and that may be mailed.
        missing: the ledger has them there, and they are not.
        left: they unsubscribed or bounced over there, and the ledger has them as to be mailed.
        returned: the ledger has them as gone, and they may be mailed there.
        unknown: the ledger does not know them.
        tags: they have other tags of ours than the ledger says.
        fields: by field, contacts where it has another value.
        repaired: the ledger says now what the destination says.
        resent: nothing was read; the next plan sends that many contacts again.
    """

    description: str
    members: int = 0
    missing: int = 0
    left: int = 0
    returned: int = 0
    unknown: int = 0
    tags: int = 0
    fields: Mapping[str, int] = field(default_factory=dict)
    repaired: bool = False
    resent: int | None = None

    @property
    def is_none(self) -> bool:
        return not any((self.missing, self.left, self.returned, self.unknown, self.tags, *self.fields.values()))

    def summary(self) -> dict[str, str | int]:
        """Label to value, for people."""
        said: dict[str, str | int] = {"destination": self.description}
        if self.resent is not None:
            return {**said, "contacts that the next plan sends again": self.resent}
        said |= {"members there": self.members, "differences": "none" if self.is_none else "as follows"}
        found = {
            "in the ledger, but not there": self.missing,
            "unsubscribed or bounced there": self.left,
            "gone by the ledger, but there again": self.returned,
            "there, but not in the ledger": self.unknown,
            "with other tags": self.tags,
            **{f"with another {name}": number for name, number in self.fields.items()},
        }
        said |= {label: number for label, number in found.items() if number}
        if not self.is_none:
            said["ledger"] = "repaired: plan and apply next" if self.repaired else "as it was: repair with --repair"
        return said


def reconcile(
    settings: Settings,
    home: Home,
    name: str | Sync,
    *,
    repair: bool = False,
    resend: bool = False,
    connector: Connector | None = None,
    retry: RetryPolicy | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Differences:
    """Compare a destination with its ledger.

    Args:
        repair: take over what the destination says.
        resend: read nothing, and take nothing for granted: the next plan sends everybody again, silently. For a
            destination that can't be read.

    Raises:
        PlanError: there is no such sync, something else is at work there, or it can't be read.
        DestinationError: it can't be reached or refuses us; the ledger is as it was, or half repaired: run it again.
    """
    sync = syncs.read(settings, name) if isinstance(name, str) else name
    account = connector or destinations.open(settings, home, sync, retry=retry)
    try:
        with Ledger(home, settings) as ledger, ledger.lease(account.target, "reconcile"):
            if resend:
                return Differences(account.description, resent=ledger.forget(account.target, now()))
            if not account.platform.can_read:
                raise PlanError(
                    f"{account.platform.title} can't be read: `mailwright reconcile {sync.name} --resend` has the next plan"
                    " send everybody again"
                )
            with in_memory(settings) as connection:
                fields = list(sync.fields.values())
                _read(connection, ledger, account, _wanted(connection, home, ledger, account), fields)
                found = _compare(connection, ledger, account, repaired=repair)
                if repair:
                    ledger.import_members(account.target, _again(connection), now(), fields)
                    doubtful.forget(home, account.target)
                return found
    finally:
        if connector is None:
            account.close()


def baseline(
    ledger: Ledger, connector: Connector, sync: Sync, now: datetime, keys: Collection[str] = ()
) -> dict[str, int]:
    """Take over who is at a destination before the first plan of it. Returns contacts by what became of them.

    Args:
        keys: whom a first plan would have there, for platforms that tell only of contacts that are asked for.

    Raises:
        DestinationError: it can't be read.
    """
    with ledger.lease(connector.target, "first reading"):
        return ledger.import_members(connector.target, _members(connector, keys), now, list(sync.fields.values()))


def wanted_keys(connection: duckdb.DuckDBPyConnection, kind: Any, profiles: str) -> set[str]:
    """Keys of a release's profiles, given the SQL of their table."""
    rows = connection.execute(f"select distinct {key_sql(kind)} from {profiles}").fetchall()
    return {key for (key,) in rows if key}


def _wanted(connection: duckdb.DuckDBPyConnection, home: Home, ledger: Ledger, account: Connector) -> set[str]:
    """Keys to ask for, where a platform does not name everybody by itself."""
    if account.platform.lists_members:
        return set()
    keys = {key.hex() for key in ledger.rows(account.target).column("key").to_pylist()}
    keys |= doubtful.keys(home, account.target)
    newest = releases.latest(home)
    if newest is not None:
        keys |= wanted_keys(connection, account.platform.key, f"read_parquet('{quoted(newest.file('profiles'))}')")
    return keys


def _members(account: Connector, keys: Collection[str]) -> Iterator[Member]:
    try:
        yield from account.members_among(keys)
    except TryAgainError as error:
        raise DestinationError(
            f"{account.description}: gave up reading its members ({error}): try again later"
        ) from None


def _read(
    connection: duckdb.DuckDBPyConnection,
    ledger: Ledger,
    account: Connector,
    keys: Collection[str],
    fields: Collection[str],
) -> None:
    """Put everybody who is there into the table `there`, with hashes of our fields instead of values."""
    import pyarrow as pa

    connection.execute(
        "create table there"
        " (key varchar, state varchar, tags varchar[], fields map(varchar, varchar), hashes map(varchar, blob))"
    )
    schema = pa.schema({
        "key": pa.string(), "state": pa.string(), "tags": pa.list_(pa.string()),
        "fields": pa.map_(pa.string(), pa.string()), "hashes": pa.map_(pa.string(), pa.binary()),
    })  # fmt: skip
    batch: list[dict[str, Any]] = []

    def write() -> None:
        connection.register("page", pa.Table.from_pylist(batch, schema))
        connection.execute("insert into there from page")
        connection.unregister("page")
        batch.clear()

    for member in _members(account, keys):
        own = None if member.fields is None else {name: member.fields.get(name, "") for name in fields}
        batch.append({
            "key": member.key,
            "state": member.state,
            "tags": sorted(member.tags),
            "fields": None if own is None else list(own.items()),
            "hashes": None
            if own is None
            else [(name, field_hash(member.key, name, value)) for name, value in own.items()],
        })  # fmt: skip
        if len(batch) >= _AT_ONCE:
            write()
    if batch:
        write()


def _again(connection: duckdb.DuckDBPyConnection) -> Iterator[Member]:
    """What was read, once more."""
    rows = connection.cursor().execute("select key, state, tags, fields from there")
    while some := rows.fetchmany(_AT_ONCE):
        for key, state, tags, fields in some:
            yield Member(key, state, frozenset(tags), fields)


def _compare(
    connection: duckdb.DuckDBPyConnection, ledger: Ledger, account: Connector, *, repaired: bool
) -> Differences:
    connection.register("known", ledger.rows(account.target))
    connection.register("known_fields", ledger.field_hashes(account.target))
    names = {name: number for number, name in ledger.tags(account.target).items()}
    # A tag that the ledger has no number for makes a difference by its number alone.
    for (tag,) in connection.execute("select distinct unnest(tags) as tag from there order by tag").fetchall():
        names.setdefault(tag, len(names) + 1 if not names else max(names.values()) + 1)
    combinations = connection.execute("select distinct tags from there where tags is not null").fetchall()
    import pyarrow as pa

    connection.register("packed", pa.table({
        "tags": pa.array([tags for (tags,) in combinations], pa.list_(pa.string())),
        "as_bytes": pa.array([pack(names[tag] for tag in tags) for (tags,) in combinations], pa.binary()),
    }))  # fmt: skip
    there = ", ".join(str(int(state)) for state in _THERE)
    row = connection.execute(f"""
        with compared as (
            select
                coalesce(known.state in ({there}), false) as is_known_there,
                known.key is not null as is_known,
                coalesce(there.state = 'subscribed', false) as is_there,
                coalesce(there.state in ('unsubscribed', 'bounced'), false) as has_left,
                known.tags is distinct from packed.as_bytes as has_other_tags
            from there
            full join known on unhex(there.key) = known.key
            left join packed on there.tags = packed.tags
        )
        select
            count(*) filter (where is_there),
            count(*) filter (where is_known_there and not is_there and not has_left),
            count(*) filter (where is_known_there and has_left),
            count(*) filter (where is_known and not is_known_there and is_there),
            count(*) filter (where not is_known and (is_there or has_left)),
            count(*) filter (where is_known_there and is_there and has_other_tags)
        from compared
    """).fetchone()
    assert row is not None
    members, missing, left, returned, unknown, tags = row
    fields = _fields_that_differ(connection, ledger, account)
    return Differences(account.description, members, missing, left, returned, unknown, tags, fields, repaired)


def _fields_that_differ(connection: duckdb.DuckDBPyConnection, ledger: Ledger, account: Connector) -> dict[str, int]:
    """Contacts by field that has another value there than the ledger says, by its hashes."""
    counted: Counter[str] = Counter()
    for layout, names in ledger.layouts(account.target).items():
        for position, name in enumerate(names):
            start = position * FIELD_HASH_BYTES + 1
            row = connection.execute(
                f"""
                select count(*)
                from there
                inner join known_fields on unhex(there.key) = known_fields.key
                where
                    known_fields.layout = $layout and there.state = 'subscribed'
                    and there.hashes[$name] is not null
                    and lower(hex(there.hashes[$name]))
                    <> lower(substr(hex(known_fields.field_hashes), {2 * start - 1}, {2 * FIELD_HASH_BYTES}))
                """,
                {"layout": layout, "name": name},
            ).fetchone()
            if row and row[0]:
                counted[name] += int(row[0])
    return dict(sorted(counted.items()))
