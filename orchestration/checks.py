"""Great Expectations' suites as asset checks.

Those of the lake are an op of their own, which stands between the lake and dbt. All others run at the end of the op that
builds their table: a blocking check in an op of its own would have to run between two models of one stage, and
Dagster would cut the stage into pieces for it, each with a dbt start of its own.
"""

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from core.errors import RefreshError
from expectations.rules import GROUPS, Group
from expectations.suites import suites
from orchestration.workshop import PATIENCE_SECONDS, Workshop

if TYPE_CHECKING:
    from expectations.results import CheckResult

CLOCK = dg.AssetKey(["lake", "clock"])
WAREHOUSE_GROUPS: tuple[Group, ...] = tuple(group for group in GROUPS if group != "raw")


def lake_checks() -> dg.AssetChecksDefinition:
    """The checks of what was delivered. Making them does not import Great Expectations."""

    @dg.multi_asset_check(
        name="check_lake",
        specs=check_specs(["raw"]),
        required_resource_keys={"workshop"},
        can_subset=True,
    )
    def check_lake(context: dg.AssetCheckExecutionContext) -> Iterator[Any]:
        shop: Workshop = context.resources.workshop
        with shop.step("Check what was delivered"):
            results = run_suites(shop, ["raw"], context.selected_asset_check_keys)
        yield from results

    return check_lake


def check_specs(
    groups: Collection[Group] = WAREHOUSE_GROUPS, among: Collection[dg.AssetKey] | None = None
) -> list[dg.AssetCheckSpec]:
    """The checks of some groups, or of those of their tables that are `among` some assets."""
    return [
        dg.AssetCheckSpec(
            check_name(rule.name),
            asset=asset_key(suite.table),
            description=rule.description if rule.reason is None else f"{rule.description}. {rule.reason}",
            blocking=rule.severity == "error",
            additional_deps=[CLOCK] if suite.group == "raw" else [],
        )
        for suite in suites()
        if suite.group in groups and (among is None or asset_key(suite.table) in among)
        for rule in suite.rules
    ]


def run_suites(
    shop: Workshop, groups: Collection[Group], wanted: Collection[dg.AssetCheckKey]
) -> list[dg.AssetCheckResult]:
    """Run the suites that have a wanted check, count what passed and give the results that are wanted."""
    from expectations import data_docs, runner

    tables = {suite.table for suite in suites() if asset_key(suite.table) in {key.asset_key for key in wanted}}
    results = runner.run(shop.settings, shop.home, groups, tables=tables, wait_seconds=PATIENCE_SECONDS)
    found = []
    for result in results:
        key = dg.AssetCheckKey(asset_key(result.table), check_name(result.name))
        if key in wanted:
            _count(shop, result)
            found.append(_as_dagster(result, key, str(data_docs.page(shop.home, result.table))))
    return found


def asset_key(table: str) -> dg.AssetKey:
    """The asset that a suite guards: a lake table or a model."""
    schema, name = table.split(".")
    return dg.AssetKey([schema.removeprefix("lake_"), name])


def check_name(expectation: str) -> str:
    """Distinct from the names of dbt's tests on the same asset."""
    return f"gx_{expectation}"


def describe(result: "CheckResult") -> str:
    """A failed check in one line: the table, the rule, how many rows and the keys of a few."""
    rows = ", ".join(" row ".join(map(str, key)) for key in result.examples) if result.of_rows else ""
    among = f", among them {rows}" if rows else ""
    return f"check {result.name} on {result.table} failed: {result.found}{among}. What depends on it was not built"


def _count(shop: Workshop, result: "CheckResult") -> None:
    if result.passed and not result.skipped:
        shop.tally.checks_passed += 1
    elif result.blocks:
        shop.failure = shop.failure or RefreshError(describe(result))
    elif not result.passed:
        shop.tally.unheeded.append(f"{result.table}.{result.name}")


def _as_dagster(result: "CheckResult", key: dg.AssetCheckKey, docs: str) -> dg.AssetCheckResult:
    metadata: dict[str, Any] = {"checked_rows": result.checked, "unexpected_rows": result.unexpected}
    if result.examples:
        metadata["examples"] = dg.MetadataValue.md("\n".join(f"- {' / '.join(map(str, k))}" for k in result.examples))
    if result.detail:
        metadata["detail"] = result.detail
    if result.reason is not None and not result.passed:
        metadata["only_a_warning_because"] = result.reason
    metadata["data_docs"] = dg.MetadataValue.path(docs)
    return dg.AssetCheckResult(
        passed=result.passed,
        asset_key=key.asset_key,
        check_name=key.name,
        severity=dg.AssetCheckSeverity.ERROR if result.severity == "error" else dg.AssetCheckSeverity.WARN,
        metadata=metadata,
    )
