"""The features' SQL against a slow and plain calculation, on random histories with corrections and late knowledge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.home import Home
from tests.integration.dbt_core.shop import Shop
from tests.reference.features import (
    Anchor,
    Bought,
    Consent,
    Destination,
    History,
    Line,
    Mail,
    Order,
    Profile,
    Session,
    features,
    record_key,
)

TIMEZONE = "Europe/London"

# Instants at which much goes wrong: the days on which clocks change, the last of February, noon instead of midnight.
AS_OFS = (
    (datetime(2024, 2, 29), date(2024, 2, 29)),
    (datetime(2024, 3, 31), date(2024, 3, 31)),
    (datetime(2024, 3, 31, 23), date(2024, 4, 1)),
    (datetime(2023, 10, 28, 23), date(2023, 10, 29)),
    (datetime(2024, 5, 20, 11), date(2024, 5, 20)),
)
FIRST = date(2021, 11, 1)
DAYS = (date(2024, 6, 10) - FIRST).days

# Edges of windows, seen from the as_ofs, beside any day.
edges = sorted(
    {
        (as_of_on - FIRST).days - age
        for _, as_of_on in AS_OFS
        for age in (0, 1, 7, 14, 30, 31, 60, 90, 91, 180, 181, 365, 366, 730, 731)
        if (as_of_on - FIRST).days - age >= 0
    }
)
days = st.one_of(st.integers(0, DAYS), st.sampled_from(edges)).map(lambda number: FIRST + timedelta(number))
money = st.integers(0, 20_000).map(lambda cents: Decimal(cents).scaleb(-2))


@st.composite
def known(draw: st.DrawFn, day: date) -> datetime:
    """When something of a day became known: on it, later, or at the very instant of an as_of."""
    at = datetime(day.year, day.month, day.day) + timedelta(hours=draw(st.integers(0, 23)))
    late = draw(st.sampled_from([0, 0, 0, 1, 40]))
    instants = [as_of for as_of, _ in AS_OFS if as_of >= at]
    return draw(st.sampled_from([at + timedelta(late), at + timedelta(late), *instants[:2]]))


@st.composite
def later(draw: st.DrawFn, at: datetime) -> datetime | None:
    """When it ended, if ever."""
    instants = [as_of for as_of, _ in AS_OFS if as_of > at]
    ends = [None, None, None, at + timedelta(draw(st.integers(1, 60))), *instants[:1]]
    return draw(st.sampled_from(ends))


@st.composite
def orders(draw: st.DrawFn) -> Order:
    day = draw(days)
    at = draw(known(day))
    reversed_at = draw(later(at))
    gross = draw(money)
    return Order(
        day, gross, at, draw(later(at)), reversed_at, draw(later(reversed_at)) if reversed_at else None,
        draw(st.sampled_from(["web", "store", "marketplace"])), draw(st.sampled_from([None, "SPRING"])),
        gross + 1, draw(st.sampled_from([Decimal(0), Decimal(1)])),
    )  # fmt: skip


@st.composite
def lines(draw: st.DrawFn) -> Line:
    day = draw(days)
    at = draw(known(day))
    kind = draw(st.sampled_from(["sale", "sale", "return"]))
    amount = draw(money)
    return Line(
        day, kind, draw(st.sampled_from("abc")), draw(st.sampled_from([None, "Garden", "Kitchen", "Office"])),
        -amount if kind == "return" else amount, at, draw(later(at)),
    )  # fmt: skip


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    day = draw(days)
    at = draw(known(day))
    few = st.integers(0, 3)
    return Session(
        day, draw(few), draw(few), draw(few), draw(few), draw(st.booleans()), draw(st.sampled_from([False, False, True])),
        at, draw(later(at)),
    )  # fmt: skip


@st.composite
def mail(draw: st.DrawFn) -> Mail:
    day = draw(days)
    at = draw(known(day))
    kind = draw(st.sampled_from(["delivered", "delivered", "opened", "clicked", "bounced", "unsubscribed"]))
    machine = draw(later(at)) if kind in ("opened", "clicked") else None
    return Mail(draw(st.sampled_from([f"m{n}" for n in range(12)])), kind, day, at, machine)


RECORDS = ("crm|contact_id|k1", "crm|contact_id|k2")
NUMBERS = ("shop|customer_ref|1", "shop|customer_ref|2")
POINTS = ("any|email|ann@example.com", "any|phone|+442079460000")
BIRTHDAYS = (
    *(date(year, 5, 20) for year in (1906, 1959, 1969, 1979, 1989, 1999, 2006)),
    *(date(1904, 2, 28), date(1904, 2, 29), date(2000, 2, 29), date(1899, 12, 31), date(2025, 1, 1)),
)  # fmt: skip


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    said = {
        "gender": draw(st.sampled_from([None, "female", "male"])),
        "country_code": draw(st.sampled_from([None, "GB", "IE"])),
        "city": draw(st.sampled_from([None, "Cork"])),
        "language": draw(st.sampled_from([None, "en-GB", "fr"])),
        "account_type": draw(st.sampled_from([None, "private", "business"])),
        "loyalty_tier": draw(st.sampled_from([None, "gold", "none"])),
        "birthday": draw(st.sampled_from([None, *BIRTHDAYS])),
    }
    return Profile(draw(st.sampled_from(RECORDS)), said, draw(known(draw(days))))


@st.composite
def destinations(draw: st.DrawFn) -> Destination:
    ordered_at = datetime.combine(draw(days), datetime.min.time())
    at = draw(known(ordered_at.date()))
    country = draw(st.sampled_from(["GB", "IE", "FR"]))
    return Destination(draw(st.sampled_from(NUMBERS)), country, ordered_at, at, draw(later(at)))


@st.composite
def bought(draw: st.DrawFn) -> Bought:
    about = {
        "gender": st.sampled_from([None, "female", "other"]),
        "age_band": st.sampled_from([None, "25-34", "65+"]),
        "region_type": st.sampled_from([None, "urban", "rural"]),
    }
    said = draw(st.dictionaries(st.sampled_from(POINTS), st.fixed_dictionaries(about)))
    return Bought(said, draw(known(draw(days))))


@st.composite
def consents(draw: st.DrawFn) -> Consent:
    captured = datetime.combine(draw(days), datetime.min.time())
    instants = [as_of for as_of, _ in AS_OFS]
    at = draw(known(captured.date()))
    return Consent(
        draw(st.sampled_from(["granted", "granted", "confirmed", "withdrawn", "expired", "pending"])),
        draw(st.sampled_from([None, None, None, "unsubscribe", "hard_bounce"])),
        draw(st.sampled_from([captured, datetime(2023, 5, 1), datetime(2023, 5, 2)])),
        draw(st.sampled_from([None, None, *instants])),
        at,
        draw(st.sampled_from(["email", "email", "email", "sms"])),
        draw(st.sampled_from(["marketing", "marketing", "marketing", "profiling"])),
        draw(later(at)),
    )


firsts = st.sampled_from([datetime(2021, 1, 1), datetime(2021, 6, 30, 23, 30), *(as_of for as_of, _ in AS_OFS)])

histories = st.builds(
    History,
    known_at=firsts,
    email_known_at=st.none() | firsts,
    phone_known_at=st.none() | firsts,
    profiles=st.lists(profiles(), max_size=5),
    bought=st.lists(bought(), max_size=3),
    consents=st.lists(consents(), max_size=5),
    destinations=st.lists(destinations(), max_size=4),
    orders=st.lists(orders(), max_size=8),
    lines=st.lists(lines(), max_size=8),
    sessions=st.lists(sessions(), max_size=8),
    mail=st.lists(mail(), max_size=16),
)

# Random draws seldom meet the edge of a window: these histories stand on each of them, and on other limits.
LONG_AGO = datetime(2021, 1, 1)
EDGE_DAYS = [FIRST + timedelta(number) for number in edges]


def noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 8)


def order_of(day: date, **more: Any) -> Order:
    return Order(day, Decimal(3), noon(day), gross=Decimal(4), discount=Decimal(1), coupon="SPRING", **more)


def line_of(day: date, kind: str, amount: int, category: str = "Garden") -> Line:
    return Line(day, kind, f"of {day}", category, Decimal(amount), noon(day))


def mail_of(day: date, *kinds: str, machine_known_at: datetime | None = None) -> list[Mail]:
    return [Mail(f"of {day}", kind, day, noon(day), machine_known_at) for kind in kinds]


def said_of(birthday: date) -> Profile:
    said = dict.fromkeys(("gender", "country_code", "city", "language", "account_type", "loyalty_tier"))
    return Profile(RECORDS[0], {**said, "birthday": birthday}, LONG_AGO)


def word_of(state: str, at: datetime, expires_at: datetime | None = None) -> Consent:
    return Consent(state, None, at, expires_at, LONG_AGO)


TODAY = AS_OFS[-1][1]
MAY_1, MAY_2 = datetime(2023, 5, 1), datetime(2023, 5, 2)
ON_THE_EDGE = {
    "orders": {"orders": [order_of(day) for day in EDGE_DAYS]},
    "an order of the day": {"orders": [order_of(TODAY)]},
    "an order at the end of the RFM window": {"orders": [order_of(TODAY - timedelta(730))]},
    "an order past the RFM window": {
        "orders": [order_of(TODAY - timedelta(731))],
        "lines": [line_of(TODAY - timedelta(10), "return", -3)],
    },
    "a reversed order at the end of the RFM window": {
        "orders": [
            order_of(TODAY - timedelta(730), reversed_known_at=noon(TODAY - timedelta(729))),
            order_of(TODAY - timedelta(5)),
        ]
    },
    "an order at the end of the churn population": {"orders": [order_of(TODAY - timedelta(360))]},
    "a season that is just one": {
        "orders": [
            *(order_of(date(2022, 3, day)) for day in range(1, 8)),
            *(order_of(date(2023, month, 1)) for month in (8, 9, 10)),
        ]
    },
    "lines": {
        "lines": [line_of(day, kind, sign) for day in EDGE_DAYS for kind, sign in (("sale", 2), ("return", -1))],
        "orders": [order_of(TODAY - timedelta(1))],
    },
    "a return of the day": {"lines": [line_of(TODAY, "return", -1)]},
    "goods for nothing": {"lines": [line_of(TODAY - timedelta(9), "sale", 0)]},
    "visits": {"sessions": [Session(day, 1, 1, 1, 1, number % 2 == 0, False, noon(day))
                            for number, day in enumerate(EDGE_DAYS)]},
    "visits that left no cart": {"sessions": [Session(day, 0, 0, 0, 0, True, False, noon(day)) for day in EDGE_DAYS]},
    "carts that were left": {"sessions": [Session(day, 0, 1, 0, 0, False, False, noon(day)) for day in EDGE_DAYS]},
    "a cart that was left and a visit without one": {
        "sessions": [
            Session(TODAY - timedelta(9), 1, carts, 0, 0, False, False, noon(TODAY - timedelta(9))) for carts in (0, 1)
        ]
    },
    "lines that something else took the place of at as_of": {
        "lines": [
            replace(line_of(as_of_on - timedelta(9), kind, amount), superseded_at=as_of)
            for as_of, as_of_on in AS_OFS
            for kind, amount in (("sale", 2), ("return", -1))
        ]
    },
    "carts never": {"sessions": [Session(day, 1, 0, 0, 0, False, False, noon(day)) for day in EDGE_DAYS]},
    "mail": {
        "mail": [
            event
            for day in EDGE_DAYS
            for event in mail_of(day, "delivered", "opened", "clicked", "bounced", "unsubscribed")
        ]
    },
    **{
        f"a machine's click known at {as_of}": {
            "mail": mail_of(TODAY - timedelta(300), "clicked", machine_known_at=as_of)
        }
        for as_of, _ in AS_OFS
    },
    "as much mail as a rate needs": {
        "mail": [event for age in range(1, 9) for event in mail_of(TODAY - timedelta(age), "delivered", "clicked")]
    },
    **{
        f"{years} years old {when}": {"profiles": [said_of(birthday)]}
        for years in (0, 18, 25, 35, 45, 55, 65, 120)
        for when, birthday in (
            ("today", TODAY.replace(year=TODAY.year - years)),
            ("tomorrow", TODAY.replace(year=TODAY.year - years, day=TODAY.day + 1)),
        )
    },
    "121 years old today": {"profiles": [said_of(TODAY.replace(year=TODAY.year - 121))]},
    "granted and expired at once": {"consents": [word_of("granted", MAY_1), word_of("expired", MAY_1)]},
    "granted and withdrawn at once": {"consents": [word_of("granted", MAY_1), word_of("withdrawn", MAY_1)]},
    "granted again": {"consents": [word_of("withdrawn", MAY_1), word_of("granted", MAY_2)]},
    "granted until as_of": {"consents": [word_of("granted", MAY_1, expires_at=AS_OFS[-1][0])]},
    "granted without end": {"consents": [word_of("granted", MAY_1)]},
}  # fmt: skip

SCHEMA = """
create table intermediate.int_customer_firsts (
    customer_id varchar, known_at timestamp, email_known_at timestamp, phone_known_at timestamp);
