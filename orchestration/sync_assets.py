"""Dagster's part of activation: one asset and one job per sync, when each runs by itself, and the job for withdrawals.

A refresh only plans. Carrying a plan out is each sync's own job, so that a destination that is down holds up no other,
and none of them waits for the warehouse, which no sync opens.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from core.errors import MailwrightError, PlanError
from core.home import Home
from core.settings import Settings
from orchestration import markdown, syncing
from orchestration.progress import Reporter
from orchestration.showing import WITHDRAWALS, plan_tables, withdrawal_rows
from orchestration.workshop import Workshop

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

    from activation.plan import Plan
    from activation.sync import Sync

SUPPRESS = "suppress"
AFTER_REFRESH = "after_refresh"
MANUAL = "manual"
RETRY_SECONDS = 15 * 60
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def key_of(name: str) -> dg.AssetKey:
    """The asset of a sync."""
    return dg.AssetKey(["syncs", name])


def job_of(name: str) -> str:
    """The job that carries a sync out."""
    return f"sync_{name}"


def documents(settings: Settings) -> "list[Sync]":
    """Every sync whose document is right. One that is wrong is shown by `mailwright syncs check`, and stops no other."""
    from activation import sync

    found = []
    for name in sync.names():
        try:
            found.append(sync.read(settings, name))
        except PlanError as error:
            dg.get_dagster_logger().error(str(error))
    return found


def assets(
    settings: Settings, home: Home, syncs: "Sequence[Sync]", deps: Sequence[dg.AssetKey], workshop: Workshop | None
) -> list[dg.AssetsDefinition]:
    """One asset per sync: its plan and, where it is carried out, what became of it.

    Args:
        deps: what a refresh does before it plans.
        workshop: that of a refresh in this process, whose reporter and tally are told.
    """
    return [_asset(settings, home, sync, deps, workshop) for sync in syncs]


def _asset(
    settings: Settings, home: Home, sync: "Sync", deps: Sequence[dg.AssetKey], workshop: Workshop | None
) -> dg.AssetsDefinition:
    title = sync.connector.platform.title

    @dg.asset(
        key=key_of(sync.name),
        deps=deps,
        group_name="activation",
        kinds={"python"},
        description=f"{sync.description or 'Audiences'}, at {title}. A refresh plans; job {job_of(sync.name)} carries out.",
        config_schema={"carry_out": dg.Field(bool, default_value=False, is_required=False)},
        output_required=False,
    )
    def synced(context: dg.AssetExecutionContext) -> Iterator[Any]:
        reporter = workshop.reporter if workshop is not None else Reporter()
        carry_out = context.op_execution_context.op_config["carry_out"]
        from activation import plan

        if not carry_out and not plan.was_planned(home, sync.name):
            context.log.info(f"never planned: its first plan is made by hand, mailwright plan {sync.name}")
            return
        if carry_out:
            try:
                made, report = syncing.run_sync(settings, home, sync.name, reporter=reporter)
            except MailwrightError as error:
                raise dg.Failure(description=str(error), allow_retries=False) from error
            yield dg.MaterializeResult(metadata=plan_metadata(made) | report.summary())
            return
        try:
            made = syncing.plan_sync(settings, home, sync.name, reporter=reporter)
        except Exception as error:
            # A destination that can't be planned, for whatever reason, holds up neither the refresh nor the others.
            context.log.exception(f"{sync.name} was not planned")
            reporter.note(f"{sync.name} was not planned: {error}")
            return
        if workshop is not None:
            workshop.tally.facts.setdefault("plans", {})[sync.name] = made
        yield dg.MaterializeResult(metadata=plan_metadata(made))

    return synced


def plan_metadata(made: "Plan") -> dict[str, Any]:
    """A plan for Dagster: numbers, tables and the breakers that it trips."""
    shown: dict[str, Any] = dict(made.summary())
    shown |= {
        title.lower().replace(" ", "_"): dg.MetadataValue.md(markdown.table(header, rows))
        for title, header, rows in plan_tables(made)
    }
    if made.tripped:
        shown["breakers"] = dg.MetadataValue.md("\n".join(f"- **{one.name}**: {one.words}" for one in made.tripped))
    return shown


def jobs(syncs: "Sequence[Sync]") -> "list[UnresolvedAssetJobDefinition]":
    """One job per sync: plan and apply at once, which breakers stop where a plan is implausible."""
    return [
        dg.define_asset_job(
            job_of(sync.name),
            selection=dg.AssetSelection.assets(key_of(sync.name)),
            config={"ops": {f"syncs__{sync.name}": {"config": {"carry_out": True}}}},
            description=f"Plans and applies {sync.name}. Breakers stop an implausible plan.",
            executor_def=dg.in_process_executor,
        )
        for sync in syncs
    ]


def schedules(home: Home, syncs: "Sequence[Sync]") -> list[dg.ScheduleDefinition]:
    """When syncs run by themselves, as their documents say. Off until they are switched on."""
    return [
        dg.ScheduleDefinition(
            name=job_of(sync.name),
            job_name=job_of(sync.name),
            cron_schedule=sync.schedule,
            execution_timezone=home.timezone,
            description=f"Plans and applies {sync.name}.",
        )
        for sync in syncs
        if sync.schedule not in (AFTER_REFRESH, MANUAL)
    ]


def after_refresh(
    syncs: "Sequence[Sync]",
    refresh: "UnresolvedAssetJobDefinition",
    sync_jobs: "Sequence[UnresolvedAssetJobDefinition]",
) -> list[dg.SensorDefinition]:
    """Starts each sync whose document says so when a refresh is done. Off until it is switched on."""
    wanted = [sync.name for sync in syncs if sync.schedule == AFTER_REFRESH]
    if not wanted:
        return []

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.SUCCESS,
        name="sync_after_refresh",
        monitored_jobs=[refresh],
        request_jobs=[job for job in sync_jobs if job.name in {job_of(name) for name in wanted}],
        description=f"Plans and applies {', '.join(wanted)} when a refresh is done.",
    )
    def sync_after_refresh(context: dg.RunStatusSensorContext) -> Iterator[dg.RunRequest]:
        for name in wanted:
            yield dg.RunRequest(run_key=f"{context.dagster_run.run_id}-{name}", job_name=job_of(name))

    return [sync_after_refresh]


def retries(
    home: Home, syncs: "Sequence[Sync]", sync_jobs: "Sequence[UnresolvedAssetJobDefinition]"
) -> list[dg.SensorDefinition]:
    """Starts a sync again that failed by itself as its destination is down. On from the start, as only such are."""
    if not syncs:
        return []

    @dg.sensor(
        name="retry_syncs",
        jobs=sync_jobs,
        minimum_interval_seconds=RETRY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Carries out again what failed as its destination is down, every 15 minutes until its plan expires.",
    )
    def retry_syncs(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        waiting = syncing.waiting_for_destinations(home, [sync.name for sync in syncs], datetime.now(UTC))
        at_work = {run.job_name for run in context.instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))}
        wanted = [name for name in waiting if job_of(name) not in at_work]
        if not wanted:
            yield dg.SkipReason("no destination is down that a sync waits for")
        for name in wanted:
            yield dg.RunRequest(job_name=job_of(name))

    return [retry_syncs]


def suppress_job(settings: Settings, home: Home) -> dg.JobDefinition:
    """Pushes withdrawals to every destination. Needs no release and no plan, and no other run to be done."""

    @dg.op(description="Unsubscribes, objections, suppressions and erasures that a destination does not know of yet.")
    def push_withdrawals(context: dg.OpExecutionContext) -> None:
        reports = syncing.suppress_syncs(settings, home)
        context.add_output_metadata({
            "destinations": dg.MetadataValue.md(markdown.table(WITHDRAWALS, withdrawal_rows(reports))),
            "unsubscribed": sum(report.unsubscribed for report in reports),
            "erased": sum(report.erased for report in reports),
        })  # fmt: skip
        problems = [f"{report.name}: {report.error}" for report in reports if report.error]
        problems += [
            f"{report.name}: {len(report.overdue)} withdrawals for more than 24 hours"
            for report in reports
            if report.overdue
        ]
        if problems:
            raise dg.Failure(description="; ".join(problems), allow_retries=False)

    @dg.job(
        name=SUPPRESS,
        executor_def=dg.in_process_executor,
        description="Pushes every withdrawal that a destination does not know of yet, beyond plans and breakers.",
    )
    def suppress() -> None:
        push_withdrawals()

    return suppress


def every_five_minutes() -> dg.ScheduleDefinition:
    """When withdrawals are pushed. On from the start: nobody should have to think of it."""
    return dg.ScheduleDefinition(
        name="suppress_every_5_minutes",
        job_name=SUPPRESS,
        cron_schedule="*/5 * * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Pushes withdrawals to every destination every 5 minutes.",
    )
