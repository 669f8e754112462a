"""What only the history of deliveries can tell of a lake table: freshness, usual volume, drift of columns and values.

Figures in a schema `history`, which rules look at (`rules.delivery_rules`). What was delivered as history has neither
a rhythm nor a usual size, so it is left out of the first two; it is what later deliveries are compared with in the third.
A delivery received at or after the as_of is not known yet, and is left out everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.contract import Column, Table

if TYPE_CHECKING:
    import duckdb

MIN_ROWS = 100
"""Rows on either side below which a distribution says nothing."""
MAX_VALUES = 50
"""Different values up to which a text column is one of categories."""

# Texts that name or describe one thing each. Their values are not categories, however few there are.
_NO_CATEGORY = ("_id", "_ref", "url", "description", "properties", "attributes", "preferences", "referrer", "evidence")


def create(connection: duckdb.DuckDBPyConnection, tables: Sequence[Table]) -> None:
    """Create the tables of figures from `lake.deliveries`, `lake.clock` and the lake.

    - volumes: the newest live delivery of each table: rows_read, rows_taken (accepted, superseded later or not),
      rows_rejected, and of the live ones before it their number (predecessors) and median (usual_rows);
    - freshness: age_days of the newest live delivery, row_age_days of the newest row in a live one, usual_days between
      live deliveries, allowed_days;
    - changes: what the loader warned of in the columns of the newest delivery (delivery_id, column_name, kind);
    - drift: for each column that can be compared, the population stability index between the newest delivery and all
      earlier ones, less what chance alone gives (shift).
    """
    connection.execute(_DELIVERIES)
    connection.execute(_VOLUMES)
    connection.execute(_CHANGES)
    connection.execute("create table history.newest_rows (source varchar, table_name varchar, newest_row timestamp)")
    connection.execute(
        "create table history.drift (source varchar, table_name varchar, column_name varchar, shift double)"
    )
    counted = {
        (source, name): (live, known)
        for source, name, live, known in connection.execute(
            "select source, table_name, count(*) filter (where not historical), count(*) from history.known group by all"
        ).fetchall()
    }
    for table in tables:
        live, known = counted.get((table.source, table.name), (0, 0))
        if live and table.occurred_at:
            connection.execute(_newest_row(table, table.occurred_at))
        if known > 1:
            _measure_drift(connection, table)
    connection.execute(_FRESHNESS)


_DELIVERIES = """
create schema history;
create table history.known as
select deliveries.*, rows_accepted + rows_superseded as rows_taken
from lake.deliveries as deliveries
cross join lake.clock as clock
where deliveries.historical or deliveries.received_at < clock.as_of
"""

_VOLUMES = """
create table history.volumes as
with live as (
    select *, row_number() over (partition by source, table_name order by sequence desc) as back
    from history.known
    where not historical
)
select
    newest.source,
    newest.table_name,
    newest.delivery_id,
    newest.rows_read,
    newest.rows_taken,
    newest.rows_rejected,
    count(earlier.sequence) as predecessors,
    median(earlier.rows_taken) as usual_rows
from live as newest
left join live as earlier
    on newest.source = earlier.source and newest.table_name = earlier.table_name and earlier.back > 1
where newest.back = 1
group by all
"""

_CHANGES = """
create table history.changes as
with newest as (
    select source, table_name, delivery_id, unnest(changes) as change
    from history.known
    qualify row_number() over (partition by source, table_name order by sequence desc) = 1
)
select source, table_name, delivery_id, change."column" as column_name, change.kind as kind
from newest
where change.severity = 'warning'
"""

_FRESHNESS = """
create table history.freshness as
with gaps as (
    select
        source,
        table_name,
        received_at,
        epoch(received_at - lag(received_at) over (partition by source, table_name order by received_at)) / 86400.0 as gap
    from history.known
    where not historical
),
rhythm as (
    select
        source,
        table_name,
        max(received_at) as last_received_at,
        median(gap) as usual_days,
        -- Fewer than three gaps tell no rhythm; a month and some days is then the longest usual one.
        case when count(gap) >= 3 then greatest(2.0, 3.0 * median(gap)) else 35.0 end as allowed_days
    from gaps
    group by source, table_name
)
select
    rhythm.source,
    rhythm.table_name,
    epoch(clock.as_of - rhythm.last_received_at) / 86400.0 as age_days,
    epoch(clock.as_of - newest_rows.newest_row) / 86400.0 as row_age_days,
    coalesce(rhythm.usual_days, 35.0) as usual_days,
    rhythm.allowed_days
