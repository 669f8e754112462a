"""Dagster's instance in the home, and what a killed run leaves behind in it.

Two kernel locks tell the truth about runs, whatever Dagster's tables say: `refresh.lock` is held by the one run that is
at work, and each run's process holds a lock of its own for as long as it lives. A run that is called started but whose
lock nobody holds is dead: it is marked as failed and its pool slots are freed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from core import lock
from core.errors import WarehouseBusyError
from core.files import write_atomically
from core.home import Home

if TYPE_CHECKING:
    from dagster import DagsterInstance

POOL = "warehouse"

# Written on first use and then left alone, so that it may be edited.
_CONFIG = """\
# Dagster's instance for this home. Storage is SQLite in this folder.
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  pools:
    default_limit: 1
    granularity: op
  runs:
    # Withdrawals and syncs never wait for a refresh; of what works on the warehouse one runs at a time.
    max_concurrent_runs: 10
    tag_concurrency_limits:
      - key: mailwright/warehouse
        limit: 1
run_monitoring:
  enabled: false
retention:
  schedule:
    purge_after_days: 90
  sensor:
    purge_after_days: {skipped: 7, failure: 30, success: 90}
"""

# SHA-256 of what earlier versions wrote there: replaced, as it let withdrawals wait for a refresh.
_EARLIER = {"f72edeaa564fcc9101d5ceef02dc84e375fdcdd70349ecf81909a832c15a8945"}

# Tag of the runs that work on the warehouse: see `_CONFIG`.
WAREHOUSE_RUN = {"mailwright/warehouse": "yes"}

# How long a run may be called started without its process holding its lock yet.
_GRACE = timedelta(minutes=2)


def prepare_dagster_home(home: Home) -> Path:
    """Make DAGSTER_HOME if it isn't there yet, and name it in the environment; returns its path."""
    config = home.dagster / "dagster.yaml"
    if not config.exists() or hashlib.sha256(config.read_bytes()).hexdigest() in _EARLIER:
        write_atomically(config, _CONFIG)
    os.environ["DAGSTER_HOME"] = str(home.dagster)
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    return home.dagster


@contextmanager
def dagster_instance(home: Home) -> Iterator[DagsterInstance]:
    """The instance whose runs the UI shows."""
    from dagster import DagsterInstance

    with DagsterInstance.from_config(str(prepare_dagster_home(home))) as instance:
        yield instance


@contextmanager
def sole_run(
    home: Home, run_id: str, *, wait_seconds: float = 0.0, notify: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Be the one run that works on this home, for the length of a block.

    Raises:
        WarehouseBusyError: another run is at work, and still is after `wait_seconds`.
    """
    mine = _run_file(home, run_id)
    with lock.held(mine):
        try:
            try:
                # Who asks whether a refresh is at work (core/gate.py) holds the lock for an instant.
                patience = max(wait_seconds, 0.5)
                lock.acquire(home.root / "refresh", wait_seconds=patience, notify=notify, what="the refresh of")
            except WarehouseBusyError:
                holder = lock.describe_holder(home.root / "refresh") or "another process"
                raise WarehouseBusyError(
                    f"another run is at work on {home.root}: {holder}. Try again when it is done"
                ) from None
            try:
                yield
            finally:
                lock.release(home.root / "refresh")
        finally:
            mine.with_suffix(".lock").unlink(missing_ok=True)


def is_alive(home: Home, run_id: str) -> bool:
    """Whether the process of a run still lives. Asks the kernel."""
    path = _run_file(home, run_id)
    if not path.with_suffix(".lock").exists():
        return False
    try:
        with lock.held(path):
            return False
    except WarehouseBusyError:
        return True


def stale_runs(instance: DagsterInstance, home: Home, now: datetime) -> list[str]:
    """Ids of runs that Dagster believes to be at work although their process is gone."""
    from dagster import DagsterRunStatus, RunsFilter

    unfinished = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    stale = []
    for record in instance.get_run_records(RunsFilter(statuses=unfinished)):
        run_id = record.dagster_run.run_id
        touched = record.update_timestamp.astimezone(UTC)
        has_file = _run_file(home, run_id).with_suffix(".lock").exists()
        if not is_alive(home, run_id) and (has_file or now - touched > _GRACE):
            stale.append(run_id)
    return stale


def stale_slots(instance: DagsterInstance, home: Home, now: datetime) -> set[str]:
    """Ids of runs that hold or wait for a pool slot although they are over or dead."""
    from dagster import DagsterRunStatus

    dead = set(stale_runs(instance, home, now))
    over = {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED}
    found = set()
    for key in instance.event_log_storage.get_concurrency_keys():
        info = instance.event_log_storage.get_concurrency_info(key)
        claimants = {slot.run_id for slot in info.claimed_slots} | {step.run_id for step in info.pending_steps}
        for run_id in claimants:
            run = instance.get_run_by_id(run_id)
            if run_id in dead or run is None or run.status in over:
                found.add(run_id)
    return found


def clear_stale(instance: DagsterInstance, home: Home, now: datetime) -> list[str]:
    """Mark dead runs as failed and free the pool slots that they and finished runs still hold.

    Returns:
        The ids of the runs that were marked as failed.
    """
    slots = stale_slots(instance, home, now)
    dead = stale_runs(instance, home, now)
    for run_id in dead:
        run = instance.get_run_by_id(run_id)
        if run is not None:
            instance.report_run_failed(run, "The process of this run was killed; noticed by the next refresh.")
        _run_file(home, run_id).with_suffix(".lock").unlink(missing_ok=True)
    for run_id in slots | set(dead):
        instance.event_log_storage.free_concurrency_slots_for_run(run_id)
    return dead


def _run_file(home: Home, run_id: str) -> Path:
    return home.dagster / "alive" / run_id
