"""Fixtures: a place for each platform that there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from activation.connector import platforms
from core.home import Home
from core.settings import Settings
from tests.integration.activation.conformance.place import Place, place_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test of the suite for every platform."""
    if "platform" in metafunc.fixturenames:
        metafunc.parametrize("platform", sorted(platforms()))


@pytest.fixture
def place(platform: str, home: Home, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with place_of(platform, home, settings, monkeypatch) as made:
        yield made


@pytest.fixture(autouse=True, scope="module")
def _unhurried_disk() -> Iterator[None]:
    """A ledger that does not wait for the disk: what a killed process wrote is there all the same."""

    def set_up(connection: Any, _: Any) -> None:
        connection.execute("pragma synchronous = off")

    event.listen(Engine, "connect", set_up)
    yield
    event.remove(Engine, "connect", set_up)


@pytest.fixture(autouse=True)
def _noted(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """Say which cell of the table connector x fault a test fills."""
    marker = request.node.get_closest_marker("fault")
    if marker is not None and "platform" in request.fixturenames:
        fault = request.getfixturevalue("fault") if not marker.args else marker.args[0]
        record_property("fault", str(fault))
        record_property("platform", request.getfixturevalue("platform"))
