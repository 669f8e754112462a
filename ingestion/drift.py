"""Schema drift: how the columns of a delivery differ from the contract and from the deliveries before it.

Found from names and profiles before a row is taken in. What loses data has severity `warning`, what a person may want to
know `note`; what would reject (nearly) every row, or makes the table impossible to read, is an error that stops the table.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from core.contract import Column, Table
from ingestion.profiles import (
    CODE,
    COMMA,
    DATE,
    GROUPED,
    POINT,
    POINTS,
    SLASHES,
    TELLING,
    TEXT,
    TIME,
    WHOLE,
    ColumnProfile,
)

Severity = Literal["warning", "note"]
Kind = Literal["new", "missing", "renamed", "retyped", "emptied"]

ALIKE = 0.85  # likeness from which a column is taken for another's successor by its values alone
RECENT = 3  # deliveries that a column must have been in to be missed

_READABLE = {
    "decimal": {WHOLE, POINT},
    "integer": {WHOLE, POINT},
    "bigint": {WHOLE, POINT},
    "date": {DATE, TIME, SLASHES, POINTS},
    "timestamp": {DATE, TIME, SLASHES, POINTS},
}
# Forms that turn into each other from one day's values to the next.
_NUMBERS, _LOOSE = {WHOLE, POINT}, {CODE, TEXT, WHOLE}


@dataclass(frozen=True)
class Change:
    """One way in which a delivery's columns differ from before.

    Attributes:
        column: the contract's column that it concerns; for a new column its name in the file.
        said: for people; holds no values.
    """

    severity: Severity
    kind: Kind
    column: str
    said: str


@dataclass(frozen=True)
class Rename:
    """A column of the file that looks like one of the contract's under another name."""

    column: str
    found: str
    evidence: str

    def option(self, table: Table) -> str:
        """The option of `mailwright load` that reads it all the same."""
        said = f"{table.name}.{self.found}={self.column}"
        return f"--rename {said}" if re.fullmatch(r"[\w.=-]+", said) else f"--rename '{said}'"


def renames(
    absent: Iterable[Column],
    unknown: Sequence[ColumnProfile],
    history: Sequence[Sequence[ColumnProfile]],
) -> dict[str, Rename]:
    """For each column that a file lacks, the unknown one that looks most like it, if one does.

    By name: the same letters, nearly the same, or one name within the other. By values: as they were in the newest
    delivery that had the column; then only a column that is new since, of telling forms, and without a rival.

    Args:
        history: the columns of earlier deliveries, newest first.
    """
    found: dict[str, Rename] = {}
    free = {column.name: column for column in unknown}
    wanted = list(absent)
    for column in wanted:
        if near := _nearest(column.name, list(free)):
            before = _last(column.name, history)
            alike = before is not None and free[near].likeness(before) >= ALIKE
            found[column.name] = Rename(column.name, near, "by its name and its values" if alike else "by its name")
            del free[near]
    known = {column.name for columns in history for column in columns}
    new = [column for column in free.values() if column.name not in known]
    lost = [column for column in wanted if column.name not in found]
    for column in lost:
        before = _last(column.name, history)
        if before is None:
            continue
        alike_ones = [candidate for candidate in new if _is_alike(candidate, before, alone=len(lost) == len(new) == 1)]
        if len(alike_ones) == 1:
            found[column.name] = Rename(column.name, alike_ones[0].name, "by its values")
            new.remove(alike_ones[0])
    return found


