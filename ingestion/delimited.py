"""CSV and its kin.

A regular file is parsed by DuckDB, in sets, and believed only if an independent count of its records agrees. DuckDB 2.0
was seen to drop rows in silence (a quoted line break in the header, an unclosed quote), so everything else, ragged rows
and stray quotes included, goes through the slower reader of Python, which loses nothing and can say which
row is wrong.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import DeliveryError
from ingestion import staging
from ingestion.sql import literal
from ingestion.staging import Staged

if TYPE_CHECKING:
    import duckdb

DELIMITERS = (",", ";", "\t", "|")
LONGEST_CELL = 16 * 1024 * 1024
LONGEST_BROKEN_RECORD = 100  # lines; beyond that a quote is missing and no row can be told from another
CHUNK = 8 * 1024 * 1024

_AGAIN = "repeats the header"
_TOO_LONG = f"holds a cell of more than {LONGEST_CELL // 2**20} MB"
_TELLS_DELIMITER = re.compile(r'"?sep=(.)"?', re.IGNORECASE)


def stage(connection: duckdb.DuckDBPyConnection, path: Path, target: Path) -> Staged:
    """Write the cells of `path`, as text, to the Parquet file `target`, one row for each record.

    Empty lines are no records. A record with too many or too few cells, with broken quotes, or that says the header again
    (as concatenating files leaves it) becomes a row with a problem; empty cells too many, as delimiters at the end of a
    line make them, are none. A first line `sep=;`, as Excel writes it, tells the delimiter.

    Raises:
        DeliveryError: no header, not UTF-8 or UTF-16 text, or a quote that is never closed.
    """
    encoding = _encoding(path)
    with _lines(path, encoding) as lines:
        names, written, delimiter, header_lines = _header(path, lines)
    if encoding == "utf-8-sig" and header_lines == 1 and len(names) > 1:
        expected = count_records(path)
        if expected is not None and _stage_in_sets(connection, path, target, delimiter, written) == expected - 1:
            return Staged(names, expected - 1, has_problems=True, is_named=False)
    return _stage_exactly(path, target, encoding, names, written, delimiter)


def header(path: Path) -> tuple[str, ...]:
    """The names of the columns of a file.

    Raises:
        DeliveryError: no header, or no text.
    """
    with _lines(path, _encoding(path)) as lines:
        return _header(path, lines)[0]


def count_records(path: Path) -> int | None:
    """Line breaks outside of quotes, a last line without one included; None when a quote is never closed.

    That is the number of records of a regular file, header included.
    """
    records, inside, last = 0, False, b"\n"
    with staging.open_bytes(path) as file:
        while chunk := file.read(CHUNK):
            if b'"' not in chunk:
                records += 0 if inside else chunk.count(b"\n")
            else:
                import numpy as np

                data = np.frombuffer(chunk, dtype=np.uint8)
                quoted = np.logical_xor.accumulate(data == ord('"')) ^ inside
                records += int(np.count_nonzero((data == ord("\n")) & ~quoted))
                inside = bool(quoted[-1])
            last = chunk[-1:]
    if inside:
        return None
    return records + (last != b"\n")


def _stage_in_sets(
    connection: duckdb.DuckDBPyConnection, path: Path, target: Path, delimiter: str, written: Sequence[str]
) -> int | None:
    """Let DuckDB parse the file strictly; the number of rows, or None if it refuses."""
    import duckdb

    columns = ", ".join(f"'c{position}': 'VARCHAR'" for position in range(len(written)))
    # A mark within the file is where another file was appended.
    again = " and ".join(
        [f"ltrim(c0, chr(65279)) = {literal(written[0])}"]
        + [f"c{position} = {literal(name)}" for position, name in enumerate(written) if position]
    )
    try:
        counted = connection.execute(
            f"""
            copy (
                select *, case when {again} then {literal(_AGAIN)} end as problem, cast(null as varchar) as raw
                from read_csv(
                    {literal(path)}, auto_detect = false, header = false, skip = 1, delim = {literal(delimiter)},
                    quote = '"', escape = '"', columns = {{{columns}}}
                )
            ) to {literal(target)} (format parquet)
            """
        ).fetchone()
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error:
        return None
    return int(counted[0]) if counted else None


def _stage_exactly(
    path: Path, target: Path, encoding: str, names: tuple[str, ...], written: Sequence[str], delimiter: str
) -> Staged:
    said = [*written]
    try:
        with _lines(path, encoding) as lines, staging.writing(target, len(names)) as writer:
            records = _records(path, lines, delimiter)
            for cells, _ in records:
                if cells == said:
                    break
            for cells, text in records:
                if cells is None:
                    writer.add_problem(
                        _TOO_LONG if len(text) > LONGEST_CELL else "its quotes are broken",
                        json.dumps({"line": text}, ensure_ascii=False),
                    )
                    continue
                while len(cells) > len(names) and not cells[-1]:
                    cells.pop()
                if cells == said or [cells[0].removeprefix("\ufeff"), *cells[1:]] == said:
                    writer.add_problem(_AGAIN, json.dumps({"cells": cells}, ensure_ascii=False))
                elif len(cells) != len(names):
                    writer.add_problem(
                        f"has {len(cells)} cells where the header has {len(names)}",
                        json.dumps({"cells": cells}, ensure_ascii=False),
                    )
                else:
                    writer.add(cells)
    except UnicodeDecodeError:
        raise _not_text(path, encoding) from None
    return Staged(names, writer.rows, writer.problems > 0, is_named=False)


def _header(path: Path, lines: Iterable[str]) -> tuple[tuple[str, ...], list[str], str, int]:
    """Names of the columns, the header as written, the delimiter, and how many lines were read to find them."""
    seen, told = 0, None
    try:
        for line in lines:
            seen += 1
            if seen == 1 and (match := _TELLS_DELIMITER.fullmatch(line.strip(" \r\n"))):
                told = match[1]
            elif line.strip():
                unquoted = re.sub(r'"[^"]*"', "", line)
                delimiter = told or max(DELIMITERS, key=unquoted.count)
                break
        else:
            raise DeliveryError(f"{path.name} holds nothing but empty lines: deliver it again")
        # A header may go on over several lines inside quotes.
        rest = _Recorder(lines)
        cells, _ = next(_records(path, _chain(line, rest), delimiter))
    except UnicodeDecodeError:
        raise _not_text(path, _encoding(path)) from None
    if cells is None:
        raise DeliveryError(f"the quotes in the header of {path.name} are broken: export it and deliver it again")
    names = tuple(name.strip() or f"(column {position} has no name)" for position, name in enumerate(cells, 1))
    return names, cells, delimiter, seen + rest.lines_read


def _chain(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


class _Recorder:
    """Hands lines on and remembers those since the last `forget`, so that a broken record can be shown whole."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._recent: list[str] = []
        self.lines_read = 0

    def __iter__(self) -> _Recorder:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.lines_read += 1
        self._recent.append(line)
        return line

    def forget(self) -> None:
        self._recent.clear()

    @property
    def recent(self) -> list[str]:
        return self._recent


