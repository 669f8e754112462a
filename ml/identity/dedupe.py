"""Find who is who in a file of person records: the linking engine as a tool by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import MailwrightError
from core.files import replacing
from core.settings import Settings, load_settings
from core.warehouse import in_memory
from ml.identity.conflicts import conflicts
from ml.identity.keys import prepare
from ml.identity.linking import score
from ml.identity.model import SEED, train
from ml.identity.resolution import Limits, resolve

if TYPE_CHECKING:
    import duckdb

MAX_RECORDS = 1_000
"""Records of one person. A file may be a history of years; beyond this, links are wrong."""


@dataclass(frozen=True)
class DedupeReport:
    """What was found, and how.

    Attributes:
        records: rows of the file.
        customers: persons found.
        merged: records that share a person with another one.
        pairs: pairs from the threshold up.
        refused: links that were not followed, by reason.
        threshold: match weight in bits from which a pair is linked.
        expected_precision: of those pairs, by the model's own probabilities.
        expected_recall: of the pairs that blocking finds, by the model's own probabilities.
        columns: person columns that the model compares.
        rules: blocking rules.
        seconds: by step.
    """

    records: int
    customers: int
    merged: int
    pairs: int
    refused: Mapping[str, int]
    threshold: float
    expected_precision: float
    expected_recall: float
    columns: tuple[str, ...]
    rules: tuple[str, ...]
    seconds: Mapping[str, float]


def dedupe(
    file: Path,
    out: Path,
    *,
    id_column: str,
    columns: Mapping[str, Sequence[str]],
    source_column: str | None = None,
    settings: Settings | None = None,
    seed: int = SEED,
    progress: Callable[[str], None] | None = None,
) -> DedupeReport:
    """Resolve the person records of a CSV or Parquet file, and write (id, customer_id, probability).

    The result depends on the records and the seed alone, not on their order. `customer_id` is the smallest id of the
    person's records, as text; `probability` is how sure it is that a record belongs to them, 1 for one who is alone.

    Args:
        file: CSV (any delimiter; all columns are read as text) or Parquet.
        out: CSV or Parquet by its ending. It is replaced as a whole, or left as it was.
        id_column: the file's column that names a record.
        columns: person column -> columns of the file.
        source_column: the file's column that says where a record comes from. Each source may hold duplicates.

    Raises:
        MailwrightError: the file can't be read, a column is missing, ids are repeated, or `out` is of another kind.
    """
    say = progress or (lambda _: None)
    form = _format_of(out)
    clock = _Clock()
    with in_memory(settings or load_settings()) as connection:
        with clock.step("read"):
            say("Read the records")
            _read(connection, file)
        with clock.step("prepare"):
            say("Make comparison keys")
            prepared = prepare(
                connection,
                "raw_records",
                id_column=id_column,
                columns=columns,
                source_column=source_column,
                out="prepared",
            )
        with clock.step("train"):
            model = train(connection, prepared, seed=seed, progress=say)
        with clock.step("score"):
            say("Score pairs")
            score(connection, prepared, model, out="links")
        with clock.step("resolve"):
            say("Resolve who is who")
            # Resolution works on numbers, given in the order of the ids: the order of rows does not matter.
            connection.execute(
                """
                create table numbered as
                    select record_id, row_number() over (order by record_id::varchar) as number from prepared;
                create table records as select number as record_id from numbered;
                create table numbered_links as
                select l.number as record_l, r.number as record_r, match_weight, match_probability, agreed
                from links
                inner join numbered as l on l.record_id = links.record_l
                inner join numbered as r on r.record_id = links.record_r;
                """
            )

            def keep_apart(pairs: str, into: str) -> None:
                connection.execute(
                    f"create or replace temp table named_pairs as select l.record_id as record_l, r.record_id as record_r"
                    f" from {pairs} as pairs inner join numbered as l on l.number = pairs.record_l"
                    f" inner join numbered as r on r.number = pairs.record_r"
                )
                conflicts(connection, prepared, "named_pairs", out="named_conflicts")
                connection.execute(
                    f"create or replace table {into} as select l.number as record_l, r.number as record_r, reason"
                    " from named_conflicts inner join numbered as l on l.record_id = named_conflicts.record_l"
                    " inner join numbered as r on r.record_id = named_conflicts.record_r"
                )

            resolution = resolve(
                connection,
                records="records",
                links="numbered_links",
                threshold=model.threshold,
                conflicts=keep_apart,
                limits=Limits(max_records=MAX_RECORDS, caps={}),
                out="resolved",
            )
        with clock.step("write"):
            say("Write the result")
            connection.execute(
                """
                create table result as
                select
                    numbered.record_id as id,
                    first_value(numbered.record_id::varchar)
                        over (partition by resolved.cluster order by numbered.number) as customer_id,
                    resolved.probability
                from resolved inner join numbered on numbered.number = resolved.record_id
                order by numbered.number
                """
            )
            with replacing(out) as beside:
                connection.execute(f"copy result to '{_sql_text(beside)}' ({form})")
        [(records, customers)] = connection.execute(
            "select count(*), count(distinct customer_id) from result"
        ).fetchall()
        [(merged,)] = connection.execute(
            "select coalesce(sum(n), 0)::bigint from (select count(*) as n from result group by customer_id having n > 1)"
        ).fetchall()
        [(pairs,)] = connection.execute(
            "select count(*) from links where match_weight >= ?", [model.threshold]
        ).fetchall()
    return DedupeReport(
        records=records,
        customers=customers,
        merged=merged,
        pairs=pairs,
        refused=resolution.refused,
        threshold=model.threshold,
        expected_precision=model.expected_precision,
        expected_recall=model.expected_recall,
        columns=model.columns,
        rules=tuple(rule.name for rule in model.rules),
        seconds=clock.seconds,
    )


class _Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def _format_of(out: Path) -> str:
    if out.suffix.lower() == ".csv":
        return "format csv, header"
    if out.suffix.lower() == ".parquet":
        return "format parquet, compression zstd"
    raise MailwrightError(f"{out} can't be written: give it a name that ends in .csv or .parquet")


def _sql_text(path: Path) -> str:
    return str(path).replace("'", "''")


def _read(connection: duckdb.DuckDBPyConnection, file: Path) -> None:
    """Make `raw_records` of a file's rows. No message shows a value of a record."""
    import duckdb

    if not file.is_file():
        raise MailwrightError(f"There is no file {file}")
    path = _sql_text(file)
    with open(file, "rb") as opened:
        is_parquet = opened.read(4) == b"PAR1"
    reader = (
        f"read_parquet('{path}')"
        if is_parquet
        else f"read_csv('{path}', all_varchar = true, header = true, sample_size = -1, null_padding = true)"
    )
    try:
        connection.execute(f"create table raw_records as select * from {reader}")
    except duckdb.Error as error:
        reason = str(error).splitlines()[0].split(":")[0]
        raise MailwrightError(
            f"{file} can't be read as {'Parquet' if is_parquet else 'CSV'} ({reason}). It should have one header line,"
            " the same number of cells in each row, and be written in UTF-8"
        ) from None
