from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.contract import Column, Table, load_contract
from core.settings import PROJECT_ROOT
from expectations.rules import GROUPS, Rule, Suite, contract_rules, given, never, none_from, none_where, unique
from expectations.suites import catalogue, suites

MODELS = PROJECT_ROOT / "dbt_project" / "models"
TESTED = {"not_null": "{}_given", "unique": "{}_unique", "accepted_values": "{}_known"}


def described_models() -> dict[str, dict[str, Any]]:
    """Every model that a YAML file describes, by name."""
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in MODELS.rglob("*.yml")]
    return {model["name"]: model for said in files for model in said.get("models", [])}


def is_personal(column: dict[str, Any]) -> bool:
    return bool(column.get("config", {}).get("meta", {}).get("pii"))


def test_the_catalogue_is_read_without_great_expectations() -> None:
    code = (
        "import sys; from expectations.suites import catalogue; assert catalogue();"
        " assert not {'great_expectations', 'pandas', 'duckdb', 'sqlalchemy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_table_of_the_contract_is_guarded_as_delivered_and_as_staged() -> None:
    guarded = {suite.table for suite in suites()}

    for table in load_contract().tables.values():
        assert f"lake_{table.source}.{table.name}" in guarded
        assert f"staging.stg_{table.source}__{table.name}" in guarded


def test_every_staging_model_is_guarded() -> None:
    models = {path.stem for path in Path(MODELS / "staging").rglob("*.sql")}

    assert {f"staging.{model}" for model in models} <= {suite.table for suite in suites()}


def test_every_guarded_model_exists() -> None:
    models = {path.stem for path in MODELS.rglob("*.sql")}

    assert {suite.name for suite in suites() if suite.group != "raw"} <= models


def test_every_table_has_one_suite_and_every_check_one_name() -> None:
    tables = [suite.table for suite in suites()]
    named = [(guard.table, guard.expectation) for guard in catalogue()]

    assert len(tables) == len(set(tables))
    assert len(named) == len(set(named))


def test_groups_divide_the_suites() -> None:
    assert sum(len(suites(group)) for group in GROUPS) == len(suites())
    assert all(suite.schema.startswith("lake_") is (suite.group == "raw") for suite in suites())


def test_every_warning_has_a_written_reason_and_no_error_has_one() -> None:
    rules = [(suite.table, rule) for suite in suites() for rule in suite.rules]

    assert {rule.severity for _, rule in rules} == {"error", "warning"}
    for table, rule in rules:
        assert (rule.severity == "warning") is (rule.reason is not None)
        if rule.reason is not None:
            assert len(rule.reason.split()) >= 4, f"{table}.{rule.name}: {rule.reason}"


def test_a_rule_with_an_empty_reason_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        given("customer_id", reason=" ")


def test_rules_that_dbt_tests_hold_are_not_repeated() -> None:
    described = described_models()
    repeated = []
    for suite in suites():
        names = {rule.name for rule in suite.rules if rule.severity == "error"}
        for column in described.get(suite.name, {}).get("columns", []) if suite.group != "raw" else []:
            tests = [test if isinstance(test, str) else next(iter(test)) for test in column.get("data_tests", [])]
            held = {TESTED[test].format(column["name"]) for test in tests if test in TESTED}
            repeated += [f"{suite.table}.{name}" for name in names & held]

    assert repeated == []


def test_every_required_column_of_the_contract_is_guarded() -> None:
    by_table = {suite.table: suite for suite in suites("raw")}
    for table in load_contract().tables.values():
        names = {rule.name for rule in by_table[f"lake_{table.full_name}"].rules}
        assert {f"{column.name}_given" for column in table.columns if column.required} <= names
        assert {f"{column.name}_known" for column in table.columns if column.values} <= names


def test_rules_follow_the_contract() -> None:
    columns = (
        Column("a", "varchar", "", required=True, values=("x", "y")),
        Column("b", "integer", "", values=("1",)),
        Column("c", "timestamp", ""),
    )
    table = Table("shop", "things", "", "replace_entity", columns, entity_key=("a",), occurred_at="c")

    assert [(rule.name, rule.severity) for rule in contract_rules(table)] == [
        ("columns_as_in_contract", "error"),
        ("row_named_once", "error"),
        ("row_is_named", "error"),
        ("a_given", "error"),
        ("a_known", "error"),
        ("b_known", "warning"),
        ("entity_once_per_delivery", "warning"),
        ("c_plausible", "error"),
        ("told_after_it_happened", "error"),
    ]


def test_keys_of_suites_are_no_personal_data() -> None:
    personal = {
        f"lake_{table.full_name}": {column.name for column in table.columns if column.pii}
        for table in load_contract().tables.values()
    }
    personal |= {
        name: {column["name"] for column in model.get("columns", []) if is_personal(column)}
        for name, model in described_models().items()
    }

    for suite in suites():
        assert not personal.get(suite.table, personal.get(suite.name, set())) & set(suite.keys), suite.table
    assert {"email", "phone", "contact_point", "given", "identifier"}.isdisjoint(
        key for suite in suites() for key in suite.keys
    )


def test_two_rules_of_one_name_are_refused() -> None:
    rule = given("order_id")

    with pytest.raises(ValueError, match=r"more than one rule named \['order_id_given'\]"):
        Suite("raw", "lake_shop.orders", ("delivery_id",), (rule, rule))


@pytest.mark.parametrize(
    ("rule", "breaks", "names"),
    [
        (
            none_where("x", "a < 0", "d"),
            "count(*) filter (where a < 0)",
            "select t.k from s.t where a < 0",
        ),
        (
            none_from("x", "select k from {table} group by k", "d"),
            "(select count(*) from (select k from s.t group by k))",
            "select k from s.t group by k",
        ),
        (never("x", "count(*) > 5", "d"), "case when count(*) > 5 then 1 else 0 end", None),
        (
            unique(("a", "b")),
            "count(*) filter (where a is not null and b is not null)"
            " - count(distinct (a, b)) filter (where a is not null and b is not null)",
            "select t.k from s.t where a is not null and b is not null qualify count(*) over (partition by a, b) > 1",
        ),
    ],
    ids=["rows", "query", "table", "key"],
)
def test_rules_become_sql(rule: Rule, breaks: str, names: str | None) -> None:
    suite = Suite("marts", "s.t", ("k",), (rule,))

    assert suite.sql(rule.breaks) == breaks
    assert (suite.sql(rule.names) if rule.names else None) == names
