"""The dbt project as it stands, parsed once for all tests and by one process for all of pytest-xdist's.

A parse takes longer than most of what a test then does with it, and depends on no home.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from core.home import Home
from core.settings import Settings
from orchestration.dbt import DbtRunner

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

PLACE = "PYTEST_SHARED_FOLDER"
"""Environment variable that holds the folder which all processes of a test run share."""


@contextmanager
def shared_place(factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tell this process which folder it shares with the others."""
    own = factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PLACE, str(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own))
        yield


def parse_into(home: Home) -> None:
    """Give a home what `DbtRunner` finds the project parsed by; it looks itself whether that is still so."""
    shutil.copytree(_parsed(), DbtRunner(Settings(home=home.root), home).target, dirs_exist_ok=True)


def manifest() -> Manifest:
    """The parsed project, a copy of one's own: commands leave in it what they compiled."""
    from dbt.contracts.graph.manifest import Manifest
    from dbt.parser.manifest import extended_mashumuro_decoder

    read = Manifest.from_msgpack(_packed(), decoder=extended_mashumuro_decoder)
    read.build_flat_graph()
    return read


@functools.cache
def _packed() -> bytes:
    return (_parsed() / "partial_parse.msgpack").read_bytes()


@functools.cache
def _parsed() -> Path:
    """A folder with what `DbtRunner.prepare` writes. Whoever comes first makes it, the others wait."""
    place = Path(os.environ[PLACE]) / "parsed"
    place.mkdir(exist_ok=True)
    with (place / "lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        root = place / "home"
        home = Home.open(root) if root.exists() else Home.create(root, "UTC", "GBP")
        return DbtRunner(Settings(home=root), home).prepare().parent
