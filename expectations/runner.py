"""Run suites inside DuckDB, report each check without contents, keep the results and write the data docs."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from core.contract import load_contract
from core.home import Home
from core.settings import Settings
from core.warehouse import in_memory, warehouse
from expectations import history, raw_views, results
from expectations.results import CheckResult, TableResult
from expectations.rules import Group, Rule, Suite
from expectations.suites import suites

if TYPE_CHECKING:
    import duckdb
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext

    from expectations.duckdb import DuckDBDatasource

__all__ = ["CheckResult", "check", "run"]

EXAMPLES = 5
"""Failing rows named per check."""
NO_DATA = "no data was delivered for this optional table"

_log = logging.getLogger(__name__)


def run(
    settings: Settings,
    home: Home,
    groups: Collection[Group],
    *,
    tables: Collection[str] | None = None,
    wait_seconds: float = 0.0,
    as_of: datetime | None = None,
    docs: bool = True,
) -> list[CheckResult]:
    """Check the tables of `groups`, keep what was found and rewrite their pages under `home.docs / "gx"`.

    Raw checks read the lake alone; all others open the warehouse, under its lock.

    Args:
        groups: `raw` by itself, or any of the others.
        tables: only these (`schema.table`), all of the groups by default.
        wait_seconds: how long to wait for another process that has the warehouse.
        as_of: what freshness is measured against; the home's clock file tells when not given.
        docs: whether to keep the results and write data docs.

    Returns:
        One result per rule of the catalogue, in its order.

    Raises:
        ValueError: `groups` has `raw` beside another one.
        WarehouseBusyError: another process has the warehouse.
    """
    if "raw" in groups and len(set(groups)) > 1:
        raise ValueError("raw checks do not open the warehouse: run them by themselves")
    chosen = [suite for suite in suites() if suite.group in groups and (tables is None or suite.table in tables)]
    instant = as_of or _clock(home)
    # Before the warehouse is opened, as importing takes seconds and the lock keeps others waiting.
    _import_great_expectations()
    with _connected(settings, home, "raw" in groups, wait_seconds, instant) as connection:
        found = check(connection, chosen)
    if docs:
        _keep(home, chosen, found, instant)
    return found


def check(connection: duckdb.DuckDBPyConnection, chosen: Sequence[Suite]) -> list[CheckResult]:
    """Check `chosen` suites on an open connection. Returns one result per rule, in their order."""
    from expectations.duckdb import add_datasource

    source = add_datasource(_context(), "warehouse", connection)
    present = {
        f"{schema}.{name}"
        for schema, name in connection.execute(
            "select table_schema, table_name from information_schema.tables"
        ).fetchall()
    }
    found: list[CheckResult] = []
    for suite in chosen:
        started = time.perf_counter()
        if suite.table in present:
            found += _check_suite(connection, source, suite)
        else:
            found += [_unevaluated(suite, rule, "the table does not exist") for rule in suite.rules]
        _log.debug("%s: %d rules in %.3f s", suite.table, len(suite.rules), time.perf_counter() - started)
    source.get_execution_engine().close()
    return found


def _check_suite(connection: duckdb.DuckDBPyConnection, source: DuckDBDatasource, suite: Suite) -> list[CheckResult]:
    asset = source.add_table_asset(suite.table, table_name=suite.name, schema_name=suite.schema)
    batch = asset.add_batch_definition_whole_table("all").get_batch()

    def validate(rules: Sequence[Rule]) -> Mapping[str, ExpectationValidationResult]:
        validated = batch.validate(_expectation_suite(suite, rules), result_format="BASIC")
        return {str(result.expectation_config.meta["name"]): result for result in validated.results}

    by_name = validate(suite.rules)
    if any(_exception(result) for result in by_name.values()):
        # One statement counts them all, so one rule that can't be evaluated takes the others with it: now each alone.
        by_name = {name: result for rule in suite.rules for name, result in validate([rule]).items()}
    found = [_check_result(connection, suite, rule, by_name[rule.name]) for rule in suite.rules]
    if suite.optional and all(result.checked == 0 and not result.detail for result in found):
        # What concerns deliveries may fail also where no row is left; all else has nothing to look at.
        return [
            _skipped(suite, rule) if result.passed else result for rule, result in zip(suite.rules, found, strict=True)
        ]
    return found


@contextmanager
def _connected(
    settings: Settings, home: Home, raw: bool, wait_seconds: float, as_of: datetime
) -> Iterator[duckdb.DuckDBPyConnection]:
    if not raw:
        with warehouse(settings, home, wait_seconds=wait_seconds) as connection:
            yield connection
        return
    tables = list(load_contract().tables.values())
    with in_memory(settings) as connection:
        raw_views.create(connection, home, tables, as_of)
        history.create(connection, tables)
        yield connection


def _keep(home: Home, chosen: Sequence[Suite], found: Sequence[CheckResult], as_of: datetime) -> None:
    from expectations import data_docs

    by_table: dict[str, list[CheckResult]] = {}
    for result in found:
        by_table.setdefault(result.table, []).append(result)
    new = [TableResult(suite.table, suite.group, as_of, tuple(by_table[suite.table])) for suite in chosen]
    kept = results.keep(home, new, [suite.table for suite in suites()])
    data_docs.write(home, kept)


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


def _expectation_suite(suite: Suite, rules: Sequence[Rule]) -> Any:
    import great_expectations as gx
    from great_expectations.expectations.metadata_types import FailureSeverity

    from expectations.kinds import ExpectFewBroken

    expectations = [
        ExpectFewBroken(
            breaks=suite.sql(rule.breaks),
            share=rule.share,
            severity=FailureSeverity.CRITICAL if rule.severity == "error" else FailureSeverity.WARNING,
            description=rule.description,
            notes=rule.reason,
            meta={"name": rule.name},
        )
        for rule in rules
    ]
    return gx.ExpectationSuite(name=suite.table, expectations=expectations)


def _check_result(
    connection: duckdb.DuckDBPyConnection, suite: Suite, rule: Rule, result: ExpectationValidationResult
) -> CheckResult:
    if reason := _exception(result):
        return _unevaluated(suite, rule, reason)
    unexpected = int(result.result["unexpected_count"])
    return CheckResult(
        suite.table,
        rule.name,
        rule.severity,
        bool(result.success),
        int(result.result["element_count"]),
        unexpected,
        _examples(connection, suite, rule) if not result.success else (),
        description=rule.description,
        reason=rule.reason,
        of_rows=rule.of_rows,
    )


def _examples(connection: duckdb.DuckDBPyConnection, suite: Suite, rule: Rule) -> tuple[tuple[str | int, ...], ...]:
    """A few of the things that break a rule, by what the rule names them by."""
    if rule.names is None or ("{keys}" in rule.names and not suite.keys):
        return ()
    query = f"select * from ({suite.sql(rule.names)}) order by all limit {EXAMPLES}"
    return tuple(
        tuple(value if isinstance(value, int) else str(value) for value in row)
        for row in connection.execute(query).fetchall()
    )


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


def _unevaluated(suite: Suite, rule: Rule, detail: str) -> CheckResult:
    return CheckResult(
        suite.table,
        rule.name,
        rule.severity,
        False,
        0,
        0,
        detail=detail,
        description=rule.description,
        reason=rule.reason,
        of_rows=rule.of_rows,
    )


def _skipped(suite: Suite, rule: Rule) -> CheckResult:
    return CheckResult(
        suite.table,
        rule.name,
        rule.severity,
        True,
        0,
        0,
        skipped=True,
        detail=NO_DATA,
        description=rule.description,
        reason=rule.reason,
        of_rows=rule.of_rows,
    )


def _clock(home: Home) -> datetime:
    """The as_of of the run in progress, else the home's own, else the beginning of time."""
    if home.clock.exists():
        return datetime.fromisoformat(json.loads(home.clock.read_text())["as_of"]).replace(tzinfo=UTC)
    return home.as_of or datetime(1970, 1, 1, tzinfo=UTC)
