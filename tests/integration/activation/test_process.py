"""The sandbox as a process: started once, found again, stopped, and never mistaken for another."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import duckdb
import httpx
import pytest

from activation import apply, plan, releases, sync
from activation.sandbox import process
from core.errors import DestinationError
from core.home import Home
from core.settings import PROJECT_ROOT, Settings
from tests.integration.activation.world import AS_OF, fill_warehouse, people


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"sandbox_port": free_port()})


@pytest.fixture(autouse=True)
def _stopped(home: Home) -> Iterator[None]:
    yield
    process.stop(home)


def test_start_is_idempotent_and_stop_stops(home: Home, settings: Settings) -> None:
    assert process.status(home) is None
    first = process.start(settings, home)
    assert first.is_new
    assert first.port == settings.sandbox_port
    second = process.start(settings, home)
    assert (second.process_id, second.is_new) == (first.process_id, False)
    assert httpx.get(f"{first.url}/mailchimp/3.0/ping", trust_env=False).status_code == 401
    assert process.stop(home)
    assert process.status(home) is None
    assert not process.stop(home)
    with pytest.raises(httpx.ConnectError):
        httpx.get(first.url, trust_env=False)


def test_two_starts_at_once_give_one_server(home: Home, settings: Settings) -> None:
    with ThreadPoolExecutor(2) as pool:
        started = list(pool.map(lambda _: process.start(settings, home), range(2)))
    assert len({running.process_id for running in started}) == 1
    process.stop(home)
    time.sleep(1.5)
    assert process.status(home) is None, "the one that came second must not step in"


def test_a_killed_server_is_not_taken_for_alive(home: Home, settings: Settings) -> None:
    first = process.start(settings, home)
    os.kill(first.process_id, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while process.status(home) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.status(home) is None
    assert process.start(settings, home).process_id != first.process_id


def test_a_taken_port_is_gone_round_and_said(home: Home, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", settings.sandbox_port)):
        running = process.start(settings, home)
    assert running.port != settings.sandbox_port
    assert running.summary()["note"] == f"port {settings.sandbox_port} is taken by something else"
    assert process.status(home) == process.Running(running.process_id, running.port, wanted_port=settings.sandbox_port)


def test_a_server_that_can_not_start_names_its_log(home: Home, settings: Settings) -> None:
    home.sandbox.mkdir()
    (home.sandbox / "mailchimp.sqlite").write_text("this is no database, nor will it become one" * 100)
    with pytest.raises(DestinationError, match=r"its log, .*server\.log, ends with .*not a database"):
        process.start(settings, home)


def test_it_listens_on_loopback_only_and_keeps_its_files_private(home: Home, settings: Settings) -> None:
    running = process.start(settings, home)
    import psutil

    sockets = [found for found in psutil.Process(running.process_id).net_connections() if found.status == "LISTEN"]
    assert [found.laddr.ip for found in sockets] == ["127.0.0.1"]
    process.account(settings, home, "mailchimp")
    for path in home.sandbox.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_the_connector_starts_it_when_it_is_needed_and_a_new_database_is_a_new_audience(
    home: Home, settings: Settings
) -> None:
    with duckdb.connect() as connection:
        fill_warehouse(connection, people(4))
        releases.freeze(settings, home, connection, as_of=AS_OF)
    shipped = sync.read(settings, "mailchimp")
    columns = {column: name for column, name in shipped.fields.items() if column in ("given_name", "rfm_segment")}
    document = shipped.model_copy(update={"fields": columns})

    def planned() -> plan.Plan:
        return plan.make(settings, home, document, now=AS_OF)

    made = planned()
    assert apply.apply(settings, home, made, sync=document, now=lambda: AS_OF).upserted == 4
    assert process.status(home) is not None
    assert planned().is_empty
    process.stop(home)
    for path in home.sandbox.glob("mailchimp.sqlite*"):
        path.unlink()
    assert planned().creates == 4


def test_status_is_cheap_to_import() -> None:
    code = "import sys, activation.sandbox.process; print(*[m for m in ('httpx', 'starlette', 'sqlalchemy', 'duckdb') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
