"""What happens on site and in mail: visits and their versions, carts with their fate, machines, and what a delivery costs."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from core.home import Home
from tests.integration.dbt_core.shop import Shop, customer_id

AS_OF = "2011-06-10T00:00:00"
FACTS = ("fct_web_events", "fct_web_sessions", "fct_carts", "fct_cart_abandonments", "fct_email_events")
STORED = (
    "int_web_agents",
    "int_web_consents",
    "int_web_sightings",
    "int_web_events",
    "int_web_sessions",
    "int_carts",
    "int_email_events",
)
SELECT = ("--select", *(f"+{fact}" for fact in FACTS))
LONDON, UTC = ZoneInfo("Europe/London"), ZoneInfo("UTC")

Event = Mapping[str, Any]
Tables = Mapping[str, list[tuple[Any, ...]]]


def event(event_id: str, visitor: str, at: str, name: str = "Page Viewed", **more: Any) -> dict[str, Any]:
    kind = {"event_type": "track", "event_name": name}
    return {"event_id": event_id, "anonymous_id": visitor, "occurred_at": f"{at}Z", **kind, **more}


def cart(event_id: str, owner: str, at: str, name: str = "Product Added", **more: Any) -> dict[str, Any]:
    goods = {"price": 5, "quantity": 2, "currency": "GBP"} if name.startswith("Product") else {}
    return event(event_id, f"device of {owner}", at, name, user_id=owner, cart_id=f"cart of {owner}", **goods, **more)


def mail(event_id: str, event_type: str, send_id: str, at: str, **more: Any) -> dict[str, Any]:
    return {"event_id": event_id, "event_type": event_type, "send_id": send_id, "campaign_id": "spring",
            "email": "ann@example.com", "occurred_at": f"{at}Z", **more}  # fmt: skip


def random_events(seed: int) -> list[dict[str, Any]]:
    """What thirty visitors did on two days, so close together that pauses, midnights and campaigns all matter."""
    draw = random.Random(seed)
    events = []
    for number in range(400):
        at = datetime(2011, 6, 1, 20) + timedelta(minutes=draw.randrange(600))
        events.append(
            event(
                f"random {number}",
                f"visitor {draw.randrange(30)}",
                at.isoformat(),
                session_id=draw.choice([None, None, None, "s1", "s2"]),
                campaign_name=draw.choice([None] * 8 + ["red", "blue"]),
            )
        )
    return events


# Of what happened on the first two days of June, one part is history, the others came so much later.
RANDOM = random_events(20110601)
PARTS = {None: RANDOM[:200], "2011-06-03T08:00:00": RANDOM[200:280], "2011-06-05T08:00:00": RANDOM[280:340],
         "2011-06-07T08:00:00": RANDOM[340:]}  # fmt: skip

HISTORY = [
    # Half an hour to the second is no pause.
    event("p1", "pauses", "2011-06-01T10:00:00"),
    event("p2", "pauses", "2011-06-01T10:30:00"),
    event("p3", "pauses", "2011-06-01T11:00:01"),
    # The local day ends at 23:00 UTC.
    event("m1", "midnight", "2011-06-01T22:50:00"),
    event("m2", "midnight", "2011-06-01T23:05:00"),
    event("c1", "campaigns", "2011-06-01T10:00:00"),
    event("c2", "campaigns", "2011-06-01T10:05:00", campaign_name="spring"),
    event("c3", "campaigns", "2011-06-01T10:06:00"),
    event("c4", "campaigns", "2011-06-01T10:10:00", campaign_name="spring"),
    event("c5", "campaigns", "2011-06-01T10:12:00", campaign_name="summer"),
    # The tracker's session is believed over a pause, not over midnight.
    event("t1", "tracker", "2011-06-01T10:00:00", session_id="s"),
    event("t2", "tracker", "2011-06-01T12:00:00", session_id="s"),
    event("t3", "tracker", "2011-06-01T23:30:00", session_id="s"),
    event("b1", "bot", "2011-06-01T10:00:00", user_agent="Mozilla/5.0 (compatible; Googlebot/2.1)"),
    event("r1", "repeats", "2011-06-01T10:00:00"),
    event("r1", "repeats", "2011-06-01T10:00:00"),
    # Nothing bought in time: an order of five days later is another story.
    cart("k1", "A1", "2011-06-01T10:00:00"),
    cart("k2", "A1", "2011-06-01T10:10:00", "Checkout Started"),
    # Bought in the store within the hour, and a day later.
    cart("k3", "B2", "2011-06-01T10:00:00"),
    cart("k4", "D4", "2011-06-01T10:00:00"),
    # Paid for on the site.
    cart("k5", "C3", "2011-06-01T10:00:00"),
    cart("k6", "C3", "2011-06-01T10:20:00", "Order Completed", order_id="9"),
    cart("k7", "E5", "2011-06-01T10:00:00"),
    cart("k8", "E5", "2011-06-01T10:01:00", "Product Removed"),
    # Left twice.
    cart("k9", "F6", "2011-06-01T10:00:00"),
    cart("k10", "F6", "2011-06-01T12:00:00"),
    cart("k11", "G7", "2011-06-09T23:30:00"),
]  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A history, then deliveries one by one, each with a run of its own."""
    scratch = tmp_path_factory.mktemp("web")
    shop = Shop(Home.create(scratch / "home", "Europe/London", "GBP"), scratch)
    shop.deliver(
        "shop",
        orders=[{"order_id": "1", "ordered_at": "2011-05-01T10:00:00", "customer_ref": "A1"}],
        order_lines=[{"order_id": "1", "product_id": "mug", "quantity": 1, "unit_price": 5}],
    )
    shop.deliver(
        "pos",
        sales=[
            {"sale_id": sale, "line_number": 1, "sold_at": f"{at}Z", "customer_ref": owner, "product_id": "mug",
             "quantity": 1, "unit_price": 5}
            for sale, owner, at in (
                ("s1", "A1", "2011-06-06T10:00:00"),
                ("s2", "B2", "2011-06-01T10:30:00"),
                ("s3", "D4", "2011-06-02T10:00:00"),
            )
        ],
    )  # fmt: skip
    shop.deliver("web", events=[*HISTORY, *PARTS[None]])
    shop.deliver(
        "email",
        events=[
            mail("o1", "opened", "m1", "2011-06-01T09:00:00", user_agent="GoogleImageProxy"),
            mail("e1", "clicked", "m1", "2011-06-01T09:00:05", url="https://example.com/1"),
        ],
    )
    shop.set_clock(AS_OF)
    shop.dbt("seed")
    shop.dbt("run", *SELECT)
    for received_at in [received_at for received_at in PARTS if received_at]:
        more = {
            "2011-06-03T08:00:00": [event("l1", "late", "2011-06-02T10:00:00"), event("l2", "late", "2011-06-02T10:50:00")],
            "2011-06-05T08:00:00": [event("l3", "late", "2011-06-02T10:25:00"), event("r1", "repeats", "2011-06-01T10:00:00")],
            "2011-06-07T08:00:00": [cart("k12", "F6", "2011-06-01T12:30:00")],
        }[received_at]  # fmt: skip
        shop.deliver("web", received_at=received_at, events=[*PARTS[received_at], *more])
        if received_at.startswith("2011-06-05"):
            shop.deliver(
                "email", received_at=received_at, events=[mail("d1", "delivered", "m1", "2011-06-01T09:00:00")]
            )
        shop.dbt("run", *SELECT)
    return shop


