"""Apply: carry out a reviewed plan and nothing beyond it.

A plan may shrink while it is applied (a refusal that came in since, a row that the platform refuses), never grow. Each
row is acknowledged in the ledger on its own answer, so that a process killed at any moment leaves a ledger that claims
no more than what happened, and applying the same plan again completes it.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson

from activation import breakers, destinations, drops, releases
from activation import sync as syncs
from activation.acknowledged import create_tag_ids, undone_sql
from activation.connector import Connector, Contact, redact
from activation.consent import Gate
from activation.doubtful import Notes
from activation.engine import DestinationDownError, Engine, Operation, StoppedError, Tally, in_batches
from activation.http import RefusedError, RetryPolicy, TryAgainError
from activation.ledger import Ledger, State
from activation.plan import FULL, Plan
from activation.releases import quoted
from activation.sync import Sync
from core import gate
from core.errors import DestinationError, LedgerError, PlanError
from core.home import Home
from core.settings import Settings
from core.warehouse import in_memory

if TYPE_CHECKING:
    import duckdb

Progress = Callable[[int, int], None]
"""Told the operations done and the operations in all."""

# Nothing that takes away from a contact needs consent.
_TAKING_AWAY = frozenset({"tag_remove", "leave", "archive"})
_THERE = (State.SYNCED, State.FOUND)
_PHASES = (1, 2, 3, 4, 5)
_AT_ONCE = 2_000
_COLUMNS = (
    "action, key, email, old_key, old_email, fields, add, remove, tag, content_hash, field_hashes, is_new, is_doubtful"
)


class TrippedError(PlanError):
    """A breaker stops a plan. Recovery: look at it, then override by name or correct the cause and plan again."""


@dataclass
class ApplyReport:
    """What applying a plan did.

    Attributes:
        acknowledged: operations by action.
        withheld: rows not sent, as a refusal came in after the plan was made.
        rejected: rows refused by the platform, now dead letters; `reasons` counts them by its words.
        unanswered: rows that the platform took in without a word on them; the next plan has them again.
        done_before: rows that an earlier, interrupted apply of the same plan had finished.
        overridden: breakers that were overridden.
    """

    plan: Plan
    run_id: int = 0
    acknowledged: Counter[str] = field(default_factory=Counter)
    withheld: int = 0
    rejected: int = 0
    unanswered: int = 0
    done_before: int = 0
    calls: int = 0
    retries: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    overridden: tuple[str, ...] = ()

    @property
    def changed(self) -> int:
        return self.acknowledged.total()

    @property
    def upserted(self) -> int:
        return self.acknowledged["create"] + self.acknowledged["update"]

    @property
    def tags_added(self) -> int:
        return self.acknowledged["tag_add"]

    @property
    def tags_removed(self) -> int:
        return self.acknowledged["tag_remove"]

    @property
    def unsubscribed(self) -> int:
        return self.acknowledged["unsubscribe"]

    def summary(self) -> dict[str, str | int]:
        """Label to value, for people."""
        said: dict[str, str | int] = {"destination": self.plan.description, "plan": self.plan.hash}
        if self.plan.is_empty:
            return {**said, "changes": "nothing to do"}
        said |= {
            "contacts upserted": self.upserted,
            "tags added": self.tags_added,
            "tags removed": self.tags_removed,
            "unsubscribes passed on": self.unsubscribed,
        }
        rare = {
            "contacts that left the audience": self.acknowledged["leave"],
            "contacts under a new key": self.acknowledged["rekey"],
            "contacts erased": self.acknowledged["erase"],
            "contacts archived": self.acknowledged["archive"],
            "finished by an earlier, interrupted run": self.done_before,
            "withheld (refused since the plan, or not at the platform)": self.withheld,
            "refused by the platform": self.rejected,
            "not mentioned by the platform's answers": self.unanswered,
        }
        said |= {label: number for label, number in rare.items() if number}
        if self.overridden:
            said["breakers overridden"] = ", ".join(self.overridden)
        return {**said, "calls": self.calls, "seconds": f"{self.seconds:.1f}"}

    def counts(self) -> dict[str, int]:
        """For the ledger's run."""
        names = ("withheld", "rejected", "unanswered", "done_before", "calls", "retries")
        return {**self.acknowledged, **{name: getattr(self, name) for name in names}}


