"""Blocking rules are chosen by the columns that there are, and by the pairs that they make."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from ml.identity import blocking
from ml.identity.blocking import Rule
from ml.identity.keys import Prepared, prepare


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def people(connection: duckdb.DuckDBPyConnection, count: int, *columns: str) -> Prepared:
    """Records of made-up people: 'smith' is the surname of every second one."""
    connection.execute(
        f"""
        create or replace table raw as
        select
            i as id,
            'given' || chr(97 + i % 23) || chr(97 + i // 23 % 20) as given_name,
            case when i % 2 = 0 then 'Smith' else 'surname' || chr(97 + i % 19) || chr(97 + i // 19 % 20) end as surname,
            1900 + i % 90 || '-0' || 1 + i % 9 || '-' || 10 + i % 17 as date_of_birth,
            'p' || i % 400 as postal_code,
            'person' || i || '@example.com' as email,
            null::varchar as phone
        from (select i::integer as i from range({count}) as numbers (i))
        """
    )
    return prepare(connection, "raw", id_column="id", columns={name: (name,) for name in columns}, out="keys")


def pairs_of(connection: duckdb.DuckDBPyConnection, rules: list[Rule]) -> list[int]:
    blocking.add_keys(connection, "keys", rules, out="keyed")
    return [
        connection.execute(
            f"select count(*) from keyed as l inner join keyed as r on l.bk_{n} = r.bk_{n} and l.record_id < r.record_id"
        ).fetchall()[0][0]
        for n in range(len(rules))
    ]


def test_rules_use_only_columns_that_hold_something(connection: duckdb.DuckDBPyConnection) -> None:
    prepared = people(connection, 500, "given_name", "surname", "phone")
    rules = blocking.choose(connection, "keys", prepared.columns, prepared.records)
    assert rules
    assert not any("phone" in rule.name or "dob" in rule.name for rule in rules)


def test_pairs_are_counted_as_they_come_out(connection: duckdb.DuckDBPyConnection) -> None:
    prepared = people(connection, 2_000, "given_name", "surname", "date_of_birth", "postal_code")
    rules = blocking.choose(connection, "keys", prepared.columns, prepared.records)
    assert [rule.pairs for rule in rules] == pairs_of(connection, rules)


def test_the_budget_holds_and_common_values_are_narrowed(connection: duckdb.DuckDBPyConnection) -> None:
    prepared = people(connection, 3_000, "surname", "postal_code")
    budget = 20_000
    rules = blocking.choose(connection, "keys", prepared.columns, prepared.records, budget=budget)
    assert sum(pairs_of(connection, rules)) <= budget
    by_surname = [rule for rule in rules if rule.keys == ("surname",)]
    assert not by_surname or by_surname[0].block_max < 1_500


def test_a_rule_that_another_implies_is_left_out() -> None:
    whole, finer = Rule(("surname",), blocking._BLOCK_MAX, 10), Rule(("surname", "postal"), blocking._BLOCK_MAX, 5)
    narrowed = Rule(("surname",), 12, 10)
    assert blocking._without_implied([finer, whole]) == [whole]
    assert blocking._without_implied([finer, narrowed]) == [finer, narrowed]


def test_any_single_column_allows_rules(connection: duckdb.DuckDBPyConnection) -> None:
    for column in ("given_name", "surname", "date_of_birth", "postal_code"):
        prepared = people(connection, 500, column)
        assert blocking.choose(connection, "keys", prepared.columns, prepared.records), column


def test_identifiers_are_blocked_on_whole_and_in_halves() -> None:
    rules = list(blocking.candidates(["surname", "identifier:card"]))
    assert ("id_card",) in rules
    assert any(rule[0].startswith("left(id_card") for rule in rules)


def test_keys_tell_what_they_are_made_of() -> None:
    assert blocking._bases("left(given_first, 3)") == ["given_first"]
    assert blocking._bases(blocking._PAIR) == ["given_first", "surname"]
    assert blocking._bases("right(id_card, length(id_card) // 2)") == ["id_card"]
    assert [
        blocking._strength(key) for key in ("surname", "surname_sound", "left(surname, 3)", "left(surname, 1)")
    ] == [*(0, 1, 2, 3)]
