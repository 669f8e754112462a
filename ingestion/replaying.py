"""Rejected rows taken in again, as `quarantine` says: as they were received, or as repaired in a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from core.contract import Column, Table, load_contract
from core.errors import DeliveryError
from core.files import replacing
from core.home import Home
from core.settings import Settings
from ingestion import loader, storage
from ingestion.loader import HandOver, OpenLake, Progress
from ingestion.quarantine import Quarantine, naive_utc, write_decisions
from ingestion.reading import check_file, open_file
from ingestion.repair import DELIVERY, ROW, has_cells, rearmed, received
from ingestion.sql import identifier, literal, literals
from ingestion.superseding import SEQUENCE
from ingestion.taking import Delivery, take

REPLAYED_FILE = "replayed-from-quarantine.parquet"
_TEXT = "text "  # begins the names of columns that hold text as received


@dataclass
class ReplayReport:
    """What became of rows that were to be replayed. Their numbers add up to `tried`.

    Attributes:
        deliveries: ids of the new deliveries; none if nothing was taken in.
        carried: accepted rows that were carried over beside them.
        still_rejected: rows that stay open, by reason.
        settled_before: rows of a repaired file that were not open any more, and were skipped.
    """

    tried: int = 0
    replayed: int = 0
    carried: int = 0
    superseded: int = 0
    settled_before: int = 0
    still_rejected: Counter[str] = field(default_factory=Counter)
    deliveries: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Candidate:
    """A row to be replayed: where it was rejected, and its cells as text by column of the contract."""

    delivery_id: str
    row_number: int
    cells: Mapping[str, str | None]


def replay(
    settings: Settings,
    home: Home,
    source: str,
    name: str,
    *,
    file: Path | None = None,
    delivery: str | None = None,
    received_at: datetime,
    progress: Progress | None = None,
) -> ReplayReport:
    """Take open rows of a table in again: as they were received, or as repaired in a file that `export` wrote.

    Args:
        file: CSV, Parquet or JSON lines with the columns `quarantine_delivery` and `quarantine_row`; rows that it leaves
            out stay open.
        delivery: only rows that this delivery rejected.
        received_at: when this is done; aware.

    Raises:
        ContractError: there is no such table.
        DeliveryError: the file can't be read or names rows that are not in quarantine; nothing was taken in.
        WarehouseBusyError: another process is loading.
    """
    table = load_contract().table(source, name)
    with loader.opened(settings, home, progress) as lake:
        return _Replay(lake, table, received_at).run(file, delivery)


class _Replay:
    """One replay of one table, under the lake's lock."""

    def __init__(self, lake: OpenLake, table: Table, received_at: datetime) -> None:
        self.lake = lake
        self.connection = lake.connection
        self.table = table
        self.received_at = received_at
        self.quarantine = Quarantine(lake.connection, lake.home, lake.rows, table.source, table.name)
        self.scratch = lake.scratch / "replay"
        self.scratch.mkdir()
        self.report = ReplayReport()
        self.connection.execute("create or replace temp table deliveries (delivery_id varchar, historical boolean)")
        said = [[row.delivery_id, row.historical] for row in self.quarantine.deliveries.values()]
        if said:
            self.connection.executemany("insert into deliveries values (?, ?)", said)

    def run(self, file: Path | None, delivery: str | None) -> ReplayReport:
        candidates = self._as_received(delivery) if file is None else self._as_repaired(file, delivery)
        if candidates:
            self._fill_texts(candidates)
            self._find_good()
            self._find_standing()
            self._decide()
            self._drop_contradictory()
            for historical in (True, False):
                self._take_in(historical=historical)
            self._settle_superseded()
        return self.report

    def _as_received(self, delivery: str | None) -> list[_Candidate]:
        candidates = []
        for row in self.quarantine.rows(delivery, open_only=True):
            self.report.tried += 1
            if not has_cells(row):
                self.report.still_rejected[row.reason] += 1
            else:
                said = self.quarantine.deliveries[row.delivery_id]
                cells = received(self.lake.home, self.table, said, row)
                candidates.append(_Candidate(row.delivery_id, row.row_number, cells))
        return candidates

    def _as_repaired(self, path: Path, delivery: str | None) -> list[_Candidate]:
        check_file(path)
        file = open_file(self.connection, path, self.scratch / "repaired.parquet")
        by_name = {name.strip().casefold(): name for name in file.names}
        if not {DELIVERY, ROW} <= by_name.keys():
            raise DeliveryError(
                f"{path.name} lacks the columns {DELIVERY} and {ROW}, which say what row it repairs: begin with `mailwright"
                f" quarantine list {self.table.full_name} --out FILE`, or deliver it with `mailwright load`"
            )
        columns = [column for column in self.table.column_names if column in by_name]
        wanted = [by_name[name] for name in (DELIVERY, ROW, *columns)]
        cells = ", ".join(f"cast({file.expressions[name]} as varchar)" for name in wanted)
        said = self.connection.execute(
            f"select file_row_number + 1, {file.problem or 'null'}, {cells} from {file.relation} order by file_row_number"
        ).fetchall()
        states = {
            (row.delivery_id, row.row_number): row.state for row in self.quarantine.rows(delivery, open_only=False)
        }
        candidates: dict[tuple[str, int], _Candidate] = {}
        for number, problem, of, row_number, *values in said:
            self.report.tried += 1
            if problem:
                self.report.still_rejected[f"row {number} of {path.name} {problem}"] += 1
                continue
            key = ((of or "").strip(), int(row_number) if (row_number or "").strip().isdigit() else 0)
            if key not in states:
                raise DeliveryError(
                    f"row {number} of {path.name}: {self.table.full_name} has no such row in quarantine"
                    f"{f' of delivery {delivery}' if delivery else ''}: leave {DELIVERY} and {ROW} as they were exported"
                )
            if key in candidates:
                raise DeliveryError(
                    f"row {number} of {path.name} repairs a row that another one repairs too: leave one out"
                )
            if states[key] != "open":
                self.report.settled_before += 1
                continue
            candidates[key] = _Candidate(
                *key, {column: rearmed(value) for column, value in zip(columns, values, strict=True)}
            )
        return [candidates[key] for key in sorted(candidates)]

    def _fill_texts(self, candidates: Sequence[_Candidate]) -> None:
        """Make the table `texts`: one row for each candidate, its `place` among them, and its cells."""
        import pyarrow as pa
        import pyarrow.parquet as parquet

        columns: dict[str, Any] = {
            "place": pa.array(range(1, len(candidates) + 1), pa.int64()),
            "origin_delivery_id": pa.array([said.delivery_id for said in candidates], pa.string()),
            "origin_row_number": pa.array([said.row_number for said in candidates], pa.int64()),
        }
        for column in self.table.column_names:
            columns[_TEXT + column] = pa.array([said.cells.get(column) for said in candidates], pa.string())
        path = self.scratch / "texts.parquet"
        parquet.write_table(pa.table(columns), path)
        self.connection.execute(
            f"""
            create or replace temp table texts as
            select texts.*, {SEQUENCE.replace("delivery_id", "texts.origin_delivery_id")} as version, historical
            from read_parquet({literal(path)}) as texts
            inner join deliveries on texts.origin_delivery_id = deliveries.delivery_id
            """
        )

    def _find_good(self) -> None:
        """Make the table `good`: the candidates whose values can be read now, with their entity. The others stay open."""
        # Of several versions of an entity; whether its rows agree is seen when only the newest is left.
        wrong = self._try("select * from texts", "place", is_one_version=False)
        for reason in wrong.values():
            self.report.still_rejected[reason] += 1
        self.connection.execute(
            f"""
            create or replace temp table good as
            select texts.*, {_entity(self.table)} as entity
            from texts
            inner join read_parquet({literal(self._tried)}) as typed on texts.place = typed.row_number
            """
        )

    def _find_standing(self) -> None:
        """Make the table `standing`: the rows of the lake that tell of the entities in `good`, and since which version.

        A version is the sequence number of the delivery in which a row came first: what an earlier replay brought or carried
        over keeps its own.
        """
        files = [
            storage.accepted_file(self.lake.home, self.table.source, self.table.name, delivery)
            for delivery in self.quarantine.deliveries
        ]
        newest = "qualify sequence = max(sequence) over (partition by entity)"
        self.connection.execute(
            f"""
            create or replace temp table standing as
            with lake as (
                select *, {SEQUENCE} as sequence, {_entity(self.table)} as entity
                from read_parquet([{literals(files)}], union_by_name = true) as typed
            )

            select
                lake.*, coalesce(settled.origin_delivery_id, lake.delivery_id) as origin_delivery_id,
                coalesce(settled.origin_row_number, lake.row_number) as origin_row_number,
                {SEQUENCE.replace("delivery_id", "coalesce(settled.origin_delivery_id, lake.delivery_id)")} as version
            from (
                select * from lake semi join good using (entity)
                {newest if self.table.delivery_mode != "append" else ""}
            ) as lake
            left join settled
                on lake.delivery_id = settled.delivery_id
                and lake.row_number = settled.row_number
                and settled.state in ('replayed', 'carried')
            """
        )

    def _decide(self) -> None:
        """Make the tables `beaten` and `coming`.

        `beaten` are the candidates that are superseded, by a delivery or, where that is null, by another candidate; `coming`
        the rows that come in, those that are carried over (without a `place`) among them.
        """
        is_event = self.table.delivery_mode == "append"
        self.connection.execute(
            f"""
            create or replace temp table beaten as
            with told as (
                select entity, max(version) as version, arg_max(delivery_id, sequence) as delivery_id
                from standing
                group by entity
            )

            select good.place, good.entity, told.delivery_id
            from good
            inner join told on good.entity = told.entity {"" if is_event else "and told.version > good.version"}
            union all
            select place, entity, null
            from good
            where entity is not null and not {is_event}
            qualify version < max(version) over (partition by entity)
            """
        )
        columns = ", ".join(f"{_as_text(column)} as {_text(column.name)}" for column in self.table.columns)
        self.connection.execute(
            "create or replace temp table coming as select * from good where place not in (select place from beaten)"
        )
        if not is_event:
            self.connection.execute(
                f"""
                insert into coming by name
                select
                    {columns}, standing.entity, standing.version, standing.origin_delivery_id,
                    standing.origin_row_number, deliveries.historical
                from standing
                semi join coming on standing.entity = coming.entity and standing.version = coming.version
                inner join deliveries on standing.origin_delivery_id = deliveries.delivery_id
                """
            )

    def _drop_contradictory(self) -> None:
        """Take out of `coming` the entities whose rows, replayed and carried over, don't agree with each other."""
        order = "version, origin_row_number"
        while wrong := self._try("select * from coming", order):
            self.connection.execute("create or replace temp table wrong (number bigint, reason varchar)")
            self.connection.executemany("insert into wrong values (?, ?)", [list(said) for said in wrong.items()])
            self.connection.execute(
                f"""
                create or replace temp table dropped as
                with numbered as (
                    select place, entity, row_number() over (order by {order}) as number from coming
                ),

                named as (
                    select numbered.*, wrong.reason from numbered left join wrong using (number)
                ),

                by_entity as (
                    select entity, min(reason) as reason from named where reason is not null group by entity
                )

                select named.place, named.entity, coalesce(named.reason, by_entity.reason) as reason
                from named
                left join by_entity on named.entity = by_entity.entity
                where coalesce(named.reason, by_entity.reason) is not null
                """
            )
            said = self.connection.execute("select reason from dropped where place is not null").fetchall()
            self.report.still_rejected.update(str(reason) for (reason,) in said)
            self.connection.execute(
                """
                delete from coming
                where
                    entity in (select entity from dropped where entity is not null)
                    or place in (select place from dropped where place is not null)
                """
            )

        [kept_back] = self._count(
            "select count(*) from beaten where delivery_id is null and entity not in (select entity from coming)"
        )
        if kept_back:
            self.report.still_rejected["a newer version of it is rejected as well"] += kept_back

    def _take_in(self, *, historical: bool) -> None:
        """Hand the rows of historical deliveries, or of the others, over to the lake as a delivery."""
        order = "version, origin_row_number"
        rows = f"(select * from coming where historical = {historical})"
        replayed, carried = self._count(f"select count(place), count(*) - count(place) from {rows}")
        if not replayed:
            return
        hand_over = HandOver(
            self.lake, self.table.source, self.received_at, historical=historical, replays=(replayed, carried)
        )
        path = self.scratch / f"{hand_over.sequence}" / REPLAYED_FILE
        path.parent.mkdir()
        self._write(f"select * from {rows}", order, path)

        def settle(delivery_id: str) -> None:
            target = (
                storage.settled_folder(self.lake.home, self.table.source, self.table.name) / f"{delivery_id}.parquet"
            )
            with replacing(target) as beside:
                self.connection.execute(
                    f"""
                    copy (
                        select
                            origin_delivery_id, origin_row_number,
                            case when place is null then 'carried' else 'replayed' end as state,
                            {literal(delivery_id)} as delivery_id, row_number() over (order by {order}) as row_number,
                            timestamp {literal(str(naive_utc(self.received_at)))} as settled_at
                        from {rows}
                        union all
                        select
                            origin_delivery_id, origin_row_number, 'superseded', {literal(delivery_id)}, null,
                            timestamp {literal(str(naive_utc(self.received_at)))}
                        from good
                        where
                            place in (select place from beaten where delivery_id is null)
                            and entity in (select entity from {rows})
                    ) to {literal(beside)} (format parquet)
                    """
                )

        [said] = hand_over.load({self.table.name: [path]}, {}, before_commit=settle).tables
        if said.error is not None:
            raise DeliveryError(said.error)
        assert hand_over.delivery_id is not None
        self.report.deliveries.append(hand_over.delivery_id)
        self.report.replayed += replayed
        self.report.carried += carried
        [older] = self._count(
            f"""
            select count(*)
            from beaten
            where delivery_id is null and entity in (select entity from {rows})
            """
        )
        self.report.superseded += older

    def _settle_superseded(self) -> None:
        """Mark the candidates that the lake has in a newer version, or has already."""
        said = self.connection.execute(
            """
            select good.origin_delivery_id, good.origin_row_number, 'superseded', max(beaten.delivery_id), null
            from good
            inner join beaten using (place)
            where beaten.delivery_id is not null
            group by all
            order by all
            """
        ).fetchall()
        write_decisions(self.lake, self.table, [(*row, naive_utc(self.received_at)) for row in said])
        self.report.superseded += len(said)

    @property
    def _tried(self) -> Path:
        return self.scratch / "tried.parquet"

    def _try(self, rows: str, order: str, *, is_one_version: bool = True) -> dict[int, str]:
        """Check and type rows of texts as the loader would; what is wrong with which of them, numbered in this order."""
        path, rejected = self.scratch / "try.parquet", self.scratch / "rejected.parquet"
        storage.remove(path, self._tried, rejected)
        self._write(rows, order, path)
        home = self.lake.home
        file = open_file(self.connection, path, path)
        delivery = Delivery(
            "replay", naive_utc(self.received_at), home.timezone, is_replay=True, is_one_version=is_one_version
        )
        take(self.connection, self.table, delivery, [file], self._tried, rejected)
        if not rejected.exists():
            return {}
        said = self.connection.execute(f"select row_number, reason from read_parquet({literal(rejected)})").fetchall()
        return {int(number): str(reason) for number, reason in said}

    def _write(self, rows: str, order: str, path: Path) -> None:
        """Write the texts of rows as a raw Parquet file."""
        columns = ", ".join(f"{_text(column)} as {identifier(column)}" for column in self.table.column_names)
        # One row group after the other in this order, so that row numbers tell rows.
        self.connection.execute("set preserve_insertion_order = true")
        self.connection.execute(
            f"copy (select {columns} from ({rows}) order by {order}) to {literal(path)} (format parquet)"
        )

    def _count(self, query: str) -> tuple[int, ...]:
        return tuple(int(number) for number in self.connection.execute(query).fetchone() or ())


def _entity(table: Table) -> str:
    """SQL over the typed rows `typed`: what rows replace each other by, or null."""
    if table.delivery_mode == "snapshot":
        return "cast([] as varchar[])"
    key = table.entity_key or table.event_key
    if not key:
        return "cast(null as varchar[])"
    has_key = " and ".join(f"typed.{identifier(column)} is not null" for column in key)
    return f"case when {has_key} then [{', '.join(f'cast(typed.{identifier(c)} as varchar)' for c in key)}] end"


def _as_text(column: Column) -> str:
    """SQL that writes a typed value so that the loader reads the same value again."""
    name = f"standing.{identifier(column.name)}"
    return f"cast({name} as varchar) || 'Z'" if column.data_type == "timestamp" else f"cast({name} as varchar)"


def _text(column: str) -> str:
    return identifier(_TEXT + column)
