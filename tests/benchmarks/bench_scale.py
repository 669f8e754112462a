"""How cost grows with the number of customers: full build, a day's increment, the feature spine, a segment's diff.

Run: python -m tests.benchmarks.bench_scale 10000 100000 1000000 [--homes DIR]

For each size a simulated retailer (10 orders and 100 events a customer) is made, or taken from --homes; the benchmark
works on a copy whose large files are hard links, so a home is used again as it was. A million customers take half an
hour to make and 30 GB of disk. The floor is measured in the same run with the same threads and memory: a bare DuckDB
reads every raw file once, writes each fact table once and groups each fact by customer once. At the end every cost's
growth exponent over the sizes: 1 is linear. Figures are printed and never asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from core.clock import local_midnight, write_clock
from core.home import Home
from core.settings import PROJECT_ROOT
from tests.benchmarks.measuring import Cost, exponent, floor_connection, run, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

DEFAULT_SIZES = (10_000, 100_000)
CLI = [sys.executable, "-m", "orchestration.cli"]
DBT = str(Path(sys.executable).with_name("dbt"))
SPINE = ["feat_customers", "+feat_customers,path:models/features", "--full-refresh"]
CHANGED = "high_value_buyers"

# Fact -> how its rows tell whose they are.
FACTS = {
    "shop/orders": "customer_ref",
    "shop/order_lines": "orders.customer_ref",
    "pos/sales": "coalesce(customer_ref, email)",
    "web/events": "coalesce(user_id, anonymous_id)",
    "email/events": "email",
}
PUBLISH = """
import json, sys
from datetime import UTC, datetime
from pathlib import Path
from core.home import open_home
from core.settings import load_settings
from orchestration.publishing import publish

