"""What the benchmarks share: running a command and measuring it, the floor's connection, lines of a report."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.settings import PROJECT_ROOT, load_settings

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds of the clock and of all processors, peak memory in GB."""

    seconds: float
    cpu_seconds: float
    memory: float


def run(command: Sequence[str], environment: Mapping[str, str], cwd: Path = PROJECT_ROOT) -> Cost:
    """Run a command in a process of its own; stops the benchmark, showing what it said, if it fails."""
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=dict(environment), cwd=cwd, stdout=said, stderr=subprocess.STDOUT)
        # wait4 and not wait: it tells what this one process took, RUSAGE_CHILDREN the most that any did.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        if process.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{said.read().decode(errors='replace')[-4000:]}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20)


@contextmanager
def floor_connection(database: str = ":memory:") -> Iterator[duckdb.DuckDBPyConnection]:
    """A bare DuckDB with the settings' threads and memory, and nothing else of ours."""
    import duckdb

    settings = load_settings()
    with tempfile.TemporaryDirectory(prefix="mailwright-bench-") as spill, duckdb.connect(database) as connection:
        connection.execute(f"set memory_limit = '{settings.memory_limit}'")
        connection.execute(f"set threads = {settings.threads}")
        connection.execute("set temp_directory = ?", [spill])
        connection.execute("set enable_progress_bar = false")
        yield connection


def say(name: str, value: float, unit: str, floor: float | None = None) -> None:
    """One line of the report."""
    ratio = f"{value / floor:8.1f} x floor" if floor else ""
    print(f"{name:<60} {value:9.2f} {unit:<3} {ratio}".rstrip(), flush=True)


def exponent(costs: Mapping[int, float]) -> float:
    """The p of cost = c * size ** p that fits best (least squares of the logarithms); 1 is linear."""
    sizes = [math.log(size) for size in costs]
    logs = [math.log(cost) for cost in costs.values()]
    middle, height = sum(sizes) / len(sizes), sum(logs) / len(logs)
    return sum((x - middle) * (y - height) for x, y in zip(sizes, logs, strict=True)) / sum(
        (x - middle) ** 2 for x in sizes
    )
