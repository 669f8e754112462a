"""How fast the line is, and how big: `make bench`.

Figures are printed and never asserted. The demo is measured against a floor of the same run and the same machine: a
bare DuckDB script that reads the lake's accepted order lines and aggregates them by customer. The orchestration's
overhead is what a refresh takes beyond a bare `dbt build` by the command line and the learning steps.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from core.settings import PROJECT_ROOT

DBT = Path(sys.executable).with_name("dbt")
FLOOR = """
import sys, duckdb
lake = sys.argv[1]
duckdb.execute(f'''
    select customer_ref, count(distinct order_id), sum(quantity * unit_price), max(occurred_at)
    from read_parquet('{lake}/accepted/shop/order_lines/*.parquet', union_by_name = true)
    group by customer_ref
''').fetchall()
"""
LEARN = """
from core.home import open_home
from core.settings import load_settings
from orchestration import refresh

settings = load_settings()
home = open_home(settings)
refresh.find_clusters(settings, home)
refresh.score_churn(settings, home)
"""


def timed(command: Sequence[str], environment: dict[str, str], cwd: Path = PROJECT_ROOT) -> float:
    """Seconds that a command takes; stops the benchmark if it fails."""
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return seconds


def say(name: str, value: float, unit: str, floor: float | None = None) -> None:
    """One line of the report."""
    ratio = f"{value / floor:8.1f} x floor" if floor else ""
    print(f"{name:<52} {value:8.2f} {unit:<3} {ratio}", flush=True)


def main() -> None:
    """Measure with the whole sample, or with its orders alone."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--orders-only", action="store_true", help="without simulated companions")
    given = parser.parse_args()
    command = [sys.executable, "-m", "orchestration.cli"]
    with tempfile.TemporaryDirectory(prefix="mailwright-bench-") as folder:
        root = Path(folder) / "home"
        environment = {**os.environ, "MAILWRIGHT_HOME": str(root), "MAILWRIGHT_SANDBOX_PORT": "8885"}
        say("mailwright --help (median of 5)", statistics.median(help_times(command, environment)), "s")
        options = ["--orders-only"] if given.orders_only else []
        sample = timed([*command, "sample", "online-retail", *options], environment)
        floor = statistics.median(
            timed([sys.executable, "-c", FLOOR, str(root / "lake")], environment) for _ in range(3)
        )
        say("floor: DuckDB over the order lines (median of 3)", floor, "s", floor)
        say("sample", sample, "s", floor)
        refresh = timed([*command, "refresh"], environment)
        say("refresh, first (parses dbt, trains the models)", refresh, "s", floor)
        sync = timed([*command, "plan", "mailchimp"], environment) + timed(
            [*command, "apply", "mailchimp"], environment
        )
        say("plan and apply", sync, "s", floor)
        say("demo in all: sample, refresh, plan, apply", sample + refresh + sync, "s", floor)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        again = timed([*command, "refresh"], environment)
        say("refresh, again", again, "s", floor)
        artifacts = ["--target-path", f"{folder}/target", "--log-path", f"{folder}/logs"]
        bare = timed(
            [str(DBT), "build", "--exclude-resource-type", "unit_test", *artifacts],
            environment,
            PROJECT_ROOT / "dbt_project",
        )
        say("bare dbt build, without unit tests", bare, "s", floor)
        learn = timed([sys.executable, "-c", LEARN], environment)
        say("learning steps alone, with kept models", learn, "s", floor)
        say("what orchestration, checks and publishing add", again - bare - learn, "s")
        say("peak memory of a process", peak, "GB")
        timed([*command, "sandbox", "stop"], environment)


def help_times(command: Sequence[str], environment: dict[str, str]) -> list[float]:
    """Seconds of `--help`, five times, after a first one that warms the caches."""
    timed([*command, "--help"], environment)
    return [timed([*command, "--help"], environment) for _ in range(5)]


if __name__ == "__main__":
    main()
