"""JSON lines: one JSON object on each line. Nested values become JSON text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import DeliveryError
from ingestion import staging
from ingestion.sql import literal
from ingestion.staging import Staged

if TYPE_CHECKING:
    import duckdb

LONGEST_LINE = 16 * 1024 * 1024


def stage(connection: duckdb.DuckDBPyConnection, path: Path, target: Path) -> Staged:
    """Write the values of `path`, as text, to the Parquet file `target`, one row for each line that is not empty.

    The columns are the keys of all objects. A line that holds no object, or one with a key twice, of which nobody can
    tell which value is meant, becomes a row with a problem.

    Raises:
        DeliveryError: not UTF-8 text, one big JSON array, or no object at all.
    """
    rows, first = _count_lines(path)
    if first.lstrip().startswith(b"["):
        raise DeliveryError(f"{path.name} is a JSON array: write one object on each line and deliver it again")
    lines = target.with_suffix(".lines.parquet")
    try:
        if _lines_in_sets(connection, path, lines) != rows:
            _lines_exactly(path, lines)
        names = _keys(connection, lines)
        if not names:
            raise DeliveryError(f"{path.name} holds no JSON object: write one on each line and deliver it again")
        paths = ", ".join(literal(f'$."{name}"') for name in names)
        cells = ", ".join(f"cells[{position}] as c{position - 1}" for position in range(1, len(names) + 1))
        problems = connection.execute(
            f"""
            copy (
                select
                    {cells},
                    case
                        when object is null then 'is no JSON object' when is_ambiguous then 'has a key twice'
                    end as problem,
                    line as raw
                from (
                    select
                        line, object, json_extract_string(object, [{paths}]) as cells,
                        len(json_keys(object)) > len(list_distinct(json_keys(object))) as is_ambiguous
                    from ({_objects(lines)})
                )
            ) to {literal(target)} (format parquet);
            select count(problem) from read_parquet({literal(target)})
            """
        ).fetchone()
    finally:
        lines.unlink(missing_ok=True)
    return Staged(names, rows, has_problems=problems != (0,), is_named=True)


def _objects(lines: Path) -> str:
    is_object = "json_valid(line) and json_type(case when json_valid(line) then line end) = 'OBJECT'"
    return (
        f"select line, case when {is_object} then cast(line as json) end as object from read_parquet({literal(lines)})"
    )


def _keys(connection: duckdb.DuckDBPyConnection, lines: Path) -> tuple[str, ...]:
    """Keys of all objects, in the order in which they first occur; not those that no JSON path can name."""
    found = connection.execute(
        f"""
        select key
        from (
            select unnest(json_keys(object)) as key, generate_subscripts(json_keys(object), 1) as place, row
            from (select object, row_number() over () as row from ({_objects(lines)}))
        )
        where key not in ('', '*') and not contains(key, '"') and not contains(key, chr(92))
        group by key
        order by min(row * 10000 + place)
        """
    ).fetchall()
    return tuple(key for (key,) in found)


def _count_lines(path: Path) -> tuple[int, bytes]:
    count, first = 0, b""
    with staging.open_bytes(path) as file:
        for line in file:
            if line.strip():
                first = first or line.removeprefix(b"\xef\xbb\xbf")
                count += 1
    return count, first


def _lines_in_sets(connection: duckdb.DuckDBPyConnection, path: Path, target: Path) -> int | None:
    """Let DuckDB read the lines; their number, or None if it refuses."""
    import duckdb

    try:
        # A control character can't stand in JSON unescaped, so as a delimiter it never splits a line.
        counted = connection.execute(
            f"""
            copy (
                select line
                from read_csv(
                    {literal(path)}, auto_detect = false, header = false, delim = chr(1), quote = '', escape = '',
                    columns = {{'line': 'VARCHAR'}}, max_line_size = {LONGEST_LINE}, buffer_size = {2 * LONGEST_LINE}
                )
                where trim(line) <> ''
            ) to {literal(target)} (format parquet)
            """
        ).fetchone()
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error:
        return None
    return int(counted[0]) if counted else None


def _lines_exactly(path: Path, target: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    schema = pa.schema([("line", pa.string())])
    with staging.open_bytes(path) as file, parquet.ParquetWriter(target, schema) as writer:
        batch: list[str] = []
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError:
                raise DeliveryError(f"{path.name} is not UTF-8 text on line {number}: deliver it in UTF-8") from None
            if line:
                batch.append(line)
            if len(batch) == staging.BATCH_ROWS:
                writer.write_table(pa.table({"line": batch}, schema=schema))
                batch = []
        writer.write_table(pa.table({"line": batch}, schema=schema))
