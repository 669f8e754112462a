"""Great Expectations' suites as asset checks.

Those of the lake are an op of their own, which stands between the lake and dbt. All others run at the end of the op that
builds their table: a blocking check in an op of its own would have to run between two models of one stage, and
Dagster would cut the stage into pieces for it, each with a dbt start of its own.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from core.errors import RefreshError
from expectations.rules import GROUPS, Group
from expectations.suites import suites
from orchestration import markdown
from orchestration.workshop import PATIENCE_SECONDS, Workshop

if TYPE_CHECKING:
    from expectations.results import CheckResult

CHECK = "great_expectations"
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
    """One check for the suite of each table of some groups, or of those that are `among` some assets.

    One for each rule would be five hundred, and Dagster writes two events for a check, at 13 ms each.
    """
    return [
        dg.AssetCheckSpec(
            CHECK,
            asset=asset_key(suite.table),
            description="\n".join(
                f"- {rule.description}" if rule.reason is None else f"- {rule.description} (warns: {rule.reason})"
                for rule in suite.rules
            ),
            blocking=any(rule.severity == "error" for rule in suite.rules),
            additional_deps=[CLOCK] if suite.group == "raw" else [],
        )
        for suite in suites()
        if suite.rules and suite.group in groups and (among is None or asset_key(suite.table) in among)
    ]


def run_suites(
    shop: Workshop, groups: Collection[Group], wanted: Collection[dg.AssetCheckKey]
) -> list[dg.AssetCheckResult]:
    """Run the suites that are wanted, count the rules that passed, and give one result for each suite."""
    from expectations import data_docs, runner

    tables = {suite.table for suite in suites() if suite_key(suite.table) in wanted}
    results: dict[str, list[CheckResult]] = {}
    for result in runner.run(shop.settings, shop.home, groups, tables=tables, wait_seconds=PATIENCE_SECONDS):
        _count(shop, result)
        results.setdefault(result.table, []).append(result)
    return [
        _as_dagster(suite_key(table), found, str(data_docs.page(shop.home, table))) for table, found in results.items()
    ]


def suite_key(table: str) -> dg.AssetCheckKey:
    """The check that a table's suite is."""
    return dg.AssetCheckKey(asset_key(table), CHECK)


def asset_key(table: str) -> dg.AssetKey:
    """The asset that a suite guards: a lake table or a model."""
    schema, name = table.split(".")
    return dg.AssetKey([schema.removeprefix("lake_"), name])


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


def _as_dagster(key: dg.AssetCheckKey, results: Sequence["CheckResult"], docs: str) -> dg.AssetCheckResult:
    failed = [result for result in results if not result.passed]
    metadata: dict[str, Any] = {
        "rules": len(results),
        "skipped": sum(result.skipped for result in results),
        "data_docs": dg.MetadataValue.path(docs),
    }
    if failed:
        metadata["not_passed"] = dg.MetadataValue.md(
            markdown.table(
                ("rule", "severity", "found", "rows", "only a warning because"),
                (
                    (result.name, result.severity, result.found, ", ".join(result.rows), result.reason or "")
                    for result in failed
                ),
            )
        )
    return dg.AssetCheckResult(
        passed=not failed,
        asset_key=key.asset_key,
        check_name=key.name,
        severity=dg.AssetCheckSeverity.ERROR if any(result.blocks for result in failed) else dg.AssetCheckSeverity.WARN,
        metadata=metadata,
    )
