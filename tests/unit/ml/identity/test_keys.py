"""Comparison keys: what is made of values in any state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from core.errors import MailwrightError
from ml.identity.columns import ColumnsError, parse_columns
from ml.identity.keys import nicknames, prepare, sound


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def keys_of(connection: duckdb.DuckDBPyConnection, column: str, *values: str | None) -> list[dict[str, Any]]:
    """The keys that are made of each value of one person column."""
    connection.execute("create or replace table raw (id integer, value varchar)")
    connection.executemany("insert into raw values (?, ?)", [list(row) for row in enumerate(values)])
    prepare(connection, "raw", id_column="id", columns={column: ("value",)}, out="keys")
    names = [row[0] for row in connection.execute("describe keys").fetchall()]
    return [dict(zip(names, row, strict=True)) for row in connection.execute("from keys order by record_id").fetchall()]


@pytest.mark.parametrize(
    ("written", "year", "date"),
    [
        ("1980-04-03", "1980", "19800403"),
        ("1980-04-03 00:00:00", "1980", "19800403"),
        ("1980-04-03T12:30:00Z", "1980", "19800403"),
        ("1980/4/3", "1980", "19800403"),
        ("19800403", "1980", "19800403"),
        ("03.04.1980", "1980", "19800403"),
        ("3-4-1980", "1980", "19800403"),
        ("03/04/80", "1980", "19800403"),
        ("03/04/12", "2012", "20120403"),
        ("3 April 1980", "1980", "19800403"),
        ("3rd of Apr. 1980", "1980", "19800403"),
        ("April 3, 1980", "1980", "19800403"),
        ("03041980", "1980", "19800403"),
        ("12/31/1980", "1980", "19801231"),
        ("1980", "1980", None),
        ("1980-04", "1980", None),
        ("c. 1850", "1850", None),
        ("born 1850 in Bath", "1850", None),
        ("19801345", "1980", "19801345"),
        ("1900-01-01", None, None),
        ("unknown", None, None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_dates_in_any_notation(
    connection: duckdb.DuckDBPyConnection, written: str | None, year: str | None, date: str | None
) -> None:
    [keys] = keys_of(connection, "date_of_birth", written)
    assert (keys["dob_year"], keys["dob"]) == (year, date)


def test_a_column_of_month_first_dates_is_read_so(connection: duckdb.DuckDBPyConnection) -> None:
    ambiguous, *_ = keys_of(connection, "date_of_birth", "03/04/1980", "12/31/1970", "11/25/1960")
    assert ambiguous["dob"] == "19800304"


@pytest.mark.parametrize(
    "written", ["+44 20 7946 0123", "0044 (0)20 79460123", "020 7946 0123", "(020) 7946-0123 ext. 5", "442079460123"]
)
def test_phones_in_any_form_are_equal(connection: duckdb.DuckDBPyConnection, written: str) -> None:
    [keys] = keys_of(connection, "phone", written)
    assert keys["phone"] == "079460123"


@pytest.mark.parametrize("written", ["12345", "n/a", "999999999", None])
def test_what_is_no_phone_is_null(connection: duckdb.DuckDBPyConnection, written: str | None) -> None:
    [keys] = keys_of(connection, "phone", written)
    assert keys["phone"] is None


def test_emails_are_compared_by_the_providers_rules(connection: duckdb.DuckDBPyConnection) -> None:
    dotted, tagged, elsewhere, reordered, broken = keys_of(
        connection,
        "email",
        "J.Smith12+shop@GoogleMail.com",
        "mailto: jsmith12@gmail.com",
        "j.smith12@example.com",
        "smith_j12@example.org",
        "j.smith@",
    )
    assert dotted["email"] == tagged["email"] == "jsmith12@gmail.com"
    assert elsewhere["email"] == "j.smith12@example.com"
    assert elsewhere["email_key"] == reordered["email_key"]
    assert broken["email"] is None


@pytest.mark.parametrize(
    ("written", "given", "surname"),
    [
        ("Anne Miller", "anne", "miller"),
        ("Dr. Anne  MILLER, MD", "anne", "miller"),
        ("Miller, Anne", "anne", "miller"),
        ("Sir John van der Berg Jr.", "john", "van der berg"),
        ("Mary Ann Smith", "mary ann", "smith"),
        ("Thomas Clifford, 1st Baron Clifford of Chudleigh", "thomas", "clifford"),
        ("Plato", None, "plato"),
        ("José O’Brien", "jose", "obrien"),
        ("N/A", None, None),
    ],
)
def test_full_names_are_taken_apart(
    connection: duckdb.DuckDBPyConnection, written: str, given: str | None, surname: str | None
) -> None:
    [keys] = keys_of(connection, "full_name", written)
    assert (keys["given"], keys["surname"]) == (given, surname)


@pytest.mark.parametrize("nothing", ["", "  ", "-", "Unknown", "N/A", "null", "???", None])
def test_what_stands_for_nothing_is_null(connection: duckdb.DuckDBPyConnection, nothing: str | None) -> None:
    for column, key in (
        ("given_name", "given"),
        ("city", "city"),
        ("postal_code", "postal"),
        ("occupation", "occupation"),
    ):
        [keys] = keys_of(connection, column, nothing)
        assert keys[key] is None


def test_other_scripts_are_kept_or_transliterated(connection: duckdb.DuckDBPyConnection) -> None:
    greek, cyrillic, chinese = keys_of(connection, "surname", "Παπαδόπουλος", "Щербаков", "王")
    assert greek["surname"] == "papadopoulos"
    assert cyrillic["surname"] == "scherbakov"
    assert chinese["surname"] == "王"


def test_house_and_street_are_told_apart(connection: duckdb.DuckDBPyConnection) -> None:
    english, german = keys_of(connection, "address", "Flat 3, 12 High Street", "Hauptstraße 5a")
    assert (english["house"], english["street"]) == ("12 3", "flat high st")
    assert (german["house"], german["street"]) == ("5", "hauptstr")


@pytest.mark.parametrize(
    "alike", [("schmidt", "schmitt"), ("catherine", "katherine"), ("phillips", "filips"), ("meyer", "maier")]
)
def test_names_that_sound_alike(connection: duckdb.DuckDBPyConnection, alike: tuple[str, str]) -> None:
    [(left, right)] = connection.execute(
        f"select {sound('l')}, {sound('r')} from (select ? as l, ? as r)", alike
    ).fetchall()
    assert left == right


def test_nicknames_share_a_form_and_other_names_do_not() -> None:
    forms = nicknames()
    assert set(forms["bob"]) & set(forms["robert"])
    assert set(forms["bill"]) & set(forms["william"])
    assert not set(forms["albert"]) & set(forms["robert"])


def test_columns_that_hold_nothing_are_left_out(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("create table raw as select 1 as id, 'Anne' as name, null::varchar as city, 'n/a' as phone")
    prepared = prepare(
        connection,
        "raw",
        id_column="id",
        columns={"given_name": ["name"], "city": ["city"], "phone": ["phone"]},
        out="keys",
    )
    assert prepared.columns == ("given_name",)


def test_several_columns_are_joined(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("create table raw as select 1 as id, '12' as number, 'Mill Lane' as road, '' as more")
    prepare(connection, "raw", id_column="id", columns={"address": ["number", "road", "more"]}, out="keys")
    assert connection.execute("select address from keys").fetchall() == [("12 mill lane",)]


def test_a_missing_column_is_named_with_those_that_are_there(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("create table raw as select 1 as id, 'Anne' as first")
    with pytest.raises(ColumnsError, match=r"no column frist.*id, first"):
        prepare(connection, "raw", id_column="id", columns={"given_name": ["frist"]}, out="keys")
    with pytest.raises(ColumnsError, match="no column key"):
        prepare(connection, "raw", id_column="key", columns={"given_name": ["first"]}, out="keys")


@pytest.mark.parametrize(
    ("ids", "said"), [("(1), (1), (2)", "1 of 3.*repeated"), ("(1), (null)", "1 of 2 records have no")]
)
def test_ids_must_be_there_and_unique(connection: duckdb.DuckDBPyConnection, ids: str, said: str) -> None:
    connection.execute(f"create table raw as select id, 'Anne' as name from (values {ids}) as made (id)")
    with pytest.raises(MailwrightError, match=said):
        prepare(connection, "raw", id_column="id", columns={"given_name": ["name"]}, out="keys")


def test_column_mappings_are_parsed() -> None:
    assert parse_columns("given_name=first, address=number+road,email,identifier:card no=card") == {
        "given_name": ("first",),
        "address": ("number", "road"),
        "email": ("email",),
        "identifier:card no": ("card",),
    }


@pytest.mark.parametrize("wrong", ["", "forename=first", "email=a,email=b", "email=", "identifier:=a"])
def test_wrong_column_mappings_are_refused(wrong: str) -> None:
    with pytest.raises(ColumnsError):
        parse_columns(wrong)
