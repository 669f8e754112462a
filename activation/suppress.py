"""Suppress: tell every destination who withdrew. Needs no release, plan, gate or breaker, and waits for none of them.

Unsubscribes, complaints, objections, legal suppressions and erasures are read straight from the lake, found in each
destination's ledger by key, and pushed. It may run beside an apply: whoever is unsubscribed here stays so in the ledger
whatever an apply acknowledges later, and what an apply is about to create is looked at when it is done. A destination
that fails holds up no other.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import yaml

from activation import destinations, doubtful, releases
from activation import sync as syncs
from activation.connector import Connector, Contact, key_of, platform_named
from activation.consent import PUSHED, Gate, Refusals, refusals
from activation.engine import Engine, Operation, in_batches
from activation.http import RetryPolicy
from activation.leases import AtWorkError
from activation.ledger import Ledger, State
from activation.platform import Key
from activation.releases import Release, quoted
from activation.sync import Sync
from core.errors import LedgerError, MailwrightError, PlanError, ReleaseError
from core.home import Home
from core.settings import Settings
from core.warehouse import in_memory

if TYPE_CHECKING:
    import duckdb

_log = logging.getLogger(__name__)

ALARM = timedelta(hours=24)
# The next run comes in minutes and tries again: a destination that is down is not waited for.
_RETRY = RetryPolicy(attempts=3, first_wait=1.0, longest_wait=5.0, longest_retry_after=30.0)
_MAILED = frozenset({State.SYNCED, State.FOUND})
_NOT_ERASED = frozenset(State) - {State.ERASED}


@dataclass(frozen=True)
class Withdrawal:
    """Somebody who must be mailed no more, as one platform knows them.

    Attributes:
        action: `unsubscribe` or `erase`.
        known_at: when it was delivered, naive UTC; None where only a release says so.
    """

    key: str
    email: str = field(repr=False)
    action: str
    known_at: datetime | None


@dataclass(frozen=True)
class Overdue:
    """A withdrawal that a destination has not been told of within 24 hours. The key is the ledger's, no address."""

    key: str
    action: str
    known_at: datetime


@dataclass
class SuppressReport:
    """What one destination was told.

    Attributes:
        unsubscribed, erased: acknowledged by the destination in this run.
        rejected: refused by it; tried again by the next run.
        pending: withdrawals that it has not acknowledged yet.
        p50, p95: how long after their delivery those of this run were acknowledged; None where there were none.
        overdue: pending for more than 24 hours: somebody has to look at these.
        error: why not everything was done.
        is_busy: it was not done as another run is at it.
    """

    name: str
    description: str = ""
    unsubscribed: int = 0
    erased: int = 0
    rejected: int = 0
    pending: int = 0
    p50: timedelta | None = None
    p95: timedelta | None = None
    overdue: list[Overdue] = field(default_factory=list)
    error: str | None = None
    is_busy: bool = False

    def summary(self) -> dict[str, str | int]:
        """Label to value, for people."""
        said: dict[str, str | int] = {
            "destination": self.description or self.name,
            "unsubscribed": self.unsubscribed,
            "erased": self.erased,
        }
        if self.p50 is not None and self.p95 is not None:
            said["delay"] = f"{_said(self.p50)} at the median, {_said(self.p95)} at the 95th percentile"
        if self.rejected:
            said["refused by the platform"] = self.rejected
        if self.pending:
            said["not acknowledged yet"] = self.pending
        if self.overdue:
            said["ALARM: for more than 24 hours"] = len(self.overdue)
        if self.error:
            said["error"] = self.error
        return said


