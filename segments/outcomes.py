"""What former members of a segment did next: the base rate that an effect is judged against.

Those who are in a segment today have no next 90 days yet. So the segment is asked of the past: its SQL over the
customers as they were at the newest as_of whose horizon has passed (`marts.customer_history`), joined with what followed
(`features.outcomes`). Where the past does not hold what a segment asks for, everyone's rate stands in, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from segments.definitions import Segment, SegmentError
from segments.models import Models
from segments.rendering import render

if TYPE_CHECKING:
    import duckdb

_HISTORY = "customer_history"
_CURRENT = "customer_360"


@dataclass(frozen=True)
class Outcome:
    """What customers did in the days after an earlier instant.

    Attributes:
        metric: what was counted, such as `bought_90`.
        of: whose it is: the segment's former members', or everyone's.
        as_of: the instant (UTC, ISO 8601).
        customers: how many they were.
        mean: share of them for a rate, mean per customer for revenue; rounded to 6 places.
        variation: standard deviation divided by mean; None where the mean is zero.
    """

    metric: str
    of: Literal["segment", "everyone"]
    as_of: str
    customers: int
    mean: float
    variation: float | None


def former_outcomes(
    connection: duckdb.DuckDBPyConnection, segments: Iterable[Segment], models: Models, *, timezone: str = "UTC"
) -> dict[str, Outcome]:
    """What former members did next, by segment; without those that state no KPI and where no horizon has passed yet.

    Args:
        connection: the warehouse; nothing is written to it.
        segments: segments that compile.
        models: what they may read.
        timezone: business timezone.
    """
    found: dict[str, Outcome] = {}
    everyone: dict[str, Outcome | None] = {}
    columns = _columns(connection)
    for segment in segments:
        if segment.kpi_metric is None:
            continue
        if segment.kpi_metric not in everyone:
            everyone[segment.kpi_metric] = _everyone(connection, segment.kpi_metric, columns)
        all_of_them = everyone[segment.kpi_metric]
        if all_of_them is not None:
            found[segment.name] = _former(connection, segment, models, timezone, all_of_them) or all_of_them
    return found


def _columns(connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    rows = connection.execute(
        "select column_name from information_schema.columns where table_schema = 'features' and table_name = 'outcomes'"
    ).fetchall()
    return frozenset(str(name) for (name,) in rows)


def _everyone(connection: duckdb.DuckDBPyConnection, metric: str, columns: frozenset[str]) -> Outcome | None:
    column, horizon = metric.rsplit("_", 1)
    if column not in columns:
        return None
    newest = connection.execute(
        "select strftime(max(as_of), '%Y-%m-%d %H:%M:%S') from features.outcomes where horizon_days = ?", [int(horizon)]
    ).fetchone()
    if newest is None or newest[0] is None:
        return None
    as_of = str(newest[0])
    counted = _counted(connection, metric, as_of, "select customer_id from features.outcomes")
    return None if counted is None else Outcome(metric, "everyone", as_of, *counted)


def _former(
    connection: duckdb.DuckDBPyConnection, segment: Segment, models: Models, timezone: str, everyone: Outcome
) -> Outcome | None:
    """The segment's own, or None where its SQL can't be asked of the past or had no members then."""
    import duckdb

    def then(name: str) -> str:
        if name != _CURRENT:
            raise LookupError(f"{name} is not kept for the past")
        return f"(select * from {models.relation(_HISTORY)} where as_of = timestamp '{everyone.as_of}')"

    try:
        sql = render(segment, relation=then, timezone=timezone)
        counted = _counted(connection, everyone.metric, everyone.as_of, sql)
    except (SegmentError, duckdb.BinderException, duckdb.CatalogException):
        return None
    return None if counted is None else Outcome(everyone.metric, "segment", everyone.as_of, *counted)


def _counted(
    connection: duckdb.DuckDBPyConnection, metric: str, as_of: str, members: str
) -> tuple[int, float, float | None] | None:
    """Customers, mean and variation of a metric over members at an instant; None if there are none."""
    column, horizon = metric.rsplit("_", 1)
    row = connection.execute(
        f"""
        with members as (
        {members}
        )

        select
            count(*),
            round(avg(cast({column} as double)), 6),
            round(stddev_pop(cast({column} as double)), 6)
        from features.outcomes
        where
            horizon_days = {int(horizon)}
            and as_of = timestamp '{as_of}'
            and customer_id in (select customer_id from members)
        """
    ).fetchone()
    if row is None or not row[0]:
        return None
    customers, mean, deviation = row
    return customers, float(mean), round(float(deviation) / float(mean), 4) if mean else None
