"""A small lake whose rows meet every raw rule, and marts that meet theirs. Tests break them one rule at a time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from core.contract import load_contract
from core.home import Home
from core.settings import Settings

DELIVERY = "d000001"


@pytest.fixture
def home(tmp_path):
    return Home.create(tmp_path / "home", "Europe/London", "GBP", datetime(2024, 3, 4, tzinfo=UTC))


@pytest.fixture
def settings(home):
    return Settings(home=home.root, memory_limit="1GB", threads=2)


def write_accepted(home: Home, name: str, select: str, *, change: str = "", delivery: str = DELIVERY) -> Path:
    """Write rows of a query as an accepted delivery of shop.`name`, changed by an SQL statement on `accepted`."""
    table = load_contract().table("shop", name)
    path = home.accepted("shop", name) / f"{delivery}.parquet"
    quoted = str(path).replace("'", "''")
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(f"create table given as {select}")
        had = {row[0] for row in connection.execute("describe given").fetchall()}
        columns = ", ".join(
            f"cast({column.name if column.name in had else 'null'} as {column.data_type}) as {column.name}"
            for column in table.columns
        )
        connection.execute(
            f"create table accepted as select {columns}, ? as delivery_id,"
            " row_number() over () as row_number from given",
            [delivery],
        )
        if change:
            connection.execute(change)
        connection.execute(f"copy accepted to '{quoted}' (format parquet)")
    return path


SHOP = {
    "orders": (
        "select 'O' || i as order_id, timestamp '2024-01-01' + i * interval 1 hour as ordered_at, 'C' || i % 7 as"
        " customer_ref, 'person' || i || '@example.com' as email, 'paid' as status, 'GBP' as currency, 0 as discount,"
        " 'United Kingdom' as country from range(1, 41) as numbers (i) order by i"
    ),
    "order_lines": (
        "select 'O' || i as order_id, l as line_number, 'P' || l as product_id, 2 as quantity, 5.5 as unit_price"
        " from range(1, 41) as orders (i), range(1, 4) as lines (l) order by i, l"
    ),
    "products": (
        "select 'P' || i as product_id, 'Mug ' || i as name, 5.5 as unit_price, 'https://shop.example.com/' || i as url"
        " from range(1, 4) as numbers (i) order by i"
    ),
}


@pytest.fixture
def lake(home) -> Callable[..., Home]:
    """Fill the lake; `changes` breaks a table by an SQL statement on `accepted`; None leaves a table undelivered."""

    def fill(**changes: str | None) -> Home:
        for name, select in SHOP.items():
            change = changes.get(name, "")
            if change is not None:
                write_accepted(home, name, select, change=change)
        return home

    return fill


MARTS = """
create schema staging; create schema marts;
create table staging.stg_lake__clock as select timestamp '2024-03-04' as as_of;
create table marts.dim_customers as
select
    lpad(lower(to_hex(i)), 16, '0') as customer_id, 'person' || i || '@example.com' as email, '+4420794600' || (10 + i) as phone,
    'GB' as country_code, 'private' as account_type, 1 as record_count, timestamp '2023-01-01' as first_known_at
from range(1, 21) as numbers (i);
create table marts.fct_orders as
select
    'k' || i as order_key, 'shop' as source, lpad(lower(to_hex(1 + i % 20)), 16, '0') as customer_id,
    timestamp '2024-02-20' as ordered_at, timestamp '2024-02-20' as known_at, 1 as line_count, 2.0 as units,
    10.0::decimal(18,4) as gross_amount, 10.0::decimal(18,4) as amount_base, false as is_reversed
from range(1, 41) as numbers (i);
create table marts.fct_order_lines as
select
    'l' || i as order_line_key, 'k' || i as order_key, 'P1' as product_id, 'sale' as line_type, 2.0 as quantity,
    5.0 as unit_price, 10.0 as amount_base, timestamp '2024-02-20' as occurred_at, timestamp '2024-02-20' as known_at
from range(1, 41) as numbers (i);
create table marts.customer_rfm as
select
    customer_id, 1 + row_number() over () % 5 as r_score, 1 as f_score, 3 as m_score, 'inactive' as rfm_segment,
    'middle' as value_tier, 30 as recency_days, 2 as frequency, 2 as orders, 20.0::decimal(18,4) as monetary, 10.0::decimal(18,4) as average_order_value
from marts.dim_customers;
create table marts.customer_lifecycle as
select
    customer_id, 'active' as stage, 'onboarding' as previous_stage, date '2024-02-20' as stage_changed_on,
    date '2024-03-04' as as_of_on, 2 as order_days, 32 as age_days
from marts.dim_customers;
"""


@pytest.fixture
def marts(home) -> Callable[..., Home]:
    """Write a warehouse with the guarded marts; `change` breaks them by SQL."""

    def fill(change: str = "") -> Home:
        with duckdb.connect(str(home.warehouse)) as connection:
            connection.execute(MARTS)
            if change:
                connection.execute(change)
        return home

    return fill
