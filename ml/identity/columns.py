"""The columns of a person that linking knows, and how a file's own columns are mapped onto them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from core.errors import MailwrightError

PERSON_COLUMNS: tuple[str, ...] = (
    "given_name",
    "surname",
    "full_name",
    "date_of_birth",
    "gender",
    "email",
    "phone",
    "address",
    "city",
    "region",
    "postal_code",
    "country",
    "occupation",
)
IDENTIFIER = "identifier:"
"""Prefix of a number or code that belongs to one person: `identifier:passport`, `identifier:loyalty_card`."""


class ColumnsError(MailwrightError):
    """A column is asked for that is not there, or of a kind that linking does not know. Recovery: name another."""


def parse_columns(text: str) -> dict[str, tuple[str, ...]]:
    """Read a mapping as the command line takes it.

    Args:
        text: `given_name=first,address=street_number+address_1`: person column = column of the file, `+` joins several.

    Raises:
        ColumnsError: it is no such mapping, or names a person column twice.
    """
    parsed: dict[str, tuple[str, ...]] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, columns = part.partition("=")
        name = name.strip()
        if name in parsed:
            raise ColumnsError(f"{name} is given twice; join columns with '+', as in {name}=first+second")
        parsed[name] = tuple(column.strip() for column in (columns if equals else name).split("+"))
    check_columns(parsed)
    return parsed


def check_columns(columns: Mapping[str, Sequence[str]]) -> None:
    """Make sure that linking knows each person column, and that each says what it is read from.

    Raises:
        ColumnsError: names what is wrong, and what there is to choose from.
    """
    if not columns:
        raise ColumnsError("No columns to compare: give at least one of " + ", ".join(PERSON_COLUMNS))
    unknown = [name for name in columns if not _is_known(name)]
    if unknown:
        raise ColumnsError(
            f"Unknown person columns {', '.join(unknown)}: there are {', '.join(PERSON_COLUMNS)} and {IDENTIFIER}<name>"
        )
    empty = [name for name, sources in columns.items() if not all(sources)]
    if empty:
        raise ColumnsError(f"No column is named for {', '.join(empty)}: write {empty[0]}=<column of the file>")


def check_available(wanted: Iterable[Sequence[str]], available: Iterable[str]) -> None:
    """Make sure that the data have the columns that are wanted.

    Raises:
        ColumnsError: names those that are missing, and those that there are.
    """
    there = list(available)
    missing = dict.fromkeys(column for group in wanted for column in group if column not in there)
    if missing:
        raise ColumnsError(f"There is no column {', '.join(missing)}. There are {', '.join(there)}")


def _is_known(name: str) -> bool:
    return name in PERSON_COLUMNS or bool(re.fullmatch(rf"{IDENTIFIER}\w[\w .-]*", name))


def is_identifier(name: str) -> bool:
    """Whether a person column is an `identifier:<name>`."""
    return name.startswith(IDENTIFIER)


def identifier_key(name: str) -> str:
    """The comparison column of an `identifier:<name>`."""
    return "id_" + re.sub(r"\W", "_", name.removeprefix(IDENTIFIER)).lower()
