"""What a platform's part of the sandbox knows: people, groups, documents of its own and a journal of calls, in SQLite.

One file per platform. Reads and writes take many rows at once, and everything that one call changes is one transaction.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

CALLS_KEPT = 1000
_AT_ONCE = 500  # of SQLite's parameters to one statement

_SCHEMA = """
create table if not exists settings (name text primary key, value text not null) without rowid;
create table if not exists people (
    number integer primary key,
    key text not null unique,
    email text collate nocase,
    state text not null,
    left_by text,
    fields text not null,
    made_at real not null,
    changed_at real not null
);
create index if not exists people_by_email on people (email);
create index if not exists people_by_change on people (changed_at desc);
-- Segments that a platform keeps as attributes: those that are true, and entries of lists.
create view if not exists marks as
    select number, state, said.key as name from people, json_each(fields) as said
    where said.type = 'true' or lower(said.atom) = 'true'
    union all
    select number, state, entry.value from people, json_each(fields) as said, json_each(said.value) as entry
    where said.type = 'array';
create table if not exists forgotten (key text primary key) without rowid;
create table if not exists groups (
    id integer primary key, name text not null unique, made_at real not null, changed_at real not null
);
create table if not exists memberships (group_id integer not null, key text not null, primary key (group_id, key))
    without rowid;