def at(shop: Shop, as_of: str, sql: str) -> list[tuple[Any, ...]]:
    """What a query says at another as_of: most facts are views, so that setting the clock is enough."""
    shop.set_clock(as_of)
    try:
        return shop.query(sql)
    finally:
        shop.set_clock(AS_OF)


def carts_at(shop: Shop, as_of: str, sql: str) -> list[tuple[Any, ...]]:
    """What a query on carts says at another as_of: what they are left is a table, made at each refresh."""
    stays = ("run", "--select", "int_cart_stays")
    shop.set_clock(as_of)
    try:
        shop.dbt(*stays)
        return shop.query(sql)
    finally:
        shop.set_clock(AS_OF)
        shop.dbt(*stays)


def visits(shop: Shop, as_of: str, prefix: str) -> set[frozenset[str]]:
    """The events of each visit, of events whose id begins so."""
    rows = at(shop, as_of, f"select session_key, event_id from marts.fct_web_events where event_id like '{prefix}%'")
    groups: dict[int, set[str]] = defaultdict(set)
    for session_key, event_id in rows:
        groups[session_key].add(event_id)
    return {frozenset(group) for group in groups.values()}


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        pytest.param("p", {"p1 p2", "p3"}, id="pause"),
        pytest.param("m", {"m1", "m2"}, id="local midnight"),
        pytest.param("c", {"c1", "c2 c3 c4", "c5"}, id="another campaign"),
        pytest.param("t", {"t1 t2", "t3"}, id="the tracker's session"),
        pytest.param("b", {"b1"}, id="bot"),
        pytest.param("r1", {"r1"}, id="repeats"),
    ],
)
def test_where_a_visit_ends(shop: Shop, prefix: str, expected: Iterable[str]) -> None:
    assert visits(shop, AS_OF, prefix) == {frozenset(group.split()) for group in expected}


