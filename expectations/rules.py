"""What a suite is made of: named rules, each with SQL that counts what breaks it, and how bad that is.

A rule is an error unless it gives a reason why a failure is only a warning, so that no warning goes without one.

Not here, as dbt's tests hold it: what a model's YAML says of its columns (`unique`, `not_null`, `accepted_values`,
`relationships`) and the truths in `dbt_project/tests`. What is here looks at data as delivered, at what staging and
identity make of it, at what only history can tell (freshness, volume, drift), or is a warning.

Nothing here imports Great Expectations (seconds), so that whoever only needs the names of the checks stays quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from core.contract import Table

Group = Literal["raw", "staging", "identity", "marts"]
Severity = Literal["error", "warning"]

GROUPS: tuple[Group, ...] = ("raw", "staging", "identity", "marts")
ROW = ("delivery_id", "row_number")
"""What names a row of the lake."""

EMAIL_FORM = r"^[^@\s]+@[^@\s]+[.][^@\s]+$"
CURRENCY_FORM = "^[A-Za-z]{3}$"


class Guard(NamedTuple):
    """One check of the catalogue."""

    group: Group
    table: str
    expectation: str
    severity: Severity


@dataclass(frozen=True)
class Rule:
    """One expectation of a suite.

    In its SQL, `{table}` stands for the guarded table and `{keys}` for the suite's keys. All the rules of a suite are
    counted in one statement over the table, so a rule that needs no join or window costs next to nothing.

    Attributes:
        name: unique within its suite; a person reads it on the check.
        description: what holds when it passes, or what a failure means.
        breaks: SQL aggregate over the table: how many rows, or other things, break the rule.
        names: SQL query over the table that tells what breaks it, by keys, counts and names of columns alone; None where
            the table as a whole does.
        share: the rule passes as long as at least this share of the rows keeps it.
        reason: why a failure is a warning and no error; a rule without one is an error.
        of_rows: whether what is counted are rows; else deliveries, columns, groups of rows or the table as a whole.
    """

    name: str
    description: str
    breaks: str
    names: str | None = None
    share: float = 1.0
    reason: str | None = None
    of_rows: bool = True

    def __post_init__(self) -> None:
        if self.reason is not None and not self.reason.strip():
            raise ValueError(f"rule {self.name}: a warning needs a reason")

    @property
    def severity(self) -> Severity:
        """A failing error blocks what is downstream, a warning does not."""
        return "error" if self.reason is None else "warning"


@dataclass(frozen=True)
class Suite:
    """The rules of one table.

    Attributes:
        table: `schema.table`.
        keys: the columns that name a failing row; never personal data.
        optional: whether the table may be without data, as one of a source that is not required.
    """

    group: Group
    table: str
    keys: tuple[str, ...]
    rules: tuple[Rule, ...] = field(repr=False)
    optional: bool = False

    def __post_init__(self) -> None:
        names = [rule.name for rule in self.rules]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"suite {self.table} has more than one rule named {sorted(repeated)}")

    @property
    def schema(self) -> str:
        return self.table.split(".")[0]

    @property
    def name(self) -> str:
        return self.table.split(".")[1]

    def sql(self, text: str) -> str:
        """A rule's SQL with this table and its keys in place."""
        keys = ", ".join(f"{self.name}.{key}" for key in self.keys)
        return text.replace("{table}", self.table).replace("{keys}", keys)

    def guards(self) -> list[Guard]:
        """Its part of the catalogue."""
        return [Guard(self.group, self.table, rule.name, rule.severity) for rule in self.rules]


# Rules about rows


def none_where(name: str, condition: str, description: str, *, share: float = 1.0, reason: str | None = None) -> Rule:
    """No row meets `condition`: SQL over the table, whose columns it may qualify with the table's own name."""
    return Rule(
        name,
        f"{description}{_in_share(share)}",
        f"count(*) filter (where {condition})",
        f"select {{keys}} from {{table}} where {condition}",
        share,
        reason,
    )