def suppress(
    settings: Settings,
    home: Home,
    names: Collection[str] | None = None,
    *,
    connectors: Mapping[str, Connector] | None = None,
    retry: RetryPolicy | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> list[SuppressReport]:
    """Push what was withdrawn to every destination. Returns a report for each, also for one that failed.

    Args:
        names: of syncs; all by default.
        connectors: of some destinations by name; by default what the environment says, or the sandbox.
    """
    wanted = sorted(names if names is not None else syncs.names())
    release = _newest(home)
    as_of = home.as_of or now()
    found = _refusals(settings, home, release, as_of)
    by_key = {
        kind: withdrawals(settings, home, kind, *found) for kind in {_platform_key(settings, name) for name in wanted}
        if kind is not None
    }  # fmt: skip
    consent = Gate(settings, home, found[1], as_of)

    def push(name: str) -> SuppressReport:
        report = SuppressReport(name)
        try:
            sync = _sync(settings, name)
            account = (connectors or {}).get(name)
            with contextlib.ExitStack() as stack:
                if account is None:
                    account = destinations.open(settings, home, sync, retry=retry or _RETRY)
                    stack.callback(account.close)
                report.description = account.description
                job = _Job(settings, home, account, consent, by_key[account.platform.key], retry or _RETRY, now)
                job.run(report)
        except MailwrightError as error:
            report.error = str(error)
            report.is_busy = isinstance(error, AtWorkError)
        return report

    # One destination's patience is no other's delay.
    with ThreadPoolExecutor(max(1, len(wanted)), thread_name_prefix="suppress") as pool:
        return list(pool.map(push, wanted))


def withdrawals(
    settings: Settings, home: Home, kind: Key, refused: Refusals, release: Release | None
) -> dict[bytes, Withdrawal]:
    """Everybody who withdrew, by the ledger's key at platforms that know people by `kind`."""
    pushed = {email: said for email, said in refused.kinds.items() if said in PUSHED}
    if not pushed:
        return {}
    if kind == "email":
        made = [
            Withdrawal(key_of("email", email, ""), email, _action(said), refused.known_at.get(email))
            for email, said in pushed.items()
        ]
        return {bytes.fromhex(one.key): one for one in made}
    return _of_customers(settings, home, pushed, refused, release)


class _Job:
    """The withdrawals of one destination."""

    def __init__(
        self,
        settings: Settings,
        home: Home,
        connector: Connector,
        consent: Gate,
        wanted: Mapping[bytes, Withdrawal],
        retry: RetryPolicy,
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._home = home
        self._connector = connector
        self._consent = consent
        self._wanted = wanted
        self._retry = retry
        self._now = now

    def run(self, report: SuppressReport) -> None:
        target = self._connector.target
        with (
            Ledger(self._home, self._settings) as ledger,
            ledger.lease(f"{target} withdrawals", "suppress"),
            contextlib.ExitStack() as stack,
        ):
            # A ledger that was restored is read all the same: it knows of most, and telling twice does no harm.
            pending = self._pending(ledger, stack)
            if not pending:
                return
            run_id = ledger.begin_without_plan(target, "suppress", self._now())
            engine = Engine(self._connector, ledger, run_id, lambda: self._may_send, retry=self._retry, now=self._now)
            outcome = "stopped"
            try:
                rows = [
                    Operation(one.action, Contact(one.key, one.email))
                    for one in sorted(pending.values(), key=lambda one: (one.action, one.key))
                ]
                engine.send(in_batches(rows, self._connector))
                outcome = "done"
            finally:
                self._take(report, ledger, engine, pending)
                with contextlib.suppress(LedgerError):
                    ledger.end(run_id, outcome, {**engine.tally.acknowledged, "calls": engine.tally.calls}, self._now())

    def _pending(self, ledger: Ledger, stack: contextlib.ExitStack) -> dict[bytes, Withdrawal]:
        """Withdrawals that the destination has not been told of."""
        target = self._connector.target
        states = ledger.states(target, list(self._wanted))
        found = {
            key: one
            for key, one in self._wanted.items()
            if states.get(key) in (_NOT_ERASED if one.action == "erase" else _MAILED)
        }
        try:
            # While a plan is applied, what it creates is not there for certain; it is looked at when that is done.
            lease = ledger.lease(target, "suppress, for contacts that nobody answered for")
            if unknown := doubtful.unknown(self._home, ledger, target, self._wanted):
                stack.enter_context(lease)
                found |= {key: self._wanted[key] for key in unknown}
        except PlanError:
            _log.info("%s: something is at work there, its new contacts are looked at by the next run", target)
        return found

    def _may_send(self, row: Operation) -> bool:
        kinds = self._consent.refusals().kinds
        said = kinds.get(row.contact.email or "")
        return said in PUSHED and (row.action != "erase" or said == "erasure")

    def _take(
        self, report: SuppressReport, ledger: Ledger, engine: Engine, pending: Mapping[bytes, Withdrawal]
    ) -> None:
        tally, now = engine.tally, self._now().astimezone(UTC).replace(tzinfo=None)
        report.unsubscribed = tally.acknowledged["unsubscribe"]
        report.erased = tally.acknowledged["erase"]
        report.rejected = tally.rejected
        delays = []
        states: Mapping[bytes, State] = {}
        with contextlib.suppress(LedgerError):
            states = ledger.states(self._connector.target, list(pending))
        for key, one in pending.items():
            reached = State.ERASED if one.action == "erase" else State.UNSUBSCRIBED
            if states.get(key) in (reached, State.ERASED):
                if one.known_at is not None:
                    delays.append(now - one.known_at)
                continue
            report.pending += 1
            if one.known_at is not None and now - one.known_at > ALARM:
                report.overdue.append(Overdue(one.key, one.action, one.known_at))
        report.p50, report.p95 = percentile(delays, 50), percentile(delays, 95)
        if report.overdue:
            _log.error(
                "%s has not been told of %d withdrawals within 24 hours",
                self._connector.description,
                len(report.overdue),
            )


def percentile(delays: Sequence[timedelta], percent: int) -> timedelta | None:
    """By nearest rank; None of nothing."""
    if not delays:
        return None
    return sorted(delays)[max(0, -(-percent * len(delays) // 100) - 1)]


def _action(kind: str) -> str:
    return "erase" if kind == "erasure" else "unsubscribe"


def _newest(home: Home) -> Release | None:
    try:
        return releases.latest(home)
    except ReleaseError as error:
        _log.warning("withdrawals are read without a release: %s", error)
        return None


def _refusals(
    settings: Settings, home: Home, release: Release | None, as_of: datetime
) -> tuple[Refusals, Release | None]:
    """Refusals by the release, or without it where its files can't be read."""
    import duckdb

    if release is not None:
        try:
            return refusals(settings, home, release), release
        except duckdb.Error as error:
            _log.warning("release %d can't be read (%s): withdrawals are read without it", release.number, type(error))
    return refusals(settings, home, None, as_of=as_of), None


def _sync(settings: Settings, name: str) -> Sync:
    """The sync's document; where something in it is wrong, what a withdrawal needs of it: where it goes."""
    try:
        return syncs.read(settings, name)
    except PlanError:
        path = syncs.FOLDER / f"{name}.yml"
        if not path.exists():
            raise
        try:
            platform = yaml.safe_load(path.read_text(encoding="utf-8"))["platform"]
            key = platform_named(str(platform)).platform.key
        except (yaml.YAMLError, KeyError, TypeError):
            raise PlanError(f"{path.name} names no platform: withdrawals can't be told there") from None
        return Sync(name=name, platform=str(platform), key=key, fields={})


def _platform_key(settings: Settings, name: str) -> Key | None:
    try:
        return _sync(settings, name).connector.platform.key
    except PlanError:
        return None  # told by the report of that name


def _of_customers(
    settings: Settings, home: Home, pushed: Mapping[str, str], refused: Refusals, release: Release | None
) -> dict[bytes, Withdrawal]:
    """The customers of refused addresses.

    By the newest release, and by the newest identity where it knows of more; of customers whom neither knows any more, as
    they were merged or have gone, by the older releases. A shared address that decides nothing about its holders (blocked)
    counts for a customer who has no other. A customer is not withdrawn who goes there under an address that they agreed for
    after all, unless the refused one may be what is there: then a plan has yet to change that.
    """
    import pyarrow as pa

    with in_memory(settings) as connection:
        connection.register("pushed", pa.table({
            "email": pa.array(pushed.keys(), pa.string()), "kind": pa.array(pushed.values(), pa.string()),
            "known_at": pa.array([refused.known_at.get(email) for email in pushed], pa.timestamp("us")),
        }))  # fmt: skip
        _create_holders(connection, home, release)
        _create_profiled(connection, settings, home, release)
        rows = connection.execute("""
            select
                customer_id,
                min(email) filter (where kind is not null),
                coalesce(bool_or(kind = 'erasure' and not is_blocked), false)
                or bool_and(kind is not distinct from 'erasure') as is_erased,
                min(known_at)
            from holders
            left join pushed using (email)
            left join profiled using (email)
            group by customer_id
            having
                is_erased
                or bool_and(kind is not null)
                or (
                    bool_or(kind is not null and not is_blocked)
                    and (not bool_or(kind is null and is_newest) or bool_or(kind is not null and is_newest is not null))
                )
        """).fetchall()
    return {
        bytes.fromhex(customer): Withdrawal(customer, email, "erase" if erased else "unsubscribe", known_at)
        for customer, email, erased, known_at in rows
    }


def _create_profiled(
    connection: duckdb.DuckDBPyConnection, settings: Settings, home: Home, release: Release | None
) -> None:
    """Make `profiled`: addresses that destinations may have, and whether the newest release has them too.

    Empty where a file can't be read: then every refusal counts.
    """
    import duckdb

    connection.execute("create table profiled (email varchar, is_newest boolean)")
    newest = release.number if release is not None else None
    with Ledger(home, settings) as ledger:
        numbers = ledger.bases() | ({newest} if newest is not None else set())
    for number in sorted(numbers):
        file = home.releases / f"{number:06}" / "profiles.parquet"
        if not file.exists():
            continue
        try:
            connection.execute(
                f"insert into profiled select email, ? from read_parquet('{quoted(file)}')"
                " where customer_id in (select customer_id from holders semi join pushed using (email))",
                [number == newest],
            )
        except duckdb.Error as error:
            _log.warning("profiles of release %d can't be read (%s): every refusal counts", number, type(error))
            connection.execute("delete from profiled")
            break
    connection.execute(
        "create or replace table profiled as select email, bool_or(is_newest) as is_newest from profiled group by email"
    )


def _create_holders(connection: duckdb.DuckDBPyConnection, home: Home, release: Release | None) -> None:
    """Make `holders`: whose an address is."""
    is_key = "regexp_full_match(customer_id, '([0-9a-f]{2})+')"
    connection.execute("create table holders (email varchar, customer_id varchar, is_blocked boolean)")
    numbers = releases.numbers(home)
    newest = [release.number] if release is not None else []
    for number in [*newest, *(one for one in reversed(numbers) if one not in newest)]:
        file = home.releases / f"{number:06}" / "addresses.parquet"
        if not file.exists():
            continue
        source = f"read_parquet('{quoted(file)}')"
        columns = {name for name, *_ in connection.execute(f"describe from {source}").fetchall()}
        blocked = "coalesce(is_blocked, false)" if "is_blocked" in columns else "false"
        connection.execute(f"""
            insert into holders
            select distinct email, customer_id, {blocked}
            from {source}
            where {is_key} and customer_id not in (select customer_id from holders)
        """)
    _add_assigned(connection, home)


def _add_assigned(connection: duckdb.DuckDBPyConnection, home: Home) -> None:
    """Add whom the newest identity says an address to be of, as a release may be older than it."""
    files = sorted((home.identity / "assignments").glob("*.parquet"))
    if not files:
        return
    listed = ", ".join(f"'{quoted(path)}'" for path in files)
    connection.execute(f"""
        insert into holders
        select pushed.email, assigned.customer_id, false
        from pushed
        inner join (
            select identifier_id, arg_max(customer_id, run) as customer_id
            from read_parquet([{listed}], union_by_name = true)
            group by identifier_id
        ) as assigned
            on cast('0x' || substr(md5('any|email|' || pushed.email), 1, 15) as bigint) = assigned.identifier_id
        where
            regexp_full_match(assigned.customer_id, '([0-9a-f]{{2}})+')
            and pushed.email not in (select email from holders where is_blocked)
            and (pushed.email, assigned.customer_id) not in (select (email, customer_id) from holders)
    """)


def _said(delay: timedelta) -> str:
    minutes = delay.total_seconds() / 60
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.0f} h" if minutes < 2880 else f"{minutes / 1440:.0f} days"
