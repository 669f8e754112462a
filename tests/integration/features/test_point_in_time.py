"""Features know nothing of the future, and what is kept of them is what would be made anew.

A small shop with a history is seen when the schedule refreshes on a Monday of the spine. Then every table of the lake is
given rows that become known on that very instant or later, about what happened long before, and the shop is seen four weeks
on: what is learned from then is what was scored on that Monday.
"""

from __future__ import annotations

from typing import Any

import duckdb
import pytest

from core.home import Home
from tests.integration.dbt_core.shop import Shop, customer_id

MONDAY = "2024-03-18T05:00:00"  # of the spine, at five in London
NEXT_MONDAY = "2024-04-15T04:00:00"  # the next one, in summer time
TABLES = ("feat_customers", "outcomes", "feat_anchors", "feat_recency_counts", "feat_fit_candidates")
MODELS = ("+feat_fit_candidates", "+outcomes", "+feat_rfm")


def order(order_id: str, at: str, customer: str, **more: Any) -> dict[str, Any]:
    return {"order_id": order_id, "ordered_at": at, "customer_ref": customer, **more}


def line(order_id: str, number: int, product: str, quantity: int, price: float, **more: Any) -> dict[str, Any]:
    return {
        "order_id": order_id, "line_number": number, "product_id": product, "quantity": quantity, "unit_price": price, **more
    }  # fmt: skip


def visit(event_id: str, at: str, name: str, **more: Any) -> dict[str, Any]:
    return {"event_id": event_id, "event_type": "track", "event_name": name, "occurred_at": at, **more}


def mail(event_id: str, at: str, kind: str, send_id: str, **more: Any) -> dict[str, Any]:
    return {
        "event_id": event_id, "event_type": kind, "email": "ann@example.com", "send_id": send_id, "campaign_id": "c1",
        "occurred_at": at, "url": "https://shop.example.com/mugs" if kind == "clicked" else None, **more,
    }  # fmt: skip


def contact(**more: Any) -> dict[str, Any]:
    return {
        "contact_id": "k1", "customer_ref": "ANN", "email": "ann@example.com", "given_name": "Ann", "surname": "Lee",
        "gender": "female", "birthday": "1990-02-28", "country": "GB", "language": "en-GB", "loyalty_tier": "gold",
        "created_at": "2023-01-05T10:00:00", **more,
    }  # fmt: skip


