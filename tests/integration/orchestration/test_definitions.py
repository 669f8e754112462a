"""Dagster's definitions of a home without a warehouse: the whole graph, one op per stage, and what a kill leaves."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster import DagsterRunStatus

from activation import sync
from core import gate
from core.contract import load_contract
from core.errors import MailwrightError
from core.home import Home
from core.settings import Settings
from expectations.suites import catalogue
from ml.models import models
from ml.scores import TABLES
from ml.verbs import checks_of
from orchestration import alerts, assets, housekeeping, sync_assets, watching
from orchestration.checks import suite_key
from orchestration.dbt import STAGES, DbtRunner, read_manifest
from orchestration.definitions import build_definitions
from orchestration.jobs import JOB, RETRAIN, daily, spine_time_of_day
from orchestration.runs import POOL, WAREHOUSE_RUN, clear_stale, dagster_instance, is_alive, sole_run, stale_slots
from orchestration.workshop import Workshop
from tests import parsing

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home.create(tmp_path_factory.mktemp("definitions") / "home", "Europe/London", "GBP")


@pytest.fixture(scope="module")
def settings(home: Home) -> Settings:
    return Settings(home=home.root)


@pytest.fixture(scope="module")
def runner(settings: Settings, home: Home) -> DbtRunner:
    parsing.parse_into(home)
    runner = DbtRunner(settings, home)
    runner.prepare()
    return runner


@pytest.fixture(scope="module")
def manifest(runner: DbtRunner) -> dict[str, Any]:
    return read_manifest(runner.manifest_path)


@pytest.fixture(scope="module")
def definitions(settings: Settings, home: Home, runner: DbtRunner) -> dg.Definitions:
    return build_definitions(settings, home)


@pytest.fixture(scope="module")
def graph(definitions: dg.Definitions) -> Any:
    return definitions.resolve_asset_graph()


def test_the_schedule_refreshes_at_the_time_of_day_that_past_as_ofs_carry(
    definitions: dg.Definitions, settings: Settings, manifest: dict[str, Any]
) -> None:
    schedule = definitions.get_repository_def().get_schedule_def("daily_refresh")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 5 * * *", "Europe/London")
    with (settings.project_dir / "dbt_project" / "dbt_project.yml").open() as file:
        assert yaml.safe_load(file)["vars"]["spine_time_of_day"] == "05:00"


def test_models_are_retrained_every_week_and_each_has_its_checks(definitions: dg.Definitions, graph: Any) -> None:
    schedule = definitions.get_repository_def().get_schedule_def("weekly_retraining")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 12 * * 0", "Europe/London")
    job = definitions.resolve_job_def(RETRAIN)
    assert set(job.asset_layer.selected_asset_keys) == set(assets.MODELS.values())
    assert job.config_mapping is None or job.run_config
    for model in models():
        names = {key.name for key in graph.asset_check_keys if key.asset_key == assets.MODELS[model.name]}
        assert names == set(checks_of(model))
        assert {"scored", "drift"} < names


def test_another_time_of_day_moves_the_schedule(home: Home, tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").write_text('vars: {spine_time_of_day: "22:45"}')
    assert daily(home, spine_time_of_day(tmp_path)).cron_schedule == "45 22 * * *"


@pytest.mark.parametrize("said", ["5:00 am", "25:00", "22:45"])  # without quotes the last is 1365 in YAML
def test_what_is_no_time_of_day_is_refused(tmp_path: Path, said: str) -> None:
    (tmp_path / "dbt_project.yml").write_text(f"vars: {{spine_time_of_day: {said}}}")
    with pytest.raises(MailwrightError, match="is no time of day"):
        spine_time_of_day(tmp_path)


def test_a_second_look_does_not_parse_again(
    settings: Settings, home: Home, runner: DbtRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = DbtRunner(settings, home)
    monkeypatch.setattr(other, "_invoke", lambda *_: pytest.fail("dbt was called"))
    assert other.prepare() == runner.manifest_path
    assert not home.warehouse.exists(), "definitions need no warehouse"


def test_a_parse_is_read_back_and_made_anew_only_if_that_fails(
    settings: Settings, home: Home, runner: DbtRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = DbtRunner(settings, home)
    monkeypatch.setattr(other, "_invoke", lambda *_: pytest.fail("dbt was called"))
    assert set(other.manifest().nodes) == set(read_manifest(runner.manifest_path)["nodes"])

    packed = runner.target / "partial_parse.msgpack"
    whole = packed.read_bytes()
    try:
        packed.write_bytes(whole[: len(whole) // 2])
        third = DbtRunner(settings, home)
        monkeypatch.setattr(third, "_invoke", lambda *_: pytest.fail("dbt was called"))
        with pytest.raises(pytest.fail.Exception, match="dbt was called"):
            third.manifest()
        assert not (runner.target / "project.sha256").exists(), "a parse that was cut off is no parse"
    finally:
        packed.write_bytes(whole)
        (runner.target / "project.sha256").write_text(runner.fingerprint())


def test_a_changed_file_makes_another_fingerprint(settings: Settings, home: Home, tmp_path: Any) -> None:
    runner = DbtRunner(settings, home)
    runner.project_dir = tmp_path
    (tmp_path / "model.sql").write_text("select 1")
    before = runner.fingerprint()
    assert runner.fingerprint() == before
    (tmp_path / "model.sql").write_text("select 22")
    assert runner.fingerprint() != before


def test_every_model_is_built_in_one_stage(runner: DbtRunner, manifest: dict[str, Any]) -> None:
    stages = runner.stages()
    assert tuple(stages) == STAGES
    built = [name for names in stages.values() for name in names if name.startswith(("model.", "seed."))]
    expected = [name for name, node in manifest["nodes"].items() if node["resource_type"] in ("model", "seed")]
    assert sorted(built) == sorted(expected)


def test_every_data_test_runs_once_and_not_before_what_it_looks_at(runner: DbtRunner, manifest: dict[str, Any]) -> None:
    position = {name: number for number, names in enumerate(runner.stages().values()) for name in names}
    ran = [name for names in runner.stages().values() for name in names if name.startswith("test.")]
    tests = {name: node for name, node in manifest["nodes"].items() if node["resource_type"] == "test"}
    assert sorted(set(ran)) == sorted(tests), "a test that no stage runs is no test"
    assert len(ran) == len(set(ran))
    early = [
        name
        for name, node in tests.items()
        if any(position.get(parent, -1) > position[name] for parent in node["depends_on"]["nodes"])
    ]
    assert early == []


def test_the_graph_goes_from_the_lake_to_the_sync(graph: Any, manifest: dict[str, Any]) -> None:
    keys = graph.get_all_asset_keys()
    assert {dg.AssetKey([table.source, table.name]) for table in load_contract().tables.values()} <= keys
    for upstream, downstream in [
        (dg.AssetKey(["shop", "orders"]), dg.AssetKey(["marts", "fct_orders"])),
        (assets.CLOCK, dg.AssetKey(["staging", "stg_lake__clock"])),
        (dg.AssetKey(["crm", "contacts"]), assets.CONTACT_POINTS),
        (assets.CONTACT_POINTS, dg.AssetKey(["intermediate", "int_person_records"])),
        (dg.AssetKey(["intermediate", "int_person_records"]), assets.IDENTITY),
        (assets.IDENTITY, dg.AssetKey(["marts", "customer_identifiers"])),
        (dg.AssetKey(["features", "feat_customers"]), assets.MODELS["churn_180"]),
        (dg.AssetKey(["marts", "fct_order_lines"]), assets.MODELS["affinity"]),
        (assets.FITS, dg.AssetKey(["marts", "customer_rfm"])),
        *((model, dg.AssetKey(["marts", "customer_360"])) for model in assets.MODELS.values()),
        (assets.MODELS["affinity"], dg.AssetKey(["marts", "product_recommendations"])),
        (dg.AssetKey(["activation", "sync_profiles"]), assets.RELEASE),
        (dg.AssetKey(["marts", "customer_360"]), assets.PUBLISHED),
        (assets.RELEASE, sync_assets.key_of("mailchimp")),
        (assets.RELEASE, dg.AssetKey(["activation", "segment_membership_history"])),
    ]:
        ancestors = dg.AssetSelection.assets(downstream).upstream().resolve(graph)
        assert upstream in ancestors, f"{downstream} does not depend on {upstream}"
    sources = {dg.AssetKey(["state", name]) for name in ("fits", *TABLES)}
    sources |= {dg.AssetKey(["identity", name]) for name in ("assignments", "journal", "links")}
    assert not sources & keys, "state stands in the graph as the assets that write it"


def test_the_python_assets_read_models_that_exist(graph: Any) -> None:
    external = {key for key in graph.get_all_asset_keys() if not graph.get(key).is_materializable}
    assert external == set()


def test_each_stage_is_one_op_and_a_refresh_plans_every_sync_without_carrying_it_out(
    definitions: dg.Definitions,
) -> None:
    job = definitions.resolve_job_def(JOB)
    ops = [node.name for node in job.nodes]
    assert sorted(name for name in ops if name.startswith("dbt_")) == sorted(f"dbt_{stage}" for stage in STAGES)
    assert {"published_marts", "check_lake"} <= set(ops)
    assert {f"syncs__{name}" for name in sync.names()} <= set(ops)
    configured = definitions.resolve_job_def("sync_braze").run_config or {}
    assert configured["ops"] == {"syncs__braze": {"config": {"carry_out": True}}}
    assert not job.run_config


def test_withdrawals_are_pushed_every_five_minutes_from_the_start_and_wait_for_no_run(
    definitions: dg.Definitions,
) -> None:
    schedule = definitions.resolve_schedule_def("suppress_every_5_minutes")
    assert (schedule.cron_schedule, schedule.job_name) == ("*/5 * * * *", sync_assets.SUPPRESS)
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert WAREHOUSE_RUN.items() <= definitions.resolve_job_def(JOB).tags.items()
    assert not WAREHOUSE_RUN.keys() & definitions.resolve_job_def(sync_assets.SUPPRESS).tags.keys()


def test_housekeeping_is_done_every_night_from_the_start(definitions: dg.Definitions) -> None:
    schedule = definitions.resolve_schedule_def("nightly_housekeeping")
    assert (schedule.job_name, schedule.execution_timezone) == (housekeeping.JOB, "Europe/London")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert not WAREHOUSE_RUN.keys() & definitions.resolve_job_def(housekeeping.JOB).tags.keys()


def test_syncs_are_tried_again_every_15_minutes_from_the_start(definitions: dg.Definitions) -> None:
    sensor = definitions.get_repository_def().get_sensor_def("retry_syncs")
    assert sensor.minimum_interval_seconds == 900
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert {job.name for job in sensor.jobs} == {f"sync_{name}" for name in sync.names()}


def test_a_refresh_that_fails_is_an_alert_whoever_runs_it(settings: Settings, home: Home, runner: DbtRunner) -> None:
    job = build_definitions(settings, home, Workshop(settings, home)).resolve_job_def(JOB)
    with dagster_instance(home) as instance:
        assert not job.execute_in_process(instance=instance, raise_on_error=False).success
    (alert,) = alerts.standing(home)
    assert alert.condition == "refresh"
    assert "no orders were delivered" in alert.words
    gate.begin(home, NOW)
    gate.passed(home, datetime.now(UTC) + timedelta(seconds=1))
    watching.note_refresh(settings, home)
    assert alerts.standing(home) == []


def test_every_suite_is_a_check_and_blocks_if_one_of_its_rules_does(graph: Any) -> None:
    found = {key: graph.get(key).blocking for key in graph.asset_check_keys}
    tables = {guard.table for guard in catalogue()}
    assert len(tables) > 40
    for table in tables:
        severities = {guard.severity for guard in catalogue() if guard.table == table}
        assert found[suite_key(table)] is ("error" in severities), table


def test_every_data_test_of_dbt_is_a_check(graph: Any, manifest: dict[str, Any]) -> None:
    names = {key.name for key in graph.asset_check_keys}
    tests = {
        node["name"]
        for node in manifest["nodes"].values()
        if node["resource_type"] == "test"
        and any(parent.startswith(("model.", "seed.")) for parent in node["depends_on"]["nodes"])
    }
    assert tests <= names


def test_groups_are_the_rooms(graph: Any) -> None:
    groups = {graph.get(key).group_name for key in graph.get_all_asset_keys()}
    assert groups == {
        "lake", "seeds", "staging", "intermediate", "identity", "marts_core", "features", "ml", "models", "marts_customers", "segments",
        "releases", "syncs", "activation", "publishing",
    }  # fmt: skip


def start_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """A run that Dagster believes to be at work and to hold a slot of the pool."""
    run = dg.DagsterRun(job_name=JOB, run_id=run_id, status=DagsterRunStatus.STARTED)
    instance.add_run(run)
    instance.event_log_storage.initialize_concurrency_limit_to_default(POOL)
    instance.event_log_storage.set_concurrency_slots(POOL, 1)
    assert instance.event_log_storage.claim_concurrency_slot(POOL, run_id, "dbt_core").is_claimed


def test_what_a_killed_run_left_is_cleared(home: Home) -> None:
    dead = "11111111-1111-1111-1111-111111111111"
    with dagster_instance(home) as instance:
        start_run(instance, dead)
        # Killed: the lock file of its process is there, and nobody holds it.
        lock_file = home.dagster / "alive" / f"{dead}.lock"
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock_file.write_text(json.dumps({"pid": 1, "command": "mailwright refresh"}))
        assert stale_slots(instance, home, NOW) == {dead}
        assert clear_stale(instance, home, NOW) == [dead]
        run = instance.get_run_by_id(dead)
        assert run is not None
        assert run.status is DagsterRunStatus.FAILURE
        assert instance.event_log_storage.get_concurrency_info(POOL).claimed_slots == []
        assert clear_stale(instance, home, NOW) == []


def test_a_run_that_has_just_begun_is_left_alone(home: Home) -> None:
    young = "22222222-2222-2222-2222-222222222222"
    with dagster_instance(home) as instance:
        instance.add_run(dg.DagsterRun(job_name=JOB, run_id=young, status=DagsterRunStatus.STARTED))
        assert clear_stale(instance, home, datetime.now(UTC)) == []
        assert clear_stale(instance, home, datetime.now(UTC) + timedelta(minutes=10)) == [young]


def test_a_run_is_alive_as_long_as_its_process_holds_its_lock(home: Home) -> None:
    import subprocess
    import sys

    run_id = "33333333-3333-3333-3333-333333333333"
    program = (
        "import sys, pathlib; from core.home import Home; from orchestration.runs import sole_run\n"
        f"home = Home.open(pathlib.Path({str(home.root)!r}))\n"
        f"with sole_run(home, {run_id!r}): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert is_alive(home, run_id)
        process.kill()
        process.wait()
        assert not is_alive(home, run_id)


def test_only_one_run_works_on_a_home(home: Home) -> None:
    with sole_run(home, "44444444-4444-4444-4444-444444444444"):
        assert (home.root / "refresh.lock").exists()
    assert not (home.dagster / "alive" / "44444444-4444-4444-4444-444444444444.lock").exists()
