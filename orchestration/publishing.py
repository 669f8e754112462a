"""Read-only copies of the marts for BI: one DuckDB file and one Parquet file per table, replaced by atomic rename.

A reader that has the old file open keeps a consistent view; nobody who reads is ever blocked by a running refresh, and
a refresh is never blocked by who reads. Personal columns are left out unless the settings name them, and the big event
tables are not copied: they come as daily aggregates.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import MailwrightError, RefreshError
from core.files import replacing
from core.home import Home
from core.settings import Settings
from core.warehouse import warehouse
from orchestration.dbt import personal_columns

if TYPE_CHECKING:
    import duckdb

    from segments.overlap import Overlap

# Event tables that grow without bound, of which DAILY has what BI needs; and every customer at every as_of, of which
# customer_360 has today's.
NOT_COPIED = frozenset(
    {"fct_order_lines", "fct_web_events", "fct_web_sessions", "fct_email_events", "customer_history"}
)

# Tables that hold every as_of of the spine, of which BI gets the current one.
CURRENT_ONLY = frozenset({"customer_rfm"})

# Tables that tell what is new since the newest release, and what syncs did: what went out meanwhile is no change of the
# data.
OF_ACTIVATION = frozenset({"customer_changes", "fct_sync_runs", "fct_sync_rows"})

# Aggregates of the event tables above: name -> (tables needed, query). Grain: one row per local day and the columns named.
DAILY: Mapping[str, tuple[tuple[str, ...], str]] = {
    "daily_orders": (
        ("fct_orders",),
        """
        select
            ordered_on,
            source,
            channel,
            country_code,
            count(*) as orders,
            count(*) filter (where is_reversed) as reversed_orders,
            count(distinct customer_id) as customers,
            sum(units) as units,
            sum(amount_base) as amount_base
        from marts.fct_orders
        group by ordered_on, source, channel, country_code
        order by ordered_on, source, channel, country_code
        """,
    ),
    "daily_web": (
        ("fct_web_sessions", "fct_web_events"),
        """
        with sessions as (
            select
                started_on as occurred_on,
                count(*) as sessions,
                count(distinct customer_id) as customers,
                count(*) filter (where has_order) as sessions_with_order
            from marts.fct_web_sessions
            where not is_bot
            group by started_on
        ),

        events as (
            select
                occurred_on,
                count(*) as events,
                count(*) filter (where event_name = 'Product Viewed') as product_views,
                count(*) filter (where event_name = 'Product Added') as cart_additions
            from marts.fct_web_events
            where not is_bot and is_tracked
            group by occurred_on
        )

        select
            occurred_on,
            coalesce(sessions, 0) as sessions,
            coalesce(customers, 0) as customers,
            coalesce(sessions_with_order, 0) as sessions_with_order,
            coalesce(events, 0) as events,
            coalesce(product_views, 0) as product_views,
            coalesce(cart_additions, 0) as cart_additions
        from sessions
        full join events using (occurred_on)
        order by occurred_on
        """,
    ),
    "daily_email": (
        ("fct_email_events",),
        """
        select
            occurred_on,
            campaign_id,
            event_type,
            count(*) as events,
            count(*) filter (where is_machine) as machine_events,
            count(distinct customer_id) as customers
        from marts.fct_email_events
        group by occurred_on, campaign_id, event_type
        order by occurred_on, campaign_id, event_type
        """,
    ),
}


@dataclass(frozen=True)
class PublishedTable:
    """A table as published.

    Attributes:
        content_hash: of all rows, whatever their order: equal hashes mean that nothing changed.
        left_out: columns that were not published because they are personal.
    """

    name: str
    rows: int
    content_hash: str
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Publication:
    """What was published, and for which as_of. Instants are aware, in UTC."""

    as_of: datetime
    finished_at: datetime
    tables: tuple[PublishedTable, ...]
    facts: Mapping[str, str]

    @property
    def content(self) -> dict[str, str]:
        """Content hash by table, for comparing two publications."""
        return {table.name: table.content_hash for table in self.tables}


def publish(
    settings: Settings,
    home: Home,
    manifest: Mapping[str, Any],
    *,
    as_of: datetime,
    finished_at: datetime,
    facts: Mapping[str, str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Publication:
    """Copy the marts out of the warehouse and replace what BI reads.

    Args:
        manifest: dbt's `manifest.json` as a dict; says which columns are personal and describes the segments.
        as_of: the as_of of the refresh.
        finished_at: when the refresh was done.
        facts: what else to note beside the tables, for `mailwright status`.
        progress: told the name of each table before it is copied.

    Raises:
        RefreshError: `MAILWRIGHT_PUBLISH_PII` names what doesn't exist, or the marts are not there.
        WarehouseBusyError: another process has the warehouse.
    """
    tables: list[PublishedTable] = []
    parquet = home.published / "marts"
    database = home.published / "marts.duckdb"
    # The renames come last and together, after the warehouse is closed again.
    with ExitStack() as renames, warehouse(settings, home) as connection:
        _sweep(home.published)
        _sweep(parquet)
        beside = renames.enter_context(replacing(database))
        queries = _queries(connection, manifest, settings.publish_pii)
        connection.execute(f"attach '{_quoted(beside)}' as published")
        try:
            for name, (query, left_out) in queries.items():
                if progress is not None:
                    progress(name)
                connection.execute(f"create table published.{name} as {query}")
                file = renames.enter_context(replacing(parquet / f"{name}.parquet"))
                connection.execute(f"copy published.{name} to '{_quoted(file)}' (format parquet, compression zstd)")
                tables.append(_summary(connection, name, left_out))
            publication = Publication(as_of, finished_at, tuple(tables), dict(facts or {}))
            _write_publication(connection, publication)
        finally:
            connection.execute("detach published")
    kept = {f"{table.name}.parquet" for table in tables}
    for file in parquet.glob("*.parquet"):
        if file.name not in kept:
            file.unlink()
    return publication


def read_publication(home: Home) -> Publication | None:
    """What is published now, or None if nothing was published yet. Never touches the warehouse."""
    import duckdb

    database = home.published / "marts.duckdb"
    if not database.exists():
        return None
    with duckdb.connect(str(database), read_only=True) as connection:
        header = connection.execute("select as_of, finished_at from publication").fetchone()
        facts = connection.execute("select name, value from publication_facts order by name").fetchall()
        tables = connection.execute(
            "select name, row_count, content_hash, left_out from publication_tables order by name"
        ).fetchall()
    if header is None:
        return None
    return Publication(
        header[0].replace(tzinfo=UTC),
        header[1].replace(tzinfo=UTC),
        tuple(PublishedTable(name, rows, content, tuple(left_out)) for name, rows, content, left_out in tables),
        dict(facts),
    )


def changes(before: Publication | None, after: Publication) -> list[str]:
    """Names of the tables whose content differs; all of them when nothing was published before."""
    known = before.content if before is not None else {}
    names = sorted({*known, *after.content} - OF_ACTIVATION)
    return [name for name in names if known.get(name) != after.content.get(name)]


def segment_sizes(home: Home) -> list[tuple[str, int, str]]:
    """Published segments as (segment, customers, description), the largest first. Empty if nothing is published."""
    import duckdb

    database = home.published / "marts.duckdb"
    if not database.exists():
        return []
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(
            "select segment, customers, description from segments order by customers desc, segment"
        ).fetchall()


def segment_overlap(home: Home) -> Overlap:
    """How much of each published segment lies in each other one.

    Raises:
        MailwrightError: nothing was published yet.
    """
    import duckdb

    from segments.overlap import overlap

    database = home.published / "marts.duckdb"
    if not database.exists():
        raise MailwrightError("nothing was published yet: run `mailwright refresh`")
    with duckdb.connect(str(database), read_only=True) as connection:
        return overlap(connection, "segment_memberships")


def _queries(
    connection: duckdb.DuckDBPyConnection, manifest: Mapping[str, Any], wanted: frozenset[str]
) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Published name -> (query, columns left out)."""
    present = {
        (schema, table)
        for schema, table in connection.execute(
            "select table_schema, table_name from information_schema.tables where table_catalog = current_catalog()"
        ).fetchall()
    }
    marts = sorted(table for schema, table in present if schema == "marts")
    if not marts:
        raise RefreshError("there are no marts to publish: run `mailwright refresh`")
    sources = {name: ("marts", name) for name in marts if name not in NOT_COPIED}
    for name in ("segment_memberships", "segment_membership_history", "customer_changes", "audience_funnel"):
        if ("activation", name) in present:
            sources[name] = ("activation", name)
    queries: dict[str, tuple[str, tuple[str, ...]]] = {}
    seen: set[str] = set()
    for name, (schema, table) in sources.items():
        columns = _columns(connection, schema, table)
        seen |= {f"{table}.{column}" for column in columns}
        private = {column for column in personal_columns(manifest, table) if f"{table}.{column}" not in wanted}
        kept = [f'"{column}"' for column in columns if column not in private]
        queries[name] = (
            f"select {', '.join(kept)} from {schema}.{table}{' where is_current' if table in CURRENT_ONLY else ''}",
            tuple(column for column in columns if column in private),
        )
    if unknown := sorted(wanted - seen):
        raise RefreshError(f"MAILWRIGHT_PUBLISH_PII names {', '.join(unknown)}, which no published table has")
    for name, (needs, query) in DAILY.items():
        if all(need in marts for need in needs):
            queries[name] = (query, ())
    if "segment_memberships" in sources:
        queries["segments"] = (_segments(manifest), ())
    return dict(sorted(queries.items()))


