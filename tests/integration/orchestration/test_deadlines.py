"""A sandbox's destination that is down past its deadline: alerts, a file drop, retries, and what comes after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from activation import destinations, drop_files, drops, engine, plan, releases, status, sync
from activation.apply import TrippedError
from activation.connector import Connector
from activation.drop_files import Folder
from activation.engine import DestinationDownError
from core import gate
from core.errors import PlanError
from core.home import Home
from core.settings import Settings
from orchestration import alerts, housekeeping, sync_assets, syncing
from orchestration.alert_channels import UndeliveredError
from tests.integration.activation.conformance.place import document_of
from tests.integration.activation.served import IMPATIENT, Served, served
from tests.integration.activation.world import Person, deliver, fill_warehouse, naive, people

NAME = "braze"
# Withdrawals are delivered in the past, alerts told of now: the syncs' clock begins at this moment.
START = datetime.now(UTC).replace(microsecond=0)
AS_OF = START - timedelta(hours=4)


@dataclass
class Clock:
    """The wall clock of a test, and when it was last looked at."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Ops:
    """A channel: what people were told."""

    name: str = "mail"
    is_down: bool = False
    lines: tuple[str, ...] = ()

    def send(self, subject: str, text: str) -> None:
        if self.is_down:
            raise UndeliveredError("the mail server did not take it")
        self.lines += tuple(line.partition("UTC  ")[2] for line in text.splitlines() if "UTC  " in line)

    @property
    def said(self) -> list[str]:
        return [line.partition(":")[0] for line in self.lines]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.create(tmp_path / "home", "Europe/London", "GBP")


