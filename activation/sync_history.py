"""What runs did, in the home's append-only history, where dbt reads it: never an input to a plan.

One file of each run, and one of what became of its rows: keys, actions and outcomes, no personal data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.files import replacing
from core.home import Home

if TYPE_CHECKING:
    import pyarrow as pa


def folder(home: Home) -> Path:
    """Where the history of syncs is."""
    return home.state / "syncs"


def run_file(home: Home, run_id: int) -> Path:
    """The file of one run."""
    return folder(home) / "runs" / f"{run_id:09}.parquet"


def rows_file(home: Home, run_id: int) -> Path:
    """The file of what became of one run's rows; there is none where it had none."""
    return folder(home) / "rows" / f"{run_id:09}.parquet"


def write(home: Home, run: Mapping[str, Any], rows: Iterable[Sequence[Sequence[Any]]]) -> None:
    """Write a run that ended, its rows first, so that a run which is there is there whole.

    Args:
        run: its row of the ledger, with the target.
        rows: in batches: key, action, tag, outcome, code, microseconds of the epoch.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    run_id = int(run["run_id"])
    batches = iter(rows)
    first = next(batches, None)
    if first is not None:
        with replacing(rows_file(home, run_id)) as beside:
            schema = _rows_schema()
            written = 0
            with pq.ParquetWriter(beside, schema, compression="zstd") as file:
                for batch in chain([first], batches):
                    file.write_batch(_batch(run_id, written, batch, schema))
                    written += len(batch)
    moment = pa.timestamp("us")
    schema = pa.schema({
        "run_id": pa.int64(), "target": pa.string(), "kind": pa.string(), "plan_hash": pa.string(),
        "release": pa.int64(), "overrides": pa.string(), "started_at": moment, "ended_at": moment,
        "outcome": pa.string(), "counts": pa.string(),
    })  # fmt: skip
    with replacing(run_file(home, run_id)) as beside:
        pq.write_table(pa.Table.from_pylist([{name: run[name] for name in schema.names}], schema), beside)


def _rows_schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema({
        "run_id": pa.int64(), "row_number": pa.int64(), "key": pa.string(), "action": pa.string(),
        "tag": pa.string(), "outcome": pa.string(), "code": pa.string(), "noted_at": pa.timestamp("us"),
    })  # fmt: skip


def _batch(run_id: int, before: int, rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    keys, actions, tags, outcomes, codes, moments = zip(*rows, strict=True)
    numbers = range(before + 1, before + len(rows) + 1)
    columns = ([run_id] * len(rows), numbers, [bytes(key).hex() for key in keys], actions, tags, outcomes, codes)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=False)]
    return pa.record_batch([*arrays, pa.array(moments, pa.timestamp("us"))], schema)
