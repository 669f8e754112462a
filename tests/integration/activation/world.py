"""What a home of a test is filled with, written straight: people of releases, and deliveries. And a server on loopback."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
import uvicorn

from activation.connector import key_of
from activation.sandbox.wire import PROTOCOL
from core.contract import load_contract
from core.home import Home

AS_OF = datetime(2011, 12, 10, tzinfo=UTC)


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
        return key_of("email", self.email, "")


def people(count: int, **changes: Any) -> list[Person]:
    return [Person(f"person{number:05}@example.com", f"c{number:05}", **changes) for number in range(count)]


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