create index if not exists memberships_by_key on memberships (key);
create table if not exists documents (
    kind text not null, id text not null, body text not null, primary key (kind, id)
) without rowid;
create table if not exists calls (
    id integer primary key, at real not null, method text not null, path text not null, route text not null,
    status integer, sent integer not null, refused integer not null, milliseconds real not null, fault text
);
"""
_PEOPLE = ("key", "email", "state", "left_by", "fields", "made_at", "changed_at")


@dataclass(slots=True)
class Person:
    """Somebody at a platform.

    Attributes:
        key: what the part finds people by, one each.
        email: as it was given; it is found whatever its case.
        state: `subscribed`, `unsubscribed`, `bounced` or `archived`; a part may have more.
        left_by: who took them out: `contact` or `bounce`, which only they themselves can undo, or `api`.
        fields: name to value, as the platform keeps it.
        number: ascending in the order in which people came.
    """

    key: str
    email: str | None = None
    state: str = "subscribed"
    left_by: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    made_at: float = field(default_factory=time.time)
    changed_at: float = field(default_factory=time.time)
    number: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """A tag, list or segment that people are put into."""

    id: int
    name: str
    made_at: float
    changed_at: float


class People:
    """One platform's state. Safe for threads: one at a time is let in.

    A file that is new is another account: its id and its secrets are made at random with it.
    """

    def __init__(self, folder: Path, platform: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = database(folder, platform)
        path.touch(mode=0o600)
        self._lock = threading.RLock()
        self._depth = 0
        self._connection = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = normal")
        self._connection.execute("pragma cache_size = -65536")
        if self._value("select 1 from sqlite_master where name = 'calls'") is None:
            self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Have everything in this block happen together, or, when it raises, not at all."""
        with self._lock:
            if self._depth == 0:
                self._connection.execute("begin immediate")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._connection.execute("rollback")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._connection.execute("commit")

    # The account.

    def setting(self, name: str, make: Callable[[], str]) -> str:
        """A value that is made when it is first asked for."""
        with self.change():
            found = self._value("select value from settings where name = ?", (name,))
            if found is None:
                found = make()
                self._connection.execute("insert into settings values (?, ?)", (name, found))
            return str(found)

    @property
    def account(self) -> str:
        """Id of the account."""
        return self.setting("account", lambda: secrets.token_hex(5))

    # People.

    def find(self, keys: Iterable[str]) -> dict[str, Person]:
        """Those of `keys` who are there."""
        return {person.key: person for person in self._among("key", keys)}

    def find_by_email(self, emails: Iterable[str]) -> dict[str, list[Person]]:
        """People by address in lower case, the earliest first."""
        found: dict[str, list[Person]] = {}
        for person in self._among("email", emails):
            found.setdefault((person.email or "").lower(), []).append(person)
        return found

    def save(self, people: Iterable[Person]) -> None:
        """Write people, new or changed; nothing else of theirs changes."""
        rows = [
            (
                person.key, person.email, person.state, person.left_by, orjson.dumps(person.fields).decode(),
                person.made_at, person.changed_at,
            )
            for person in people
        ]  # fmt: skip
        updates = ", ".join(f"{name} = excluded.{name}" for name in _PEOPLE[1:])
        with self.change():
            self._connection.executemany(
                f"insert into people ({', '.join(_PEOPLE)}) values (?, ?, ?, ?, ?, ?, ?)"
                f" on conflict (key) do update set {updates}",
                rows,
            )

    def rekey(self, old: str, new: str, email: str | None = None) -> None:
        """Let somebody go by another key, with all that is theirs; `email` is their address from now on."""
        with self.change():
            person = self.find([old])[old]
            self._connection.execute("update people set key = ? where key = ?", (new, old))
            self._connection.execute("update memberships set key = ? where key = ?", (new, old))
            person.key, person.email, person.changed_at = new, email or person.email, time.time()
            self.save([person])

    def delete(self, keys: Collection[str], *, forget: bool = False) -> int:
        """Delete people and what they are in; `forget`: so that they are known as never to come back. Returns how many."""
        with self.change():
            rows = [(key,) for key in keys]
            gone = self._connection.executemany("delete from people where key = ?", rows).rowcount
            self._connection.executemany("delete from memberships where key = ?", rows)
            if forget:
                self._connection.executemany("insert or ignore into forgotten values (?)", rows)
            return gone

    def forgotten(self, keys: Iterable[str]) -> set[str]:
        """Those of `keys` that were deleted for good."""
        found: set[str] = set()
        with self._lock:
            for some in _parts(keys):
                marks = ", ".join("?" * len(some))
                found.update(
                    key
                    for (key,) in self._connection.execute(f"select key from forgotten where key in ({marks})", some)
                )
        return found

    def leave(self, key: str, how: str) -> bool:
        """What only the contact (`unsubscribe`) or the mail system (`bounce`) does. Returns whether they are there."""
        state, left_by = {"unsubscribe": ("unsubscribed", "contact"), "bounce": ("bounced", "bounce")}[how]
        with self.change():
            done = self._connection.execute(
                "update people set state = ?, left_by = ?, changed_at = ? where key = ?",
                (state, left_by, time.time(), key),
            )
            return done.rowcount > 0

    def page(
        self,
        count: int,
        offset: int = 0,
        *,
        states: Collection[str] | None = None,
        but: Collection[str] = (),
        group: int | None = None,
        mark: str | None = None,
        search: str = "",
        changed_since: float | None = None,
        newest: bool = False,
    ) -> list[Person]:
        """Some people in the order in which they came; `newest`: the last changed first."""
        where, values = self._where(states, but, group, mark, search, changed_since)
        order = "changed_at desc, number desc" if newest else "number"
        return self._read(f"{where} order by {order} limit ? offset ?", [*values, count, offset])

    def count(
        self,
        *,
        states: Collection[str] | None = None,
        but: Collection[str] = (),
        group: int | None = None,
        mark: str | None = None,
        search: str = "",
        changed_since: float | None = None,
    ) -> int:
        """How many `page` would give in all."""
        where, values = self._where(states, but, group, mark, search, changed_since)
        with self._lock:
            return int(self._value(f"select count(*) from people {where}", values))

    def everyone(self) -> Iterator[Person]:
        """Everybody, in the order in which they came, whatever their state."""
        last = 0
        while some := self._read("where number > ? order by number limit 5000", [last]):
            yield from some
            last = some[-1].number

    def count_by_state(self) -> dict[str, int]:
        with self._lock:
            return dict(self._connection.execute("select state, count(*) from people group by state"))

    # Groups.

    def groups(self) -> dict[str, Group]:
        """Groups by name, in the order in which they were made."""
        with self._lock:
            rows = self._connection.execute("select id, name, made_at, changed_at from groups order by id").fetchall()
        return {row[1]: Group(*row) for row in rows}

    def make_group(self, name: str) -> Group:
        """The group of that name, made when there is none."""
        with self.change():
            now = time.time()
            self._connection.execute(
                "insert or ignore into groups (name, made_at, changed_at) values (?, ?, ?)", (name, now, now)
            )
            return self.groups()[name]

    def delete_group(self, group: int) -> None:
        with self.change():
            self._connection.execute("delete from memberships where group_id = ?", (group,))
            self._connection.execute("delete from groups where id = ?", (group,))

    def put_into(self, group: int, keys: Iterable[str]) -> None:
        with self.change():
            rows = [(group, key) for key in keys]
            self._connection.executemany("insert or ignore into memberships values (?, ?)", rows)
            self._touch(group)

    def take_out(self, group: int, keys: Iterable[str]) -> None:
        with self.change():
            rows = [(group, key) for key in keys]
            self._connection.executemany("delete from memberships where group_id = ? and key = ?", rows)
            self._touch(group)

    def inside(self, group: int, keys: Iterable[str]) -> set[str]:
        """Those of `keys` who are in a group."""
        found: set[str] = set()
        with self._lock:
            for some in _parts(keys):
                marks = ", ".join("?" * len(some))
                rows = self._connection.execute(
                    f"select key from memberships where group_id = ? and key in ({marks})", [group, *some]
                )
                found.update(key for (key,) in rows)
        return found

    def groups_of(self, keys: Iterable[str]) -> dict[str, list[Group]]:
        """Groups of each of `keys` who is in any, by name."""
        found: dict[str, list[Group]] = {}
        with self._lock:
            for some in _parts(keys):
                marks = ", ".join("?" * len(some))
                for key, *row in self._connection.execute(
                    "select key, id, name, made_at, groups.changed_at from memberships join groups on id = group_id"
                    f" where key in ({marks}) order by name",
                    some,
                ):
                    found.setdefault(key, []).append(Group(*row))
        return found

    def group_sizes(self, state: str | None = None) -> dict[int, int]:
        """Members by group's id; with `state`, only of those who are in it."""
        join = "" if state is None else "join people using (key) where state = ?"
        with self._lock:
            rows = self._connection.execute(
                f"select group_id, count(*) from memberships {join} group by group_id",
                () if state is None else (state,),
            )
            return dict(rows.fetchall())

    def mark_sizes(self, prefix: str) -> dict[str, int]:
        """People by segment where segments are attributes: true ones that begin with `prefix`, and entries of lists."""
        with self._lock:
            rows = self._connection.execute(
                "select name, count(*) from marks where state = 'subscribed' and substr(name, 1, ?) = ?"
                " group by name order by name",
                (len(prefix), prefix),
            )
            return dict(rows.fetchall())

    # Documents of the part's own: jobs, definitions of fields, tokens.

    def keep(self, kind: str, documents: Mapping[str, Any]) -> None:
        """Write documents by id."""
        with self.change():
            self._connection.executemany(
                "insert or replace into documents values (?, ?, ?)",
                [(kind, name, orjson.dumps(body).decode()) for name, body in documents.items()],
            )

    def document(self, kind: str, name: str) -> Any:
        """A document; None where there is none."""
        with self._lock:
            found = self._value("select body from documents where kind = ? and id = ?", (kind, name))
        return None if found is None else orjson.loads(found)

    def documents(self, kind: str) -> dict[str, Any]:
        """All documents of a kind by id."""
        with self._lock:
            rows = self._connection.execute("select id, body from documents where kind = ? order by id", (kind,))
            return {name: orjson.loads(body) for name, body in rows.fetchall()}

    def drop(self, kind: str, name: str | None = None) -> None:
        """Delete a document, or all of a kind."""
        with self.change():
            if name is None:
                self._connection.execute("delete from documents where kind = ?", (kind,))
            else:
                self._connection.execute("delete from documents where kind = ? and id = ?", (kind, name))

    # The journal of calls.

    def note_call(
        self,
        method: str,
        path: str,
        route: str,
        status: int | None,
        sent: int,
        refused: int,
        milliseconds: float,
        fault: str | None = None,
    ) -> None:
        """Note a call; the last `CALLS_KEPT` are kept. `status` is None where no answer was given."""
        with self.change():
            made = self._connection.execute(
                "insert into calls (at, method, path, route, status, sent, refused, milliseconds, fault)"
                " values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (time.time(), method, path, route, status, sent, refused, milliseconds, fault),
            )
            if made.lastrowid is not None and made.lastrowid % 100 == 0:
                self._connection.execute("delete from calls where id <= ?", (made.lastrowid - CALLS_KEPT,))

    def calls(self, count: int, after: int = 0) -> list[dict[str, Any]]:
        """The newest calls first, of those with an id above `after`."""
        names = ("id", "at", "method", "path", "route", "status", "sent", "refused", "milliseconds", "fault")
        with self._lock:
            rows = self._connection.execute(
                f"select {', '.join(names)} from calls where id > ? order by id desc limit ?", (after, count)
            ).fetchall()
        return [dict(zip(names, row, strict=True)) for row in rows]

    # Below: rows.

    def _value(self, query: str, values: Collection[Any] = ()) -> Any:
        row = self._connection.execute(query, tuple(values)).fetchone()
        return None if row is None else row[0]

    def _read(self, clause: str, values: Collection[Any]) -> list[Person]:
        with self._lock:
            rows = self._connection.execute(
                f"select {', '.join(_PEOPLE)}, number from people {clause}", tuple(values)
            ).fetchall()
        return [
            Person(key, email, state, left_by, orjson.loads(fields), made_at, changed_at, number)
            for key, email, state, left_by, fields, made_at, changed_at, number in rows
        ]

    def _among(self, column: str, values: Iterable[str]) -> list[Person]:
        found: list[Person] = []
        for some in _parts(values):
            found += self._read(f"where {column} in ({', '.join('?' * len(some))}) order by number", some)
        return found

    def _where(
        self,
        states: Collection[str] | None,
        but: Collection[str],
        group: int | None,
        mark: str | None,
        search: str,
        changed_since: float | None,
    ) -> tuple[str, list[Any]]:
        clauses, values = ["true"], list[Any]()
        if states is not None:
            clauses.append(f"state in ({', '.join('?' * len(states))})")
            values += states
        if but:
            clauses.append(f"state not in ({', '.join('?' * len(but))})")
            values += but
        if group is not None:
            clauses.append("key in (select key from memberships where group_id = ?)")
            values.append(group)
        if mark is not None:
            clauses.append("number in (select number from marks where name = ?)")
            values.append(mark)
        if search:
            clauses.append("(instr(lower(email), lower(?)) > 0 or key = ?)")
            values += [search, search]
        if changed_since is not None:
            clauses.append("changed_at >= ?")
            values.append(changed_since)
        return f"where {' and '.join(clauses)}", values

    def _touch(self, group: int) -> None:
        self._connection.execute("update groups set changed_at = ? where id = ?", (time.time(), group))


def database(folder: Path, platform: str) -> Path:
    """Where a platform's people are kept."""
    return folder / f"{platform}.sqlite"


def contents(folder: Path, platform: str) -> dict[str, int]:
    """Contacts that may be mailed, tags and taggings that a platform of the sandbox holds; empty if it has no file yet."""
    path = database(folder, platform)
    if not path.exists():
        return {}
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        try:
            counted = connection.execute(
                "select (select count(*) from people where state = 'subscribed'),"
                " (select count(*) from groups) + (select count(distinct name) from marks),"
                " (select count(*) from memberships) + (select count(*) from marks)"
            ).fetchone()
        except sqlite3.OperationalError:  # on its way to being made
            return {}
    return dict(zip(("contacts", "tags", "taggings"), counted, strict=True))


def instant(moment: float) -> str:
    """Seconds of the epoch as ISO 8601 in UTC."""
    return _instant(int(moment))


@lru_cache(4096)
def _instant(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()


def _parts(values: Iterable[str]) -> Iterator[list[str]]:
    wanted = list(dict.fromkeys(values))
    for start in range(0, len(wanted), _AT_ONCE):
        yield wanted[start : start + _AT_ONCE]
