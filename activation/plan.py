"""Plans: what a sync would change at a destination, worked out from a release and the ledger.

A plan is made without the warehouse and, but for the first one of a destination, without a call to the platform. It is
kept in the home, with a hash and an expiry, and is reviewed before it is applied. It holds addresses and values, so its
files are readable by their owner only. `desired` says who should be there, `changes` what differs, `breakers` what is
implausible, `samples` what it looks like.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activation import breakers, changes, desired, destinations, reconcile, releases, rollback, samples
from activation import sync as syncs
from activation.breakers import Numbers, Tripped
from activation.changes import Changes
from activation.connector import Connector, Field, key_sql
from activation.consent import Refusals, refusals
from activation.desired import Desired, counts, one
from activation.ledger import Ledger, Standing, State
from activation.platform import Platform
from activation.releases import Release
from activation.samples import Sample
from activation.sync import Sync
from core import gate
from core.errors import PlanError, ReleaseError
from core.files import replacing
from core.home import Home
from core.settings import Settings
from core.warehouse import in_memory

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

# Kinds of limits by action; where a platform publishes none of that kind, that of `contacts` holds.
KINDS = {
    "unsubscribe": "unsubscribe",
    "erase": "erase",
    "rekey": "rekey",
    "create": "contacts",
    "update": "contacts",
    "tag_add": "tags",
    "tag_remove": "tags",
    "leave": "contacts",
    "archive": "archive",
}


# Why a plan that writes every contact whole is silent.
FULL = "full"


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
        destination: name of the sync.
        hash: of the destination's account, its ledger's position, the release, the sync and every operation.
        made_at, expires_at: aware; after the second it can't be applied any more.
        base_revision: position of the ledger that it starts from; it can't be applied from another.
        silent: why no automation starts; None where they may.
        updates_by_field: contacts whose field changes, by field.
        tag_adds, tag_removes: contacts by tag.
        automations: contacts for whom an automation starts, by segment.
        leavers: contacts at the destination that are no longer in the audience: those of the release that it stands at,
            and all others who lose something by this plan.
        unsubscribes, erasures: of them, those who refused, to be told to the platform.
        rekeys: contacts that go by another key from now on. Each is among the updates too.
        blocked: by segment that is stale, what its members are of, and how many changes of its tag are left out.
        held_back: rows that the platform refused before and that have not changed since.
        invalid: rows that the platform would not take, by reason.
        further_addresses: addresses left out as their customer goes there under another one.
        funnel: who is left after each step, from all addresses to the valid rows.
        holdout: addresses deliberately left out, so that the effect can be measured.
        calls: calls to the platform by kind, without those that only set it up.
        seconds: what these take at the platform's published limits; points: what it would charge.
        tripped: breakers that stop it, unless they are overridden by name.
        path: Parquet file of the operations.
    """

    destination: str
    platform: str
    target: str
    description: str
    release: int
    release_hash: str
    as_of: datetime
    made_at: datetime
    expires_at: datetime
    base_revision: int
    hash: str
    silent: str | None
    operations: int
    creates: int
    updates: int
    updates_by_field: dict[str, int]
    rekeys: int
    tag_adds: dict[str, int]
    tag_removes: dict[str, int]
    automations: dict[str, int]
    leavers: int
    unsubscribes: int
    erasures: int
    archives: int
    blocked: dict[str, BlockedSegment]
    held_back: int
    invalid: dict[str, int]
    further_addresses: int
    unchanged: int
    funnel: list[tuple[str, int]]
    holdout: int
    calls: dict[str, int]
    seconds: float
    points: int
    tripped: list[Tripped]
    fields: list[Field]
    path: Path = field(compare=False)

    @property
    def is_empty(self) -> bool:
        return self.operations == 0

    @property
    def header(self) -> Path:
        """JSON file of the plan's numbers."""
        return self.path.with_suffix(".json")

    @property
    def samples(self) -> list[Sample]:
        """Masked contacts by segment; none for a plan that changes nothing."""
        return samples.read(_samples_file(self.path))

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
                "contacts no longer in the audience": self.leavers,
                "unsubscribes to pass on": self.unsubscribes,
            }
            rare = {
                "erasures": self.erasures,
                "contacts under a new key": self.rekeys,
                "contacts to archive": self.archives,
            }
            said |= {label: number for label, number in rare.items() if number}
            said["automations started"] = _automations_said(self)
            said |= {"calls": sum(self.calls.values()), "time at the published limits": _time_said(self.seconds)}
            if self.points:
                said["billable points"] = self.points
            said |= {"plan": self.hash, "may be applied until": self.expires_at.isoformat(timespec="minutes")}
        said["contacts unchanged"] = self.unchanged
        said["holdout"] = self.holdout or "none set"
        for segment, blocked in self.blocked.items():
            said[f"segment {segment}"] = blocked.describe()
        for reason, number in self.invalid.items():
            said[f"left out: {reason}"] = number
        if self.further_addresses:
            said["left out: further addresses of a customer"] = self.further_addresses
        if self.held_back:
            said["held back as refused before"] = self.held_back
        for tripped in self.tripped:
            said[f"breaker {tripped.name}"] = tripped.words
        return said