settings = load_settings()
home = open_home(settings)
manifest = json.loads(Path(sys.argv[1]).read_text())
as_of = datetime.fromisoformat(json.loads(home.clock.read_text())["as_of"]).replace(tzinfo=UTC)
publish(settings, home, manifest, as_of=as_of, finished_at=datetime.now(UTC))
"""


def write_floor(lake: Path, database: Path) -> None:
    """Read every raw file once, write each fact table once, group each fact by customer once."""
    with floor_connection(str(database)) as connection:
        connection.execute("set preserve_insertion_order = false")
        for folder in sorted(path for path in (lake / "raw").glob("*/*") if any(path.rglob("*.parquet"))):
            name = folder.relative_to(lake / "raw").as_posix()
            files = f"read_parquet('{folder}/**/*.parquet', union_by_name = true)"
            if name not in FACTS:
                connection.execute(f"select max(columns(*)) from {files}").fetchall()
                continue
            connection.execute(f'create table "{name}" as select * from {files}')
        for name, owner in FACTS.items():
            _group(connection, name, owner)


def _group(connection: duckdb.DuckDBPyConnection, name: str, owner: str) -> None:
    source = f'"{name}"'
    if name == "shop/order_lines":
        source += ' inner join "shop/orders" as orders using (order_id)'
    connection.execute(
        f"select count(*), max(n) from (select {owner} as owner, count(*) as n from {source} group by {owner})"
    ).fetchall()


def find_home(homes: Path, customers: int) -> Path | None:
    """A whole simulated home of that size in a folder."""
    for noted in sorted(homes.glob("*/sample.json")):
        said = json.loads(noted.read_text())
        if said["name"] == "simulated" and said.get("loaded") == [{"customers": customers}]:
            return noted.parent
    return None


@contextmanager
def working_copy(original: Path) -> Iterator[Path]:
    """The home without its warehouse and state; what the lake never changes (raw and accepted files) is linked."""

    def link(source: str, target: str) -> str:
        if "/lake/raw/" in source or "/lake/accepted/" in source:
            os.link(source, target)
            return target
        return shutil.copy2(source, target)

    with tempfile.TemporaryDirectory(prefix="bench-", dir=original.parent) as folder:
        home = Path(folder) / "home"
        home.mkdir()
        shutil.copy2(original / "home.json", home)
        shutil.copytree(original / "lake", home / "lake", copy_function=link)
        yield home


def write_day(lake: Path, folder: Path, day: date) -> dict[str, dict[str, Path]]:
    """A new day's deliveries by source and table, drawn from the simulation itself.

    Orders, their lines and web events are those of the same weekday a week earlier, and mail is the newest mailing,
    under new keys and with the day's date: so a day has what such a day has, at every size.
    """
    since = (day - timedelta(days=7)).isoformat()
    in_day = f">= date '{since}' and {{0}} < date '{since}' + 1"
    accepted = {
        name: f"read_parquet('{lake}/accepted/{name}/**/*.parquet', union_by_name = true)"
        for name in ("shop/orders", "shop/order_lines", "web/events", "email/sends", "email/events", "email/campaigns")
    }
    key, shift = "|| '-again'", "+ interval 7 day"
    mailed = f"(select max(cast(sent_at as date)) from {accepted['email/sends']})"
    sent = f"sent_at >= {mailed}"
    later = f"+ to_days(cast(date '{day}' - {mailed} as integer))"
    queries = {
        "shop/orders": f"select * replace (order_id {key} as order_id, ordered_at {shift} as ordered_at)"
        f" from {accepted['shop/orders']} where ordered_at {in_day.format('ordered_at')}",
        "shop/order_lines": f"select * replace (order_id {key} as order_id, occurred_at {shift} as occurred_at)"
        f" from {accepted['shop/order_lines']} where order_id in"
        f" (select order_id from {accepted['shop/orders']} where ordered_at {in_day.format('ordered_at')})",
        "web/events": f"select * replace (event_id {key} as event_id, session_id {key} as session_id,"
        f" cart_id {key} as cart_id, order_id {key} as order_id, occurred_at {shift} as occurred_at)"
        f" from {accepted['web/events']} where occurred_at {in_day.format('occurred_at')}",
        "email/campaigns": f"select * replace (campaign_id {key} as campaign_id, sent_at {later} as sent_at)"
        f" from {accepted['email/campaigns']}"
        f" where campaign_id in (select campaign_id from {accepted['email/sends']} where {sent})",
        "email/sends": f"select * replace (send_id {key} as send_id, campaign_id {key} as campaign_id,"
        f" sent_at {later} as sent_at) from {accepted['email/sends']} where {sent}",
        "email/events": f"select * replace (event_id {key} as event_id, send_id {key} as send_id,"
        f" campaign_id {key} as campaign_id, occurred_at {later} as occurred_at) from {accepted['email/events']}"
        f" where occurred_at >= {mailed} and cast(occurred_at {later} as date) = date '{day}'",
    }
    written: dict[str, dict[str, Path]] = {}
    with floor_connection() as connection:
        for name, query in queries.items():
            source, table = name.split("/")
            file = folder / f"{source}-{table}.parquet"
            connection.execute(
                f"copy (select columns(* exclude (delivery_id, row_number)) from ({query})) to '{file}' (format parquet)"
            )
            written.setdefault(source, {})[table] = file
    return written


@contextmanager
def changed_checkout(scratch: Path) -> Iterator[Path | None]:
    """A clone of the checkout in which one segment's definition is another; None where there is no repository."""
    clone = scratch / "clone"
    cloned = subprocess.run(
        ["git", "clone", "--quiet", "--shared", str(PROJECT_ROOT), str(clone)], capture_output=True, check=False
    )
    if cloned.returncode:
        yield None
        return
    segment = clone / f"dbt_project/models/segments/seg_{CHANGED}.sql"
    segment.write_text(segment.read_text().replace("where", "where customer_id > '4' and", 1))
    yield clone
    shutil.rmtree(clone)