def furnish(shop: Shop) -> None:
    """Fifteen months of history."""
    shop.deliver(
        "shop",
        products=[{"product_id": "mug", "category": "Kitchen"}, {"product_id": "pen", "category": "Office"}],
        exchange_rates=[{"rate_on": "2023-01-01", "from_currency": "EUR", "to_currency": "GBP", "rate": 0.8}],
        orders=[
            order("1", "2023-01-10T10:00:00", "ANN"),
            order("2", "2023-06-10T10:00:00", "ANN", coupon="JUNE", discount=1),
            order("3", "2023-12-10T10:00:00", "ANN", currency="EUR"),
            order("4", "2024-03-01T10:00:00", "ANN"),
            order("5", "2023-11-01T10:00:00", "BOB"),
            order("6", "2024-02-28T10:00:00", "BOB"),
            order("7", "2024-03-14T10:00:00", "CAT"),
            order("21", "2024-01-05T10:00:00", "DOT", email="dot@example.com", accepts_marketing=True, country="FR"),
            order("22", "2024-01-06T10:00:00", "EVE", country="GB"),
            order("23", "2024-01-07T10:00:00", "FAY", email="fay@example.com", accepts_marketing=True),
            order("24", "2024-01-08T10:00:00", "GUS", email="gus@example.com", phone="+44 20 7946 0001", country="FR"),
            order("25", "2024-01-09T10:00:00", "HAL", email="hal@example.com", accepts_marketing=True, country="FR"),
        ],
        order_lines=[
            line("1", 1, "mug", 1, 10), line("2", 1, "mug", 2, 10), line("2", 2, "pen", 1, 3),
            line("3", 1, "pen", 4, 3), line("4", 1, "mug", 1, 12.5), line("5", 1, "pen", 1, 3),
            line("6", 1, "mug", 3, 10), line("7", 1, "mug", 1, 10),
            *[line(number, 1, "mug", 1, 10) for number in ("21", "22", "23", "24", "25")],
        ],
    )  # fmt: skip
    shop.deliver(
        "crm",
        contacts=[
            contact(),
            contact(contact_id="k2", customer_ref="BOB", email="bob@example.com", given_name="Bob", gender="male"),
            contact(contact_id="k3", customer_ref="DOT", email=None, given_name="Dot", country=None, city=None),
        ],
    )
    shop.deliver(
        "crm",
        consents=[{
            "consent_id": "s1", "contact_id": "k1", "contact_point": "ann@example.com", "channel": "email",
            "purpose": "marketing", "state": "granted", "captured_at": "2023-01-05T10:00:00",
        }],
    )  # fmt: skip
    shop.deliver(
        "third_party",
        demographics=[
            {"contact_point": "ann@example.com", "contact_point_type": "email", "region_type": "urban"},
            {"contact_point": "bob.two@example.com", "contact_point_type": "email", "region_type": "urban"},
        ],
    )
    shop.deliver(
        "web",
        events=[
            visit("w1", "2024-02-01T10:00:00", "identify", anonymous_id="d1", user_id="ANN"),
            visit("w2", "2024-02-01T10:05:00", "Product Viewed", anonymous_id="d1", user_id="ANN", product_id="mug"),
            visit("w3", "2024-03-16T10:00:00", "Product Added", anonymous_id="d1", user_id="ANN", product_id="mug"),
            visit("w7", "2024-03-10T10:00:00", "Product Viewed", anonymous_id="d2", product_id="mug"),
        ],
    )
    shop.deliver(
        "email",
        campaigns=[{"campaign_id": "c1", "name": "March", "kind": "promotional", "sent_at": "2024-03-05T08:00:00"}],
        sends=[
            {"send_id": f"m{number}", "campaign_id": "c1", "email": "ann@example.com", "sent_at": "2024-03-05T08:00:00"}
            for number in (1, 2)
        ]
        + [
            {"send_id": "m3", "campaign_id": "c1", "email": "bob.two@example.com", "sent_at": "2024-03-05T08:00:00"},
        ],
        events=[
            mail("e1", "2024-03-05T08:00:10", "delivered", "m1"),
            mail("e2", "2024-03-05T09:00:00", "clicked", "m1"),
            mail("e3", "2024-03-06T09:00:00", "clicked", "m2"),
            mail("e7", "2024-03-05T08:00:10", "delivered", "m3", email="bob.two@example.com"),
            mail("e8", "2024-03-05T08:00:10", "unsubscribed", "m3", email="bob.two@example.com"),
        ],
    )
    shop.deliver(  # in the night before the schedule refreshes
        "shop", "2024-03-18T03:00:00",
        orders=[order("9", "2024-03-18T02:00:00", "CAT")],
        order_lines=[line("9", 1, "pen", 1, 3)],
    )  # fmt: skip
    shop.deliver(
        "pos",
        sales=[{
            "sale_id": "p1", "line_number": 1, "sold_at": "2024-01-15T12:00:00", "customer_ref": "ANN", "product_id": "pen",
            "quantity": 2, "unit_price": 3,
        }],
    )  # fmt: skip


