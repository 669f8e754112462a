"""The jobs `refresh` and `retrain`, when they run by themselves, and what starts one when something was delivered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, time
from pathlib import Path

import dagster as dg

from core.errors import MailwrightError
from core.home import Home
from core.settings import Settings
from orchestration import refresh, watching
from orchestration.assets import MODELS
from orchestration.runs import WAREHOUSE_RUN
from segments.definitions import PROJECT_FILE, variables

JOB = "refresh"
RETRAIN = "retrain"


def refresh_job(settings: Settings, home: Home) -> dg.UnresolvedAssetJobDefinition:
    """Everything from the lake to published marts and plans. Carrying a plan out is a decision of its own."""

    @dg.failure_hook(name="note_failed_refresh", required_resource_keys={"workshop"})
    def note_failure(context: dg.HookContext) -> None:
        said = context.resources.workshop.failure or f"step {context.op.name} ({type(context.op_exception).__name__})"
        watching.note_refresh(settings, home, f"{said}. The whole story is in `mailwright ui`")

    return dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.all(),
        description="From the lake to published marts and plans of what to sync. Sends nothing.",
        tags=WAREHOUSE_RUN,
        executor_def=dg.in_process_executor,
        hooks={note_failure},
    )


def retrain_job() -> dg.UnresolvedAssetJobDefinition:
    """Train every model anew on the features as they are, promote what earns it, and score with the champions."""
    return dg.define_asset_job(
        RETRAIN,
        selection=dg.AssetSelection.assets(*MODELS.values()),
        config={"ops": {"__".join(key.path): {"config": {"retrain": True}} for key in MODELS.values()}},
        description="Trains every model anew; a challenger that beats champion and baseline scores from then on.",
        tags=WAREHOUSE_RUN,
        executor_def=dg.in_process_executor,
    )


def weekly(home: Home) -> dg.ScheduleDefinition:
    """Sunday at noon, business time, hours after the daily refresh. Off until it is switched on."""
    return dg.ScheduleDefinition(
        name="weekly_retraining",
        job_name=RETRAIN,
        cron_schedule="0 12 * * 0",
        execution_timezone=home.timezone,
        description="Trains every model anew on Sundays at 12:00, business time.",
    )


def daily(home: Home, time_of_day: time) -> dg.ScheduleDefinition:
    """Every day at a local time, which should be that of the past as_ofs. Off until it is switched on."""
    return dg.ScheduleDefinition(
        name="daily_refresh",
        job_name=JOB,
        cron_schedule=f"{time_of_day.minute} {time_of_day.hour} * * *",
        execution_timezone=home.timezone,
        description=f"Refreshes every day at {time_of_day:%H:%M}, business time.",
    )


def spine_time_of_day(project_dir: Path) -> time:
    """The time of day that past as_ofs carry, as the dbt project has it.

    Raises:
        MailwrightError: `dbt_project.yml` can't be read, or has no such time of day.
    """
    said = variables(project_dir).get("spine_time_of_day")
    try:
        return datetime.strptime(str(said), "%H:%M").time()
    except ValueError:
        raise MailwrightError(
            f'spine_time_of_day in {project_dir / PROJECT_FILE} is {said!r}, which is no time of day: write one like "05:00", in quotes'
        ) from None


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
