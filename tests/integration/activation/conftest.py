"""Fixtures: a home, its settings, and a world of both with a sandbox at work."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from activation.old_mailchimp import Mailchimp
from activation.sandbox.app import Sandbox
from core.home import Home
from core.settings import Settings
from tests.integration.activation import postgresql
from tests.integration.activation.world import Faults, World, serving


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.create(tmp_path / "home", "Europe/London", "GBP")


@pytest.fixture
def settings(home: Home, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("API_KEY", "SERVER", "LIST_ID"):
        monkeypatch.delenv(f"MAILWRIGHT_MAILCHIMP_{name}", raising=False)
    return Settings(home=home.root, memory_limit="500MB", threads=2)


@pytest.fixture
def world(home: Home, settings: Settings) -> Iterator[World]:
    sandbox = Sandbox(home.sandbox, "test", ["mailchimp"])
    part = sandbox.parts["mailchimp"]
    faults = Faults(sandbox.app())
    with serving(faults) as url:
        destination = Mailchimp(
            f"{url}/mailchimp/3.0",
            SecretStr(part.secrets["api_key"]),
            part.secrets["list_id"],
            "Mailchimp sandbox",
            account="sandbox",
            timeout=5,
        )
        yield World(home, settings, sandbox, destination, faults)
        destination.close()
    sandbox.close()


@pytest.fixture
def api(world: World) -> Iterator[httpx.Client]:
    """A plain client of the sandbox's audience, with its key."""
    secrets = world.sandbox.parts["mailchimp"].secrets
    base = f"{world.destination._base_url}/lists/{secrets['list_id']}"
    with httpx.Client(base_url=base, auth=("anyone", secrets["api_key"]), trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """A PostgreSQL server's address."""
    binaries = postgresql.binaries()
    if binaries is None:
        pytest.skip(postgresql.MISSING)
    with postgresql.running(binaries) as url:
        yield url


@pytest.fixture
def database(postgresql_server: str) -> Iterator[SecretStr]:
    """A database of its own for each test."""
    name = f"ledger_{uuid.uuid4().hex[:12]}"
    engine = create_engine(
        postgresql_server.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(text(f"create database {name}"))
    yield SecretStr(postgresql_server.replace("/postgres?", f"/{name}?"))
    with engine.connect() as connection:
        connection.execute(text(f"drop database {name} with (force)"))
    engine.dispose()
