"""The staged form of a text file: a Parquet file of text cells `c0`, `c1`, ... with `problem` and `raw` beside them."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 50_000


@dataclass(frozen=True)
class Staged:
    """What was staged.

    Attributes:
        names: the columns' names in the file; the i-th is the cell `c<i>`.
        rows: rows in the file.
        has_problems: whether some rows have a `problem`.
        is_named: whether the names were certainly written as names.
    """

    names: tuple[str, ...]
    rows: int
    has_problems: bool
    is_named: bool


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, through gzip where its name says so."""
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.name.lower().endswith(".gz") else open(path, "rb")


class Writer:
    """Writes a staged file row by row, in batches."""

    def __init__(self, path: Path, cells: int) -> None:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        names = [*(f"c{position}" for position in range(cells)), "problem", "raw"]
        self._schema: pa.Schema = pa.schema([(name, pa.string()) for name in names])
        self._writer = parquet.ParquetWriter(path, self._schema)
        self._blank = (None,) * cells
        self._rows: list[Sequence[str | None]] = []
        self.rows = 0
        self.problems = 0

    def add(self, cells: Sequence[str | None]) -> None:
        """Add a good row."""
        self._append((*cells, None, None))

    def add_problem(self, problem: str, raw: str) -> None:
        """Add a row that can't be split into cells, with its text as JSON."""
        self.problems += 1
        self._append((*self._blank, problem, raw))

    def _append(self, row: Sequence[str | None]) -> None:
        self.rows += 1
        self._rows.append(row)
        if len(self._rows) == BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            arrays = [pa.array(column, pa.string()) for column in zip(*self._rows, strict=True)]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
            self._rows.clear()

    def close(self) -> None:
        self._flush()
        self._writer.close()


@contextmanager
def writing(path: Path, cells: int) -> Iterator[Writer]:
    """Write a staged file for the length of a block."""
    writer = Writer(path, cells)
    try:
        yield writer
    finally:
        writer.close()
