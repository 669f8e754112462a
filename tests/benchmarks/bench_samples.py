"""How fast the simulated sample is written, beside the floor of writing as many bare rows, and what a million would take.

Run: python -m tests.benchmarks.bench_samples [customers]
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

from core.settings import load_settings
from samples import simulated
from samples.draws import connect


def main(customers: int = 100_000) -> None:
    settings = load_settings()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        began = time.perf_counter()
        made = list(simulated.handovers(settings, folder / "raw", folder / "truth", customers=customers))
        seconds = time.perf_counter() - began
        rows: dict[str, int] = {}
        with connect(settings, 0, threads=settings.threads) as connection:
            for handover in made:
                for table, paths in handover.files.items():
                    query = "select count(*) from read_parquet(?)"
                    [(count,)] = connection.execute(query, [[str(path) for path in paths]]).fetchall()
                    rows[f"{handover.source}.{table}"] = count
            total = sum(rows.values())
            began = time.perf_counter()
            connection.execute(
                f"copy (select i, draw(i, 'floor') as value, 'row-' || i as name from range({total}) as numbers (i))"
                f" to '{folder / 'floor.parquet'}' (format parquet, compression zstd)"
            )
            floor = time.perf_counter() - began
    for name, count in sorted(rows.items()):
        print(f"  {name:28} {count:>12,}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{customers:,} customers, {total:,} rows: {seconds:.1f} s, {total / seconds:,.0f} rows/s, {memory:,.0f} MB")
    print(f"ratio to writing as many bare rows ({floor:.1f} s): {seconds / floor:.1f}")
    print(f"1,000,000 customers would take {seconds * 1_000_000 / customers / 60:.1f} minutes")


if __name__ == "__main__":
    main(*(int(argument.replace("_", "")) for argument in sys.argv[1:2]))
