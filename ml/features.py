"""Reading `features.feat_customers` and `features.outcomes`: the same SQL for training and scoring.

Only customers who may be profiled today (`marts.customer_permissions`) are read, whatever the instant: who has not
agreed, or has objected since, is in no training set and has no score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from core.settings import PROJECT_ROOT
from ml.model import Refused

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pandas as pd

FEATURES_YAML = PROJECT_ROOT / "dbt_project" / "models" / "features" / "feat_customers.yml"
ROWS_MAX = 400_000
"""Rows that a model learns from at most. Beyond, a fixed share of customers is drawn by their id, which is a hash."""

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "DECIMAL", "FLOAT", "DOUBLE", "BOOLEAN")


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
    plain: Sequence[str] = (),
    rows_max: int | None = None,
    everybody: bool = False,
) -> pd.DataFrame:
    """Rows of feat_customers of who may be profiled, in order of as_of and customer.

    Args:
        columns: features, returned as floats (null as NaN).
        where: SQL condition; `feat` is feat_customers.
        plain: further columns, returned as they are, such as traits that results are told apart by.
        rows_max: draw customers, whole, so that about so many rows remain.
        everybody: also of who may not be profiled: for figures, never for scores.

    Returns:
        customer_id, as_of, as_of_on, `plain` and `columns`.

    Raises:
        Refused: a column is missing, or a feature is no number.
    """
    return _read(connection, columns, "", where, parameters, plain, rows_max, everybody, "")


def read_known(
    connection: duckdb.DuckDBPyConnection,
    columns: Sequence[str],
    horizon_days: int,
    target: str,
    where: str,
    parameters: Sequence[object] = (),
    *,
    plain: Sequence[str] = (),
    rows_max: int | None = None,
    everybody: bool = False,
) -> pd.DataFrame:
    """Rows as `read` gives them, of instants whose horizon has passed, with what the customer did within it.

    Args:
        horizon_days: of `features.outcomes`.
        target: SQL of what is asked for; `outcome` is the row of outcomes. It may be used in `where` too.

    Returns:
        As `read`, and `outcome`, the target.

    Raises:
        Refused: as `read`.
    """
    joined = (
        " inner join features.outcomes as outcome on outcome.customer_id = feat.customer_id"
        f" and outcome.as_of = feat.as_of and outcome.horizon_days = {horizon_days:d}"
    )
    return _read(connection, columns, joined, where, parameters, plain, rows_max, everybody, f", {target} as outcome")


def as_of_date(connection: duckdb.DuckDBPyConnection, as_of: datetime) -> date:
    """The local date of an instant of the spine.

    Raises:
        ValueError: the features hold no such instant.
    """
    rows = connection.execute("select as_of_on from marts.dim_as_ofs where as_of = ?", [as_of]).fetchall()
    if not rows:
        raise ValueError(f"marts.dim_as_ofs has no as_of {as_of}: build the features first")
    found: date = rows[0][0]
    return found


@cache
def sensitivities(path: Path = FEATURES_YAML) -> Mapping[str, str]:
    """`meta.sensitivity` of the columns of feat_customers that state one: none, proxy or special."""
    import yaml

    models = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))["models"]
    columns = next(model["columns"] for model in models if model["name"] == "feat_customers")
    said = {column["name"]: column.get("config", {}).get("meta", {}).get("sensitivity") for column in columns}
    return {name: sensitivity for name, sensitivity in said.items() if sensitivity is not None}


def informative(frame: pd.DataFrame, columns: Sequence[str]) -> tuple[str, ...]:
    """Those of `columns` that differ between rows: a source that is absent leaves its features constant."""
    return tuple(column for column in columns if frame[column].nunique(dropna=False) > 1)


def signed_log(values: np.ndarray) -> np.ndarray:
    """sign(x) * log(1 + |x|): tames money and counts, whose largest values would decide every distance."""
    import numpy as np

    array = np.asarray(values, dtype=float)
    tamed: np.ndarray = np.sign(array) * np.log1p(np.abs(array))
    return tamed


def _read(
    connection: duckdb.DuckDBPyConnection,
    columns: Sequence[str],
    joined: str,
    where: str,
    parameters: Sequence[object],
    plain: Sequence[str],
    rows_max: int | None,
    everybody: bool,
    target: str,
) -> pd.DataFrame:
    _check_columns(connection, columns, plain)
    permitted = "" if everybody else " and permission.may_be_profiled"
    source = (
        "features.feat_customers as feat inner join marts.customer_permissions as permission on"
        f" permission.customer_id = feat.customer_id{permitted}{joined}"
    )
    if rows_max is not None:
        rows = connection.execute(f"select count(*) from {source} where {where}", list(parameters)).fetchall()[0][0]
        if rows > rows_max:
            # customer_id is 16 hex digits of a hash: those below a threshold are a fair draw, the same each time.
            where = f"({where}) and feat.customer_id < '{int(rows_max / rows * 16**8):08x}'"
    selected = "".join(
        [f", feat.{column}" for column in plain]
        + [f", cast(feat.{column} as double) as {column}" for column in columns]
    )
    return connection.execute(
        f"select feat.customer_id, feat.as_of, feat.as_of_on{target}{selected}"
        f" from {source} where {where} order by feat.as_of, feat.customer_id",
        list(parameters),
    ).df()


def _check_columns(connection: duckdb.DuckDBPyConnection, columns: Sequence[str], plain: Sequence[str]) -> None:
    """Raise Refused unless all columns are there and the features among them are numbers."""
    types = dict(
        connection.execute(
            "select column_name, data_type from information_schema.columns"
            " where table_schema = 'features' and table_name = 'feat_customers'"
        ).fetchall()
    )
    if missing := [column for column in (*columns, *plain) if column not in types]:
        raise Refused(
            f"feat_customers has no {', '.join(missing)}: build it again, or train a model that reads other features"
        )
    for column in columns:
        if not str(types[column]).startswith(_NUMBERS):
            raise Refused(f"feature {column} is of type {types[column]}, not a number")
