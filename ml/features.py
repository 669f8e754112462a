"""Reading `features.feat_customers` and `features.outcomes`: the same SQL for training and scoring.

Only customers who may be profiled today (`marts.customer_permissions`) are read, whatever the instant: who has not
agreed, or has objected since, is in no training set and has no score.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pandas as pd

ROWS_MAX = 400_000
"""Rows that a model learns from at most. Beyond, a fixed share of customers is drawn by their id, which is a hash."""


def current_as_of(connection: duckdb.DuckDBPyConnection) -> tuple[datetime, date]:
    """The as_of of the refresh in progress, a naive UTC instant, and its local date.

    Raises:
        ValueError: features were not built yet.
    """
    rows = connection.execute("select as_of, as_of_on from marts.dim_as_ofs where is_current").fetchall()
    if not rows:
        raise ValueError("marts.dim_as_ofs has no current as_of: build the features first")
    return rows[0]


def nobody_to_profile(connection: duckdb.DuckDBPyConnection) -> str | None:
    """Why there is nobody to learn from or to score, in words; None if there is somebody."""
    rows = connection.execute(
        "select count(*), count(*) filter (may_be_profiled) from marts.customer_permissions"
    ).fetchall()
    customers, permitted = rows[0]
    if permitted or not customers:
        return None
    return (
        f"none of {customers:,} customers may be profiled: no consent to the purpose profiling stands on record"
        " (crm.consents), and the seed consent_policies.csv asks for one"
    )


def read(
    connection: duckdb.DuckDBPyConnection,
    columns: Sequence[str],
    where: str,
    parameters: Sequence[object] = (),
    *,
    rows_max: int | None = None,
) -> pd.DataFrame:
    """Rows of feat_customers of who may be profiled, `outcomes` of 180 days beside, in order of as_of and customer.

    Args:
        columns: features, returned as floats (null as NaN).
        where: SQL condition; `feat` is feat_customers, `outcome` outcomes.
        rows_max: draw customers, whole, so that about so many rows remain.

    Returns:
        customer_id, as_of, as_of_on, churned (None where the horizon has not passed), and `columns`.
    """
    source = (
        "features.feat_customers as feat inner join marts.customer_permissions as permission on"
        " permission.customer_id = feat.customer_id and permission.may_be_profiled left join features.outcomes as outcome on outcome.customer_id ="
        " feat.customer_id and outcome.as_of = feat.as_of and outcome.horizon_days = 180"
    )
    if rows_max is not None:
        rows = connection.execute(f"select count(*) from {source} where {where}", list(parameters)).fetchall()[0][0]
        if rows > rows_max:
            # customer_id is 16 hex digits of a hash: those below a threshold are a fair draw, the same each time.
            where = f"({where}) and feat.customer_id < '{int(rows_max / rows * 16**8):08x}'"
    selected = "".join(f", cast(feat.{column} as double) as {column}" for column in columns)
    return connection.execute(
        f"select feat.customer_id, feat.as_of, feat.as_of_on, not outcome.bought as churned{selected}"
        f" from {source} where {where} order by feat.as_of, feat.customer_id",
        list(parameters),
    ).df()


def informative(frame: pd.DataFrame, columns: Sequence[str]) -> tuple[str, ...]:
    """Those of `columns` that differ between rows: a source that is absent leaves its features constant."""
    return tuple(column for column in columns if frame[column].nunique(dropna=False) > 1)


def signed_log(values: np.ndarray) -> np.ndarray:
    """sign(x) * log(1 + |x|): tames money and counts, whose largest values would decide every distance."""
    import numpy as np

    array = np.asarray(values, dtype=float)
    tamed: np.ndarray = np.sign(array) * np.log1p(np.abs(array))
    return tamed