create table staging.stg_lake__clock as select timestamp '2024-06-10' as as_of;
create table intermediate.int_identifiers (
    identifier_id bigint, identifier_type varchar, identifier varchar, customer_id varchar, first_known_at timestamp);
create table staging.stg_crm__contacts (
    contact_id varchar, gender varchar, country_code varchar, language varchar, account_type varchar,
    loyalty_tier varchar, birthday_given date, city varchar, known_at timestamp, sequence integer, row_number integer,
    delivery_id varchar, updated_at timestamp);
create table intermediate.int_contact_addresses (contact_id varchar, delivery_id varchar, postal_code_key varchar);
create table intermediate.int_order_document_versions (
    source varchar, order_id varchar, identifier_id bigint, country_code varchar, status varchar, ordered_at timestamp,
    known_at timestamp, superseded_at timestamp);
create table staging.stg_third_party__demographics_versions (
    delivery_id varchar, contact_point_type varchar, contact_point varchar, gender varchar, age_band varchar,
    region_type varchar, known_at timestamp, superseded_at timestamp);
create table marts.consent_versions (
    customer_id varchar, channel varchar, purpose varchar, state varchar, suppression varchar, captured_at timestamp,
    expires_at timestamp, known_at timestamp, superseded_at timestamp);
create table intermediate.int_order_versions (
    customer_id varchar, ordered_on date, amount_base decimal(18, 4), known_at timestamp, superseded_at timestamp,
    reversed_known_at timestamp, reversal_ended_at timestamp, channel varchar, coupon varchar,
    gross_amount decimal(18, 4), discount_amount decimal(18, 4));
