"""Levels of agreement, and what can't be one person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import duckdb
import pytest

from ml.identity.comparisons import compare
from ml.identity.conflicts import conflicts
from ml.identity.keys import prepare


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


COLUMNS = (
    "given_name",
    "surname",
    "date_of_birth",
    "email",
    "phone",
    "address",
    "city",
    "postal_code",
    "identifier:card",
)


def level_of(
    connection: duckdb.DuckDBPyConnection, name: str, left: Mapping[str, str], right: Mapping[str, str]
) -> str | None:
    """The label of the level that two records reach in a comparison."""
    rows = ", ".join(
        "(" + ", ".join([str(number), *("null" if not row.get(c) else f"'{row[c]}'" for c in COLUMNS)]) + ")"
        for number, row in enumerate((left, right))
    )
    names = ", ".join(["id", *(f'"{column}"' for column in COLUMNS)])
    connection.execute(f"create or replace table raw as from (values {rows}) as made ({names})")
    prepare(connection, "raw", id_column="id", columns={c: (c,) for c in COLUMNS}, out="keys")
    [comparison] = [comparison for comparison in compare(COLUMNS) if comparison.name == name]
    keys = [row[0] for row in connection.execute("describe keys").fetchall()]
    sides = ", ".join(f"{side}.{key} as {key}_{side}" for key in keys for side in "lr")
    whens = " ".join(
        f"when {level.condition} then '{level.label.replace(chr(39), '')}'"
        if level.condition != "else"
        else "else 'else'"
        for level in comparison.levels
    )
    [(label,)] = connection.execute(
        f"with sides as (select {sides} from keys as l inner join keys as r on l.record_id = 0 and r.record_id = 1)"
        f" select case when {comparison.nothing} then null {whens} end from sides"
    ).fetchall()
    return label


@pytest.mark.parametrize(
    ("left", "right", "level"),
    [
        ("Anne", "ANNE ", "equal"),
        ("Anne Marie", "Anne", "first name equal"),
        ("Robert", "Bob", "nickname"),
        ("Katherine", "Cathy", "nickname"),
        ("Mitchell", "Mitchel", "slip"),
        ("Jessica", "Jesscia", "slip"),
        ("Anne", "A.", "initial"),
        ("Jessica", "aessicj", "letters in disorder"),
        ("Anne", "Peter", "else"),
        ("Anne", "", None),
    ],
)
def test_given_names(connection: duckdb.DuckDBPyConnection, left: str, right: str, level: str | None) -> None:
    reached = level_of(
        connection, "given_name", {"given_name": left, "surname": "x"}, {"given_name": right, "surname": "y"}
    )
    assert reached == level


def test_swapped_names_count_once(connection: duckdb.DuckDBPyConnection) -> None:
    left, right = {"given_name": "Anne", "surname": "Miller"}, {"given_name": "Miller", "surname": "Anne"}
    assert level_of(connection, "given_name", left, right) == "given name and surname swapped"
    assert level_of(connection, "surname", left, right) is None


@pytest.mark.parametrize(
    ("left", "right", "level"),
    [
        ("1980-04-03", "03.04.1980", "equal"),
        ("1980-04-03", "1980-04-08", "slip, or day and month swapped"),
        ("1980-04-03", "1980-03-04", "slip, or day and month swapped"),
        ("1980-04-13", "1980-04-31", "slip, or day and month swapped"),
        ("1980-04-03", "1980", "year equal, where no more is known"),
        ("1980-04-03", "1980-01-01", "year equal, where no more is known"),
        ("1980-04-03", "1980-11-26", "year equal"),
        ("1980-04-03", "1951-12-30", "else"),
        ("1980-04-03", "unknown", None),
    ],
)
def test_dates_of_birth(connection: duckdb.DuckDBPyConnection, left: str, right: str, level: str | None) -> None:
    assert level_of(connection, "date_of_birth", {"date_of_birth": left}, {"date_of_birth": right}) == level


@pytest.mark.parametrize(
    ("left", "right", "level"),
    [
        ("anne.miller12@example.com", "Anne.Miller12@EXAMPLE.com", "equal"),
        (
            "anne.miller12@example.com",
            "miller_anne12@example.org",
            "name parts and digits equal, elsewhere or in another order",
        ),
        ("anne.miller12@example.com", "anne.mller12@example.com", "slip"),
        ("amiller12@example.com", "miller.anne12@example.org", "digits equal, names related"),
        ("anne.miller@example.com", "miller.anne@example.org", None),
        ("anne.miller12@example.com", "anne.miller57@example.com", "slip, or other digits, at the same domain"),
        ("anne.miller12@example.com", "anne.miller57@example.org", "else"),
        ("anne.miller12@example.com", "peter.stone99@example.org", "else"),
        ("anne.miller12@example.com", "no email", None),
    ],
)
def test_emails(connection: duckdb.DuckDBPyConnection, left: str, right: str, level: str | None) -> None:
    miller = {"surname": "Miller"}
    assert level_of(connection, "email", miller | {"email": left}, miller | {"email": right}) == level


def test_a_place_is_compared_once_by_the_finest_that_agrees(connection: duckdb.DuckDBPyConnection) -> None:
    home = {"address": "12 Mill Lane", "city": "Bath", "postal_code": "BA1 1AA"}
    for other, level in (
        (home, "address and postal code equal"),
        ({**home, "address": "12, Mil Lane"}, "address alike, postal code equal"),
        ({**home, "address": "14 Mill Lane"}, "postal code and city equal"),
        ({**home, "postal_code": "N1 7ZZ"}, "address equal, place alike"),
        ({"city": "Bath"}, "city equal"),
        ({"address": "9 Elm Road", "city": "York", "postal_code": "YO1 2AB"}, "else"),
        ({}, None),
    ):
        assert level_of(connection, "place", home, other) == level


@pytest.mark.parametrize(
    ("left", "right", "is_conflict"),
    [
        ({"given_name": "Anne"}, {"given_name": "Peter"}, True),
        ({"given_name": "Robert"}, {"given_name": "Bob"}, False),
        ({"given_name": "Robert"}, {"given_name": "R."}, False),
        ({"given_name": "Anne"}, {}, False),
        (
            {"given_name": "Anne", "date_of_birth": "1980-04-03"},
            {"given_name": "Peter", "date_of_birth": "1980-04-03"},
            False,
        ),
        (
            {"given_name": "Anne", "identifier:card": "778812"},
            {"given_name": "Peter", "identifier:card": "778812"},
            False,
        ),
        (
            {"given_name": "Anne", "date_of_birth": "1980-04-03"},
            {"given_name": "Peter", "date_of_birth": "1951-12-30"},
            True,
        ),
    ],
)
def test_household_members_are_not_one_person(
    connection: duckdb.DuckDBPyConnection, left: dict[str, str], right: dict[str, str], is_conflict: bool
) -> None:
    shared = {"surname": "Miller", "email": "millers@example.com", "phone": "+44 20 7946 0123", "city": "Bath"}
    level_of(connection, "given_name", shared | left, shared | right)
    prepared = prepare(connection, "raw", id_column="id", columns={c: (c,) for c in COLUMNS}, out="keys")
    connection.execute("create or replace table pairs as select 0 as record_l, 1 as record_r")
    conflicts(connection, prepared, "pairs", out="apart")
    assert bool(connection.execute("from apart").fetchall()) is is_conflict


def test_without_given_names_nothing_conflicts(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("create table raw as select i as id, 'a' as surname from range(2) as numbers (i)")
    prepared = prepare(connection, "raw", id_column="id", columns={"surname": ["surname"]}, out="keys")
    connection.execute("create table pairs as select 0 as record_l, 1 as record_r")
    conflicts(connection, prepared, "pairs", out="apart")
    assert connection.execute("from apart").fetchall() == []
