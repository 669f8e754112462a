"""Why memberships moved since the last release, as the next release will keep it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import duckdb
import pytest

from segments.movement import attribute, newest_release
from segments.versions import definitions
from tests.integration.segments.review.conftest import Shop, ident

RELEASED = datetime(2011, 12, 3)
BIG = "select customer_id from ref.customer_360 where value > 50"
FLAGS = ("has_identity_change", "has_late_data", "has_consent_change", "has_new_activity")


@pytest.fixture
def connection(shop: Shop) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(shop.home.warehouse)) as made:
        made.execute(
            "create table activation.customer_changes (customer_id varchar,"
            + ", ".join(f" {flag} boolean" for flag in FLAGS)
            + ")"
        )
        yield made


def causes(shop: Shop, connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str, str], str]:
    """(customer, segment, change) -> cause."""
    moved = attribute(connection, shop.home, definitions(shop.checkout / "dbt_project", "Europe/London"))
    rows = connection.execute("from activation.membership_causes").fetchall()
    assert len(rows) == moved
    return {row[:3]: row[3] for row in rows}


def changed(connection: duckdb.DuckDBPyConnection, customer: str, *flags: str) -> None:
    connection.execute(
        "insert into activation.customer_changes values (?, ?, ?, ?, ?)",
        [customer, *(flag in flags for flag in FLAGS)],
    )


def test_before_the_first_release_nothing_moved(shop: Shop, connection: duckdb.DuckDBPyConnection) -> None:
    assert newest_release(shop.home) is None
    assert causes(shop, connection) == {}


def test_the_first_cause_that_holds_counts(shop: Shop, connection: duckdb.DuckDBPyConnection) -> None:
    shop.release(1, {"big": [ident(number) for number in range(51, 93)]}, as_of=RELEASED, sql={"big": BIG})
    changed(connection, ident(94), "has_new_activity")
    changed(connection, ident(95), "has_new_activity", "has_consent_change")
    changed(connection, ident(96), "has_new_activity", "has_consent_change", "has_late_data")
    changed(connection, ident(97), *FLAGS)
    found = causes(shop, connection)
    assert found == {
        (ident(93), "big", "entered"): "clock",
        (ident(94), "big", "entered"): "behaviour",
        (ident(95), "big", "entered"): "consent",
        (ident(96), "big", "entered"): "data",
        (ident(97), "big", "entered"): "identity",
        (ident(98), "big", "entered"): "clock",
        (ident(99), "big", "entered"): "clock",
    }


def test_what_the_old_definition_would_have_otherwise_moved_by_the_definition(
    shop: Shop, connection: duckdb.DuckDBPyConnection
) -> None:
    # Released above 52; since then 97 and 98 came by themselves, and 40 went.
    members = [ident(number) for number in (*range(53, 97), 99, 40)]
    shop.release(1, {"big": members}, as_of=RELEASED, sql={"big": BIG.replace("50", "52")})
    changed(connection, ident(51), "has_new_activity")
    changed(connection, ident(97), "has_new_activity")
    assert causes(shop, connection) == {
        (ident(51), "big", "entered"): "definition",
        (ident(52), "big", "entered"): "definition",
        (ident(97), "big", "entered"): "behaviour",
        (ident(98), "big", "entered"): "clock",
        (ident(40), "big", "left"): "clock",
    }


def test_who_leaves_although_the_old_definition_has_them_left_by_the_definition(
    shop: Shop, connection: duckdb.DuckDBPyConnection
) -> None:
    shop.release(
        1, {"big": [ident(number) for number in range(49, 100)]}, as_of=RELEASED, sql={"big": BIG.replace("50", "49")}
    )
    assert causes(shop, connection) == {
        (ident(49), "big", "left"): "clock",
        (ident(50), "big", "left"): "definition",
    }


def test_a_new_segment_and_one_that_is_gone(shop: Shop, connection: duckdb.DuckDBPyConnection) -> None:
    shop.release(1, {"gone": [ident(1)]}, as_of=RELEASED, sql={"gone": "select 1"})
    connection.execute(f"delete from activation.segment_memberships where customer_id <> '{ident(99)}'")
    assert causes(shop, connection) == {
        (ident(99), "big", "entered"): "definition",
        (ident(1), "gone", "left"): "definition",
    }


def test_an_old_definition_that_no_longer_runs_has_no_answer_today(
    shop: Shop, connection: duckdb.DuckDBPyConnection
) -> None:
    shop.release(
        1, {"big": []}, as_of=RELEASED, sql={"big": "select customer_id from ref.customer_360 where score > 1"}
    )
    connection.execute(f"delete from activation.segment_memberships where customer_id <> '{ident(99)}'")
    assert causes(shop, connection) == {(ident(99), "big", "entered"): "definition"}


def test_layout_is_no_other_definition(shop: Shop, connection: duckdb.DuckDBPyConnection) -> None:
    shop.release(
        1,
        {"big": [ident(number) for number in range(51, 99)]},
        as_of=RELEASED,
        sql={"big": "select customer_id\nfrom ref.customer_360 -- all\nwhere value > 50"},
    )
    assert causes(shop, connection) == {(ident(99), "big", "entered"): "clock"}


def test_a_customer_that_is_no_more_left_by_identity(shop: Shop, connection: duckdb.DuckDBPyConnection) -> None:
    members = ["dead00000000beef", *(ident(number) for number in range(51, 100))]
    shop.release(1, {"big": members}, as_of=RELEASED, sql={"big": BIG})
    assert causes(shop, connection) == {("dead00000000beef", "big", "left"): "identity"}


def test_without_changes_and_definitions_time_passed(shop: Shop, connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("drop table activation.customer_changes")
    shop.release(1, {"big": [ident(number) for number in range(51, 99)]}, as_of=RELEASED)
    assert causes(shop, connection) == {(ident(99), "big", "entered"): "clock"}


def test_the_newest_release_counts_and_the_table_is_written_anew(
    shop: Shop, connection: duckdb.DuckDBPyConnection
) -> None:
    shop.release(1, {"big": []}, as_of=RELEASED, sql={"big": BIG})
    assert len(causes(shop, connection)) == 49
    shop.release(2, {"big": [ident(number) for number in range(51, 100)]}, as_of=RELEASED, sql={"big": BIG})
    assert causes(shop, connection) == {}
