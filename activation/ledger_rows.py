"""Rows of the ledger's tables, read and written within a transaction of the ledger's."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select
from sqlalchemy.exc import DBAPIError

from activation.connector import Member
from activation.ledger_records import GONE, REFUSED_STATES, Acknowledgement, State, pack, unpack
from activation.ledger_tables import contacts, destinations, tags
from core.errors import LedgerError

if TYPE_CHECKING:
    import pyarrow as pa

AT_ONCE = 5_000
_STATES = {int(state): state for state in State}


@dataclass(slots=True)
class ContactRow:
    """A contact's row while it is changed."""

    state: State
    content_hash: bytes = b""
    layout: int | None = None
    field_hashes: bytes = b""
    tags: set[int] = field(default_factory=set)

    def forget_content(self) -> None:
        """Its content counts as unknown from now on."""
        self.content_hash, self.layout, self.field_hashes = b"", None, b""


def acknowledged(said: Acknowledgement, row: ContactRow, tag_ids: Mapping[str, int]) -> None:
    """Change a row as a destination acknowledged it."""
    if said.state is not None and not (said.state == State.SYNCED and row.state in REFUSED_STATES):
        row.state = said.state
    if said.content_hash is not None:
        row.content_hash, row.layout, row.field_hashes = said.content_hash, said.layout, said.field_hashes or b""
    for name in said.add:
        row.tags.add(tag_ids[name])
    for name in said.remove:
        row.tags.discard(tag_ids[name])
    if row.state in GONE:
        row.forget_content()
        row.tags = set()


def taken_over(member: Member, row: ContactRow, is_known: bool) -> None:
    """How a contact stands, by what the destination says of it."""
    if member.state in ("unsubscribed", "bounced"):
        row.state = State.UNSUBSCRIBED if row.state == State.UNSUBSCRIBED else State.LEFT
    elif not is_known or row.state not in (State.SYNCED, State.FOUND):
        # Somebody who came back by themselves, or was never known: nothing of ours is taken for granted.
        row.state = State.FOUND
        row.forget_content()


def tag_of(row: Acknowledgement) -> str:
    """The one tag that an action is about; none where tags go with the contact."""
    if row.action not in ("tag_add", "tag_remove"):
        return ""
    return next(iter((*row.add, *row.remove)), "")


def destination_row(connection: Connection, target: str) -> Any:
    """The row of a destination; None where there is none."""
    return connection.execute(select(destinations).where(destinations.c.target == target)).one_or_none()


def destination_id(connection: Connection, target: str) -> int:
    """The id of a destination, 0 where there is none."""
    query = select(destinations.c.destination_id).where(destinations.c.target == target)
    return int(connection.execute(query).scalar() or 0)


def destination_made(connection: Connection, target: str) -> int:
    """The id of a destination, made where there is none."""
    if found := destination_id(connection, target):
        return found
    last = connection.execute(select(func.max(destinations.c.destination_id))).scalar()
    made = int(last or 0) + 1
    connection.execute(
        insert(destinations).values(destination_id=made, target=target, revision=0, generation=0, silent="first")
    )
    return made


def fetch(connection: Connection, query: Any, values: Mapping[str, Any] | None = None) -> list[Any]:
    """All rows of a query; their columns are of no static type."""
    return list(connection.execute(query, values or {}).fetchall())


def tags_by_name(connection: Connection, destination: int) -> dict[str, int]:
    """Ids of all tags of a destination."""
    query = select(tags.c.name, tags.c.tag_id).where(tags.c.destination_id == destination)
    return {name: int(number) for name, number in fetch(connection, query)}


def tag_ids_made(connection: Connection, destination: int, names: Collection[str]) -> dict[str, int]:
    """Ids of these tags, made where there are none."""
    if not names:
        return {}
    known = tags_by_name(connection, destination)
    missing = sorted(set(names) - set(known))
    for number, name in enumerate(missing, max(known.values(), default=0) + 1):
        if number > 0xFFFF:
            raise LedgerError("the ledger keeps 65,535 tags of a destination, and this would be one more")
        connection.execute(insert(tags).values(destination_id=destination, tag_id=number, name=name))
        known[name] = number
    return {name: known[name] for name in names}


def fetch_contacts(
    connection: Connection, columns: str, destination: int, keys: Collection[bytes], more: str = ""
) -> Iterator[Any]:
    """Columns of the contacts of these keys, by the driver alone: SQLAlchemy's placeholders cost thrice the reading.

    Args:
        more: further SQL, such as a condition or a lock.
    """
    is_postgresql = connection.dialect.name == "postgresql"
    for some in slices(list(keys)):
        among = "= any(%s)" if is_postgresql else f"in ({', '.join('?' * len(some))})"
        statement = f"select {columns} from contacts where destination_id = {int(destination)} and key {among} {more}"
        with _cursor(connection) as cursor:
            yield from cursor.execute(statement, (list(some),) if is_postgresql else tuple(some)).fetchall()


