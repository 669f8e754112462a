"""Raw files as relations that DuckDB reads in sets: Parquet directly, text by way of a staged Parquet file.

Every relation has a `file_row_number` (from 0) that is the row's position among the data rows of its file. Text formats
are staged once, as text, so that the row numbers are stable and the file is parsed once however often it is scanned.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import DeliveryError
from ingestion import delimited, json_lines, signatures
from ingestion.sql import identifier, literal
from ingestion.staging import Staged

if TYPE_CHECKING:
    import duckdb

PARQUET = (".parquet", ".pq")
DELIMITED = (".csv", ".tsv", ".txt")
JSON_LINES = (".jsonl", ".ndjson", ".json")
COMPRESSED = ".gz"


@dataclass(frozen=True)
class RawFile:
    """One file of a delivery.

    Attributes:
        name: as shown to people.
        relation: SQL that stands after FROM; has a column `file_row_number`.
        rows: data rows in the file, counted by other means than by reading them through `relation`.
        names: the columns' names in the file, in its order; a name may occur twice.
        types: DuckDB type of each column, by its name in the file.
        expressions: SQL of each column, by its name in the file.
        raw_row: SQL of the row as received, as JSON.
        problem: SQL of what is wrong with a row as a whole, null where nothing is; None where nothing can be.
        is_named: whether the columns' names were certainly written as names (a CSV may lack its header).
    """

    name: str
    relation: str
    rows: int
    names: tuple[str, ...]
    types: Mapping[str, str]
    expressions: Mapping[str, str]
    raw_row: str
    problem: str | None
    is_named: bool


def check_file(path: Path) -> None:
    """Refuse at once what can't be read as any format.

    Raises:
        DeliveryError: not there, a folder or a pipe, empty, of an unknown kind, or of another kind than its name says.
        OSError: it can't be opened.
    """
    if not path.exists():
        raise DeliveryError(f"there is no file {path}: check its name")
    if not path.is_file():
        raise DeliveryError(f"{path} is no file: name the files in it")
    if not path.stat().st_size:
        raise DeliveryError(f"{path.name} is empty (0 bytes): deliver it again")
    kind = _format(path.name)
    if kind is None:
        known = ", ".join([*PARQUET, *DELIMITED, *JSON_LINES])
        raise DeliveryError(
            f"{path.name} is of no known kind: its name must end in {known} (the text ones also in {COMPRESSED})"
        )
    if kind != "parquet" and (said := signatures.disguise(path, is_json=kind == "json lines")):
        raise DeliveryError(f"{path.name} {said}")


def open_file(connection: duckdb.DuckDBPyConnection, path: Path, staging: Path) -> RawFile:
    """Open one raw file.

    Args:
        staging: path of a Parquet file to write where the format needs it; it must outlive the result.

    Raises:
        DeliveryError: the file can't be read; says what to do.
    """
    kind = _format(path.name)
    if kind == "parquet":
        return _open_parquet(connection, path)
    staged = _staged(connection, path, staging, kind)
    names = list(staged.names)
    cells = [identifier(f"c{position}") for position in range(len(names))]
    pairs = ", ".join(f"{literal(name)}, {cell}" for name, cell in zip(names, cells, strict=True))
    return RawFile(
        name=path.name,
        relation=f"read_parquet({literal(staging)})",
        rows=staged.rows,
        names=staged.names,
        types=dict.fromkeys(names, "VARCHAR"),
        expressions=dict(zip(names, cells, strict=True)),
        raw_row=f"coalesce(raw, cast(json_object({pairs}) as varchar))",
        problem="problem" if staged.has_problems else None,
        is_named=staged.is_named,
    )


def _staged(connection: duckdb.DuckDBPyConnection, path: Path, staging: Path, kind: str | None) -> Staged:
    import duckdb

    stage = delimited.stage if kind == "delimited" else json_lines.stage
    try:
        return stage(connection, path, staging)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise DeliveryError(
            f"{path.name} can't be unpacked: it is truncated or damaged; export it and deliver it again"
        ) from None
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as error:
        # What DuckDB says may hold values, so only the kind of error is passed on.
        raise DeliveryError(
            f"{path.name} can't be read ({type(error).__name__} in DuckDB): export it in another way and deliver it again"
        ) from None


def _open_parquet(connection: duckdb.DuckDBPyConnection, path: Path) -> RawFile:
    import duckdb

    relation = f"read_parquet({literal(path)})"
    try:
        described = connection.execute(f"describe select * from {relation}").fetchall()
        counted = connection.execute(f"select num_rows from parquet_file_metadata({literal(path)})").fetchone()
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error:
        raise damaged(path.name) from None
    types = {name: str(kind) for name, kind, *_ in described}
    if "file_row_number" in (name.lower() for name in types):
        raise DeliveryError(f"{path.name} has a column file_row_number, which is a reserved name: rename it")
    packed = ", ".join(f"{identifier(name)} := {identifier(name)}" for name in types)
    return RawFile(
        name=path.name,
        relation=relation,
        rows=int(counted[0]) if counted else 0,
        names=tuple(types),
        types=types,
        expressions={name: identifier(name) for name in types},
        raw_row=f"cast(to_json(struct_pack({packed})) as varchar)",
        problem=None,
        is_named=True,
    )


def damaged(name: str) -> DeliveryError:
    """The error for a Parquet file that can't be read. What DuckDB says may hold values, so it is not passed on."""
    return DeliveryError(f"{name} can't be read as Parquet: it is truncated or damaged; export it and deliver it again")


def _format(name: str) -> str | None:
    name = name.lower()
    if name.endswith(PARQUET):
        return "parquet"
    name = name.removesuffix(COMPRESSED)
    if name.endswith(DELIMITED):
        return "delimited"
    if name.endswith(JSON_LINES):
        return "json lines"
    return None