from rhythm
cross join lake.clock as clock
left join history.newest_rows as newest_rows
    on rhythm.source = newest_rows.source and rhythm.table_name = newest_rows.table_name
"""


def _newest_row(table: Table, occurred_at: str) -> str:
    return f"""
        insert into history.newest_rows
        select '{table.source}', '{table.name}', max(lake_rows.{occurred_at})
        from lake_{table.source}.{table.name} as lake_rows
        inner join history.known as known
            on lake_rows.delivery_id = known.delivery_id
            and known.source = '{table.source}' and known.table_name = '{table.name}' and not known.historical
        cross join lake.clock as clock
        where lake_rows.{occurred_at} < clock.as_of
    """


def _measure_drift(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Compare the newest delivery with all earlier ones, column by column."""
    name = f"lake_{table.source}.{table.name}"
    of_table = f"source = '{table.source}' and table_name = '{table.name}'"
    newest = f"delivery_id = (select arg_max(delivery_id, sequence) from history.known where {of_table})"
    known = f"delivery_id in (select delivery_id from history.known where {of_table})"
    counts = connection.execute(
        f"select count(*) filter (where {newest}), count(*) filter (where not {newest}) from {name} where {known}"
    ).fetchone()
    if counts is None or min(counts) < MIN_ROWS:
        return
    categories, numbers = _comparable(connection, table, known)
    bins = {column: f"coalesce(cast({column} as varchar), '')" for column in categories}
    bins |= _tenths(connection, numbers, name, f"{known} and not {newest}")
    for column, bin_of in bins.items():
        connection.execute(
            f"""
            insert into history.drift
            with counted as (
                select
                    {bin_of} as bin,
                    count(*) filter (where {newest}) as now,
                    count(*) filter (where not {newest}) as before
                from {name}
                where {known}
                group by bin
            ),
            smoothed as (
                select
                    (now + 0.5) / (sum(now) over () + 0.5 * count(*) over ()) as now,
                    (before + 0.5) / (sum(before) over () + 0.5 * count(*) over ()) as before,
                    1.0 / sum(now) over () + 1.0 / sum(before) over () as noise
                from counted
            )
            select
                '{table.source}',
                '{table.name}',
                '{column}',
                round(sum((now - before) * ln(now / before)) - (count(*) - 1) * any_value(noise), 4)
            from smoothed
            """
        )


def _comparable(connection: duckdb.DuckDBPyConnection, table: Table, known: str) -> tuple[list[str], list[str]]:
    """The columns that have categories, and those that have numbers. No personal data, no keys."""
    keys = {*table.entity_key, *table.event_key, "line_number"}
    columns = [
        column
        for column in table.columns
        if not column.pii and column.name not in keys and not column.name.endswith(_NO_CATEGORY)
    ]
    numbers = [c.name for c in columns if c.data_type in ("integer", "bigint") or c.data_type.startswith("decimal")]
    certain = [c.name for c in columns if c.values or c.data_type == "boolean"]
    texts = [c.name for c in columns if _is_free_text(c)]
    if not texts:
        return certain, numbers
    sizes = ", ".join(f"approx_count_distinct({name})" for name in texts)
    found = connection.execute(f"select {sizes} from lake_{table.source}.{table.name} where {known}").fetchone() or ()
    return certain + [name for name, size in zip(texts, found, strict=True) if 0 < size <= MAX_VALUES], numbers


def _is_free_text(column: Column) -> bool:
    return column.data_type == "varchar" and not column.values


def _tenths(connection: duckdb.DuckDBPyConnection, numbers: Sequence[str], name: str, earlier: str) -> dict[str, str]:
    """For each column, SQL that tells which tenth of the earlier values a value falls into; none is a bin of its own."""
    if not numbers:
        return {}
    asked = ", ".join(f"quantile_disc({number}, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])" for number in numbers)
    found = connection.execute(f"select {asked} from {name} where {earlier}").fetchone() or ()
    return {
        number: f"coalesce({' + '.join(f'cast({number} > {cut} as integer)' for cut in sorted(set(cuts)))}, -1)"
        for number, cuts in zip(numbers, found, strict=True)
        if cuts is not None
    }
