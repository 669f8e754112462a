"""Publishing from a real warehouse file: what is copied, what is left out, and what a reader sees meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from core.errors import RefreshError
from core.home import Home
from core.settings import Settings
from orchestration import publishing

AS_OF = datetime(2024, 3, 1, tzinfo=UTC)
FINISHED = datetime(2024, 3, 1, 5, tzinfo=UTC)
MANIFEST: dict[str, Any] = {
    "nodes": {
        "model.mailwright.dim_customers": {
            "resource_type": "model",
            "name": "dim_customers",
            "columns": {"customer_id": {}, "email": {"config": {"meta": {"pii": True}}}},
        },
        "model.mailwright.seg_loyal": {"resource_type": "model", "name": "seg_loyal", "description": "Loyal ones."},
        "model.mailwright.seg_empty": {"resource_type": "model", "name": "seg_empty", "description": "It's nobody."},
    }
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home.create(tmp_path / "home", "Europe/London", "GBP")
    with duckdb.connect(str(home.warehouse)) as warehouse:
        warehouse.execute("""
            create schema marts;
            create schema activation;
            create table marts.dim_customers as
            select 'c' || range as customer_id, 'c' || range || '@example.com' as email from range(10);
            create table marts.fct_orders as
            select
                'o' || range as order_key, 'shop' as source, 'web' as channel, 'GB' as country_code,
                date '2024-02-01' + cast(range // 4 as integer) as ordered_on, 'c' || (range % 3) as customer_id,
                false as is_reversed, cast(2 as decimal(18, 4)) as units, cast(range as decimal(18, 4)) as amount_base
            from range(8);
            create table marts.fct_order_lines as select range as order_line_key from range(1000);
            create table activation.segment_memberships as
            select 'c' || range as customer_id, 'loyal' as segment from range(3);
            create table activation.audience_funnel as select 1 as step_number, 'all' as step, 10 as addresses;
            create table activation.sync_profiles as select 'c1@example.com' as email;
        """)
    return home


def publish(home: Home, **said: Any) -> publishing.Publication:
    settings = Settings(home=home.root, **said)
    return publishing.publish(settings, home, MANIFEST, as_of=AS_OF, finished_at=FINISHED, facts={"orders": "8"})


def read(home: Home, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(home.published / "marts.duckdb"), read_only=True) as marts:
        return marts.execute(query).fetchall()


def test_marts_and_audiences_are_copied_without_personal_columns(home: Home) -> None:
    publication = publish(home)
    assert {table.name: table.left_out for table in publication.tables} == {
        "audience_funnel": (),
        "daily_orders": (),
        "dim_customers": ("email",),
        "fct_orders": (),
        "segment_memberships": (),
        "segments": (),
    }
    assert read(home, "select column_name from (describe dim_customers)") == [("customer_id",)]
    files = {file.stem for file in (home.published / "marts").glob("*.parquet")}
    assert files == {table.name for table in publication.tables}
    parquet = home.published / "marts" / "dim_customers.parquet"
    assert duckdb.execute(f"select column_name from (describe from '{parquet}')").fetchall() == [("customer_id",)]


def test_a_personal_column_is_published_when_it_is_named(home: Home) -> None:
    publish(home, publish_pii=frozenset({"dim_customers.email"}))
    assert read(home, "select count(email) from dim_customers") == [(10,)]


def test_naming_a_column_that_does_not_exist_is_an_error(home: Home) -> None:
    publish(home)
    with pytest.raises(RefreshError, match=r"dim_customers\.mail"):
        publish(home, publish_pii=frozenset({"dim_customers.mail"}))
    assert read(home, "select count(*) from dim_customers") == [(10,)], "what was published before stays"
    assert not list(home.published.rglob(".*.tmp*"))


def test_the_query_of_the_readme_works_on_the_published_file(home: Home) -> None:
    publish(home)
    assert read(home, "select count(*) from marts.dim_customers") == [(10,)]


def test_big_tables_come_as_daily_aggregates(home: Home) -> None:
    publish(home)
    assert read(home, "select ordered_on, orders, customers, amount_base from daily_orders order by ordered_on") == [
        (datetime(2024, 2, 1).date(), 4, 3, 6),
        (datetime(2024, 2, 2).date(), 4, 3, 22),
    ]


def test_segments_without_members_count_zero(home: Home) -> None:
    publish(home)
    assert publishing.segment_sizes(home) == [("loyal", 3, "Loyal ones."), ("empty", 0, "It's nobody.")]


def test_what_was_published_can_be_read_back(home: Home) -> None:
    publication = publish(home)
    found = publishing.read_publication(home)
    assert found is not None
    assert (found.as_of, found.finished_at, found.facts) == (AS_OF, FINISHED, {"orders": "8"})
    assert found.content == publication.content


def test_equal_content_is_seen_as_equal_and_doubled_rows_are_not(home: Home) -> None:
    before = publish(home)
    assert publishing.changes(None, before) == sorted(before.content)
    with duckdb.connect(str(home.warehouse)) as warehouse:
        warehouse.execute("create or replace table marts.dim_customers as from marts.dim_customers order by email desc")
    after = publish(home)
    assert publishing.changes(before, after) == []
    with duckdb.connect(str(home.warehouse)) as warehouse:
        warehouse.execute("insert into marts.dim_customers from marts.dim_customers")
    assert publishing.changes(after, publish(home)) == ["dim_customers"]


def test_an_open_reader_keeps_what_it_had(home: Home) -> None:
    publish(home)
    with duckdb.connect(str(home.published / "marts.duckdb"), read_only=True) as old:
        with duckdb.connect(str(home.warehouse)) as warehouse:
            warehouse.execute("delete from marts.dim_customers")
        publish(home)
        assert old.execute("select count(*) from dim_customers").fetchone() == (10,)


def test_a_table_that_is_gone_is_unpublished_and_left_overs_are_swept(home: Home) -> None:
    publish(home)
    left_over = home.published / "marts" / ".dim_customers.parquet.1.tmp"
    left_over.touch()
    with duckdb.connect(str(home.warehouse)) as warehouse:
        warehouse.execute("drop table activation.audience_funnel")
    publish(home)
    assert not (home.published / "marts" / "audience_funnel.parquet").exists()
    assert not left_over.exists()


def test_a_warehouse_without_marts_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    home = Home.create(tmp_path / "empty", "Europe/London", "GBP")
    with pytest.raises(RefreshError, match="no marts"):
        publish(home)
    assert publishing.read_publication(home) is None
