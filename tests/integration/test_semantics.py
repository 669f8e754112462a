"""RFM and lifecycle in the warehouse equal the slow reference calculation, for every customer and to the penny."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

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


def by_customer(
    marts: duckdb.DuckDBPyConnection, table: str, columns: str, where: str = "true"
) -> dict[int, tuple[Any, ...]]:
    rows = marts.execute(
        f"select refs.customer_ref, {columns} from marts.{table} inner join ({CUSTOMER_REF}) as refs using (customer_id)"
        f" where {where}"
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


# Of the spine's 27 instants, the current one being the last.
@pytest.mark.parametrize("place", [3, 13, 25, 26], ids=["first year", "middle", "newest Monday", "current"])
def test_rfm_of_every_customer(marts: duckdb.DuckDBPyConnection, books: reference.Books, place: int) -> None:
    """At each as_of by the constants of its own: the only fit kept was made at the current one."""
    as_of, today = spine(marts)[place]
    expected = reference.rfm_at(books, as_of)
    recency_cuts = reference.cut_points(reference.recency_pool(books, as_of))
    frequency_cuts = reference.cut_points(rfm.frequency for rfm in expected.values())
    monetary_cuts = reference.cut_points(rfm.monetary for rfm in expected.values())
    found = by_customer(
        marts,
        "customer_rfm",
        "recency_days, frequency, orders, monetary, r_score, f_score, m_score, is_current, fit_version",
        f"as_of = '{as_of.replace(tzinfo=None)}'",
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
            today == TODAY,
            1 if today == TODAY else None,
        )
        for customer, rfm in expected.items()
    }


@pytest.mark.parametrize("place", [3, 13, 25, 26], ids=["first year", "middle", "newest Monday", "current"])
def test_stage_of_every_customer_as_known_then(
    marts: duckdb.DuckDBPyConnection, books: reference.Books, place: int
) -> None:
    as_of, today = spine(marts)[place]
    days_of = reference.order_days(books, as_of)
    gap = reference.repurchase_gap(days_of)
    found = by_customer(marts, "customer_history", "lifecycle_stage", f"as_of = '{as_of.replace(tzinfo=None)}'")
    expected = {customer: (reference.stage_on(days, today, gap),) for customer, days in days_of.items()}
    assert {customer: said for customer, said in found.items() if said != ("prospect",)} == expected


def spine(marts: duckdb.DuckDBPyConnection) -> list[tuple[datetime, date]]:
    rows = marts.execute("select as_of, as_of_on from marts.dim_as_ofs order by as_of").fetchall()
    assert len(rows) == 27
    assert rows[-1] == (AS_OF.replace(tzinfo=None), TODAY)
    return [(as_of.replace(tzinfo=UTC), as_of_on) for as_of, as_of_on in rows]


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


def test_every_stay_in_a_stage(marts: duckdb.DuckDBPyConnection, books: reference.Books) -> None:
    """For every hundredth customer: walking from day to day takes long."""
    days_of = reference.order_days(books, AS_OF)
    gap = reference.repurchase_gap(days_of)
    rows = marts.execute(
        f"select customer_ref, stage, entered_on, left_on from marts.customer_lifecycle_history"
        f" inner join ({CUSTOMER_REF}) using (customer_id)"
        " where stage <> 'prospect' and customer_ref % 100 = 0 order by customer_ref, entered_on"
    ).fetchall()
    found: dict[int, list[tuple[str, date, date | None]]] = {}
    for customer, stage, entered, left in rows:
        found.setdefault(customer, []).append((stage, entered, left))
    expected = {customer: stays(days, gap) for customer, days in days_of.items() if customer % 100 == 0}
    assert len(expected) > 30
    assert found == expected


def stays(days: list[date], gap: int) -> list[tuple[str, date, date | None]]:
    walked = [days[0] + timedelta(days=number) for number in range((TODAY - days[0]).days + 1)]
    staged = [(reference.stage_on([order for order in days if order <= day], day, gap), day) for day in walked]
    entered = [staged[0], *(later for earlier, later in pairwise(staged) if later[0] != earlier[0])]
    return [(stage, day, left) for (stage, day), (_, left) in zip(entered, [*entered[1:], ("", None)], strict=True)]
