"""One table of a delivery: its rows typed, and each either accepted or quarantined with a reason.

One pass writes the rows that are right. Only where their number falls short of the rows in the files, or where a key
holds contradictory values, further passes find out which rows are wrong and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from core.contract import Column, Table
from core.errors import DeliveryError
from core.files import replacing
from ingestion import drift
from ingestion.conversion import (
    LONGEST_TEXT,
    Conversion,
    IncompatibleTypeError,
    convert,
    missing,
    prepared_name,
    received_name,
)
from ingestion.drift import Change
from ingestion.matching import Matches, lacking_columns, match, shown
from ingestion.profiles import SAMPLE_ROWS, ColumnProfile, merged, profile
from ingestion.reading import RawFile, damaged
from ingestion.sql import identifier, identifiers, literal, literals

if TYPE_CHECKING:
    import duckdb

# Of so many sampled values, such a share that can't be read makes a column hopeless.
ENOUGH_TO_JUDGE = 20
HOPELESS = 0.95

# What can be said in ISO 8601 and held by every tool that reads the lake.
CALENDAR = {
    "date": ("date '0001-01-01'", "date '9999-12-31'"),
    "timestamp": ("timestamp '0001-01-01'", "timestamp '9999-12-31 23:59:59.999999'"),
}

# Text compresses to two thirds of what the default (snappy) leaves, at the same speed of reading.
PARQUET_OPTIONS = "format parquet, compression zstd"


@dataclass(frozen=True)
class Taken:
    """What became of the rows of one table.

    Attributes:
        rows_read: rows in the files; stored + rejected.
        stored: rows in the accepted file.
        rejected: rows in the quarantine file, which exists only if there are any.
        columns: what the files' columns look like.
        changes: in what they differ from earlier deliveries.
    """

    rows_read: int
    stored: int
    rejected: int
    notices: tuple[str, ...]
    columns: tuple[ColumnProfile, ...] = ()
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Delivery:
    """What is known of the delivery that the rows of a table belong to.

    Attributes:
        received_at: naive, UTC.
        timezone: the home's.
        renames: column of the contract, by the name that it has in the files.
        history: the columns of the table's earlier deliveries, newest first.
        is_replay: whether the rows come back from quarantine. Such a file has the columns of the contract, all as text,
            and nothing can be told from how many of its rows are wrong.
        is_one_version: whether rows that share a key must agree, as the rows of one delivery must.
    """

    delivery_id: str
    received_at: datetime
    timezone: str
    renames: Mapping[str, str] = field(default_factory=dict)
    history: Sequence[Sequence[ColumnProfile]] = ()
    is_replay: bool = False
    is_one_version: bool = True


@dataclass(frozen=True)
class _Part:
    """One file, as SQL.

    Attributes:
        offset: rows in the files before it.
        typed: a query with the contract's columns, the values as received, `problem` and row_number.
        is_right, reasons: over `typed`: whether a row is accepted, and the list of what is wrong with it.
        present: columns of the contract that the file has.
        unreadable: for each column of the contract that may be impossible to read: SQL over `typed` that is true if so.
    """

    file: RawFile
    offset: int
    typed: str
    is_right: str
    reasons: str
    present: frozenset[str]
    unreadable: Mapping[str, str]


def take(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    delivery: Delivery,
    files: Sequence[RawFile],
    accepted: Path,
    quarantine: Path,
) -> Taken:
    """Check and type all rows of `files`; write `accepted` and, if rows are rejected, `quarantine`.

    Row numbers go on from file to file, so that delivery and row number name one row of the table.

    Raises:
        DeliveryError: a file lacks a required column, holds a column of an impossible type or of which (nearly) no value can
            be read, or turns out to be damaged.
    """
    import duckdb

    try:
        return _take(connection, table, delivery, files, accepted, quarantine)
    except duckdb.OutOfMemoryException:
        raise DeliveryError(
            f"{table.full_name} needs more memory than DuckDB may use: raise MAILWRIGHT_MEMORY_LIMIT and load it again"
        ) from None
    except duckdb.Error as error:
        for file in files:
            if not _is_readable(connection, file):
                raise damaged(file.name) from None
        raise DeliveryError(
            f"{table.full_name} can't be loaded ({type(error).__name__} in DuckDB): deliver it in another format, and"
            " report this as a defect of the loader"
        ) from error


def _take(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    delivery: Delivery,
    files: Sequence[RawFile],
    accepted: Path,
    quarantine: Path,
) -> Taken:
    notices: list[str] = []
    parts: list[_Part] = []
    columns: list[list[ColumnProfile]] = []
    changes: list[Change] = []
    rows_read = 0
    for file in files:
        matches = match(table, file.name, file.names, is_named=file.is_named, renames=delivery.renames)
        found = [] if delivery.is_replay else profile(connection, file, matches.names)
        _refuse_lacking(table, file, matches, found, delivery)
        columns.append(found)
        if not delivery.is_replay:
            changes += drift.changes(table, file.name, found, matches.names, delivery.history)
        if matches.unknown:
            notices.append(
                f"{file.name}: columns that the contract does not have were left out: {shown(matches.unknown)}"
            )
        if not file.rows:
            notices.append(f"{file.name} holds no rows")
        conversions = _conversions(connection, table, file, matches.names, delivery.timezone)
        part = _part(table, file, rows_read, conversions, frozenset(matches.names))
        _refuse_unreadable(connection, table, part, found, delivery)
        parts.append(part)
        rows_read += file.rows
    with replacing(accepted) as target:
        stored = _store(connection, table, parts, delivery.delivery_id, target)
        if stored < rows_read and not delivery.is_replay:
            _refuse_month_first(connection, table, parts)
        rejected = _find_rejects(
            connection, table, parts, target, is_short=stored < rows_read, must_agree=delivery.is_one_version
        )
        if rejected:
            stored = _drop_rejects(connection, target)
            notices.append(_most_common_reasons(connection, rejected))
        if stored + rejected != rows_read:
            raise DeliveryError(
                f"{table.full_name}: {rows_read} rows were counted in the files, but {stored} were accepted and {rejected}"
                " rejected: nothing was taken in; this is a defect of the loader"
            )
        if table.delivery_mode == "snapshot" and not stored and not delivery.is_replay:
            raise DeliveryError(
                f"{table.full_name} is delivered as a whole, and not one row of this delivery can be accepted, which would"
                f" empty it: {'; '.join(notices)}"
            )
        if rejected:
            _quarantine(connection, parts, delivery.delivery_id, quarantine)
        notices += _enumeration_notices(connection, table, parts, target)
        notices += _far_times(connection, table, delivery, target)
    said = dict.fromkeys(changes)
    return Taken(
        rows_read,
        stored,
        rejected,
        (*(change.said for change in said), *notices),
        merged(columns),
        tuple(said),
    )


def _refuse_lacking(
    table: Table, file: RawFile, matches: Matches, found: Sequence[ColumnProfile], delivery: Delivery
) -> None:
    if matches.lacking:
        unknown = [column for column in found if column.read_as is None]
        renames = drift.renames(matches.lacking, unknown, delivery.history)
        raise lacking_columns(table, file.name, file.names, matches.lacking, renames)


def _refuse_unreadable(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    part: _Part,
    found: Sequence[ColumnProfile],
    delivery: Delivery,
) -> None:
    """Stop at a column of which nearly no value can be read: it would put nearly every row into quarantine."""
    if part.file.rows < ENOUGH_TO_JUDGE:
        return
    filled = {column.read_as: column for column in found if column.read_as and column.filled >= ENOUGH_TO_JUDGE}
    suspects = {name: is_wrong for name, is_wrong in part.unreadable.items() if name in filled}
    if not suspects:
        return
    # Only what is suspect is converted; all columns would cost several times as much.
    counts = ", ".join(f"count(*) filter ({is_wrong})" for is_wrong in suspects.values())
    sample = f"select * from ({part.typed}) where row_number <= {part.offset + SAMPLE_ROWS}"
    wrong = connection.execute(f"select {counts} from ({sample})").fetchone() or ()
    for name, rows in zip(suspects, wrong, strict=True):
        profiled = filled[name]
        if rows >= HOPELESS * profiled.filled:
            column = next(column for column in table.columns if column.name == name)
            was = next((p.form for columns in delivery.history for p in columns if p.read_as == name and p.form), None)
            raise DeliveryError(
                f"{part.file.name}: column {profiled.name} holds {profiled.form or 'mixed values'}"
                f"{f', where earlier deliveries held {was}' if was and was != profiled.form else ''}: of the first"
                f" {profiled.filled:,} values {rows:,} can't be read as {column.data_type}, so (nearly) every row would be"
                " rejected. Correct the export and deliver it again"
            )


def _refuse_month_first(connection: duckdb.DuckDBPyConnection, table: Table, parts: Sequence[_Part]) -> None:
    """Stop at dates that are month first: 03/04/2011 would be read as the 3rd of April, and nobody would notice."""
    slashes = literal(r"[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}( .*)?")
    for part in parts:
        for column in table.columns:
            if column.data_type not in CALENDAR or column.name not in part.unreadable:
                continue
            received = received_name(column)
            first, second = (f"cast(split_part({received}, '/', {place}) as integer)" for place in (1, 2))
            counted = connection.execute(
                f"""
                select
                    count(*) filter ({first} <= 12 and {second} between 13 and 31),
                    count(*) filter ({second} <= 12 and {first} between 13 and 31)
                from (
                    select {received} from ({part.typed}) where regexp_full_match(cast({received} as varchar), {slashes})
                )
                """
            ).fetchone()
            month_first, day_first = counted or (0, 0)
            if month_first > day_first:
                raise DeliveryError(
                    f"{part.file.name}: column {column.name} is written month first, as 12/31/2011, in {month_first:,}"
                    f" row{'s' if month_first > 1 else ''}, so that 03/04/2011 can't be told from 4 March: write dates as"
                    " 2011-12-09 and deliver it again"
                )


def _conversions(
    connection: duckdb.DuckDBPyConnection, table: Table, file: RawFile, names: Mapping[str, str], timezone: str
) -> dict[str, Conversion]:
    found: dict[str, Conversion] = {}
    for column in table.columns:
        name = names.get(column.name)
        if name is None:
            found[column.name] = missing(column)
            continue
        try:
            found[column.name] = convert(column, file.expressions[name], file.types[name], timezone)
        except IncompatibleTypeError as error:
            # A column without any value has whatever type its writer happened to give it.
            if connection.execute(f"select count({file.expressions[name]}) from {file.relation}").fetchone() != (0,):
                raise DeliveryError(
                    f"{file.name}: column {name} {error}: change its type and deliver it again"
                ) from None
            found[column.name] = missing(column)
    return found


def _part(
    table: Table, file: RawFile, offset: int, conversions: Mapping[str, Conversion], present: frozenset[str]
) -> _Part:
    received, prepared, values = [], [], []
    right, reasons = [], []
    unreadable: dict[str, str] = {}
    if file.problem:
        right.append("problem is null")
        reasons.append("problem")
    for column in table.columns:
        conversion, name = conversions[column.name], identifier(column.name)
        received.append(f"{conversion.received} as {received_name(column)}")
        if conversion.prepared:
            prepared.append(f"{conversion.prepared} as {prepared_name(column)}")
        values.append(f"cast({conversion.value} as {column.data_type}) as {name}")
        if conversion.can_fail and not conversion.is_text:
            unreadable[column.name] = f"{received_name(column)} is not null and {name} is null"
        for is_wrong, reason in _checks(column, conversion):
            right.append(f"not coalesce({is_wrong}, false)")
            reasons.append(f"case when {is_wrong} then {literal(f'{column.name} {reason}')} end")
    typed = f"""
        select
            {", ".join(values)}, {", ".join(received_name(column) for column in table.columns)}, problem,
            file_row_number + {offset + 1} as row_number
        from (
            select {", ".join(["*", *prepared])}
            from (
                select {", ".join(received)}, {file.problem or "cast(null as varchar)"} as problem, file_row_number
                from {file.relation}
            )
        )
    """
    return _Part(
        file=file,
        offset=offset,
        typed=typed,
        is_right=" and ".join(right) or "true",
        reasons=f"[{', '.join(reasons)}]" if reasons else "[]",
        present=present,
        unreadable=unreadable,
    )


def _checks(column: Column, conversion: Conversion) -> list[tuple[str, str]]:
    """What may be wrong with a value: SQL that is true if it is, and what to call it. None of it holds the value."""
    name, received = identifier(column.name), received_name(column)
    checks = []
    if column.required:
        checks.append((f"{received} is null", "has no value"))
    if conversion.can_fail:
        checks.append((f"{received} is not null and {name} is null", conversion.wrong))
    if conversion.is_text:
        checks.append((f"contains({received}, chr(0))", "holds a null byte"))
        checks.append((f"strlen({received}) > {LONGEST_TEXT}", f"is longer than {LONGEST_TEXT:,} bytes"))
    if column.data_type in CALENDAR and conversion.wrong:
        first, last = CALENDAR[column.data_type]
        checks.append((f"{name} not between {first} and {last}", conversion.wrong))
    if column.required and column.values:
        checks.append((f"{name} not in ({literals(column.values)})", f"is not one of {', '.join(column.values)}"))
    return checks


def _store(
    connection: duckdb.DuckDBPyConnection, table: Table, parts: Sequence[_Part], delivery_id: str, target: Path
) -> int:
    """Write the rows that are right by themselves; their number."""
    rows = " union all ".join(
        f"select {identifiers(table.column_names)}, {literal(delivery_id)} as delivery_id, row_number"
        f" from ({part.typed}) where {part.is_right}"
        for part in parts
    )
    # Pushed down into the conversions, the filter would compute most of them twice: 4.3 s instead of 1.3 s for a million
    # web events.
    connection.execute("set disabled_optimizers = 'filter_pushdown'")
    try:
        return _count(connection, f"copy ({rows}) to {literal(target)} ({PARQUET_OPTIONS})")
    finally:
        connection.execute("reset disabled_optimizers")


def _find_rejects(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    parts: Sequence[_Part],
    stored: Path,
    *,
    is_short: bool,
    must_agree: bool,
) -> int:
    """Fill the table `rejects` (row_number, reason); the number of its rows.

    Args:
        is_short: whether fewer rows were stored than read.
        must_agree: whether to look for keys that hold contradictory values.
    """
    connection.execute("create or replace temp table rejects (row_number bigint, reason varchar)")
    wrong = [f"select * from ({part.typed}) where not ({part.is_right})" for part in parts] if is_short else []
    for part, rows in zip(parts, wrong, strict=False):
        reason = f"coalesce(problem, array_to_string(list_filter({part.reasons}, lambda said: said is not null), '; '))"
        connection.execute(f"insert into rejects select row_number, {reason} from ({rows})")
    present = frozenset[str]().union(*(part.present for part in parts))
    keys = {column.one_value_per for column in table.columns if column.one_value_per and column.name in present}
    for key in sorted(filter(None, keys)) if must_agree else ():
        values = [column.name for column in table.columns if column.one_value_per == key and column.name in present]
        _reject_contradictions(connection, key, values, stored, wrong)
    return _count(connection, "select count(*) from rejects")


def _reject_contradictions(
    connection: duckdb.DuckDBPyConnection, key: str, values: Sequence[str], stored: Path, wrong: Sequence[str]
) -> None:
    """Reject all rows of a key for which one of `values` differs between rows, those already rejected included."""
    columns = identifiers([key, *values])
    rows = " union all ".join(
        f"select {columns} from ({relation})" for relation in (f"from read_parquet({literal(stored)})", *wrong)
    )
    differs = {value: f"min({identifier(value)}) <> max({identifier(value)})" for value in values}
    reasons = ", ".join(
        f"case when {said} then {literal(f'{value} holds different values within one {key}')} end"
        for value, said in differs.items()
    )
    connection.execute(
        f"""
        insert into rejects
        with contradictory as (
            select {identifier(key)} as key, concat_ws('; ', {reasons}) as reason
            from ({rows})
            group by {identifier(key)}
            having {" or ".join(differs.values())}
        )
        select stored.row_number, contradictory.reason
        from read_parquet({literal(stored)}) as stored
        inner join contradictory on contradictory.key = stored.{identifier(key)}
        where stored.row_number not in (select row_number from rejects)
        """
    )


def _drop_rejects(connection: duckdb.DuckDBPyConnection, stored: Path) -> int:
    """Take the rejects out of the stored rows, if any are there; the number of rows that stay."""
    all_rows, good = (
        f"select count(*) from read_parquet({literal(stored)})",
        f"from read_parquet({literal(stored)}) where row_number not in (select row_number from rejects)",
    )
    stays = _count(connection, f"select count(*) {good}")
    if stays < _count(connection, all_rows):
        with replacing(stored) as beside:
            connection.execute(f"copy (select * {good}) to {literal(beside)} ({PARQUET_OPTIONS})")
    return stays


def _quarantine(
    connection: duckdb.DuckDBPyConnection, parts: Sequence[_Part], delivery_id: str, quarantine: Path
) -> None:
    # The row is written as JSON only after the filter: doing so for all rows would take longer than all the rest.
    rows = " union all ".join(
        f"""
        select
            file_row_number + {part.offset + 1} as row_number, {literal(part.file.name)} as file_name,
            file_row_number + 1 as file_row, {part.file.raw_row} as raw_row
        from {part.file.relation}
        where file_row_number + {part.offset + 1} in (select row_number from rejects)
        """
        for part in parts
    )
    with replacing(quarantine) as target:
        connection.execute(
            f"""
            copy (
                select
                    {literal(delivery_id)} as delivery_id, row_number, rows.file_name, rejects.reason, rows.raw_row,
                    rows.file_row
                from ({rows}) as rows
                inner join rejects using (row_number)
                order by row_number
            ) to {literal(target)} ({PARQUET_OPTIONS})
            """
        )


def _most_common_reasons(connection: duckdb.DuckDBPyConnection, rejected: int) -> str:
    said = connection.execute(
        "select reason, count(*) as rows from rejects group by reason order by rows desc, reason limit 3"
    ).fetchall()
    rows = "1 row was" if rejected == 1 else f"{rejected:,} rows were"
    return f"{rows} rejected, most often: " + "; ".join(f"{reason} ({count:,})" for reason, count in said)


def _enumeration_notices(
    connection: duckdb.DuckDBPyConnection, table: Table, parts: Sequence[_Part], stored: Path
) -> list[str]:
    present = frozenset[str]().union(*(part.present for part in parts))
    columns = [c for c in table.columns if c.values and not c.required and c.name in present]
    if not columns:
        return []
    counts = ", ".join(f"count(*) filter ({identifier(c.name)} not in ({literals(c.values)}))" for c in columns)
    counted = connection.execute(f"select {counts} from read_parquet({literal(stored)})").fetchone() or ()
    return [
        f"{column.name}: {rows:,} values are none of {', '.join(column.values)}; they were kept"
        for column, rows in zip(columns, counted, strict=True)
        if rows
    ]


def _far_times(connection: duckdb.DuckDBPyConnection, table: Table, delivery: Delivery, stored: Path) -> Iterator[str]:
    """Rows of a time that hardly is theirs: after they were received, or before anyone kept such rows."""
    if table.occurred_at is None:
        return
    name = identifier(table.occurred_at)
    # A day of grace for clocks and time zones.
    bounds = {
        f"after this delivery was received, {delivery.received_at:%Y-%m-%d}; they count from then on": (
            f"{name} > timestamp {literal(str(delivery.received_at + timedelta(days=1)))}"
        ),
        "before 1970": f"{name} < timestamp '1970-01-01'",
    }
    counts = ", ".join(f"count(*) filter ({is_far})" for is_far in bounds.values())
    counted = connection.execute(f"select {counts} from read_parquet({literal(stored)})").fetchone() or ()
    for said, rows in zip(bounds, counted, strict=True):
        if rows:
            yield f"{table.occurred_at}: {rows:,} {'row is' if rows == 1 else 'rows are'} of a time {said}"


def _is_readable(connection: duckdb.DuckDBPyConnection, file: RawFile) -> bool:
    import duckdb

    try:
        connection.execute(f"select count(hash(t)) from {file.relation} as t").fetchone()
    except duckdb.Error:
        return False
    return True


def _count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    counted = connection.execute(query).fetchone()
    return int(counted[0]) if counted else 0
