from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

from core import lock
from core.home import Home
from expectations import data_docs, runner
from expectations.suites import catalogue
from tests.integration.expectations.conftest import DELIVERY, SHOP, write_accepted

SECRET = "zenobia.quill@example.com"


def failing(results: list[runner.CheckResult]) -> set[str]:
    return {f"{result.table.split('.')[1]}.{result.name}" for result in results if not result.passed}


def test_a_sound_lake_passes_every_raw_check(settings, lake):
    results = runner.run(settings, lake(), "raw")

    assert failing(results) == set()
    assert [(r.table, r.name, r.severity) for r in results] == [
        (guard.table, guard.expectation, guard.severity) for guard in catalogue() if guard.group == "raw"
    ]
    assert {result.table: result.checked for result in results} == {
        "lake_shop.orders": 40,
        "lake_shop.order_lines": 120,
        "lake_shop.products": 3,
    }


def test_raw_checks_do_not_open_the_warehouse(settings, lake):
    home = lake()
    runner.run(settings, home, "raw")

    assert not home.warehouse.exists()


RAW = {
    "no orders": ("orders", "delete from accepted", {"has_rows"}),
    "a type": ("orders", "alter table accepted alter column discount type double", {"columns_as_in_contract"}),
    "a row twice": ("orders", "update accepted set row_number = 1 where row_number = 2", {"row_named_once"}),
    "no id": ("orders", "update accepted set order_id = null where row_number = 3", {"order_id_given"}),
    "status": ("orders", "update accepted set status = 'lost at sea' where row_number = 3", {"status_known"}),
    "an order twice": (
        "orders",
        "insert into accepted select * replace (41 as row_number) from accepted where row_number = 3",
        {"order_once_per_delivery"},
    ),
    "dates": ("orders", "update accepted set ordered_at = '0201-01-01' where row_number < 9", {"ordered_at_plausible"}),
    "guests": ("orders", "update accepted set customer_ref = null where row_number < 30", {"customer_ref_given"}),
    "currency": ("orders", "update accepted set currency = 'pounds' where row_number = 3", {"currency_is_a_code"}),
    "email": ("orders", "update accepted set email = 'no at sign' where row_number = 3", {"email_has_a_form"}),
    "discount": ("orders", "update accepted set discount = -1 where row_number = 3", {"discount_plausible"}),
    "shipping": ("orders", "update accepted set shipping = -1 where row_number = 3", {"shipping_plausible"}),
    "line's order": ("order_lines", "update accepted set order_id = 'X' where row_number = 3", {"line_has_its_order"}),
    "line number": (
        "order_lines",
        "update accepted set line_number = 1 where row_number = 3",
        {"line_number_once_per_order"},
    ),
    "catalogue": (
        "order_lines",
        "update accepted set product_id = 'P99' where row_number = 3",
        {"product_is_in_the_catalogue"},
    ),
    "product": ("order_lines", "update accepted set product_id = null where row_number = 3", {"product_id_given"}),
    "quantity": ("order_lines", "update accepted set quantity = 1e6 where row_number = 3", {"quantity_plausible"}),
    "price": ("order_lines", "update accepted set unit_price = 1e6 where row_number = 3", {"unit_price_plausible"}),
    "zero": ("order_lines", "update accepted set quantity = 0 where row_number = 3", {"quantity_is_not_zero"}),
    "negative price": (
        "order_lines",
        "update accepted set unit_price = -1 where row_number = 3",
        {"negative_price_is_an_adjustment"},
    ),
    "signs": ("order_lines", "update accepted set quantity = -quantity", {"returns_are_the_exception"}),
    "no prices": (
        "order_lines",
        "update accepted set unit_price = 0 where row_number < 30",
        {"most_lines_have_a_price"},
    ),
    "no product": ("products", "update accepted set product_id = null where row_number = 3", {"product_id_given"}),
    "names": ("products", "update accepted set name = null", {"name_given"}),
    "negative": ("products", "update accepted set unit_price = -1", {"unit_price_plausible"}),
    "links": ("products", "update accepted set url = 'C:\\cup.html'", {"links_are_web_addresses"}),
    "attributes": ("products", "update accepted set attributes = 'red'", {"attributes_are_json"}),
    "a product twice": (
        "products",
        "insert into accepted select * replace (4 as row_number, ' p1' as product_id) from accepted where row_number = 1",
        {"product_once_per_delivery"},
    ),
}
# A break of one rule that breaks another one too.
RAW_WITH = {
    "no orders": {"line_has_its_order", "most_lines_have_their_order"},
    "no id": {"order_has_lines", "line_has_its_order"},
    "product": {"product_is_in_the_catalogue"},
    "no product": {"product_is_in_the_catalogue"},
}