def poison(shop: Shop, received_at: str) -> None:
    """Rows of every table about what happened before the Monday, known from `received_at` on."""
    shop.deliver(
        "shop", received_at,
        products=[{"product_id": "mug", "category": "Garden"}, {"product_id": "pen", "category": "Office", "is_goods": False}],
        exchange_rates=[
            {"rate_on": "2023-01-01", "from_currency": "EUR", "to_currency": "GBP", "rate": 2},
            {"rate_on": "2023-12-01", "from_currency": "EUR", "to_currency": "GBP", "rate": 3},
        ],
        orders=[
            order("2", "2023-07-10T10:00:00", "ANN", accepts_marketing=False),
            order("4", "2024-03-01T10:00:00", "ANN", status="fraud"),
            order("8", "2024-03-17T10:00:00", "BOB", coupon="LATE", discount=1),
            order("R6", "2024-03-02T10:00:00", "BOB", is_cancellation=True),
            order("21", "2024-01-05T10:00:00", "DOT", email="dot.two@example.com", accepts_marketing=True, country="DE"),
            order("22", "2024-01-06T10:00:00", "EVE", email="eve@example.com", phone="+44 20 7946 0002",
                  accepts_marketing=True, country="IE"),
            order("23", "2024-01-07T10:00:00", "FAY", email="fay@example.com", accepts_marketing=True, status="fraud"),
            order("24", "2024-01-08T10:00:00", "GUY"),
            order("25", "2024-01-09T10:00:00", "HAL", email="hal@example.com", accepts_marketing=False),
            order("26", "2023-01-09T10:00:00", "HAL", email="hal@example.com", accepts_marketing=True, country="ES"),
            order("27", "2024-02-09T10:00:00", "CAT", email="cat@example.com", country="ES"),
        ],
        order_lines=[
            line("2", 1, "mug", 9, 99), line("4", 1, "mug", 1, 1), line("8", 1, "pen", 1, 3), line("R6", 1, "mug", 3, 10),
            *[line(number, 1, "mug", 1, 10) for number in ("21", "22", "23", "24", "25", "26", "27")],
        ],
    )  # fmt: skip
    shop.deliver(
        "crm", received_at,
        contacts=[contact(gender="male", birthday="1950-01-01", loyalty_tier="none", country="IE",
                          accepts_marketing=True, phone="020 7946 0000", updated_at="2023-01-06T10:00:00"),
                  contact(contact_id="k2", customer_ref="BOB", email="bob.two@example.com", country="IE"),
                  contact(contact_id="k3", customer_ref="DOT", email="dot@example.com", country="IE", city="Cork"),
                  contact(contact_id="k4", customer_ref="CAT", email="cat@example.com", created_at="2023-01-05T10:00:00")],
        consents=[{
            "consent_id": "s2", "contact_id": "k1", "contact_point": "ann@example.com", "channel": "email",
            "purpose": "marketing", "state": "withdrawn", "captured_at": "2023-02-05T10:00:00",
        }, {
            "consent_id": "s3", "contact_id": "k2", "channel": "email", "purpose": "marketing", "state": "confirmed",
            "captured_at": "2023-02-05T10:00:00",
        }],
    )  # fmt: skip
    shop.deliver(
        "third_party", received_at,
        demographics=[{"contact_point": "ann@example.com", "contact_point_type": "email", "region_type": "rural",
                       "age_band": "65+"}],
    )  # fmt: skip
    shop.deliver(
        "web", received_at,
        events=[
            visit("w4", "2024-02-01T10:02:00", "Product Added", anonymous_id="d1", user_id="ANN", product_id="pen"),
            visit("w5", "2024-03-16T10:10:00", "Order Completed", anonymous_id="d1", user_id="ANN", order_id="8"),
            visit("w6", "2024-03-17T10:10:00", "Products Searched", anonymous_id="d1", user_id="ANN", query="mugs"),
            visit("w8", "2024-03-10T10:05:00", "identify", anonymous_id="d2", user_id="BOB"),
        ],
    )  # fmt: skip
    shop.deliver(
        "email", received_at,
        events=[
            mail("e4", "2024-03-06T08:59:55", "delivered", "m2"),
            mail("e5", "2024-03-07T09:00:00", "clicked", "m1"),
            mail("e6", "2024-03-07T10:00:00", "unsubscribed", "m1"),
        ],
    )  # fmt: skip
    shop.deliver(
        "pos", received_at,
        sales=[
            {"sale_id": "p1", "line_number": 1, "sold_at": "2024-01-15T12:00:00", "customer_ref": "ANN",
             "product_id": "pen", "quantity": 20, "unit_price": 3},
            {"sale_id": "p2", "line_number": 1, "sold_at": "2024-03-17T12:00:00", "customer_ref": "BOB",
             "product_id": "mug", "quantity": 1, "unit_price": 10},
        ],
    )  # fmt: skip


def rows(shop: Shop, table: str, where: str = "true") -> list[dict[str, Any]]:
    """A table of the features, sorted, as dictionaries, so that a difference shows its column."""
    with duckdb.connect(str(shop.home.warehouse), read_only=True) as connection:
        relation = connection.execute(f"select * from features.{table} where {where} order by all")
        names = [column[0] for column in relation.description]
        return [dict(zip(names, row, strict=True)) for row in relation.fetchall()]


