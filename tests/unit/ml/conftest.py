"""A home, and a DuckDB with the feature tables that dbt would build, filled from a seeded process."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import duckdb
import numpy as np
import pandas as pd
import pytest

from core.home import Home

AS_OF_ON = date(2024, 3, 4)


@pytest.fixture
def home(tmp_path):
    return Home.create(tmp_path / "home", "Europe/London", "GBP", datetime(2024, 3, 4, tzinfo=UTC))


@pytest.fixture(scope="session")
def history():
    """Order days of 900 customers over three years: each has a rhythm of their own, and drops out for good some day."""
    generator = np.random.default_rng(7)
    start = AS_OF_ON - timedelta(days=1_000)
    orders = []
    for number in range(900):
        # Of a slow buyer, 60 days of silence say nothing; of a quick one, everything.
        gap, first = float(generator.choice([12, 90])), generator.integers(0, 700)
        alive = generator.exponential(400)
        day = float(first)
        while day < min(1_000.0, first + alive):
            basket = float(np.round(generator.lognormal(3 + (number % 3), 0.4), 2))
            orders.append((f"{number * 7919 % 65536:04x}{number:012x}", start + timedelta(days=int(day)), basket))
            day += 1 + generator.exponential(gap)
    return pd.DataFrame(orders, columns=["customer_id", "ordered_on", "amount"])


@pytest.fixture
def build(history):
    """Build the tables from (a part of) the history, as of a date; returns an open connection."""
    opened = []

    def make(as_of_on: date = AS_OF_ON, orders: pd.DataFrame = history) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect()
        opened.append(connection)
        connection.execute("set timezone = 'UTC'")
        connection.register("given_orders", orders)
        connection.execute("create table orders as select * from given_orders")
        connection.execute("create schema marts; create schema features")
        connection.execute(
            """
            create table marts.dim_as_ofs as
            select cast(day as timestamp) as as_of, cast(day as date) as as_of_on, false as is_current
            from (select unnest(generate_series(date '1970-01-05', cast($1 as date) - 1, interval 28 day)) as day)
            qualify row_number() over (order by day desc) <= 26
            union all select cast($1 as timestamp), cast($1 as date), true
            """,
            [as_of_on],
        )
        connection.execute(
            "create table marts.customer_permissions as"
            " select distinct customer_id, true as may_be_profiled from orders"
        )
        connection.execute(
            """
            create table features.feat_customers as
            with known as (
                select customer_id, as_of, as_of_on, ordered_on, amount, date_diff('day', ordered_on, as_of_on) as age
                from marts.dim_as_ofs inner join orders on ordered_on < as_of_on
            ),
            summed as (
                select
                    customer_id, as_of, any_value(as_of_on) as as_of_on,
                    min(age) as age_days, max(age) as tenure_days,
                    count(distinct ordered_on) as order_days, count(*) as orders,
                    count(*) filter (age <= 30) as orders_30, count(*) filter (age <= 90) as orders_90,
                    count(*) filter (age <= 365) as orders_365,
                    coalesce(sum(amount) filter (age <= 30), 0) as spend_30,
                    coalesce(sum(amount) filter (age <= 90), 0) as spend_90,
                    coalesce(sum(amount) filter (age <= 365), 0) as spend_365, sum(amount) as spend_total
                from known group by all
            )
            select
                *, 0 as returns_365, age_days as recency_days, order_days as frequency, spend_total as monetary,
                spend_total / orders as average_order_value,
                case when order_days > 1 then (tenure_days - age_days) / (order_days - 1) end as mean_gap_days,
                orders_30 as sessions_30, orders_90 * 2 as sessions_90, 0 as product_views_90, 0 as carts_90,
                0 as delivered_180, 0 as clicks_90, age_days <= 240 as is_churn_population
            from summed
            """
        )
        connection.execute(
            """
            create table features.outcomes as
            select customer_id, as_of, 180 as horizon_days, exists (
                select 1 from orders
                where orders.customer_id = feat.customer_id
                    and date_diff('day', feat.as_of_on, orders.ordered_on) between 0 and 179
            ) as bought
            from features.feat_customers as feat
            where date_diff('day', as_of_on, (select as_of_on from marts.dim_as_ofs where is_current)) >= 180
            """
        )
        connection.execute(
            """
            create table features.feat_fit_candidates as
            select as_of as fit_as_of, 'recency_days' as metric, 'all' as account_type, k::integer as k,
                (k * 30)::decimal(18,4) as value
            from marts.dim_as_ofs, range(1, 5) as points (k) where is_current
            union all
            select as_of, 'repurchase_gap_days', 'all', 0, 30 from marts.dim_as_ofs where is_current
            """
        )
        return connection

    yield make
    for connection in opened:
        connection.close()
