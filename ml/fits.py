"""Fits: constants learned from data, frozen on purpose and never per run.

dbt computes what a fit made now would hold (`features.feat_fit_candidates`); here it is written down, once per version,
as `state/fits/fit_<version>.parquet`. What is written is never changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import MailwrightError
from core.files import replacing
from core.home import Home

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Fit:
    """A frozen fit.

    Attributes:
        version: counts from 1.
        fit_as_of: naive UTC instant whose knowledge it was learned from.
        constants: how many values it holds.
    """

    version: int
    fit_as_of: datetime
    constants: int
    path: Path


def kept(home: Home) -> list[Fit]:
    """The fits of a home, by version."""
    import pyarrow.parquet as pq

    found = []
    for path in sorted(_folder(home).glob("fit_*.parquet")):
        rows = pq.read_table(path, columns=["fit_version", "fit_as_of"]).to_pylist()
        found.append(Fit(rows[0]["fit_version"], rows[0]["fit_as_of"], len(rows), path))
    return found


def ensure(connection: duckdb.DuckDBPyConnection, home: Home) -> Fit | None:
    """Make the first fit of a home that has none.

    A home that has fits, if only later ones than as_of, gets no further one: dbt fits at as_of without keeping it.

    Returns:
        The fit made, or None if there is one already or nothing to learn from yet.
    """
    if kept(home):
        return None
    candidates = _candidates(connection)
    return None if candidates is None else _freeze(connection, home, 1, candidates)


def refit(connection: duckdb.DuckDBPyConnection, home: Home) -> Fit:
    """Freeze the candidates at the current as_of as the next version.

    Raises:
        MailwrightError: a fit was made at this as_of already, or there are no orders to learn from.
    """
    fits = kept(home)
    fit_as_of = _candidates(connection)
    if fit_as_of is None:
        raise MailwrightError("there is nothing to fit: no customer has an order before as_of. Load orders and refresh")
    if same := [fit for fit in fits if fit.fit_as_of == fit_as_of]:
        raise MailwrightError(
            f"fit {same[0].version} was made as of {fit_as_of:%Y-%m-%d %H:%M} UTC already, and fits are never changed:"
            " refresh at another as_of first"
        )
    return _freeze(connection, home, max((fit.version for fit in fits), default=0) + 1, fit_as_of)


def _candidates(connection: duckdb.DuckDBPyConnection) -> datetime | None:
    """The as_of of the candidates, or None if there are none or they are incomplete."""
    # The repurchase gap has a default; a fit without cut points is no fit.
    rows = connection.execute(
        "select as_of from marts.dim_as_ofs where is_current and as_of in"
        " (select fit_as_of from features.feat_fit_candidates where metric <> 'repurchase_gap_days')"
    ).fetchall()
    return rows[0][0] if rows else None


def _freeze(connection: duckdb.DuckDBPyConnection, home: Home, version: int, fit_as_of: datetime) -> Fit:
    import pyarrow.parquet as pq

    rows = connection.sql(
        f"select cast({version} as bigint) as fit_version, cast(fit_as_of as timestamp) as fit_as_of, metric, account_type,"
        " cast(k as integer) as k, cast(value as decimal(18,4)) as value from features.feat_fit_candidates"
        " where fit_as_of = $fit_as_of order by metric, account_type, k",
        params={"fit_as_of": fit_as_of},
    ).to_arrow_table()
    path = _folder(home) / f"fit_{version:06d}.parquet"
    with replacing(path) as beside:
        pq.write_table(rows, beside)
    return Fit(version, fit_as_of, rows.num_rows, path)


def _folder(home: Home) -> Path:
    return home.state / "fits"
