"""The engine that sends: batches, consent just before each call, repeating, halving, and acknowledging row by row.

Used by `apply` for plans and by `suppress` for withdrawals. Workers call the platform; only the main thread writes the
ledger, several answers in one transaction. What is not acknowledged is sent again by the next run: every call is a set
operation, so that a second time changes nothing.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from activation.connector import Answer, Connector, Contact, Rejection, Rekey, redact
from activation.http import RefusedError, RetryPolicy, TryAgainError
from activation.ledger import Acknowledgement, DeadLetter, Ledger, RequestMade, State, Withheld
from core.errors import DestinationError, LedgerError

Kind = Literal["unsubscribe", "erase", "rekey", "write", "tag", "archive"]
"""What a call does; each is a method of the connector."""

KINDS: Mapping[str, Kind] = {
    "unsubscribe": "unsubscribe",
    "erase": "erase",
    "rekey": "rekey",
    "create": "write",
    "update": "write",
    "leave": "write",
    "tag_add": "tag",
    "tag_remove": "tag",
    "archive": "archive",
}
"""The kind of call that an operation's action is part of."""

LIMITS: Mapping[Kind, str] = {
    "unsubscribe": "unsubscribe",
    "erase": "erase",
    "rekey": "rekey",
    "write": "contacts",
    "tag": "tags",
    "archive": "archive",
}
"""The name of the platform's limit for a kind of call."""

# What is put into the ledger that the platform may know of, by action.
_STATES = {
    "unsubscribe": State.UNSUBSCRIBED,
    "erase": State.ERASED,
    "rekey": State.SYNCED,
    "create": State.SYNCED,
    "update": State.SYNCED,
    "archive": State.ARCHIVED,
}
# Answers wait so long, or until there are so many rows, and are then written in one transaction.
_GROUP_ROWS = 5_000
_GROUP_SECONDS = 0.25
# How often rows that an answer leaves out are sent again in the same run.
_RESENDS = 2


class DestinationDownError(DestinationError):
    """The platform did not answer however often it was asked. Recovery: apply again when it is back."""


class StoppedError(DestinationError):
    """The platform refuses too many rows. Recovery: look at its reasons, then plan and apply again."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One change of one contact.

    Attributes:
        action: a key of `KINDS`.
        old: who it was before, for `rekey`.
        tag: of `tag_add` and `tag_remove`.
        content_hash, field_hashes: what the ledger is to hold once this is acknowledged; empty where it does not change.
    """

    action: str
    contact: Contact
    old: Contact | None = None
    tag: str = ""
    content_hash: bytes = b""
    field_hashes: bytes = b""


Batch = Sequence[Operation]
"""Operations that may share one call: of one kind, and of one tag where there is one."""


@dataclass
class Tally:
    """What became of the operations that were sent.

    Attributes:
        acknowledged: by action.
        withheld: not sent, as a refusal came in since, or as there is nobody there to be tagged.
        rejected: refused by the platform; `reasons` counts them by its words.
        unanswered: sent, and not mentioned by the answer even when sent again.
        retries: calls that were made again.
        unclear: keys of contacts that may have been changed all the same: an answer was lost, and no other came.
        undone: keys of the others to which something was not done.
    """

    acknowledged: Counter[str] = field(default_factory=Counter)
    withheld: int = 0
    rejected: int = 0
    unanswered: int = 0
    calls: int = 0
    retries: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    unclear: set[str] = field(default_factory=set)
    undone: set[str] = field(default_factory=set)

    @property
    def changed(self) -> int:
        return self.acknowledged.total()

    @property
    def settled(self) -> int:
        return self.changed + self.withheld + self.rejected + self.unanswered


@dataclass
class _Sent:
    """What became of a batch. Filled by a worker; counts also when that fails half-way."""

    accepted: list[Operation] = field(default_factory=list)
    rejected: list[tuple[Operation, Rejection]] = field(default_factory=list)
    withheld: list[Operation] = field(default_factory=list)
    unanswered: list[Operation] = field(default_factory=list)
    unclear: set[str] = field(default_factory=set)
    retries: int = 0

    def add(self, other: _Sent) -> None:
        self.accepted += other.accepted
        self.rejected += other.rejected
        self.withheld += other.withheld
        self.unanswered += other.unanswered
        self.unclear |= other.unclear
        self.retries += other.retries

    def __len__(self) -> int:
        return len(self.accepted) + len(self.rejected) + len(self.withheld)


