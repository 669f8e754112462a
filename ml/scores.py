"""What models say, as it comes back to SQL: one Parquet file per table, model and as_of under the home's state.

A file is never changed, but written anew where its model scores that as_of again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from core.files import replacing
from core.home import Home
from ml.registry import STAMP, Version

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

REASONS = 3

TABLES: Mapping[str, Mapping[str, str]] = {
    "scores": {
        "customer_id": "string",
        "score": "double",
        "low": "double",
        "high": "double",
        "label": "string",
        **{f"reason_{number}": "string" for number in range(1, REASONS + 1)},
    },
    "lifetime_values": {
        "customer_id": "string",
        "horizon_days": "int32",
        "expected_orders": "double",
        "expected_spend": "double",
        "clv": "double",
        "clv_low": "double",
        "clv_high": "double",
        "probability_alive": "double",
        "method": "string",
    },
    "recommendations": {
        "customer_id": "string",
        "rank": "int32",
        "product_id": "string",
        "score": "double",
        "source": "string",
        "because_product_id": "string",
    },
    "similar_products": {
        "product_id": "string",
        "rank": "int32",
        "similar_product_id": "string",
        "similarity": "double",
    },
    "category_affinities": {
        "customer_id": "string",
        "rank": "int32",
        "category": "string",
        "affinity": "double",
    },
}
"""Columns by table, after model, model_version and as_of, with the names of their Arrow types. dbt reads them by name."""

NEWEST_ONLY = frozenset({"recommendations", "similar_products", "category_affinities"})
"""Of these the files of earlier as_ofs go once a newer one is written: twenty rows a customer, which nobody asks back."""


def scores_of(
    customers: Sequence[str],
    scores: npt.NDArray[np.float64],
    *,
    intervals: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None = None,
    labels: Sequence[str | None] | None = None,
    reasons: Sequence[Sequence[str | None]] = (),
) -> pa.Table:
    """Rows of `scores`, in order of customer.

    Args:
        customers: customer ids, n of them.
        scores: n numbers, rounded so that another machine's last bit makes no other bytes.
        intervals: n lower and n upper bounds, where the model gives them.
        labels: a name for each score, such as its cluster's.
        reasons: up to three columns of n words, what moved the score most first.
    """
    import pyarrow as pa

    rows = len(customers)
    low, high = intervals if intervals is not None else (None, None)
    columns = {
        "customer_id": list(customers),
        "score": scores,
        "low": low,
        "high": high,
        "label": labels,
        **{f"reason_{number + 1}": list(said) for number, said in enumerate(reasons[:REASONS])},
    }
    schema = schema_of("scores")
    arrays = [
        pa.nulls(rows, wanted.type) if columns.get(wanted.name) is None else pa.array(columns[wanted.name], wanted.type)
        for wanted in schema
    ]
    return pa.table(arrays, schema=schema).sort_by("customer_id")


def state_path(home: Home, table: str, model: str, as_of: datetime) -> Path:
    """Where what a model said at `as_of` is."""
    return home.state / table / f"{model}__{as_of:{STAMP}}.parquet"


def write_tables(home: Home, version: Version, as_of: datetime, tables: Mapping[str, pa.Table]) -> list[Path]:
    """Write what `Model.score` returned, each row with its model and version: equal rows are equal bytes.

    Raises:
        ValueError: a table is none of `TABLES`, or has other columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = []
    for table, rows in tables.items():
        stamped = rows.cast(schema_of(table)) if rows.schema.names == schema_of(table).names else None
        if stamped is None:
            raise ValueError(f"{table} has columns {rows.schema.names}, not {schema_of(table).names}")
        for name, value, kind in (
            ("as_of", as_of, pa.timestamp("us")),
            ("model_version", version.label, pa.string()),
            ("model", version.model, pa.string()),
        ):
            column = pa.repeat(pa.scalar(value, kind), stamped.num_rows)
            stamped = stamped.add_column(0, pa.field(name, kind), column)
        path = state_path(home, table, version.model, as_of)
        with replacing(path) as beside:
            pq.write_table(stamped, beside, compression="zstd")
        if table in NEWEST_ONLY:
            for older in path.parent.glob(f"{version.model}__*.parquet"):
                if older.name < path.name:
                    older.unlink()
        paths.append(path)
    return paths


def can_read_back(connection: duckdb.DuckDBPyConnection, table: str = "scores") -> bool:
    """Whether one of `TABLES`, as an earlier refresh wrote it, can be read: dbt makes its view after the first writing."""
    rows = connection.execute(
        "select count(*) from information_schema.tables where table_schema = 'staging' and table_name = ?",
        [f"stg_ml__{table}"],
    ).fetchall()
    return bool(rows[0][0])


def newest_scores(home: Home, model: str, until: datetime | None = None) -> datetime | None:
    """The as_of of the newest scores that a model has, at or before `until` where it is given."""
    stamps = [path.stem.rpartition("__")[2] for path in home.state.glob(f"*/{model}__*.parquet")]
    instants = [datetime.strptime(stamp, STAMP) for stamp in stamps]
    return max((instant for instant in instants if until is None or instant <= until), default=None)


def schema_of(table: str) -> pa.Schema:
    """Columns of one of `TABLES`, as `Model.score` returns it."""
    import pyarrow as pa

    if table not in TABLES:
        raise ValueError(f"{table} is no table of models: {', '.join(TABLES)}")
    return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in TABLES[table].items()])
