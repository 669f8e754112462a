"""A load that is killed at any moment leaves the lake as it was, and the next one completes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.errors import WarehouseBusyError
from core.settings import PROJECT_ROOT
from ingestion import accounting, loader, manifest

SCRIPT = """
import os, signal, sys, time
from datetime import UTC, datetime
from pathlib import Path
from core import files
from core.home import Home
from core.settings import load_settings
from ingestion import loader, manifest

home, moment, first, second = sys.argv[1:5]

def stop(*_):
    print("reached", flush=True)
    time.sleep(60)

if moment == "after the first table":
    take = loader.take
    def take_one(connection, table, *rest):
        if table.name == "order_lines":
            stop()
        return take(connection, table, *rest)
    loader.take = take_one
elif moment == "before the manifest":
    manifest.write = stop
elif moment == "while replacing the manifest":
    replace = os.replace
    os.replace = lambda old, new: stop() if str(new).endswith("deliveries.parquet") else replace(old, new)
elif moment == "after the manifest":
    write = manifest.write
    manifest.write = lambda *given: (write(*given), stop())
loader.load(
    load_settings(), Home.open(Path(home)), "shop", {"orders": [Path(first)], "order_lines": [Path(second)]},
    received_at=datetime(2012, 1, 1, tzinfo=UTC), historical=False, move=True,
)
"""

MOMENTS = ["after the first table", "before the manifest", "while replacing the manifest", "after the manifest"]


@pytest.fixture
def hand_over(lake):
    """An earlier delivery in the lake, and files that replace a part of it."""
    lake.load_one("shop", "orders", lake.write("earlier.csv", "order_id,ordered_at\nO1,2011-12-01\nO2,2011-12-01\n"))
    orders = lake.write("orders.csv", "order_id,ordered_at\nO2,2011-12-02\nO3,2011-12-02\nO4,no\n")
    lines = lake.write("lines.csv", "order_id,product_id,quantity,unit_price\nO2,P,1,2\nO3,P,1,x\n")
    return orders, lines


def start(lake, moment: str, orders: Path, lines: Path) -> subprocess.Popen[str]:
    """A loading process that has reached `moment` and waits there."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(lake.home.root), moment, str(orders), str(lines)],
        cwd=PROJECT_ROOT,
        env=os.environ | {"PYTHONPATH": str(PROJECT_ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "reached\n"
    return process


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_load_loses_and_doubles_nothing(lake, hand_over, moment):
    orders, lines = hand_over
    process = start(lake, moment, orders, lines)
    process.send_signal(signal.SIGKILL)
    process.wait()

    is_committed = moment == "after the manifest"
    assert lake.counts("shop", "orders") == ([(2, 1, 1, 0), (3, 2, 0, 1)] if is_committed else [(2, 2, 0, 0)])
    assert accounting.check(lake.home) == []
    assert orders.exists()
    assert lines.exists()

    report = lake.load("shop", {"orders": [orders], "order_lines": [lines]})

    assert report.changed is not is_committed
    assert lake.counts("shop", "orders") == [(2, 1, 1, 0), (3, 2, 0, 1)]
    assert lake.counts("shop", "order_lines") == [(2, 1, 0, 1)]
    known = {row.delivery_id for row in manifest.read(lake.home)}
    assert len(known) == 2
    strangers = {path for path in lake.files() if not any(delivery in str(path) for delivery in known)}
    assert strangers == {lake.home.deliveries}


def test_second_process_waits_and_is_told_who_loads(lake, hand_over, monkeypatch):
    process = start(lake, "before the manifest", *hand_over)
    monkeypatch.setattr(loader, "LOCK_WAIT_SECONDS", 0.3)
    said: list[str] = []
    began = time.monotonic()
    try:
        with pytest.raises(WarehouseBusyError, match=rf"the lake's manifest .* is in use by .*{process.pid}"):
            lake.load("web", {"events": [hand_over[0]]}, progress=said.append)
    finally:
        process.kill()
        process.wait()
    assert time.monotonic() - began >= 0.3
    assert str(process.pid) in said[0]


def test_failing_disk_leaves_nothing_behind(lake, hand_over, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    before = lake.files()
    monkeypatch.setattr(manifest, "write", fail)
    with pytest.raises(OSError, match="No space"):
        lake.load("shop", {"orders": [hand_over[0]]})
    monkeypatch.undo()
    lake.load("shop", {"orders": []})
    assert lake.files() == before
