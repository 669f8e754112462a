"""What identity resolution remembers, under `home.identity`: append-only files by run, never changed once written.

Of a run, `assignments/<run>.parquet` is written last: without it the run never happened, and what it left is deleted by
the next one. The files hold keys, hashes and weights, no contents of records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from core.files import replacing, write_atomically
from core.home import Home

if TYPE_CHECKING:
    import duckdb

    from ml.identity.model import IdentityModel

COLUMNS: Mapping[str, Mapping[str, str]] = {
    "assignments": {"run": "bigint", "as_of": "timestamp", "identifier_id": "bigint", "customer_id": "varchar"},
    "journal": {
        "run": "bigint",
        "entry": "bigint",
        "as_of": "timestamp",
        "event": "varchar",
        "customer_id": "varchar",
        "other_customer_id": "varchar",
        "identifier_ids": "bigint[]",
        "evidence": "varchar",
    },
    "links": {
        "run": "bigint",
        "record_l": "bigint",
        "record_r": "bigint",
        "match_weight": "double",
        "match_probability": "double",
        "agreed": "varchar[]",
    },
    "records": {
        "run": "bigint",
        "identifier_id": "bigint",
        "content_hash": "varchar",
        "ties_hash": "varchar",
        "content_run": "bigint",
    },
}
"""Columns of each kind of file. `records` says what a record held when it was last looked at: `content_run` is the run that
saw its present content first; both hashes are null for one that is gone."""

_LAST = "assignments"
_ORDER = {
    "records": "identifier_id",
    "links": "record_l, record_r",
    "journal": "entry",
    "assignments": "identifier_id",
}


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        number: counts from 1.
        as_of: naive UTC instant whose knowledge it used.
    """

    number: int
    as_of: datetime


@dataclass(frozen=True)
class StoredModel:
    """A model, the run that trained it, and how many records it learned from."""

    run: int
    records: int
    model: IdentityModel


def newest(home: Home) -> Run | None:
    """The newest finished run."""
    import pyarrow.parquet as pq

    runs = _finished(home)
    if not runs:
        return None
    said = pq.read_schema(_path(home, _LAST, runs[-1])).metadata or {}
    return Run(runs[-1], datetime.fromisoformat(said[b"as_of"].decode()))


def forget_unfinished(home: Home) -> None:
    """Delete what a run that was interrupted has left."""
    finished = set(_finished(home))
    for kind in (*COLUMNS, "models"):
        for path in (home.identity / kind).glob("[0-9]*.*"):
            if int(path.stem) not in finished:
                path.unlink()


def read(connection: duckdb.DuckDBPyConnection, home: Home, kind: str, *, out: str) -> None:
    """Make the temporary view `out` of all rows of one kind, from finished runs."""
    columns = COLUMNS[kind]
    empty = ", ".join(f"cast(null as {data_type}) as {name}" for name, data_type in columns.items())
    paths = [_path(home, kind, run) for run in _finished(home)]
    files = ", ".join(f"'{str(path).replace(chr(39), chr(39) * 2)}'" for path in paths if path.exists())
    found = f" union all by name select {', '.join(columns)} from read_parquet([{files}])" if files else ""
    connection.execute(f"create or replace temp view {out} as select {empty} where false{found}")


def read_assignments(connection: duckdb.DuckDBPyConnection, home: Home, *, out: str) -> None:
    """Make the temporary table `out` (identifier_id, customer_id): to whom each record belongs now."""
    read(connection, home, "assignments", out="_identity_assignments")
    connection.execute(
        f"""
        create or replace temp table {out} as
        select identifier_id, arg_max(customer_id, run) as customer_id
        from _identity_assignments
        group by identifier_id
        """
    )
    connection.execute("drop view _identity_assignments")


