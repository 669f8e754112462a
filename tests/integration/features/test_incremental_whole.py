"""Delivery after delivery makes what all of them at once do: every table of the warehouse, to the row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import duckdb
import pytest

from core.home import Home
from ingestion import manifest
from tests.integration.dbt_core.shop import Shop
from tests.integration.features.test_point_in_time import MONDAY, NEXT_MONDAY, furnish, line, mail, order, poison, visit

Tables = Mapping[str, list[tuple[Any, ...]]]


def later(shop: Shop, received_at: str) -> None:
    """A day as any other: a newcomer, one who comes back, an order sent back, mail that nobody answers."""
    shop.deliver(
        "shop", received_at,
        orders=[
            order("20", "2024-04-10T10:00:00", "NEW", email="new@example.com"),
            order("21", "2024-04-10T11:00:00", "BOB"),
            order("R7", "2024-04-10T12:00:00", "CAT", is_cancellation=True),
        ],
        order_lines=[line("20", 1, "mug", 1, 10), line("21", 1, "pen", 2, 3), line("R7", 1, "mug", 1, 10)],
    )  # fmt: skip
    shop.deliver("web", received_at, events=[visit("w20", "2024-04-10T09:00:00", "Product Viewed", anonymous_id="d2")])
    shop.deliver("email", received_at, events=[mail("e20", "2024-04-10T08:00:00", "opened", "m1")])


def erase(shop: Shop, source: str) -> None:
    """Take the last delivery of a source away, as an erasure does: its files, and the manifest's rows."""
    rows = manifest.read(shop.home)
    gone = max(row.sequence for row in rows if row.source == source)
    for row in rows:
        if row.source == source and row.sequence == gone:
            for file in shop.home.accepted(source, row.table_name).glob(f"*{row.delivery_id}*.parquet"):
                file.unlink()
    manifest.write(shop.home, [row for row in rows if not (row.source == source and row.sequence == gone)])


def warehouse(shop: Shop) -> Tables:
    """Every table and view, sorted. A relation that can't be read fails."""
    with duckdb.connect(str(shop.home.warehouse), read_only=True) as connection:
        names = connection.execute("""
            select table_schema || '.' || table_name from information_schema.tables
            where table_schema <> 'lake' and table_catalog = 'warehouse' order by all
        """).fetchall()
        return {name: connection.execute(f"select * from {name} order by all").fetchall() for (name,) in names}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    scratch = tmp_path_factory.mktemp("whole")
    shop = Shop(Home.create(scratch / "home", "Europe/London", "GBP"), scratch)
    furnish(shop)
    shop.set_clock(MONDAY)
    shop.dbt("seed")
    shop.dbt("run")
    return shop


def test_incremental_equals_full_refresh_table_by_table(shop: Shop) -> None:
    before = warehouse(shop)
    poison(shop, MONDAY)  # late and corrected, of every table
    later(shop, "2024-04-11T06:00:00")
    shop.set_clock("2024-04-11T07:00:00")
    shop.dbt("run")
    erase(shop, "shop")
    erase(shop, "web")
    shop.set_clock(NEXT_MONDAY)
    shop.dbt("run")
    grown = warehouse(shop)
    shop.dbt("run", "--full-refresh")
    anew = warehouse(shop)

    assert len(anew) > 100
    assert grown.keys() == anew.keys()
    assert [name for name in anew if grown[name] != anew[name]] == []
    # Something came of the deliveries, and of the erasure: an order is fraud, another is gone.
    moved = {name for name in anew if before[name] != anew[name]}
    assert {"marts.fct_orders", "marts.fct_web_sessions", "features.feat_customers"} <= moved
    orders = {order_id for (order_id,) in shop.query("select order_id from marts.fct_orders")}
    assert {"2", "6"} <= orders
    assert orders.isdisjoint({"4", "20"})