def _records(path: Path, lines: Iterable[str], delimiter: str) -> Iterator[tuple[list[str] | None, str]]:
    """Yield the cells of each record that is not empty; None and its text for one with broken quotes."""
    csv.field_size_limit(LONGEST_CELL)
    recorder = _Recorder(lines)
    reader = csv.reader(recorder, delimiter=delimiter, strict=True)
    while True:
        recorder.forget()
        begins = recorder.lines_read + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "end of data" in str(error) or len(recorder.recent) > LONGEST_BROKEN_RECORD:
                raise DeliveryError(
                    f"{path.name}: a quote opened on line {begins} or after is never closed: correct it and deliver the"
                    " file again"
                ) from None
            yield None, "".join(recorder.recent)
            continue
        if cells:
            yield cells, ""


def _encoding(path: Path) -> str:
    with staging.open_bytes(path) as file:
        start = file.read(2)
    return "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _lines(path: Path, encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(staging.open_bytes(path), encoding=encoding, newline="")


def _not_text(path: Path, encoding: str) -> DeliveryError:
    where = ""
    if encoding == "utf-8-sig":
        with staging.open_bytes(path) as file:
            for number, line in enumerate(file, 1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    where = f" on line {number}"
                    break
    return DeliveryError(f"{path.name} is not UTF-8 text{where}: export it as CSV in UTF-8 and deliver it again")