def make(
    settings: Settings,
    home: Home,
    sync: str | Sync,
    release: Release | None = None,
    *,
    connector: Connector | None = None,
    retry_rejected: bool = False,
    full: bool = False,
    now: datetime | None = None,
) -> Plan:
    """Compare what should be at a destination with what it has acknowledged, and keep the difference as a plan.

    Before the first plan of a destination its members are read, where the platform lets them be read.

    Args:
        sync: its name, or itself.
        release: the newest by default; another one can be planned and looked at, but not applied.
        connector: the destination's; by default the account that the environment names, or the home's sandbox.
        retry_rejected: also plan rows that the platform refused before, though nothing about them changed.
        full: write every contact whole, whatever the ledger knows; starts no automation.
        now: aware; the wall clock by default.

    Raises:
        PlanError: there is no such sync or release, or the ledger is an older one.
        ReleaseError: the release is not as it was frozen.
        DestinationError: the members can't be read.
    """
    wanted = syncs.read(settings, sync) if isinstance(sync, str) else sync
    now = now or datetime.now(UTC)
    found = release or releases.latest(home)
    if found is None:
        raise PlanError(f"there is no release in {home.releases}: run `mailwright refresh` first")
    releases.verify(home, found)
    account = connector or destinations.open(settings, home, wanted)
    try:
        with Ledger(home, settings) as ledger:
            if ledger.standing(account.target).is_new and account.platform.can_read:
                _read_members(settings, found, wanted, account, ledger, now)
            return _make(settings, home, wanted, found, account, ledger, retry_rejected, full, now)
    finally:
        if connector is None:
            account.close()


def read(home: Home, destination: str, plan_hash: str | None = None) -> Plan:
    """Read a kept plan: the one whose hash begins with `plan_hash`, else the newest.

    Raises:
        PlanError: there is none such, or more than one.
    """
    found = _kept(home, destination, plan_hash)
    if not found:
        raise PlanError(f"there is no kept plan for {destination}: run `mailwright plan {destination}`")
    if plan_hash and len(found) > 1:
        raise PlanError(f"{len(found)} plans begin with {plan_hash}: give more of the hash")
    try:
        said: dict[str, Any] = json.loads(found[-1].read_text(encoding="utf-8"))
        for name in ("as_of", "made_at", "expires_at"):
            said[name] = datetime.fromisoformat(said[name])
        said["funnel"] = [(step, number) for step, number in said["funnel"]]
        said["fields"] = [Field(**mapped) for mapped in said["fields"]]
        said["tripped"] = [Tripped(**one_tripped) for one_tripped in said["tripped"]]
        said["blocked"] = {
            segment: BlockedSegment(
                datetime.fromisoformat(blocked["since"]) if blocked["since"] else None, blocked["changes"]
            )
            for segment, blocked in said["blocked"].items()
        }
        return Plan(**said, path=found[-1].with_suffix(".parquet"))
    except (ValueError, KeyError, TypeError) as error:
        raise PlanError(f"{found[-1]} can't be read ({error}): plan again") from None


