"""The lake to marts/core, end to end, for a shop small enough to be worked out by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from core.home import Home
from tests.integration.dbt_core.shop import Shop

AS_OF = "2011-07-01"
ANN = "shop|customer_ref|A1"
FACTS = (
    "fct_orders",
    "fct_order_lines",
    "fct_web_events",
    "fct_web_sessions",
    "fct_email_events",
    "dim_customers",
    "customer_identifiers",
)


def order(order_id: str, ordered_at: str, **more: Any) -> dict[str, Any]:
    return {"order_id": order_id, "ordered_at": ordered_at, **more}


def line(order_id: str, product_id: str, quantity: int, unit_price: float, **more: Any) -> dict[str, Any]:
    return {"order_id": order_id, "product_id": product_id, "quantity": quantity, "unit_price": unit_price, **more}


def snapshot(shop: Shop) -> dict[str, list[tuple[Any, ...]]]:
    return {fact: shop.query(f"select * from marts.{fact} order by all") for fact in FACTS}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """History up to June 2011 and one live delivery, seen on the first of July."""
    scratch = tmp_path_factory.mktemp("shop")
    shop = Shop(Home.create(scratch / "o'clock home", "Europe/Berlin", "EUR"), scratch)
    shop.deliver(
        "shop",
        orders=[
            order("1", "2011-06-01T00:30:00", customer_ref="A1", email="Ann@Example.com", country="Deutschland"),
            order("2", "2011-06-02T10:00:00", email="guest@example.com", country="EIRE", accepts_marketing=True),
            order("3", "2011-06-03T10:00:00", currency="GBP", discount=3, customer_ref="B2"),
            order("4", "2011-06-04T10:00:00", customer_ref="B2", status="fraud"),
            order("5", "2011-06-05T10:00:00"),
            order("6", "2011-07-01T02:00:00", customer_ref="C3"),
        ],
        order_lines=[
            line("1", "mug", 2, 5),
            line("1", "MUG ", 1, 5),
            line("1", "POST", 1, 4.5, is_goods=False),
            line("2", "mug", 1, 5),
            line("3", "mug", 1, 10),
            line("3", "pen", 2, 10),
            line("4", "mug", 1, 5),
            line("5", "pen", 1, 10),
            line("6", "pen", 1, 10),
        ],
        exchange_rates=[{"rate_on": "2011-01-01", "from_currency": "GBP", "to_currency": "EUR", "rate": 1.2}],
    )
    shop.deliver(
        "shop",
        received_at="2011-06-10T00:00:00",
        orders=[
            order("1", "2011-06-01T00:30:00", customer_ref="A1", email="ann@example.com"),
            order("R1", "2011-06-05T09:00:00", customer_ref="A1", is_cancellation=True),
        ],
        order_lines=[line("1", "mug", 3, 6), line("R1", "mug", 3, 6)],
    )
    shop.deliver(
        "crm",
        contacts=[
            {
                "contact_id": "k1",
                "customer_ref": "A1",
                "email": "ann@example.com",
                "given_name": "ANN",
                "surname": "Lee",
                "country": "DE",
                "phone": "030 901820",
                "created_at": "2011-05-01",
                "birthday": "1980-07-02",
            },
            {
                "contact_id": "k2",
                "email": "ann@example.com",
                "given_name": "Annie",
                "surname": "Lee",
                "created_at": "2011-05-02",
                "accepts_marketing": True,
            },
            {
                "contact_id": "k3",
                "email": "ann@example.com",
                "given_name": "Bo",
                "surname": "Ray",
                "created_at": "2011-05-03",
            },
        ],
    )
    shop.deliver(
        "web",
        events=[
            {"event_id": "w1", "event_type": "page", "anonymous_id": "d1", "occurred_at": "2011-06-01T08:00:00"},
            {"event_id": "w2", "event_type": "identify", "anonymous_id": "d1", "user_id": "A1",
             "occurred_at": "2011-06-03T08:00:00"},
            {"event_id": "w2", "event_type": "identify", "anonymous_id": "d1", "user_id": "A1",
             "occurred_at": "2011-06-03T08:00:00"},
            {"event_id": "w3", "event_type": "page", "anonymous_id": "d2", "occurred_at": "2011-06-03T08:00:00"},
        ],
    )  # fmt: skip
    shop.resolve(1, AS_OF, dict.fromkeys((ANN, "crm|contact_id|k1", "crm|contact_id|k2"), ANN))
    shop.set_clock(f"{AS_OF}T00:00:00")
    shop.build_core()
    return shop


def test_orders_count_once_as_last_delivered(shop: Shop) -> None:
    orders = shop.query("select order_id, line_count, units, amount_base from marts.fct_orders order by order_id")
    assert orders == [
        ("1", 1, 3, Decimal("18")),
        ("2", 1, 1, Decimal("5")),
        ("3", 2, 3, Decimal("32.4")),  # (30 - 3) pounds at 1.2
        ("5", 1, 1, Decimal("10")),
    ]


def test_dates_are_local_and_instants_utc(shop: Shop) -> None:
    (row,) = shop.query(
        "select cast(ordered_at as varchar), cast(ordered_on as varchar) from marts.fct_orders where order_id = '1'"
    )
    assert row == ("2011-05-31 22:30:00", "2011-06-01")


def test_a_return_is_known_when_received(shop: Shop) -> None:
    reversals = shop.query(
        "select order_id, cast(reversed_known_at as varchar) from marts.fct_orders where is_reversed"
    )
    assert reversals == [("1", "2011-06-10 00:00:00")]


def test_customers_are_who_they_are(shop: Shop) -> None:
    people = dict(
        shop.query("select identifier_type || ' ' || identifier, customer_id from marts.customer_identifiers")
    )
    ann = people["customer_ref A1"]
    assert ann == shop.query("select substr(md5('shop|customer_ref|A1'), 1, 16)")[0][0]
    assert people["contact_id k1"] == people["contact_id k2"] == people["email ann@example.com"] == ann
    assert people["anonymous_id d1"] == people["phone +4930901820"] == ann
    assert people["contact_id k3"] != ann, "a shared address must not merge two persons"
    assert people["email guest@example.com"] not in (ann, people["contact_id k3"], people["customer_ref B2"])
    assert "customer_ref C3" not in people, "not known before the as_of"
    assert "anonymous_id d2" not in people


def test_the_golden_record(shop: Shop) -> None:
    (ann,) = shop.query(
        """
        select given_name, surname, email, phone, country_code, age_band, record_count
        from marts.dim_customers where customer_id = substr(md5('shop|customer_ref|A1'), 1, 16)
        """
    )
    assert ann == ("Annie", "Lee", "ann@example.com", "+4930901820", "DE", "25-34", 3)


def test_what_a_device_did_before_is_its_owners(shop: Shop) -> None:
    events = shop.query("select event_id, customer_id is not null from marts.fct_web_events order by event_id")
    assert events == [("w1", True), ("w2", True), ("w3", False)]


def test_nothing_is_lost_on_the_way(shop: Shop) -> None:
    """Lines that stand in the manifest are the lines in the mart, later ones aside."""
    (lines,) = shop.query("select count(*) from marts.fct_order_lines")[0]
    (standing,) = shop.query(
        "select sum(rows_accepted) from lake.deliveries where source = 'shop' and table_name = 'order_lines'"
    )[0]
    assert (lines, standing) == (7, 8)  # order 6 is not known yet


def test_the_same_lake_gives_the_same_tables(shop: Shop) -> None:
    before = snapshot(shop)
    shop.home.warehouse.unlink()
    shop.build_core()
    assert snapshot(shop) == before


def test_what_is_known_later_changes_nothing_but_refusals(shop: Shop) -> None:
    """Poison: everything that the facts are made of, received after the as_of, about old and new things alike."""
    before = snapshot(shop)
    late = "2011-07-01T00:00:00"
    shop.deliver(
        "shop",
        received_at=late,
        orders=[order("1", "2011-06-01T00:30:00", customer_ref="B2", email="bo@example.com"),
                order("7", "2011-06-07T10:00:00", customer_ref="A1", email="guest@example.com")],
        order_lines=[line("1", "pen", 9, 99), line("7", "mug", 1, 5), line("R2", "mug", -9, 5, customer_ref="B2",
                     occurred_at="2011-06-04T12:00:00")],
        exchange_rates=[{"rate_on": "2011-01-01", "from_currency": "GBP", "to_currency": "EUR", "rate": 9}],
    )  # fmt: skip
    shop.deliver(
        "crm",
        received_at=late,
        contacts=[{"contact_id": "k2", "email": "annie@example.com", "given_name": "Anna", "surname": "Roe",
                   "created_at": "2011-05-02", "updated_at": "2011-06-01", "accepts_marketing": False}],
        consents=[{"contact_id": "k1", "channel": "email", "purpose": "marketing", "state": state,
                   "captured_at": "2011-06-20"} for state in ("withdrawn", "granted")],
    )  # fmt: skip
    shop.deliver(
        "web",
        received_at=late,
        events=[{"event_id": "w1", "event_type": "track", "anonymous_id": "d1", "occurred_at": "2011-06-01T08:00:00"},
                {"event_id": "w9", "event_type": "identify", "anonymous_id": "d2", "user_id": "A1",
                 "occurred_at": "2011-06-03T09:00:00"}],
    )  # fmt: skip
    shop.deliver(
        "email",
        received_at=late,
        events=[{"event_id": "e1", "event_type": kind, "email": "guest@example.com",
                 "occurred_at": "2011-06-03T09:00:00"} for kind in ("unsubscribed", "opened")],
    )  # fmt: skip
    shop.build_core()

    after = snapshot(shop)
    for fact in FACTS:
        assert after[fact] == before[fact], fact
    consents = shop.query("select origin, contact_point, state from marts.fct_consents order by all")
    assert consents == [
        ("checkout", "guest@example.com", "granted"),
        ("crm", "ann@example.com", "withdrawn"),
        ("email", "guest@example.com", "withdrawn"),
        ("profile", "ann@example.com", "granted"),
        ("profile", "annie@example.com", "withdrawn"),
    ]
