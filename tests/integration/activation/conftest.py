"""Fixtures: a home, its settings, a destination in memory of both, and databases for ledgers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from core.home import Home
from core.settings import Settings
from tests.integration.activation import postgresql
from tests.integration.activation.stage import Stage


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.create(tmp_path / "home", "Europe/London", "GBP")


@pytest.fixture
def settings(home: Home, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("API_KEY", "SERVER", "LIST_ID"):
        monkeypatch.delenv(f"MAILWRIGHT_MAILCHIMP_{name}", raising=False)
    return Settings(home=home.root, memory_limit="500MB", threads=2)


@pytest.fixture
def stage(home: Home, settings: Settings) -> Stage:
    return Stage(home, settings)


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
