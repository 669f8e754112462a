"""Consent through the real line: deliveries, dbt, a release, and the second look at the lake."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import md5
from typing import Any

import duckdb
import pytest

from activation import releases
from activation.consent import refusals
from core.home import Home
from core.settings import Settings
from tests.integration.dbt_core.shop import Shop

AS_OF = datetime(2011, 7, 1, tzinfo=UTC)
ORDERS: list[dict[str, Any]] = [
    {"order_id": "1", "ordered_at": "2011-01-10", "email": "guest@example.com", "country": "GB", "accepts_marketing": True},
    {"order_id": "2", "ordered_at": "2011-01-10", "email": "soft@example.com", "country": "GB"},
    {"order_id": "3", "ordered_at": "2011-01-10", "email": "bought@example.com", "country": "GB"},
    {"order_id": "4", "ordered_at": "2011-06-01", "customer_ref": "N1", "country": "GB"},
]  # fmt: skip


def contact(contact_id: str, email: str, country: str | None = "GB", **more: Any) -> dict[str, Any]:
    return {"contact_id": contact_id, "email": email, "country": country, "created_at": "2011-01-01", **more}


def said(contact_id: str | None, state: str, at: str, **more: Any) -> dict[str, Any]:
    event = {"contact_id": contact_id, "channel": "email", "purpose": "marketing", "state": state, "captured_at": at}
    return event | more


def event(kind: str, email: str, at: str) -> dict[str, Any]:
    return {"event_id": f"{kind} {email}", "event_type": kind, "email": email, "occurred_at": at, "bounce_type": "hard"}


def web(event_id: str, at: str, **more: Any) -> dict[str, Any]:
    return {"event_id": event_id, "event_type": "track", "event_name": "Product Viewed", "occurred_at": at, **more}


def assign(shop: Shop, run: int, **customers: str) -> None:
    """What a run of identity resolution would have written: the contacts whose customer changed in it."""
    folder = shop.home.identity / "assignments"
    folder.mkdir(parents=True, exist_ok=True)
    rows = ", ".join(
        f"({run}::bigint, timestamp '{datetime(2011, 1 + run, 1)}',"
        f" {int(md5(f'crm|contact_id|{name}'.encode()).hexdigest()[:15], 16)}::bigint, '{customer}')"
        for name, customer in customers.items()
    )
    with duckdb.connect() as connection:
        connection.execute(
            f"copy (from (values {rows}) as said (run, as_of, identifier_id, customer_id))"
            f" to '{folder}/{run:06}.parquet' (format parquet)"
        )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Contacts m1 and m2 were one customer until May, n1 and n2 as well; o1 and o2 are one now."""
    scratch = tmp_path_factory.mktemp("consent")
    shop = Shop(Home.create(scratch / "home", "Europe/London", "GBP"), scratch)
    lines = [{"order_id": order["order_id"], "product_id": "mug", "quantity": 1, "unit_price": 5} for order in ORDERS]
    shop.deliver("shop", orders=ORDERS, order_lines=lines)
    shop.deliver("third_party", demographics=[{"contact_point": "list@example.com", "age_band": "25-34"}])
    shop.deliver(
        "email",
        events=[
            event("unsubscribed", "late@example.com", "2011-03-01"),
            event("unsubscribed", "m1@example.com", "2011-04-15"),
            event("unsubscribed", "n1@example.com", "2011-05-15"),
            event("complained", "o1@example.com", "2012-01-01"),
            event("bounced", "dead@example.com", "2011-02-01"),
        ],
    )
    names = ("late", "m1", "m2", "n1", "n2", "o1", "o2", "dead")
    shop.deliver(
        "crm",
        received_at="2011-04-01T00:00:00",
        contacts=[
            *(contact(name, f"{name}@example.com") for name in names),
            contact("child", "child@example.com", birthday="2000-01-01"),
            contact("german", "german@example.com", "DE"),
            contact("moved", "old@example.com"),
            contact("dee", "dee@example.com"),
        ],
        consents=[
            *(said(name, "granted", "2011-01-02") for name in (*names, "child", "german", "moved")),
            *(said(name, "granted", "2011-01-02", purpose="profiling") for name in ("m2", "child", "dee")),
            said("dee", "pending", "2011-01-02"),
            said("dee", "confirmed", "2011-02-01", expires_at="2011-04-10"),
            said(None, "granted", "2011-01-11", contact_point="soft@example.com", lawful_basis="soft_opt_in"),
            said(None, "granted", "2011-01-11", contact_point="list@example.com", lawful_basis="soft_opt_in"),
        ],
    )
    shop.deliver("crm", received_at="2011-05-01T00:00:00", contacts=[contact("moved", "new@example.com")])
    shop.deliver(
        "web",
        events=[
            web("w1", "2011-06-01T10:00:00", anonymous_id="yes", user_id="N1", tracking_consent="functional,analytics"),
            web("w2", "2011-06-01T10:00:00", anonymous_id="no", user_id="N1", tracking_consent="functional"),
            web("w3", "2011-06-01T10:01:00", anonymous_id="no", order_id="4", tracking_consent="false")
            | {"event_name": "Order Completed"},
            web("w4", "2011-06-01T10:02:00", anonymous_id="silent", user_id="N1"),
        ],
    )
    assign(shop, 1, m1="m", m2="m", n1="n", n2="n", o1="o1", o2="o2")
    assign(shop, 4, m2="m2", n2="n2", o2="o1")
    shop.set_clock("2011-07-01T00:00:00")
    shop.dbt("build", "--exclude-resource-type", "unit_test")
    return shop


