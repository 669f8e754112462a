"""Homes for the whole line."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import parsing
from tests.conftest import CommandLine
from tests.e2e import retailer


@pytest.fixture(scope="session")
def loaded_retailer(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """Another retailer's files in a home of its own, loaded and not refreshed. Copy it before changing it."""
    folder = tmp_path_factory.mktemp("retailer")
    files = retailer.write(folder / "files")
    command = CommandLine(folder / "home")
    command.run("init", "--timezone", retailer.TIMEZONE, "--currency", retailer.CURRENCY)
    shop = [f"{table}={files[table]}" for table in ("orders", "order_lines", "products")]
    crm = [f"{table}={files[table]}" for table in ("contacts", "consents")]
    said = command.run("load", "shop", *shop, "--historical")
    assert "marketplace" in said, "an unknown column is noticed"
    command.run("load", "crm", *crm, "--historical")
    parsing.parse_into(command.home)
    return command


@pytest.fixture(scope="session")
def refreshed_retailer(loaded_retailer: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """The same, refreshed without interruption."""
    command = copy_of(loaded_retailer, tmp_path_factory.mktemp("refreshed") / "home", port=8745)
    command.run("refresh")
    yield command
    command.run("sandbox", "stop")


def copy_of(command: CommandLine, root: Path, *, port: int, project: Path | None = None) -> CommandLine:
    """A copy of a home, with a sandbox port of its own, worked on by the same checkout or another."""
    shutil.copytree(command.root, root)
    return CommandLine(root, port, project or command.project)
