"""The suite of what staging makes of a lake table, as far as the contract tells it.

Staging keeps the versions of what changes, drops the repeats of small event tables and writes each kind of value one way. So its suite
looks at the grain, at what must not get lost, and at the one way; what staging passes through as it is was looked at as delivered.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.contract import Table
from expectations.rules import Rule, Suite, form_rules, given, none_where, one_of, unique
from expectations.suites.lake import REQUIRED


def suite(
    table: Table, own: Sequence[Rule] = (), *, keys: Sequence[str] | None = None, versions: bool = False
) -> Suite:
    """The suite of `stg_<source>__<table>`, `own` rules included.

    Args:
        keys: what names a failing row, where it is not the entity or event, and for tables of lines.
        versions: the model keeps every version of an entity, or every telling of an event, so that neither names a row.
    """
    grain = table.entity_key or table.event_key
    lines = "line_number" in table.column_names
    rules: list[Rule] = []
    if lines or versions:
        rules.append(unique(keys or ("delivery_id", "row_number"), name="row_told_once"))
    elif grain:
        rules.append(unique(grain, name="entity_told_once" if table.entity_key else "event_told_once"))
    rules += [given(column.name) for column in table.columns if column.required and not column.pii]
    rules.append(given("known_at"))
    if table.occurred_at:
        rules.append(
            none_where(
                "known_no_earlier_than_it_happened",
                f"known_at < {table.occurred_at}",
                f"known_at is not before {table.occurred_at}, else the past learns from the future",
            )
        )
    rules += [
        _written_one_way(column.name, column.values, column.required) for column in table.columns if column.values
    ]
    names = [*table.column_names, *(["country_code"] if "country" in table.column_names else [])]
    rules += form_rules(list(dict.fromkeys(names)), raw=False)
    return Suite(
        group="staging",
        table=f"staging.stg_{table.source}__{table.name}",
        keys=tuple(keys if keys is not None else ("delivery_id", "row_number") if lines or versions else grain),
        rules=(*rules, *own),
        optional=(table.source, table.name) not in REQUIRED,
    )


def _written_one_way(column: str, values: Sequence[str], required: bool) -> Rule:
    if required:
        return one_of(column, values)
    return none_where(
        f"{column}_is_normalised", f"{column} <> lower(trim({column}))", f"{column} is trimmed and in small letters"
    )
