"""The suite of a lake table: what the contract says of it, what its columns' names promise, what only history tells.

Every table of the contract has one, whether or not it has a file of its own here.
"""

from __future__ import annotations

from collections.abc import Sequence

from core.contract import Table
from expectations.rules import ROW, Rule, Suite, contract_rules, delivery_rules, form_rules, has_rows

REQUIRED = {("shop", "orders"), ("shop", "order_lines")}
"""Without these there is nothing to refresh; any other table may be without data."""


def suite(table: Table, own: Sequence[Rule] = ()) -> Suite:
    """The suite of `table`, `own` rules included: one row per row delivered and accepted, re-deliveries included."""
    required = (table.source, table.name) in REQUIRED
    return Suite(
        group="raw",
        table=f"lake_{table.source}.{table.name}",
        keys=ROW,
        rules=(
            *([has_rows()] if required else []),
            *contract_rules(table),
            *form_rules(table.column_names, raw=True),
            *own,
            *delivery_rules(table),
        ),
        optional=not required,
    )