class Bench:
    """The measures of one size; `seconds` holds what grows with it."""

    def __init__(self, home: Path, scratch: Path, memory: str, nodes: int) -> None:
        self.home, self.scratch, self.nodes = home, scratch, nodes
        self.environment = {**os.environ, "MAILWRIGHT_HOME": str(home), "MAILWRIGHT_MEMORY_LIMIT": memory}
        self.seconds: dict[str, float] = {}
        self.floor = 0.0

    def note(self, name: str, cost: Cost) -> None:
        """Keep and print what a step took."""
        self.seconds[name] = cost.seconds
        say(f"  {name}", cost.seconds, "s", self.floor)
        print(f"{'':<62}{cost.memory:8.2f} GB at most, {cost.cpu_seconds:.0f} s of processors", flush=True)

    def dbt(self, command: str, *arguments: str) -> Cost:
        """One dbt command on the home, as by hand."""
        artifacts = ["--target-path", str(self.scratch / "target"), "--log-path", str(self.scratch / "logs")]
        return run([DBT, "--quiet", command, *arguments, *artifacts], self.environment, PROJECT_ROOT / "dbt_project")

    def build(self, name: str) -> None:
        """`dbt build` of everything, without unit tests: they cost the same whatever the data."""
        self.note(name, self.dbt("build", "--exclude-resource-type", "unit_test"))
        results = json.loads((self.scratch / "target/run_results.json").read_text())["results"]
        for result in sorted(results, key=lambda result: -float(result["execution_time"]))[: self.nodes]:
            kind, _, node = result["unique_id"].split(".", 2)
            print(f"{'':<12}{result['execution_time']:8.1f} s  {kind} {node}", flush=True)

    def measure(self) -> None:
        """Everything, in the order in which it depends on what was done before."""
        floor = run(
            [sys.executable, "-m", "tests.benchmarks.bench_scale", "--floor", str(self.home), str(self.scratch)],
            self.environment,
        )
        self.floor = floor.seconds
        self.note("floor: DuckDB alone", floor)
        self.build("dbt build, full")
        self.note("feature spine alone, full", self.dbt("run", "--select", *SPINE))
        self.diff()
        self.day()

    def diff(self) -> None:
        """`segments diff` of one changed segment, on published marts; left out where there is no such command."""
        probe = subprocess.run([*CLI, "segments", "diff", "--help"], capture_output=True, cwd=PROJECT_ROOT, check=False)
        if probe.returncode:
            return
        publish = run([sys.executable, "-c", PUBLISH, str(self.scratch / "target/manifest.json")], self.environment)
        say("  (publishing the marts)", publish.seconds, "s")
        with changed_checkout(self.scratch) as clone:
            if clone is None:
                print("  segments diff: left out, as this is no git repository", flush=True)
                return
            environment = {**self.environment, "PYTHONPATH": str(clone)}
            self.note(
                "segments diff, one segment", run([*CLI, "segments", "diff", "--segment", CHANGED], environment, clone)
            )

    def day(self) -> None:
        """Load the next day with the real loader, move the clock behind it, build again."""
        home = Home.open(self.home)
        as_of = datetime.fromisoformat(json.loads((self.home / "home.json").read_text())["as_of"])
        day = as_of.date()
        files = write_day(self.home / "lake", self.scratch, day)
        loaded = 0.0
        for source, tables in files.items():
            given = [f"{table}={file}" for table, file in tables.items()]
            received = ["--received-at", f"{day}T23:59:00"]
            loaded += run([*CLI, "load", source, *given, *received], self.environment).seconds
        say("  (loading a day)", loaded, "s")
        write_clock(home, local_midnight(day + timedelta(days=1), home.timezone))
        self.build("dbt build, a day's increment")


def bench(sizes: Sequence[int], homes: Path, memory: str, nodes: int) -> None:
    """Measure every size and print how each cost grows."""
    grown: dict[str, dict[int, float]] = {}
    for customers in sizes:
        print(f"{customers:,} customers", flush=True)
        original = find_home(homes, customers)
        if original is None:
            original = homes / f"simulated-{customers}"
            making = run(
                [*CLI, "sample", "simulated", "--customers", str(customers)],
                {**os.environ, "MAILWRIGHT_HOME": str(original)},
            )
            say("  (making the home)", making.seconds, "s")
        with working_copy(original) as home, tempfile.TemporaryDirectory(dir=homes, prefix="bench-") as scratch:
            opened = Home.open(home)
            as_of = datetime.fromisoformat(json.loads((home / "home.json").read_text())["as_of"])
            write_clock(opened, as_of)
            measured = Bench(home, Path(scratch), memory, nodes)
            measured.measure()
        for name, seconds in measured.seconds.items():
            grown.setdefault(name, {})[customers] = seconds
    show_growth(grown)


def show_growth(grown: Mapping[str, Mapping[int, float]]) -> None:
    """Each cost's growth exponent over the sizes."""
    if any(len(costs) > 1 for costs in grown.values()):
        print("Growth: cost is proportional to customers to the power of")
        for name, costs in grown.items():
            if len(costs) > 1:
                say(f"  {name}", exponent(costs), "")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What `make bench` can say of this benchmark as well."""
    parser.add_argument(
        "--homes", type=Path, help="folder of simulated homes to use again; missing ones are made in it"
    )
    parser.add_argument("--memory", default="8GB", help="what DuckDB may use (8GB); the process needs a little more")
    parser.add_argument("--nodes", type=int, default=5, help="how many of the slowest models and tests to list (5)")


def main() -> None:
    """Read the command line."""
    if sys.argv[1:2] == ["--floor"]:
        write_floor(Path(sys.argv[2]) / "lake", Path(sys.argv[3]) / "floor.duckdb")
        return
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench_scale", description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=DEFAULT_SIZES, help="customers (10000 100000)")
    add_options(parser)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mailwright-bench-") as folder:
        bench(given.sizes, (given.homes or Path(folder)).absolute(), given.memory, given.nodes)


if __name__ == "__main__":
    main()