@pytest.mark.parametrize("case", RAW, ids=str)
def test_wrong_rows_fail_the_raw_rule_they_break(settings, lake, case):
    table, change, broken = RAW[case]

    results = runner.run(settings, lake(**{table: change}), "raw", docs=False)

    found = {name.split(".")[1] for name in failing(results)}
    assert broken <= found
    assert found - broken <= RAW_WITH.get(case, set())
    assert not any(result.detail for result in results), "every rule could be evaluated"


def test_control_characters_and_blanks_fail(settings, lake):
    change = "update accepted set product_id = case row_number when 1 then ' ' else 'P' || chr(9) || '2' end where row_number < 3"

    results = {r.name: r for r in runner.run(settings, lake(order_lines=change), "raw") if r.table.endswith("lines")}

    assert results["product_id_is_printable"].unexpected == 2


def test_a_failing_row_is_told_by_delivery_and_row(settings, lake):
    results = runner.run(
        settings,
        lake(
            orders="update accepted set email = 'nowhere' where row_number in (7, 3)",
            order_lines="update accepted set quantity = 1e6 where row_number in (90, 12)",
        ),
        "raw",
    )

    examples = {result.name: (result.examples, result.unexpected) for result in results if not result.passed}
    assert examples["email_has_a_form"] == (((DELIVERY, 3), (DELIVERY, 7)), 2)
    assert examples["quantity_plausible"] == (((DELIVERY, 12), (DELIVERY, 90)), 2)


def test_examples_are_few(settings, lake):
    results = runner.run(settings, lake(orders="update accepted set status = 'odd', discount = -5"), "raw")

    for name in ("status_known", "discount_plausible"):
        found = next(result for result in results if result.name == name)
        assert found.unexpected == 40
        assert found.examples == tuple((DELIVERY, row) for row in range(1, 6))


@pytest.mark.parametrize(
    ("change", "blocks"),
    [("update accepted set currency = 'pounds'", True), ("update accepted set discount = -1", False)],
    ids=["critical", "warning"],
)
def test_critical_checks_block_and_warnings_do_not(settings, lake, change, blocks):
    results = runner.run(settings, lake(orders=change), "raw")

    assert failing(results)
    assert any(result.blocks for result in results) is blocks


def test_an_absent_optional_table_is_skipped_and_said_so(settings, lake):
    results = runner.run(settings, lake(products=None), "raw")

    skipped = [result for result in results if result.skipped]
    assert {result.table for result in skipped} == {"lake_shop.products"}
    assert all(result.passed and result.detail and not result.blocks for result in skipped)
    assert failing(results) == set()


@pytest.mark.parametrize("table", ["orders", "order_lines"])
def test_an_absent_required_table_blocks(settings, lake, table):
    results = runner.run(settings, lake(**{table: None}), "raw")

    assert f"{table}.has_rows" in failing(results)
    assert any(result.blocks for result in results)


def test_re_delivered_orders_are_no_duplicates(settings, lake):
    home = lake()
    for name, select in SHOP.items():
        write_accepted(home, name, select, delivery="d000002")

    assert failing(runner.run(settings, home, "raw")) == set()


def test_a_file_older_than_a_column_passes(settings, lake):
    assert failing(runner.run(settings, lake(orders="alter table accepted drop column coupon"), "raw")) == set()


def test_sound_marts_pass_every_check(settings, marts):
    results = runner.run(settings, marts(), "marts")

    assert failing(results) == set()
    assert [(result.table, result.name) for result in results] == [
        (guard.table, guard.expectation) for guard in catalogue() if guard.group == "marts"
    ]


