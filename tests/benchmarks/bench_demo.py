"""How fast the demo is, and how big.

Run: python -m tests.benchmarks.bench_demo [--orders-only]

Figures are printed and never asserted. The demo is measured against a floor of the same run and the same machine: a
bare DuckDB script that reads the lake's accepted order lines and aggregates them by customer. The orchestration's
overhead is what a refresh takes beyond a bare `dbt build` by the command line and the learning steps.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from core.settings import PROJECT_ROOT
from tests.benchmarks.measuring import run, say

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
from ml.models import models
from orchestration.modelling import open_registry, run_model

settings = load_settings()
home = open_home(settings)
registry = open_registry(settings, home)
for model in models():
    run_model(settings, home, model, registry=registry)
"""


def main(*, orders_only: bool = False) -> None:
    """Measure with the whole sample, or with its orders alone."""
    command = [sys.executable, "-m", "orchestration.cli"]
    with tempfile.TemporaryDirectory(prefix="mailwright-bench-") as folder:
        root = Path(folder) / "home"
        environment = {**os.environ, "MAILWRIGHT_HOME": str(root), "MAILWRIGHT_SANDBOX_PORT": "8885"}
        say("mailwright --help (median of 5)", statistics.median(help_times(command, environment)), "s")
        options = ["--orders-only"] if orders_only else []
        sample = run([*command, "sample", "online-retail", *options], environment)
        floors = [run([sys.executable, "-c", FLOOR, str(root / "lake")], environment) for _ in range(3)]
        floor = statistics.median(cost.seconds for cost in floors)
        say("floor: DuckDB over the order lines (median of 3)", floor, "s", floor)
        say("sample", sample.seconds, "s", floor)
        refresh = run([*command, "refresh"], environment)
        say("refresh, first (parses dbt, trains the models)", refresh.seconds, "s", floor)
        plan, apply = (run([*command, step, "mailchimp"], environment) for step in ("plan", "apply"))
        say("plan and apply", plan.seconds + apply.seconds, "s", floor)
        steps = (sample, refresh, plan, apply)
        say("demo in all: sample, refresh, plan, apply", sum(step.seconds for step in steps), "s", floor)
        again = run([*command, "refresh"], environment)
        say("refresh, again", again.seconds, "s", floor)
        artifacts = ["--target-path", f"{folder}/target", "--log-path", f"{folder}/logs"]
        bare = run(
            [str(DBT), "build", "--exclude-resource-type", "unit_test", *artifacts],
            environment,
            PROJECT_ROOT / "dbt_project",
        )
        say("bare dbt build, without unit tests", bare.seconds, "s", floor)
        learn = run([sys.executable, "-c", LEARN], environment)
        say("learning steps alone, with kept models", learn.seconds, "s", floor)
        say("what orchestration, checks and publishing add", again.seconds - bare.seconds - learn.seconds, "s")
        say("peak memory of a process", max(step.memory for step in steps), "GB")
        run([*command, "sandbox", "stop"], environment)


def help_times(command: Sequence[str], environment: dict[str, str]) -> list[float]:
    """Seconds of `--help`, five times, after a first one that warms the caches."""
    run([*command, "--help"], environment)
    return [run([*command, "--help"], environment).seconds for _ in range(5)]


if __name__ == "__main__":
    main(orders_only="--orders-only" in sys.argv)