create table intermediate.int_order_line_versions (
    customer_id varchar, occurred_on date, line_type varchar, product_id varchar, category varchar,
    amount_base decimal(18, 4), known_at timestamp, superseded_at timestamp);
create table intermediate.int_session_versions (
    customer_id varchar, started_on date, product_view_count bigint, cart_add_count bigint, search_count bigint,
    checkout_count bigint, has_order boolean, is_bot boolean, known_at timestamp, superseded_at timestamp);
create table intermediate.int_email_activity (
    customer_id varchar, message_id varchar, event_type varchar, occurred_on date, known_at timestamp,
    machine_known_at timestamp, is_machine boolean);
create table features.feat_anchors (
    as_of timestamp, as_of_on date, is_current boolean, history_days integer, gap_days integer);
"""


@dataclass(frozen=True)
class Models:
    """SQL as dbt compiles it for a shop in London."""

    profiles: str
    countries: str
    features: str


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    scratch = tmp_path_factory.mktemp("compiled")
    shop = Shop(Home.create(scratch / "home", TIMEZONE, "GBP"), scratch)
    shop.set_clock("2024-06-10T00:00:00")
    shop.dbt("run", "--select", "stg_lake__clock")
    shop.dbt("compile", "--select", "feat_customers", "int_profile_versions", "int_country_versions")

    def compiled(name: str) -> str:
        (file,) = Path(scratch / "target").rglob(f"compiled/**/{name}.sql")
        return file.read_text()

    return Models(compiled("int_profile_versions"), compiled("int_country_versions"), compiled("feat_customers"))


@pytest.fixture(scope="module")
def warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(":memory:")
    connection.execute("attach ':memory:' as warehouse; use warehouse; set timezone = 'UTC'; set threads = 1")
    for schema in ("staging", "intermediate", "marts", "features"):
        connection.execute(f"create schema {schema}")
    connection.execute(SCHEMA)
    connection.executemany(
        "insert into features.feat_anchors values (?, ?, false, 900, 60)", [list(as_of) for as_of in AS_OFS]
    )
    connection.executemany(
        "insert into intermediate.int_identifiers values (?, ?, ?, 'ann', '2021-01-01')",
        [(record_key(name), *name.split("|")[1:]) for name in (*RECORDS, *NUMBERS, *POINTS)],
    )
    yield connection
    connection.close()


def fill(connection: duckdb.DuckDBPyConnection, history: History) -> None:
    """One customer with this history, and another of whom nothing may be taken over."""
    tables: dict[str, list[tuple[Any, ...]]] = {
        "intermediate.int_customer_firsts": [("ann", history.known_at, history.email_known_at, history.phone_known_at)],
        "staging.stg_crm__contacts": [
            (one.record.split("|")[-1], one.said["gender"], one.said["country_code"], one.said["language"],
             one.said["account_type"], one.said["loyalty_tier"], one.said["birthday"], one.said["city"],
             one.known_at, place, 1, f"d{place}", None)
            for place, one in enumerate(history.profiles)
        ],
        "staging.stg_third_party__demographics_versions": [
            (f"d{place}", *point.split("|")[1:], said["gender"], said["age_band"], said["region_type"], one.known_at,
             min((later.known_at for later in history.bought[place + 1:]), default=None))
            for place, one in enumerate(history.bought)
            for point, said in one.said.items()
        ],
        "intermediate.int_order_document_versions": [
            ("shop", f"o{place}", record_key(one.record), one.country, None, one.ordered_at, one.known_at,
             one.superseded_at)
            for place, one in enumerate(history.destinations)
        ],
        "marts.consent_versions": [
            (word.channel, word.purpose, word.state, word.suppression, word.captured_at, word.expires_at, word.known_at,
             word.superseded_at)
            for word in history.consents
        ],
        "intermediate.int_order_versions": [
            (order.ordered_on, order.amount, order.known_at, order.superseded_at, order.reversed_known_at,
             order.reversal_ended_at, order.channel, order.coupon, order.gross, order.discount)
            for order in history.orders
        ],
        "intermediate.int_order_line_versions": [
            (line.occurred_on, line.line_type, line.product, line.category, line.amount, line.known_at, line.superseded_at)
            for line in history.lines
        ],
        "intermediate.int_session_versions": [
            (visit.started_on, visit.views, visit.cart_adds, visit.searches, visit.checkouts, visit.has_order,
             visit.is_bot, visit.known_at, visit.superseded_at)
            for visit in history.sessions
        ],
        "intermediate.int_email_activity": [
            (event.message, event.event_type, event.occurred_on, event.known_at, event.machine_known_at,
             event.machine_known_at is not None)
            for event in history.mail
        ],
    }  # fmt: skip
    for table, rows in tables.items():
        connection.execute(f"truncate {table}")
        complete = rows if table.startswith("staging") or table.endswith(("firsts", "document_versions")) else [
            (customer, *row) for row in rows for customer in ("ann", None)
        ]  # fmt: skip
        if complete:
            marks = ", ".join("?" * len(complete[0]))
            connection.executemany(f"insert into {table} values ({marks})", complete)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories)
def test_the_sql_agrees_with_the_reference(
    history: History, models: Models, warehouse: duckdb.DuckDBPyConnection
) -> None:
    agree(history, models, warehouse)


@pytest.mark.parametrize("said", ON_THE_EDGE.values(), ids=ON_THE_EDGE)
def test_the_sql_agrees_with_the_reference_on_every_edge(
    said: dict[str, Any], models: Models, warehouse: duckdb.DuckDBPyConnection
) -> None:
    agree(History(LONG_AGO, **said), models, warehouse)


def agree(history: History, models: Models, warehouse: duckdb.DuckDBPyConnection) -> None:
    """The SQL says of a history at every as_of what the reference does."""
    fill(warehouse, history)
    warehouse.execute(f"create or replace table intermediate.int_profile_versions as {models.profiles}")
    warehouse.execute(f"create or replace table intermediate.int_country_versions as {models.countries}")
    for as_of, as_of_on in AS_OFS:
        warehouse.execute(f"set variable slice_as_of = '{as_of}'; set variable slice_as_of_on = '{as_of_on}'")
        found = warehouse.execute(models.features)
        names = [column[0] for column in found.description]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        expected = features(history, Anchor(as_of, as_of_on, TIMEZONE, 900, 60))
        grain = {"customer_id": "ann", "as_of": as_of, "as_of_on": as_of_on}
        assert rows == ([] if expected is None else [{**grain, **expected}]), as_of
