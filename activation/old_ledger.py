"""The ledger: what each destination has acknowledged. Keys and hashes by field, no payloads.

A key is the platform's own (Mailchimp: the MD5 of the address), a field's hash is salted with that key. Whoever reads
the ledger learns neither an address nor a value, and yet the next plan knows what would change.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    select,
    update,
)

from core.errors import PlanError
from core.home import Home

if TYPE_CHECKING:
    import pyarrow as pa

SYNCED = "synced"
UNSUBSCRIBED = "unsubscribed"

metadata = MetaData()

# One row per destination account: which plan moved it last, and how often it was moved.
positions = Table(
    "positions",
    metadata,
    Column("target", String, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("plan_hash", String),
)
contacts = Table(
    "contacts",
    metadata,
    Column("target", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("content_hash", String, nullable=False),
    Column("field_hashes", Text, nullable=False),
    sqlite_with_rowid=False,
)
tags = Table(
    "tags",
    metadata,
    Column("target", String, primary_key=True),
    Column("tag", String, primary_key=True),
    Column("key", String, primary_key=True),
    sqlite_with_rowid=False,
)
runs = Table(
    "runs",
    metadata,
    Column("run_id", Integer, primary_key=True),
    Column("target", String, nullable=False, index=True),
    Column("plan_hash", String, nullable=False),
    Column("release", Integer, nullable=False),
    Column("started_at", DateTime, nullable=False),
    Column("ended_at", DateTime),
    Column("outcome", String, nullable=False),
    Column("counts", Text),
)
requests = Table(
    "requests",
    metadata,
    Column("request_id", Integer, primary_key=True),
    Column("run_id", Integer, nullable=False, index=True),
    Column("sent_at", DateTime, nullable=False),
    Column("method", String, nullable=False),
    Column("route", String, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("status", Integer),
    Column("seconds", Float, nullable=False),
    Column("problem", String),
)
dead_letters = Table(
    "dead_letters",
    metadata,
    Column("dead_letter_id", Integer, primary_key=True),
    Column("run_id", Integer, nullable=False, index=True),
    Column("target", String, nullable=False, index=True),
    Column("key", String, nullable=False),
    Column("action", String, nullable=False),
    Column("tag", String, nullable=False),
    Column("content_hash", String, nullable=False),
    Column("code", String, nullable=False),
    Column("words", Text, nullable=False),
    Column("at", DateTime, nullable=False),
)


@dataclass(frozen=True)
class Position:
    """Where a destination stands: how many plans have moved it, and which was the last."""

    revision: int
    plan_hash: str | None


@dataclass(frozen=True)
class RequestMade:
    """One HTTP request, without anything personal: a route is a template, never a path with an address in it."""

    sent_at: datetime
    method: str
    route: str
    rows: int
    status: int | None
    seconds: float
    problem: str | None = None


@dataclass(frozen=True)
class DeadLetter:
    """A row that the platform refused, with the platform's own words, free of personal data."""

    key: str
    action: str
    tag: str
    content_hash: str
    code: str
    words: str


def is_of_first_layout(home: Home) -> bool:
    """Whether the home's ledger is one that this module writes."""
    if not home.ledger.exists():
        return False
    engine = create_engine(f"sqlite:///{home.ledger}")
    try:
        return inspect(engine).has_table("positions")
    finally:
        engine.dispose()