def _segments(manifest: Mapping[str, Any]) -> str:
    """A query with one row per segment: its name, size and description. Segments without members count zero."""
    described = [
        (node["name"].removeprefix("seg_"), " ".join(node["description"].split()))
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["name"].startswith("seg_")
    ]
    values = ", ".join(f"('{_escaped(name)}', '{_escaped(text)}')" for name, text in sorted(described))
    said = f"(values {values})" if values else "(select null, null where false)"
    return f"""
        select said.segment, count(members.customer_id) as customers, said.description
        from {said} as said (segment, description)
        left join activation.segment_memberships as members on said.segment = members.segment
        group by said.segment, said.description
        order by said.segment
    """


def _columns(connection: duckdb.DuckDBPyConnection, schema: str, table: str) -> list[str]:
    found = connection.execute(
        """
        select column_name from information_schema.columns
        where table_catalog = current_catalog() and table_schema = ? and table_name = ?
        order by ordinal_position
        """,
        [schema, table],
    ).fetchall()
    return [column for (column,) in found]


def _summary(connection: duckdb.DuckDBPyConnection, name: str, left_out: Sequence[str]) -> PublishedTable:
    # The sum of the rows' hashes does not depend on their order, and unlike an xor it sees doubled rows.
    found = connection.execute(f"select count(*), sum(hash(t)::hugeint) from published.{name} as t").fetchone()
    if found is None:
        raise MailwrightError(f"published.{name} can't be read")
    rows, total = found
    return PublishedTable(name, rows, f"{int(total or 0):x}", tuple(left_out))


def _write_publication(connection: duckdb.DuckDBPyConnection, publication: Publication) -> None:
    connection.execute(
        "create table published.publication as select ?::timestamp as as_of, ?::timestamp as finished_at",
        [_naive(publication.as_of), _naive(publication.finished_at)],
    )
    connection.execute("create table published.publication_facts (name varchar, value varchar)")
    for fact in publication.facts.items():
        connection.execute("insert into published.publication_facts values (?, ?)", list(fact))
    connection.execute(
        "create table published.publication_tables"
        " (name varchar, row_count bigint, content_hash varchar, left_out varchar[])"
    )
    for table in publication.tables:
        connection.execute(
            "insert into published.publication_tables values (?, ?, ?, ?)",
            [table.name, table.rows, table.content_hash, list(table.left_out)],
        )


def _sweep(folder: Path) -> None:
    """Remove what a killed run left half-written. Under the warehouse's lock, so nobody else is publishing."""
    for file in folder.glob(".*.tmp*"):
        file.unlink()


def _naive(moment: datetime) -> datetime:
    """An aware instant as DuckDB's naive UTC timestamp."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def _quoted(path: Path) -> str:
    return _escaped(os.fspath(path))


def _escaped(text: str) -> str:
    return text.replace("'", "''")