def apply(
    settings: Settings,
    home: Home,
    plan: Plan,
    *,
    connector: Connector | None = None,
    sync: Sync | None = None,
    retry: RetryPolicy | None = None,
    override: Collection[str] = (),
    by: str | None = None,
    progress: Progress | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> ApplyReport:
    """Apply a plan, or go on with it where an earlier apply of it was interrupted.

    Args:
        connector, sync: of the plan's destination; by default what its document and the environment say.
        override: names of breakers that shall not stop it, noted with the run; `by` says who decided that.
        now: the wall clock: of the plan's expiry, of the ledger's records, and of how long a destination is down.

    Raises:
        TrippedError: a breaker stops it.
        PlanError: the plan has expired, the release or the ledger has moved since it was made, it was
            made for another account, or another apply is at work.
        ReleaseError: the release is not as it was frozen.
        DestinationError: the platform can't be reached, refuses us or too many rows; what was acknowledged stays so, apply
            again. Beyond the sync's deadline, the message says where the audience lies as a file drop.
        LedgerError: the ledger can't be written; what was not acknowledged is sent again.
    """
    document = sync or syncs.read(settings, plan.destination)
    _refuse_tripped(home, plan, override)
    if now() >= plan.expires_at:
        raise PlanError(f"the plan expired at {plan.expires_at:%Y-%m-%d %H:%M} UTC: plan again")
    target = connector or destinations.open(settings, home, document, retry=retry)
    try:
        _refuse_stale(home, plan, target)
        with Ledger(home, settings) as ledger, ledger.lease(target.target, f"apply of plan {plan.hash}"):
            ledger.standing(target.target)
            if plan.is_empty:
                drops.note_up(home, document.name)  # nothing waits for it any more
                return ApplyReport(plan)
            overrides = [f"{name} by {by}" if by else name for name in sorted(override)]
            run = _Run(settings, home, plan, document, target, ledger, retry, frozenset(override), now)
            with _spared():
                return run.go(overrides, progress)
    finally:
        if connector is None:
            target.close()


class _Run:
    """One run of a plan."""

    def __init__(
        self,
        settings: Settings,
        home: Home,
        plan: Plan,
        sync: Sync,
        connector: Connector,
        ledger: Ledger,
        retry: RetryPolicy | None,
        override: frozenset[str],
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._home = home
        self._plan = plan
        self._sync = sync
        self._connector = connector
        self._ledger = ledger
        self._retry = retry
        self._override = override
        self._now = now
        self._report = ApplyReport(plan, overridden=tuple(sorted(override)))

    def go(self, overrides: Collection[str], progress: Progress | None) -> ApplyReport:
        report, plan, started = self._report, self._plan, self._now()
        target = self._connector.target
        is_resumed = self._ledger.standing(target).plan_hash == plan.hash
        report.run_id = self._ledger.begin(target, plan.hash, plan.base_revision, plan.release, overrides, started)
        self._notes = Notes(self._home, target, plan.hash, report.run_id)
        consent = Gate(self._settings, self._home, releases.read(self._home, plan.release))
        engine = Engine(
            self._connector,
            self._ledger,
            report.run_id,
            lambda: _may_send(consent),
            retry=self._retry,
            layout=self._ledger.layout_id(target, [mapped.name for mapped in plan.fields]),
            stop_at=self._too_many_rejects,
            now=self._now,
        )
        outcome = "interrupted"
        try:
            self._send(engine, is_resumed, progress)
            outcome = "done"
        except StoppedError:
            outcome = "stopped by the breaker rejects"
            drops.note_up(self._home, self._sync.name)  # it answers
            raise
        except DestinationError as error:
            outcome = "stopped by the platform"
            raise self._past_deadline(error) from None
        except LedgerError:
            outcome = "stopped, as the ledger can't be written"
            raise
        finally:
            report.seconds = (self._now() - started).total_seconds()
            self._take(engine.tally)
            self._end(outcome, engine.tally)
        return report

    def _send(self, engine: Engine, is_resumed: bool, progress: Progress | None) -> None:
        with in_memory(self._settings) as connection:
            self._find_remaining(connection, is_resumed)
            self._prepare(connection)

            def told(tally: Tally) -> None:
                if progress is not None:
                    progress(self._report.done_before + tally.settled, self._plan.operations)

            for phase in _PHASES:
                self._withhold_absent(connection, engine, phase)
                engine.send(in_batches(self._operations(connection, phase), self._connector), told)

    def _end(self, outcome: str, tally: Tally) -> None:
        try:
            self._ledger.end(self._report.run_id, outcome, self._report.counts(), self._now())
            if outcome == "done":
                self._notes.settle(self._settings, self._ledger, self._plan.path, tally.unclear, tally.undone)
                drops.note_up(self._home, self._sync.name)
        except LedgerError:
            # The run counts as killed from the next one on; an error that led here is the one to be told.
            if outcome == "done":
                raise

    def _find_remaining(self, connection: duckdb.DuckDBPyConnection, is_resumed: bool) -> None:
        """The plan's operations less those that the ledger shows as done by an earlier apply of this plan."""
        import duckdb

        plan = self._plan
        try:
            connection.execute(f"create view operations as from read_parquet('{quoted(plan.path)}')")
            total = _one(connection, "select count(*) from operations")
        except duckdb.Error as error:
            raise PlanError(f"{plan.path} can't be read ({type(error).__name__}): plan again") from None
        if total != plan.operations:
            raise PlanError(f"{plan.path} does not hold the {plan.operations} operations of its plan: plan again")
        target = self._connector.target
        # What a full plan asks for is in the ledger before it is sent: an interrupted one is sent again whole.
        if not is_resumed or (plan.silent == FULL and not self._ledger.is_done(target, plan.hash)):
            connection.execute("create view remaining as from operations")
            return
        connection.register("known", self._ledger.rows(target))
        connection.register("rejected", self._ledger.rejected_in(target, plan.hash))
        create_tag_ids(connection, self._ledger, target)
        connection.execute(_REMAINING)
        self._report.done_before = total - _one(connection, "select count(*) from remaining")

    def _prepare(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Have the fields and tags made that are missing."""
        tags = connection.execute("""
            select distinct name
            from (
                select tag as name from remaining
                union all select unnest(add) from remaining
                union all select unnest(remove) from remaining
            )
            where name <> ''
            order by name
        """).fetchall()
        if not _one(connection, "select count(*) from remaining where phase > 1"):
            return
        try:
            self._connector.prepare(self._plan.fields, [name for (name,) in tags])
        except TryAgainError as error:
            raise DestinationDownError(
                f"{self._connector.description}: gave up setting up fields and tags ({error}); apply again to go on"
            ) from None
        except RefusedError as error:
            raise DestinationError(
                f"{self._connector.description} refuses to set up our fields or tags: {redact(error.words)}"
            ) from None

    def _operations(self, connection: duckdb.DuckDBPyConnection, phase: int) -> Iterator[Operation]:
        """A phase's operations in the order in which they share calls."""
        size = self._connector.platform.limit("tags").batch
        # Row numbers within tag and action: additions and removals of one tag share a call. The tag on which an automation
        # starts goes before the segment's own, by which the next plan sees who entered.
        slot = "(row_number() over (partition by tag, action order by key) - 1) // $size"
        rows = connection.cursor().execute(
            f"""
            select {_COLUMNS}
            from remaining
            anti join absent using (action, key)
            where phase = $phase and $size > 0
            {f"order by tag desc, {slot}, action, key" if phase == 4 else "order by action" if phase == 1 else ""}
            """,
            {"size": size, "phase": phase},
        )
        while some := rows.fetchmany(_AT_ONCE):
            operations = [_operation(*row) for row in some]
            self._notes.note(operations)
            yield from operations

    def _withhold_absent(self, connection: duckdb.DuckDBPyConnection, engine: Engine, phase: int) -> None:
        """Only who is at the platform can be changed there: what was withheld or refused before falls out here."""
        connection.execute("create or replace table absent (action varchar, key varchar)")
        # An update can be of somebody whose new key was withheld or refused in the phase before.
        action = "tag_add" if phase == 4 else "update" if phase == 3 and self._plan.rekeys else None
        if action is None:
            return
        asked = connection.cursor().execute(
            "select distinct unhex(key) from remaining where phase = ? and action = ?", [phase, action]
        )
        while some := asked.fetchmany(_AT_ONCE):
            keys = [key for (key,) in some]
            states = self._ledger.states(self._connector.target, keys)
            absent = [(action, key.hex()) for key in keys if states.get(key) not in _THERE]
            if absent:
                connection.executemany("insert into absent values (?, ?)", absent)
        withheld = connection.cursor().execute(
            f"select {_COLUMNS} from remaining semi join absent using (action, key) where phase = ?", [phase]
        )
        while some := withheld.fetchmany(_AT_ONCE):
            engine.withhold([_operation(*row) for row in some], "not at the platform")

    def _too_many_rejects(self, sent: int, rejected: int) -> str | None:
        if "rejects" in self._override:
            return None
        tripped = breakers.check_rejects(sent, rejected, self._sync.breakers)
        return None if tripped is None else f"{tripped.words}; look at the dead letters, then plan again"

    def _past_deadline(self, error: DestinationError) -> DestinationError:
        """What is to be said of a destination that is down: past its deadline, with the audience as a file drop."""
        now = self._now()
        since = drops.note_down(self._home, self._sync.name, now)
        if now - since < self._sync.deadline:
            return error
        drop = drops.write(
            self._settings, self._home, self._sync, self._ledger, self._connector.target, self._plan.release, now
        )
        return drops.PastDeadlineError(
            f"{error}. It is down since {since:%Y-%m-%d %H:%M} UTC, past its deadline: the audience lies in"
            f" {drop.folder} to be imported until {drop.expires_at:%Y-%m-%d %H:%M} UTC"
        )

    def _take(self, tally: Tally) -> None:
        report = self._report
        report.acknowledged = tally.acknowledged
        report.reasons = tally.reasons
        for name in ("withheld", "rejected", "unanswered", "calls", "retries"):
            setattr(report, name, getattr(tally, name))


# What the platform refused under this plan is not sent again by it.
_REMAINING = f"""
create table remaining as
select undone.*
from ({undone_sql("operations")}) as undone
left join (select distinct action, lower(hex(key)) as key, tag from rejected) as rejected
    on
        if(undone.action = 'update', 'create', undone.action) = if(rejected.action = 'update', 'create', rejected.action)
        and undone.key = rejected.key and undone.tag = rejected.tag
where rejected.key is null
"""


def _operation(
    action: str,
    key: str,
    email: str | None,
    old_key: str | None,
    old_email: str | None,
    fields: str,
    add: list[str],
    remove: list[str],
    tag: str,
    content_hash: bytes,
    field_hashes: bytes,
    is_new: bool,
    is_doubtful: bool,
) -> Operation:
    values = orjson.loads(fields) if fields != "{}" else {}
    contact = Contact(key, email, is_new, values, tuple(add), tuple(remove), is_doubtful)
    old = Contact(old_key, old_email, remove=tuple(remove)) if old_key is not None else None
    return Operation(action, contact, old, tag, content_hash, field_hashes)


def _may_send(consent: Gate) -> Callable[[Operation], bool]:
    """What may be sent at this moment, by the refusals that are delivered by now."""
    kinds = consent.refusals().kinds

    def may_send(row: Operation) -> bool:
        email, action = row.contact.email, row.action
        if action in _TAKING_AWAY:
            return True
        if action in ("unsubscribe", "erase"):
            # Somebody whose address is not known any more can't have consented since.
            return email is None or (email in kinds and (action != "erase" or kinds[email] == "erasure"))
        if row.old is not None and row.old.email in kinds:
            return False
        return email is not None and email not in kinds

    return may_send


def _refuse_tripped(home: Home, plan: Plan, override: Collection[str]) -> None:
    if unknown := sorted(set(override) - set(breakers.NAMES)):
        raise PlanError(f"there is no breaker {', '.join(unknown)}; there is: {', '.join(breakers.NAMES)}")
    tripped = {one.name: one.words for one in plan.tripped}
    if gate.read(home).failed:
        tripped["gate"] = "the last refresh did not come through its checks"
    if stopping := {name: words for name, words in tripped.items() if name not in override}:
        said = "; ".join(f"{name}: {words}" for name, words in stopping.items())
        raise TrippedError(
            f"the plan is implausible and was not applied ({said}). Look at it; where it is right all the same, apply with"
            f" {' '.join(f'--override {name}' for name in stopping)}"
        )


def _refuse_stale(home: Home, plan: Plan, target: Connector) -> None:
    newest = releases.latest(home)
    if newest is None or (newest.number, newest.content_hash) != (plan.release, plan.release_hash):
        raise PlanError(
            f"the plan is of release {plan.release}, the newest is {newest.number if newest else 'none'}: plan again"
        )
    releases.verify(home, newest)
    if target.target != plan.target:
        raise PlanError(f"the plan was made for {plan.description}, not for {target.description}: plan again")


@contextmanager
def _spared() -> Iterator[None]:
    """Have the collector leave alone what the process holds by now: it took a third of the time, and found nothing."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    # All of it: a result that is not read to its end keeps the connection from registering tables.
    (row,) = connection.execute(query).fetchall()
    return int(row[0])
