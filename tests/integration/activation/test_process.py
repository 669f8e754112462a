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
from pathlib import Path

import httpx
import pytest

from activation import old_apply as apply
from activation import old_plan as plan
from activation.destination import connect
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
    import duckdb

    from activation import releases

    with duckdb.connect() as connection:
        fill_warehouse(connection, people(4))
        releases.freeze(settings, home, connection, as_of=AS_OF)
    made = plan.make(settings, home, "mailchimp")
    assert process.status(home) is None, "a plan needs no server"
    assert apply.apply(settings, home, made).upserted == 4
    assert process.status(home) is not None
    assert plan.make(settings, home, "mailchimp").is_empty
    process.stop(home)
    for path in home.sandbox.glob("mailchimp.sqlite*"):
        path.unlink()
    assert plan.make(settings, home, "mailchimp").creates == 4


def test_status_is_cheap_to_import() -> None:
    code = "import sys, activation.sandbox.process; print(*[m for m in ('httpx', 'starlette', 'sqlalchemy', 'duckdb') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_a_real_key_needs_its_audience(home: Home, tmp_path: Path) -> None:
    from pydantic import SecretStr

    from core.errors import SettingsError

    key = SecretStr("0123456789abcdef-us19")
    with pytest.raises(SettingsError, match="MAILWRIGHT_MAILCHIMP_LIST_ID"):
        connect("mailchimp", Settings(home=home.root, mailchimp_api_key=key), home)
    with pytest.raises(SettingsError, match="MAILWRIGHT_MAILCHIMP_SERVER"):
        connect(
            "mailchimp", Settings(home=home.root, mailchimp_api_key=SecretStr("nosuffix!"), mailchimp_list_id="a"), home
        )
    real = connect("mailchimp", Settings(home=home.root, mailchimp_api_key=key, mailchimp_list_id="abc123"), home)
    assert real.target == "mailchimp/us19/abc123"
    assert real._base_url == "https://us19.api.mailchimp.com/3.0"  # type: ignore[attr-defined]
    assert "0123456789abcdef" not in repr(real) + real.description
