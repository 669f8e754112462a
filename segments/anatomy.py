"""A segment's SQL taken apart: the relations and columns it uses, and its conditions one by one for one customer.

What is taken apart is rendered SQL in which `ref('x')` stands as the relation `ref.x` (see `segments.data`). Conditions are
not interpreted here: the warehouse's own engine evaluates each, in the place where it stands in the query.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import MailwrightError

if TYPE_CHECKING:
    import duckdb
    from sqlglot import exp

SCHEMA = "ref"
KEY = "customer_id"
FINAL = "final select"
_DIALECT = "duckdb"
_ROWS_MAX = 1000  # of one customer, looked at for one condition


@dataclass(frozen=True)
class Condition:
    """One condition of a segment, as one customer meets it.

    Attributes:
        step: name of the CTE that it stands in.
        sql: the condition, with the values of vars in it.
        values: (column or expression, value as text or None for null), as this customer has them.
        holds: None where nothing of this customer gets so far.
        rows: rows of this customer that were judged, usually one.
        rows_holding: how many of them meet it.
    """

    step: str
    sql: str
    values: tuple[tuple[str, str | None], ...]
    holds: bool | None
    rows: int = 1
    rows_holding: int = 0


def parse(sql: str) -> exp.Expr:
    """Read rendered SQL.

    Raises:
        MailwrightError: it is no single query.
    """
    import sqlglot
    from sqlglot.errors import SqlglotError

    try:
        tree = sqlglot.parse_one(sql, read=_DIALECT)
    except SqlglotError as error:
        first = str(error).splitlines()[0]
        raise MailwrightError(f"the SQL can't be read: {first}") from None
    return tree


def relations(sql: str) -> frozenset[str]:
    """Names of the relations that the SQL refs.

    Raises:
        MailwrightError: the SQL can't be read.
    """
    from sqlglot import exp

    return frozenset(table.name for table in parse(sql).find_all(exp.Table) if table.db == SCHEMA)


def columns(sql: str) -> frozenset[str]:
    """Names of all columns that are named in the SQL, of whatever relation or CTE, in lower case.

    Raises:
        MailwrightError: the SQL can't be read.
    """
    from sqlglot import exp

    return frozenset(column.name.lower() for column in parse(sql).find_all(exp.Column) if column.name != "*")


def contains(connection: duckdb.DuckDBPyConnection, sql: str, customer_id: str) -> bool:
    """Whether the customer is in the set that the SQL selects."""
    found = connection.execute(
        f"select count(*) from ({sql}\n) as members where members.{KEY} = $1", [customer_id]
    ).fetchone()
    return bool(found and found[0])


def conditions(
    connection: duckdb.DuckDBPyConnection, sql: str, customer_id: str, *, hidden: frozenset[str] = frozenset()
) -> list[Condition]:
    """Each condition of the SQL on the way to the final select, with what this customer has there.

    WHERE, HAVING and QUALIFY are split at their ANDs, an inner join counts as a condition, and CTEs and both sides of a
    union are followed as long as they hold `customer_id`. A window or rank that a later step compares shows its value
    there.

    Args:
        connection: holds the relations as `ref.<name>`.
        hidden: columns whose value is personal: shown as such, not as it is.

    Raises:
        MailwrightError: the SQL can't be read.
        duckdb.Error: the engine refuses the SQL.
    """
    tree = parse(sql)
    return list(_Dissection(connection, customer_id, _with_aliases(tree, hidden)).of(tree))


class _Dissection:
    """One customer's way through one query."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, customer_id: str, hidden: frozenset[str]) -> None:
        self._connection = connection
        self._customer = customer_id
        self._hidden = hidden
        self._seen: set[tuple[str, str]] = set()

    def of(self, tree: exp.Expr) -> Iterator[Condition]:
        return self._query(tree, FINAL, {}, KEY)

    def _query(self, query: exp.Expr, step: str, before: Mapping[str, exp.Expr], key: str) -> Iterator[Condition]:
        """Conditions of a query.

        Args:
            before: CTEs that it can see, in order.
            key: its output column that holds the customer.
        """
        from sqlglot import exp

        query = query.copy()
        with_ = query.args.get("with_")
        if with_ is not None:
            visible = dict(before)
            for cte in with_.expressions:
                visible[cte.alias] = cte.this
            before = visible
            query.set("with_", None)
        if isinstance(query, exp.Subquery):
            yield from self._query(query.this, step, before, key)
        elif isinstance(query, exp.SetOperation):
            kind = query.key
            sides = list(_sides(query))
            for number, side in enumerate(sides, start=1):
                excluded = kind == "except" and number > 1
                label = f"{step}, {'less' if excluded else f'{kind} {number} of {len(sides)}'}"
                yield from self._query(side, label, before, key)
        elif isinstance(query, exp.Select):
            yield from self._select(query, step, before, key)

    def _select(self, select: exp.Select, step: str, before: Mapping[str, exp.Expr], key: str) -> Iterator[Condition]:
        found = self._key_of(select, before, key)
        if found is None:
            return
        for source in _sources(select):
            yield from self._source(source, step, before)
        yield from self._judge_rows(select, step, before, found)
        for clause in ("having", "qualify"):
            if select.args.get(clause) is not None:
                yield from self._judge_clause(select, step, before, found, clause)

    def _source(self, source: exp.Expr, step: str, before: Mapping[str, exp.Expr]) -> Iterator[Condition]:
        """Conditions of a CTE or derived table that is selected from, if it is about customers."""
        from sqlglot import exp

        if isinstance(source, exp.Subquery):
            if KEY in self._outputs(source.this, before):
                yield from self._query(source.this, source.alias or step, before, KEY)
        elif isinstance(source, exp.Table) and not source.db and source.name in before:
            name = source.name
            earlier = dict(list(before.items())[: list(before).index(name)])
            if (name, KEY) not in self._seen and KEY in self._outputs(before[name], earlier):
                self._seen.add((name, KEY))
                yield from self._query(before[name], name, earlier, KEY)

    def _key_of(self, select: exp.Select, before: Mapping[str, exp.Expr], key: str) -> exp.Expr | None:
        """The expression in this select that is the customer; None if it is not about single customers."""
        from sqlglot import exp

        for projection in select.expressions:
            if projection.alias_or_name == key and not projection.is_star:
                found: exp.Expr = projection.unalias()
                return found
        for projection in select.expressions:
            if not projection.is_star:
                continue
            wanted = projection.table if isinstance(projection, exp.Column) else ""
            for source in _sources(select):
                if wanted in ("", source.alias_or_name) and key in self._outputs(_everything(source), before):
                    return exp.column(key, table=source.alias_or_name)
        return None

    def _outputs(self, query: exp.Expr, before: Mapping[str, exp.Expr]) -> list[str]:
        described = self._connection.execute(f"describe {_with(query, before)}").fetchall()
        return [str(row[0]).lower() for row in described]

    def _judge_rows(
        self, select: exp.Select, step: str, before: Mapping[str, exp.Expr], key: exp.Expr
    ) -> Iterator[Condition]:
        """Inner joins and the WHERE, on the rows that come in."""
        from sqlglot import exp

        probe = _bare(select, ())
        told: list[tuple[str, exp.Expr, list[exp.Expr]]] = []
        for join in probe.args.get("joins") or ():
            is_inner = join.kind in ("", "INNER") and not join.side and (join.args.get("on") or join.args.get("using"))
            if is_inner:
                name = join.this.alias_or_name
                text = _text(join)
                join.set("kind", None)
                join.set("side", "LEFT")
                marked = exp.select("*", "true as mailwright_matched").from_(join.this.copy())
                join.set("this", marked.subquery(name))
                told.append((text, exp.column("mailwright_matched", table=name).is_(exp.true()), []))
        if select.args.get("where") is not None:
            told += [(_text(part), part, _values(part)) for part in _conjuncts(select.args["where"].this)]
        # A WHERE may use an alias of the select list, which stands there only as long as nothing is grouped.
        keep = not select.args.get("group") and not any(select.find_all(exp.AggFunc))
        yield from self._probe(probe, step, before, key, told, select.expressions if keep else ())

    def _judge_clause(
        self, select: exp.Select, step: str, before: Mapping[str, exp.Expr], key: exp.Expr, clause: str
    ) -> Iterator[Condition]:
        """HAVING or QUALIFY, on what the clauses before it leave."""
        kept = ("where", "group") if clause == "having" else ("where", "group", "having")
        parts = _conjuncts(select.args[clause].this)
        told = [(_text(part), part, _values(part)) for part in parts]
        yield from self._probe(_bare(select, kept), step, before, key, told, select.expressions)

    def _probe(
        self,
        probe: exp.Select,
        step: str,
        before: Mapping[str, exp.Expr],
        key: exp.Expr,
        told: Sequence[tuple[str, exp.Expr, list[exp.Expr]]],
        projections: Sequence[exp.Expr],
    ) -> Iterator[Condition]:
        """Evaluate conditions (text, expression, values to show) on the rows of this customer."""
        from sqlglot import exp

        if not told:
            return
        shown: list[exp.Expr] = []
        for _, _, values in told:
            shown += [value for value in values if value not in shown]
        names = [f"mailwright_c{number}" for number in range(len(told))]
        names += [f"mailwright_v{number}" for number in range(len(shown))]
        asked = [condition for _, condition, _ in told] + shown
        probe = probe.copy()
        probe.set(
            "expressions",
            [
                *(projection.copy() for projection in projections),
                exp.alias_(key.copy(), "mailwright_key"),
                *(exp.alias_(_wrapped(one), name) for one, name in zip(asked, names, strict=True)),
            ],
        )
        rows = self._connection.execute(
            f"select {', '.join(names)} from ({_with(probe, before)}\n) as probe"
            f" where mailwright_key = $1 limit {_ROWS_MAX}",
            [self._customer],
        ).fetchall()
        best = max(rows, key=lambda row: sum(value is True for value in row[: len(told)])) if rows else None
        for number, (text, _, values) in enumerate(told):
            holding = sum(1 for row in rows if row[number] is True)
            yield Condition(
                step,
                text,
                tuple((_text(value), self._value(value, best[len(told) + shown.index(value)])) for value in values)
                if best is not None
                else (),
                None if best is None else best[number] is True,
                len(rows),
                holding,
            )

    def _value(self, expression: exp.Expr, value: Any) -> str | None:
        from sqlglot import exp

        named = {column.name.lower() for column in expression.find_all(exp.Column)}
        if named & self._hidden:
            return "(personal)"
        if value is None:
            return None
        return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _with_aliases(tree: exp.Expr, hidden: frozenset[str]) -> frozenset[str]:
    """The hidden columns, and every name that something made of one of them is given."""
    from sqlglot import exp

    made = [
        (alias.alias.lower(), {column.name.lower() for column in alias.find_all(exp.Column)})
        for alias in tree.find_all(exp.Alias)
    ]
    while further := {name for name, of in made if of & hidden} - hidden:
        hidden |= further
    return hidden


