"""What is read as what: every value of the table in `ingestion.conversion`'s docstring."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from core.clock import to_utc
from core.contract import Column
from ingestion.conversion import IncompatibleTypeError, convert, prepared_name, received_name
from ingestion.sql import literal

LONDON = "Europe/London"


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        yield connection


def read(
    connection, data_type: str, received: list[Any], source_type: str, timezone: str = LONDON, **column
) -> list[Any]:
    """Convert values of `source_type` as the loader would; a value that can't be read becomes 'rejected'."""
    wanted = Column("x", data_type, "", **column)
    conversion = convert(wanted, '"raw x"', source_type, timezone)
    cells = ", ".join(
        f"({n}, cast({'null' if v is None else literal(str(v))} as {source_type}))" for n, v in enumerate(received)
    )
    rows = connection.execute(
        f"""
        select {received_name(wanted)} is not null and value is null, value
        from (
            select *, {conversion.value} as value
            from (
                select *, {conversion.prepared or "null"} as {prepared_name(wanted)}
                from (
                    select {conversion.received} as {received_name(wanted)}, n
                    from (values {cells}) as v (n, "raw x")
                )
            )
        )
        order by n
        """
    ).fetchall()
    assert conversion.can_fail or not any(failed for failed, _ in rows)
    return ["rejected" if failed else value for failed, value in rows]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1234.50", Decimal("1234.5")),
        (" -3 ", Decimal(-3)),
        ("+.5", Decimal("0.5")),
        ("7.", Decimal(7)),
        ("0.00005", Decimal("0.0001")),
        ("", None),
        (" \t\u00a0", None),
        ("1,234.50", "rejected"),
        ("1234,50", "rejected"),
        ("£5", "rejected"),
        ("1e3", "rejected"),
        ("1_000", "rejected"),
        ("abc", "rejected"),
        ("nan", "rejected"),
        ("infinity", "rejected"),
        ("-", "rejected"),
        (".", "rejected"),
        ("99999999999999.9999", Decimal("99999999999999.9999")),
        ("100000000000000", "rejected"),
    ],
)
def test_decimal_from_text(connection, text, expected):
    assert read(connection, "decimal(18,4)", [text], "VARCHAR") == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("12", 12), ("-12", -12), ("12.0", 12), ("0.5", "rejected"), ("0x10", "rejected"), ("2147483648", "rejected")],
)
def test_integer_from_text(connection, text, expected):
    assert read(connection, "integer", [text], "VARCHAR") == [expected]


def test_boolean_from_text_and_numbers(connection):
    words = ["true", "T", "Yes", "y", "1", "FALSE", "f", "no", "N", "0", "", "maybe", "2"]
    assert read(connection, "boolean", words, "VARCHAR") == [True] * 5 + [False] * 5 + [None, "rejected", "rejected"]
    assert read(connection, "boolean", [1, 0, 2, None], "BIGINT") == [True, False, "rejected", None]
    assert read(connection, "boolean", [1.0, "nan"], "DOUBLE") == [True, None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2011-12-09", date(2011, 12, 9)),
        ("09/12/2011", date(2011, 12, 9)),
        ("9/2/2011", date(2011, 2, 9)),
        ("09.12.2011", date(2011, 12, 9)),
        ("2011-12-09T00:00:00Z", date(2011, 12, 9)),
        ("2011-12-09 23:59:59.5+02:00", date(2011, 12, 9)),
        ("29/02/2012", date(2012, 2, 29)),
        ("29/02/2011", "rejected"),
        ("31/02/2011", "rejected"),
        ("2011-02-31", "rejected"),
        ("12/31/2011", "rejected"),
        ("09/12/11", "rejected"),
        ("2011-12-9", "rejected"),
        ("20111209", "rejected"),
        ("infinity", "rejected"),
        ("epoch", "rejected"),
    ],
)
def test_date_from_text(connection, text, expected):
    assert read(connection, "date", [text], "VARCHAR", "America/New_York") == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2011-07-09 08:26:00", datetime(2011, 7, 9, 7, 26)),
        ("2011-07-09T08:26", datetime(2011, 7, 9, 7, 26)),
        ("2011-07-09 08:26:00.123456789", datetime(2011, 7, 9, 7, 26, 0, 123456)),
        ("2011-07-09", datetime(2011, 7, 8, 23, 0)),
        ("09/07/2011 08:26", datetime(2011, 7, 9, 7, 26)),
        ("9.7.2011 8:26:01", datetime(2011, 7, 9, 7, 26, 1)),
        ("2011-07-09T08:26:00Z", datetime(2011, 7, 9, 8, 26)),
        ("2011-07-09 08:26:00 UTC", datetime(2011, 7, 9, 8, 26)),
        ("2011-07-09T08:26:00+02:00", datetime(2011, 7, 9, 6, 26)),
        ("2011-07-09 08:26:00 +0200", datetime(2011, 7, 9, 6, 26)),
        ("2011-07-09T08:26-05", datetime(2011, 7, 9, 13, 26)),
        ("2011-07-09T08:26:00.5-05:30", datetime(2011, 7, 9, 13, 56, 0, 500000)),
        ("31/02/2011 08:26", "rejected"),
        ("2011-06-31T10:00:00Z", "rejected"),
        ("2011-07-09 25:00", "rejected"),
        ("2011-07-09 08:26 Europe/Berlin", "rejected"),
        ("07/13/2011 08:26", "rejected"),
        ("1310199960", "rejected"),
        ("yesterday", "rejected"),
        ("infinity", "rejected"),
    ],
)
def test_instant_from_text(connection, text, expected):
    assert read(connection, "timestamp", [text], "VARCHAR") == [expected]