@pytest.fixture
def settings(home: Home) -> Settings:
    return Settings(home=home.root, memory_limit="500MB", threads=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ops(monkeypatch: pytest.MonkeyPatch) -> Ops:
    made = Ops()
    monkeypatch.setattr(alerts, "configured", lambda _: [made])
    return made


@pytest.fixture
def place(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Braze's sandbox, and the shipped sync with its own breakers, deadline and expiry."""
    shipped = sync.read(Settings(), NAME)
    document = document_of(NAME).model_copy(update={"breakers": shipped.breakers})
    assert (document.deadline, document.expires) == (timedelta(hours=2), timedelta(hours=24))
    monkeypatch.setattr(sync, "read", lambda *_: document)
    monkeypatch.setattr(engine, "RetryPolicy", lambda: IMPATIENT)
    with served(home.sandbox, NAME) as made:

        def opened(*_: object, **__: object) -> Connector:
            return made.connector

        monkeypatch.setattr(destinations, "open", opened)
        yield made


def release(settings: Settings, home: Home, persons: list[Person], as_of: datetime = AS_OF) -> None:
    with duckdb.connect() as connection:
        fill_warehouse(connection, persons)
        releases.freeze(settings, home, connection, as_of=as_of)


def persons(count: int) -> list[Person]:
    return [
        Person(person.email, f"{number:016x}", segments=("onboarding",)) for number, person in enumerate(people(count))
    ]


def go_down(place: Served) -> None:
    """It can be read, and takes nothing."""
    place.faults.order("error", times=None, status=503, route="^POST /(users/track|email/status|v2/subscription)")


def withdraw(home: Home, number: int, person: Person, at: datetime) -> None:
    """The number-th delivery says that somebody unsubscribed."""
    said = {"event_id": f"e{number}", "event_type": "unsubscribed", "email": person.email, "occurred_at": naive(at)}
    deliver(home, number, "email", "events", [said], at)


def there(place: Served) -> int:
    return sum(person.state == "subscribed" for person in place.part.people.everyone())


def retried(home: Home, **options: Any) -> list[str]:
    """Jobs that the sensor would start."""
    document = sync.read(Settings(), NAME)
    jobs = sync_assets.jobs([document])
    (sensor,) = sync_assets.retries(home, [document], jobs)
    with dg.DagsterInstance.ephemeral() as instance:
        for run in options.get("runs", []):
            instance.add_run(run)
        requests = sensor.evaluate_tick(dg.build_sensor_context(instance=instance)).run_requests or []
    return [request.job_name or "" for request in requests]


def test_down_past_the_deadline_ends_in_a_drop_and_an_alert_and_comes_back_by_itself(
    home: Home, settings: Settings, place: Served, clock: Clock, ops: Ops
) -> None:
    everybody = persons(4)
    release(settings, home, everybody)
    go_down(place)

    with pytest.raises(DestinationDownError):
        syncing.run_sync(settings, home, NAME, now=clock)
    assert ops.said == ["sync braze ALARM"]
    kept = plan.read(home, NAME)
    assert retried(home) == ["sync_braze"]

    clock.now += timedelta(minutes=90)
    with pytest.raises(DestinationDownError):
        syncing.run_sync(settings, home, NAME, now=clock)
    assert ops.said == ["sync braze ALARM"], "told once"
    assert not list((home.plans / "drops").glob("*/"))

    clock.now += timedelta(minutes=30)
    for _ in range(2):
        with pytest.raises(drops.PastDeadlineError):
            syncing.run_sync(settings, home, NAME, now=clock)
        clock.now += timedelta(minutes=15)
    assert ops.said == ["sync braze ALARM", "braze past its deadline ALARM"]
    assert "to be imported until" in ops.lines[-1]
    (folder,) = (home.plans / "drops").glob("*/")
    assert drop_files.read_table(Folder(str(folder)), "audience").num_rows == 4
    (shown,) = status.statuses(settings, home)
    assert (shown.down_since, shown.waiting) == (START, kept.operations)

    # Somebody withdraws meanwhile; then it is back, and the plan that was kept is carried out.
    withdraw(home, 1, everybody[0], AS_OF)
    place.faults.clear()
    made, report = syncing.run_sync(settings, home, NAME, now=clock)
    assert (made.hash, report.upserted, report.withheld) == (kept.hash, 3, 1)
    assert there(place) == 3
    assert ops.said[2:] == ["sync braze recovered", "braze past its deadline recovered"]
    assert "well again after 2 h 30 min" in ops.lines[2]
    assert alerts.standing(home) == []
    assert retried(home) == []
    syncing.run_sync(settings, home, NAME, now=clock)
    assert len(ops.lines) == 4, "told once"

    # The drop goes when it has expired.
    job = housekeeping.job(home)
    assert job.execute_in_process().output_for_node is not None
    assert folder.exists()
    assert syncing.clear_expired_drops(home, clock.now + timedelta(hours=24)) == [folder.name]


def test_a_run_that_was_stopped_half_way_goes_on_with_its_plan(
    home: Home, settings: Settings, place: Served, clock: Clock, ops: Ops
) -> None:
    release(settings, home, persons(500))
    place.faults.order("error", times=None, after=2, status=503, route="track")
    with pytest.raises(DestinationDownError):
        syncing.run_sync(settings, home, NAME, now=clock)
    begun = there(place)
    assert 0 < begun < 250, "the rest is more than may be added to an audience at once"
    kept = plan.read(home, NAME)
    place.faults.clear()
    made, report = syncing.run_sync(settings, home, NAME, now=clock)
    assert made.hash == kept.hash
    assert report.done_before > 0
    assert there(place) == 500


def test_a_plan_is_tried_until_it_expires(
    home: Home, settings: Settings, place: Served, clock: Clock, ops: Ops
) -> None:
    release(settings, home, persons(4))
    go_down(place)
    with pytest.raises(DestinationDownError):
        syncing.run_sync(settings, home, NAME, now=clock)
    expires_at = plan.read(home, NAME).expires_at
    for moment, expected in ((expires_at - timedelta(seconds=1), [NAME]), (expires_at, [])):
        assert syncing.waiting_for_destinations(home, [NAME], moment) == expected


def test_what_somebody_began_by_hand_is_not_tried_again_by_itself(
    home: Home, settings: Settings, place: Served, ops: Ops
) -> None:
    release(settings, home, persons(4))
    syncing.plan_sync(settings, home, NAME)
    go_down(place)
    with pytest.raises(DestinationDownError):
        syncing.apply_sync(settings, home, NAME)
    assert ops.said == ["sync braze ALARM"]
    assert retried(home) == []
    place.faults.clear()
    syncing.apply_sync(settings, home, NAME)
    assert ops.said[1:] == ["sync braze recovered"]


def test_the_job_of_a_sync_carries_out_and_fails_with_what_stopped_it(
    home: Home, settings: Settings, place: Served, ops: Ops
) -> None:
    release(settings, home, persons(4))
    document = sync.read(settings, NAME)
    made = sync_assets.assets(settings, home, [document], [], None)
    config = {"ops": {"syncs__braze": {"config": {"carry_out": True}}}}
    go_down(place)
    with dg.DagsterInstance.ephemeral() as instance:
        failed = dg.materialize(made, instance=instance, run_config=config, raise_on_error=False)
        (step,) = failed.get_step_failure_events()
        assert "gave up after 4 attempts" in str(step.event_specific_data)
        assert retried(home) == ["sync_braze"]
        place.faults.clear()
        done = dg.materialize(made, instance=instance, run_config=config)
    (event,) = done.asset_materializations_for_node("syncs__braze")
    assert event.metadata["contacts upserted"].value == 4
    assert ops.said == ["sync braze ALARM", "sync braze recovered"]


def test_a_retry_is_not_started_beside_one_that_is_at_work(
    home: Home, settings: Settings, place: Served, ops: Ops
) -> None:
    release(settings, home, persons(4))
    go_down(place)
    with pytest.raises(DestinationDownError):
        syncing.run_sync(settings, home, NAME)
    run_id = "11111111-1111-1111-1111-111111111111"
    at_work = dg.DagsterRun(job_name="sync_braze", run_id=run_id, status=dg.DagsterRunStatus.STARTED)
    assert retried(home, runs=[at_work]) == []
    other = dg.DagsterRun(job_name="suppress", run_id=run_id, status=dg.DagsterRunStatus.STARTED)
    assert retried(home, runs=[other]) == ["sync_braze"]


def test_no_retry_goes_past_a_breaker(home: Home, settings: Settings, place: Served, clock: Clock, ops: Ops) -> None:
    release(settings, home, persons(10))
    syncing.run_sync(settings, home, NAME, now=clock)
    # Everybody's segment changes, and the destination is down.
    release(settings, home, [Person(one.email, one.customer_id, segments=("dormant",)) for one in persons(10)],
            AS_OF + timedelta(hours=1))  # fmt: skip
    go_down(place)
    with pytest.raises(DestinationDownError):
        syncing.run_sync(settings, home, NAME, now=clock)
    assert retried(home) == ["sync_braze"]
    # Before it is back, a release says that 9 of 10 are gone.
    release(settings, home, persons(1), AS_OF + timedelta(hours=2))
    place.faults.clear()
    for _ in range(2):
        with pytest.raises(TrippedError, match="removed"):
            syncing.run_sync(settings, home, NAME, now=clock)
    assert there(place) == 10
    assert retried(home) == [], "somebody has to look at it"
    assert ops.said == ["sync braze ALARM", "breakers of braze ALARM"]
    release(settings, home, persons(10), AS_OF + timedelta(hours=3))
    syncing.run_sync(settings, home, NAME, now=clock)
    assert sorted(ops.said[2:]) == ["breakers of braze recovered", "sync braze recovered"]


def test_a_failed_gate_stops_it_and_is_an_alert(
    home: Home, settings: Settings, place: Served, clock: Clock, ops: Ops
) -> None:
    release(settings, home, persons(4))
    gate.begin(home, START)
    with pytest.raises(TrippedError, match="gate"):
        syncing.run_sync(settings, home, NAME, now=clock)
    assert ops.said == ["breakers of braze ALARM"]
    assert there(place) == 0
    # The job for withdrawals, which gates do not stop, tells of the refresh itself.
    syncing.suppress_syncs(settings, home)
    assert ops.said == ["breakers of braze ALARM", "refresh ALARM"]


def test_a_sync_that_can_not_begin_is_an_alert_if_it_runs_by_itself(
    home: Home, settings: Settings, place: Served, clock: Clock, ops: Ops
) -> None:
    with pytest.raises(PlanError, match="no release"):
        syncing.run_sync(settings, home, NAME, now=clock)
    assert ops.said == ["sync braze ALARM"]
    with pytest.raises(PlanError):
        syncing.apply_sync(settings, home, "other")
    assert ops.said == ["sync braze ALARM"]


def test_withdrawals_that_a_destination_does_not_take_are_an_alert_and_late_ones_another(
    home: Home, settings: Settings, place: Served, ops: Ops, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody = persons(4)
    release(settings, home, everybody)
    syncing.plan_sync(settings, home, NAME)
    syncing.apply_sync(settings, home, NAME)
    monkeypatch.setattr("activation.suppress._RETRY", IMPATIENT)
    assert syncing.suppress_syncs(settings, home)[0].error is None
    withdraw(home, 1, everybody[0], START)
    go_down(place)
    for _ in range(2):
        syncing.suppress_syncs(settings, home)
    assert ops.said == ["withdrawals at braze ALARM"]
    withdraw(home, 2, everybody[1], START - timedelta(hours=25))
    syncing.suppress_syncs(settings, home)
    assert ops.said == ["withdrawals at braze ALARM", "withdrawals late at braze ALARM"]
    place.faults.clear()
    (report,) = syncing.suppress_syncs(settings, home)
    assert report.unsubscribed == 2
    assert sorted(ops.said[2:]) == ["withdrawals at braze recovered", "withdrawals late at braze recovered"]


def test_an_alert_that_nobody_takes_fails_no_sync(
    home: Home, settings: Settings, place: Served, clock: Clock, ops: Ops
) -> None:
    ops.is_down = True
    release(settings, home, persons(4))
    go_down(place)
    with pytest.raises(DestinationDownError):
        syncing.run_sync(settings, home, NAME, now=clock)
    place.faults.clear()
    assert syncing.run_sync(settings, home, NAME, now=clock)[1].upserted == 4
    ops.is_down = False
    syncing.suppress_syncs(settings, home)
    assert ops.said == ["sync braze ALARM", "sync braze recovered"]