class Engine:
    """Sends operations to one destination in one run of the ledger. To be used by one thread.

    Args:
        run_id: of the run that `ledger.begin` began.
        may_send: whether an operation may be sent at this very moment: asked before each call, and before it is repeated.
        layout: of the field hashes; None where no operation has any.
        stop_at: told rows sent and refused so far; words to stop at, where that is too many.
        now: the clock of the ledger's records; decides nothing.
    """

    def __init__(
        self,
        connector: Connector,
        ledger: Ledger,
        run_id: int,
        may_send: Callable[[], Callable[[Operation], bool]],
        *,
        retry: RetryPolicy | None = None,
        layout: int | None = None,
        stop_at: Callable[[int, int], str | None] = lambda sent, rejected: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._connector = connector
        self._ledger = ledger
        self._run_id = run_id
        self._may_send = may_send
        self._retry = retry or RetryPolicy()
        self._layout = layout
        self._stop_at = stop_at
        self._now = now
        self._lock = threading.Lock()
        self._requests: list[RequestMade] = []
        self._sent = self._refused = 0
        self._stopping = threading.Event()
        self._waiting = _Sent()
        self._waiting_since = time.monotonic()
        self.tally = Tally()
        connector.observe(self._note_request)

    def send(self, batches: Iterable[Batch], progress: Callable[[Tally], None] | None = None) -> None:
        """Send batches, a few at once, and acknowledge every row on its own answer.

        Raises:
            DestinationDownError: the platform did not answer, however often it was asked.
            StoppedError: it refuses too many rows.
            DestinationError: it refuses us altogether.
            LedgerError: the ledger can't be written; what the platform did meanwhile is sent again.
        """
        workers = self._connector.platform.connections
        pending: dict[Future[None], _Sent] = {}
        with ThreadPoolExecutor(workers, thread_name_prefix="apply") as pool:
            try:
                for batch in batches:
                    sent = _Sent()
                    pending[pool.submit(self._deliver, batch, sent)] = sent
                    # One more than there are workers, so that none of them waits for the ledger.
                    if len(pending) > workers:
                        self._collect(pending, progress)
                while pending:
                    self._collect(pending, progress)
                self.flush()
            except LedgerError:
                self._stopping.set()
                raise
            except BaseException:
                self._stopping.set()
                # What is under way ends by itself, and its answers count.
                wait(pending)
                for sent in pending.values():
                    self._waiting.add(sent)
                self.flush()
                raise
        if progress is not None:
            progress(self.tally)

    def withhold(self, rows: Sequence[Operation], why: str) -> None:
        """Note rows that are not sent."""
        self._ledger.withhold(
            self._run_id,
            self._connector.target,
            [Withheld(_key(row), row.action, row.tag, why) for row in rows],
            self._now(),
        )
        self.tally.withheld += len(rows)
        self.tally.undone.update(row.contact.key for row in rows)

    def flush(self) -> None:
        """Write what was answered so far into the ledger."""
        sent, self._waiting = self._waiting, _Sent()
        self._waiting_since = time.monotonic()
        target, tally, at = self._connector.target, self.tally, self._now()
        letters = [
            DeadLetter(
                _key(row),
                row.action,
                row.tag,
                row.content_hash,
                redact(refused.code, row.contact)[:100],
                redact(refused.words, row.contact),
            )
            for row, refused in sent.rejected
        ]
        self._ledger.acknowledge(self._run_id, target, [self._acknowledgement(row) for row in sent.accepted], at)
        self._ledger.bury(self._run_id, target, letters, at)
        if sent.withheld:
            self.withhold(sent.withheld, "refused since")
        tally.acknowledged.update(row.action for row in sent.accepted)
        tally.rejected += len(letters)
        tally.reasons.update(letter.words for letter in letters)
        tally.unanswered += len(sent.unanswered)
        tally.unclear |= sent.unclear
        tally.undone.update(row.contact.key for row, _ in sent.rejected)
        tally.retries += sent.retries
        with self._lock:
            made, self._requests = self._requests, []
        tally.calls += len(made)
        self._ledger.note_requests(self._run_id, made)

    def _collect(self, pending: dict[Future[None], _Sent], progress: Callable[[Tally], None] | None) -> None:
        done, _ = wait(pending, return_when=FIRST_COMPLETED)
        failed: BaseException | None = None
        for future in done:
            self._waiting.add(pending.pop(future))
            failed = failed or future.exception()
        if failed is not None:
            raise failed
        if len(self._waiting) >= _GROUP_ROWS or time.monotonic() - self._waiting_since >= _GROUP_SECONDS:
            self.flush()
            if progress is not None:
                progress(self.tally)

    def _deliver(self, batch: Batch, sent: _Sent, *, is_repeated: bool = False) -> None:
        """Send one batch: consent first, then the call, repeated or halved as the platform's answer asks for.

        Args:
            is_repeated: these rows were in a call before, of which no answer came.
        """
        attempt = resends = 0
        while not self._stopping.is_set():
            attempt += 1
            batch = self._allowed(batch, sent, is_repeated=is_repeated)
            if not batch:
                return
            try:
                answer = self._call(batch)
            except TryAgainError as error:
                if attempt >= self._retry.attempts:
                    raise DestinationDownError(
                        f"{self._connector.description}: gave up after {attempt} attempts ({error}); what was"
                        " acknowledged is kept, apply again to go on"
                    ) from None
                sent.retries += 1
                is_repeated = True
                self._stopping.wait(self._retry.wait(attempt, error.retry_after))
                continue
            except RefusedError as error:
                if len(batch) == 1:
                    sent.rejected.append((batch[0], Rejection(batch[0].contact.key, error.code, error.words)))
                    self._count(1, 1)
                else:
                    middle = len(batch) // 2
                    self._deliver(batch[:middle], sent, is_repeated=is_repeated)
                    self._deliver(batch[middle:], sent, is_repeated=is_repeated)
                return
            batch = self._sort(batch, answer, sent)
            if not batch:
                return
            if resends == _RESENDS:
                sent.unanswered += batch
                sent.unclear.update(row.contact.key for row in batch)
                return
            resends += 1
            is_repeated = True
            sent.retries += 1

    def _allowed(self, batch: Batch, sent: _Sent, *, is_repeated: bool) -> Batch:
        """The rows that may be sent at this moment."""
        may_send = self._may_send()
        allowed = [row for row in batch if may_send(row)]
        if len(allowed) < len(batch):
            withheld = [row for row in batch if not may_send(row)]
            sent.withheld += withheld
            if is_repeated:
                sent.unclear.update(row.contact.key for row in withheld)
        return allowed

    def _sort(self, batch: Batch, answer: Answer, sent: _Sent) -> Batch:
        """Take what the answer says of each row; returns the rows of which it says nothing."""
        refused = {rejection.key: rejection for rejection in answer.rejected}
        left, before = [], len(sent.rejected)
        for row in batch:
            key = row.contact.key
            if key in refused:
                sent.rejected.append((row, refused[key]))
            elif key in answer.accepted:
                sent.accepted.append(row)
            else:
                left.append(row)
        self._count(len(batch) - len(left), len(sent.rejected) - before)
        return left

    def _count(self, sent: int, refused: int) -> None:
        """Ask after every answer, so that halving does not go on for thousands of rows that are refused."""
        with self._lock:
            self._sent += sent
            self._refused += refused
            words = self._stop_at(self._sent, self._refused) if refused else None
        if words is not None:
            self._stopping.set()
            raise StoppedError(f"{self._connector.description}: {words}")

    def _call(self, batch: Batch) -> Answer:
        kind = KINDS[batch[0].action]
        contacts = [row.contact for row in batch]
        if kind == "write":
            return self._connector.write(contacts)
        if kind == "tag":
            add = [row.contact for row in batch if row.action == "tag_add"]
            remove = [row.contact for row in batch if row.action == "tag_remove"]
            return self._connector.change_tag(batch[0].tag, add, remove)
        if kind == "unsubscribe":
            return self._connector.unsubscribe(contacts)
        if kind == "erase":
            return self._connector.erase(contacts)
        if kind == "archive":
            return self._connector.archive(contacts)
        return self._connector.rekey([Rekey(row.old, row.contact) for row in batch if row.old is not None])

    def _acknowledgement(self, row: Operation) -> Acknowledgement:
        contact, tag = row.contact, (row.tag,) if row.tag else ()
        has_hashes = bool(row.field_hashes)
        return Acknowledgement(
            key=bytes.fromhex(contact.key if row.old is None else row.old.key),
            action=row.action,
            state=_STATES.get(row.action),
            content_hash=row.content_hash if has_hashes else None,
            layout=self._layout if has_hashes else None,
            field_hashes=row.field_hashes if has_hashes else None,
            # A new key takes fields and tags along; what changes about them is acknowledged by the update that follows.
            add=() if row.old is not None else tag if row.action == "tag_add" else contact.add,
            remove=() if row.old is not None else tag if row.action == "tag_remove" else contact.remove,
            new_key=_key(row) if row.old is not None else None,
        )

    def _note_request(
        self, method: str, route: str, rows: int, status: int | None, seconds: float, problem: str | None
    ) -> None:
        made = RequestMade(self._now(), method, route, rows, status, seconds, problem)
        with self._lock:
            self._requests.append(made)


def _key(row: Operation) -> bytes:
    return bytes.fromhex(row.contact.key)


def in_batches(rows: Iterable[Operation], connector: Connector) -> Iterator[list[Operation]]:
    """Put operations that follow each other into calls of the platform's size.

    A tag's additions and removals share a call, each up to the limit, and are expected one after the other by slot.
    """
    limits = {kind: connector.platform.limit(name) for kind, name in LIMITS.items()}
    batch: list[Operation] = []
    counts: dict[str, int] = {}
    size = 0
    for row in rows:
        kind = KINDS[row.action]
        limit = limits[kind]
        weight = _weight(row) if limit.body_bytes is not None else 0
        direction = row.action if kind == "tag" else kind
        if batch and (
            KINDS[batch[0].action] != kind
            or batch[0].tag != row.tag
            or counts.get(direction, 0) >= limit.batch
            or (limit.body_bytes is not None and size + weight > limit.body_bytes)
        ):
            yield batch
            batch, size = [], 0
            counts.clear()
        batch.append(row)
        counts[direction] = counts.get(direction, 0) + 1
        size += weight
    if batch:
        yield batch


def _weight(row: Operation) -> int:
    """About how many bytes of a body a row takes: names, values and what is around them."""
    contact = row.contact
    weight = 200 + len(contact.email or "") + 40 * (len(contact.add) + len(contact.remove))
    for name, value in contact.fields.items():
        weight += 8 + len(name) + 2 * len(value or "")
    return weight