def load(connection: Connection, destination: int, keys: Collection[bytes]) -> dict[bytes, ContactRow]:
    """The rows of these keys, locked until the transaction ends."""
    columns = "key, state, content_hash, layout, field_hashes, tags"
    # SQLite has one writer, who has the whole file.
    lock = "for update" if connection.dialect.name == "postgresql" else ""
    return {
        bytes(key): ContactRow(_STATES[state], bytes(content_hash), layout, bytes(hashes), unpack(bytes(packed)))
        for key, state, content_hash, layout, hashes, packed in fetch_contacts(
            connection, columns, destination, keys, lock
        )
    }


def save(connection: Connection, destination: int, rows: Mapping[bytes, ContactRow], run_id: int) -> None:
    """Write rows whole, whether they were there or not."""
    _write_many(
        connection,
        """
        insert into contacts (destination_id, key, state, content_hash, layout, field_hashes, tags, run_id)
        values (?, ?, ?, ?, ?, ?, ?, ?)
        on conflict (destination_id, key) do update set
            state = excluded.state, content_hash = excluded.content_hash, layout = excluded.layout,
            field_hashes = excluded.field_hashes, tags = excluded.tags, run_id = excluded.run_id
        """,
        [
            (destination, key, int(row.state), row.content_hash, row.layout, row.field_hashes, pack(row.tags), run_id)
            for key, row in sorted(rows.items())
        ],
    )


def forget(connection: Connection, destination: int, keys: Collection[bytes]) -> None:
    """Delete the rows of these keys."""
    c = contacts.c
    statement = delete(contacts).where(
        c.destination_id == bindparam("of"), c.key.in_(bindparam("keys", expanding=True))
    )
    for some in slices(list(keys)):
        connection.execute(statement, {"of": destination, "keys": some})


def note_outcomes(
    connection: Connection, run_id: int, at: datetime, said: Iterable[tuple[bytes, str, str, str, str]]
) -> None:
    """Note what became of rows: key, action, tag, outcome, code."""
    moment = (naive(at) - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    _write_many(
        connection,
        "insert into outcomes (run_id, key, action, tag, outcome, code, at) values (?, ?, ?, ?, ?, ?, ?)",
        [(run_id, *one, moment) for one in said],
    )


def _write_many(connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Have the driver itself repeat a statement: SQLAlchemy's handling of each value costs three times the writing."""
    if rows:
        mark = "%s" if connection.dialect.name == "postgresql" else "?"
        connection.exec_driver_sql(statement.replace("?", mark), list(rows))


def read_arrow(connection: Connection, query: str, schema: pa.Schema) -> pa.Table:
    """Read a whole query past SQLAlchemy's rows and types: a million rows of five columns in two seconds.

    Small fetches stay in the processor's caches, which halves the time.
    """
    import pyarrow as pa

    batches = []
    with _cursor(connection, is_large=True) as cursor:
        cursor.execute(query)
        while rows := cursor.fetchmany(1_000):
            columns = zip(*rows, strict=True)
            arrays = [_array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
            batches.append(pa.record_batch(arrays, schema))
    return pa.Table.from_batches(batches, schema).combine_chunks()


@contextmanager
def _cursor(connection: Connection, *, is_large: bool = False) -> Iterator[Any]:
    """The driver's own cursor, whose errors become SQLAlchemy's all the same."""
    driver: Any = connection.connection
    # PostgreSQL sends the whole result at once unless the cursor has a name.
    is_named = is_large and connection.dialect.name == "postgresql"
    cursor = driver.cursor(name="rows") if is_named else driver.cursor()
    try:
        yield cursor
    except connection.dialect.loaded_dbapi.Error as error:
        raise DBAPIError(None, None, error) from error
    finally:
        cursor.close()


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if kind != pa.binary():
        return pa.array(values, kind)
    # Joining and measuring in bulk takes a third of what `pa.array` does with bytes.
    offsets = array("i", accumulate(map(len, values), initial=0))
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(values))])


def slices(keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Keys in portions that one query takes."""
    for start in range(0, len(keys), AT_ONCE):
        yield keys[start : start + AT_ONCE]


def naive(moment: datetime) -> datetime:
    """An instant in UTC without its zone."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