def was_planned(home: Home, destination: str) -> bool:
    """Whether there is a kept plan of that sync, so that its destination was looked at before."""
    return bool(_kept(home, destination, None))


def why_silent(standing: Standing, release: Release, full: bool) -> str | None:
    """Why a plan starts no automation; None where it may."""
    if full:
        return FULL
    if release.reverts_to is not None:
        return f"goes back to release {release.reverts_to}"
    return standing.silent


def _kept(home: Home, destination: str, plan_hash: str | None) -> list[Path]:
    """Headers of the kept plans of a sync whose hash begins so, the newest last."""
    shape = re.compile(re.escape(f"{destination}-{plan_hash or ''}") + "[0-9a-f]*[.]json")
    return sorted(
        (path for path in home.plans.glob("*.json") if shape.fullmatch(path.name)),
        key=lambda path: path.stat().st_mtime_ns,
    )


def _read_members(
    settings: Settings, release: Release, sync: Sync, account: Connector, ledger: Ledger, now: datetime
) -> None:
    """Take over who is at a destination before its first plan."""
    keys: set[str] = set()
    if not account.platform.lists_members:
        with in_memory(settings) as connection:
            profiles = f"read_parquet('{releases.quoted(release.file('profiles'))}')"
            rows = connection.execute(f"select distinct {key_sql(sync.key)} from {profiles}").fetchall()
            keys = {key for (key,) in rows if key}
    reconcile.baseline(ledger, account, sync, now, keys)


def _make(
    settings: Settings,
    home: Home,
    sync: Sync,
    release: Release,
    account: Connector,
    ledger: Ledger,
    retry_rejected: bool,
    full: bool,
    now: datetime,
) -> Plan:
    standing = ledger.standing(account.target)
    with in_memory(settings) as connection:
        connection.register("known", ledger.rows(account.target))
        connection.register("letters_given", ledger.dead_letters(account.target))
        connection.execute("create table letters as from letters_given")
        connection.register("refused", _refused(refusals(settings, home, release)))
        rollback.create_profiles(connection, home, release)
        for table in ("addresses", "funnel"):
            connection.execute(f"create view {table} as from read_parquet('{releases.quoted(release.file(table))}')")
        should = desired.create(connection, release, sync)
        silent = why_silent(standing, release, full)
        base = _base(home, ledger, account.target)
        made = changes.create(
            connection,
            ledger,
            account.target,
            home,
            release,
            base,
            sync,
            should,
            silent=silent is not None,
            full=full,
            retry_rejected=retry_rejected,
        )
        plan = _describe(connection, home, sync, release, account, standing, should, made, silent, base, now)
        _write(plan, connection)
        if not plan.is_empty:
            personal = samples.personal_columns(settings.project_dir / "dbt_project")
            samples.write(_samples_file(plan.path), samples.take(connection, should, personal))
        return plan


def _base(home: Home, ledger: Ledger, target: str) -> Release | None:
    """The release that says who the contacts at the destination are, if it is still there.

    That of the last plan that came through and left nothing over; one that did not has moved some contacts only, and it
    is the release before it that knows the others. Where there is none such: of the last plan.
    """
    applied = [run for run in ledger.last_runs(50, target) if run["kind"] == "apply" and run["release"] is not None]
    whole = [run for run in applied if run["outcome"] == "done" and not _left_over(json.loads(run["counts"] or "{}"))]
    for run in [*whole, *applied]:
        try:
            return releases.read(home, int(run["release"]))
        except ReleaseError:
            continue
    return None


def _left_over(counts: Mapping[str, int]) -> int:
    return sum(counts.get(name, 0) for name in ("withheld", "rejected", "unanswered"))


def _refused(refused: Refusals) -> pa.Table:
    import pyarrow as pa

    return pa.table({
        "email": pa.array(refused.kinds.keys(), pa.string()), "kind": pa.array(refused.kinds.values(), pa.string()),
    })  # fmt: skip


