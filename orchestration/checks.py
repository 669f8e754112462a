"""Great Expectations' suites as asset checks: one op per group, so that a critical failure stands between two stages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from core.errors import RefreshError
from expectations.rules import Group
from expectations.suites import suites
from orchestration.runs import POOL
from orchestration.workshop import PATIENCE_SECONDS, Workshop

if TYPE_CHECKING:
    from expectations.runner import CheckResult

_TITLES: dict[Group, str] = {"raw": "Check what was delivered", "marts": "Check the marts"}


def expectation_checks(group: Group) -> dg.AssetChecksDefinition:
    """The checks of one group. Making them does not import Great Expectations."""
    specs = [
        dg.AssetCheckSpec(
            check_name(rule.name),
            asset=asset_key(suite.table),
            description=rule.description,
            blocking=rule.severity == "critical",
        )
        for suite in suites(group)
        for rule in suite.rules
    ]

    @dg.multi_asset_check(
        name=f"check_{group}",
        specs=specs,
        pool=POOL if group == "marts" else None,
        required_resource_keys={"workshop"},
        can_subset=True,
    )
    def checks(context: dg.AssetCheckExecutionContext) -> Iterator[Any]:
        shop: Workshop = context.resources.workshop
        wanted = context.selected_asset_check_keys
        with shop.step(_TITLES[group]):
            from expectations import runner

            results = runner.run(shop.settings, shop.home, group, wait_seconds=PATIENCE_SECONDS)
        for result in results:
            key = dg.AssetCheckKey(asset_key(result.table), check_name(result.name))
            if key in wanted:
                _count(shop, result)
                yield _as_dagster(result, key, str(shop.home.docs / "gx" / group / "index.html"))

    return checks


def asset_key(table: str) -> dg.AssetKey:
    """The asset that a suite guards: a lake table or a mart."""
    schema, name = table.split(".")
    return dg.AssetKey([schema.removeprefix("lake_"), name])


def check_name(expectation: str) -> str:
    """Distinct from the names of dbt's tests on the same asset."""
    return f"gx_{expectation}"


def _count(shop: Workshop, result: CheckResult) -> None:
    if result.passed and not result.skipped:
        shop.tally.checks_passed += 1
    elif result.blocks:
        shop.failure = shop.failure or RefreshError(describe(result))
    elif not result.passed:
        shop.tally.unheeded.append(f"{result.table}.{result.name}")


def describe(result: CheckResult) -> str:
    """A failed check in one line: the table, the rule, how many rows and the keys of a few."""
    rows = ", ".join(" row ".join(map(str, key)) for key in result.examples)
    counted = f"{result.unexpected:,} of {result.checked:,} rows" if result.unexpected else "the whole table"
    detail = result.detail or f"{counted}{f', among them {rows}' if rows else ''}"
    return f"check {result.name} on {result.table} failed: {detail}. What depends on it was not built"


def _as_dagster(result: CheckResult, key: dg.AssetCheckKey, docs: str) -> dg.AssetCheckResult:
    metadata: dict[str, Any] = {"checked_rows": result.checked, "unexpected_rows": result.unexpected}
    if result.examples:
        metadata["examples"] = dg.MetadataValue.md("\n".join(f"- {' / '.join(map(str, k))}" for k in result.examples))
    if result.skipped or result.detail:
        metadata["detail"] = result.detail
    metadata["data_docs"] = dg.MetadataValue.path(docs)
    return dg.AssetCheckResult(
        passed=result.passed,
        asset_key=key.asset_key,
        check_name=key.name,
        severity=dg.AssetCheckSeverity.ERROR if result.severity == "critical" else dg.AssetCheckSeverity.WARN,
        metadata=metadata,
    )