def test_a_bots_visit_is_marked(shop: Shop) -> None:
    rows = shop.query(
        "select sessions.is_bot, count(*) from marts.fct_web_sessions as sessions"
        " where session_key in (select session_key from marts.fct_web_events where event_id in ('b1', 'p3')) group by 1"
    )
    assert sorted(rows) == [(False, 1), (True, 1)]


def test_an_event_is_told_once(shop: Shop) -> None:
    """Repeats inside a delivery and across deliveries are dropped."""
    assert shop.query("select count(*) from intermediate.int_web_events where event_id = 'r1'") == [(1,)]


def test_a_late_event_makes_another_version_of_its_visits(shop: Shop) -> None:
    two, one = {frozenset({"l1"}), frozenset({"l2"})}, {frozenset({"l1", "l2", "l3"})}
    assert visits(shop, "2011-06-03T08:00:00", "l") == set()
    assert visits(shop, "2011-06-04T00:00:00", "l") == two
    assert visits(shop, "2011-06-05T08:00:00", "l") == two
    assert visits(shop, "2011-06-05T08:00:01", "l") == one
    versions = shop.query(
        """
        select event_count, known_at, superseded_at
        from intermediate.int_session_versions
        where started_on = '2011-06-02'
            and session_key in (select session_key from marts.fct_web_events where event_id = 'l1')
        order by known_at
        """
    )
    third, fifth = datetime(2011, 6, 3, 8), datetime(2011, 6, 5, 8)
    assert versions == [(1, third, fifth), (3, fifth, None)]


def expected_visits(as_of: datetime) -> set[frozenset[str]]:
    """The visits of the random events by the definition, one event after the other."""
    known = [
        (row, datetime.fromisoformat(row["occurred_at"].removesuffix("Z")))
        for received_at, part in PARTS.items()
        for row in part
        if datetime.fromisoformat(received_at or row["occurred_at"].removesuffix("Z")) < as_of
    ]
    streams: dict[tuple[Any, ...], list[tuple[datetime, Event]]] = defaultdict(list)
    for row, occurred_at in known:
        day = occurred_at.replace(tzinfo=UTC).astimezone(LONDON).date()
        streams[row["anonymous_id"], row["session_id"], day].append((occurred_at, row))
    found = set()
    for stream in streams.values():
        # Of what happens at once, what a campaign brings comes first.
        moments = sorted({occurred_at for occurred_at, _ in stream})
        visit: set[str] = set()
        previous_at, campaign = None, None
        for moment in moments:
            rows = [row for occurred_at, row in stream if occurred_at == moment]
            brought = {row["campaign_name"] for row in rows} - {None}
            paused = previous_at is not None and moment - previous_at > timedelta(minutes=30)
            assert len(brought) <= 1, "two campaigns at once: choose another seed"
            if previous_at is not None and ((paused and rows[0]["session_id"] is None) or brought - {campaign}):
                found.add(frozenset(visit))
                visit = set()
            campaign = next(iter(brought), campaign)
            visit |= {row["event_id"] for row in rows}
            previous_at = moment
        found.add(frozenset(visit))
    return found


@pytest.mark.parametrize("as_of", ["2011-06-02T23:00:00", "2011-06-04T00:00:00", "2011-06-05T08:00:01", AS_OF])
def test_visits_are_what_a_slow_calculation_makes_of_them(shop: Shop, as_of: str) -> None:
    expected = expected_visits(datetime.fromisoformat(as_of))
    assert visits(shop, as_of, "random") == expected
    counts = at(
        shop,
        as_of,
        """
        select event_count
        from marts.fct_web_sessions
        where session_key in (select session_key from marts.fct_web_events where event_id like 'random%')
        """,
    )
    assert sorted(count for (count,) in counts) == sorted(map(len, expected))


