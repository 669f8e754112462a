"""What is made anew of the features, and what is kept: a new as_of, a late delivery, a merge and a split of customers.

Every row that was kept is known by a mark: before each build all rows get a value that no calculation makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pytest

from core.home import Home
from tests.integration.dbt_core.shop import Shop, customer_id
from tests.integration.features.test_incremental_whole import erase

MONDAY = datetime(2024, 3, 18, 5)  # of the spine, at five in London
NEXT_MONDAY = datetime(2024, 4, 15, 4)  # the next one, in summer time
KEYS = {"feat_customers": ("customer_id", "as_of"), "outcomes": ("customer_id", "as_of", "horizon_days")}
MARKS = {"feat_customers": ("top_category", "kept"), "outcomes": ("revenue", -1)}
REGULARS = [f"REGULAR{number}" for number in range(1, 7)]
DOT, EVE, CAT, ZOE = (f"shop|customer_ref|{name}" for name in ("DOT", "EVE", "CAT", "ZOE"))

Key = tuple[Any, ...]
Tables = Mapping[str, Mapping[Key, dict[str, Any]]]


def order(order_id: str, at: str, customer: str) -> dict[str, Any]:
    return {"order_id": order_id, "ordered_at": at, "customer_ref": customer}


def lines(*order_ids: str) -> list[dict[str, Any]]:
    return [
        {"order_id": order_id, "line_number": 1, "product_id": "mug", "quantity": 1, "unit_price": 10}
        for order_id in order_ids
    ]


def furnish(shop: Shop) -> None:
    """Six who come back every 60 days, so that one gap more is no other median; Cat, who looks, and Dot and Eve."""
    dates = ("2023-03-01", "2023-04-30", "2023-06-29", "2023-08-28")
    orders = [order(f"{name} {day}", f"{day}T10:00:00", name) for name in REGULARS for day in dates]
    orders += [order("DOT", "2023-05-01T10:00:00", "DOT"), order("EVE", "2023-09-01T10:00:00", "EVE")]
    shop.deliver(
        "shop",
        products=[{"product_id": "mug", "category": "Kitchen"}],
        orders=orders,
        order_lines=lines(*(one["order_id"] for one in orders)),
    )
    shop.deliver(
        "web",
        events=[
            {"event_id": f"w{number}", "event_type": "track", "event_name": "Product Viewed", "occurred_at": at,
             "anonymous_id": f"device of {name}", "user_id": name, "product_id": "mug"}
            for number, (name, at) in enumerate(
                [("CAT", "2023-03-10T10:00:00"), ("DOT", "2023-09-02T10:00:00"), ("EVE", "2023-09-03T10:00:00")]
            )
        ],
    )  # fmt: skip


class Warehouse:
    """The tables of the features, of which it is known what was kept since the last look."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self._before: dict[str, dict[Key, dict[str, Any]]] = {}

    def build(self, *arguments: str) -> tuple[Tables, dict[str, set[Key]]]:
        """Mark all rows, build, and tell what stands now and which rows were made anew."""
        if self._before:
            self._mark()
        self.shop.dbt("run", "--select", *(f"+{table}" for table in KEYS), *arguments)
        made: dict[str, set[Key]] = {}
        for table, (column, mark) in MARKS.items():
            found = self._read(table)
            made[table] = {key for key, row in found.items() if row[column] != mark}
            before = self._before.get(table, {})
            self._before[table] = {key: row if key in made[table] else before[key] for key, row in found.items()}
        return {table: dict(rows) for table, rows in self._before.items()}, made

    def _mark(self) -> None:
        with duckdb.connect(str(self.shop.home.warehouse)) as connection:
            for table, (column, mark) in MARKS.items():
                connection.execute(f"update features.{table} set {column} = ?", [mark])

    def _read(self, table: str) -> dict[Key, dict[str, Any]]:
        with duckdb.connect(str(self.shop.home.warehouse), read_only=True) as connection:
            found = connection.execute(f"select * from features.{table}")
            names = [column[0] for column in found.description]
            rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        by_key = {tuple(row[name] for name in KEYS[table]): row for row in rows}
        assert len(by_key) == len(rows)
        return by_key


Step = tuple[Tables, dict[str, set[Key]]]


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    scratch = tmp_path_factory.mktemp("kept")
    shop = Shop(Home.create(scratch / "home", "Europe/London", "GBP"), scratch)
    furnish(shop)
    return Warehouse(shop)


@pytest.fixture(scope="module")
def first(warehouse: Warehouse) -> Step:
    warehouse.shop.set_clock(MONDAY.isoformat())
    warehouse.shop.dbt("seed")
    return warehouse.build()


@pytest.fixture(scope="module")
def next_as_of(warehouse: Warehouse, first: Step) -> Step:
    warehouse.shop.set_clock(NEXT_MONDAY.isoformat())
    return warehouse.build()


@pytest.fixture(scope="module")
def late(warehouse: Warehouse, next_as_of: Step) -> Step:
    """An order that Cat gave half a year ago is delivered now."""
    warehouse.shop.deliver("shop", orders=[order("CAT", "2023-10-01T10:00:00", "CAT")], order_lines=lines("CAT"))
    return warehouse.build()