def given(column: str, *, share: float = 1.0, reason: str | None = None) -> Rule:
    """`column` is not null, in at least `share` of the rows."""
    return none_where(f"{column}_given", f"{column} is null", f"{column} is given", share=share, reason=reason)


def one_of(column: str, values: Sequence[str], *, name: str | None = None, reason: str | None = None) -> Rule:
    """`column`, where given, is one of `values`, to the letter. With a `name`, it may be an expression."""
    allowed = ", ".join(map(_quoted, values))
    name = name or f"{column}_known"
    said = f"{name.removesuffix('_known')} is one of {', '.join(values)}"
    return none_where(name, f"{column} not in ({allowed})", said, reason=reason)


def between(
    column: str,
    low: float | str | None,
    high: float | str | None,
    *,
    share: float = 1.0,
    above_low: bool = False,
    reason: str | None = None,
) -> Rule:
    """`column`, where given, lies in [low, high] (with `above_low` in (low, high])."""
    outside, bounds = [], []
    if low is not None:
        outside.append(f"{column} {'<=' if above_low else '<'} {_literal(low)}")
        bounds.append(f"{'above' if above_low else 'at least'} {low}")
    if high is not None:
        outside.append(f"{column} > {_literal(high)}")
        bounds.append(f"at most {high}")
    return none_where(
        f"{column}_plausible", " or ".join(outside), f"{column} is {' and '.join(bounds)}", share=share, reason=reason
    )


def matches(name: str, column: str, form: str, description: str, *, reason: str | None = None) -> Rule:
    """`column`, where given, has a form (a regular expression)."""
    return none_where(name, f"not regexp_matches({column}, {_quoted(form)})", description, reason=reason)


def unique(
    columns: Sequence[str], *, name: str | None = None, description: str | None = None, reason: str | None = None
) -> Rule:
    """No two rows share the values of `columns`, all of them given.

    The broken count is of surplus rows: those that would have to go.
    """
    listed = ", ".join(columns)
    key = f"({listed})" if len(columns) > 1 else listed
    complete = " and ".join(f"{column} is not null" for column in columns)
    return Rule(
        name or f"{'_and_'.join(columns)}_unique",
        description or f"No two rows have the same {' and '.join(columns)}",
        f"count(*) filter (where {complete}) - count(distinct {key}) filter (where {complete})",
        f"select {{keys}} from {{table}} where {complete} qualify count(*) over (partition by {listed}) > 1",
        reason=reason,
    )


def form_rules(columns: Sequence[str], *, raw: bool) -> list[Rule]:
    """What the columns of these names look like, wherever they are: as delivered, or as staging writes them."""
    forms = _RAW_FORMS if raw else _STAGED_FORMS
    return [forms[column] for column in columns if column in forms]


# Rules about the table


def has_rows() -> Rule:
    """The table holds at least one row."""
    return Rule(
        "has_rows", "The table holds at least one row", "case when count(*) = 0 then 1 else 0 end", of_rows=False
    )


def never(name: str, condition: str, description: str, *, reason: str | None = None) -> Rule:
    """The table as a whole does not meet `condition`: SQL with aggregates."""
    return Rule(name, description, f"case when {condition} then 1 else 0 end", reason=reason, of_rows=False)


def none_from(name: str, query: str, description: str, *, share: float = 1.0, reason: str | None = None) -> Rule:
    """`query` returns no row. What it selects names what is wrong: keys, counts and names of columns alone."""
    return Rule(name, description, f"(select count(*) from ({query}))", query, share, reason, "{keys}" in query)


# Rules of the lake that need no file


