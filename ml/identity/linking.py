"""Score candidate pairs with a trained model: all of them, or only those of new records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ml.identity import blocking
from ml.identity.keys import Prepared
from ml.identity.model import FLOOR, IdentityModel, count_values, linker, workspace

if TYPE_CHECKING:
    import duckdb


def score(
    connection: duckdb.DuckDBPyConnection,
    prepared: Prepared,
    model: IdentityModel,
    *,
    new: str | None = None,
    out: str,
) -> None:
    """Make the table `out` of pairs worth keeping.

    `out` has record_l < record_r, match_weight (bits), match_probability, and agreed: the person columns that agree.

    Args:
        prepared: all records; it needs the keys of every column that the model compares.
        new: table with `record_id` of the new records: then only pairs of a new record with any other are scored. Term
            frequencies are those of all records.
    """
    connection.execute(
        f"create or replace table {out} as select record_id as record_l, record_id as record_r,"
        f" 0::double as match_weight, 0::double as match_probability, []::varchar[] as agreed from {prepared.table} limit 0"
    )
    if not model.rules or not model.settings["comparisons"]:
        return
    with workspace(connection) as work:
        [(database, schema)] = connection.execute(
            "select database_name, schema_name from duckdb_tables() where table_name = ? and not internal", [out]
        ).fetchall()
        target = f'"{database}"."{schema}".{out}'
        blocking.add_keys(connection, prepared.table, model.rules, out=f"{work}.keyed")
        if new is not None:
            connection.execute(
                f"create or replace table {work}.fresh as select * from {work}.keyed"
                f" where record_id in (select record_id from {new})"
            )
        connection.execute(f"use {work}")
        splink, api = linker(connection, "keyed", model.settings)
        count_values(connection, splink, api, model.frequencies)
        if new is None:
            predicted = splink.inference.predict(threshold_match_weight=FLOOR, warning_mode="never")
            distinct, where = "", ""
        else:
            predicted = splink.inference.predict_between(
                api.register("fresh"), api.register("keyed"), threshold_match_weight=FLOOR, warning_mode="never"
            )
            distinct, where = "distinct", "where record_id_l <> record_id_r"
        connection.execute(
            f"insert into {target} select {distinct} least(record_id_l, record_id_r), greatest(record_id_l, record_id_r),"
            f" match_weight, match_probability, {_agreed(model)} from {predicted.physical_name} {where}"
        )


def _agreed(model: IdentityModel) -> str:
    """SQL: the person columns that agree in a pair, told by the weights of its levels."""
    parts = []
    for comparison in model.settings["comparisons"]:
        name = comparison["output_column_name"]
        levels = [level for level in comparison["comparison_levels"] if not level.get("is_null_level")]
        whens = []
        for level, columns in zip(levels, model.agreements[name], strict=True):
            if columns:
                ratio = level["m_probability"] / level["u_probability"]
                whens.append(f"when abs(mw_{name} - log2({ratio!r})) < 1e-9 then {list(columns)!r}")
        if whens:
            parts.append(f"case {' '.join(whens)} else [] end")
    return f"list_sort(list_distinct(flatten([{', '.join(parts)}])))" if parts else "[]::varchar[]"
