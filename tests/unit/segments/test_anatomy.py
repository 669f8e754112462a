"""A segment's SQL taken apart: what it uses, and each condition as one customer meets it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from core.errors import MailwrightError
from segments import anatomy

SHIPPED = Path(__file__).resolve().parents[3] / "dbt_project" / "models" / "segments"


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as made:
        made.execute("create schema ref")
        made.execute(
            """
            create table ref.customer_360 as
            from (values
                ('poor', 1, 10.0, 0, 'p@example.com'),
                ('middling', 3, 20.0, 5, 'm@example.com'),
                ('rich', 9, 90.0, 5, 'r@example.com'),
                ('unknown', null, null, null, null)
            ) as t (customer_id, frequency, value, orders, email)
            """
        )
        made.execute(
            """
            create table ref.fct_orders as
            from (values ('rich', 50), ('rich', 40), ('rich', 5), ('middling', 20)) as t (customer_id, amount)
            """
        )
        yield made


def said(connection: duckdb.DuckDBPyConnection, sql: str, customer: str, **options: frozenset[str]) -> list[tuple]:
    """(step, condition, values, holds) of each condition."""
    return [
        (one.step, one.sql, dict(one.values), one.holds)
        for one in anatomy.conditions(connection, sql, customer, **options)
    ]


def test_what_is_used() -> None:
    sql = (
        "with a as (select * from ref.customer_360 where Value > 3) select a.customer_id from a join ref.fct_orders as o"
        " on a.customer_id = o.customer_id"
    )
    assert anatomy.relations(sql) == {"customer_360", "fct_orders"}
    assert anatomy.columns(sql) == {"value", "customer_id"}


def test_sql_that_can_not_be_read_is_told_in_one_line() -> None:
    with pytest.raises(MailwrightError, match="can't be read") as caught:
        anatomy.relations("select from where (")
    assert "\n" not in str(caught.value)


def test_a_where_is_split_at_its_ands(connection: duckdb.DuckDBPyConnection) -> None:
    sql = (
        "select customer_id from ref.customer_360 where frequency >= 2 and (value > 50 and (orders < 9 or orders = 99))"
    )
    assert said(connection, sql, "middling") == [
        ("final select", "frequency >= 2", {"frequency": "3"}, True),
        ("final select", "value > 50", {"value": "20.0"}, False),
        ("final select", "orders < 9 OR orders = 99", {"orders": "5"}, True),
    ]


def test_null_does_not_hold_and_is_shown_as_none(connection: duckdb.DuckDBPyConnection) -> None:
    sql = "select customer_id from ref.customer_360 where frequency >= 2"
    assert said(connection, sql, "unknown") == [("final select", "frequency >= 2", {"frequency": None}, False)]


def test_ctes_are_followed_and_what_is_never_reached_says_so(connection: duckdb.DuckDBPyConnection) -> None:
    sql = """
        with buyers as (select customer_id, value from ref.customer_360 where orders > 0),
        ranked as (select customer_id, rank() over (order by value desc) as place from buyers),
        final as (select customer_id from ranked where place <= 1)
        select * from final
    """
    assert said(connection, sql, "middling") == [
        ("buyers", "orders > 0", {"orders": "5"}, True),
        ("final", "place <= 1", {"place": "2"}, False),
    ]
    assert said(connection, sql, "poor") == [
        ("buyers", "orders > 0", {"orders": "0"}, False),
        ("final", "place <= 1", {}, None),
    ]


def test_a_rank_is_over_everyone_and_not_over_the_one_who_is_asked_about(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    sql = (
        "select customer_id from ref.customer_360 where value > 0 qualify row_number() over (order by value desc) <= 1"
    )
    window = "row_number() OVER (ORDER BY value DESC)"
    assert said(connection, sql, "middling")[1] == ("final select", f"{window} <= 1", {window: "2"}, False)
    assert said(connection, sql, "rich")[1] == ("final select", f"{window} <= 1", {window: "1"}, True)


def test_aggregates_are_shown_with_their_value(connection: duckdb.DuckDBPyConnection) -> None:
    sql = """
        select customer_id from ref.fct_orders where amount > 10
        group by customer_id having sum(amount) > 50 and count(*) >= 3
    """
    found = anatomy.conditions(connection, sql, "rich")
    assert [(one.sql, one.rows_holding, one.rows) for one in found] == [
        ("amount > 10", 2, 3),
        ("sum(amount) > 50", 1, 1),
        ("count(*) >= 3", 0, 1),
    ]
    assert dict(found[1].values) == {"sum(amount)": "90"}
    assert [one.holds for one in found] == [True, True, False]


def test_an_inner_join_is_a_condition_and_an_outer_one_is_none(connection: duckdb.DuckDBPyConnection) -> None:
    inner = """
        select c.customer_id from ref.customer_360 as c
        inner join ref.fct_orders as o on c.customer_id = o.customer_id and o.amount > 30
        where c.frequency > 0
    """
    assert [(sql.split()[0], holds) for _, sql, _, holds in said(connection, inner, "middling")] == [
        ("INNER", False),
        ("c.frequency", True),
    ]
    assert [holds for *_, holds in said(connection, inner, "rich")] == [True, True]
    assert [sql for _, sql, *_ in said(connection, inner.replace("inner", "left"), "rich")] == ["c.frequency > 0"]


def test_sides_of_set_operations_are_told_apart(connection: duckdb.DuckDBPyConnection) -> None:
    sql = """
        (select customer_id from ref.customer_360 where value > 50
        union select customer_id from ref.customer_360 where frequency = 3)
        except select customer_id from ref.customer_360 where orders = 0
    """
    assert [(step, sql, holds) for step, sql, _, holds in said(connection, sql, "middling")] == [
        ("final select, except 1 of 2, union 1 of 2", "value > 50", False),
        ("final select, except 1 of 2, union 2 of 2", "frequency = 3", True),
        ("final select, less", "orders = 0", False),
    ]


def test_thresholds_of_a_cross_join_are_shown(connection: duckdb.DuckDBPyConnection) -> None:
    sql = """
        with cut as (select max(value) as top from ref.customer_360)
        select c.customer_id from ref.customer_360 as c cross join cut where c.value >= cut.top
    """
    assert said(connection, sql, "rich") == [
        ("final select", "c.value >= cut.top", {"c.value": "90.0", "cut.top": "90.0"}, True)
    ]


def test_personal_values_are_not_shown_by_whatever_name(connection: duckdb.DuckDBPyConnection) -> None:
    sql = """
        with a as (select customer_id, email, lower(email) as mail from ref.customer_360),
        b as (select customer_id, mail as address from a where email is not null)
        select customer_id from b where address like '%example.com' and customer_id <> 'x'
    """
    found = said(connection, sql, "rich", hidden=frozenset({"email"}))
    assert [values for _, _, values, _ in found] == [
        {"email": "(personal)"},
        {"address": "(personal)"},
        {"customer_id": "rich"},
    ]


@pytest.mark.parametrize("customer", ["poor", "middling", "rich", "unknown"])
@pytest.mark.parametrize(
    "sql",
    [
        "select customer_id from ref.customer_360 where frequency >= 2 and not value > 50",
        "with a as (select * from ref.customer_360 where orders > 0) select customer_id from a where value > 50",
        "select customer_id from ref.fct_orders group by customer_id having sum(amount) > 50",
        "select c.customer_id from ref.customer_360 as c inner join ref.fct_orders using (customer_id) where orders = 5",
        "select customer_id from ref.customer_360 qualify rank() over (order by value desc nulls last) <= 2",
    ],
    ids=["where", "cte", "having", "join", "qualify"],
)
def test_who_meets_every_condition_is_in_it_and_nobody_else(
    connection: duckdb.DuckDBPyConnection, sql: str, customer: str
) -> None:
    found = anatomy.conditions(connection, sql, customer)
    assert found
    assert all(one.holds for one in found) == anatomy.contains(connection, sql, customer)
