"""Local time to instants in SQL, against Python's own rules (PEP 495, fold=0), around every kind of clock change."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest
from jinja2 import Environment

from core.clock import to_utc
from core.settings import PROJECT_ROOT

MACROS = PROJECT_ROOT / "dbt_project" / "macros" / "local_time.sql"

# A day of change, and what is special about it.
CHANGES = {
    "London, an hour twice": ("Europe/London", datetime(2011, 10, 30)),
    "London, an hour skipped": ("Europe/London", datetime(2011, 3, 27)),
    "Azores, midnight twice": ("Atlantic/Azores", datetime(2011, 10, 30)),
    "Havana, midnight twice": ("America/Havana", datetime(2011, 11, 13)),
    "Sao Paulo, midnight skipped": ("America/Sao_Paulo", datetime(2011, 10, 16)),
    "Lord Howe, half an hour twice": ("Australia/Lord_Howe", datetime(2011, 4, 3)),
    "Kolkata, no change": ("Asia/Kolkata", datetime(2011, 6, 1)),
}


def macro(name: str, zone: str, argument: str) -> str:
    """A macro as DuckDB gets it, for a home in `zone`."""
    body = re.search(rf"macro duckdb__{name}\(\w+\) -%}}(.*?){{%- endmacro", MACROS.read_text(), re.DOTALL)
    assert body
    parameter = re.search(rf"macro duckdb__{name}\((\w+)\)", MACROS.read_text())
    assert parameter
    return Environment().from_string(body[1]).render({parameter[1]: argument, "business_timezone": lambda: zone})


def converted(connection: duckdb.DuckDBPyConnection, expression: str, value: datetime) -> Any:
    row = connection.execute(f"select {expression} from (select ? as value)", [value]).fetchone()
    assert row
    return row[0]


@pytest.mark.parametrize(("zone", "day"), CHANGES.values(), ids=CHANGES.keys())
def test_an_ambiguous_time_is_the_earlier_and_a_skipped_one_moves_on(zone: str, day: datetime) -> None:
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        for minutes in range(-6 * 60, 30 * 60, 10):
            local = day + timedelta(minutes=minutes)
            got = converted(connection, macro("local_to_utc", zone, "value"), local)
            assert got == to_utc(local, zone).replace(tzinfo=None), local


@pytest.mark.parametrize(("zone", "day"), CHANGES.values(), ids=CHANGES.keys())
def test_a_local_date_is_the_wall_calendars(zone: str, day: datetime) -> None:
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        for minutes in range(-24 * 60, 48 * 60, 30):
            instant = day + timedelta(minutes=minutes)
            got = converted(connection, macro("to_local_date", zone, "value"), instant)
            assert got == instant.replace(tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo(zone)).date(), instant