@pytest.mark.parametrize("source_type", ["VARCHAR", "TIMESTAMP", "TIMESTAMP_NS"])
@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ("2011-10-30 00:59:59", datetime(2011, 10, 29, 23, 59, 59)),
        ("2011-10-30 01:00:00", datetime(2011, 10, 30, 0, 0)),
        ("2011-10-30 01:30:00", datetime(2011, 10, 30, 0, 30)),
        ("2011-10-30 02:00:00", datetime(2011, 10, 30, 2, 0)),
        ("2011-10-31 01:30:00", datetime(2011, 10, 31, 1, 30)),
        ("2011-03-27 01:30:00", datetime(2011, 3, 27, 1, 30)),
        ("2011-03-27 02:00:00", datetime(2011, 3, 27, 1, 0)),
        ("2011-03-28 01:30:00", datetime(2011, 3, 28, 0, 30)),
    ],
    ids=[
        "before",
        "first ambiguous",
        "ambiguous",
        "after",
        "a day later",
        "skipped",
        "after the gap",
        "a day after the gap",
    ],
)
def test_ambiguous_local_time_is_the_earlier_instant_and_a_skipped_one_moves_forward(
    connection, source_type, local, expected
):
    assert read(connection, "timestamp", [local], source_type) == [expected]


@pytest.mark.parametrize(
    "timezone",
    [LONDON, "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Pacific/Apia", "Asia/Kolkata", "UTC"],
)
def test_local_times_become_the_same_instants_as_by_the_clock(connection, timezone):
    hours = [datetime(2011, 1, 1, 0, 30) + timedelta(hours=n) for n in range(24 * 366)]
    expected = [to_utc(hour, timezone).replace(tzinfo=None) for hour in hours]
    assert read(connection, "timestamp", hours, "TIMESTAMP", timezone) == expected


def test_instants_and_dates_from_native_types(connection):
    instant = "2011-07-09 00:30:00+02:00"
    assert read(connection, "timestamp", [instant], "TIMESTAMP WITH TIME ZONE") == [datetime(2011, 7, 8, 22, 30)]
    assert read(connection, "timestamp", ["2011-07-09"], "DATE") == [datetime(2011, 7, 8, 23, 0)]
    assert read(connection, "date", [instant], "TIMESTAMP WITH TIME ZONE") == [date(2011, 7, 8)]
    assert read(connection, "date", ["2011-07-09 13:00:00", None], "TIMESTAMP") == [date(2011, 7, 9), None]


def test_numbers_from_native_types(connection):
    assert read(connection, "decimal(18,4)", [2.55, "nan", "inf", 1e30], "DOUBLE") == [
        Decimal("2.55"),
        None,
        "rejected",
        "rejected",
    ]
    assert read(connection, "integer", [3.0, 3.5, "nan"], "DOUBLE") == [3, "rejected", None]
    assert read(connection, "integer", [2**31], "BIGINT") == ["rejected"]
    assert read(connection, "bigint", ["3.00", "3.50"], "DECIMAL(10,2)") == [3, "rejected"]


def test_text_from_native_types(connection):
    assert read(connection, "varchar", [13085.0, 0.5, "nan"], "DOUBLE") == ["13085", "0.5", None]
    assert read(connection, "varchar", [13085, None], "INTEGER") == ["13085", None]
    assert read(connection, "varchar", ["\ufeff a b\u00a0\r\n", " "], "VARCHAR") == ["a b", None]
    assert read(connection, "varchar", ["{'a': 1}"], "STRUCT(a INTEGER)") == ['{"a":1}']
    assert read(connection, "varchar", ["caf\\xC3\\xA9", "caf\\xE9"], "BLOB") == ["café", "rejected"]


def test_words_of_an_enumeration_are_folded_to_lower_case_and_others_kept(connection):
    assert read(connection, "varchar", ["Paid", "LOST"], "VARCHAR", values=("paid",)) == ["paid", "LOST"]


@pytest.mark.parametrize(
    ("data_type", "source_type"),
    [
        ("timestamp", "BIGINT"),
        ("date", "DOUBLE"),
        ("boolean", "DATE"),
        ("decimal(18,4)", "TIMESTAMP"),
        ("integer", "BOOLEAN"),
    ],
)
def test_type_that_can_never_be_read_is_refused(data_type, source_type):
    with pytest.raises(IncompatibleTypeError, match=f"holds {source_type}, where .* is needed"):
        convert(Column("x", data_type, ""), "x", source_type, LONDON)


def test_the_clock_itself_takes_the_earlier_instant():
    assert to_utc(datetime(2011, 10, 30, 1, 30), LONDON) == datetime(2011, 10, 30, 0, 30, tzinfo=UTC)
