"""Pairs that can't be one person, whatever else agrees: members of a household who share an email or an address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ml.identity import comparisons as compare
from ml.identity.keys import Prepared

if TYPE_CHECKING:
    import duckdb

OTHER_GIVEN_NAME = "other given name"


def conflicts(connection: duckdb.DuckDBPyConnection, prepared: Prepared, pairs: str, *, out: str) -> None:
    """Make the table `out` (record_l, record_r, reason) of those `pairs` that can't be one person.

    Both have given names, which are no spelling, nickname, initial or swap of each other, and neither the birth date
    nor a personal identifier agrees. The conditions are those of the comparisons' levels.

    Args:
        pairs: table (record_l, record_r).
    """
    chosen = compare.compare(prepared.columns)
    given = next((comparison for comparison in chosen if comparison.name == "given_name"), None)
    if given is None:
        connection.execute(
            f"create or replace table {out} as select record_l, record_r, ''::varchar as reason from {pairs} limit 0"
        )
        return
    alike = " or ".join(f"({level.condition})" for level in given.levels if level.condition != "else")
    agreeing = [
        f"({level.condition})"
        for comparison in chosen
        if comparison.name == "date_of_birth" or comparison.name.startswith("id_")
        for level in comparison.levels
        if level.agrees
    ]
    described = connection.execute(f"describe {prepared.table}").fetchall()
    keys = [row[0] for row in described if row[0] not in ("record_id", "source")]
    sides = ", ".join(f"{side}.{key} as {key}_{side}" for key in keys for side in ("l", "r"))
    connection.execute(
        f"""
        create or replace table {out} as
        with sides as (
            select pairs.record_l, pairs.record_r, {sides}
            from {pairs} as pairs
            inner join {prepared.table} as l on l.record_id = pairs.record_l
            inner join {prepared.table} as r on r.record_id = pairs.record_r
        )
        select record_l, record_r, '{OTHER_GIVEN_NAME}' as reason
        from sides
        where not ({given.nothing}) and not coalesce({alike}, false)
            and not coalesce({" or ".join(agreeing) or "false"}, false)
        """
    )
