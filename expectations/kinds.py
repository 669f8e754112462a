"""The one kind of expectation that suites are made of, as Great Expectations sees it.

A rule is an SQL aggregate that counts what breaks it. As a metric of the kind `AGGREGATE_FN`, Great Expectations puts
the aggregates of all rules of a table into one statement: one pass over it, however many rules, and 2 ms of its own
per rule. Its own column kinds cost 5 ms each and know neither regular expressions nor conditions on DuckDB, and
`UnexpectedRowsExpectation` runs each query twice and fetches the rows with everything in them.

Importing this takes seconds, as it imports Great Expectations.
"""

from __future__ import annotations

from typing import Any, ClassVar

import sqlalchemy as sa
from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.core.metric_function_types import MetricPartialFunctionTypes
from great_expectations.execution_engine.execution_engine import ExecutionEngine
from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine
from great_expectations.expectations.expectation import BatchExpectation
from great_expectations.expectations.metrics.metric_provider import metric_partial
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider


class BrokenCount(TableMetricProvider):
    """How many rows of a table, or things in it, break a rule."""

    metric_name = "table.broken_count"
    value_keys = ("breaks",)

    @metric_partial(
        engine=SqlAlchemyExecutionEngine,
        partial_fn_type=MetricPartialFunctionTypes.AGGREGATE_FN,
        domain_type=MetricDomainTypes.TABLE,
    )
    def _sqlalchemy(
        cls,
        execution_engine: SqlAlchemyExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any],
    ) -> Any:
        return sa.literal_column(metric_value_kwargs["breaks"]), metric_domain_kwargs, {}


class ExpectFewBroken(BatchExpectation):
    """At least `share` of the rows keep a rule, by an SQL aggregate that counts what breaks it."""

    breaks: str
    share: float = 1.0

    metric_dependencies: ClassVar[tuple[str, ...]] = ("table.row_count", "table.broken_count")
    success_keys: ClassVar[tuple[str, ...]] = ("breaks", "share")

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: ExecutionEngine[Any] | None = None,
    ) -> dict[str, Any]:
        rows, broken = int(metrics["table.row_count"]), int(metrics["table.broken_count"] or 0)
        allowed = (1 - self.share) * rows
        return {"success": broken <= allowed, "result": {"element_count": rows, "unexpected_count": broken}}
