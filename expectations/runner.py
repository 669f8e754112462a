"""Run the suites of a group inside DuckDB, report each check without contents, and write the data docs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from core.contract import load_contract
from core.home import Home
from core.settings import Settings
from core.warehouse import in_memory, warehouse
from expectations import raw_views
from expectations.rules import Group, Rule, Severity, Suite
from expectations.suites import suites

if TYPE_CHECKING:
    import duckdb
    from great_expectations.core import ExpectationSuiteValidationResult, ExpectationValidationResult
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext

EXAMPLES = 5
"""Failing rows named per check."""


@dataclass(frozen=True)
class CheckResult:
    """What one check found. Holds no contents: failing rows are told by their keys.

    Attributes:
        table: `schema.table`.
        severity: a failing critical check blocks what is downstream, a failing warning does not.
        passed: also true of a skipped check.
        checked: rows looked at.
        unexpected: rows, or groups of rows, that break the rule.
        examples: keys of a few of them: (delivery_id, row_number) in the lake, the table's own keys in a mart.
        skipped: the table belongs to no required source and has no data.
        detail: what to know beside the counts: why it was skipped, or could not be evaluated.
    """

    table: str
    name: str
    severity: Severity
    passed: bool
    checked: int
    unexpected: int
    examples: tuple[tuple[str | int, ...], ...] = ()
    skipped: bool = False
    detail: str = ""

    @property
    def blocks(self) -> bool:
        """Whether what is downstream must not run."""
        return not self.passed and self.severity == "critical"


def run(
    settings: Settings,
    home: Home,
    group: Group,
    *,
    wait_seconds: float = 0.0,
    as_of: datetime | None = None,
    docs: bool = True,
) -> list[CheckResult]:
    """Check the tables of `group`, and replace its data docs under `home.docs / "gx"`.

    Raw checks read the accepted files alone; those of the marts open the warehouse, under its lock.

    Args:
        wait_seconds: how long to wait for another process that has the warehouse.
        as_of: what the data docs are labelled with; the home's clock file tells when not given.
        docs: whether to write data docs.

    Returns:
        One result per rule of the catalogue, in its order.

    Raises:
        WarehouseBusyError: another process has the warehouse.
    """
    # Before the warehouse is opened, as importing takes seconds and the lock keeps others waiting.
    _import_great_expectations()
    with _connected(settings, home, group, wait_seconds) as connection:
        return check(connection, home, suites(group), as_of=as_of, docs=docs)


def check(
    connection: duckdb.DuckDBPyConnection,
    home: Home,
    chosen: Sequence[Suite],
    *,
    as_of: datetime | None = None,
    docs: bool = True,
) -> list[CheckResult]:
    """Check `chosen` suites of one group on an open connection. See `run`."""
    from expectations import data_docs
    from expectations.duckdb import add_datasource

    context = _context()
    source = add_datasource(context, "warehouse", connection)
    validated: list[tuple[Suite, ExpectationSuiteValidationResult]] = []
    results: list[CheckResult] = []
    for suite in chosen:
        if (rows := _row_count(connection, suite)) is None:
            results += [_unevaluated(suite, rule, "the table does not exist") for rule in suite.rules]
            continue
        if suite.optional and rows == 0:
            results += [_skipped(suite, rule) for rule in suite.rules]
            continue
        asset = source.add_table_asset(suite.table, table_name=suite.name, schema_name=suite.schema)
        batch = asset.add_batch_definition_whole_table("all").get_batch()
        # Of a failing row, Great Expectations may keep its keys and nothing else.
        found = batch.validate(
            _expectation_suite(suite),
            result_format={
                "result_format": "SUMMARY",
                "unexpected_index_column_names": list(suite.keys),
                "exclude_unexpected_values": True,
                "include_unexpected_rows": False,
                "return_unexpected_index_query": False,
                "partial_unexpected_count": EXAMPLES,
            },
        )
        by_name = {str(result.expectation_config.meta["name"]): result for result in found.results}
        for rule in suite.rules:
            result = by_name[rule.name]
            checked = _check_result(connection, suite, rule, rows, result)
            data_docs.strip(result, checked)
            results.append(checked)
        # In the order of the suite: Great Expectations groups results by column.
        found.results = [by_name[rule.name] for rule in suite.rules]
        validated.append((suite, found))
    source.get_execution_engine().close()
    if docs:
        data_docs.write(context, home, chosen[0].group, validated, as_of or _clock(home))
    return results


@contextmanager
def _connected(
    settings: Settings, home: Home, group: Group, wait_seconds: float
) -> Iterator[duckdb.DuckDBPyConnection]:
    if group == "marts":
        with warehouse(settings, home, wait_seconds=wait_seconds) as connection:
            yield connection
        return
    contract = load_contract()
    with in_memory(settings) as connection:
        shop = [table for table in contract.tables.values() if table.source == "shop"]
        raw_views.create(connection, home, shop)
        yield connection


def _import_great_expectations() -> None:
    # Read at import: without it, Great Expectations reports its use to its makers.
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    # Its log would repeat values of rows that a query can't convert.
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    import great_expectations  # noqa: F401  # imported for the side effect of being there


def _context() -> EphemeralDataContext:
    _import_great_expectations()
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return context


def _expectation_suite(suite: Suite) -> Any:
    import great_expectations as gx

    expectations = [
        getattr(gx.expectations, rule.kind)(
            **rule.arguments,
            severity=rule.severity,
            notes=rule.description,
            meta={"name": rule.name},
            **({"description": rule.description} if rule.kind == "UnexpectedRowsExpectation" else {}),
        )
        for rule in suite.rules
    ]
    return gx.ExpectationSuite(name=suite.table, expectations=expectations)


def _row_count(connection: duckdb.DuckDBPyConnection, suite: Suite) -> int | None:
    """Rows of the table, or None if there is no such table."""
    exists = connection.execute(
        "select count(*) from information_schema.tables where table_schema = ? and table_name = ?",
        [suite.schema, suite.name],
    ).fetchall()
    if exists == [(0,)]:
        return None
    return int(connection.execute(f"select count(*) from {suite.table}").fetchall()[0][0])


def _check_result(
    connection: duckdb.DuckDBPyConnection, suite: Suite, rule: Rule, rows: int, result: ExpectationValidationResult
) -> CheckResult:
    if reason := _exception(result):
        return _unevaluated(suite, rule, reason, rows)
    found = result.result
    passed = bool(result.success)
    if rule.kind == "UnexpectedRowsExpectation":
        unexpected = int(found["observed_value"])
        examples = _rows_returned(connection, suite, rule) if unexpected and rule.names_rows else ()
    elif rule.names_rows:
        unexpected = int(found.get("unexpected_count") or 0)
        examples = _rows_listed(found.get("partial_unexpected_index_list") or [], suite.keys)
    else:
        unexpected, examples = int(not passed), ()
    return CheckResult(suite.table, rule.name, rule.severity, passed, rows, unexpected, examples)


def _rows_returned(
    connection: duckdb.DuckDBPyConnection, suite: Suite, rule: Rule
) -> tuple[tuple[str | int, ...], ...]:
    """Keys of the first rows that a query returns; the keys' columns alone, whatever it selects."""
    query = str(rule.arguments["unexpected_rows_query"]).format(batch=suite.table)
    keys = ", ".join(suite.keys)
    return tuple(connection.execute(f"select {keys} from ({query}) order by {keys} limit {EXAMPLES}").fetchall())