MARTS = {
    "an order twice": ("fct_orders", "insert into {0} select * from {0} limit 1", "order_key_unique"),
    "no orders": ("fct_orders", "delete from {0}", "has_rows"),
    "before known": ("fct_orders", "update {0} set known_at = ordered_at - interval 1 day", "ordered_before_known"),
    "source": ("fct_orders", "update {0} set source = 'fax'", "source_known"),
    "negative": ("fct_orders", "update {0} set amount_base = -1", "amount_base_plausible"),
    "outlier": ("fct_orders", "update {0} set amount_base = 2e6", "amount_base_is_no_outlier"),
    "worthless": ("fct_orders", "update {0} set gross_amount = 0", "gross_amount_plausible"),
    "no lines": ("fct_orders", "update {0} set line_count = 0", "line_count_plausible"),
    "no units": ("fct_orders", "update {0} set units = 0", "units_plausible"),
    "unattributed": ("fct_orders", "update {0} set customer_id = null where order_key < 'k4'", "customer_id_given"),
    "stranger": ("fct_orders", "update {0} set customer_id = 'ffffffffffffffff'", "customer_exists"),
    "reversed": ("fct_orders", "update {0} set is_reversed = true", "reversals_are_the_exception"),
    "old": ("fct_orders", "update {0} set ordered_at = ordered_at - interval 90 day", "orders_are_recent"),
    "type": ("fct_order_lines", "update {0} set line_type = 'gift' where order_key = 'k1'", "line_type_known"),
    "sale": ("fct_order_lines", "update {0} set quantity = -2, unit_price = -5", "sales_are_positive"),
    "return": ("fct_order_lines", "update {0} set line_type = 'return'", "returns_are_negative"),
    "product": ("fct_order_lines", "update {0} set product_id = null", "product_given_for_goods"),
    "sums": ("fct_order_lines", "update {0} set unit_price = 6", "orders_add_up"),
    "goods": ("fct_order_lines", "update {0} set line_type = 'not_goods' where order_key < 'k6'", "most_lines_count"),
    "id": ("dim_customers", "update {0} set customer_id = 'C1' where email like '%1@%'", "customer_id_has_its_form"),
    "email": ("dim_customers", "update {0} set email = 'A@Example.com'", "email_is_normalised"),
    "phone": ("dim_customers", "update {0} set phone = '020 7946 0011'", "phone_is_e164"),
    "country": ("dim_customers", "update {0} set country_code = 'UKX'", "country_code_is_iso"),
    "account": ("dim_customers", "update {0} set account_type = 'alien'", "account_type_known"),
    "records": ("dim_customers", "update {0} set record_count = -1", "record_count_plausible"),
    "placeholder": ("dim_customers", "update {0} set email = 'none@example.com'", "emails_are_not_shared_by_many"),
    "score": ("customer_rfm", "update {0} set r_score = 6", "r_score_known"),
    "no score": ("customer_rfm", "update {0} set m_score = null", "m_score_given"),
    "segment": ("customer_rfm", "update {0} set rfm_segment = 'whales'", "rfm_segment_known"),
    "tier": ("customer_rfm", "update {0} set value_tier = 'gold'", "value_tier_known"),
    "recency": ("customer_rfm", "update {0} set recency_days = -1", "recency_days_plausible"),
    "frequency": ("customer_rfm", "update {0} set frequency = 0", "frequency_plausible"),
    "orders": ("customer_rfm", "update {0} set orders = 1", "orders_at_least_frequency"),
    "money": ("customer_rfm", "update {0} set monetary = 1e8", "monetary_plausible"),
    "basket": ("customer_rfm", "update {0} set average_order_value = -1", "average_order_value_plausible"),
    "rfm stranger": ("customer_rfm", "update {0} set customer_id = 'ffffffffffffffff'", "customer_exists"),
    "uniform": (
        "customer_rfm",
        "insert into {0} select * exclude (range) replace (3 as r_score) from {0}, range(10)",
        "no_recency_score_dominates",
    ),
    "one score": (
        "customer_rfm",
        "insert into {0} select * exclude (range) from {0}, range(10)",
        "scores_tell_customers_apart",
    ),
    "stage": ("customer_lifecycle", "update {0} set stage = 'asleep'", "stage_known"),
    "previous": ("customer_lifecycle", "update {0} set previous_stage = 'asleep'", "previous_stage_known"),
    "age": ("customer_lifecycle", "update {0} set age_days = -1", "age_days_plausible"),
    "prospect": ("customer_lifecycle", "update {0} set stage = 'prospect'", "prospects_have_no_order"),
    "orderless": ("customer_lifecycle", "update {0} set order_days = null", "prospects_have_no_order"),
    "future": ("customer_lifecycle", "update {0} set stage_changed_on = '2024-03-05'", "stage_changed_in_the_past"),
    "same": ("customer_lifecycle", "update {0} set previous_stage = stage", "stage_differs_from_the_previous"),
    "missing": ("customer_lifecycle", "delete from {0} where customer_id like '%1'", "every_customer_has_a_stage"),
    "all lost": (
        "customer_lifecycle",
        "insert into {0} select * exclude (range) replace ('lost' as stage) from {0}, range(20)",
        "not_everyone_is_lost",
    ),
}