def contract_rules(table: Table) -> list[Rule]:
    """What a lake table's contract says of every accepted row: columns and types, required, allowed values, keys.

    Values are compared as the loader compares them, trimmed and without regard to case.
    """
    expected = ", ".join(f"('{column.name}', '{column.data_type.upper()}')" for column in table.columns)
    rules = [
        none_from(
            "columns_as_in_contract",
            f"select expected.column_name from (values {expected}) as expected (column_name, column_type)"
            " left join (select column_name, data_type from duckdb_columns()"
            f" where schema_name = 'lake_{table.source}' and table_name = '{table.name}') as found using (column_name)"
            " where found.data_type is distinct from expected.column_type",
            "Every column of the contract is there with its type",
        ),
        unique(ROW, name="row_named_once", description="delivery_id and row_number name each row"),
        none_where("row_is_named", "delivery_id is null or row_number is null", "delivery_id and row_number are given"),
    ]
    rules += [given(column.name) for column in table.columns if column.required]
    for column in table.columns:
        if column.values:
            rules.append(
                none_where(
                    f"{column.name}_known",
                    f"lower(trim({column.name})) not in ({', '.join(map(_quoted, column.values))})",
                    f"{column.name} is one of {', '.join(column.values)}",
                    reason=None
                    if column.required
                    else "The column is optional: a value outside the list is kept and read as unknown.",
                )
            )
    rules += _key_rules(table)
    if table.occurred_at:
        rules += _instant_rules(table, table.occurred_at)
    return rules


def delivery_rules(table: Table) -> list[Rule]:
    """What only history can tell of a table: whether it is fresh, of the usual size, and much as it was.

    The figures come from `expectations.history`, which leaves out what was delivered as history.
    """
    of_table = f"source = '{table.source}' and table_name = '{table.name}'"
    rules = [
        none_from(
            "delivered_in_time",
            "select 'last delivery ' || round(age_days, 1) || ' days before as_of; usual are ' || round(usual_days, 1)"
            f" as said from history.freshness where {of_table} and age_days > allowed_days",
            "The newest delivery is no older than three times the usual distance between deliveries"
            " (35 days while there are fewer than four)",
            reason="What was delivered before still holds, and every audience made of it is reviewed before it is sent.",
        ),
        none_from(
            "most_rows_accepted",
            f"select {_DELIVERY} || rows_rejected || ' of ' || rows_read || ' rows rejected' as said"
            f" from history.volumes where {of_table} and rows_rejected > 0.05 * rows_read",
            "At most 5 % of the newest delivery's rows were rejected",
            reason="Rejected rows wait in quarantine with their reasons, and count as soon as they are replayed.",
        ),
        none_from(
            "columns_as_before",
            f"select {_DELIVERY} || column_name || ' ' || kind as said from history.changes where {of_table}",
            "The newest delivery has the columns that the contract and earlier deliveries have, under the same names and"
            " filled alike",
            reason="The rows were taken in without what the column would tell; what can't be read is rejected or refused.",
        ),
        none_from(
            "as_many_rows_as_usual",
            f"select {_DELIVERY} || rows_taken || ' rows; usual are ' || round(usual_rows) as said"
            f" from history.volumes where {of_table} and predecessors >= 3"
            " and (rows_taken < 0.5 * usual_rows or rows_taken > 2 * usual_rows)",
            "The newest delivery has between half and twice the rows that its predecessors have (their median, of at"
            " least three)",
            reason="Trade has seasons and sales: a large or a small delivery may be right, and a missing one can follow.",
        ),
        none_from(
            "distributions_as_before",
            "select column_name || ': ' || round(shift, 2) as said"
            f" from history.drift where {of_table} and shift > {DRIFTED}",
            "The values of each column are distributed in the newest delivery as in all earlier ones (population"
            f" stability index, less what chance alone gives, at most {DRIFTED})",
            reason="Assortments, prices and campaigns do change; whether the source or the business did, a person says.",
        ),
    ]
    if table.delivery_mode == "snapshot":
        rules.append(
            none_from(
                "snapshot_is_whole",
                f"select {_DELIVERY} || rows_taken || ' rows; usual are ' || round(usual_rows) as said"
                f" from history.volumes where {of_table} and predecessors >= 3 and rows_taken < 0.1 * usual_rows",
                "A snapshot is the whole table: one with less than a tenth of the usual rows would wipe the rest out."
                " Deliver it again",
            )
        )
    elif table.occurred_at:
        rules.append(
            none_from(
                "rows_are_recent",
                "select 'newest row ' || round(row_age_days, 1) || ' days before as_of' as said"
                f" from history.freshness where {of_table} and row_age_days > allowed_days"
                " and age_days <= allowed_days",
                "Deliveries that come in time bring recent rows; others repeat what is old",
                reason="Old rows delivered again change nothing; what is missing can follow.",
            )
        )
    return rules


