"""Changes that a destination may have carried out without the ledger knowing: sent, and the answer never came.

A process that is killed between a platform's answer and the ledger leaves such changes, and so do a lost answer that is
never made good and a refusal that comes in before it is. The same plan, applied again, makes up for them. Another plan
would not by the ledger alone: it would take no tag off that the ledger does not know of, clear no field, and leave alone
who was created and has refused since. So operations are noted before they are sent, and dropped when everything was
answered. What is left is in doubt: a plan writes the content of such contacts whole, puts their tags on or takes them off
whatever the ledger says, and passes refusals on to contacts that may be there; so does `suppress`. Keys and names of tags
only, no addresses.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from activation.acknowledged import create_tag_ids, undone_sql
from activation.engine import Operation
from activation.ledger import Ledger
from activation.releases import quoted
from core.files import replacing
from core.home import Home
from core.settings import Settings
from core.warehouse import in_memory

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

# What is in doubt of a contact beside its tags: whether it is there and with which content; whether it is gone.
CONTENT = ""
GONE = "-"
_REST = "rest"


@dataclass
class Notes:
    """What one run of a plan notes.

    Args:
        run_id: tells apart what an earlier run of the same plan noted.
    """

    home: Home
    target: str
    plan_hash: str
    run_id: int
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def note(self, rows: Sequence[Operation]) -> None:
        """Note operations that are about to be sent. On the disk when this returns."""
        import pyarrow as pa

        # A refusal is told again until it is acknowledged.
        noted = [row for row in rows if row.action != "unsubscribe"]
        if not noted:
            return
        name = f"{self.plan_hash}.{self.run_id:010}.{next(self._numbers):06}"
        _write(_path(self.home, self.target, name), pa.table({
            "action": pa.array([row.action for row in noted], pa.string()),
            "key": pa.array([row.contact.key for row in noted], pa.string()),
            "old_key": pa.array([row.old.key if row.old else None for row in noted], pa.string()),
            "tag": pa.array([row.tag for row in noted], pa.string()),
            "add": pa.array([row.contact.add for row in noted], pa.list_(pa.string())),
            "remove": pa.array([row.contact.remove for row in noted], pa.list_(pa.string())),
            "content_hash": pa.array([row.content_hash for row in noted], pa.binary()),
            "is_doubtful": pa.array([row.contact.is_doubtful for row in noted], pa.bool_()),
        }))  # fmt: skip

    def settle(
        self, settings: Settings, ledger: Ledger, operations: Path, unclear: Collection[str], undone: Collection[str]
    ) -> None:
        """Every operation of the plan was answered or given up: keep what is still in doubt.

        Args:
            operations: the plan's.
            unclear: keys of contacts that may or may not have been changed by this run.
            undone: keys of contacts that were certainly not changed by it: withheld or refused.
        """
        mine = _path(self.home, self.target, f"{self.plan_hash}.{self.run_id:010}.*")
        files = _files(self.home, self.target)
        if all(path.match(mine.name) for path in files) and not unclear:
            _delete(files)
            return
        with in_memory(settings) as connection:
            connection.register("known", ledger.rows(self.target))
            create_tag_ids(connection, ledger, self.target)
            refused = [key.hex() for key in ledger.rejected_in(self.target, self.plan_hash).column("key").to_pylist()]
            _register_keys(connection, "unclear", unclear)
            _register_keys(connection, "undone", {*undone, *refused})
            own = f"{_prefix(self.target)}.{self.plan_hash}."
            _create_doubts(connection, "of_this_run", [path for path in files if path.match(mine.name)])
            _create_doubts(
                connection, "of_this_plan", [f for f in files if f.name.startswith(own) and not f.match(mine.name)]
            )
            _create_doubts(connection, "of_others", [path for path in files if not path.name.startswith(own)])
            left = connection.sql(_LEFT.format(operations=quoted(operations))).to_arrow_table()
        rest = _path(self.home, self.target, _REST)
        if left.num_rows:
            _write(rest, left)
        _delete([path for path in files if path != rest or not left.num_rows])


def create(connection: duckdb.DuckDBPyConnection, home: Home, ledger: Ledger, target: str) -> None:
    """Make the table `doubts`: key (hexadecimal digits), what (a tag, CONTENT or GONE), new_key (of GONE by a rekey).

    Reads `known`, the ledger's rows.
    """
    create_tag_ids(connection, ledger, target)
    _create_doubts(connection, "doubts", _files(home, target))


def unknown(home: Home, ledger: Ledger, target: str, among: Collection[bytes]) -> set[bytes]:
    """Of these keys, those of contacts that may be there and that the ledger does not know."""
    import pyarrow.parquet as pq

    noted = {key for path in _files(home, target) for key in pq.read_table(path, columns=["key"])["key"].to_pylist()}
    found = [key for key in among if key.hex() in noted]
    return set(found) - ledger.states(target, found).keys()


def keys(home: Home, target: str) -> set[str]:
    """Keys of all contacts that are noted, in hexadecimal digits."""
    import pyarrow.parquet as pq

    return {key for path in _files(home, target) for key in pq.read_table(path, columns=["key"])["key"].to_pylist()}


def forget(home: Home, target: str) -> None:
    """Nothing is in doubt: the destination's members have been read."""
    _delete(_files(home, target))


