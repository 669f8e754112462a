"""Suites of what syncs did: what the history of runs and rows rests on."""

from __future__ import annotations

from expectations.rules import Suite, given, unique


def suites() -> list[Suite]:
    """The suites of `stg_syncs__*`."""
    return [
        Suite(
            group="staging",
            table="staging.stg_syncs__runs",
            keys=("run_id",),
            rules=(unique(("run_id",), name="run_told_once"), given("target"), given("outcome"), given("started_at")),
            optional=True,
        ),
        Suite(
            group="staging",
            table="staging.stg_syncs__rows",
            keys=("run_id", "row_number"),
            rules=(
                unique(("run_id", "row_number"), name="row_told_once"),
                given("key"),
                given("action"),
                given("outcome"),
            ),
            optional=True,
        ),
    ]