DRIFTED = 0.25
"""Population stability index from which a distribution is another: the usual bound of its users (Siddiqi, *Credit Risk
Scorecards*, 2006, ch. 9). What chance gives is Yurdakul and Naranjo's mean (*J. Risk Model Validation* 14, 2020)."""

_DELIVERY = "'delivery ' || delivery_id || ': '"


def _key_rules(table: Table) -> list[Rule]:
    names = set(table.column_names)
    if table.entity_key and "line_number" in names:
        return [
            unique(
                ("delivery_id", *table.entity_key, "line_number"),
                name="line_number_once_per_entity",
                description=f"Within one {' and '.join(table.entity_key)} of a delivery a line_number names one line",
                reason="Lines of one number are all kept as real lines: sources do number carelessly.",
            )
        ]
    if table.entity_key:
        return [
            unique(
                ("delivery_id", *table.entity_key),
                name="entity_once_per_delivery",
                description=f"A delivery tells one {' and '.join(table.entity_key)} once",
                reason="Of a repeated one the last row of the delivery counts, whatever the others say.",
            )
        ]
    if table.event_key:
        key = ", ".join(table.event_key)
        return [
            never(
                "most_events_are_new",
                f"count(distinct ({key})) < 0.5 * count({table.event_key[0]})",
                f"More than half of the rows repeat a {key} that was told already",
                reason="Repeats are dropped, so nothing is counted twice; but a source that sends all twice is broken.",
            )
        ]
    return []


def _instant_rules(table: Table, occurred_at: str) -> list[Rule]:
    return [
        between(occurred_at, "1990-01-01", "2100-01-01", share=0.99),
        none_from(
            "told_after_it_happened",
            f"select {{keys}} from {{table}} inner join lake.deliveries as deliveries"
            f" on deliveries.delivery_id = {table.name}.delivery_id and deliveries.source = '{table.source}'"
            f" and deliveries.table_name = '{table.name}'"
            f" where {table.name}.{occurred_at} > deliveries.received_at + interval 1 day",
            "At least 99 % of the rows happened before they were delivered: many that did not point to a wrong unit or"
            " time zone, and such rows count only when their day has come",
            share=0.99,
        ),
    ]


def _literal(value: float | str) -> str:
    return _quoted(value) if isinstance(value, str) else str(value)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _in_share(share: float) -> str:
    return "" if share == 1.0 else f" in at least {100 * share:.4g} % of the rows"


_RAW_FORMS = {
    "email": matches(
        "email_has_a_form",
        "trim(email)",
        EMAIL_FORM,
        "email has the form of an address",
        reason="People mistype: such a value is kept raw, marked, and used for nothing.",
    ),
    "currency": matches(
        "currency_is_a_code",
        "trim(currency)",
        CURRENCY_FORM,
        "currency is an ISO 4217 code; another text finds no exchange rate",
    ),
}
_STAGED_FORMS = {
    "email": none_where(
        "email_is_normalised",
        f"email <> lower(trim(email)) or not regexp_matches(email, '{EMAIL_FORM}')",
        "email is a normalised address: refusals are matched by it",
    ),
    "phone": matches("phone_is_e164", "phone", "^[+][1-9][0-9]{6,14}$", "phone is in E.164"),
    "country_code": matches(
        "country_code_is_iso",
        "country_code",
        "^[A-Z]{2}$",
        "country_code is two capital letters: what a country demands of consent is found by it",
    ),
    "currency": matches(
        "currency_is_normalised",
        "currency",
        "^[A-Z]{3}$",
        "currency is three capital letters: exchange rates are found by it",
    ),
    "product_id": none_where(
        "product_id_is_normalised",
        "product_id <> upper(trim(product_id)) or product_id = ''",
        "product_id is trimmed and in upper case: products are joined by it",
    ),
}