@pytest.mark.parametrize("case", MARTS, ids=str)
def test_wrong_marts_fail_the_rule_they_break(settings, marts, case):
    table, change, broken = MARTS[case]

    results = runner.run(settings, marts(change.format(f"marts.{table}")), "marts", docs=False)

    assert f"{table}.{broken}" in failing(results)
    assert not any(result.detail for result in results), "every rule could be evaluated"


def test_every_rule_has_a_case_that_breaks_it():
    raw = {(f"lake_shop.{table}", name) for table, _, broken in RAW.values() for name in broken}
    raw |= {("lake_shop.orders", name) for name in RAW_WITH["no orders"] | {"order_has_lines"}}
    marts = {(f"marts.{table}", name) for table, _, name in MARTS.values()}
    # Kinds that every suite shares are tried once, on one table or column.
    tried = {name for _, name in raw | marts} | {"product_id_is_printable"}
    shared = re.compile(r".*_(given|unique)|[rfm]_score_known|has_rows|columns_as_in_contract|row_named_once")

    assert {guard.expectation for guard in catalogue() if not shared.fullmatch(guard.expectation)} <= tried


def test_failing_marts_are_told_by_their_keys(settings, marts):
    results = runner.run(settings, marts("update marts.fct_orders set units = 0 where order_key = 'k7'"), "marts")

    assert next(r for r in results if r.name == "units_plausible").examples == (("k7",),)


def test_a_missing_mart_fails_and_the_others_are_checked(settings, marts):
    results = runner.run(settings, marts("drop table marts.customer_rfm"), "marts")

    missing = [result for result in results if result.table == "marts.customer_rfm"]
    assert all(not result.passed and result.detail == "the table does not exist" for result in missing)
    assert failing(results) == {f"customer_rfm.{result.name}" for result in missing}


def test_a_missing_column_fails_its_rules_alone(settings, marts):
    results = runner.run(settings, marts("alter table marts.fct_orders drop column units"), "marts")

    assert failing(results) == {"fct_orders.units_plausible"}
    assert "could not be evaluated" in next(result.detail for result in results if not result.passed)


def test_marts_are_checked_under_the_warehouse_lock(settings, marts, monkeypatch):
    home = marts()
    taken = []
    monkeypatch.setattr(lock, "acquire", lambda path, **_: taken.append(path))
    monkeypatch.setattr(lock, "release", lambda path: taken.append(None))

    runner.run(settings, home, "marts")

    assert taken == [home.warehouse, None]


def leaks(home: Home, results: list[runner.CheckResult], value: str) -> list[str]:
    found = ["a result"] if value in repr(results) else []
    return found + [
        str(path) for path in home.docs.rglob("*") if path.is_file() and value.encode() in path.read_bytes()
    ]


