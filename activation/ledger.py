"""The ledger: what each destination has acknowledged. Keys and hashes by field, no payloads.

A key is the platform's own (the MD5 of the address, or the customer's id), a field's hash is salted with that key.
Whoever reads the ledger learns neither an address nor a value, and yet the next plan knows what would change.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, and_, bindparam, case, delete, func, insert, or_, select, update
from sqlalchemy.exc import DBAPIError

from activation import generations, ledger_database, sync_history
from activation import ledger_rows as stored
from activation.connector import Member
from activation.leases import Lease
from activation.ledger_records import (
    Acknowledgement,
    DeadLetter,
    RequestMade,
    Standing,
    State,
    Withheld,
    field_hash,
)
from activation.ledger_tables import (
    contacts,
    dead_letters,
    destinations,
    layouts,
    outcomes,
    requests,
    runs,
)
from core.errors import LedgerError, PlanError
from core.home import Home
from core.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Acknowledgement", "DeadLetter", "Ledger", "RequestMade", "Standing", "State", "Withheld"]

_log = logging.getLogger(__name__)

REQUESTS_KEPT = 10_000
_READ_AT_ONCE = 10_000


# An acknowledgement settles the dead letters of these actions.
_SETTLES = {
    "create": ("create", "update"),
    "update": ("create", "update"),
    "tag_add": ("tag_add", "tag_remove"),
    "tag_remove": ("tag_add", "tag_remove"),
}
_TAKING_AWAY = ("leave", "tag_remove")


class Ledger:
    """The ledger of a home: a SQLite file there, or the PostgreSQL database of the settings. A context manager.

    To be used by one thread. All instants are taken as UTC and kept without a zone.

    Raises:
        LedgerError: from every method: the database can't be read or written (a full disk, a lost connection).
    """

    def __init__(self, home: Home, settings: Settings) -> None:
        self._home = home
        self._engine: Engine = ledger_database.open_engine(home, settings)
        self._writer = ledger_database.writing(self._engine)
        self._leases: dict[str, Lease] = {}
        self._buried: dict[int, set[bytes]] = {}

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._engine.dispose()

    # What is known.

    def standing(self, target: str, *, restored: bool = False) -> Standing:
        """Where a destination stands.

        Args:
            restored: an older ledger is taken as it is: for whoever is about to mend that.

        Raises:
            PlanError: this ledger is older than what the home remembers of it.
        """
        with self._reading() as connection:
            row = stored.destination_row(connection, target)
        if not restored:
            self._refuse_older(target, row.generation if row else 0)
        if row is None:
            return Standing(0, None, True, "first", 0, None)
        is_new = row.revision == 0 and row.read_at is None
        return Standing(row.revision, row.plan_hash, is_new, row.silent, row.generation, row.release)

    def rows(self, target: str) -> pa.Table:
        """All contacts: key, state, content_hash, layout (null where the content is unknown), tags (packed ids)."""
        import pyarrow as pa

        schema = pa.schema({
            "key": pa.binary(), "state": pa.uint8(), "content_hash": pa.binary(), "layout": pa.int16(),
            "tags": pa.binary(),
        })  # fmt: skip
        return self._arrow(
            f"select {', '.join(schema.names)} from contacts where destination_id = {{}}", target, schema
        )

    def field_hashes(self, target: str, keys: Sequence[bytes] | None = None) -> pa.Table:
        """Hashes by field of all contacts, or of some: key, layout, field_hashes (5 bytes a field, in layout order)."""
        import pyarrow as pa

        schema = pa.schema({"key": pa.binary(), "layout": pa.int16(), "field_hashes": pa.binary()})
        if keys is None:
            query = "select key, layout, field_hashes from contacts where destination_id = {} and layout is not null"
            return self._arrow(query, target, schema)
        with self._reading() as connection:
            destination = stored.destination_id(connection, target)
            found = list(
                stored.fetch_contacts(connection, ", ".join(schema.names), destination, keys, "and layout is not null")
            )
        columns = list(zip(*found, strict=True)) if found else [()] * len(schema)
        return pa.table([pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)], schema)

    def states(self, target: str, keys: Sequence[bytes]) -> dict[bytes, State]:
        """How some contacts stand, by key; without those that the ledger does not know."""
        with self._reading() as connection:
            destination = stored.destination_id(connection, target)
            found = stored.fetch_contacts(connection, "key, state", destination, keys)
            return {bytes(key): State(state) for key, state in found}

    def layouts(self, target: str) -> dict[int, list[str]]:
        """Names of fields, in the order of their hashes, by layout."""
        query = select(layouts.c.layout, layouts.c.fields).where(layouts.c.destination_id == bindparam("of"))
        with self._reading() as connection:
            found = stored.fetch(connection, query, {"of": stored.destination_id(connection, target)})
            return {layout: json.loads(fields) for layout, fields in found}

    def layout_id(self, target: str, names: Sequence[str]) -> int:
        """The layout of these fields in this order; made where there is none."""
        said = json.dumps(list(names), ensure_ascii=False)
        with self._writing() as connection:
            destination = stored.destination_made(connection, target)
            c = layouts.c
            if known := stored.fetch(
                connection, select(c.layout).where(c.destination_id == destination, c.fields == said)
            ):
                return int(known[0].layout)
            last = connection.execute(select(func.max(c.layout)).where(c.destination_id == destination)).scalar()
            layout = int(last or 0) + 1
            connection.execute(insert(layouts).values(destination_id=destination, layout=layout, fields=said))
            return layout

    def tags(self, target: str) -> dict[int, str]:
        """Names of tags by id."""
        with self._reading() as connection:
            return {
                number: name
                for name, number in stored.tags_by_name(connection, stored.destination_id(connection, target)).items()
            }

    def tag_ids(self, target: str, names: Collection[str]) -> dict[str, int]:
        """Ids of these tags; made where there are none."""
        with self._writing() as connection:
            return stored.tag_ids_made(connection, stored.destination_made(connection, target), names)

    def dead_letters(self, target: str) -> pa.Table:
        """Rows that the platform refused and has not taken since: action, key, tag, content_hash."""
        return self._letters(target, dead_letters.c.is_standing)

    def rejected_in(self, target: str, plan_hash: str) -> pa.Table:
        """Rows that the platform refused while one plan was applied, and has not taken since; columns as before."""
        of_plan = select(runs.c.run_id).where(runs.c.plan_hash == plan_hash)
        return self._letters(target, and_(dead_letters.c.is_standing, dead_letters.c.run_id.in_(of_plan)))

    def keys(self) -> pa.Table:
        """Keys of contacts at any destination, in hexadecimal digits: key."""
        import pyarrow as pa

        with self._reading() as connection:
            found = connection.execution_options(stream_results=True).exec_driver_sql("select key from contacts")
            keys = {row[0].hex() for row in found}
        return pa.table({"key": pa.array(sorted(keys), pa.string())})

    def bases(self) -> set[int]:
        """Releases that the destinations stand at."""
        c = destinations.c
        with self._reading() as connection:
            return set(connection.execute(select(c.release).where(c.release.is_not(None))).scalars())

    def counts(self, target: str) -> dict[str, int]:
        """Contacts by state, tags that they have, and standing dead letters: for `status`."""
        c, letters = contacts.c, dead_letters.c
        with self._reading() as connection:
            destination = stored.destination_id(connection, target)
            states = stored.fetch(
                connection,
                select(c.state, func.count(), func.sum(func.length(c.tags)))
                .where(c.destination_id == destination)
                .group_by(c.state),
            )
            dead = connection.execute(
                select(func.count()).where(letters.destination_id == destination, letters.is_standing)
            ).scalar_one()
        counted = {State(state).name.lower(): int(count) for state, count, _ in states}
        return {**counted, "tags": sum(int(length) // 2 for _, _, length in states), "dead letters": dead}

    def last_runs(self, limit: int = 10, target: str | None = None) -> list[dict[str, Any]]:
        """The newest runs first, of one destination or of all, each as its row with its target."""
        query = (
            select(runs, destinations.c.target)
            .join_from(runs, destinations, runs.c.destination_id == destinations.c.destination_id)
            .order_by(runs.c.run_id.desc())
            .limit(limit)
        )
        if target is not None:
            query = query.where(destinations.c.target == target)
        with self._reading() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def is_done(self, target: str, plan_hash: str) -> bool:
        """Whether a plan was carried out to its end."""
        query = (
            select(runs.c.run_id)
            .join_from(runs, destinations, runs.c.destination_id == destinations.c.destination_id)
            .where(destinations.c.target == target, runs.c.plan_hash == plan_hash, runs.c.outcome == "done")
            .limit(1)
        )
        with self._reading() as connection:
            return connection.execute(query).first() is not None

    def newest_letters(self, target: str, limit: int = 100) -> list[dict[str, Any]]:
        """The newest dead letters first, standing or not, each as its row."""
        c = dead_letters.c
        query = select(dead_letters).order_by(c.dead_letter_id.desc()).limit(limit)
        with self._reading() as connection:
            query = query.where(c.destination_id == stored.destination_id(connection, target))
            return [dict(row) for row in connection.execute(query).mappings()]

    # A run.

    @contextmanager
    def lease(self, target: str, holder: str) -> Iterator[None]:
        """Have the destination alone; `holder` says to others what is at work. One lease of a name at a time.

        Raises:
            AtWorkError: another process has it; names it.
        """
        lease = Lease(self._writer, target, holder)
        with _as_ledger_error():
            lease.take()
        self._leases[target] = lease
        try:
            yield
        finally:
            del self._leases[target]
            with _as_ledger_error():
                lease.give_back()

    def begin(
        self,
        target: str,
        plan_hash: str,
        base_revision: int,
        release: int,
        overrides: Collection[str],
        at: datetime,
    ) -> int:
        """Move the destination on to a plan, or go on with the plan that moved it last. Returns the run's id.

        Args:
            overrides: names of the breakers that were overridden, and by whom, as it is to be noted.

        Raises:
            PlanError: another plan moved the destination since this one was made, or this ledger was restored.
        """
        with self._writing(target) as connection:
            destination = stored.destination_made(connection, target)
            row = stored.destination_row(connection, target)
            assert row is not None
            self._refuse_older(target, row.generation)
            resumed = (row.revision, row.plan_hash) == (base_revision + 1, plan_hash)
            if row.revision != base_revision and not resumed:
                raise PlanError(
                    "the ledger has moved since this plan was made (another plan was applied): plan again and review"
                )
            generation = row.generation + 1
            connection.execute(
                update(destinations)
                .where(destinations.c.destination_id == destination)
                .values(revision=base_revision + 1, plan_hash=plan_hash, release=release, generation=generation)
            )
            run_id = self._start(connection, destination, "apply", at, plan_hash, release, sorted(overrides))
        generations.note(self._home, target, generation, run_id)
        return run_id

    def begin_without_plan(self, target: str, kind: str, at: datetime) -> int:
        """Start a run that no plan stands behind: withdrawals, reading a destination. Returns the run's id."""
        with self._writing(target) as connection:
            run_id = self._start(connection, stored.destination_made(connection, target), kind, at)
        generations.note(self._home, target, 0, run_id)
        return run_id

    def end(self, run_id: int, outcome: str, counts: Mapping[str, int], at: datetime) -> None:
        """Note how a run ended, and export what became of its rows. Done, it leaves nothing that silences the next."""
        with self._writing() as connection:
            destination, kind = connection.execute(
                select(runs.c.destination_id, runs.c.kind).where(runs.c.run_id == run_id)
            ).one()
            connection.execute(
                update(runs)
                .where(runs.c.run_id == run_id)
                .values(ended_at=stored.naive(at), outcome=outcome, counts=json.dumps(dict(counts)))
            )
            if kind == "apply" and outcome == "done":
                connection.execute(
                    update(destinations).where(destinations.c.destination_id == destination).values(silent=None)
                )
        try:
            self.export()
        except OSError as error:
            _log.warning("run %d is not exported yet (%s): the next run does it", run_id, error.strerror)

    def acknowledge(self, run_id: int, target: str, rows: Sequence[Acknowledgement], at: datetime) -> None:
        """Note what a destination acknowledged, all of it or nothing.

        A write lifts no refusal: a contact that is unsubscribed, left or erased stays so, as its subscription was not
        touched. Erased and archived contacts keep neither content nor tags.
        """
        if not rows:
            return
        with self._writing(target) as connection:
            destination = stored.destination_made(connection, target)
            tag_ids = stored.tag_ids_made(
                connection,
                destination,
                {name for row in rows if row.add or row.remove for name in (*row.add, *row.remove)},
            )
            keys = {row.key for row in rows} | {row.new_key for row in rows if row.new_key is not None}
            known = stored.load(connection, destination, keys)
            gone: set[bytes] = set()
            changed: dict[bytes, stored.ContactRow] = {}
            for said in rows:
                key = said.key
                if key not in known and said.action in _TAKING_AWAY:
                    # Whoever may have been there without our knowing has no tag of ours; nothing says that they are.
                    continue
                row = known.get(key) or stored.ContactRow(State.FOUND)
                if said.new_key is not None and said.new_key != key:
                    there = known.pop(said.new_key, None)
                    row.tags |= there.tags if there else set()
                    row.forget_content()
                    known.pop(key, None)
                    changed.pop(key, None)
                    gone.add(key)
                    key = said.new_key
                stored.acknowledged(said, row, tag_ids)
                known[key] = changed[key] = row
                gone.discard(key)
            stored.forget(connection, destination, gone)
            stored.save(connection, destination, changed, run_id)
            self._settle(connection, destination, rows)
            stored.note_outcomes(
                connection,
                run_id,
                at,
                ((row.new_key or row.key, row.action, stored.tag_of(row), "acknowledged", "") for row in rows),
            )

    def bury(self, run_id: int, target: str, letters: Sequence[DeadLetter], at: datetime) -> None:
        """Keep refused rows with the platform's words, until they are acknowledged."""
        if not letters:
            return
        with self._writing(target) as connection:
            destination = stored.destination_made(connection, target)
            rows = [Acknowledgement(letter.key, letter.action, add=(letter.tag,)) for letter in letters]
            self._settle(connection, destination, rows)
            connection.execute(
                insert(dead_letters),
                [
                    {
                        "run_id": run_id,
                        "destination_id": destination,
                        "at": stored.naive(at),
                        "is_standing": True,
                        **vars(letter),
                    }
                    for letter in letters
                ],
            )
            stored.note_outcomes(
                connection,
                run_id,
                at,
                ((letter.key, letter.action, letter.tag, "rejected", letter.code) for letter in letters),
            )
            self._buried[destination] |= {letter.key for letter in letters}

    def withhold(self, run_id: int, target: str, rows: Sequence[Withheld], at: datetime) -> None:
        """Note rows of a plan that were not sent, and why."""
        if rows:
            with self._writing(target) as connection:
                said = ((row.key, row.action, row.tag, "withheld", row.code) for row in rows)
                stored.note_outcomes(connection, run_id, at, said)

    def note_requests(self, run_id: int, made: Sequence[RequestMade]) -> None:
        """Note requests; the newest 10,000 of all runs are kept."""
        if made:
            with self._writing() as connection:
                rows = [{"run_id": run_id, **vars(one), "sent_at": stored.naive(one.sent_at)} for one in made]
                connection.execute(insert(requests), rows)
                newest = int(connection.execute(select(func.max(requests.c.request_id))).scalar() or 0)
                connection.execute(delete(requests).where(requests.c.request_id <= newest - REQUESTS_KEPT))

    def export(self) -> None:
        """Write the runs that ended since to the home's history, and drop what became of their rows.

        Raises:
            OSError: the history can't be written; the ledger keeps what it has.
        """
        query = (
            select(runs, destinations.c.target)
            .join_from(runs, destinations, runs.c.destination_id == destinations.c.destination_id)
            .where(runs.c.ended_at.is_not(None), runs.c.is_exported.is_(False))
            .order_by(runs.c.run_id)
        )
        with self._reading() as connection:
            ended = [dict(row) for row in connection.execute(query).mappings()]
        for run in ended:
            run_id = int(run["run_id"])
            with self._reading() as connection:
                said = connection.execution_options(stream_results=True).exec_driver_sql(
                    "select key, action, tag, outcome, code, at from outcomes"
                    f" where run_id = {run_id} order by outcome_id"
                )
                sync_history.write(self._home, run, iter(lambda found=said: found.fetchmany(_READ_AT_ONCE), []))  # type: ignore[misc]
            with self._writing() as connection:
                connection.execute(delete(outcomes).where(outcomes.c.run_id == run_id))
                connection.execute(update(runs).where(runs.c.run_id == run_id).values(is_exported=True))
        with _as_ledger_error():
            ledger_database.give_back_space(self._writer)

    # What is read from a destination.

    def import_members(
        self, target: str, members: Iterable[Member], at: datetime, fields: Sequence[str] = ()
    ) -> dict[str, int]:
        """Take over who is at a destination: everybody, as `members` tells. Returns contacts by what became of them.

        Whoever may be mailed there is FOUND, unless the ledger has them as SYNCED; whoever may not has LEFT, unless we
        told of it. Contacts that the ledger has there and that are not there are forgotten. Pages are written as they
        come: after an interruption, it is done again from the start.

        Args:
            fields: names of fields to make hashes of, where the destination gives values back.
        """
        counted = {"found": 0, "left": 0, "known": 0, "forgotten": 0}
        run_id = self.begin_without_plan(target, "read", at)
        layout = self.layout_id(target, fields) if fields else None
        batch: list[Member] = []
        for member in members:
            if member.state != "archived":
                batch.append(member)
            if len(batch) >= stored.AT_ONCE:
                self._import(target, run_id, batch, layout, fields, counted)
                batch = []
        self._import(target, run_id, batch, layout, fields, counted)
        c = contacts.c
        with self._writing(target) as connection:
            destination = stored.destination_made(connection, target)
            unseen = and_(
                c.destination_id == destination,
                or_(c.run_id.is_(None), c.run_id != run_id),
                c.state.in_([State.SYNCED, State.FOUND]),
            )
            counted["forgotten"] = connection.execute(delete(contacts).where(unseen)).rowcount
            generation = self._mended(connection, target, destination, at)
        generations.note(self._home, target, generation, run_id)
        self.end(run_id, "done", counted, at)
        return counted

    def forget(self, target: str, at: datetime) -> int:
        """Take nothing of what was acknowledged for granted, so that the next plan sends it all again, silently.

        Rows stay, so that withdrawals still reach their contacts; what refusals there are stays too. Tags that nobody
        remembers are not removed. Returns how many contacts there are to send.
        """
        c = contacts.c
        with self._writing(target) as connection:
            destination = stored.destination_made(connection, target)
            forgotten = connection.execute(
                update(contacts)
                .where(c.destination_id == destination, c.state.in_([State.SYNCED, State.FOUND]))
                .values(state=State.FOUND, content_hash=b"", layout=None, field_hashes=b"", tags=b"")
            ).rowcount
            generation = self._mended(connection, target, destination, at)
        generations.note(self._home, target, generation, 0)
        return forgotten

    def _import(
        self,
        target: str,
        run_id: int,
        members: Sequence[Member],
        layout: int | None,
        fields: Sequence[str],
        counted: dict[str, int],
    ) -> None:
        if not members:
            return
        with self._writing(target) as connection:
            destination = stored.destination_made(connection, target)
            tag_ids = stored.tag_ids_made(connection, destination, {name for member in members for name in member.tags})
            known = stored.load(connection, destination, {bytes.fromhex(member.key) for member in members})
            changed: dict[bytes, stored.ContactRow] = {}
            for member in members:
                key = bytes.fromhex(member.key)
                before = known.get(key)
                row = changed[key] = before or stored.ContactRow(State.FOUND)
                stored.taken_over(member, row, is_known=before is not None)
                row.tags = {tag_ids[name] for name in member.tags}
                if layout is not None and member.fields is not None:
                    hashes = b"".join(field_hash(member.key, name, member.fields.get(name, "")) for name in fields)
                    if (row.layout, row.field_hashes) != (layout, hashes):
                        row.content_hash, row.layout, row.field_hashes = b"", layout, hashes
                what = "left" if row.state == State.LEFT else "known" if before is not None else "found"
                counted[what] += 1
            stored.save(connection, destination, changed, run_id)

    def _mended(self, connection: Connection, target: str, destination: int, at: datetime) -> int:
        """The ledger is as the destination is: it is ahead of whatever the home remembers. Returns its generation."""
        c = destinations.c
        row = stored.destination_row(connection, target)
        assert row is not None
        generation = max(int(row.generation), generations.generation(self._home, target)) + 1
        connection.execute(
            update(destinations)
            .where(c.destination_id == destination)
            .values(
                generation=generation,
                # Plans that were made of the ledger as it was are refused from now on.
                revision=case((c.revision > 0, c.revision + 1), else_=c.revision),
                plan_hash=None,
                silent=func.coalesce(c.silent, "reconciled"),
                read_at=stored.naive(at),
            )
        )
        return generation

    def _start(
        self,
        connection: Connection,
        destination: int,
        kind: str,
        at: datetime,
        plan_hash: str | None = None,
        release: int | None = None,
        overrides: Sequence[str] = (),
    ) -> int:
        # Whoever begins holds the lease: a run of its kind that never ended was killed.
        connection.execute(
            update(runs)
            .where(runs.c.destination_id == destination, runs.c.kind == kind, runs.c.ended_at.is_(None))
            .values(ended_at=stored.naive(at), outcome="killed")
        )
        last = connection.execute(select(func.max(runs.c.run_id))).scalar()
        # An older ledger that was restored must not give an id again whose rows are in the history.
        run_id = max(int(last or 0), generations.last_run(self._home)) + 1
        connection.execute(
            insert(runs).values(
                run_id=run_id,
                destination_id=destination,
                kind=kind,
                plan_hash=plan_hash,
                release=release,
                overrides=json.dumps(list(overrides)),
                started_at=stored.naive(at),
                outcome="running",
                is_exported=False,
            )
        )
        self._buried.pop(destination, None)
        return run_id

    def _settle(self, connection: Connection, destination: int, rows: Sequence[Acknowledgement]) -> None:
        """Dead letters of these rows stand no longer."""
        c = dead_letters.c
        if destination not in self._buried:
            query = select(c.key).where(c.destination_id == destination, c.is_standing)
            self._buried[destination] = {row.key for row in stored.fetch(connection, query)}
        buried = self._buried[destination]
        for row in rows if buried else ():
            if row.key in buried:
                connection.execute(
                    update(dead_letters)
                    .where(
                        c.destination_id == destination,
                        c.key == row.key,
                        c.tag == stored.tag_of(row),
                        c.action.in_(_SETTLES.get(row.action, (row.action,))),
                    )
                    .values(is_standing=False)
                )

    def _letters(self, target: str, which: Any) -> pa.Table:
        import pyarrow as pa

        c = dead_letters.c
        query = select(c.action, c.key, c.tag, c.content_hash).where(which).distinct()
        with self._reading() as connection:
            query = query.where(c.destination_id == stored.destination_id(connection, target))
            found = connection.execute(query).fetchall()
        schema = pa.schema({"action": pa.string(), "key": pa.binary(), "tag": pa.string(), "content_hash": pa.binary()})
        return pa.Table.from_pylist([dict(row._mapping) for row in found], schema)

    def _refuse_older(self, target: str, generation: int) -> None:
        remembered = generations.generation(self._home, target)
        if generation < remembered:
            raise PlanError(
                f"the ledger of {target} is older than the home remembers ({generation} of {remembered} moves), as after"
                " restoring a backup: run `mailwright reconcile DEST --repair`, which reads the destination, or"
                " `mailwright reconcile DEST --resend` where it can't be read"
            )

    def _arrow(self, query: str, target: str, schema: pa.Schema) -> pa.Table:
        """Rows of one destination, whose id goes into the query."""
        with self._reading() as connection:
            return stored.read_arrow(connection, query.format(stored.destination_id(connection, target)), schema)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _as_ledger_error(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self, target: str | None = None) -> Iterator[Connection]:
        """A transaction that has the write lock from its start, and the destination's lease if this ledger took it."""
        with _as_ledger_error(), self._writer.begin() as connection:
            if target is not None and target in self._leases:
                self._leases[target].check(connection)
            yield connection


@contextmanager
def _as_ledger_error() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        # The driver's first line only: statements and values are no matter for a log.
        said = str(error.orig).strip().partition("\n")[0]
        raise LedgerError(
            f"the ledger can't be read or written ({said}): mend that, then run it again; nothing is lost"
        ) from None
