"""A small home whose releases and deliveries are written straight, the sandbox on loopback, faults to order."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import duckdb
import uvicorn

from activation import old_apply as apply
from activation import old_plan as plan
from activation import releases
from activation.old_apply import ApplyReport, RetryPolicy
from activation.old_ledger import Ledger
from activation.old_mailchimp import Mailchimp
from activation.old_plan import Plan
from activation.releases import Release
from activation.sandbox.app import Sandbox
from activation.sandbox.parts.mailchimp import hash_of
from activation.sandbox.people import People
from activation.sandbox.wire import PROTOCOL
from core.contract import load_contract
from core.home import Home
from core.settings import Settings

AS_OF = datetime(2011, 12, 10, tzinfo=UTC)
IMPATIENT = RetryPolicy(attempts=4, first_wait=0.01, longest_wait=0.05)


@dataclass
class Person:
    """One sendable address of a release."""

    email: str
    customer_id: str = ""
    given_name: str = "Ada"
    surname: str = "Example"
    country_code: str | None = "GB"
    rfm_segment: str | None = "champions"
    order_count: int | None = 3
    segments: Sequence[str] = ("frequent_buyers",)
    may_profile: bool = True

    @property
    def key(self) -> str:
        return hash_of(self.email)


def people(count: int, **changes: Any) -> list[Person]:
    return [Person(f"person{number:05}@example.com", f"c{number:05}", **changes) for number in range(count)]


@dataclass
class World:
    """A home, what is delivered and released in it, and its destination."""

    home: Home
    settings: Settings
    sandbox: Sandbox
    destination: Mailchimp
    faults: Faults
    deliveries: int = 0
    others: list[tuple[str, str]] = field(default_factory=list)

    def release(
        self,
        persons: Sequence[Person],
        as_of: datetime = AS_OF,
        others: Sequence[tuple[str, str]] = (),
        stale: Mapping[str, datetime] | None = None,
        cadence: str = "daily",
        **options: Any,
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
                    moment = naive(stale.get(segment, as_of))
                    connection.execute(
                        "insert into activation.segment_status values (?, ?, ?, ?)",
                        [segment, segment not in stale, moment, cadence],
                    )
            return releases.freeze(self.settings, self.home, connection, as_of=as_of, **options)

    def deliver(
        self, source: str, table: str, rows: Sequence[Mapping[str, Any]], received_at: datetime = AS_OF
    ) -> None:
        """Put an accepted file into the lake, and its delivery into the manifest."""
        self.deliveries += 1
        deliver(self.home, self.deliveries, source, table, rows, received_at)

    def refuse(self, email: str, at: datetime = AS_OF, **said: Any) -> None:
        row = {
            "event_id": f"e{self.deliveries}",
            "event_type": "unsubscribed",
            "email": email,
            "occurred_at": naive(at),
        }
        self.deliver("email", "events", [{**row, **said}], received_at=at)

    def plan(self, **options: Any) -> Plan:
        return plan.make(self.settings, self.home, self.destination, **options)

    def apply(self, made: Plan | None = None, **options: Any) -> ApplyReport:
        options = {"destination": self.destination, "retry": IMPATIENT, **options}
        return apply.apply(self.settings, self.home, made or self.plan(), **options)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.home)

    def members(self) -> dict[str, dict[str, Any]]:
        """What is at the destination, by address."""
        words = {"bounced": "cleaned"}
        return {
            str(person.email): {
                "status": words.get(person.state, person.state),
                "merge_fields": person.fields["MERGE"],
                "last_changed": person.changed_at,
                "id": person.key,
            }
            for person in self.people.everyone()
            if person.state != "archived"
        }

    def tags(self) -> dict[str, set[str]]:
        """Addresses by tag at the destination."""
        return {
            name: {str(person.email) for person in self.people.page(10**6, group=group.id)}
            for name, group in self.people.groups().items()
        }

    @property
    def people(self) -> People:
        return self.sandbox.parts["mailchimp"].people

    @property
    def secrets(self) -> Mapping[str, str]:
        return self.sandbox.parts["mailchimp"].secrets


def deliver(
    home: Home, number: int, source: str, table: str, rows: Sequence[Mapping[str, Any]], received_at: datetime
) -> None:
    """Put an accepted file into the lake as the number-th delivery, and that into the manifest."""
    delivery = f"d{number:03}"
    columns = load_contract().table(source, table).columns
    folder = home.accepted(source, table)
    folder.mkdir(parents=True, exist_ok=True)
    selected = ", ".join(
        f"cast(json_extract_string(said, '$.{column.name}') as {column.data_type}) as {column.name}"
        for column in columns
    )
    with duckdb.connect() as connection:
        connection.execute("create table said (said json, row_number bigint)")
        connection.executemany(
            "insert into said values (?, ?)",
            [(json.dumps(row, default=str), number) for number, row in enumerate(rows, 1)],
        )
        connection.execute(
            f"copy (select {selected}, '{delivery}' as delivery_id, row_number from said)"
            f" to '{folder / delivery}.parquet' (format parquet)"
        )
        manifest = home.deliveries
        before = f"select * from read_parquet('{manifest}') union all " if manifest.exists() else ""
        received = received_at.replace(tzinfo=None)
        table_sql = (
            f"{before} select '{delivery}' as delivery_id, {number}::bigint as sequence,"
            f" false as historical, timestamp '{received}' as received_at"
        )
        connection.execute(f"create table manifest as {table_sql}")
        connection.execute(f"copy manifest to '{manifest}' (format parquet)")


def naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def fill_warehouse(
    connection: duckdb.DuckDBPyConnection, persons: Sequence[Person], others: Sequence[tuple[str, str]] = ()
) -> None:
    """The tables that a release is frozen from."""
    import pyarrow as pa

    names = ("email", "customer_id", "given_name", "surname", "country_code", "rfm_segment")
    columns = {name: pa.array([getattr(person, name) for person in persons], pa.string()) for name in names}
    columns["order_count"] = pa.array([person.order_count for person in persons], pa.int64())
    columns["segments"] = pa.array([list(person.segments) for person in persons], pa.list_(pa.string()))
    columns["may_profile"] = pa.array([person.may_profile for person in persons], pa.bool_())
    given = pa.table(columns)  # noqa: F841  # read by DuckDB under its name
    addresses = pa.table({  # noqa: F841  # read by DuckDB under its name
        "email": pa.array([*(person.email for person in persons), *(email for email, _ in others)], pa.string()),
        "customer_id": pa.array([*(p.customer_id or None for p in persons), *(c for _, c in others)], pa.string()),
        "is_sendable": pa.array([*(True for _ in persons), *(False for _ in others)], pa.bool_()),
        "may_profile": pa.array([*(person.may_profile for person in persons), *(False for _ in others)], pa.bool_()),
    })  # fmt: skip
    connection.execute("create schema activation")
    connection.execute("""
        create table activation.sync_profiles as
        select * exclude (may_profile) replace (
            if(may_profile, rfm_segment, null) as rfm_segment,
            if(may_profile, order_count, null) as order_count,
            if(may_profile, segments, []) as segments
        )
        from given
    """)
    connection.execute(
        "create table activation.sendable_audience as"
        " select distinct email, is_sendable, may_profile, false as needs_double_opt_in from addresses"
    )
    connection.execute("create schema marts")
    connection.execute(
        "create table marts.contact_point_holders as"
        " select 'email' as contact_point_type, email as contact_point, customer_id"
        " from addresses where customer_id is not null"
    )
    connection.execute("create table marts.contact_point_records (contact_point varchar, is_blocked boolean)")
    connection.execute(
        "create table marts.refusal_bindings as"
        " select cast('0x' || substr(md5('any|email|' || contact_point), 1, 15) as bigint) as identifier_id,"
        " customer_id, cast(null as timestamp) as ended_at from marts.contact_point_holders"
    )
    connection.execute(
        "create table marts.suppressed_addresses (email varchar, purpose varchar, suppression_type varchar)"
    )
    connection.execute(
        "create table activation.segment_memberships as select customer_id, unnest(segments) as segment from given"
    )
    connection.execute(
        "create table marts.customer_360 as select distinct on (customer_id) customer_id, 'active' as lifecycle_stage,"
        " rfm_segment, 'high' as value_tier, 'engaged' as engagement_state from given"
    )
    connection.execute(
        "create table activation.audience_funnel as"
        " select 1 as step_number, 'all addresses' as step, count(*) as addresses from activation.sendable_audience"
        " union all select 2, 'sendable', count(*) from activation.sync_profiles"
    )


Scope = MutableMapping[str, Any]
Fault = Callable[[Scope, Callable[..., Awaitable[Any]], Callable[..., Awaitable[None]]], Awaitable[bool]]


class Faults:
    """ASGI wrapper that lets a test order what the next matching calls meet, and counts the calls that came."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._orders: list[tuple[Callable[[str, str], bool], int, Fault]] = []
        self.seen: Counter[tuple[str, str]] = Counter()
        self.after: Callable[[str, str], None] | None = None

    def order(self, fault: Fault, *, times: int = 1, method: str = "POST", path_ends: str = "") -> None:
        def matches(said: str, path: str) -> bool:
            return said == method and path.endswith(path_ends)

        with self._lock:
            self._orders.append((matches, times, fault))

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            method, path = scope["method"], scope["path"]
            with self._lock:
                self.seen[method, path] += 1
            fault = self._next(method, path)
            scope["app_below"] = self._app
            if fault is not None and await fault(scope, receive, send):
                return
            await self._app(scope, receive, send)
            if self.after is not None:
                self.after(method, path)
            return
        await self._app(scope, receive, send)

    def _next(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for index, (matches, times, fault) in enumerate(self._orders):
                if matches(method, path):
                    self._orders[index] = (matches, times - 1, fault)
                    if times == 1:
                        del self._orders[index]
                    return fault
        return None


def answers(status: int, body: bytes = b"", headers: Sequence[tuple[bytes, bytes]] = ()) -> Fault:
    """The call is answered so, and does not reach the sandbox."""

    async def fault(scope: Scope, receive: Any, send: Any) -> bool:
        while (await receive()).get("more_body"):
            pass
        length = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": [*length, *headers]})
        await send({"type": "http.response.body", "body": body})
        return True

    return fault


async def cut_after_work(scope: Scope, receive: Any, send: Any) -> bool:
    """The sandbox does the work, but its answer is cut off in the middle."""

    async def swallow(_: Any) -> None:
        return None

    await scope["app_below"](scope, receive, swallow)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
    await send({"type": "http.response.body", "body": b'{"new_mem', "more_body": True})
    raise ConnectionAbortedError


def kill_after_work(world: World, process_id: int) -> Fault:
    """The sandbox does the work, and the process that asked for it is killed before the answer."""

    async def fault(scope: Scope, receive: Any, send: Any) -> bool:
        async def swallow(_: Any) -> None:
            return None

        await scope["app_below"](scope, receive, swallow)
        os.kill(process_id, signal.SIGKILL)
        return True

    return fault


class serving:  # reads as a function
    """A real server on a free port of loopback, for the length of a block. Gives its address."""

    def __init__(self, app: Any) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._server = uvicorn.Server(
            uvicorn.Config(
                app, http=PROTOCOL, log_level="critical", access_log=False, date_header=False, lifespan="off"
            )
        )
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._listener.close()
