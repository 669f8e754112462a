"""Apply: carry out a reviewed plan and nothing beyond it.

A plan may shrink while it is applied (a refusal that came in since, a row that the platform refuses), never grow. Each
row is acknowledged in the ledger on its own answer, so that a process killed at any moment leaves a ledger that claims
no more than what happened, and applying the same plan again completes it: every call is a set operation.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from activation import releases
from activation.consent import Gate
from activation.destination import Answer, Contact, Destination, RefusedError, Rejection, TryAgainError, connect, redact
from activation.old_ledger import UNSUBSCRIBED, DeadLetter, Ledger, RequestMade
from activation.old_plan import Plan
from core.errors import DestinationError, PlanError
from core.home import Home
from core.settings import Settings
from core.warehouse import in_memory

if TYPE_CHECKING:
    import duckdb

Progress = Callable[[int, int], None]
"""Told the operations done and the operations in all."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently a call is repeated.

    Waits grow from `first_wait` seconds by a factor of two up to `longest_wait`, with full jitter; the platform's own
    Retry-After goes before, up to `longest_retry_after`.
    """

    attempts: int = 7
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_retry_after: float = 300.0

    def wait(self, attempt: int, retry_after: float | None) -> float:
        """Seconds to wait after attempt number `attempt`, counted from 1."""
        if retry_after is not None:
            return min(retry_after, self.longest_retry_after)
        return random.uniform(0.5, 1.0) * min(self.longest_wait, self.first_wait * 2.0 ** (attempt - 1))


@dataclass
class ApplyReport:
    """What applying a plan did.

    Attributes:
        upserted, tags_added, tags_removed, unsubscribed: acknowledged rows.
        withheld: rows not sent, as a refusal came in after the plan was made.
        rejected: rows refused by the platform, now dead letters; `reasons` counts them by its words.
        done_before: rows that an earlier, interrupted apply of the same plan had finished.
    """

    plan: Plan
    run_id: int = 0
    upserted: int = 0
    tags_added: int = 0
    tags_removed: int = 0
    unsubscribed: int = 0
    withheld: int = 0
    rejected: int = 0
    done_before: int = 0
    calls: int = 0
    retries: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def changed(self) -> int:
        return self.upserted + self.tags_added + self.tags_removed + self.unsubscribed

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
        if self.done_before:
            said["finished by an earlier, interrupted run"] = self.done_before
        if self.withheld:
            said["withheld (refused since the plan, or not at the platform)"] = self.withheld
        if self.rejected:
            said["refused by the platform"] = self.rejected
        return {**said, "calls": self.calls, "seconds": f"{self.seconds:.1f}"}


@dataclass(frozen=True)
class _Row:
    action: str
    contact: Contact
    tag: str
    content_hash: str
    field_hashes: str


@dataclass
class _Sent:
    """What became of a batch: answers, and what was never sent. Built in a worker, acknowledged by the main thread."""

    accepted: list[_Row] = field(default_factory=list)
    rejected: list[tuple[_Row, Rejection]] = field(default_factory=list)
    withheld: int = 0
    retries: int = 0

    def add(self, other: _Sent) -> None:
        self.accepted += other.accepted
        self.rejected += other.rejected
        self.withheld += other.withheld
        self.retries += other.retries


def apply(
    settings: Settings,
    home: Home,
    plan: Plan,
    *,
    destination: Destination | None = None,
    retry: RetryPolicy | None = None,
    progress: Progress | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> ApplyReport:
    """Apply a plan, or go on with it where an earlier apply of it was interrupted.

    Args:
        destination: the connector; by default the one of the plan's name.
        now: the clock of the ledger's records; decides nothing.

    Raises:
        PlanError: the release or the ledger has moved since the plan was made, it was made for another account, or
            another apply is at work.
        ReleaseError: the release is not as it was frozen.
        DestinationError: the platform can't be reached or refuses us; what was acknowledged stays so, apply again.
    """
    owned = destination is None
    target = destination or connect(plan.destination, settings, home)
    try:
        with _only_one(home, plan.destination), Ledger(home) as ledger:
            _refuse_stale(home, plan, target)
            if plan.is_empty:
                return ApplyReport(plan)
            return _Engine(settings, home, plan, target, ledger, retry or RetryPolicy(), now).run(progress)
    finally:
        if owned:
            target.close()


class _Engine:
    def __init__(
        self,
        settings: Settings,
        home: Home,
        plan: Plan,
        target: Destination,
        ledger: Ledger,
        retry: RetryPolicy,
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._home = home
        self._plan = plan
        self._target = target
        self._ledger = ledger
        self._retry = retry
        self._now = now
        self._gate = Gate(settings, home, releases.read(home, plan.release))
        self._requests: list[RequestMade] = []
        self._requests_lock = threading.Lock()
        self._stopping = threading.Event()
        self._report = ApplyReport(plan)

    def run(self, progress: Progress | None) -> ApplyReport:
        started = time.monotonic()
        report, plan = self._report, self._plan
        self._target.observe(self._note_request)
        report.run_id = self._ledger.begin(
            plan.target, plan.hash, plan.base_revision, plan.release, _naive(self._now())
        )
        outcome = "interrupted"
        try:
            with in_memory(self._settings) as connection:
                self._find_remaining(connection)
                needed = connection.execute("select distinct tag from remaining where action = 'tag_add'").fetchall()
                upserts = connection.execute("select count(*) from remaining where phase = 2").fetchone()
                fields = plan.fields if upserts and upserts[0] else []
                self._patiently(lambda: self._target.prepare(fields, sorted(tag for (tag,) in needed)))
                for phase in (1, 2, 3):
                    self._run_phase(connection, phase, progress)
            outcome = "done"
        except DestinationError:
            outcome = "stopped by the platform"
            raise
        finally:
            report.seconds = time.monotonic() - started
            self._flush_requests()
            counts = {
                name: getattr(report, name)
                for name in (
                    "upserted", "tags_added", "tags_removed", "unsubscribed", "withheld", "rejected", "done_before",
                    "calls", "retries",
                )
            }  # fmt: skip
            self._ledger.end(report.run_id, outcome, counts, _naive(self._now()))
        return report

    def _find_remaining(self, connection: duckdb.DuckDBPyConnection) -> None:
        """The plan's operations less those that the ledger shows as done by an earlier apply of this plan."""
        import duckdb

        plan = self._plan
        path = str(plan.path).replace("'", "''")
        connection.register("ledger_contacts", self._ledger.contacts(plan.target))
        connection.register("ledger_tags", self._ledger.tags(plan.target))
        connection.register("rejected", self._ledger.rejected_in(plan.target, plan.hash))
        try:
            connection.execute(f"create view operations as from read_parquet('{path}')")
            total = connection.execute("select count(*) from operations").fetchone()
        except duckdb.Error as error:
            raise PlanError(f"{plan.path} can't be read ({type(error).__name__}): plan again") from None
        connection.execute(f"""
            create table remaining as
            select operations.*
            from operations
            left join ledger_contacts as contacts on operations.key = contacts.key
            left join ledger_tags as tags on operations.key = tags.key and operations.tag = tags.tag
            left join rejected
                on operations.action = rejected.action and operations.key = rejected.key
                and operations.tag = rejected.tag
            where
                rejected.key is null
                and case operations.action
                    when 'unsubscribe' then contacts.state <> '{UNSUBSCRIBED}'
                    when 'tag_add' then tags.key is null
                    when 'tag_remove' then tags.key is not null
                    else
                        contacts.key is null or contacts.content_hash <> operations.content_hash
                        or contacts.state = '{UNSUBSCRIBED}'
                end
        """)
        left = connection.execute("select count(*) from remaining").fetchone()
        if total is None or left is None or total[0] != plan.operations:
            raise PlanError(f"{plan.path} does not hold the {plan.operations} operations of its plan: plan again")
        self._report.done_before = total[0] - left[0]

    def _run_phase(self, connection: duckdb.DuckDBPyConnection, phase: int, progress: Progress | None) -> None:
        """Send a phase's batches, a few at once, and acknowledge each as its answer comes."""
        self._known = None
        if phase == 3:
            # Only who is at the platform can be tagged: creates that were withheld or refused fall out here.
            self._known = set(self._ledger.contacts(self._plan.target).column("key").to_pylist())
        workers = self._target.connections
        pending: set[Future[_Sent]] = set()
        with ThreadPoolExecutor(workers, thread_name_prefix="apply") as pool:
            try:
                for batch in self._batches(connection, phase):
                    pending.add(pool.submit(self._send, phase, batch))
                    if len(pending) >= workers:
                        pending = self._collect(pending, phase, progress)
                while pending:
                    pending = self._collect(pending, phase, progress)
            except BaseException:
                self._stopping.set()
                # What is under way ends by itself; its answers count.
                for sent in wait(pending).done:
                    if sent.exception() is None:
                        self._acknowledge(sent.result(), phase)
                raise

    def _collect(self, pending: set[Future[_Sent]], phase: int, progress: Progress | None) -> set[Future[_Sent]]:
        done, left = wait(pending, return_when=FIRST_COMPLETED)
        pending -= done
        failed: BaseException | None = None
        for future in done:
            error = future.exception()
            if error is None:
                self._acknowledge(future.result(), phase)
            failed = failed or error
        self._flush_requests()
        if failed is not None:
            raise failed
        if progress is not None:
            report = self._report
            progress(report.done_before + report.changed + report.withheld + report.rejected, self._plan.operations)
        return left

    def _batches(self, connection: duckdb.DuckDBPyConnection, phase: int) -> Iterator[list[_Row]]:
        """A phase's rows in calls: unsubscribes one by one, upserts by number, tags by tag with both directions."""
        size = 1 if phase == 1 else self._target.batch_size
        # Row numbers within tag and action: additions and removals of one tag share a call.
        rows = connection.execute(
            """
            select action, key, email, fields, tag, content_hash, field_hashes, tag || '/' || slot
            from (
                select
                    *,
                    (row_number() over (partition by tag, if(phase = 3, action, '') order by action, key) - 1)
                    // $size as slot
                from remaining
                where phase = $phase
            )
            order by tag, slot, action, key
            """,
            {"size": size, "phase": phase},
        )
        batch: list[_Row] = []
        current: str | None = None
        while some := rows.fetchmany(10_000):
            for action, key, email, fields, tag, content_hash, field_hashes, call in some:
                if call != current and batch:
                    yield batch
                    batch = []
                current = call
                batch.append(_Row(action, Contact(key, email, json.loads(fields)), tag, content_hash, field_hashes))
        if batch:
            yield batch

    def _send(self, phase: int, batch: Sequence[_Row]) -> _Sent:
        """Send one batch: consent first, then the call, repeated or split as the platform's answer asks for."""
        sent = _Sent()
        attempt = 0
        while not self._stopping.is_set():
            attempt += 1
            allowed = self._allowed(batch)
            sent.withheld += len(batch) - len(allowed)
            batch = allowed
            if not batch:
                return sent
            try:
                answer = self._call(phase, batch)
            except TryAgainError as error:
                if attempt >= self._retry.attempts:
                    raise DestinationError(
                        f"{self._target.description}: gave up after {attempt} attempts ({error}); what was acknowledged"
                        " is kept, apply again to go on"
                    ) from None
                sent.retries += 1
                self._stopping.wait(self._retry.wait(attempt, error.retry_after))
                continue
            except RefusedError as error:
                if len(batch) == 1:
                    sent.rejected.append((batch[0], Rejection(batch[0].contact.key, error.code, error.words)))
                    return sent
                middle = len(batch) // 2
                sent.add(self._send(phase, batch[:middle]))
                sent.add(self._send(phase, batch[middle:]))
                return sent
            refused = {rejection.key: rejection for rejection in answer.rejected}
            for row in batch:
                if row.contact.key in refused:
                    sent.rejected.append((row, refused[row.contact.key]))
                elif row.contact.key in answer.accepted:
                    sent.accepted.append(row)
            return sent
        return sent

    def _allowed(self, batch: Sequence[_Row]) -> list[_Row]:
        """Rows that may be sent at this moment. Nothing that takes away from a contact needs its consent."""
        refusals = self._gate.refusals()
        allowed = []
        for row in batch:
            email = row.contact.email
            if row.action == "unsubscribe":
                # No longer refused: a grant came in since.
                if email is not None and email not in refusals:
                    continue
            elif row.action != "tag_remove" and (email is None or email in refusals):
                continue
            if row.action == "tag_add" and self._known is not None and row.contact.key not in self._known:
                continue
            allowed.append(row)
        return allowed

    def _call(self, phase: int, batch: Sequence[_Row]) -> Answer:
        contacts = [row.contact for row in batch]
        if phase == 1:
            return self._target.unsubscribe(contacts[0])
        if phase == 2:
            return self._target.upsert(contacts)
        return self._target.change_tag(
            batch[0].tag,
            [row.contact for row in batch if row.action == "tag_add"],
            [row.contact for row in batch if row.action == "tag_remove"],
        )

    def _acknowledge(self, sent: _Sent, phase: int) -> None:
        target, report, rows = self._plan.target, self._report, sent.accepted
        if phase == 1:
            self._ledger.acknowledge_unsubscribes(target, [row.contact.key for row in rows])
            report.unsubscribed += len(rows)
        elif phase == 2:
            self._ledger.acknowledge_contacts(
                target, [(row.contact.key, row.content_hash, row.field_hashes) for row in rows]
            )
            report.upserted += len(rows)
        elif rows:
            added = [row.contact.key for row in rows if row.action == "tag_add"]
            removed = [row.contact.key for row in rows if row.action == "tag_remove"]
            self._ledger.acknowledge_tags(target, rows[0].tag, added, removed)
            report.tags_added += len(added)
            report.tags_removed += len(removed)
        letters = [
            DeadLetter(
                row.contact.key, row.action, row.tag, row.content_hash, refused.code, redact(refused.words, row.contact)
            )
            for row, refused in sent.rejected
        ]
        self._ledger.bury(report.run_id, target, letters, _naive(self._now()))
        report.rejected += len(letters)
        report.reasons.update(letter.words for letter in letters)
        report.withheld += sent.withheld
        report.retries += sent.retries

    def _patiently(self, call: Callable[[], None]) -> None:
        """Make a call that concerns no contact, with the same patience."""
        for attempt in range(1, self._retry.attempts + 1):
            try:
                return call()
            except TryAgainError as error:
                if attempt == self._retry.attempts:
                    raise DestinationError(
                        f"{self._target.description}: gave up after {attempt} attempts ({error}); apply again to go on"
                    ) from None
                self._report.retries += 1
                time.sleep(self._retry.wait(attempt, error.retry_after))
            except RefusedError as error:
                raise DestinationError(
                    f"{self._target.description} refuses to set up our fields or tags: {redact(error.words)}"
                ) from None

    def _note_request(
        self, method: str, route: str, rows: int, status: int | None, seconds: float, problem: str | None
    ) -> None:
        made = RequestMade(_naive(self._now()), method, route, rows, status, seconds, problem)
        with self._requests_lock:
            self._requests.append(made)

    def _flush_requests(self) -> None:
        with self._requests_lock:
            made, self._requests = self._requests, []
        self._report.calls += len(made)
        self._ledger.note_requests(self._report.run_id, made)


def _refuse_stale(home: Home, plan: Plan, target: Destination) -> None:
    newest = releases.latest(home)
    if newest is None or (newest.number, newest.content_hash) != (plan.release, plan.release_hash):
        raise PlanError(
            f"the plan is of release {plan.release}, the newest is {newest.number if newest else 'none'}: plan again"
        )
    releases.verify(home, newest)
    if target.target != plan.target:
        raise PlanError(f"the plan was made for {plan.description}, not for {target.description}: plan again")


@contextmanager
def _only_one(home: Home, destination: str) -> Iterator[None]:
    """Hold the destination's lock. A kernel lock ends with its process, however that dies."""
    path: Path = home.plans / f".{destination}.lock"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode().strip()
            raise PlanError(
                f"another apply to {destination} is at work (process {holder or 'unknown'}): try again when it is done"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
