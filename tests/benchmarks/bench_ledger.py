"""How big the ledger gets, and how fast it is looked up, acknowledged to and read: `python -m tests.benchmarks.bench_ledger`.

The floor of a lookup is the same by hand in a bare SQLite table of the same rows; that of reading is counting them there.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from activation.ledger import Acknowledgement, Ledger, State
from core.home import Home
from core.settings import Settings
from tests.benchmarks.measuring import say

AT = datetime(2026, 3, 1, tzinfo=UTC)
TARGET = "mailchimp/an-account"
FIELDS = [f"MW_FIELD{number}" for number in range(17)]
TAGS = [f"mw: segment{number}" for number in range(14)]
BATCH = 5_000
# Acknowledged through the ledger, to measure that; all others are put in by SQLite, in no order of keys either.
ACKNOWLEDGED = 100_000
LOOKUPS = 2_000


def main() -> None:
    """Read the command line and run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench_ledger", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="contacts in the ledger")
    bench(parser.parse_args().rows)


def bench(rows: int = 10_000_000) -> None:
    """Fill a ledger, then look at it."""
    with tempfile.TemporaryDirectory(prefix="mailwright-bench-") as folder:
        home = Home.create(Path(folder) / "home", "Europe/London", "GBP")
        acknowledged = min(rows, ACKNOWLEDGED)
        with Ledger(home, Settings(home=home.root)) as ledger:
            _acknowledge(ledger, acknowledged)
        with sqlite3.connect(home.ledger) as connection:
            _fill(connection, rows - acknowledged)
        connection.close()
        say(f"Size of a ledger of {rows:,} contacts", home.ledger.stat().st_size / 1e9, "GB")
        with Ledger(home, Settings(home=home.root)) as ledger:
            _look(home, ledger, rows)


def _acknowledge(ledger: Ledger, rows: int) -> None:
    chance = random.Random(7)
    run = ledger.begin(TARGET, "plan", 0, 1, [], AT)
    layout = ledger.layout_id(TARGET, FIELDS)
    spent = 0.0
    for start in range(0, rows, BATCH):
        said = [
            Acknowledgement(
                chance.randbytes(16),
                "create",
                State.SYNCED,
                chance.randbytes(8),
                layout,
                chance.randbytes(5 * len(FIELDS)),
                add=chance.sample(TAGS, chance.randint(0, 4)),
            )
            for _ in range(start, min(start + BATCH, rows))
        ]
        began = time.process_time()
        ledger.acknowledge(run, TARGET, said, AT)
        spent += time.process_time() - began
    say(f"Acknowledging {rows:,} contacts, per second of one processor", rows / spent, "/s")
    began = time.process_time()
    ledger.end(run, "done", {}, AT)
    say("Exporting what became of them", time.process_time() - began, "s")


def _fill(connection: sqlite3.Connection, rows: int) -> None:
    # Keys come in no order: with SQLite's usual cache each row would be a page read and written.
    connection.executescript("pragma cache_size = -800000; pragma synchronous = off")
    for start in range(0, rows, 500_000):
        connection.execute(
            """
            insert into contacts
                (destination_id, key, state, content_hash, layout, field_hashes, tags, run_id)
            with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < ?)
            select 1, randomblob(16), 1, randomblob(8), 1, randomblob(?), substr(x'0001000200030004', 1, 2 * (n % 5)), 1
            from numbers
            """,
            (min(500_000, rows - start), 5 * len(FIELDS)),
        )
        connection.commit()


def _look(home: Home, ledger: Ledger, rows: int) -> None:
    chance = random.Random(8)
    with sqlite3.connect(home.ledger) as bare:
        spread = "select key from contacts where destination_id = 1 and key >= ? limit 1"
        keys = [bare.execute(spread, (chance.randbytes(15),)).fetchone()[0] for _ in range(10_000)]
        query = "select layout, field_hashes from contacts where destination_id = 1 and key = ?"
        floor = _median_ms(lambda key: bare.execute(query, (key,)).fetchall(), keys)
        say("Looking one contact up, median", _median_ms(lambda key: ledger.states(TARGET, [key]), keys), "ms", floor)
        took = _median_ms(lambda key: ledger.field_hashes(TARGET, [key]), keys)
        say("Looking one contact's hashes up, median", took, "ms", floor)
        began = time.perf_counter()
        ledger.field_hashes(TARGET, keys)
        say("Hashes of 10,000 contacts", time.perf_counter() - began, "s")
        counting = time.process_time()
        bare.execute("select count(*), sum(length(tags)) from contacts where destination_id = 1").fetchall()
        counting = time.process_time() - counting
    began = time.process_time()
    read = ledger.rows(TARGET).num_rows
    spent = time.process_time() - began
    assert read == rows
    say("Reading all contacts, per million", spent * 1e6 / rows, "s", counting * 1e6 / rows)


def _median_ms(look: Callable[[bytes], object], keys: list[bytes]) -> float:
    took = []
    for key in keys[:LOOKUPS]:
        began = time.perf_counter()
        look(key)
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


if __name__ == "__main__":
    main()
