"""Where a segment is evaluated: on what is published, and only where that is not enough in the warehouse.

Rendered SQL names what it refs as `ref.<name>` (`reference`). `ref` is a database in memory, beside the one that is read,
with one view per relation: so the same SQL runs on published marts, on the warehouse, on one past instant of it, and as a
release keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from core.errors import MailwrightError
from core.home import Home
from core.settings import Settings
from core.warehouse import in_memory, warehouse
from segments import anatomy
from segments.anatomy import SCHEMA

if TYPE_CHECKING:
    import duckdb

Place = Literal["published", "warehouse"]
CUSTOMERS = "customer_360"
PATIENCE_SECONDS = 60.0  # for another process that has the warehouse


@dataclass(frozen=True)
class Data:
    """An open database that holds relations as `ref.<name>`.

    Attributes:
        place: what is read.
        reason: why the warehouse had to be opened; None for published marts.
        as_of: aware instant of what is read, in UTC.
        personal: names of columns whose values are not shown.
    """

    connection: duckdb.DuckDBPyConnection
    place: Place
    reason: str | None
    as_of: datetime
    personal: frozenset[str]


def reference(name: str) -> str:
    """How rendered SQL names what it refs."""
    return f"{SCHEMA}.{name}"


@contextmanager
def open_data(
    settings: Settings,
    home: Home,
    queries: Iterable[str],
    *,
    also: Collection[str] = (),
    notify: Callable[[str], None] | None = None,
) -> Iterator[Data]:
    """Open what the queries need, for the length of a block.

    Args:
        queries: rendered SQL. What can't be read is passed over: it will fail where it is run.
        also: relations to offer beside theirs, where they exist.
        notify: told when the warehouse has to be opened, and who has it if one has to wait.

    Raises:
        MailwrightError: nothing is published yet.
        WarehouseBusyError: the warehouse is needed, and another process has it.
    """
    wanted = set(also) | {CUSTOMERS}
    named: set[str] = set()
    needed: set[str] = {CUSTOMERS}
    for query in queries:
        try:
            needed |= anatomy.relations(query)
            named |= anatomy.columns(query)
        except MailwrightError:
            continue
    with _published(settings, home) as (connection, tables, left_out, as_of):
        personal = frozenset().union(*left_out.values(), {name.rpartition(".")[2] for name in settings.publish_pii})
        reason = _insufficient(needed, named, tables, left_out) if home.warehouse.exists() else None
        if reason is None:
            offered = {name: f"published.main.{_quoted(name)}" for name in (wanted | needed) & tables}
            with referring(connection, offered):
                yield Data(connection, "published", None, as_of, personal)
            return
    if notify is not None:
        notify(f"{reason}: the warehouse is opened")
    with warehouse(settings, home, wait_seconds=PATIENCE_SECONDS, notify=notify) as connection:
        found = relations_of(connection)
        offered = {name: found[name] for name in wanted | needed if name in found}
        with referring(connection, offered):
            row = connection.execute(f"select max(as_of) from {offered[CUSTOMERS]}").fetchone()
            as_of = row[0].replace(tzinfo=UTC) if row and row[0] else as_of
            yield Data(connection, "warehouse", reason, as_of, personal)


@contextmanager
def referring(connection: duckdb.DuckDBPyConnection, relations: Mapping[str, str]) -> Iterator[None]:
    """Offer relations as `ref.<name>` for the length of a block.

    Args:
        relations: name -> what it stands for, with its database: a view in `ref` sees no other by itself.
    """
    connection.execute(f"attach ':memory:' as {SCHEMA}")
    try:
        offer(connection, relations)
        yield
    finally:
        connection.execute(f"detach {SCHEMA}")


def offer(connection: duckdb.DuckDBPyConnection, relations: Mapping[str, str]) -> None:
    """Let `ref.<name>` stand for something else from now on."""
    for name, source in relations.items():
        query = source if source.lstrip().lower().startswith(("select", "with")) else f"select * from {source}"
        connection.execute(f"create or replace view {reference(_quoted(name))} as {query}")


def relations_of(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Every table and view of the connection's own database: name -> what to read it from. Names are unique in dbt."""
    rows = connection.execute(
        """
        select table_name, table_catalog, table_schema
        from information_schema.tables
        where table_catalog = current_catalog() and not starts_with(table_schema, 'lake')
        order by table_schema
        """
    ).fetchall()
    return {name: ".".join(map(_quoted, (catalog, schema, name))) for name, catalog, schema in rows}


def evaluate(connection: duckdb.DuckDBPyConnection, sql: str, out: str) -> tuple[int, int]:
    """Make the temporary table `out` (customer_id) of the customers that a segment's SQL selects, each once.

    Returns:
        How many they are, and how many rows the SQL gives: more than that if some repeat or are null.

    Raises:
        duckdb.Error: the SQL does not compile or run.
    """
    connection.execute(
        f"""
        create or replace temp table {out} as
        select cast(customer_id as varchar) as customer_id, count(*) as occurrences from ({sql}\n) group by all
        """
    )
    found = connection.execute(f"select count(customer_id), coalesce(sum(occurrences), 0) from {out}").fetchone()
    connection.execute(f"delete from {out} where customer_id is null")
    members, rows = found or (0, 0)
    return int(members), int(rows)


def said_of(error: duckdb.Error) -> str:
    """One line of what the engine refuses. What went wrong with a value is told without it: it may be somebody's."""
    import duckdb

    if isinstance(error, duckdb.BinderException | duckdb.CatalogException | duckdb.ParserException):
        return str(error).splitlines()[0]
    return f"{type(error).__name__} while it ran"


@contextmanager
def _published(
    settings: Settings, home: Home
) -> Iterator[tuple[duckdb.DuckDBPyConnection, frozenset[str], dict[str, frozenset[str]], datetime]]:
    """An in-memory DuckDB with the published marts as `published`: tables, columns left out by table, and the as_of.

    The one file is read rather than the Parquet files beside it: it is replaced whole, so that a refresh that publishes
    meanwhile does not mix with what is read.
    """
    database = home.published / "marts.duckdb"
    if not database.exists():
        raise MailwrightError(f"nothing is published in the home at {home.root} yet: run `mailwright refresh`")
    with in_memory(settings) as connection:
        connection.execute(f"attach '{str(database).replace(chr(39), chr(39) * 2)}' as published (read_only)")
        tables = connection.execute(
            "select table_name from information_schema.tables where table_catalog = 'published'"
        ).fetchall()
        left_out = connection.execute("select name, left_out from published.main.publication_tables").fetchall()
        header = connection.execute("select as_of from published.main.publication").fetchone()
        if header is None:
            raise MailwrightError(f"{database} does not say of which as_of it is: run `mailwright refresh`")
        yield (
            connection,
            frozenset(name for (name,) in tables),
            {name: frozenset(column.lower() for column in columns) for name, columns in left_out},
            header[0].replace(tzinfo=UTC),
        )


def _insufficient(
    needed: set[str], named: set[str], tables: frozenset[str], left_out: Mapping[str, frozenset[str]]
) -> str | None:
    """Why what is published is not enough, or None if it is."""
    if missing := sorted(needed - tables):
        return f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not published"
    hidden = named & frozenset().union(*(left_out.get(name, frozenset()) for name in needed))
    return f"{', '.join(sorted(hidden))} of a customer is not published" if hidden else None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
