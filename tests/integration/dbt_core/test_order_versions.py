"""Orders by version: what is stored grows with deliveries, equals a full refresh, and tells every past as it was known."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from core.home import Home
from ingestion import manifest
from tests.integration.dbt_core.shop import Shop

STORED = ("int_order_document_versions", "int_order_rates", "int_order_lines", "int_orders", "int_order_reversals")
MODELS = ("--select", "+fct_orders", "+fct_order_lines", "--exclude", "resource_type:test", "resource_type:unit_test")
RETURN = {"order_id": "R6", "ordered_at": "2011-07-03T10:00:00Z", "customer_ref": "A1", "is_cancellation": True}
ANN, BEA = "shop|customer_ref|A1", "shop|customer_ref|B2"


def order(order_id: str, ordered_at: str, **more: Any) -> dict[str, Any]:
    return {"order_id": order_id, "ordered_at": ordered_at, **more}


def line(order_id: str, product_id: str, quantity: int, unit_price: float, **more: Any) -> dict[str, Any]:
    return {"order_id": order_id, "product_id": product_id, "quantity": quantity, "unit_price": unit_price, **more}


def rate(day: str, value: float) -> dict[str, Any]:
    return {"rate_on": day, "from_currency": "EUR", "to_currency": "GBP", "rate": value}


def stored(shop: Shop) -> dict[str, list[tuple[Any, ...]]]:
    return {table: shop.query(f"select * from intermediate.{table} order by all") for table in STORED}


def orders_at(shop: Shop, as_of: str) -> dict[str, tuple[Any, ...]]:
    """The orders as they were known at an instant, by the views alone."""
    shop.set_clock(as_of)
    rows = shop.query("select order_id, units, amount_base, is_reversed from marts.fct_orders order by order_id")
    return {order_id: tuple(said) for order_id, *said in rows}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """History up to March 2011, and what was delivered day by day after it, taken in one delivery at a time."""
    scratch = tmp_path_factory.mktemp("order_versions")
    shop = Shop(Home.create(scratch / "home", "Europe/London", "GBP"), scratch)
    shop.deliver(
        "shop",
        orders=[
            order("1", "2011-03-01T10:00:00Z", customer_ref="A1"),
            order("2", "2011-03-02T10:00:00Z", customer_ref="B2", currency="EUR", discount=3),
            order("3", "2011-03-03T10:00:00Z", customer_ref="B2", channel="app"),
            order("spring", "2011-03-27T23:30:00Z", customer_ref="A1"),
            order("autumn", "2010-10-31T00:30:00Z", customer_ref="A1"),
            order("leap", "2012-02-29T12:00:00Z", customer_ref="A1"),
        ],
        order_lines=[
            line("1", "mug", 2, 5),
            line("1", "card", 1, 2),
            line("2", "mug", 1, 10),
            line("2", "pen", 2, 10),
            line("3", "mug", 1, 5, line_number=1, occurred_at="2011-03-03T23:59:00Z"),
            line("3", "mug", 2, 5, line_number=2, occurred_at="2011-03-04T00:01:00Z"),
            *(line(name, "mug", 1, 5) for name in ("spring", "autumn", "leap")),
        ],
        products=[{"product_id": "mug", "category": "Kitchen"}, {"product_id": "pen", "category": "Office"}],
    )
    shop.deliver(
        "pos",
        sales=[{"sale_id": "T1", "sold_at": "2011-03-05T10:00:00Z", "product_id": "mug", "quantity": 1,
                "unit_price": 4, "customer_ref": "A1"}],
    )  # fmt: skip
    shop.set_clock("2012-06-01T00:00:00")
    shop.dbt("seed")
    shop.dbt("run", *MODELS)
    shop.deliver(  # order 1 as it became, the goods of 3 back, the first rate
        "shop",
        received_at="2011-04-01T00:00:00",
        orders=[
            order("1", "2011-03-01T10:00:00Z", customer_ref="A1"),
            order("R3", "2011-03-05T09:00:00Z", customer_ref="B2", is_cancellation=True),
        ],
        order_lines=[line("1", "mug", 3, 6), line("R3", "mug", 3, 5)],
        exchange_rates=[rate("2011-03-01", 0.8)],
    )
    shop.dbt("run", *MODELS)
    shop.deliver(  # order 3 was a test, cards are no goods and mugs are elsewhere now, the rate is corrected
        "shop",
        received_at="2011-05-01T00:00:00",
        orders=[order("3", "2011-03-03T10:00:00Z", customer_ref="B2", status="test")],
        products=[
            {"product_id": "card", "category": "Vouchers", "is_goods": False},
            {"product_id": "mug", "category": "Gifts"},
        ],
        exchange_rates=[rate("2011-03-01", 0.5)],
    )
    shop.dbt("run", *MODELS)
    shop.deliver(  # lines that come after their order, one that comes after its return, an order at the corrected rate
        "shop",
        received_at="2011-06-01T00:00:00",
        orders=[
            order("4", "2011-05-20T10:00:00Z", customer_ref="A1", currency="EUR"),
            order("5", "2011-05-21T10:00:00Z", customer_ref="B2"),
        ],
        order_lines=[line("4", "mug", 1, 10)],
    )
    shop.deliver(
        "shop",
        received_at="2011-06-02T00:00:00",
        order_lines=[line("5", "mug", 1, 7), line("R3", "mug", 1, 5)],
    )
    shop.dbt("run", *MODELS)
    shop.deliver(  # the same again, but for one header; its lines in another order
        "shop",
        received_at="2011-07-01T00:00:00",
        orders=[
            order("1", "2011-03-01T10:00:00Z", customer_ref="A1"),
            order("2", "2011-03-02T10:00:00Z", customer_ref="B2", currency="EUR", discount=3),
            order("5", "2011-05-21T10:00:00Z", customer_ref="B2", status="shipped"),
        ],
        order_lines=[line("1", "mug", 3, 6), line("2", "pen", 2, 10), line("2", "mug", 1, 10), line("5", "mug", 1, 7)],
    )
    shop.deliver(  # an order that came back whole, and of which that is taken back twice
        "shop",
        received_at="2011-07-10T00:00:00",
        orders=[order("6", "2011-07-02T10:00:00Z", customer_ref="A1"), RETURN],
        order_lines=[line("6", "mug", 2, 5), line("R6", "mug", 2, 5)],
    )
    shop.dbt("run", *MODELS)
    for day, quantity, price in ((12, 1, 5), (14, 2, 5), (16, 1, 4)):
        shop.deliver(
            "shop",
            received_at=f"2011-07-{day}T00:00:00",
            orders=[RETURN],
            order_lines=[line("R6", "mug", quantity, price)],
        )
    shop.dbt("run", *MODELS)
    return shop


def test_incremental_equals_full_refresh_table_by_table(shop: Shop) -> None:
    grown = stored(shop)
    shop.dbt("run", "--full-refresh", *MODELS)
    anew = stored(shop)
    for table in STORED:
        assert grown[table] == anew[table], table
        assert grown[table] or table == "int_order_rates"


def test_an_order_at_a_past_as_of_is_the_version_known_then(shop: Shop) -> None:
    assert orders_at(shop, "2011-04-01T00:00:00") == {
        "1": (3, Decimal("12"), False),  # the card counts as goods until the catalogue knows it
        "2": (3, None, False),  # no rate is known yet
        "3": (3, Decimal("15"), False),
        "T1": (1, Decimal("4"), False),
        "autumn": (1, Decimal("5"), False),
        "spring": (1, Decimal("5"), False),
    }
    assert orders_at(shop, "2011-04-01T00:00:01") == {
        "1": (3, Decimal("18"), False),
        "2": (3, Decimal("21.6"), False),
        "3": (3, Decimal("15"), True),
        "T1": (1, Decimal("4"), False),
        "autumn": (1, Decimal("5"), False),
        "spring": (1, Decimal("5"), False),
    }
    later = orders_at(shop, "2012-06-01T00:00:00")
    assert "3" not in later
    assert later["2"] == (3, Decimal("21.6"), False), "a corrected rate changes nothing that was known"
    assert later["4"] == (1, Decimal("5"), False)
    assert later["5"] == (1, Decimal("7"), False)
    assert later["6"] == (2, Decimal("10"), False)


def test_what_is_told_again_unchanged_is_no_other_version(shop: Shop) -> None:
    shop.set_clock("2012-06-01T00:00:00")
    versions = shop.query(
        """
        select order_id, cast(known_at as varchar), cast(superseded_at as varchar)
        from intermediate.int_order_document_versions
        where order_id in ('1', '2', '5') and known_at >= '2011-04-01'
        order by all
        """
    )
    assert versions == [
        ("1", "2011-04-01 00:00:00", "2011-05-01 00:00:00"),  # the catalogue came to know a card that it once had
        ("1", "2011-05-01 00:00:00", None),
        ("2", "2011-04-01 00:00:00", None),
        ("5", "2011-06-01 00:00:00", "2011-06-02 00:00:00"),
        ("5", "2011-06-02 00:00:00", "2011-07-01 00:00:00"),
        ("5", "2011-07-01 00:00:00", None),
    ]


@pytest.mark.parametrize(
    ("as_of", "is_reversed"),
    [
        ("2011-07-10T00:00:01", True),
        ("2011-07-12T00:00:00", True),
        ("2011-07-12T00:00:01", False),
        ("2011-07-14T00:00:00", False),
        ("2011-07-14T00:00:01", True),
        ("2011-07-16T00:00:00", True),
        ("2011-07-16T00:00:01", False),
    ],
)
def test_an_order_is_reversed_as_often_as_it_came_back(shop: Shop, as_of: str, is_reversed: bool) -> None:
    assert orders_at(shop, as_of)["6"] == (2, Decimal("10"), is_reversed)


def test_an_order_grows_line_by_line(shop: Shop) -> None:
    assert "3" not in orders_at(shop, "2011-03-03T23:59:00")
    assert orders_at(shop, "2011-03-04T00:00:00")["3"] == (1, Decimal("5"), False)
    assert orders_at(shop, "2011-03-04T00:02:00")["3"] == (3, Decimal("15"), False)


def test_a_product_is_what_the_catalogue_said_when_it_was_sold(shop: Shop) -> None:
    shop.set_clock("2012-06-01T00:00:00")
    found = shop.query(
        "select distinct order_id, product_id, category, line_type from marts.fct_order_lines order by all"
    )
    assert ("2", "MUG", "Kitchen", "sale") in found
    assert ("4", "MUG", "Gifts", "sale") in found
    shop.set_clock("2011-03-15T00:00:00")
    found = shop.query(
        "select product_id, category, line_type from marts.fct_order_lines where order_id = '1' order by all"
    )
    assert found == [("CARD", None, "sale"), ("MUG", "Kitchen", "sale")]


ODD_DAYS = {
    "before the first order": ("2009-01-01T00:00:00", set[str]()),
    "the clock goes forward, at midnight": ("2011-03-27T23:00:00", {"1", "2", "3", "T1", "autumn"}),
    "the clock goes forward, half an hour later": ("2011-03-27T23:30:01", {"1", "2", "3", "T1", "autumn", "spring"}),
    "the clock goes back, before": ("2010-10-31T00:30:00", set[str]()),
    "the clock goes back, after": ("2010-10-31T00:30:01", {"autumn"}),
    "29 February, before noon": ("2012-02-29T12:00:00", {"1", "2", "4", "5", "6", "T1", "autumn", "spring"}),
    "29 February": ("2012-03-01T00:00:00", {"1", "2", "4", "5", "6", "T1", "autumn", "spring", "leap"}),
}


@pytest.mark.parametrize(("as_of", "known"), ODD_DAYS.values(), ids=ODD_DAYS)
def test_odd_days_are_days(shop: Shop, as_of: str, known: set[str]) -> None:
    assert set(orders_at(shop, as_of)) == known


def test_dates_of_odd_days_are_the_calendars(shop: Shop) -> None:
    days = dict(shop.query("select order_id, cast(ordered_on as varchar) from intermediate.int_orders"))
    assert (days["spring"], days["autumn"], days["leap"]) == ("2011-03-28", "2010-10-31", "2012-02-29")


def test_a_merge_of_customers_changes_no_stored_order(shop: Shop) -> None:
    shop.set_clock("2012-06-01T00:00:00")
    shop.dbt("run", *MODELS)
    before = stored(shop)
    customers = "select count(distinct customer_id) from marts.fct_orders"
    assert shop.query(customers) == [(2,)]
    shop.resolve(1, "2012-06-01T00:00:00", {ANN: ANN, BEA: ANN})
    shop.dbt("run", *MODELS)
    assert shop.query(customers) == [(1,)]
    after = stored(shop)
    for table in ("int_order_document_versions", "int_order_lines", "int_orders"):
        assert after[table] == before[table], table


def test_a_delivery_that_is_gone_leaves_nothing(shop: Shop) -> None:
    """As after an erasure: the tables notice by themselves and are made anew."""
    shop.set_clock("2012-06-01T00:00:00")
    rows = manifest.read(shop.home)
    manifest.write(shop.home, [row for row in rows if row.sequence != 3])
    try:
        shop.dbt("run", *MODELS)
        grown = stored(shop)
        assert not [row for row in grown["int_order_lines"] if "R3" in row and row[0] == "shop" and 3 in row]
        shop.dbt("run", "--full-refresh", *MODELS)
        assert stored(shop) == grown
        assert orders_at(shop, "2011-06-01T00:00:00")["1"][0] == 2
    finally:
        manifest.write(shop.home, rows)
