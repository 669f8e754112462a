"""Dagster's job for what must not be kept any longer: each op removes one kind of it, and says what that was."""

from datetime import UTC, datetime

import dagster as dg

from core.home import Home
from orchestration import syncing

JOB = "housekeeping"


def job(home: Home) -> dg.JobDefinition:
    """Removes what must not be kept any longer, and says what that was."""

    @dg.op(description="Emergency drops that have expired: they hold addresses, and must not be imported any more.")
    def clear_expired_drops(context: dg.OpExecutionContext) -> None:
        gone = syncing.clear_expired_drops(home, datetime.now(UTC))
        context.log.info(f"removed {len(gone)} drops{': ' if gone else ''}{', '.join(gone)}")
        context.add_output_metadata({"removed": gone})

    @dg.job(
        name=JOB,
        executor_def=dg.in_process_executor,
        description="Removes what must not be kept any longer, and says what that was.",
    )
    def housekeeping() -> None:
        clear_expired_drops()

    return housekeeping


def nightly(home: Home) -> dg.ScheduleDefinition:
    """When housekeeping is done. On from the start: what is to go holds personal data."""
    return dg.ScheduleDefinition(
        name="nightly_housekeeping",
        job_name=JOB,
        cron_schedule="30 1 * * *",
        execution_timezone=home.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Removes what must not be kept any longer, every night at 01:30, business time.",
    )