def changes(
    table: Table,
    file_name: str,
    found: Sequence[ColumnProfile],
    names: Mapping[str, str],
    history: Sequence[Sequence[ColumnProfile]],
) -> list[Change]:
    """What changed in one file against the contract and the deliveries before it.

    Args:
        found: the profiles of the file's columns.
        names: name in the file, by column of the contract.
        history: the columns of earlier deliveries, newest first; empty when there are none.
    """
    unknown = [column for column in found if column.read_as is None]
    absent = [column for column in table.columns if column.name not in names]
    said: list[Change] = []
    renamed = renames([column for column in absent if not column.required], unknown, history)
    for rename in renamed.values():
        said.append(
            Change(
                "warning",
                "renamed",
                rename.column,
                f"{file_name}: column {rename.column} is missing; {rename.found!r} looks like it, renamed"
                f" ({rename.evidence}). Its values are not read: rename it back and deliver it again, or load it with"
                f" {rename.option(table)}",
            )
        )
    for column in absent:
        if column.name not in renamed and _was_used(column.name, history):
            said.append(
                Change(
                    "warning",
                    "missing",
                    column.name,
                    f"{file_name}: column {column.name}, which earlier deliveries had, is missing: it has no values now",
                )
            )
    taken = {rename.found for rename in renamed.values()}
    before = {column.name for columns in history for column in columns}
    for profile in unknown:
        if history and profile.name not in before and profile.name not in taken:
            form = f" ({profile.form})" if profile.form else ""
            said.append(
                Change("note", "new", profile.name, f"{file_name}: column {profile.name}{form} is new; it was left out")
            )
    by_name = {column.read_as: column for column in found if column.read_as}
    for column in table.columns:
        profile_now, profile_before = by_name.get(column.name), _last(column.name, history)
        if profile_now is not None and profile_before is not None:
            said += _retyped(column, file_name, profile_now, profile_before)
    return said


def _retyped(column: Column, file_name: str, now: ColumnProfile, before: ColumnProfile) -> list[Change]:
    if now.rows and not now.filled and before.filled > before.rows / 2:
        return [
            Change(
                "warning",
                "emptied",
                column.name,
                f"{file_name}: column {column.name} is empty; in earlier deliveries it mostly had values",
            )
        ]
    form, was = now.form, before.form
    if form is None or was is None or form == was or {form, was} <= _NUMBERS or {form, was} <= _LOOSE:
        return []
    wanted = column.data_type.partition("(")[0]
    if wanted == "varchar" and not {form, was} & (TELLING - {POINT, GROUPED, COMMA}):
        return []
    readable = wanted not in _READABLE or form in _READABLE[wanted]
    return [
        Change(
            "note" if readable and wanted != "varchar" else "warning",
            "retyped",
            column.name,
            f"{file_name}: column {column.name} holds {form} now; in earlier deliveries it held {was}"
            + ("" if readable else f", and as {column.data_type} they can't be read"),
        )
    ]


def _is_alike(candidate: ColumnProfile, before: ColumnProfile, *, alone: bool) -> bool:
    return candidate.likeness(before) >= ALIKE and (alone or before.form in TELLING)


def _last(column: str, history: Sequence[Sequence[ColumnProfile]]) -> ColumnProfile | None:
    """The newest profile of a column of the contract that had values."""
    for columns in history:
        for profile in columns:
            if profile.read_as == column and profile.filled:
                return profile
    return None


def _was_used(column: str, history: Sequence[Sequence[ColumnProfile]]) -> bool:
    """Whether each of the recent deliveries had values in the column."""
    recent = history[:RECENT]
    return bool(recent) and all(any(p.read_as == column and p.filled for p in columns) for columns in recent)


def _nearest(column: str, candidates: Sequence[str]) -> str | None:
    """The candidate that by its name is most likely meant, if one is near."""
    by_letters = {_letters(candidate): candidate for candidate in reversed(candidates)}
    wanted = _letters(column)
    if wanted in by_letters:
        return by_letters[wanted]
    if near := difflib.get_close_matches(wanted, list(by_letters), n=1, cutoff=0.75):
        return by_letters[near[0]]
    within = [said for said in by_letters if len(wanted) >= 4 and len(said) >= 4 and (wanted in said or said in wanted)]
    return by_letters[within[0]] if len(within) == 1 else None


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