@pytest.mark.parametrize(
    "change",
    [
        # In the failing column itself, beside one, and in the text of an error that quotes it.
        f"update accepted set email = replace('{SECRET}', '@example', '@@example') where row_number = 3",
        f"update accepted set email = '{SECRET}', discount = -1, status = 'odd' where row_number = 3",
        f"update accepted set status = '{SECRET}' where row_number = 3",
        f"alter table accepted alter column discount type varchar; update accepted set discount = '{SECRET}'",
    ],
    ids=["its own rule", "another rule", "a wrong column", "an error"],
)
def test_no_contents_of_a_failing_row_reach_the_docs_or_the_results(settings, lake, caplog, capfd, change):
    caplog.set_level(0)
    home = lake(orders=change)

    results = runner.run(settings, home, "raw")

    assert failing(results)
    assert leaks(home, results, "zenobia") == []
    assert "zenobia" not in caplog.text
    assert "zenobia" not in "".join(capfd.readouterr())


def test_no_contents_of_a_failing_mart_reach_the_docs_or_the_results(settings, marts):
    home = marts(
        f"update marts.dim_customers set email = 'Zenobia.{SECRET}', phone = '{SECRET}', account_type = '{SECRET}'"
    )

    results = runner.run(settings, home, "marts")

    assert {"dim_customers.email_is_normalised", "dim_customers.account_type_known"} <= failing(results)
    assert leaks(home, results, "enobia") == []


def test_the_data_docs_name_failing_rows(settings, lake):
    home = lake(orders="update accepted set discount = -1 where row_number = 17")

    runner.run(settings, home, "raw")

    pages = [page for page in data_docs.site(home, "raw").rglob("validations/**/*.html") if "orders" in page.name]
    assert len(pages) == 1
    assert f"{DELIVERY} / 17" in pages[0].read_text(encoding="utf-8")


def test_the_data_docs_show_the_last_run_of_each_group(settings, lake, marts):
    lake()
    home = marts()
    for _ in range(2):
        runner.run(settings, home, "raw")
        runner.run(settings, home, "marts")

    pages = {
        path.parent.name: len(list(path.parent.rglob("validations/**/*.html")))
        for path in home.docs.glob("gx/*/index.html")
    }
    assert pages == {"raw": 3, "marts": 5}
    entrance = (home.docs / "gx" / "index.html").read_text(encoding="utf-8")
    for group in pages:
        shown = (home.docs / "gx" / group / "index.html").read_text(encoding="utf-8")
        for page in home.docs.glob(f"gx/{group}/validations/**/*.html"):
            assert f'href="{page.relative_to(home.docs / "gx").as_posix()}"' in entrance
            assert f'href="{page.relative_to(home.docs / "gx" / group).as_posix()}"' in shown
    assert not list(home.docs.rglob(".*.tmp"))


def test_the_data_docs_load_nothing_from_elsewhere(settings, lake):
    home = lake()
    runner.run(settings, home, "raw")

    for page in data_docs.site(home, "raw").rglob("*.html"):
        said = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:link|script|img)[^>]+(?:href|src)=[\"']?(?:https?:)?//", said), page


def test_nothing_is_written_outside_the_home(settings, lake, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("HOME", str(elsewhere))

    runner.run(settings, lake(), "raw")

    assert list(Path(elsewhere).rglob("*")) == []


def test_a_large_table_is_not_loaded(settings, home):
    """A million lines are counted in DuckDB, under a memory limit that they would not fit in as Python objects."""
    write_accepted(
        home, "orders", "select 'O1' as order_id, timestamp '2024-01-01' as ordered_at, 'C1' as customer_ref"
    )
    write_accepted(
        home,
        "order_lines",
        "select 'O1' as order_id, 'P' || i % 100 as product_id, 1 as quantity, 0 as unit_price from range(1000000) as n (i)",
    )

    results = {result.name: result for result in runner.run(settings, home, "raw") if result.table.endswith("lines")}

    assert results["most_lines_have_a_price"].checked == 1_000_000
    assert not results["most_lines_have_a_price"].passed


def test_duckdb_reads_accepted_files_of_names_with_quotes(settings, home):
    write_accepted(home, "orders", SHOP["orders"], delivery="it's")
    write_accepted(home, "order_lines", SHOP["order_lines"])

    with duckdb.connect() as connection:
        from core.contract import load_contract
        from expectations import raw_views

        raw_views.create(connection, home, [load_contract().table("shop", "orders")])
        assert connection.execute("select count(*) from lake_shop.orders").fetchall() == [(40,)]
