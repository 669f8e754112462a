"""Random histories of people's records, merges, splits and consents, and what the consent models make of them.

The models run as dbt compiled them, in an in-memory DuckDB whose staging and identity tables hold one history: a case
takes a fraction of a second, where a build takes many.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from hashlib import md5
from pathlib import Path
from typing import Any

import duckdb
from hypothesis import strategies as st

START = datetime(2011, 1, 1)
BIRTHDAYS = (None, date(1980, 1, 1), date(2005, 1, 1))
MODELS = (
    "intermediate/identity/int_former_companions",
    "marts/core/contact_point_records",
    "marts/core/contact_point_policies",
    "marts/core/fct_consents",
    "marts/core/contact_point_holders",
    "marts/core/refusal_bindings",
    "marts/core/fct_suppressions",
    "marts/core/suppressed_addresses",
    "marts/core/consent_states",
    "marts/core/customer_permissions",
    "activation/address_holders",
    "activation/sendable_audience",
)
"""In the order in which they follow from each other."""


def key_of(source: str, kind: str, identifier: str) -> int:
    """As the macro identifier_id."""
    return int(md5(f"{source}|{kind}|{identifier}".encode()).hexdigest()[:15], 16)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


@dataclass(frozen=True)
class Contact:
    """A record of the CRM: its address, the one it had before, and what else decides."""

    contact_id: str
    email: str
    email_before: str | None = None
    country_code: str | None = None
    birthday: date | None = None

    @property
    def key(self) -> int:
        return key_of("crm", "contact_id", self.contact_id)

    @property
    def emails(self) -> set[str]:
        return {self.email} | ({self.email_before} if self.email_before else set())


@dataclass(frozen=True)
class Event:
    """Something said: to the CRM about a contact or an address, or (without state) to the email platform."""

    at: int
    delay: int
    contact_id: str | None
    email: str | None
    state: str = "withdrawn"
    suppression: str | None = None
    channel: str = "email"
    purpose: str = "marketing"
    basis: str | None = None
    is_by_platform: bool = False

    @property
    def captured_at(self) -> datetime:
        return day(self.at)

    @property
    def known_at(self) -> datetime:
        return day(self.at + self.delay)


@dataclass(frozen=True)
class History:
    """Contacts, who was one customer with whom in each run of identity resolution, and what was said.

    Attributes:
        orders: addresses that ordered as guests.
        runs: day of each run's as_of, and the label of each contact's customer; the last is today.
    """

    contacts: tuple[Contact, ...]
    orders: tuple[str, ...]
    runs: tuple[tuple[int, tuple[int, ...]], ...]
    events: tuple[Event, ...]

    @property
    def as_of(self) -> datetime:
        return day(self.runs[-1][0])

    def customers(self, run: int = -1) -> dict[str, str]:
        """Contact to customer."""
        return {
            contact.contact_id: f"c{label}" for contact, label in zip(self.contacts, self.runs[run][1], strict=True)
        }

    def then(self, labels: Iterable[int]) -> History:
        """The same, after one more run of the same as_of."""
        return replace(self, runs=(*self.runs, (self.runs[-1][0], tuple(labels))))


EMAILS = [f"{name}@example.com" for name in ("ann", "bo", "cy", "di")]


@st.composite
def histories(draw: st.DrawFn) -> History:
    addresses = st.sampled_from(EMAILS)
    count = draw(st.integers(2, 4))
    contacts = tuple(
        Contact(
            f"k{number}",
            draw(addresses),
            draw(st.none() | addresses),
            draw(st.sampled_from([None, "GB", "DE"])),
            draw(st.sampled_from(BIRTHDAYS)) if draw(st.integers(0, 3)) == 0 else None,
        )
        for number in range(count)
    )
    days = sorted(draw(st.lists(st.integers(2, 12), min_size=1, max_size=3)))
    labels = st.tuples(*[st.integers(0, count - 1)] * count)
    runs = tuple((number, draw(labels)) for number in days)
    named = st.sampled_from([contact.contact_id for contact in contacts])
    grants = st.builds(
        Event,
        at=st.integers(0, 13),
        delay=st.sampled_from([0, 0, 0, 2]),
        contact_id=st.none() | named,
        email=addresses,
        state=st.sampled_from(["granted", "confirmed", "confirmed", "pending"]),
        purpose=st.sampled_from(["marketing", "marketing", "marketing", "profiling"]),
        basis=st.sampled_from([None, "consent", "soft_opt_in"]),
    )
    refusals = st.builds(
        Event,
        at=st.integers(0, 13),
        delay=st.sampled_from([0, 0, 0, 2]),
        contact_id=st.none() | named,
        email=st.none() | addresses,
        state=st.sampled_from(["withdrawn", "withdrawn", "expired"]),
        suppression=st.sampled_from([None, "unsubscribe", "complaint", "objection", "erasure", "legal", "hard_bounce"]),
        channel=st.sampled_from(["email", "email", "sms", "post"]),
        purpose=st.sampled_from(["marketing", "marketing", "profiling"]),
    )
    platform = st.builds(
        Event,
        at=st.integers(0, 13),
        delay=st.sampled_from([0, 2]),
        contact_id=st.none(),
        email=addresses,
        suppression=st.sampled_from(["unsubscribe", "complaint", "hard_bounce"]),
        is_by_platform=st.just(True),
    )
    events = draw(st.lists(grants, max_size=8)) + draw(st.lists(st.one_of(refusals, platform), max_size=4))
    return History(
        contacts,
        tuple(draw(st.sets(addresses, max_size=2).map(sorted))),
        runs,
        tuple(event for event in events if event.contact_id or event.email),
    )


class Models:
    """The consent models, as compiled into a folder, for one history after the other."""

    def __init__(self, compiled: Path) -> None:
        self._sql = {name: (compiled / f"{name}.sql").read_text() for name in MODELS}

    def run(self, history: History, order: Sequence[int] | None = None) -> duckdb.DuckDBPyConnection:
        """Everything that they say of a history. `order` is the one in which its events are delivered."""
        connection = duckdb.connect(config={"threads": 1})
        connection.execute("attach ':memory:' as warehouse; use warehouse")
        for schema in ("staging", "intermediate", "marts", "seeds", "activation"):
            connection.execute(f"create schema {schema}")
        _stage(connection, history, order or range(len(history.events)))
        for name in MODELS:
            room, table = name.split("/")[0], name.rsplit("/", 1)[1]
            connection.execute(f"create table {room}.{table} as {self._sql[name]}")
        return connection

    def suppressed(self, history: History, purpose: str = "marketing") -> dict[str, str]:
        with self.run(history) as connection:
            return suppressed(connection, purpose)

    def sendable(self, history: History, order: Sequence[int] | None = None) -> set[str]:
        with self.run(history, order) as connection:
            return sendable(connection)


def suppressed(connection: duckdb.DuckDBPyConnection, purpose: str = "marketing") -> dict[str, str]:
    return dict(
        connection.execute(
            "select email, suppression_type from marts.suppressed_addresses where purpose = ?", [purpose]
        ).fetchall()
    )


def sendable(connection: duckdb.DuckDBPyConnection) -> set[str]:
    return {
        email
        for (email,) in connection.execute(
            "select email from activation.sendable_audience where is_sendable"
        ).fetchall()
    }


def _stage(connection: duckdb.DuckDBPyConnection, history: History, order: Iterable[int]) -> None:
    customers = history.customers()
    shown: dict[str, list[tuple[int, datetime, str | None]]] = {}
    for contact in history.contacts:
        for email in sorted(contact.emails):
            shown.setdefault(email, []).append((contact.key, START, customers[contact.contact_id]))
    identifiers: list[tuple[Any, ...]] = [
        (contact.key, "crm", "contact_id", contact.contact_id, customers[contact.contact_id], START)
        for contact in history.contacts
    ]
    said = {event.email for event in history.events if not event.is_by_platform and event.known_at < history.as_of}
    known = sorted(set(shown) | set(history.orders) | {email for email in said if email})
    records: list[tuple[Any, ...]] = [
        ("email", email, key_of("any", "email", email), record)
        for email, holders in shown.items()
        for record, _, _ in holders
    ]
    persons = [(contact.key, contact.country_code, contact.birthday) for contact in history.contacts]
    for email in known:
        key = key_of("any", "email", email)
        if email not in shown:
            records.append(("email", email, key, key))
            persons.append((key, None, None))
        owner = shown[email][0][2] if email in shown else f"guest {email}"
        identifiers.append((key, "any", "email", email, owner, START))
    told = [
        ("email", event.email, key_of("any", "email", event.email), key_of("crm", "contact_id", event.contact_id))
        for event in history.events
        if event.email and event.contact_id and event.channel == "email" and event.known_at < history.as_of
    ]
    _table(connection, "intermediate.int_record_contact_points",
           "contact_point_type varchar, contact_point varchar, contact_point_id bigint, record_id bigint",
           sorted({*records, *told}))  # fmt: skip
    for name in ("intermediate.int_identifiers", "marts.customer_identifiers"):
        _table(connection, name,
               "identifier_id bigint, source varchar, identifier_type varchar, identifier varchar, customer_id varchar,"
               " first_known_at timestamp", identifiers)  # fmt: skip
    _table(connection, "intermediate.int_person_records",
           "identifier_id bigint, country varchar, date_of_birth date", persons)  # fmt: skip
    _table(connection, "marts.dim_customers",
           "customer_id varchar, email varchar, phone varchar, first_known_at timestamp",
           [(customer, None, None, START) for customer in sorted({row[4] for row in identifiers})])  # fmt: skip
    _table(connection, "staging.stg_identity__assignment_spans",
           "identifier_id bigint, customer_id varchar, from_run bigint, to_run bigint, valid_from timestamp,"
           " valid_to timestamp", list(_spans(history)))  # fmt: skip
    _table(connection, "staging.stg_lake__clock", "as_of timestamp, as_of_on date",
           [(history.as_of, history.as_of.date())])  # fmt: skip
    _table(connection, "marts.dim_as_ofs", "as_of timestamp, is_current boolean", [(history.as_of, True)])
    _table(connection, "seeds.countries", "country_code varchar, calling_code varchar, trunk_prefix varchar", [])
    _table(connection, "seeds.consent_policies",
           "country_code varchar, needs_double_opt_in boolean, allows_soft_opt_in boolean, implied_consent_days integer,"
           " profiling_basis varchar, minimum_age integer",
           [("*", False, False, None, "consent", 18), ("GB", False, True, None, "consent", 18),
            ("DE", True, True, 5, "consent", 18)])  # fmt: skip
    _table(connection, "staging.stg_lake__phones", "given varchar, country_code varchar, phone varchar", [])
    _table(connection, "intermediate.int_blocked_contact_points", "contact_point_id bigint", [])
    _table(connection, "staging.stg_crm__contacts",
           "contact_id varchar, delivery_id varchar, sequence integer, row_number integer, customer_ref varchar,"
           " email varchar, phone varchar, country_code varchar, accepts_marketing boolean, is_current boolean,"
           " is_latest boolean, created_at timestamp, updated_at timestamp, known_at timestamp",
           list(_versions(history)))  # fmt: skip
    _table(connection, "intermediate.int_order_documents",
           "order_key varchar, customer_ref varchar, email varchar, phone varchar, status varchar, country_code varchar,"
           " accepts_marketing boolean, is_void boolean, is_cancellation boolean, ordered_at timestamp, known_at timestamp",
           [(f"shop|{email}", None, email, None, None, None, None, False, False, START, START)
            for email in history.orders])  # fmt: skip
    # Nobody ticks a box at checkout: what a person said is all in the events.
    _table(connection, "intermediate.int_checkout_consents",
           "order_key varchar, email varchar, ordered_at timestamp, known_at timestamp, superseded_at timestamp", [])  # fmt: skip
    events = [(number, history.events[number]) for number in order]
    _table(connection, "staging.stg_crm__consents",
           "consent_id varchar, contact_id varchar, delivery_id varchar, row_number bigint, contact_point varchar,"
           " email varchar, phone varchar, channel varchar, purpose varchar, state varchar, suppression varchar,"
           " lawful_basis varchar, notice_version varchar, captured_by varchar, evidence varchar, captured_at timestamp,"
           " expires_at timestamp, known_at timestamp",
           [(f"e{number}", said.contact_id, f"d{place}", 1, said.email, said.email, None, said.channel, said.purpose,
             said.state, said.suppression, said.basis, None, None, None, said.captured_at, None, said.known_at)
            for place, (number, said) in enumerate(events) if not said.is_by_platform])  # fmt: skip
    kinds = {"unsubscribe": "unsubscribed", "complaint": "complained", "hard_bounce": "bounced"}
    _table(connection, "staging.stg_email__events",
           "event_id varchar, sequence bigint, row_number bigint, event_type varchar, bounce_type varchar, email varchar,"
           " occurred_at timestamp, known_at timestamp",
           [(f"e{number}", place, 1, kinds[said.suppression or ""], "hard", said.email, said.captured_at, said.known_at)
            for place, (number, said) in enumerate(events) if said.is_by_platform])  # fmt: skip


def _versions(history: History) -> Iterable[tuple[Any, ...]]:
    for contact in history.contacts:
        versions = (
            [(contact.email_before, START), (contact.email, day(1))]
            if contact.email_before
            else [(contact.email, START)]
        )
        for number, (email, known_at) in enumerate(versions, 1):
            last = number == len(versions)
            yield (contact.contact_id, f"d{number}", number, 1, None, email, None, contact.country_code, None, last,
                   last, START, known_at, known_at)  # fmt: skip


def _spans(history: History) -> Iterable[tuple[Any, ...]]:
    for contact in history.contacts:
        changes: list[tuple[str, int]] = []
        for run in range(len(history.runs)):
            customer = history.customers(run)[contact.contact_id]
            if not changes or changes[-1][0] != customer:
                changes.append((customer, run))
        ends: list[int | None] = [*(run for _, run in changes[1:]), None]
        for (customer, run), end in zip(changes, ends, strict=True):
            until = None if end is None else day(history.runs[end][0])
            yield (contact.key, customer, run, end, day(history.runs[run][0]), until)


def _table(connection: duckdb.DuckDBPyConnection, name: str, columns: str, rows: Sequence[Sequence[Any]]) -> None:
    connection.execute(f"create table {name} ({columns})")
    if rows:
        marks = ", ".join("(" + ", ".join("?" * len(rows[0])) + ")" for _ in rows)
        connection.execute(f"insert into {name} values {marks}", [value for row in rows for value in row])


def refused_by_hand(history: History) -> Mapping[str, str]:
    """Addresses that must not be mailed, worked out without SQL: every run spreads what was refused before the next."""
    kinds: dict[str, str] = {}
    for event in history.events:
        kind = event.suppression or ("unsubscribe" if event.state == "withdrawn" else None)
        if kind is None or not _is_about_marketing(event):
            continue
        for email in _bound_by(history, event, kind):
            if kind in ("erasure", "legal", "hard_bounce") or not _is_lifted(history, email, event):
                gravity = ("erasure", "legal", "complaint", "objection", "unsubscribe", "hard_bounce")
                kinds[email] = min(kinds.get(email, kind), kind, key=gravity.index)
    return kinds


def _is_about_marketing(event: Event) -> bool:
    if event.suppression in ("erasure", "legal"):
        return True
    if event.suppression == "hard_bounce":
        return event.channel == "email"
    if event.suppression == "objection":
        return event.purpose == "marketing"
    return event.purpose == "marketing" and event.channel == "email"


def _bound_by(history: History, event: Event, kind: str) -> set[str]:
    contacts = {contact.contact_id: contact for contact in history.contacts}
    emails = {event.email} if event.email else set()
    if event.contact_id and not event.email and event.channel == "email":
        emails = set(contacts[event.contact_id].emails)
    if kind == "hard_bounce":
        return {email for email in emails if email}
    shows = {contact.contact_id: set(contact.emails) for contact in history.contacts}
    for other in history.events:
        if other.contact_id and other.email and other.channel == "email" and other.known_at < history.as_of:
            shows[other.contact_id].add(other.email)
    refusing = {name for name, shown in shows.items() if shown & emails} | (
        {event.contact_id} if event.contact_id else set()
    )
    for number in range(len(history.runs)):
        ended_at = day(history.runs[number + 1][0]) if number + 1 < len(history.runs) else None
        if ended_at is None or event.known_at < ended_at or ended_at >= history.as_of:
            customers = history.customers(number)
            bound = {customers[name] for name in refusing if name}
            refusing |= {name for name, customer in customers.items() if customer in bound}
    return {email for email in emails if email} | {email for name in refusing if name for email in shows[name]}


def _is_lifted(history: History, email: str, refusal: Event) -> bool:
    countries = {contact.country_code for contact in history.contacts if email in contact.emails}
    countries |= {
        contact.country_code
        for contact in history.contacts
        for event in history.events
        if event.contact_id == contact.contact_id
        and event.email == email
        and event.channel == "email"
        and event.known_at < history.as_of
    }
    return any(
        event.email == email
        and event.state in ("granted", "confirmed")
        and event.suppression is None
        and event.purpose == "marketing"
        and event.basis in (None, "consent")
        and (event.state == "confirmed" or "DE" not in countries)
        and refusal.at < event.at
        and event.known_at < history.as_of
        for event in history.events
    )
