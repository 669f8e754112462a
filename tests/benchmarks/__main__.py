"""How fast everything is, and how big: `make bench`.

Figures are printed and never asserted; what they are held against is a floor or a rival measured in the same run. The
demo, RFM against pandas, the ledger, plans, applies, then growth with the number of customers. `bench_identity`,
`bench_samples` and `bench_sandbox` run by themselves.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.benchmarks import bench_apply, bench_demo, bench_ledger, bench_plan, bench_rfm, bench_scale


def main() -> None:
    """Read the command line, run one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--orders-only", action="store_true", help="the demo without simulated companions")
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=bench_scale.DEFAULT_SIZES, help="customers to grow with (10000 100000)"
    )
    bench_scale.add_options(parser)
    given = parser.parse_args()
    print("The demo", flush=True)
    bench_demo.main(orders_only=given.orders_only)
    print("\nRFM", flush=True)
    bench_rfm.main()
    print("\nThe ledger", flush=True)
    bench_ledger.bench()
    print("\nPlans", flush=True)
    with tempfile.TemporaryDirectory(prefix="mailwright-bench-") as folder:
        bench_plan.bench(bench_plan.MEMBERS, bench_plan.CHANGES, Path(folder))
    print("\nApplies", flush=True)
    bench_apply.main()
    print("\nGrowth", flush=True)
    with tempfile.TemporaryDirectory(prefix="mailwright-bench-") as folder:
        bench_scale.bench(given.sizes, (given.homes or Path(folder)).absolute(), given.memory, given.nodes)


if __name__ == "__main__":
    main()
