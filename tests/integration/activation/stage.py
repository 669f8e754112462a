"""A home with releases and deliveries written straight, whose destinations are platforms in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import duckdb

from activation import apply, plan, releases
from activation.apply import ApplyReport
from activation.connector import key_of
from activation.http import RetryPolicy
from activation.ledger import Ledger, State
from activation.plan import Plan
from activation.releases import Release
from activation.sync import Sync
from core.home import Home
from core.settings import Settings
from tests.integration.activation.memory import Account, Memory, kind_of, opened, register
from tests.integration.activation.world import AS_OF, Person, deliver, fill_warehouse, naive

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
IMPATIENT = RetryPolicy(attempts=3, first_wait=0.001, longest_wait=0.002)
FIELDS = {"given_name": "NAME", "rfm_segment": "RFM", "order_count": "ORDERS"}
# Nothing is implausible here unless a test says so.
LENIENT: dict[str, Any] = {"added": 1.0, "removed": 1.0, "floor": 0, "rejects": 1.0, "max_age": "36500d"}
KINDS = {
    "tags by email": kind_of("email", "tags"),
    "attributes by email": kind_of("email", "attributes"),
    "attributes by customer": kind_of("customer_id", "attributes"),
}


@dataclass
class Stage:
    """A home and one destination of it.

    Attributes:
        now: the wall clock; tests move it.
    """

    home: Home
    settings: Settings
    kind: type[Memory] = KINDS["tags by email"]
    data: Account = field(default_factory=Account)
    now: datetime = NOW
    deliveries: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        register(self.kind)

    @property
    def sync(self) -> Sync:
        platform = self.kind.platform
        said: dict[str, Any] = {
            "name": "memory",
            "platform": platform.name,
            "key": platform.key,
            "fields": FIELDS,
            "breakers": LENIENT,
        }
        return Sync(**{**said, **self.options})

    @property
    def clock(self) -> Callable[[], datetime]:
        return lambda: self.now

    def connector(self) -> Memory:
        """As a new process has it."""
        return opened(self.kind, self.data)

    def ledger(self) -> Ledger:
        return Ledger(self.home, self.settings)

    def states(self) -> dict[str, State]:
        """By key, in hexadecimal digits."""
        with self.ledger() as ledger:
            rows = ledger.rows(self.connector().target).to_pylist()
        return {row["key"].hex(): State(row["state"]) for row in rows}

    def plan(self, **options: Any) -> Plan:
        return plan.make(
            self.settings, self.home, self.sync, connector=self.connector(), **{"now": self.now, **options}
        )

    def apply(self, made: Plan | None = None, **options: Any) -> ApplyReport:
        options = {"connector": self.connector(), "sync": self.sync, "retry": IMPATIENT, "now": self.clock, **options}
        return apply.apply(self.settings, self.home, made or self.plan(), **options)

    def key(self, person: Person) -> str:
        return person.key if self.kind.platform.key == "email" else person.customer_id

    def tags(self) -> dict[str, set[str | None]]:
        """Addresses at the destination by tag."""
        return {name: {self.data.people[key].email for key in keys} for name, keys in self.data.tags().items()}

    def fields(self, email: str) -> dict[str, str]:
        """Of a contact at the destination whose key is the address."""
        return self.data.people[key_of("email", email, "")].fields

    def release(
        self,
        persons: Sequence[Person],
        as_of: datetime = AS_OF,
        others: Sequence[tuple[str, str]] = (),
        stale: Mapping[str, datetime] | None = None,
        cadence: str = "daily",
    ) -> Release:
        """Freeze a release of these people; `others` are addresses (and customers) that are not sendable.

        Args:
            stale: segments whose members are kept from before, with the as_of that they are of.
        """
        with duckdb.connect() as connection:
            fill_warehouse(connection, persons, others)
            if stale is not None:
                connection.execute(
                    "create table activation.segment_status"
                    " (segment varchar, is_fresh boolean, as_of timestamp, cadence varchar)"
                )
                for segment in {name for person in persons for name in person.segments}:
                    connection.execute(
                        "insert into activation.segment_status values (?, ?, ?, ?)",
                        [segment, segment not in stale, naive(stale.get(segment, as_of)), cadence],
                    )
            return releases.freeze(self.settings, self.home, connection, as_of=as_of)

    def deliver(self, source: str, table: str, rows: Sequence[Mapping[str, Any]], at: datetime = AS_OF) -> None:
        """Have an accepted file in the lake, and its delivery in the manifest."""
        self.deliveries += 1
        deliver(self.home, self.deliveries, source, table, rows, at)

    def refuse(self, *emails: str, at: datetime = AS_OF, **said: Any) -> None:
        """They unsubscribe, as the mail platform tells."""
        rows = [
            {"event_id": f"e{self.deliveries}-{email}", "event_type": "unsubscribed", "email": email,
             "occurred_at": naive(at), **said}
            for email in emails
        ]  # fmt: skip
        self.deliver("email", "events", rows, at)

    def erase(self, email: str, at: datetime = AS_OF) -> None:
        """Somebody asks to be erased, as the CRM tells."""
        row = {
            "contact_point": email, "channel": "email", "purpose": "marketing", "state": "withdrawn",
            "suppression": "erasure", "captured_at": naive(at),
        }  # fmt: skip
        self.deliver("crm", "consents", [row], at)