@pytest.fixture(scope="module")
def merged(warehouse: Warehouse, late: Step) -> Step:
    """Dot and Eve turn out to be one person."""
    warehouse.shop.resolve(1, NEXT_MONDAY.isoformat(), {DOT: DOT, EVE: DOT})
    return warehouse.build()


@pytest.fixture(scope="module")
def anew(warehouse: Warehouse, merged: Step) -> Step:
    return warehouse.build("--full-refresh")


@pytest.fixture(scope="module")
def split(warehouse: Warehouse, anew: Step) -> Step:
    """They turn out to be two after all."""
    warehouse.shop.resolve(2, NEXT_MONDAY.isoformat(), {DOT: DOT, EVE: EVE})
    return warehouse.build()


@pytest.fixture(scope="module")
def came(warehouse: Warehouse, split: Step) -> Step:
    """Of Zoe, nothing had been delivered before."""
    warehouse.shop.deliver("shop", orders=[order("ZOE", "2023-10-05T10:00:00", "ZOE")], order_lines=lines("ZOE"))
    return warehouse.build()


@pytest.fixture(scope="module")
def erased(warehouse: Warehouse, came: Step) -> Step:
    """And all of it is gone again."""
    erase(warehouse.shop, "shop")
    return warehouse.build()


def of(rows: Mapping[Key, dict[str, Any]], *records: str) -> dict[Key, dict[str, Any]]:
    owners = {customer_id(record) for record in records}
    return {key: row for key, row in rows.items() if key[0] in owners}


def as_ofs(keys: Iterable[Key]) -> set[datetime]:
    return {key[1] for key in keys}


def test_a_new_as_of_costs_one_as_of(first: Step, next_as_of: Step) -> None:
    (before, _), (after, made) = first, next_as_of
    features = after["feat_customers"].keys()
    assert as_ofs(made["feat_customers"]) == {NEXT_MONDAY}
    assert made["feat_customers"] == {key for key in features if key[1] == NEXT_MONDAY}
    assert MONDAY in as_ofs(features - made["feat_customers"])
    assert made["outcomes"] == after["outcomes"].keys() - before["outcomes"].keys()
    assert {key[1:] for key in made["outcomes"]}.isdisjoint(key[1:] for key in before["outcomes"])


def test_a_late_delivery_makes_anew_whom_it_touches_since_it_tells_something(next_as_of: Step, late: Step) -> None:
    (before, _), (after, made) = next_as_of, late
    told = datetime(2023, 10, 1, 10)
    cats = of(after["feat_customers"], CAT)
    assert made["feat_customers"] == {key for key in cats if key[1] > told}
    assert len(made["feat_customers"]) == 8
    assert {row["orders"] for key, row in cats.items() if key[1] > told} == {1}
    assert before["feat_customers"].keys() == after["feat_customers"].keys()
    # An outcome that had closed by then stays, one that closed since has the order that is in it.
    assert made["outcomes"] == {key for key, row in of(after["outcomes"], CAT).items() if closes_at(row) > told}
    assert sum(row["bought"] for key, row in of(after["outcomes"], CAT).items()) > 3


def closes_at(outcome: dict[str, Any]) -> datetime:
    return datetime.combine(outcome["as_of"].date(), datetime.min.time()) + timedelta(outcome["horizon_days"])


@pytest.mark.parametrize("table", KEYS)
def test_when_records_merge_all_as_ofs_follow_and_nothing_else_changes(table: str, late: Step, merged: Step) -> None:
    (before, _), (after, made) = late, merged
    assert of(before[table], EVE)
    assert not of(after[table], EVE)
    others = {key: row for key, row in before[table].items() if key not in of(before[table], DOT, EVE)}
    assert {key: row for key, row in after[table].items() if key not in of(after[table], DOT)} == others
    assert made[table] <= of(after[table], DOT).keys()
    assert {key[1:] for key in of(after[table], DOT)} == {key[1:] for key in of(before[table], DOT, EVE)}


def test_a_merged_customer_has_what_both_had_at_every_as_of(late: Step, merged: Step) -> None:
    before, after = late[0]["feat_customers"], merged[0]["feat_customers"]
    dots, eves, both = of(before, DOT), of(before, EVE), of(after, DOT)
    assert len(both) > 10
    for (_, as_of), row in both.items():
        one = dots.get((customer_id(DOT), as_of))
        other = eves.get((customer_id(EVE), as_of))
        for name in ("orders", "spend_total", "sessions_365"):
            assert row[name] == sum(part[name] for part in (one, other) if part), (as_of, name)
    assert any(row["orders"] == 2 for row in both.values())


@pytest.mark.parametrize("table", KEYS)
def test_what_was_kept_is_what_would_be_made_anew(table: str, merged: Step, anew: Step) -> None:
    kept, all_made = merged[0][table], anew[0][table]
    assert anew[1][table] == all_made.keys()
    assert kept == all_made


@pytest.mark.parametrize("table", KEYS)
def test_a_split_gives_back_what_was(table: str, late: Step, split: Step) -> None:
    assert split[0][table] == late[0][table]
    assert split[1][table] <= of(split[0][table], DOT, EVE).keys()


@pytest.mark.parametrize("table", KEYS)
def test_who_is_erased_leaves_every_as_of_and_nobody_is_made_anew(
    table: str, split: Step, came: Step, erased: Step
) -> None:
    assert of(came[0][table], ZOE)
    assert erased[0][table] == split[0][table]
    assert erased[1][table] == set()
