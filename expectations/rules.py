"""What a suite is made of: named rules, each a kind of Great Expectations' expectation with a severity.

Nothing here imports Great Expectations (seconds), so that whoever only needs the names of the checks stays quick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from core.contract import Table

Group = Literal["raw", "marts"]
Severity = Literal["critical", "warning"]

ROW = ("delivery_id", "row_number")
"""What names a row of the lake."""


class Guard(NamedTuple):
    """One check of the catalogue."""

    group: Group
    table: str
    expectation: str
    severity: Severity


@dataclass(frozen=True)
class Rule:
    """One expectation of a suite.

    Attributes:
        name: unique within its suite; a person reads it on the check.
        kind: class of `great_expectations.expectations`.
        arguments: what that class takes, less severity and notes.
        severity: a failing critical rule blocks what is downstream, a warning does not.
        description: what a failure means.
        names_rows: whether failing rows can be told by the suite's keys; false for rules about a whole table.
    """

    name: str
    kind: str
    arguments: Mapping[str, Any]
    severity: Severity
    description: str
    names_rows: bool = True


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

    def guards(self) -> list[Guard]:
        """Its part of the catalogue."""
        return [Guard(self.group, self.table, rule.name, rule.severity) for rule in self.rules]


def has_rows(at_least: int = 1, severity: Severity = "critical") -> Rule:
    """The table holds at least so many rows."""
    return Rule(
        "has_rows",
        "ExpectTableRowCountToBeBetween",
        {"min_value": at_least},
        severity,
        f"The table holds {at_least} row(s) or more.",
        names_rows=False,
    )


def given(column: str, severity: Severity = "critical", *, share: float = 1.0) -> Rule:
    """`column` is not null, in at least `share` of the rows."""
    return Rule(
        f"{column}_given",
        "ExpectColumnValuesToNotBeNull",
        {"column": column, **_mostly(share)},
        severity,
        f"{column} is given{_in_share(share)}.",
    )


def one_of(column: str, values: Sequence[str | int], severity: Severity = "critical") -> Rule:
    """`column`, where given, is one of `values`."""
    return Rule(
        f"{column}_known",
        "ExpectColumnValuesToBeInSet",
        {"column": column, "value_set": list(values)},
        severity,
        f"{column} is one of {', '.join(map(str, values))}.",
    )


def between(
    column: str,
    low: float | str | None,
    high: float | str | None,
    severity: Severity = "critical",
    *,
    share: float = 1.0,
    strict_low: bool = False,
) -> Rule:
    """`column`, where given, lies in [low, high] (or (low, high]) in at least `share` of the rows."""
    bounds = [f"{'above' if strict_low else 'at least'} {low}"] if low is not None else []
    bounds += [f"at most {high}"] if high is not None else []
    return Rule(
        f"{column}_plausible",
        "ExpectColumnValuesToBeBetween",
        {"column": column, "min_value": low, "max_value": high, "strict_min": strict_low, **_mostly(share)},
        severity,
        f"{column} is {' and '.join(bounds)}{_in_share(share)}.",
    )


def unique(column: str, severity: Severity = "critical") -> Rule:
    """No two rows share a value of `column`."""
    return Rule(
        f"{column}_unique",
        "ExpectColumnValuesToBeUnique",
        {"column": column},
        severity,
        f"No two rows have the same {column}.",
    )


def none_where(name: str, condition: str, keys: Sequence[str], severity: Severity, description: str) -> Rule:
    """No row meets `condition`: SQL over the table, which is called `guarded`.

    Great Expectations' own kinds with regular expressions do not know DuckDB's dialect; they are written so.
    """
    columns = ", ".join(f"guarded.{key}" for key in keys)
    return none_from(
        name, f"select {columns} from (select * from {{batch}}) as guarded where {condition}", severity, description
    )


def none_from(name: str, query: str, severity: Severity, description: str, *, names_rows: bool = True) -> Rule:
    """`query` over `{batch}` returns no row. It selects the suite's keys and nothing else."""
    return Rule(name, "UnexpectedRowsExpectation", {"unexpected_rows_query": query}, severity, description, names_rows)


def contract_rules(table: Table) -> list[Rule]:
    """What a lake table's contract says of every accepted row: columns and types, required, allowed values.

    Values are compared as the loader compares them, trimmed and without regard to case.
    """
    expected = ", ".join(f"('{column.name}', '{column.data_type.upper()}')" for column in table.columns)
    rules = [
        none_from(
            "columns_as_in_contract",
            f"select expected.column_name from (values {expected}) as expected (column_name, column_type)"
            " left join (describe select * from {batch}) as found using (column_name)"
            " where found.column_type is distinct from expected.column_type",
            "critical",
            "Every column of the contract is there with its type.",
            names_rows=False,
        ),
        none_from(
            "row_named_once",
            "select delivery_id, row_number from {batch} group by delivery_id, row_number having count(*) > 1"
            " or delivery_id is null or row_number is null",
            "critical",
            "delivery_id and row_number name each row.",
        ),
    ]
    rules += [given(column.name) for column in table.columns if column.required]
    for column in table.columns:
        if column.values:
            allowed = ", ".join(f"'{value}'" for value in column.values)
            rules.append(
                none_where(
                    f"{column.name}_known",
                    f"lower(trim(guarded.{column.name})) not in ({allowed})",
                    ROW,
                    "critical" if column.required else "warning",
                    f"{column.name} is one of {', '.join(column.values)}.",
                )
            )
    return rules


def _mostly(share: float) -> dict[str, float]:
    return {} if share == 1.0 else {"mostly": share}


def _in_share(share: float) -> str:
    return "" if share == 1.0 else f" in at least {share:.4g} of the rows"
