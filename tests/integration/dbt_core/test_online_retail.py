"""The real retailer's orders against the slow reference calculation."""

from __future__ import annotations

from datetime import UTC
from decimal import Decimal

import duckdb
import pytest

from core.home import Home
from core.settings import PROJECT_ROOT
from tests.reference import online_retail as reference


@pytest.fixture(scope="module")
def books() -> reference.Books:
    return reference.read_books(PROJECT_ROOT / "samples" / "online_retail_ii")


def test_every_order_is_the_references(orders_only_home: Home, books: reference.Books) -> None:
    with duckdb.connect(str(orders_only_home.warehouse), read_only=True) as connection:
        rows = connection.execute(
            """
            select
                orders.order_id, orders.ordered_at, orders.gross_amount, orders.is_reversed,
                cast(refs.identifier as integer)
            from marts.fct_orders as orders
            left join marts.customer_identifiers as refs on orders.identifier_id = refs.identifier_id
            """
        ).fetchall()
    found = {
        order_id: (at.replace(tzinfo=UTC), amount, is_reversed, ref) for order_id, at, amount, is_reversed, ref in rows
    }
    assert len(rows) == len(found) == 39_516
    assert sum(ref is None for *_, ref in found.values()) == 2_922
    assert found == {
        order.order_id: (order.instant, order.amount, order.reversed_at is not None, order.customer)
        for order in books.orders.values()
    }


def test_the_nine_days_in_both_files_count_once(orders_only_home: Home) -> None:
    with duckdb.connect(str(orders_only_home.warehouse), read_only=True) as connection:
        lines = connection.execute("select count(*) from marts.fct_order_lines").fetchone()
        delivered = connection.execute("select count(*) from lake_shop.order_lines").fetchone()
        returned = connection.execute(
            "select sum(amount_base) from marts.fct_order_lines where line_type = 'return'"
        ).fetchone()
    assert lines == (1_044_848,)
    assert delivered == (1_067_371,)
    assert returned == (Decimal("-719656.34"),)