def reasons(shop: Shop) -> dict[str, str | None]:
    return dict(shop.query("select email, reason_not_sendable from activation.sendable_audience"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("guest", None, id="a tick at the checkout"),
        pytest.param("late", "suppressed", id="had unsubscribed before the CRM knew it"),
        pytest.param("m1", "suppressed", id="unsubscribed"),
        pytest.param("m2", "suppressed", id="was one with it when it unsubscribed"),
        pytest.param("n1", "suppressed", id="unsubscribed after the split"),
        pytest.param("n2", None, id="had been split off before"),
        pytest.param("o1", "suppressed", id="complained beyond the clock"),
        pytest.param("o2", "suppressed", id="is one with it"),
        pytest.param("dead", "suppressed", id="bounced"),
        pytest.param("child", "minor", id="a child"),
        pytest.param("german", "policy", id="not confirmed where that is needed"),
        pytest.param("soft", None, id="soft opt-in of a buyer"),
        pytest.param("bought", "no_consent", id="an order alone is no consent"),
        pytest.param("old", None, id="the address that a consent was given for"),
        pytest.param("new", "no_consent", id="the one that the contact has now"),
        pytest.param("dee", "no_consent", id="ended"),
    ],
)
def test_who_may_be_mailed(shop: Shop, name: str, reason: str | None) -> None:
    assert reasons(shop)[f"{name}@example.com"] == reason


def test_bought_data_make_nobody_sendable(shop: Shop) -> None:
    assert reasons(shop)["list@example.com"] == "policy", "implied consent without an order counts for nothing"
    assert shop.query("select count(*) from activation.sync_profiles where email = 'list@example.com'") == [(0,)]


@pytest.mark.parametrize(
    ("as_of", "state"),
    [
        ("2011-03-31", None),  # all of it was received on the first of April
        ("2011-04-02", "confirmed"),
        ("2011-04-09 22:59:59", "confirmed"),  # the tenth begins at 23:00 UTC
        ("2011-04-09 23:00:00", "expired"),
        ("2013-01-01", "expired"),
    ],
)
def test_the_state_at_an_instant(shop: Shop, as_of: str, state: str | None) -> None:
    rows = shop.query(
        f"""
        select state from marts.consent_states
        where contact_point = 'dee@example.com' and channel = 'email' and purpose = 'marketing'
            and valid_from_at <= '{as_of}' and (valid_to_at is null or valid_to_at > '{as_of}')
        """
    )
    assert rows == ([(state,)] if state else [])


def test_a_suppression_says_whom_it_binds_and_how(shop: Shop) -> None:
    rows = shop.query(
        "select suppression_type, reach, customer_id, is_by_former_merge from marts.fct_suppressions"
        " where contact_point in ('m1@example.com', 'dead@example.com') order by all"
    )
    assert rows == [
        ("hard_bounce", "address", None, False),
        ("unsubscribe", "promotional", "m", False),
        ("unsubscribe", "promotional", "m2", True),
    ]


def test_who_may_be_profiled(shop: Shop) -> None:
    rows = shop.query(
        "select identifier, reason_not_profiled from marts.customer_permissions inner join marts.customer_identifiers"
        " using (customer_id) where identifier in ('m2', 'child', 'dee', 'guest@example.com') order by identifier"
    )
    assert rows == [("child", "minor"), ("dee", None), ("guest@example.com", "no_consent"), ("m2", None)]


def test_a_visit_without_consent_leaves_its_order_only(shop: Shop) -> None:
    events = shop.query("select event_id, order_id, session_key is null, customer_id is null from marts.fct_web_events")
    assert sorted(events) == [("w1", None, False, False), ("w3", "4", True, True), ("w4", None, False, False)]
    devices = shop.query("select identifier from marts.customer_identifiers where identifier_type = 'anonymous_id'")
    assert sorted(devices) == [("silent",), ("yes",)]
    assert shop.query("select count(*) from marts.fct_web_sessions") == [(2,)]


def test_the_second_look_agrees(shop: Shop) -> None:
    settings = Settings(home=shop.home.root, memory_limit="500MB", threads=1)
    with duckdb.connect(str(shop.home.warehouse), read_only=True) as connection:
        release = releases.freeze(settings, shop.home, connection, as_of=AS_OF)
    stands = dict(
        shop.query("select email, suppression_type from marts.suppressed_addresses where purpose = 'marketing'")
    )
    assert refusals(settings, shop.home, release, lake_only=True).kinds == stands
    # What comes in afterwards binds the same people, without the warehouse.
    shop.deliver(
        "email", received_at="2011-07-02T00:00:00", events=[event("unsubscribed", "n2@example.com", "2011-07-01")]
    )
    assert set(refusals(settings, shop.home, release).kinds) == {*stands, "n2@example.com"}