def _rows_listed(listed: Sequence[dict[str, Any]], keys: Sequence[str]) -> tuple[tuple[str | int, ...], ...]:
    """Great Expectations' index list: one dict of lists by key when values are left out, else one dict per row."""
    rows: list[tuple[str | int, ...]] = []
    for entry in listed:
        columns = [entry[key] if isinstance(entry[key], list) else [entry[key]] for key in keys]
        rows += zip(*columns, strict=True)
    return tuple(sorted(rows)[:EXAMPLES])


def _exception(result: ExpectationValidationResult) -> str | None:
    """Why an expectation could not be evaluated, by the error's kind alone: its text may quote values."""
    information = result.exception_info or {}
    entries = [information] if "raised_exception" in information else list(information.values())
    raised = [entry for entry in entries if isinstance(entry, dict) and entry.get("raised_exception")]
    if not raised:
        return None
    text = str(raised[0].get("exception_message", ""))
    kind = text.split("(", 1)[-1].split(")", 1)[0] if text.startswith("(") else "error"
    return f"could not be evaluated ({kind.rsplit('.', 1)[-1]}): a column is missing or of another type"


def _unevaluated(suite: Suite, rule: Rule, reason: str, rows: int = 0) -> CheckResult:
    return CheckResult(suite.table, rule.name, rule.severity, False, rows, 0, detail=reason)


def _skipped(suite: Suite, rule: Rule) -> CheckResult:
    reason = "no data was delivered for this optional table"
    return CheckResult(suite.table, rule.name, rule.severity, True, 0, 0, skipped=True, detail=reason)


def _clock(home: Home) -> datetime:
    """The as_of of the run in progress, else the home's own, else the beginning of time."""
    import json

    if home.clock.exists():
        return datetime.fromisoformat(json.loads(home.clock.read_text())["as_of"]).replace(tzinfo=UTC)
    return home.as_of or datetime(1970, 1, 1, tzinfo=UTC)
