"""How fast person records are linked, beside bare Splink with the same model and beside a floor of DuckDB alone.

Run: python -m tests.benchmarks.bench_identity [records] [smaller]

Simulated contacts with all their flaws are resolved from nothing, at two sizes, each in a process of its own; then
10,000 records are taken as new and scored against all. The floor is one hash join of the records with themselves on
their email, and reading them. Speed and quality are printed and never asserted.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import duckdb

from core.settings import Settings, load_settings
from ml.identity import blocking, conflicts
from ml.identity.keys import prepare
from ml.identity.linking import score
from ml.identity.model import FLOOR, linker, train, workspace
from ml.identity.resolution import Limits, resolve
from samples import companions, people, simulated
from samples.draws import Block, join_truth, run_blocks
from samples.names import draw_pools

MEMORY = "4GB"
NEW = 10_000
SEED = 20260105
COLUMNS = {
    **{name: (name,) for name in ("given_name", "surname", "full_name", "gender", "email", "phone", "city")},
    **{name: (name,) for name in ("postal_code", "country")},
    "date_of_birth": ("birthday",),
    "address": ("street",),
}


def simulate(settings: Settings, folder: Path, records: int) -> None:
    """Write CRM contacts and the truth about them, more than `records`, without all that the sample has beside them."""
    catalogue = simulated._write_catalogue(settings, SEED, folder / "raw")
    pools = draw_pools(SEED, simulated.COUNTRIES)

    def make(block: Block) -> None:
        simulated._load_catalogue(block, catalogue["products"][0])
        simulated._founded(block, simulated.BLOCK_SIZE)
        companions._persons(block, simulated.SCOPE)
        people.make(block, pools, simulated.SCOPE)

    blocks = math.ceil(records / (1.25 * simulated.BLOCK_SIZE))
    run_blocks(settings, SEED, blocks, folder / "raw", folder / "parts", make, lambda _: None, "")
    join_truth(settings, folder / "parts", folder / "truth")


def measure(folder: Path, records: int, *, compare: bool) -> dict[str, float]:
    """Resolve `records` contacts from nothing; with `compare`, also bare Splink, and new records against all."""
    seconds: dict[str, float] = {}
    connection = duckdb.connect()
    connection.execute(f"set memory_limit = '{MEMORY}'; set threads = 2; set temp_directory = '{folder / 'spill'}'")
    connection.execute("set enable_progress_bar = false")
    contacts = f"'{folder}/raw/crm/contacts/*.parquet'"
    began = time.perf_counter()

    def step(name: str) -> None:
        nonlocal began
        seconds[name] = time.perf_counter() - began
        began = time.perf_counter()

    connection.execute(f"create table contacts as select * from {contacts} order by contact_id limit {records}")
    step("read")
    connection.execute(
        "create table floor as select l.contact_id from contacts as l inner join contacts as r"
        " on lower(trim(l.email)) = lower(trim(r.email)) and l.contact_id < r.contact_id"
    )
    step("floor")
    prepared = prepare(connection, "contacts", id_column="contact_id", columns=COLUMNS, out="prepared")
    step("prepare")
    model = train(connection, prepared)
    step("train")
    score(connection, prepared, model, out="links")
    step("link")
    connection.execute("create table ids as select record_id from prepared")
    resolve(
        connection,
        records="ids",
        links="links",
        threshold=model.threshold,
        conflicts=lambda pairs, into: conflicts.conflicts(connection, prepared, pairs, out=into),
        limits=Limits(caps={}),
        out="resolved",
    )
    step("resolve")
    seconds["all"] = sum(seconds[name] for name in ("read", "prepare", "train", "link", "resolve"))
    seconds["pairs"] = sum(rule.pairs for rule in model.rules)
    if compare:
        with workspace(connection) as work:
            blocking.add_keys(connection, prepared.table, model.rules, out=f"{work}.keyed")
            connection.execute(f"use {work}")
            began = time.perf_counter()
            splink, _ = linker(connection, "keyed", model.settings)
            splink.inference.predict(threshold_match_weight=FLOOR, warning_mode="never")
            step("bare splink")
        connection.execute(f"create table new as select record_id from ids order by hash(record_id) limit {NEW}")
        began = time.perf_counter()
        score(connection, prepared, model, new="new", out="new_links")
        step("new records")
    connection.execute(
        f"create table joined as select cluster, person_id from resolved inner join '{folder}/truth/contacts.parquet' as truth"
        " on truth.contact_id = resolved.record_id"
    )
    both, found, true = (
        connection.execute(
            f"select sum(n * (n - 1) // 2)::bigint from (select count(*) as n from joined group by {by})"
        ).fetchall()[0][0]
        for by in ("cluster, person_id", "cluster", "person_id")
    )
    seconds["precision"], seconds["recall"] = both / found, both / true
    seconds["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return seconds


def apart(folder: Path, records: int, *, compare: bool) -> dict[str, float]:
    """`measure` in a process of its own, so that peak memory is its own."""
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.bench_identity",
        "--measure",
        str(folder),
        str(records),
        str(compare),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main(records: int = 1_000_000, smaller: int = 100_000) -> None:
    """Print the figures for both sizes."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        simulate(load_settings(), folder, records)
        few, many = apart(folder, smaller, compare=False), apart(folder, records, compare=True)
    for count, figures in ((smaller, few), (records, many)):
        steps = ", ".join(f"{name} {figures[name]:.1f}" for name in ("read", "prepare", "train", "link", "resolve"))
        print(f"{count:>10,} records from nothing: {figures['all']:.1f} s ({steps}), {figures['memory']:.1f} GB")
        print(
            f"{'':>10} {figures['pairs']:,.0f} candidate pairs; precision {figures['precision']:.4f}, recall {figures['recall']:.4f}"
        )
        print(
            f"{'':>10} ratio to the floor of DuckDB alone ({figures['floor']:.2f} s): {figures['all'] / figures['floor']:.0f}"
        )
    exponent = math.log(many["all"] / few["all"]) / math.log(records / smaller)
    print(f"cost grows with the {exponent:.2f}th power of the records")
    print(
        f"linking {many['link']:.1f} s, bare Splink with the same model {many['bare splink']:.1f} s: {many['link'] / many['bare splink']:.2f} x"
    )
    print(f"{NEW:,} new records against {records:,}: {many['new records']:.1f} s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(Path(sys.argv[2]), int(sys.argv[3]), compare=sys.argv[4] == "True")))
    else:
        main(*(int(argument.replace("_", "")) for argument in sys.argv[1:3]))