def test_a_cart_ends_in_an_order_on_any_channel_or_is_left(shop: Shop) -> None:
    carts = shop.query(
        "select cart_id[-2:], step, fate, units, amount_base, order_key, abandoned_at from marts.fct_carts order by 1"
    )
    eleven = datetime(2011, 6, 1, 11)
    assert carts == [
        ("A1", "checkout", "abandoned", 2, 10, None, datetime(2011, 6, 1, 11, 10)),
        ("B2", "cart", "ordered", 2, 10, "pos|s2", None),
        ("C3", "cart", "ordered", 2, 10, "shop|9", None),
        ("D4", "cart", "ordered", 2, 10, "pos|s3", eleven),
        ("E5", "cart", "emptied", 0, 0, None, None),
        ("F6", "cart", "abandoned", 6, 30, None, datetime(2011, 6, 1, 13, 30)),
        ("G7", "cart", "open", 2, 10, None, None),
    ]


def test_a_cart_is_abandoned_each_time_that_it_is_left(shop: Shop) -> None:
    sql = """
        select abandonments.units, abandonments.is_open
        from marts.fct_cart_abandonments as abandonments
        inner join marts.fct_carts as carts on abandonments.cart_key = carts.cart_key
        where carts.cart_id = 'cart of F6'
        order by abandonments.abandoned_at
    """
    assert shop.query(sql) == [(2, False), (6, True)]
    # Before the last of it was known, and in the hour in which it was not abandoned yet.
    assert carts_at(shop, "2011-06-05T00:00:00", sql) == [(2, False), (4, True)]
    assert carts_at(shop, "2011-06-01T12:59:00", sql) == [(2, False)]


def test_a_click_is_a_machines_since_that_is_known(shop: Shop) -> None:
    sql = "select event_id, is_machine, machine_known_at from marts.fct_email_events order by 1"
    proxy = ("o1", True, datetime(2011, 6, 1, 9))
    assert at(shop, "2011-06-05T08:00:00", sql) == [("e1", False, None), proxy]
    assert shop.query(sql) == [("d1", False, None), ("e1", True, datetime(2011, 6, 5, 8)), proxy]


def stored(shop: Shop) -> Tables:
    return {name: shop.query(f"select * from intermediate.{name} order by all") for name in STORED}


def test_a_merge_rewrites_no_stored_fact(shop: Shop) -> None:
    """Neither contents nor the rows' places change, while the facts tell the new customer."""
    before = stored(shop)
    places = [shop.query(f"select min(rowid), max(rowid), count(*) from intermediate.{name}") for name in STORED]
    one, other = "shop|customer_ref|A1", "shop|customer_ref|F6"
    shop.resolve(1, AS_OF, {one: one, other: one})
    shop.dbt("run", *SELECT)
    assert stored(shop) == before
    assert [
        shop.query(f"select min(rowid), max(rowid), count(*) from intermediate.{name}") for name in STORED
    ] == places
    owners = shop.query(
        "select distinct customer_id from marts.fct_carts where cart_id in ('cart of A1', 'cart of F6')"
    )
    assert owners == [(customer_id(one),)]


def test_deliveries_one_by_one_make_what_all_at_once_does(shop: Shop) -> None:
    one_by_one = stored(shop)
    shop.dbt("run", "--full-refresh", *SELECT)
    all_at_once = stored(shop)
    for name in STORED:
        assert one_by_one[name] == all_at_once[name], name


def test_without_the_assumption_the_country_decides_for_who_does_not_say(tmp_path: Path) -> None:
    """Who ordered to where no consent is needed is tracked; a no counts there as well; nobody else is."""
    shop = Shop(Home.create(tmp_path / "home", "Europe/London", "GBP"), tmp_path)
    shop.deliver(
        "shop",
        orders=[
            {"order_id": "1", "ordered_at": "2011-05-01T10:00:00", "customer_ref": "u1", "country": "GB"},
            {"order_id": "2", "ordered_at": "2011-05-02T10:00:00", "customer_ref": "u1", "country": "US"},
        ],
        order_lines=[{"order_id": number, "product_id": "mug", "quantity": 1, "unit_price": 5} for number in "12"],
    )
    shop.deliver(
        "web",
        events=[
            event("says nothing", "d1", "2011-06-01T10:00:00"),
            event("says yes", "d2", "2011-06-01T10:00:00", tracking_consent="analytics"),
            event("in the US", "d3", "2011-06-01T10:00:00", user_id="u1"),
            event("a no in the US", "d4", "2011-06-01T10:00:00", user_id="u1", tracking_consent="functional"),
        ],
    )
    shop.set_clock(AS_OF)
    shop.dbt("seed")
    shop.dbt("run", "--select", "+int_web_events", "--vars", '{"web_tracking_consent_assumed": false}')
    tracked = shop.query("select event_id from intermediate.int_web_events where is_tracked order by 1")
    assert tracked == [("in the US",), ("says yes",)]
