"""Dagster's definitions: `dagster dev -m orchestration.definitions`, or `mailwright ui`.

Building them reads dbt's manifest (parsed ahead, again only when the project's files changed) and needs no warehouse.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from core.home import Home, open_home
from core.settings import Settings, load_settings
from orchestration import assets, checks, housekeeping, jobs, sync_assets
from orchestration.dbt import DbtRunner, read_manifest
from orchestration.runs import prepare_dagster_home, sole_run
from orchestration.workshop import PATIENCE_SECONDS, Workshop

if TYPE_CHECKING:
    from dagster import InitResourceContext


def build_definitions(settings: Settings, home: Home, workshop: Workshop | None = None) -> dg.Definitions:
    """Everything that Dagster knows of one home.

    Args:
        workshop: what the steps share, given by who runs the job in its own process; by default each run makes its
            own, once it is the only run at work.

    Raises:
        RefreshError: the dbt project can't be parsed.
    """
    dbt = workshop.dbt if workshop is not None else DbtRunner(settings, home)
    manifest = read_manifest(dbt.prepare())
    stages = assets.dbt_stages(manifest, dbt.stages())
    marts = sorted(
        {
            key
            for stage in stages
            for key in stage.keys
            if key.path[0] == "marts" or key.path[-1] in ("segment_memberships", "audience_funnel")
        }
    )
    syncs = sync_assets.documents(settings)
    refresh, sync_jobs = jobs.refresh_job(settings, home), sync_assets.jobs(syncs)
    return dg.Definitions(
        assets=[
            *assets.lake_assets(),
            *stages,
            *assets.identity_assets(),
            *assets.fit_assets(),
            *assets.model_assets(),
            *assets.segment_assets(manifest),
            *assets.release_assets(),
            *sync_assets.assets(settings, home, syncs, [assets.RELEASE, assets.PUBLISHED], workshop),
            *assets.publishing_assets(manifest, marts),
        ],
        asset_checks=[checks.lake_checks()],
        jobs=[
            refresh,
            jobs.retrain_job(),
            *sync_jobs,
            sync_assets.suppress_job(settings, home),
            housekeeping.job(home),
        ],
        schedules=[
            jobs.daily(home, jobs.spine_time_of_day(dbt.project_dir)),
            jobs.weekly(home),
            *sync_assets.schedules(home, syncs),
            sync_assets.every_five_minutes(),
            housekeeping.nightly(home),
        ],
        sensors=[
            jobs.on_delivery(home),
            *sync_assets.after_refresh(syncs, refresh, sync_jobs),
            *sync_assets.retries(home, syncs, sync_jobs),
        ],
        executor=dg.in_process_executor,
        resources={"workshop": _given(workshop) if workshop is not None else _own(settings, home)},
    )


def _given(workshop: Workshop) -> dg.ResourceDefinition:
    return dg.ResourceDefinition.hardcoded_resource(workshop, "What the steps of this run share")


def _own(settings: Settings, home: Home) -> dg.ResourceDefinition:
    def open_workshop(context: InitResourceContext) -> Iterator[Workshop]:
        run_id = context.run.run_id if context.run is not None else "none"
        log = context.log
        with sole_run(home, run_id, wait_seconds=PATIENCE_SECONDS, notify=log.info if log else None):
            yield Workshop(settings, home)

    return dg.ResourceDefinition(open_workshop, description="What the steps of a run share; held by one run at a time")


@dg.definitions
def definitions() -> dg.Definitions:
    """The home that the environment names."""
    settings = load_settings()
    home = open_home(settings)
    prepare_dagster_home(home)
    return build_definitions(settings, home)
