"""Refusals as last worked out, kept beside the lake: at a million customers they take ten seconds, and a job asks every five minutes.

What is kept is found by everything that it was worked out from, so another delivery, release or version of the rules asks
anew. The files hold addresses: they are readable by their owner only, and few are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from core.files import replacing
from core.home import Home

if TYPE_CHECKING:
    import duckdb

KEPT = 4

Row = tuple[str, str, datetime | None]
"""Address, kind, when it became known."""


def key_of(parts: Sequence[object]) -> str:
    """What a result is found by, of all that it was worked out from."""
    return hashlib.sha256("\n".join(map(repr, parts)).encode()).hexdigest()[:32]


def cached(home: Home, connection: duckdb.DuckDBPyConnection, key: str, work_out: Callable[[], list[Row]]) -> list[Row]:
    """The rows that are kept under a key, or else those that `work_out` gives, which are kept from then on.

    Args:
        connection: one in memory.
    """
    import duckdb

    path = home.refusals / f"{key}.parquet"
    if path.exists():
        try:
            rows: list[Row] = connection.execute("from read_parquet($path)", {"path": str(path)}).fetchall()
            return rows
        except duckdb.Error:
            path.unlink(missing_ok=True)  # cut short by a full disk or a crash
    found = work_out()
    _keep(home, key, found)
    return found


def forget(home: Home) -> None:
    """Remove all that is kept."""
    for path in home.refusals.glob("*.parquet"):
        path.unlink(missing_ok=True)


def _keep(home: Home, key: str, rows: list[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    emails, kinds, known = zip(*rows, strict=True) if rows else ((), (), ())
    table = pa.table({
        "email": pa.array(emails, pa.string()),
        "kind": pa.array(kinds, pa.string()),
        "known_at": pa.array(known, pa.timestamp("us")),
    })  # fmt: skip
    home.refusals.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing(home.refusals / f"{key}.parquet") as beside:
        beside.touch(mode=0o600)
        pq.write_table(table, beside)
        beside.chmod(0o600)
    newest_first = sorted(home.refusals.glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in newest_first[KEPT:]:
        path.unlink(missing_ok=True)
