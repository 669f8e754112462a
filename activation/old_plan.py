"""Plans: what a sync would change at a destination, worked out from the newest release and the ledger.

A plan is made without the warehouse and without a call to the platform, is kept in the home, and is reviewed before it
is applied. It holds addresses and values, so its files are readable by their owner only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from activation import releases, retention, rollback
from activation.consent import PUSHED, Refusals, refusals
from activation.destination import Destination, Field, Workload, connect
from activation.old_ledger import SYNCED, Ledger
from activation.releases import Release
from core.errors import PlanError
from core.files import replacing, write_atomically
from core.home import Home
from core.settings import Settings
from core.warehouse import in_memory
from segments.definitions import Cadence
from segments.freshness import is_stale

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

# Columns of the release's profiles that are no field.
_NOT_FIELDS = ("email", "customer_id", "segments")


@dataclass(frozen=True)
class BlockedSegment:
    """A segment that is not synced, as its members are too old.

    Attributes:
        since: the as_of that its members are of, aware; None if it never was good.
        changes: additions and removals of its tag that are left out.
    """

    since: datetime | None
    changes: int

    def describe(self) -> str:
        since = f"stale since {self.since:%Y-%m-%d %H:%M}" if self.since is not None else "never good"
        return f"{since}, not synced: {self.changes:,} tag changes left out"


@dataclass(frozen=True)
class Plan:
    """What would change, in numbers; the rows are in `path`.

    Attributes:
        hash: of the destination's account, its ledger's position, the release and every operation.
        base_revision: position of the ledger that it starts from; it can't be applied from another.
        updates_by_field: contacts whose field changes, by field.
        tag_adds, tag_removes: contacts by tag.
        leavers: contacts at the destination that are sendable no more.
        unsubscribes: of them, those who refused, to be told to the platform.
        blocked: by segment that is stale, what its members are of, and how many changes of its tag are left out.
        held_back: rows that the platform refused before and that have not changed since.
        funnel: who is left after each step, from all addresses to those in this plan.
        calls: calls to the platform by kind.
        path: Parquet file of the operations.
    """

    destination: str
    target: str
    description: str
    release: int
    release_hash: str
    as_of: datetime
    base_revision: int
    hash: str
    operations: int
    creates: int
    updates: int
    updates_by_field: dict[str, int]
    tag_adds: dict[str, int]
    tag_removes: dict[str, int]
    leavers: int
    unsubscribes: int
    blocked: dict[str, BlockedSegment]
    held_back: int
    unchanged: int
    funnel: list[tuple[str, int]]
    calls: dict[str, int]
    fields: list[Field]
    path: Path

    @property
    def is_empty(self) -> bool:
        return self.operations == 0

    def summary(self) -> dict[str, str | int]:
        """Label to value, for people."""
        said: dict[str, str | int] = {"destination": self.description, "release": self.release}
        if self.is_empty:
            said["changes"] = "nothing to do"
        else:
            said |= {
                "contacts to create": self.creates,
                "contacts to update": self.updates,
                "tags to add": sum(self.tag_adds.values()),
                "tags to remove": sum(self.tag_removes.values()),
                "contacts sendable no more": self.leavers,
                "unsubscribes to pass on": self.unsubscribes,
                "calls": sum(self.calls.values()),
                "plan": self.hash,
            }
        said["contacts unchanged"] = self.unchanged
        for segment, blocked in self.blocked.items():
            said[f"segment {segment}"] = blocked.describe()
        if self.held_back:
            said["held back as refused before"] = self.held_back
        return said


def make(
    settings: Settings,
    home: Home,
    destination: str | Destination,
    release: Release | None = None,
    *,
    retry_rejected: bool = False,
) -> Plan:
    """Compare what should be at a destination with what it has acknowledged, and keep the difference as a plan.

    Args:
        destination: name in the registry, or a connector.
        release: the newest by default; another one can be planned and looked at, but not applied.
        retry_rejected: also plan rows that the platform refused before, though nothing about them changed.

    Raises:
        PlanError: there is no release, or two of its columns would become one field.
        ReleaseError: the release is not as it was frozen.
    """
    owned = isinstance(destination, str)
    target = connect(destination, settings, home) if isinstance(destination, str) else destination
    try:
        found = release or releases.latest(home)
        if found is None:
            raise PlanError(f"there is no release in {home.releases}: run `mailwright refresh` first")
        releases.verify(home, found)
        refused = refusals(settings, home, found)
        with Ledger(home) as ledger, in_memory(settings) as connection:
            base_revision = ledger.position(target.target).revision
            connection.register("ledger_contacts", ledger.contacts(target.target))
            connection.register("ledger_tags", ledger.tags(target.target))
            connection.register("rejected", ledger.rejected(target.target))
            connection.register("refused", _refused(refused))
            return _compare(home, target, found, base_revision, connection, retry_rejected)
    finally:
        if owned:
            target.close()


def read(home: Home, destination: str, plan_hash: str | None = None) -> Plan:
    """Read a kept plan: the one whose hash begins with `plan_hash`, else the newest.

    Raises:
        PlanError: there is none such, or more than one.
    """
    found = sorted(home.plans.glob(f"{destination}-{plan_hash or ''}*.json"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        raise PlanError(f"there is no kept plan for {destination}: run `mailwright plan {destination}`")
    if plan_hash and len(found) > 1:
        raise PlanError(f"{len(found)} plans begin with {plan_hash}: give more of the hash")
    try:
        said: dict[str, Any] = json.loads(found[-1].read_text(encoding="utf-8"))
        said["as_of"] = datetime.fromisoformat(said["as_of"])
        said["funnel"] = [(step, number) for step, number in said["funnel"]]
        said["fields"] = [Field(**field) for field in said["fields"]]
        said["blocked"] = {
            segment: BlockedSegment(
                datetime.fromisoformat(blocked["since"]) if blocked["since"] else None, blocked["changes"]
            )
            for segment, blocked in said["blocked"].items()
        }
        return Plan(**said, path=found[-1].with_suffix(".parquet"))
    except (ValueError, KeyError, TypeError) as error:
        raise PlanError(f"{found[-1]} can't be read ({error}): plan again") from None


def _refused(refused: Refusals) -> pa.Table:
    import pyarrow as pa

    kinds = refused.kinds
    return pa.table({
        "email": pa.array(kinds.keys(), pa.string()),
        "is_pushed": pa.array((kind in PUSHED for kind in kinds.values()), pa.bool_()),
    })  # fmt: skip


def _strings(columns: Mapping[str, list[str]]) -> pa.Table:
    import pyarrow as pa

    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def _compare(
    home: Home,
    target: Destination,
    release: Release,
    base_revision: int,
    connection: duckdb.DuckDBPyConnection,
    retry_rejected: bool,
) -> Plan:
    rollback.create_profiles(connection, home, release)
    for table in ("addresses", "funnel"):
        connection.execute(f"create view {table} as from read_parquet('{_quoted(release.file(table))}')")
    types = {name: str(kind) for name, kind, *_ in connection.execute("describe profiles").fetchall()}
    fields = target.fields({name: kind for name, kind in types.items() if name not in _NOT_FIELDS})
    if len({field.name for field in fields}) < len(fields):
        names = ", ".join(f"{field.column} as {field.name}" for field in fields)
        raise PlanError(f"two columns would become one field at {target.name}: {names}; rename one in sync_profiles")
    _create_desired(connection, target, fields)
    stale = _stale(release)
    _create_blocked(connection, target, stale)
    _create_changes(connection, target, home, release, retry_rejected)
    return _keep(home, target, release, base_revision, connection, fields, stale)


def _create_desired(connection: duckdb.DuckDBPyConnection, target: Destination, fields: list[Field]) -> None:
    """Who should be there (desired), with which values (desired_values) and tags (desired_tags)."""
    key = target.key_sql("email")
    connection.execute(f"""
        create table desired as
        select {key} as key, email, segments
        from profiles
        where email not in (select email from refused)
    """)
    columns = ", ".join(f'coalesce(cast("{f.column}" as varchar), \'\') as "{f.name}"' for f in fields)
    connection.execute(f"""
        create table desired_values as
        select key, field, value, substr(md5(key || chr(31) || field || chr(31) || value), 1, 16) as hash
        from (
            unpivot (select {key} as key, {columns} from profiles where email not in (select email from refused))
            on columns(* exclude (key)) into name field value value
        )
    """)
    connection.execute("""
        create table desired_hashes as
        select
            key,
            md5(string_agg(field || ':' || hash, ',' order by field)) as content_hash,
            cast(to_json(map_from_entries(list(row(field, hash) order by field))) as varchar) as field_hashes
        from desired_values
        group by key
    """)
    connection.execute("create table tagged as select distinct key, unnest(segments) as segment from desired")
    segments = [segment for (segment,) in connection.execute("select distinct segment from tagged").fetchall()]
    connection.register("tag_names", _strings({"segment": segments, "tag": [target.tag_of(name) for name in segments]}))
    connection.execute("create table desired_tags as select key, tag from tagged inner join tag_names using (segment)")


def _stale(release: Release) -> dict[str, datetime | None]:
    """Segments of a release whose members are too old for their cadence, with the as_of that those are of.

    A release that goes back to another is old on purpose, so all of it is synced.
    """
    if release.reverts_to is not None:
        return {}
    as_of = release.confirmed_at or release.as_of
    return {
        name: state.as_of
        for name, state in release.states.items()
        if not state.fresh and is_stale(cast(Cadence, state.cadence), state.as_of, as_of)
    }


def _create_blocked(
    connection: duckdb.DuckDBPyConnection, target: Destination, stale: Mapping[str, datetime | None]
) -> None:
    """Tags that are not synced (blocked_tags), and who loses them all the same (losing_tags).

    Whoever is no longer sendable, or may no longer be profiled, loses every tag, however old the segment is.
    """
    connection.register("blocked_tags", _strings({"tag": [target.tag_of(name) for name in stale]}))
    may_profile = "false"
    if "may_profile" in {name for name, *_ in connection.execute("describe addresses").fetchall()}:
        may_profile = "bool_or(may_profile)"
    connection.execute(f"""
        create table losing_tags as
        select key from ledger_tags anti join desired using (key)
        union
        select {target.key_sql("email")} from addresses group by email having not coalesce({may_profile}, false)
    """)


def _create_changes(
    connection: duckdb.DuckDBPyConnection, target: Destination, home: Home, release: Release, retry_rejected: bool
) -> None:
    """The difference: contact_changes, field_changes, tag_changes, unsubscribes, and what is held back."""
    connection.execute(f"""
        create table contact_candidates as
        select
            desired.key, desired.email, hashes.content_hash, hashes.field_hashes,
            if(known.key is null, 'create', 'update') as action,
            known.field_hashes as known_hashes,
            {"false" if retry_rejected else "true"} and exists (
                select 1 from rejected
                where rejected.action in ('create', 'update')
                    and rejected.key = desired.key and rejected.content_hash = hashes.content_hash
            ) as is_held
        from desired
        inner join desired_hashes as hashes using (key)
        left join ledger_contacts as known on desired.key = known.key
        where known.key is null or known.content_hash <> hashes.content_hash or known.state <> '{SYNCED}';

        create table contact_changes as select * from contact_candidates where not is_held;

        create table field_changes as
        with known as (
            select key, unnest(map_entries(cast(cast(known_hashes as json) as map(varchar, varchar)))) as entry
            from contact_changes
            where action = 'update'
        )
        select changes.key, changes.action, wanted.field, wanted.value
        from contact_changes as changes
        inner join desired_values as wanted on changes.key = wanted.key
        left join known on wanted.key = known.key and wanted.field = known.entry.key
        where coalesce(
            known.entry.value,
            substr(md5(wanted.key || chr(31) || wanted.field || chr(31)), 1, 16)
        ) <> wanted.hash;

        create table tag_differences as
        select 'tag_add' as action, key, tag
        from desired_tags
        anti join ledger_tags using (key, tag)
        union all
        select 'tag_remove', key, tag
        from ledger_tags
        anti join desired_tags using (key, tag);

        create table tags_left_out as
        select action, key, tag
        from tag_differences
        semi join blocked_tags using (tag)
        where action = 'tag_add' or key not in (select key from losing_tags);

        create table tag_candidates as
        from tag_differences anti join tags_left_out using (action, key, tag);

        create table tag_changes as
        select candidates.action, candidates.key, candidates.tag
        from tag_candidates as candidates
        left join desired_hashes as hashes using (key)
        where not ({"false" if retry_rejected else "true"} and (
            exists (
                select 1 from rejected
                where rejected.action = candidates.action and rejected.key = candidates.key
                    and rejected.tag = candidates.tag and rejected.content_hash = coalesce(hashes.content_hash, '')
            )
            -- Someone whom the platform does not take can't be tagged there.
            or (
                candidates.action = 'tag_add'
                and exists (
                    select 1 from contact_candidates as held
                    where held.key = candidates.key and held.is_held and held.action = 'create'
                )
            )
        ));

        create table unsubscribes as
        select known.key
        from ledger_contacts as known
        inner join (select {target.key_sql("email")} as key from refused where is_pushed) as pushed using (key)
        where known.state = '{SYNCED}' and not ({"false" if retry_rejected else "true"} and exists (
            select 1 from rejected
            where rejected.action = 'unsubscribe' and rejected.key = known.key
                and rejected.content_hash = known.content_hash
        ));

        create table needed as
        select key from tag_changes union select key from unsubscribes;
        create table known_addresses as
        select key, email from desired where key in (select key from needed);
    """)
    _find_addresses(connection, target, home, release)


def _find_addresses(connection: duckdb.DuckDBPyConnection, target: Destination, home: Home, release: Release) -> None:
    """The ledger holds no address: look those of leavers up in this release, then in ever older ones."""
    older = [number for number in reversed(releases.numbers(home)) if number < release.number]
    files = [release.file("addresses")]
    files += [file for number in older if (file := releases.read(home, number).file("addresses")).exists()]
    if retention.departed(home).exists():
        files.append(retention.departed(home))
    for file in files:
        connection.execute(f"""
            insert into known_addresses
            select {target.key_sql("email")}, any_value(email)
            from read_parquet('{_quoted(file)}')
            where {target.key_sql("email")} in (
                select key from needed except select key from known_addresses
            )
            group by 1
        """)
        if not connection.execute("select 1 from needed anti join known_addresses using (key) limit 1").fetchone():
            return


def _keep(
    home: Home,
    target: Destination,
    release: Release,
    base_revision: int,
    connection: duckdb.DuckDBPyConnection,
    fields: list[Field],
    stale: Mapping[str, datetime | None],
) -> Plan:
    connection.execute("""
        create table operations as
        with said as (
            select key, to_json(map_from_entries(list(row(field, value) order by field))) as fields
            from field_changes
            -- A contact that is new has nothing to clear.
            where action = 'update' or value <> ''
            group by key
        )
        select 1 as phase, 'unsubscribe' as action, unsubscribes.key, email, '' as tag, '{}' as fields,
            content_hash, '' as field_hashes
        from unsubscribes
        inner join ledger_contacts using (key)
        left join known_addresses using (key)
        union all
        select 2, action, changes.key, email, '', coalesce(cast(said.fields as varchar), '{}'),
            content_hash, field_hashes
        from contact_changes as changes
        left join said using (key)
        union all
        select 3, action, tag_changes.key, email, tag, '{}', coalesce(content_hash, ''), ''
        from tag_changes
        left join known_addresses using (key)
        left join desired_hashes using (key)
    """)

    def one(query: str) -> int:
        row = connection.execute(query).fetchone()
        return int(row[0]) if row else 0

    def many(query: str) -> dict[str, int]:
        return dict(connection.execute(query).fetchall())

    operations_hash = connection.execute("""
        select md5(coalesce(string_agg(row_hash, '' order by row_hash), ''))
        from (select md5(cast(to_json(operations) as varchar)) as row_hash from operations)
    """).fetchone()
    import hashlib

    said = f"{target.target}\n{base_revision}\n{release.number}\n{release.content_hash}\n{operations_hash}"
    plan_hash = hashlib.sha256(said.encode()).hexdigest()[:16]
    actions = many("select action, count(*) from operations group by 1")
    adds = many("select tag, count(*) from tag_changes where action = 'tag_add' group by 1 order by 1")
    removes = many("select tag, count(*) from tag_changes where action = 'tag_remove' group by 1 order by 1")
    refused_now = one("select count(*) from profiles where email in (select email from refused)")
    funnel = connection.execute("select step, addresses from funnel order by step_number").fetchall()
    upserts = actions.get("create", 0) + actions.get("update", 0)
    wanted = one("select count(*) from desired")
    left_out = many("select tag, count(*) from tags_left_out group by 1")
    held_contacts = one("select count(*) from contact_candidates where is_held")
    work = Workload(
        upserts,
        actions.get("unsubscribe", 0),
        {tag: (adds.get(tag, 0), removes.get(tag, 0)) for tag in sorted({*adds, *removes})},
        one("select count(*) from operations where action = 'tag_remove' and email is null"),
        () if one("select count(*) from ledger_contacts") else [field.name for field in fields],
        set(adds) - set(many("select tag, count(*) from ledger_tags group by 1")),
    )
    plan = Plan(
        destination=target.name,
        target=target.target,
        description=target.description,
        release=release.number,
        release_hash=release.content_hash,
        as_of=release.as_of,
        base_revision=base_revision,
        hash=plan_hash,
        operations=sum(actions.values()),
        creates=actions.get("create", 0),
        updates=actions.get("update", 0),
        updates_by_field=many("""
            select field, count(*) from field_changes where action = 'update' group by 1 order by 1
        """),
        tag_adds=adds,
        tag_removes=removes,
        leavers=one("""
            select count(*) from (
                select key from unsubscribes
                union
                select key from tag_changes where key not in (select key from desired)
            )
        """),
        unsubscribes=actions.get("unsubscribe", 0),
        blocked={
            segment: BlockedSegment(since, left_out.get(target.tag_of(segment), 0))
            for segment, since in sorted(stale.items())
        },
        held_back=held_contacts + one("select count(*) from tag_candidates") - one("select count(*) from tag_changes"),
        unchanged=wanted - upserts - held_contacts,
        funnel=[
            *funnel,
            ("in the release", one("select count(*) from profiles")),
            ("not refused since", one("select count(*) from profiles") - refused_now),
        ],
        calls=target.expected_calls(work) if actions else {},
        fields=fields,
        path=home.plans / f"{target.name}-{plan_hash}.parquet",
    )
    _write(plan, connection)
    return plan


def _write(plan: Plan, connection: duckdb.DuckDBPyConnection) -> None:
    plan.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing(plan.path) as beside:
        beside.touch(mode=0o600)
        connection.execute(
            "copy (from operations order by phase, tag, action, key)"
            f" to '{_quoted(beside)}' (format parquet, row_group_size 50000)"
        )
        os.chmod(beside, 0o600)
    said: Mapping[str, Any] = {name: value for name, value in asdict(plan).items() if name != "path"}
    header = plan.path.with_suffix(".json")
    # Instants are all of them aware.
    text = json.dumps(said, indent=2, default=lambda moment: moment.astimezone(UTC).isoformat())
    write_atomically(header, text + "\n")
    header.chmod(0o600)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
