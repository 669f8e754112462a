"""SQL that turns a column as received into a column of the contract's type.

What is read as what, in one place:

- text is trimmed; empty text is no value, as is a floating-point NaN. What tells rows apart (required columns and those
  with one value per key) is trimmed of all white space and invisible marks that Unicode has;
- text with a null byte, which no export means to write, and text longer than LONGEST_TEXT is refused;
- numbers are plain (`1234.50`, `-3`, `+.5`): no thousands separators, decimal commas, exponents or currency signs;
  more decimal places than the type has are rounded half away from zero;
- whole numbers may end in `.0`, as spreadsheets and data frames write them;
- booleans are the words in TRUE_WORDS and FALSE_WORDS, in any case;
- dates and instants are ISO 8601 (`2011-12-09`, `2011-12-09 08:26:00`, `2011-12-09T08:26:00.5`) or day first
  (DAY_FIRST_FORMATS). Month-first dates are not read: nothing could tell 03/04 from 04/03;
- an instant may carry an offset (`Z`, `UTC`, `+02:00`, `+0200`, `+02`), else it is local time in the home's timezone.
  An ambiguous local time is the earlier instant, a skipped one moves forward (PEP 495 with fold=0);
- dates and instants lie in the years 1 to 9999.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from core.contract import Column
from ingestion.sql import identifier, literal, literals

TRUE_WORDS = ("true", "t", "yes", "y", "1")
FALSE_WORDS = ("false", "f", "no", "n", "0")
DAY_FIRST_FORMATS = ("%d/%m/%Y", "%d.%m.%Y")
TIME_FORMATS = ("", " %H:%M", " %H:%M:%S")

LONGEST_TEXT = 1_000_000  # bytes; nothing downstream is made for more, and a name of 10 MB is none

_PLAIN_SPACE = (9, 10, 13, 32, 0xA0, 0xFEFF)
_SPACE = " || ".join(f"chr({code})" for code in _PLAIN_SPACE)
_ASCII_SPACE = " || ".join(f"chr({code})" for code in (9, 10, 11, 12, 13, 32))
# Every space of Unicode, and the marks of direction and of width that nobody sees.
_ANY_SPACE = " || ".join(
    f"chr({code})"
    for code in (
        *_PLAIN_SPACE, 0x0B, 0x0C, 0x85, 0xAD, 0x061C, 0x1680, 0x180E, *range(0x2000, 0x2010), *range(0x2028, 0x2030),
        0x205F, *range(0x2060, 0x206A), 0x3000,
    )
)  # fmt: skip
_DECIMAL = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)"
_WHOLE = r"[+-]?[0-9]+(\.0*)?"
_ISO_DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ISO = _ISO_DAY + r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?)?"
_OFFSET = r"\s*(Z|UTC|[+-](0[0-9]|1[0-4])(:?[0-5][0-9])?)"
_ISO_OFFSET = _ISO_DAY + r"[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?" + _OFFSET
_DAY_FIRST = r"[0-9]{1,2}[/.][0-9]{1,2}[/.][0-9]{4}( [0-9]{1,2}:[0-9]{2}(:[0-9]{2})?)?"

_WHOLE_TYPES = frozenset(
    ["TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"]
)
_LOCAL_TYPES = frozenset(["TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"])


class IncompatibleTypeError(ValueError):
    """A column's type can't hold what the contract wants, whatever its values are."""


@dataclass(frozen=True)
class Conversion:
    """One column of the contract, as SQL in steps that build upon each other, so that each is computed once.

    Attributes:
        received: over the file: the value as received, null where there is none. Named `received_name(column)`.
        prepared: over `received`: an intermediate value, named `prepared_name(column)`, or None where none is needed.
        value: over both: the typed value, null where there is none or it can't be read.
        can_fail: whether `value` may be null though `received` is not.
        wrong: what is wrong with a value that can't be read; never shows it.
        is_text: whether any text is taken as it is.
    """

    received: str
    prepared: str | None
    value: str
    can_fail: bool
    wrong: str
    is_text: bool = False


def missing(column: Column) -> Conversion:
    """A column that the file does not have: a typed null."""
    return Conversion("null", None, f"cast(null as {column.data_type})", False, "")


def received_name(column: Column) -> str:
    """How the value as received is called in SQL."""
    return identifier(f"received {column.name}")


def prepared_name(column: Column) -> str:
    """How the intermediate value is called in SQL."""
    return identifier(f"prepared {column.name}")


def convert(column: Column, expression: str, source_type: str, timezone: str) -> Conversion:
    """Build the SQL that reads `expression` as the contract's `column`.

    Args:
        expression: SQL of the column as received.
        source_type: its DuckDB type, as DESCRIBE writes it.
        timezone: the home's, in which local times are read.

    Raises:
        IncompatibleTypeError: no value of `source_type` can be read as `column.data_type`.
    """
    kind = kind_of(source_type)
    if kind == "null":
        return missing(column)
    wanted = column.data_type.partition("(")[0]
    received = received_name(column)
    prepared: str | None = None
    value: str | None
    if (kind, wanted) == ("text", "timestamp"):
        prepared, value = _wall_time(received), _instant_of_text(received, prepared_name(column), timezone)
    else:
        value = _CONVERTERS[wanted](received, kind, column.data_type, timezone)
    if value is None:
        raise IncompatibleTypeError(f"holds {source_type}, where {_expected(column.data_type)} is needed")
    if column.values:
        # The vocabulary is closed, so the case of its words carries nothing.
        value = f"case when lower({value}) in ({literals(column.values)}) then lower({value}) else {value} end"
    certain = (wanted == "varchar" and kind != "blob") or (kind, wanted) in _CERTAIN
    return Conversion(
        _received(expression, kind, is_key=column.required or column.one_value_per is not None),
        prepared,
        value,
        not certain,
        f"is not {_expected(column.data_type)}",
        kind == "text" and wanted == "varchar",
    )


# Conversions that give a value for every value: checking them again would cost a second conversion of each row.
_CERTAIN = frozenset(
    [
        ("boolean", "boolean"),
        ("date", "date"),
        ("date", "timestamp"),
        ("instant", "date"),
        ("instant", "timestamp"),
        ("local", "date"),
        ("local", "timestamp"),
    ]
)


def local_to_utc(wall: str, timezone: str) -> str:
    """SQL for the UTC wall time of a local wall time: the earlier instant if ambiguous, moved forward if skipped.

    DuckDB takes the later instant of an ambiguous time. A day earlier the offset is the one from before the change,
    so that instant plus 24 hours is the earlier one, if it shows the same wall time at all.
    """
    if timezone in ("UTC", "Etc/UTC"):
        return f"cast({wall} as timestamp)"
    zone = literal(timezone)
    earlier = f"timezone({zone}, {wall} - interval 1 day) + interval 24 hours"
    return (
        f"timezone('UTC', case when timezone({zone}, {earlier}) = {wall} then {earlier}"
        f" else timezone({zone}, {wall}) end)"
    )


def kind_of(source_type: str) -> str:
    """What a DuckDB type is, as far as conversion tells types apart."""
    if source_type in ("VARCHAR", "JSON", "UUID") or source_type.startswith("ENUM"):
        return "text"
    if source_type.endswith("]") or source_type.startswith(("STRUCT", "MAP", "UNION", "VARIANT")):
        return "nested"
    if source_type in _WHOLE_TYPES:
        return "whole"
    if source_type in ("FLOAT", "DOUBLE"):
        return "float"
    if source_type.startswith("DECIMAL"):
        return "decimal"
    if source_type in _LOCAL_TYPES:
        return "local"
    return {
        "BOOLEAN": "boolean",
        "DATE": "date",
        "TIMESTAMP WITH TIME ZONE": "instant",
        "BLOB": "blob",
        '"NULL"': "null",
    }.get(source_type, "other")


def _received(expression: str, kind: str, *, is_key: bool) -> str:
    if kind == "text":
        text = f"cast({expression} as varchar)"
        trimmed = f"trim({text}, {_SPACE})"
        if is_key:
            # Only text that is not all ASCII pays for the long list, which would double the time of a load.
            trimmed = (
                f"case when strlen({text}) = length({text}) then trim({text}, {_ASCII_SPACE})"
                f" else trim({text}, {_ANY_SPACE}) end"
            )
        return f"nullif({trimmed}, '')"
    if kind == "float":
        return f"case when isnan({expression}) then null else {expression} end"
    if kind == "local":
        return f"cast({expression} as timestamp)"
    return expression


def _as_text(received: str, kind: str, data_type: str, timezone: str) -> str:
    if kind == "text":
        return received
    if kind == "nested":
        return f"cast(to_json({received}) as varchar)"
    if kind == "blob":
        return f"nullif(trim(try(decode({received})), {_SPACE}), '')"
    if kind == "float":
        # A data frame with gaps holds whole numbers as floats: customer 13085.0 is customer 13085.
        whole = f"{received} = trunc({received}) and abs({received}) < 9007199254740992"
        return (
            f"case when {whole} then cast(cast({received} as bigint) as varchar) else cast({received} as varchar) end"
        )
    return f"cast({received} as varchar)"


def _as_boolean(received: str, kind: str, data_type: str, timezone: str) -> str | None:
    if kind == "boolean":
        return received
    if kind == "text":
        word = f"lower({received})"
        return f"case when {word} in ({literals(TRUE_WORDS)}) then true when {word} in ({literals(FALSE_WORDS)}) then false end"
    if kind in ("whole", "float", "decimal"):
        return f"case when {received} = 1 then true when {received} = 0 then false end"
    return None


def _as_number(received: str, kind: str, data_type: str, timezone: str) -> str | None:
    is_whole = not data_type.startswith("decimal")
    if kind == "text":
        pattern = _WHOLE if is_whole else _DECIMAL
        # try_cast alone would also take 1e3, 1_000 and, for whole numbers, 0x10 and the rounded 0.5.
        return (
            f"case when regexp_full_match({received}, {literal(pattern)}) then try_cast({received} as {data_type}) end"
        )
    if kind == "whole" or (kind == "decimal" and not is_whole) or (kind == "float" and not is_whole):
        return f"try_cast({received} as {data_type})"
    if kind in ("float", "decimal"):
        return f"case when {received} = trunc({received}) then try_cast({received} as {data_type}) end"
    return None


def _as_date(received: str, kind: str, data_type: str, timezone: str) -> str | None:
    if kind == "text":
        formats = f"[{literals(DAY_FIRST_FORMATS)}]"
        # The day as written: a birthday noted as midnight UTC must not become the day before in New York.
        return (
            f"case when regexp_full_match({received}, {literal(f'{_ISO}|{_ISO_OFFSET}')})"
            f" then try_cast(left({received}, 10) as date)"
            f" when regexp_full_match({received}, {literal(_DAY_FIRST)})"
            f" then cast(try_strptime(split_part({received}, ' ', 1), {formats}) as date) end"
        )
    if kind in ("date", "local"):
        return f"cast({received} as date)"
    if kind == "instant":
        return f"cast(timezone({literal(timezone)}, {received}) as date)"
    return None


def _as_instant(received: str, kind: str, data_type: str, timezone: str) -> str | None:
    if kind == "local":
        return local_to_utc(received, timezone)
    if kind == "instant":
        return f"timezone('UTC', {received})"
    if kind == "date":
        return local_to_utc(f"cast({received} as timestamp)", timezone)
    return None


def _wall_time(received: str) -> str:
    formats = literals(day + time for day in DAY_FIRST_FORMATS for time in TIME_FORMATS)
    return (
        f"case when regexp_full_match({received}, {literal(_ISO)}) then try_cast({received} as timestamp)"
        f" when regexp_full_match({received}, {literal(_DAY_FIRST)}) then try_strptime({received}, [{formats}]) end"
    )


def _instant_of_text(received: str, wall: str, timezone: str) -> str:
    signed = f"regexp_replace({received}, '\\s*(Z|UTC)$', '+00')"
    closed_up = f"regexp_replace({signed}, '\\s+([+-])', '\\1')"
    return (
        f"case when {wall} is not null then {local_to_utc(wall, timezone)}"
        f" when regexp_full_match({received}, {literal(_ISO_OFFSET)})"
        f" then timezone('UTC', try_cast({closed_up} as timestamptz)) end"
    )


_CONVERTERS: dict[str, Callable[[str, str, str, str], str | None]] = {
    "varchar": _as_text,
    "boolean": _as_boolean,
    "integer": _as_number,
    "bigint": _as_number,
    "decimal": _as_number,
    "date": _as_date,
    "timestamp": _as_instant,
}


def _expected(data_type: str) -> str:
    if match := re.fullmatch(r"decimal\((\d+),(\d+)\)", data_type):
        whole = int(match[1]) - int(match[2])
        return f"a plain number such as 1234.50, of at most {whole} digits before the point"
    return {
        "varchar": "readable text",
        "integer": "a whole number within 32 bits",
        "bigint": "a whole number within 64 bits",
        "boolean": f"one of {', '.join(TRUE_WORDS + FALSE_WORDS)}",
        "date": "a date that exists, written 2011-12-09, 09/12/2011 or 09.12.2011 (day first)",
        "timestamp": "a time that exists, written 2011-12-09 08:26:00 (with or without an offset), 09/12/2011 08:26 or"
        " 09.12.2011 08:26 (day first)",
    }[data_type]