def _with(query: exp.Expr, ctes: Mapping[str, exp.Expr]) -> str:
    """The query as SQL, with the CTEs before it."""
    text = query.sql(dialect=_DIALECT)
    if not ctes:
        return text
    said = ", ".join(f'"{name}" as ({cte.sql(dialect=_DIALECT)})' for name, cte in ctes.items())
    return f"with {said} {text}"


def _sources(select: exp.Select) -> list[exp.Expr]:
    """What a select reads: tables and derived tables, in order."""
    from_ = select.args.get("from_")
    joined = [join.this for join in select.args.get("joins") or ()]
    return [*([from_.this] if from_ is not None else []), *joined]


def _everything(source: exp.Expr) -> exp.Expr:
    from sqlglot import exp

    return exp.select("*").from_(source.copy())


def _bare(select: exp.Select, kept: tuple[str, ...]) -> exp.Select:
    """The select with its sources, and of its clauses only those in `kept`."""
    bare = select.copy()
    for clause in ("with_", "distinct", "where", "group", "having", "qualify", "order", "limit", "offset"):
        if clause not in kept:
            bare.set(clause, None)
    return bare


def _sides(query: exp.Expr) -> Iterator[exp.Expr]:
    """The queries that a chain of one kind of set operation connects."""
    for side in (query.args["this"], query.args["expression"]):
        if type(side) is type(query) and side is query.args["this"]:
            yield from _sides(side)
        else:
            yield side


def _conjuncts(condition: exp.Expr) -> list[exp.Expr]:
    """The parts that ANDs connect, through parentheses."""
    from sqlglot import exp

    inner = condition.unnest()
    if isinstance(inner, exp.And):
        return [*_conjuncts(inner.left), *_conjuncts(inner.right)]
    return [inner if isinstance(inner, exp.Or) else condition]


def _values(condition: exp.Expr) -> list[exp.Expr]:
    """What of a condition is worth showing the value of: its windows and aggregates, and the columns outside them."""
    from sqlglot import exp

    found: list[exp.Expr] = []
    for node in condition.walk(prune=lambda node: isinstance(node, exp.Window | exp.AggFunc | exp.Query)):
        if isinstance(node, exp.Window | exp.AggFunc | exp.Column) and node not in found:
            found.append(node)
    return found


def _wrapped(expression: exp.Expr) -> exp.Expr:
    from sqlglot import exp

    return exp.paren(expression.copy())


def _text(expression: exp.Expr) -> str:
    return expression.sql(dialect=_DIALECT, comments=False, normalize_functions="lower")
