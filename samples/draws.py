"""Seeded randomness in sets: blocks of customers, each made by one single-threaded connection.

Every draw is a hash of what it is for (`draw(key, 'purpose')`) or comes from a generator seeded by block. A block never
shares state with another, and runs on one thread, so files are the same to the byte however many blocks run at once.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from core.contract import load_contract
from core.errors import ContractError
from core.files import replacing
from core.settings import Settings

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

R = TypeVar("R")

Progress = Callable[[str], None]


def no_progress(_: str) -> None:
    """For callers that don't listen."""


@dataclass
class Block:
    """One part of a sample's customers.

    Attributes:
        number: from 0.
        connection: in-memory DuckDB on one thread, with the macros of `connect`.
        rng: generator of this block's own.
        folder: where raw files go, as `<source>/<table>/simulated_<number>.parquet`.
        truth: where the blocks' parts of ground truth go, as `<name>/<number>.parquet`; see `join_truth`.
        written: raw files so far, by (source, table).
    """

    number: int
    connection: duckdb.DuckDBPyConnection
    rng: np.random.Generator
    folder: Path
    truth: Path
    written: dict[tuple[str, str], list[Path]] = field(default_factory=dict)

    def load(self, name: str, table: pa.Table) -> None:
        """Make a table of this block from Arrow."""
        self.connection.register("incoming", table)
        self.connection.execute(f"create or replace table {name} as select * from incoming")
        self.connection.unregister("incoming")

    def count(self, table: str) -> int:
        """Rows of a table of this block."""
        return int(self.connection.execute(f"select count(*) from {table}").fetchall()[0][0])

    def write(self, source: str, table: str, query: str, name: str = "simulated") -> None:
        """Write the result of `query` as a raw file of a table of the contract. See `write_raw`."""
        path = self.folder / source / table / f"{name}_{self.number:04d}.parquet"
        write_raw(self.connection, source, table, query, path)
        self.written.setdefault((source, table), []).append(path)

    def write_truth(self, name: str, query: str) -> None:
        """Write ground truth, which nothing in the pipeline reads."""
        path = self.truth / name / f"{self.number:04d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.connection.execute(f"copy ({query}) to '{_quoted(path)}' (format parquet, compression zstd)")


def write_raw(connection: duckdb.DuckDBPyConnection, source: str, table: str, query: str, path: Path) -> None:
    """Write the result of `query` to `path` as a raw file of `source.table`, in the contract's order and types.

    Raises:
        ContractError: the query has a column that the contract has not, or lacks a required one.
    """
    contract = load_contract().table(source, table)
    given = {row[0] for row in connection.execute(f"describe {query}").fetchall()}
    if unknown := given - set(contract.column_names):
        raise ContractError(f"sample file {path.name}: {contract.full_name} has no column {', '.join(sorted(unknown))}")
    if missing := {column.name for column in contract.columns if column.required} - given:
        raise ContractError(f"sample file {path.name}: {contract.full_name} needs {', '.join(sorted(missing))}")
    columns = ", ".join(f"cast({c.name} as {c.data_type}) as {c.name}" for c in contract.columns if c.name in given)
    path.parent.mkdir(parents=True, exist_ok=True)
    connection.execute(
        f"copy (select {columns} from ({query}) as made) to '{_quoted(path)}' (format parquet, compression zstd)"
    )


@contextmanager
def connect(settings: Settings, seed: int, *, threads: int, share: int = 1) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory DuckDB with the macros that samples are made with.

    `draw(key, purpose)` is uniform in [0, 1), independent between purposes and between keys (integers). `below(key,
    purpose, n)` is an integer in [0, n). `swapped(text, place)` and `dropped(text, place)` are typing slips.

    Args:
        threads: 1 wherever the order of rows matters.
        share: how many such connections are open at once; each gets its part of the memory limit.
    """
    import duckdb

    connection = duckdb.connect()
    try:
        connection.execute(f"set memory_limit = '{settings.memory_limit}'")
        if share > 1:
            limit = connection.execute("select current_setting('memory_limit')").fetchall()
            number, unit = str(limit[0][0]).split()
            connection.execute(f"set memory_limit = '{float(number) / share:.2f} {unit}'")
        connection.execute(f"set threads = {threads}")
        connection.execute("set timezone = 'UTC'")
        connection.execute("set enable_progress_bar = false")
        # The purpose is hashed on its own and mixed in before the key is hashed: hashing (key, purpose) together
        # would only xor constants into one and the same number, and draws for two purposes would be dependent.
        connection.execute(
            f"""
            create macro draw(key, purpose) as
                (hash(xor((key)::ubigint, hash(purpose || '#{int(seed)}'))) >> 11)::double / 9007199254740992;
            create macro below(key, purpose, n) as floor(draw(key, purpose) * (n))::bigint;
            create macro swapped(said, place) as
                substr(said, 1, place - 1) || substr(said, place + 1, 1) || substr(said, place, 1) || substr(said, place + 2);
            create macro dropped(said, place) as substr(said, 1, place - 1) || substr(said, place + 1);
            """
        )
        yield connection
    finally:
        connection.close()


def run_blocks(
    settings: Settings,
    seed: int,
    count: int,
    folder: Path,
    truth: Path,
    make: Callable[[Block], R],
    progress: Progress,
    label: str,
) -> tuple[list[R], dict[str, dict[str, list[Path]]]]:
    """Make `count` blocks, as many at once as there are threads.

    Returns:
        What `make` returned for each block, and the files written, by source and table, both in the order of blocks.
    """
    workers = max(1, min(settings.threads, count))
    shutil.rmtree(truth, ignore_errors=True)  # parts of a run that was killed would be joined with this one's

    def one(number: int) -> tuple[R, dict[tuple[str, str], list[Path]]]:
        with connect(settings, seed, threads=1, share=workers) as connection:
            block = Block(number, connection, np.random.default_rng([seed, number]), folder, truth)
            return make(block), block.written

    results: list[R] = []
    files: dict[str, dict[str, list[Path]]] = {}
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for done, (result, written) in enumerate(pool.map(one, range(count)), start=1):
            results.append(result)
            for (source, table), paths in written.items():
                files.setdefault(source, {}).setdefault(table, []).extend(paths)
            progress(f"{label}: block {done} of {count}")
    return results, files


def arrow(columns: Mapping[str, np.ndarray | Sequence[object]]) -> pa.Table:
    """An Arrow table of equally long columns."""
    import pyarrow as pa

    return pa.table({name: pa.array(values) for name, values in columns.items()})


def join_truth(settings: Settings, parts: Path, truth: Path) -> list[Path]:
    """Join the blocks' parts of ground truth into one file each, `<truth>/<name>.parquet`, and delete the parts."""
    joined = []
    truth.mkdir(parents=True, exist_ok=True)
    with connect(settings, 0, threads=1) as connection:
        for folder in sorted(path for path in parts.iterdir() if path.is_dir()):
            files = [str(path) for path in sorted(folder.glob("*.parquet"))]
            with replacing(truth / f"{folder.name}.parquet") as beside:
                connection.execute(
                    f"copy (from read_parquet({files!r})) to '{_quoted(beside)}' (format parquet, compression zstd)"
                )
            joined.append(truth / f"{folder.name}.parquet")
    shutil.rmtree(parts)
    return joined


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