def read_records(connection: duckdb.DuckDBPyConnection, home: Home, *, out: str) -> None:
    """Make the temporary table `out` (identifier_id, content_hash, ties_hash, content_run): what each record held last."""
    read(connection, home, "records", out="_identity_records")
    connection.execute(
        f"""
        create or replace temp table {out} as
        with newest as (
            select identifier_id, max_by((content_hash, ties_hash, content_run), run) as held
            from _identity_records
            group by identifier_id
        )
        select
            identifier_id,
            held[1] as content_hash,
            held[2] as ties_hash,
            held[3] as content_run
        from newest
        """
    )
    connection.execute("drop view _identity_records")


def read_links(connection: duckdb.DuckDBPyConnection, home: Home, *, records: str, out: str) -> None:
    """Make the temporary table `out` (record_l, record_r, match_weight, match_probability, agreed) of links in force.

    A link counts if neither record changed since it was scored, and no other model was trained since.

    Args:
        records: table as `read_records` makes it.
    """
    read(connection, home, "links", out="_identity_links")
    trained_in = max(_models(home), default=0)
    connection.execute(
        f"""
        create or replace temp table {out} as
        select
            links.record_l,
            links.record_r,
            links.match_weight,
            links.match_probability,
            links.agreed
        from _identity_links as links
        inner join {records} as l on links.record_l = l.identifier_id
        inner join {records} as r on links.record_r = r.identifier_id
        where
            links.run >= {trained_in}
            and links.run >= l.content_run
            and links.run >= r.content_run
            and l.content_hash is not null
            and r.content_hash is not null
        """
    )
    connection.execute("drop view _identity_links")


def read_model(home: Home) -> StoredModel | None:
    """The newest model of a finished run."""
    import json

    from ml.identity.model import IdentityModel

    runs = _models(home)
    if not runs:
        return None
    said = json.loads(_model_path(home, runs[-1]).read_text(encoding="utf-8"))
    return StoredModel(runs[-1], said["records"], IdentityModel.from_json(json.dumps(said["model"])))


def write(
    connection: duckdb.DuckDBPyConnection, home: Home, run: Run, tables: Mapping[str, str], model: StoredModel | None
) -> None:
    """Write a run: it is there as a whole, or not at all.

    Args:
        tables: kind -> table with its columns, except for `run` and `as_of`, which are added where they are missing.
        model: if this run trained one.
    """
    import json

    if model is not None:
        said = {"records": model.records, "model": json.loads(model.model.to_json())}
        write_atomically(_model_path(home, run.number), json.dumps(said, sort_keys=True, indent=1) + "\n")
    for kind in sorted(tables, key=lambda kind: kind == _LAST):
        table = tables[kind]
        [(rows,)] = connection.execute(f"select count(*) from {table}").fetchall()
        if rows or kind == _LAST:
            _write_table(connection, _path(home, kind, run.number), kind, table, run)


def _write_table(connection: duckdb.DuckDBPyConnection, path: Path, kind: str, table: str, run: Run) -> None:
    said = {"run": str(run.number), "as_of": f"timestamp '{run.as_of.isoformat(sep=' ')}'"}
    columns = ", ".join(
        f"cast({said.get(name, name)} as {data_type}) as {name}" for name, data_type in COLUMNS[kind].items()
    )
    with replacing(path) as beside:
        connection.execute(
            f"copy (select {columns} from {table} order by {_ORDER[kind]})"
            f" to '{str(beside).replace(chr(39), chr(39) * 2)}'"
            f" (format parquet, compression zstd, kv_metadata {{as_of: '{run.as_of.isoformat()}'}})"
        )


def _finished(home: Home) -> list[int]:
    return sorted(int(path.stem) for path in (home.identity / _LAST).glob("[0-9]*.parquet"))


def _models(home: Home) -> list[int]:
    finished = set(_finished(home))
    found = (int(path.stem) for path in (home.identity / "models").glob("[0-9]*.json"))
    return sorted(run for run in found if run in finished)


def _path(home: Home, kind: str, run: int) -> Path:
    return home.identity / kind / f"{run:06d}.parquet"


def _model_path(home: Home, run: int) -> Path:
    return home.identity / "models" / f"{run:06d}.json"
