"""A quite different retailer's CSV files go through `refresh` to segments, a plan and the sandbox."""

from __future__ import annotations

import duckdb
import pytest

from activation import plan, releases
from orchestration.publishing import read_publication, segment_sizes
from orchestration.showing import sandbox_contents
from tests.conftest import CommandLine
from tests.e2e.retailer import CUSTOMERS

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_every_customer_and_order_is_there(refreshed_retailer: CommandLine) -> None:
    with duckdb.connect(str(refreshed_retailer.home.published / "marts.duckdb"), read_only=True) as marts:
        assert marts.execute("select count(*) from dim_customers").fetchone() == (CUSTOMERS,)
        counted = marts.execute("select count(*), count(customer_id), any_value(currency) from fct_orders").fetchone()
    assert counted is not None
    orders, attributed, currency = counted
    assert orders == attributed > CUSTOMERS
    assert currency == "PLN"


def test_the_as_of_is_the_midnight_after_the_newest_order(refreshed_retailer: CommandLine) -> None:
    publication = read_publication(refreshed_retailer.home)
    assert publication is not None
    with duckdb.connect(str(refreshed_retailer.home.published / "marts.duckdb"), read_only=True) as marts:
        newest = marts.execute("select max(ordered_on) from fct_orders").fetchone()
        as_of = marts.execute("select max(as_of_on) from customer_rfm").fetchone()
    assert newest is not None
    assert as_of is not None
    assert (as_of[0] - newest[0]).days == 1


def test_segments_have_members(refreshed_retailer: CommandLine) -> None:
    sizes = {name: count for name, count, _ in segment_sizes(refreshed_retailer.home)}
    assert sizes["frequent_buyers"] > 0
    assert sizes["frequent_browsers"] == 0, "there are no web events"


def test_only_the_consented_are_planned_and_synced(refreshed_retailer: CommandLine) -> None:
    release = releases.latest(refreshed_retailer.home)
    assert release is not None
    assert release.counts["profiles"] == CUSTOMERS // 2
    assert "No destination was planned yet" in refreshed_retailer.run("status")
    refreshed_retailer.run("plan", "mailchimp")
    assert plan.read(refreshed_retailer.home, "mailchimp").creates == CUSTOMERS // 2
    assert "read done" in refreshed_retailer.run("status")
    refreshed_retailer.run("apply", "mailchimp")
    assert "apply done" in refreshed_retailer.run("status")
    assert sandbox_contents(refreshed_retailer.home)["mailchimp"].startswith(f"{CUSTOMERS // 2:,} contacts")
    refreshed_retailer.run("plan", "mailchimp")
    assert "nothing to do" in refreshed_retailer.run("apply", "mailchimp")


def test_personal_columns_are_not_published(refreshed_retailer: CommandLine) -> None:
    with duckdb.connect(str(refreshed_retailer.home.published / "marts.duckdb"), read_only=True) as marts:
        columns = {name for (name,) in marts.execute("select column_name from duckdb_columns()").fetchall()}
        texts = marts.execute(
            "select table_name, column_name from duckdb_columns() where data_type = 'VARCHAR' and not internal"
        ).fetchall()
        leaks = [
            f"{table}.{column}"
            for table, column in texts
            if marts.execute(f"select bool_or({column} like '%@example.com%') from {table}").fetchone() == (True,)
        ]
    assert not columns & {"email", "given_name", "surname", "phone", "birthday"}
    assert leaks == []