def _describe(
    connection: duckdb.DuckDBPyConnection,
    home: Home,
    sync: Sync,
    release: Release,
    account: Connector,
    standing: Standing,
    should: Desired,
    made: Changes,
    silent: str | None,
    base: Release | None,
    now: datetime,
) -> Plan:
    platform = account.platform
    actions = Counter(counts(connection, "select action, count(*) from operations group by 1"))
    adds, removes = _tags(connection, "add"), _tags(connection, "remove")
    starts = {sync.start_tag_of(segment): segment for segment in sync.automations}
    calls = _calls(connection, platform)
    valid = should.funnel[-1][1]
    leavers = _leavers(connection, sync, base)
    written = one(connection, "select count(*) from contacts")
    plan_hash = _hash(connection, sync, release, account, standing)
    return Plan(
        destination=sync.name,
        platform=platform.name,
        target=account.target,
        description=account.description,
        release=release.number,
        release_hash=release.content_hash,
        as_of=release.as_of,
        made_at=now,
        expires_at=now + sync.expires,
        base_revision=standing.revision,
        hash=plan_hash,
        silent=silent,
        operations=actions.total(),
        creates=actions["create"],
        updates=actions["update"],
        updates_by_field=counts(
            connection,
            """
            select name, count(*)
            from (select unnest(json_keys(fields)) as name from operations where action = 'update')
            group by 1 order by 1
            """,
        ),
        rekeys=actions["rekey"],
        tag_adds={tag: number for tag, number in adds.items() if tag not in starts},
        tag_removes={tag: number for tag, number in removes.items() if tag not in starts},
        automations={starts[tag]: number for tag, number in adds.items() if tag in starts},
        leavers=leavers,
        unsubscribes=actions["unsubscribe"],
        erasures=actions["erase"],
        archives=actions["archive"],
        blocked={
            segment: BlockedSegment(
                since, sum(made.left_out[name] for name in (sync.tag_of(segment), sync.start_tag_of(segment)))
            )
            for segment, since in sorted(should.stale.items())
        },
        held_back=made.held_back,
        invalid=dict(should.invalid),
        further_addresses=should.further_addresses,
        unchanged=valid - written,
        funnel=list(should.funnel),
        holdout=0,
        calls=calls,
        seconds=sum(_seconds(platform, kind, number) for kind, number in calls.items()),
        points=one(connection, "select sum(points) from operations"),
        tripped=breakers.check(
            _numbers(connection, home, release, standing, made, valid, leavers, removes, now), sync.breakers
        ),
        fields=list(should.fields),
        path=home.plans / f"{sync.name}-{plan_hash}.parquet",
    )


def _leavers(connection: duckdb.DuckDBPyConnection, sync: Sync, base: Release | None) -> int:
    """How many leave the audience. Who left it by an earlier plan and kept nothing of ours does not leave again."""
    losing = """
        select unhex(key) as key from operations
        where action in ('unsubscribe', 'erase', 'leave', 'archive')
            or (action = 'tag_remove' and unhex(key) not in (select key from desired where key is not null))
    """
    gone = f"select key from compared where not is_desired and state = {int(State.SYNCED)}"
    leaving = f"select distinct key from ({losing})"
    if base is not None and one(connection, f"select count(*) from ({gone} except ({losing}))"):
        profiles = f"read_parquet('{releases.quoted(base.file('profiles'))}')"
        leaving += f" union ({gone} intersect select {desired.binary_key(sync)} from {profiles})"
    return one(connection, f"select count(*) from ({leaving})")


def _numbers(
    connection: duckdb.DuckDBPyConnection,
    home: Home,
    release: Release,
    standing: Standing,
    made: Changes,
    valid: int,
    leavers: int,
    removes: Mapping[str, int],
    now: datetime,
) -> Numbers:
    staying = one(connection, f"select count(*) from compared where is_desired and state = {int(State.SYNCED)}")
    coming = one(
        connection,
        f"""
        select count(*) from operations
        where action = 'create'
            or (action = 'update' and unhex(key) in (select key from compared where state = {int(State.FOUND)}))
        """,
    )
    checked = gate.read(home)
    # In a home of bygone deliveries the clock stands still, and so does the age of what was released.
    confirmed = checked.passed_at or (None if home.as_of is not None else release.confirmed_at or release.as_of)
    return Numbers(
        audience=valid,
        before=staying + leavers,
        added=coming,
        removed=leavers,
        segments={tag: (having, removes.get(tag, 0)) for tag, having in made.members.items()},
        is_first=standing.silent is not None,
        age=now - confirmed if confirmed is not None else None,
        gate_failed=checked.failed,
    )