def build(shop: Shop, *arguments: str) -> dict[str, list[dict[str, Any]]]:
    shop.dbt("run", "--select", *MODELS, *arguments)
    return {table: rows(shop, table) for table in TABLES}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    scratch = tmp_path_factory.mktemp("points_in_time")
    shop = Shop(Home.create(scratch / "home", "Europe/London", "GBP"), scratch)
    furnish(shop)
    shop.set_clock(MONDAY)
    shop.dbt("seed")
    return shop


@pytest.fixture(scope="module")
def before(shop: Shop) -> dict[str, list[dict[str, Any]]]:
    """The Monday, as it was seen on the Monday."""
    return build(shop)


@pytest.fixture(scope="module")
def after(shop: Shop, before: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """All that was known four weeks later, on top of what was kept."""
    poison(shop, MONDAY)
    shop.set_clock(NEXT_MONDAY)
    return build(shop)


@pytest.fixture(scope="module")
def anew(shop: Shop, after: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """The same, with nothing kept."""
    return build(shop, "--full-refresh")


def of_the_past(table: list[dict[str, Any]], until: str, key: str = "as_of") -> list[dict[str, Any]]:
    return [row for row in table if "2022-05" < str(row[key]) <= until.replace("T", " ")]


def test_what_became_known_later_leaves_no_trace(
    before: dict[str, list[dict[str, Any]]], anew: dict[str, list[dict[str, Any]]]
) -> None:
    features = of_the_past(before["feat_customers"], MONDAY)
    assert len({row["as_of"] for row in features}) > 10
    assert of_the_past(anew["feat_customers"], MONDAY) == features


def test_a_night_that_was_known_when_scored_is_known_when_learned_from(
    before: dict[str, list[dict[str, Any]]], anew: dict[str, list[dict[str, Any]]]
) -> None:
    for table in (before, anew):
        (cat,) = [
            row
            for row in of_the_past(table["feat_customers"], MONDAY)
            if row["customer_id"] == customer_id("shop|customer_ref|CAT")
            and str(row["as_of"]) == MONDAY.replace("T", " ")
        ]
        assert (cat["orders"], cat["orders_30"], str(cat["last_order_on"])) == (2, 1, "2024-03-18")


def test_outcomes_that_had_closed_stay_as_they_were(
    before: dict[str, list[dict[str, Any]]], anew: dict[str, list[dict[str, Any]]]
) -> None:
    known = of_the_past(before["outcomes"], MONDAY)
    closed = {(row["as_of"], row["horizon_days"]) for row in known}
    assert len(closed) > 20
    again = of_the_past(anew["outcomes"], MONDAY)
    assert [row for row in again if (row["as_of"], row["horizon_days"]) in closed] == known


def test_fits_of_the_past_stay_as_they_were(
    before: dict[str, list[dict[str, Any]]], anew: dict[str, list[dict[str, Any]]]
) -> None:
    fits = of_the_past(before["feat_fit_candidates"], MONDAY, "fit_as_of")
    assert of_the_past(anew["feat_fit_candidates"], MONDAY, "fit_as_of") == fits


@pytest.mark.parametrize("table", TABLES)
def test_what_is_kept_is_what_would_be_made_anew(
    table: str, after: dict[str, list[dict[str, Any]]], anew: dict[str, list[dict[str, Any]]]
) -> None:
    assert after[table] == anew[table]


def test_the_poison_arrived(after: dict[str, list[dict[str, Any]]]) -> None:
    (ann,) = [
        row
        for row in after["feat_customers"]
        if row["customer_id"] == customer_id("crm|contact_id|k1") and str(row["as_of"]) == NEXT_MONDAY.replace("T", " ")
    ]
    assert (ann["gender"], ann["email_consent"]) == ("male", "refused")


def test_countries_are_those_of_orders_where_no_address_tells(after: dict[str, list[dict[str, Any]]]) -> None:
    countries = {
        (row["customer_id"], str(row["as_of"])): row["country_code"] for row in after["feat_customers"]
    }  # fmt: skip
    known = {
        name: tuple(
            countries.get((customer_id(f"shop|customer_ref|{name}"), at.replace("T", " ")))
            for at in (MONDAY, NEXT_MONDAY)
        )
        for name in ("DOT", "EVE", "HAL", "CAT")
    }
    assert known == {"DOT": ("FR", "DE"), "EVE": ("GB", "IE"), "HAL": ("FR", "ES"), "CAT": (None, "ES")}
