"""The cells of rejected rows as text: as they were received, for a spreadsheet, and back from one."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from core.contract import Table
from core.home import Home
from ingestion import delimited, storage
from ingestion.manifest import DeliveryRow
from ingestion.reading import DELIMITED, PARQUET

# Columns of an export. The first two say which row it is.
DELIVERY, ROW = "quarantine_delivery", "quarantine_row"
REASON, STATE, FILE, FILE_ROW, LINE = (f"quarantine_{name}" for name in ("reason", "state", "file", "file_row", "line"))

# What is wrong with a row as a whole: its cells are not known, so it can only be repaired by hand.
_NO_CELLS = re.compile(
    r"its quotes are broken|holds a cell of more than .*|has \d+ cells where the header has \d+|repeats the header"
    r"|is no JSON object|has a key twice"
)
# What a spreadsheet would run or reckon with. A number is none of it.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?[0-9.,]+")


@dataclass(frozen=True)
class Rejected:
    """One row in quarantine.

    Attributes:
        file_row: its number in its file, from 1.
        raw_row: the row as received, as JSON.
    """

    delivery_id: str
    row_number: int
    file_name: str
    file_row: int | None
    reason: str
    raw_row: str
    state: str


def has_cells(row: Rejected) -> bool:
    """Whether its cells are known. A row that is wrong as a whole can only be repaired by hand."""
    return _NO_CELLS.fullmatch(row.reason) is None


def received(home: Home, table: Table, delivery: DeliveryRow, row: Rejected) -> dict[str, str | None]:
    """The cells of a rejected row as text, by column of the contract or, where that has none, by name in the file."""
    try:
        said = json.loads(row.raw_row, parse_float=_Number, parse_int=_Number, parse_constant=_Number)
    except (ValueError, RecursionError):  # a line that is no JSON, or nested beyond all reason
        return {LINE: row.raw_row}
    if not has_cells(row) and isinstance(said, dict):
        if "cells" in said:
            header = _header(home, table, delivery, row)
            cells = dict(
                zip((*header, *(f"extra_{n}" for n in range(1, len(said["cells"])))), said["cells"], strict=False)
            )
            return {_column(table, delivery, name): value for name, value in cells.items()}
        if "line" in said and len(said) == 1:
            return {LINE: str(said["line"])}
    if not isinstance(said, dict):
        return {LINE: row.raw_row}
    is_typed = row.file_name.lower().endswith(PARQUET)
    types = {column.name: column.data_type for column in table.columns}
    found: dict[str, str | None] = {}
    for name, value in said.items():
        column = _column(table, delivery, name)
        text = _as_cell(value)
        if text is not None and is_typed and isinstance(value, _Number) and types.get(column) == "varchar":
            # As the loader reads it: customer 13085.0 of a data frame is customer 13085.
            text = text.removesuffix(".0")
        found[column] = text
    return found


class _Number(str):
    """A number of a JSON text, as it was written."""

    __slots__ = ()


def _as_cell(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return str(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _column(table: Table, delivery: DeliveryRow, name: str) -> str:
    """The contract's column that a column of a file was read as, else its own name."""
    read_as = {column.name: column.read_as for column in delivery.columns}
    if known := read_as.get(name):
        return known
    folded = name.strip().casefold()
    return folded if folded in table.column_names else name


def _header(home: Home, table: Table, delivery: DeliveryRow, row: Rejected) -> tuple[str, ...]:
    path = storage.raw_folder(home, table.source, table.name, delivery.delivery_id) / row.file_name
    return delimited.header(path) if path.name.lower().removesuffix(".gz").endswith(DELIMITED) else ()


def disarmed(value: str | None) -> str | None:
    """A cell that no spreadsheet runs."""
    return f"'{value}" if value is not None and _is_formula(value) else value


def rearmed(value: str | None) -> str | None:
    """The cell that was disarmed."""
    return value[1:] if value is not None and value.startswith("'") and _is_formula(value) else value


def _is_formula(value: str) -> bool:
    return bool(_FORMULA.match(value)) and not _NUMBER.fullmatch(value)