def _tags(connection: duckdb.DuckDBPyConnection, change: str) -> dict[str, int]:
    """Contacts by tag that it is put on, or taken off; whether by an operation of its own or with the contact."""
    return counts(
        connection,
        f"""
        select tag, count(*)
        from (
            select tag from operations where action = 'tag_{change}'
            union all
            select unnest({change}) from operations where action <> 'rekey'
        )
        group by 1 order by 1
        """,
    )


def _calls(connection: duckdb.DuckDBPyConnection, platform: Platform) -> dict[str, int]:
    """Calls by kind: rows of one phase share a call as far as the platform's batches go, of tags only those of one tag.

    Looking up and waiting for jobs, as some connectors do, comes on top of these.
    """
    calls: Counter[str] = Counter()
    rows: Counter[tuple[int, str]] = Counter()
    for phase, action, number in connection.execute(
        "select phase, action, count(*) from operations where tag = '' group by all"
    ).fetchall():
        rows[phase, KINDS[action]] += number
    for (_, kind), number in rows.items():
        calls[kind] += math.ceil(number / platform.limit(kind).batch)
    batch = platform.limit("tags").batch
    # A call takes as many additions as removals of a tag.
    for added, removed in connection.execute("""
        select count(*) filter (action = 'tag_add'), count(*) filter (action = 'tag_remove')
        from operations where tag <> '' group by tag
    """).fetchall():
        calls["tags"] += math.ceil(max(added, removed) / batch)
    return dict(sorted(calls.items()))


def _seconds(platform: Platform, kind: str, calls: int) -> float:
    limit = platform.limit(kind)
    return 0.0 if limit.calls is None else calls * limit.seconds / limit.calls


def _hash(
    connection: duckdb.DuckDBPyConnection, sync: Sync, release: Release, account: Connector, standing: Standing
) -> str:
    """Of everything that an apply goes by. Row hashes are summed, so that no order of rows matters."""
    rows = connection.execute("""
        select count(*), sum(cast(row_hash & 18446744073709551615 as hugeint)), sum(cast(row_hash >> 64 as hugeint))
        from (select md5_number(cast(to_json(operations) as varchar)) as row_hash from operations)
    """).fetchone()
    said = f"{account.target}\n{standing.revision}\n{release.number}\n{release.content_hash}\n{sync!r}\n{rows}"
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _write(plan: Plan, connection: duckdb.DuckDBPyConnection) -> None:
    plan.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing(plan.path) as beside:
        beside.touch(mode=0o600)
        # The tag on which an automation starts goes before the segment's own, by which the next plan sees who entered.
        connection.execute(
            "copy (from operations order by phase, tag desc, action, key)"
            f" to '{releases.quoted(beside)}' (format parquet, row_group_size 50000)"
        )
        beside.chmod(0o600)
    said: Mapping[str, Any] = {name: value for name, value in asdict(plan).items() if name != "path"}
    # Instants are all of them aware.
    text = json.dumps(said, indent=2, default=lambda moment: moment.astimezone(UTC).isoformat())
    with replacing(plan.header) as beside:
        beside.touch(mode=0o600)
        beside.write_text(text + "\n", encoding="utf-8")


def _samples_file(path: Path) -> Path:
    return path.with_suffix(".samples.json")


def _automations_said(plan: Plan) -> str:
    if plan.silent is not None:
        return f"none: {plan.silent}"
    return ", ".join(f"{segment}: {number:,}" for segment, number in plan.automations.items()) or "none"


def _time_said(seconds: float) -> str:
    return str(timedelta(seconds=math.ceil(seconds)))
