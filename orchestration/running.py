"""Run the `refresh` job in this process, so that it shows in the Dagster UI like any other run."""

from __future__ import annotations

import logging
import uuid
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from core.clock import resolve_as_of
from core.errors import RefreshError
from core.home import Home
from core.settings import Settings
from orchestration import watching
from orchestration.progress import Reporter
from orchestration.runs import clear_stale, dagster_instance, sole_run
from orchestration.workshop import Tally, Workshop

if TYPE_CHECKING:
    from dagster import ExecuteInProcessResult


def run_refresh(settings: Settings, home: Home, *, as_of: str | None, reporter: Reporter) -> Tally:
    """Refresh the home: from the lake to published marts and a plan.

    A killed refresh leaves nothing that this one would stumble over: its run is marked as failed first.

    Args:
        as_of: as on the command line, or None for the home's own.

    Returns:
        What was built and checked, and how long each step took.

    Raises:
        MailwrightError: `as_of` is no date, or lies in the future.
        RefreshError: a step failed or a blocking check did; names it.
        WarehouseBusyError: another run is at work.
    """
    resolve_as_of(home, as_of, datetime.now(UTC))  # a wrong date is said before anything slow begins
    workshop = Workshop(settings, home, reporter)
    run_id = str(uuid.uuid4())
    with sole_run(home, run_id):
        with reporter.step("Start dbt and Dagster"):
            _be_quiet()
            from orchestration.definitions import build_definitions
            from orchestration.jobs import JOB

            try:
                job = build_definitions(settings, home, workshop).resolve_job_def(JOB)
            except RefreshError as error:
                watching.note_refresh(settings, home, str(error))
                raise
        with dagster_instance(home) as instance:
            for dead in clear_stale(instance, home, datetime.now(UTC)):
                reporter.note(f"run {dead[:8]} was killed before it was done; it is marked as failed")
            result = job.execute_in_process(
                run_config={
                    "ops": {"lake__clock": {"config": {"as_of": as_of}}},
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                },
                instance=instance,
                raise_on_error=False,
                run_id=run_id,
            )
        if not result.success:
            failure = workshop.failure or RefreshError(_what_failed(result))
            watching.note_refresh(settings, home, str(failure))
            raise failure
    return workshop.tally


def _be_quiet() -> None:
    """Keep warnings meant for developers of Dagster and dbt from the terminal of who only refreshes."""
    import dagster

    warnings.filterwarnings("ignore", category=dagster.BetaWarning)
    warnings.filterwarnings("ignore", category=dagster.PreviewWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _what_failed(result: ExecuteInProcessResult) -> str:
    """The first failed step and the innermost message, for a failure that is no error of ours."""
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            said = error.message.strip() if error is not None else "no message"
            return (
                f"step {event.step_key} failed: {' '.join(said.split())[:400]}. The whole story is in `mailwright ui`"
            )
    return "the run failed; the whole story is in `mailwright ui`"
