"""kill -9 in the middle of a refresh, then again: it completes, and the result is that of a run never interrupted."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestration.publishing import changes, read_publication
from orchestration.runs import dagster_instance
from tests.conftest import CommandLine
from tests.e2e.conftest import copy_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def kill_after(command: CommandLine, line: str, seconds: float) -> None:
    """Start a refresh, wait until a step is done, and kill it a moment later."""
    process = command.start("refresh")
    assert process.stdout is not None
    said = []
    for printed in process.stdout:
        said.append(printed)
        if line in printed:
            break
    else:
        pytest.fail(f"the refresh never said {line!r}:\n{''.join(said)}")
    time.sleep(seconds)
    process.kill()
    process.wait(timeout=30)


@pytest.mark.parametrize(
    ("line", "seconds"),
    [("Set the clock", 2.0), ("Freeze the release", 0.1)],
    ids=["while dbt builds", "while it publishes"],
)
def test_a_killed_refresh_is_simply_started_again(
    loaded_retailer: CommandLine, refreshed_retailer: CommandLine, tmp_path: Path, line: str, seconds: float
) -> None:
    from dagster import DagsterRunStatus

    command = copy_of(loaded_retailer, tmp_path / "home", port=8765)
    kill_after(command, line, seconds)
    said = command.run("refresh")
    assert "was killed before it was done" in said
    found, expected = read_publication(command.home), read_publication(refreshed_retailer.home)
    assert found is not None
    assert expected is not None
    assert changes(expected, found) == []
    assert not list(command.home.published.rglob(".*.tmp*"))
    with dagster_instance(command.home) as instance:
        statuses = sorted(run.status.value for run in instance.get_runs())
        slots = [
            slot
            for key in instance.event_log_storage.get_concurrency_keys()
            for slot in instance.event_log_storage.get_concurrency_info(key).claimed_slots
        ]
    assert statuses == [DagsterRunStatus.FAILURE.value, DagsterRunStatus.SUCCESS.value]
    assert slots == []


def test_two_refreshes_at_once_are_refused(loaded_retailer: CommandLine, tmp_path: Path) -> None:
    command = copy_of(loaded_retailer, tmp_path / "home", port=8766)
    first = command.start("refresh")
    try:
        while not (command.root / "refresh.lock").exists():
            assert first.poll() is None
            time.sleep(0.05)
        said = command.run("refresh", expect=1)
    finally:
        first.kill()
        first.wait(timeout=30)
    assert "another run is at work" in said
    assert "Traceback" not in said
