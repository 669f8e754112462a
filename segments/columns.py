"""Which columns a segment depends on, through CTEs, aliases and `select *`; and whether it may.

The SQL is qualified, its stars are expanded and what nothing downstream uses is dropped (sqlglot's optimizer), so that
`select * from customer_360` refers to what is made of it and to nothing else. What can't be followed is refused: whole
rows as values, `columns(...)`, pivots, tables that are no `ref`, and what gives another answer each time it is asked.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from segments.definitions import Problem, Segment, SegmentError
from segments.models import Column, Models
from segments.rendering import render

if TYPE_CHECKING:
    from sqlglot import exp

_REFS = "refs"
# Functions without a class of their own in sqlglot that ask for the time or for chance.
_FICKLE = frozenset(
    [
        "now",
        "today",
        "current_localtime",
        "current_localtimestamp",
        "get_current_time",
        "get_current_timestamp",
        "transaction_timestamp",
        "statement_timestamp",
        "clock_timestamp",
        "random",
        "gen_random_uuid",
        "uuidv4",
        "uuidv7",
        "nextval",
        "currval",
        "txid_current",
    ]
)


def referenced(segment: Segment, models: Models) -> dict[str, tuple[Column, ...]]:
    """Columns that the segment depends on: model -> columns, sorted by name.

    Raises:
        SegmentError: the SQL can't be read or followed; names the file and the reason.
    """
    from sqlglot.errors import SqlglotError

    sql = render(segment, relation=models.named(_REFS))
    try:
        found = _columns(sql, models)
    except _Unfollowed as error:
        raise SegmentError(Problem(segment.name, segment.file, str(error))) from None
    except SqlglotError as error:
        raise SegmentError(Problem(segment.name, segment.file, _told(error))) from None
    return {
        model: tuple(models.by_name[model].columns[name] for name in sorted(names))
        for model, names in sorted(found.items())
    }


def refuse_unstated(segment: Segment, models: Models) -> None:
    """Refuse personal columns, and sensitive ones without a stated purpose.

    Raises:
        SegmentError: the segment refers to such a column, or can't be followed; names the columns.
    """
    found = referenced(segment, models)
    personal = [f"{model}.{column.name}" for model, columns in found.items() for column in columns if column.pii]
    if personal:
        raise SegmentError(
            Problem(segment.name, segment.file, f"refers to personal data, which no segment may: {', '.join(personal)}")
        )
    sensitive = [
        f"{model}.{column.name} ({column.sensitivity})"
        for model, columns in found.items()
        for column in columns
        if column.sensitivity != "none"
    ]
    if sensitive and segment.sensitive_purpose is None:
        raise SegmentError(
            Problem(
                segment.name,
                segment.file,
                f"refers to {', '.join(sensitive)}, but states no sensitive_purpose in its metadata",
            )
        )


class _Unfollowed(Exception):
    """Why the columns of a query can't be told."""


def _columns(sql: str, models: Models) -> dict[str, set[str]]:
    import sqlglot
    from sqlglot import exp
    from sqlglot.optimizer.pushdown_projections import pushdown_projections
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import traverse_scope

    statements = [statement for statement in sqlglot.parse(sql, dialect="duckdb") if statement is not None]
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise _Unfollowed("is not one select")
    _refuse_fickle(statements[0])
    _refuse_tables(statements[0], models)
    schema: dict[str, object] = {
        _REFS: {
            model.name: {c.name: c.data_type for c in model.columns.values()}
            for model in models.by_name.values()
            if model.columns
        }
    }
    query = qualify(statements[0], schema=schema, dialect="duckdb", quote_identifiers=False)
    query = pushdown_projections(query)
    _refuse_opaque(query)
    found: dict[str, set[str]] = {}
    for scope in traverse_scope(query):
        outer = {id(column) for column in scope.external_columns}
        for column in scope.columns:
            source = scope.sources.get(column.table)
            if isinstance(source, exp.Table) and source.db == _REFS:
                if column.name not in models.by_name[source.name].columns:
                    raise _Unfollowed(f"{source.name} has no column {column.name}")
                found.setdefault(source.name, set()).add(column.name)
            elif source is None and id(column) not in outer:
                raise _Unfollowed(f"it can't be told where {column.sql(dialect='duckdb')} comes from")
    return found


def _refuse_fickle(query: exp.Expr) -> None:
    from sqlglot import exp

    kinds = (
        exp.CurrentDate,
        exp.CurrentDatetime,
        exp.CurrentTime,
        exp.CurrentTimestamp,
        exp.CurrentUser,
        exp.Localtime,
        exp.Localtimestamp,
        exp.Rand,
        exp.Randn,
        exp.Uuid,
    )
    for node in query.walk():
        if isinstance(node, kinds) or (isinstance(node, exp.Anonymous) and str(node.this).lower() in _FICKLE):
            raise _Unfollowed(
                f"asks for {node.sql(dialect='duckdb').lower()}: a segment is the same whenever it is asked;"
                " the time is customer_360.as_of and as_of_on"
            )
        if isinstance(node, exp.TableSample):
            raise _Unfollowed("takes a sample, which is another one each time")


def _refuse_tables(query: exp.Expr, models: Models) -> None:
    """Tables are refs, CTEs, or functions that make rows of their own arguments."""
    from sqlglot import exp

    ctes = {cte.alias.lower() for cte in query.find_all(exp.CTE)}
    for table in query.find_all(exp.Table):
        if table.db == _REFS and not table.catalog and table.name in models.by_name:
            if not models.by_name[table.name].columns:
                raise _Unfollowed(f"reads {table.name}, whose columns no YAML describes")
            if table.alias_column_names:
                raise _Unfollowed(f"renames the columns of {table.name} by position, which can't be followed")
        elif isinstance(table.this, exp.Func):
            if not isinstance(table.this, exp.Unnest | exp.ExplodingGenerateSeries | exp.GenerateSeries):
                raise _Unfollowed(f"reads {table.this.sql(dialect='duckdb')}: a segment reads models by ref")
        elif table.db or table.name.lower() not in ctes:
            raise _Unfollowed(f"reads {table.sql(dialect='duckdb')}: a segment reads models by ref")


def _refuse_opaque(query: exp.Expr) -> None:
    """What stands for columns without naming them."""
    from sqlglot import exp

    for node in query.walk():
        if isinstance(node, exp.TableColumn):
            raise _Unfollowed(f"takes whole rows of {node.name} as values: name the columns")
        if isinstance(node, exp.Columns | exp.Pivot | exp.PositionalColumn):
            raise _Unfollowed(f"uses {node.sql(dialect='duckdb').strip()}: name the columns")
        if isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count):
            raise _Unfollowed("uses * where it can't be followed: name the columns")


def _told(error: Exception) -> str:
    """The first line of what sqlglot says, without the escape codes that it underlines with."""
    from sqlglot.errors import ParseError

    if isinstance(error, ParseError) and error.errors:
        said = error.errors[0]
        return f"its SQL can't be read: {said.get('description', '')} (near {said.get('highlight', '')!r})"
    first = " ".join((str(error).splitlines() or [type(error).__name__])[0].split())
    if unknown := re.match(r"Column '\"?([^'\"]+)\"?' could not be resolved", first):
        return f"there is no column {unknown[1]} in what it reads"
    return first
