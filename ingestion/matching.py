"""Which column of a file is which column of the contract. Names are compared trimmed and without regard to case."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.contract import Table
from core.errors import DeliveryError

LONGEST_LIST = 40


@dataclass(frozen=True)
class Matches:
    """Result of matching one file.

    Attributes:
        names: name in the file, by column of the contract; columns that the file lacks are absent.
        unknown: names in the file that the contract does not have.
    """

    names: Mapping[str, str]
    unknown: tuple[str, ...]


def match(table: Table, file_name: str, found: Iterable[str], *, is_named: bool) -> Matches:
    """Match the columns of a file.

    Args:
        is_named: whether `found` are certainly names. If not, they are shown only where one of them is known: a CSV
            without a header would have its first customer shown.

    Raises:
        DeliveryError: a required column is missing, or a column occurs twice.
    """
    found = list(found)
    names: dict[str, str] = {}
    unknown: list[str] = []
    known = set(table.column_names)
    for name in found:
        folded = name.strip().casefold()
        if folded not in known:
            unknown.append(name)
        elif folded in names:
            raise DeliveryError(
                f"{file_name} has the column {folded} twice (as {names[folded]!r} and {name!r}): leave one out and deliver"
                " it again"
            )
        else:
            names[folded] = name
    if absent := [column.name for column in table.columns if column.required and column.name not in names]:
        what = "the required column" + ("s" if len(absent) > 1 else "")
        error = f"{file_name} lacks {what} {', '.join(absent)}"
        if not is_named and not names:
            raise DeliveryError(
                f"{error}: none of the {len(found)} names on its first line is a column of {table.full_name}; the first"
                " line must name the columns"
            )
        renames = [f"{near!r} to {column}" for column in absent if (near := _nearest(column, unknown))]
        advice = f"rename {', '.join(renames)}" if renames else f"add {'it' if len(absent) == 1 else 'them'}"
        raise DeliveryError(f"{error}: {advice} and deliver it again. Columns found: {shown(found)}")
    return Matches(names, tuple(unknown))


def shown(names: Iterable[str]) -> str:
    """Names for people; a very long list is cut."""
    names = list(names)
    more = f" and {len(names) - LONGEST_LIST} more" if len(names) > LONGEST_LIST else ""
    return ", ".join(names[:LONGEST_LIST]) + more


def _nearest(column: str, candidates: list[str]) -> str | None:
    """The candidate that most likely is meant, if one is near."""
    by_letters = {_letters(candidate): candidate for candidate in reversed(candidates)}
    if _letters(column) in by_letters:
        return by_letters[_letters(column)]
    near = difflib.get_close_matches(_letters(column), list(by_letters), n=1, cutoff=0.75)
    return by_letters[near[0]] if near else None


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
