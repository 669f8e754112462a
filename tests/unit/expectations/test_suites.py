from __future__ import annotations

import subprocess
import sys

import pytest

from core.contract import Column, Table, load_contract
from expectations.rules import ROW, Rule, Suite, contract_rules
from expectations.suites import catalogue, suites


def test_the_catalogue_is_read_without_great_expectations():
    code = (
        "import sys; from expectations.suites import catalogue; assert catalogue();"
        " assert not {'great_expectations', 'pandas', 'duckdb', 'sqlalchemy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_guarded_table_has_one_suite_with_critical_and_warning_rules():
    guarded = {suite.table: {rule.severity for rule in suite.rules} for suite in suites()}

    assert set(guarded) == {
        "lake_shop.orders",
        "lake_shop.order_lines",
        "lake_shop.products",
        "marts.fct_orders",
        "marts.fct_order_lines",
        "marts.dim_customers",
        "marts.customer_rfm",
        "marts.customer_lifecycle",
    }
    assert all(severities == {"critical", "warning"} for severities in guarded.values())


def test_check_names_are_unique_by_table():
    named = [(guard.table, guard.expectation) for guard in catalogue()]

    assert len(named) == len(set(named))


@pytest.mark.parametrize("group", ["raw", "marts"])
def test_groups_divide_the_suites(group):
    assert {suite.schema.startswith("lake_") for suite in suites(group)} == {group == "raw"}


def test_every_required_column_of_the_contract_is_guarded():
    for suite in suites("raw"):
        table = load_contract().table("shop", suite.name)
        names = {rule.name for rule in suite.rules}
        assert {f"{column.name}_given" for column in table.columns if column.required} <= names
        assert {f"{column.name}_known" for column in table.columns if column.values} <= names


def test_rules_follow_the_contract():
    table = Table(
        "shop",
        "things",
        "",
        "append",
        (
            Column("a", "varchar", "", required=True, values=("x", "y")),
            Column("b", "integer", "", values=("1",)),
            Column("c", "date", ""),
        ),
    )

    assert [(rule.name, rule.severity) for rule in contract_rules(table)] == [
        ("columns_as_in_contract", "critical"),
        ("row_named_once", "critical"),
        ("a_given", "critical"),
        ("a_known", "critical"),
        ("b_known", "warning"),
    ]


def test_keys_of_suites_are_no_personal_data():
    personal = {column.name for table in load_contract().tables.values() for column in table.columns if column.pii}

    assert not personal & {key for suite in suites() for key in suite.keys}


def test_two_rules_of_one_name_are_refused():
    rule = Rule("has_rows", "ExpectTableRowCountToBeBetween", {"min_value": 1}, "critical", "")

    with pytest.raises(ValueError, match=r"more than one rule named \['has_rows'\]"):
        Suite("raw", "lake_shop.orders", ROW, (rule, rule))
