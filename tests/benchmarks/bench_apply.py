"""How many contacts a second an apply brings to each platform: plan, consent, ledger, connector, and the sandbox beside it.

Run: python -m tests.benchmarks.bench_apply [SYNC ...]

A first sync of 30,000 members with the fields of the shipped document and two of twelve segments each, from a synthetic
release. The sandbox runs on this machine, on its loopback, and imposes the platform's published limits. What is held against
it is the smaller of 5,000 a second and 80 % of what the platform publishes. Figures are printed and never asserted.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from activation import apply, destinations, plan, sync
from activation.sandbox import process
from core.home import Home
from core.settings import Settings
from tests.benchmarks import bench_plan
from tests.benchmarks.bench_sandbox import WANTED, cpu

MEMBERS = 30_000
PORT = 8640


def main(names: Sequence[str] = ()) -> None:
    """Measure the syncs named, or all."""
    print(f"A first apply of {MEMBERS:,} contacts, with the sandbox on this machine", flush=True)
    with tempfile.TemporaryDirectory(prefix="mailwright-bench-") as folder:
        home = Home.create(Path(folder) / "home", "Europe/London", "GBP", bench_plan.AS_OF)
        settings = Settings(home=home.root, sandbox_port=PORT, sandbox=True)
        bench_plan.release(settings, home, MEMBERS, 0)
        try:
            for name in names or sync.names():
                measure(settings, home, name)
        finally:
            process.stop(home)


def measure(settings: Settings, home: Home, name: str) -> None:
    """Plan and apply one sync, and say how long the apply took."""
    read = sync.read(settings, name)
    platform = read.connector.platform
    sandbox, us = psutil.Process(process.start(settings, home).process_id), psutil.Process(os.getpid())
    connector = destinations.open(settings, home, read)
    try:
        made = plan.make(settings, home, read, connector=connector)
        started, theirs, ours = time.perf_counter(), cpu(sandbox), cpu(us)
        report = apply.apply(settings, home, made, connector=connector, override=[one.name for one in made.tripped])
        seconds, theirs, ours = time.perf_counter() - started, cpu(sandbox) - theirs, cpu(us) - ours
    finally:
        connector.close()
    if report.upserted != MEMBERS:
        sys.exit(f"{name}: {report.upserted:,} of {MEMBERS:,} contacts were taken")
    published = platform.limit("contacts").contacts_per_second
    wanted = WANTED if published is None else min(WANTED, 0.8 * published)
    print(
        f"{name:10} {MEMBERS / seconds:8,.0f} contacts/s, {MEMBERS / seconds / wanted:5.2f} of the wanted {wanted:6,.0f}"
        f" (published {'nothing' if published is None else f'{published:,.0f}'});"
        f" processors {ours:5.1f} s apply, {theirs:5.1f} s sandbox",
        flush=True,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
