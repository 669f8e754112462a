"""Whether the manifest tells the truth: rows read = accepted + superseded + rejected + erased, against the files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.contract import load_contract
from core.errors import ContractError
from core.home import Home
from ingestion import manifest, storage, superseding
from ingestion.manifest import DeliveryRow
from ingestion.sql import literal

if TYPE_CHECKING:
    import duckdb


def check(home: Home, *, thorough: bool = True) -> list[str]:
    """Compare the manifest with the files of the lake.

    Args:
        thorough: also count the superseded rows again from their definition, which reads the keys of everything.

    Returns:
        One line for each thing that is wrong; empty when all is well.
    """
    import duckdb

    rows = manifest.read(home)
    with duckdb.connect() as connection:
        problems = [problem for row in rows for problem in _check_delivery(connection, home, row)]
        if thorough and not problems:
            problems = _check_superseded(connection, home, rows)
    return problems


def _check_delivery(connection: duckdb.DuckDBPyConnection, home: Home, row: DeliveryRow) -> list[str]:
    import duckdb

    name = f"{row.source}.{row.table_name} in delivery {row.delivery_id}"
    problems = []
    told = row.rows_accepted + row.rows_superseded + row.rows_rejected + row.rows_erased
    if row.rows_read != told:
        problems.append(
            f"{name}: {row.rows_read} rows were read, but accepted {row.rows_accepted} + superseded {row.rows_superseded}"
            f" + rejected {row.rows_rejected} + erased {row.rows_erased} are {told}"
        )
    areas = (
        ("accepted", storage.accepted_file, row.rows_accepted + row.rows_superseded, True),
        ("quarantine", storage.quarantine_file, row.rows_rejected, row.rows_rejected > 0),
    )
    for area, locate, expected, must_exist in areas:
        path = locate(home, row.source, row.table_name, row.delivery_id)
        if not path.exists():
            if must_exist:
                problems.append(f"{name}: the {area} file {path} is gone")
            continue
        try:
            counted = connection.execute(f"select num_rows from parquet_file_metadata({literal(path)})").fetchone()
        except duckdb.Error as error:
            problems.append(f"{name}: the {area} file {path} can't be read ({type(error).__name__})")
            continue
        if counted != (expected,):
            problems.append(
                f"{name}: the {area} file holds {counted and counted[0]} rows, the manifest says {expected}"
            )
    folder = storage.raw_folder(home, row.source, row.table_name, row.delivery_id)
    problems += [
        f"{name}: the raw file {folder / file} is gone" for file in row.file_names if not (folder / file).exists()
    ]
    return problems


def _check_superseded(connection: duckdb.DuckDBPyConnection, home: Home, rows: list[DeliveryRow]) -> list[str]:
    problems = []
    for source, name in sorted({(row.source, row.table_name) for row in rows}):
        deliveries = {row.sequence: row for row in rows if (row.source, row.table_name) == (source, name)}
        try:
            table = load_contract().table(source, name)
        except ContractError as error:
            problems.append(f"{source}.{name} was delivered, but {error}")
            continue
        files = {s: storage.accepted_file(home, source, name, row.delivery_id) for s, row in deliveries.items()}
        for sequence, counted in superseding.recount(connection, table, files).items():
            row = deliveries[sequence]
            if counted != row.rows_superseded:
                problems.append(
                    f"{source}.{name} in delivery {row.delivery_id}: {counted} rows are superseded, the manifest says"
                    f" {row.rows_superseded}"
                )
    return problems