def _create_doubts(connection: duckdb.DuckDBPyConnection, name: str, files: Sequence[Path]) -> None:
    """What the ledger does not show as done of noted operations, and what was left of earlier ones."""
    connection.execute(f"create table {name} (key varchar, what varchar, new_key varchar)")
    if rest := [path for path in files if path.name.endswith(f".{_REST}.parquet")]:
        connection.execute(f"insert into {name} from read_parquet({_listed(rest)})")
    if not (noted := [path for path in files if path not in rest]):
        return
    connection.execute(f"""
        create or replace temp table noted as from read_parquet({_listed(noted)});

        create or replace temp table in_doubt_now as {undone_sql("noted")};

        insert into {name}
        select key, '{CONTENT}', null from in_doubt_now where action in ('create', 'update', 'rekey')
        union
        select key, unnest(if(tag <> '', [tag], add || remove)), null from in_doubt_now
        union
        select if(action = 'rekey', old_key, key), '{GONE}', if(action = 'rekey', key, null)
        from in_doubt_now
        where action in ('archive', 'erase', 'rekey')
        union
        -- A new key takes the tags along.
        select moved.key, tag_ids.name, null
        from (
            select
                in_doubt_now.key,
                unnest(list_transform(range(0, octet_length(tags) // 2), lambda i: substr(hex(tags), 4 * i + 1, 4))) as id
            from in_doubt_now
            inner join known on unhex(in_doubt_now.old_key) = known.key
            where action = 'rekey'
        ) as moved
        inner join tag_ids using (id)
    """)


# What a plan's operations made certain is in doubt no more, but for contacts to which they were not done.
_LEFT = f"""
with done as (
    select * from read_parquet('{{operations}}')
    where key not in (select key from unclear) and key not in (select key from undone)
),

settled as (
    select key, unnest(['{CONTENT}', '{GONE}']) as what from done
    where action in ('create', 'update', 'rekey', 'erase', 'archive')
    union
    select key, unnest(if(tag <> '', [tag], add || remove)) from done
),

gone as (
    select if(action = 'rekey', old_key, key) as key from done where action in ('rekey', 'erase')
)

select * from (
    select * from of_others
    anti join settled using (key, what)
    union
    select * from of_this_plan where key in (select key from undone)
)
where key not in (select key from gone)
union
select * from of_this_run where key in (select key from unclear)
union
select * from of_this_plan where key in (select key from unclear)
"""


def _register_keys(connection: duckdb.DuckDBPyConnection, name: str, found: Collection[str]) -> None:
    import pyarrow as pa

    connection.register(name, pa.table({"key": pa.array(sorted(found), pa.string())}))


def _write(path: Path, table: pa.Table) -> None:
    import pyarrow.parquet as pq

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing(path) as beside:
        beside.touch(mode=0o600)
        pq.write_table(table, beside)


def _delete(files: Sequence[Path]) -> None:
    for path in files:
        path.unlink(missing_ok=True)


def _listed(files: Sequence[Path]) -> str:
    return "[" + ", ".join(f"'{quoted(path)}'" for path in files) + "]"


def _files(home: Home, target: str) -> list[Path]:
    return sorted(_path(home, target, "*").parent.glob(f"{_prefix(target)}.*.parquet"))


def _path(home: Home, target: str, name: str) -> Path:
    return home.state / "syncs" / "doubtful" / f"{_prefix(target)}.{name}.parquet"


def _prefix(target: str) -> str:
    return hashlib.sha256(target.encode()).hexdigest()[:16]
