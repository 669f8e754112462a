"""The `refresh` job, when it runs by itself, and what starts it when something was delivered."""

from __future__ import annotations

from collections.abc import Callable

import dagster as dg

from core.home import Home
from orchestration import refresh
from orchestration.assets import SYNC

JOB = "refresh"


def refresh_job() -> dg.UnresolvedAssetJobDefinition:
    """Everything from the lake to published marts and a plan. Carrying the plan out is a decision of its own."""
    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.all() - dg.AssetSelection.assets(SYNC),
        description="From the lake to published marts and a plan of what to sync. Sends nothing.",
        executor_def=dg.in_process_executor,
    )


def daily(home: Home) -> dg.ScheduleDefinition:
    """Every morning, local time. Off until it is switched on."""
    return dg.ScheduleDefinition(
        name="daily_refresh",
        job_name=JOB,
        cron_schedule="0 5 * * *",
        execution_timezone=home.timezone,
        description="Refreshes every morning at five, business time.",
    )


def on_delivery(home: Home) -> dg.SensorDefinition:
    """Refreshes when the lake took something in. Off until it is switched on."""

    @dg.sensor(
        name="new_deliveries",
        job_name=JOB,
        minimum_interval_seconds=60,
        description="Refreshes when something new was loaded into the lake.",
    )
    def new_deliveries(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        return evaluate(context.cursor, lambda: refresh.read_stock(home).sequence)

    return new_deliveries


def evaluate(cursor: str | None, newest: Callable[[], int]) -> dg.SensorResult | dg.SkipReason:
    """Ask for one run if the newest delivery is later than the one last seen.

    Args:
        cursor: the sequence number last seen.
        newest: gives the highest sequence number of the lake's manifest, 0 for an empty lake.
    """
    sequence = newest()
    if sequence <= int(cursor or 0):
        return dg.SkipReason("nothing was delivered since the last look")
    return dg.SensorResult([dg.RunRequest(run_key=f"delivery-{sequence}")], cursor=str(sequence))
