"""Fixtures that several rooms share: a clean environment, the command line, and a home refreshed once per session."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.home import Home
from core.settings import PREFIX, PROJECT_ROOT
from tests import parsing
from tests.integration.activation.conformance.table import table

# Homes that take minutes to make. Tests that share one run in one process, in turn: a warehouse has one writer.
SHARED_HOMES = ("orders_only", "refreshed_retailer")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tell pytest-xdist what belongs together: tests that share a home, or a platform's, else the tests of a module."""
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        shared = [name for name in SHARED_HOMES if name in getattr(item, "fixturenames", ())]
        module = item.nodeid.partition("::")[0]
        if item.get_closest_marker("fault") is not None:
            # The conformance suite's modules are long, its platforms alike.
            module = f"{module.rpartition('/')[0]} {item.callspec.params['platform']}"  # type: ignore[attr-defined]
        item.add_marker(pytest.mark.xdist_group(shared[0] if shared else module))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table connector x fault, where tests of the conformance suite ran."""
    reports = [report for found in terminalreporter.stats.values() for report in found if hasattr(report, "when")]
    if lines := table(reports):
        terminalreporter.section("connector x fault")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    """What the developer has set must not decide what a test finds."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith((PREFIX, "DAGSTER_", "DBT_"))]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def _shared_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with parsing.shared_place(tmp_path_factory):
        yield


@dataclass(frozen=True)
class CommandLine:
    """`mailwright` on one home, in processes of its own; of this checkout or of a copy of it."""

    root: Path
    port: int = 8725
    project: Path = PROJECT_ROOT

    @property
    def home(self) -> Home:
        return Home.open(self.root)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "MAILWRIGHT_HOME": str(self.root),
            "MAILWRIGHT_SANDBOX_PORT": str(self.port),
            "MAILWRIGHT_MEMORY_LIMIT": "1GB",
            "PYTHONUNBUFFERED": "1",
        }

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start a command and go on."""
        return subprocess.Popen(
            [sys.executable, "-m", "orchestration.cli", *map(str, arguments)],
            cwd=self.project,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str | Path, expect: int = 0) -> str:
        """Run a command to its end; returns what it printed."""
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=900)
        assert process.returncode == expect, f"mailwright {' '.join(map(str, arguments))} said:\n{said}"
        return said


@pytest.fixture(scope="session")
def orders_only(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """The real orders and nothing else, refreshed as of 2011-12-10. Shared: read it, don't change it."""
    command = CommandLine(tmp_path_factory.mktemp("orders_only") / "home")
    command.run("sample", "online-retail", "--orders-only")
    parsing.parse_into(command.home)
    command.run("refresh", "--as-of", "2011-12-10")
    return command


@pytest.fixture(scope="session")
def orders_only_home(orders_only: CommandLine) -> Home:
    return orders_only.home