class Ledger:
    """The ledger of a home. To be used by one thread, as a context manager."""

    def __init__(self, home: Home) -> None:
        new = not home.ledger.exists()
        if new:
            home.ledger.touch(mode=0o600)
        self._engine: Engine = create_engine(f"sqlite:///{home.ledger}")
        event.listen(self._engine, "connect", _prepare_sqlite)
        metadata.create_all(self._engine)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._engine.dispose()

    # What is known.

    def position(self, target: str) -> Position:
        with self._engine.connect() as connection:
            row = connection.execute(select(positions).where(positions.c.target == target)).one_or_none()
        return Position(row.revision, row.plan_hash) if row else Position(0, None)

    def contacts(self, target: str) -> pa.Table:
        """Acknowledged contacts: key, state, content_hash, field_hashes (a JSON object of field to hash)."""
        c = contacts.c
        return self._arrow(select(c.key, c.state, c.content_hash, c.field_hashes).where(c.target == target))

    def tags(self, target: str) -> pa.Table:
        """Acknowledged tags: tag, key."""
        return self._arrow(select(tags.c.tag, tags.c.key).where(tags.c.target == target))

    def rejected(self, target: str) -> pa.Table:
        """Rows that the platform ever refused: action, key, tag, content_hash."""
        c = dead_letters.c
        return self._arrow(select(c.action, c.key, c.tag, c.content_hash).where(c.target == target).distinct())

    def rejected_in(self, target: str, plan_hash: str) -> pa.Table:
        """Rows that the platform refused while one plan was applied: action, key, tag."""
        c = dead_letters.c
        return self._arrow(
            select(c.action, c.key, c.tag)
            .join_from(dead_letters, runs, runs.c.run_id == c.run_id)
            .where(and_(c.target == target, runs.c.plan_hash == plan_hash))
            .distinct()
        )

    def keys(self) -> pa.Table:
        """Keys of contacts and tags that any destination has acknowledged: key."""
        return self._arrow(select(contacts.c.key).union(select(tags.c.key)))

    def bases(self) -> set[int]:
        """Releases that the destinations stand at: of each one's last run."""
        last = select(func.max(runs.c.run_id)).group_by(runs.c.target)
        with self._engine.connect() as connection:
            return set(connection.execute(select(runs.c.release).where(runs.c.run_id.in_(last))).scalars())

    def counts(self, target: str) -> dict[str, int]:
        """Acknowledged contacts by state, acknowledged tags, and dead letters: for `status`."""
        with self._engine.connect() as connection:
            states = connection.execute(
                select(contacts.c.state, func.count()).where(contacts.c.target == target).group_by(contacts.c.state)
            ).all()
            tagged = connection.execute(select(func.count()).where(tags.c.target == target)).scalar_one()
            dead = connection.execute(select(func.count()).where(dead_letters.c.target == target)).scalar_one()
        return {**{str(row[0]): int(row[1]) for row in states}, "tags": tagged, "dead letters": dead}

    def last_runs(self, limit: int = 10) -> list[dict[str, Any]]:
        """The newest runs first, each as its row."""
        with self._engine.connect() as connection:
            rows = connection.execute(select(runs).order_by(runs.c.run_id.desc()).limit(limit)).mappings().all()
        return [dict(row) for row in rows]

    def dead_letters(self, target: str, limit: int = 100) -> list[dict[str, Any]]:
        """The newest dead letters first, each as its row."""
        c = dead_letters.c
        query = select(dead_letters).where(c.target == target).order_by(c.dead_letter_id.desc()).limit(limit)
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings().all()]

    # A run.

    def begin(self, target: str, plan_hash: str, base_revision: int, release: int, at: datetime) -> int:
        """Move the destination on to a plan, or go on with the plan that moved it last. Returns the run's id.

        Raises:
            PlanError: another plan moved the destination since this one was made.
        """
        with self._engine.begin() as connection:
            row = connection.execute(select(positions).where(positions.c.target == target)).one_or_none()
            now = Position(row.revision, row.plan_hash) if row else Position(0, None)
            if now.revision == base_revision:
                connection.execute(delete(positions).where(positions.c.target == target))
                connection.execute(
                    insert(positions).values(target=target, revision=base_revision + 1, plan_hash=plan_hash)
                )
            elif now != Position(base_revision + 1, plan_hash):
                raise PlanError(
                    "the ledger has moved since this plan was made (another plan was applied): plan again and review"
                )
            # Whoever begins holds the destination's lock: a run that never ended was killed.
            connection.execute(
                update(runs)
                .where(and_(runs.c.target == target, runs.c.ended_at.is_(None)))
                .values(ended_at=at, outcome="killed")
            )
            started = connection.execute(
                insert(runs).values(
                    target=target, plan_hash=plan_hash, release=release, started_at=at, outcome="running"
                )
            )
            key = started.inserted_primary_key
            assert key is not None
            return int(key[0])

    def end(self, run_id: int, outcome: str, counts: dict[str, int], at: datetime) -> None:
        with self._engine.begin() as connection:
            connection.execute(
                update(runs)
                .where(runs.c.run_id == run_id)
                .values(ended_at=at, outcome=outcome, counts=json.dumps(counts))
            )

    def acknowledge_contacts(self, target: str, rows: Sequence[tuple[str, str, str]]) -> None:
        """Note contacts as synced: (key, content_hash, field_hashes), replacing what was known of them."""
        values = [
            {"target": target, "key": key, "state": SYNCED, "content_hash": content_hash, "field_hashes": hashes}
            for key, content_hash, hashes in rows
        ]
        self._replace(contacts, values)

    def acknowledge_unsubscribes(self, target: str, keys: Iterable[str]) -> None:
        values = [{"of_target": target, "of_key": key} for key in keys]
        if values:
            c = contacts.c
            statement = (
                update(contacts)
                .where(and_(c.target == bindparam("of_target"), c.key == bindparam("of_key")))
                .values(state=UNSUBSCRIBED)
            )
            with self._engine.begin() as connection:
                connection.execute(statement, values)

    def acknowledge_tags(self, target: str, tag: str, added: Iterable[str], removed: Iterable[str]) -> None:
        self._replace(tags, [{"target": target, "tag": tag, "key": key} for key in added])
        self._delete(tags, [{"target": target, "tag": tag, "key": key} for key in removed])

    def bury(self, run_id: int, target: str, letters: Sequence[DeadLetter], at: datetime) -> None:
        """Keep refused rows with the platform's words."""
        if letters:
            with self._engine.begin() as connection:
                connection.execute(
                    insert(dead_letters),
                    [{"run_id": run_id, "target": target, "at": at, **vars(letter)} for letter in letters],
                )

    def note_requests(self, run_id: int, made: Sequence[RequestMade]) -> None:
        if made:
            with self._engine.begin() as connection:
                connection.execute(insert(requests), [{"run_id": run_id, **vars(request)} for request in made])

    def _replace(self, table: Table, values: list[dict[str, str]]) -> None:
        # Delete and insert in one transaction: the same on every database.
        if values:
            with self._engine.begin() as connection:
                connection.execute(*_deletion(table, values))
                connection.execute(insert(table), values)

    def _delete(self, table: Table, values: list[dict[str, str]]) -> None:
        if values:
            with self._engine.begin() as connection:
                connection.execute(*_deletion(table, values))

    def _arrow(self, query: Any) -> pa.Table:
        import pyarrow as pa

        with self._engine.connect() as connection:
            result = connection.execute(query)
            names = list(result.keys())
            rows = result.fetchall()
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
        return pa.table({name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=True)})


def _deletion(table: Table, values: list[dict[str, str]]) -> tuple[Any, list[dict[str, str]]]:
    keys = [column.name for column in table.primary_key]
    statement = delete(table).where(and_(*(table.c[name] == bindparam(f"of_{name}") for name in keys)))
    return statement, [{f"of_{name}": value[name] for name in keys} for value in values]


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("pragma journal_mode = wal")
    cursor.execute("pragma synchronous = full")
    cursor.execute("pragma busy_timeout = 10000")
    cursor.close()
