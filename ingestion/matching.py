"""Which column of a file is which column of the contract. Names are compared trimmed and without regard to case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from core.contract import Column, Table
from core.errors import DeliveryError
from ingestion.drift import Rename

LONGEST_LIST = 40


@dataclass(frozen=True)
class Matches:
    """Result of matching one file.

    Attributes:
        names: name in the file, by column of the contract; columns that the file lacks are absent.
        unknown: names in the file that the contract does not have.
        lacking: required columns that the file lacks.
    """

    names: Mapping[str, str]
    unknown: tuple[str, ...]
    lacking: tuple[Column, ...]


def match(
    table: Table, file_name: str, found: Iterable[str], *, is_named: bool, renames: Mapping[str, str] | None = None
) -> Matches:
    """Match the columns of a file.

    Args:
        is_named: whether `found` are certainly names. If not, they are shown only where one of them is known: a CSV
            without a header would have its first customer shown.
        renames: column of the contract, by the name that it has in the file.

    Raises:
        DeliveryError: a column occurs twice, a rename can't be obeyed, or nothing looks like a header.
    """
    found = list(found)
    renamed = _renamed(table, file_name, found, renames or {})
    names: dict[str, str] = {}
    unknown: list[str] = []
    known = set(table.column_names)
    for name in found:
        folded = _folded(name)
        column = renamed.get(folded, folded)
        if column not in known:
            unknown.append(name)
        elif column in names:
            raise DeliveryError(
                f"{file_name} has the column {column} twice (as {names[column]!r} and {name!r}): leave one out and deliver"
                " it again"
            )
        else:
            names[column] = name
    lacking = tuple(column for column in table.columns if column.required and column.name not in names)
    if lacking and not is_named and not names:
        raise DeliveryError(
            f"{_lacks(file_name, lacking)}: none of the {len(found)} names on its first line is a column of"
            f" {table.full_name}; the first line must name the columns"
        )
    return Matches(names, tuple(unknown), lacking)


def lacking_columns(
    table: Table, file_name: str, found: Iterable[str], lacking: Sequence[Column], renames: Mapping[str, Rename]
) -> DeliveryError:
    """The error for a file that lacks required columns.

    Args:
        renames: columns of the file that look like one of those lacking.
    """
    advice = f"add {'it' if len(lacking) == 1 else 'them'} and deliver it again"
    if renames:
        looks = ", ".join(f"{said.found!r} looks like {said.column} ({said.evidence})" for said in renames.values())
        what = ", ".join(f"{said.found!r} to {said.column}" for said in renames.values())
        options = " ".join(said.option(table) for said in renames.values())
        advice = f"{looks}: rename {what} and deliver it again, or load it with {options}"
    return DeliveryError(f"{_lacks(file_name, lacking)}: {advice}. Columns found: {shown(found)}")


def parse_renames(pairs: Sequence[str]) -> dict[str, dict[str, str]]:
    """Read `--rename TABLE.NAME_IN_FILE=COLUMN` arguments: for each table, column of the contract by name in the file.

    Raises:
        DeliveryError: an argument is none of these.
    """
    found: dict[str, dict[str, str]] = {}
    for pair in pairs:
        where, equals, column = pair.rpartition("=")
        table, dot, name = where.partition(".")
        if not (equals and dot and table and name.strip() and column.strip()):
            raise DeliveryError(f"{pair!r} is not TABLE.NAME_IN_FILE=COLUMN, for example contacts.e_mail=email")
        found.setdefault(table.strip(), {})[name.strip()] = column.strip()
    return found


def shown(names: Iterable[str]) -> str:
    """Names for people; a very long list is cut, and so is a very long name."""
    names = [name if len(name) <= 100 else f"{name[:100]}..." for name in names]
    more = f" and {len(names) - LONGEST_LIST} more" if len(names) > LONGEST_LIST else ""
    return ", ".join(names[:LONGEST_LIST]) + more


def _renamed(table: Table, file_name: str, found: Sequence[str], renames: Mapping[str, str]) -> dict[str, str]:
    """Column of the contract by folded name in the file."""
    present = {_folded(name) for name in found}
    said: dict[str, str] = {}
    for name, column in renames.items():
        if column not in table.column_names:
            raise DeliveryError(f"{name} can't be read as {column}: {table.full_name} has no such column")
        if _folded(name) not in present and column not in present:
            raise DeliveryError(
                f"{file_name} has no column {name} that could be read as {column}. Columns found: {shown(found)}"
            )
        said[_folded(name)] = column
    return said


def _lacks(file_name: str, lacking: Sequence[Column]) -> str:
    plural = "s" if len(lacking) > 1 else ""
    return f"{file_name} lacks the required column{plural} {', '.join(column.name for column in lacking)}"


def _folded(name: str) -> str:
    return name.strip().casefold()
