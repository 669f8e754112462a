"""The verb of this room: take a hand-over of files into the lake."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from core import lock
from core.clock import to_utc
from core.contract import Table, load_contract
from core.errors import ContractError, DeliveryError
from core.files import sha256_of
from core.home import Home
from core.settings import Settings
from core.warehouse import in_memory
from ingestion import manifest, storage, superseding
from ingestion.manifest import DeliveryRow
from ingestion.reading import check_file, open_file
from ingestion.report import LoadReport, TableReport
from ingestion.sql import literal
from ingestion.taking import Delivery, take

if TYPE_CHECKING:
    import duckdb

Progress = Callable[[str], None]

LOCK_WAIT_SECONDS = 600.0
_one_at_a_time = threading.Lock()  # the kernel's lock tells processes apart, not threads


@dataclass(frozen=True)
class _Offer:
    """The files of one table that are new to the lake.

    Attributes:
        files: where they were handed over.
        placed: their copies inside the lake's scratch folder, which are what is read.
        hashes: SHA-256 of each.
        renames: column of the contract, by the name that it has in the files.
    """

    table: Table
    files: tuple[Path, ...]
    placed: tuple[Path, ...]
    hashes: tuple[str, ...]
    notices: tuple[str, ...]
    renames: Mapping[str, str]


def load(
    settings: Settings,
    home: Home,
    source: str,
    files: Mapping[str, Sequence[Path]],
    *,
    received_at: datetime,
    historical: bool,
    renames: Mapping[str, Mapping[str, str]] | None = None,
    move: bool = False,
    progress: Progress | None = None,
) -> LoadReport:
    """Take one hand-over into the lake: check it against the contract, type its rows, accept or quarantine them.

    All tables share one delivery id and sequence number and become visible together, when the manifest is rewritten at
    the end; a load that is killed before leaves the lake as it was. A table that can't be taken in is an error in the
    report, the others go on. Files that were delivered before are skipped, with a notice.

    Args:
        files: the files of each table, in order: Parquet, CSV or JSON lines, told by their names.
        received_at: when they were handed over; local time of the home unless it has an offset.
        historical: whether the rows count as known when they occurred rather than when they were received.
        renames: for a table, which columns of its files are which of the contract's, by their names in the files: columns
            that the source renamed. See `matching.parse_renames`.
        move: take the files away from where they are, once they are safely in the lake.
        progress: told what is being done, one line at a time.

    Raises:
        HomeError: the manifest is damaged, or older than the lake.
        WarehouseBusyError: another process is still loading after ten minutes.
    """
    with opened(settings, home, progress) as lake:
        return HandOver(lake, source, received_at, historical=historical, move=move).load(files, renames or {})


@dataclass
class OpenLake:
    """The lake while one process loads, under its lock.

    Attributes:
        connection: DuckDB in memory; spills into `scratch`.
        scratch: a folder that is gone afterwards.
        rows: the manifest, as read and as it will be written.
    """

    home: Home
    connection: duckdb.DuckDBPyConnection
    scratch: Path
    rows: list[DeliveryRow]
    say: Progress


@contextmanager
def opened(settings: Settings, home: Home, progress: Progress | None = None) -> Iterator[OpenLake]:
    """Take the lake's lock, and remove what a killed load left.

    Raises:
        HomeError: the manifest is damaged, or older than the lake.
        WarehouseBusyError: another process is still loading after ten minutes.
    """
    say = progress or (lambda said: None)
    with (
        _one_at_a_time,
        lock.held(home.deliveries, wait_seconds=LOCK_WAIT_SECONDS, notify=say, what="the lake's manifest"),
    ):
        rows = manifest.read(home)
        storage.remove_leftovers(home, rows)
        scratch = storage.spill_folder(home)
        scratch.mkdir(parents=True)
        try:
            with in_memory(settings) as connection:
                connection.execute(f"set temp_directory = {literal(scratch / 'spill')}")
                yield OpenLake(home, connection, scratch, rows, say)
        finally:
            storage.remove(scratch)


class HandOver:
    """One hand-over on its way into the lake.

    Attributes:
        sequence: its number.
        delivery_id: its id, once something of it is in the lake.
    """

    def __init__(
        self,
        lake: OpenLake,
        source: str,
        received_at: datetime,
        *,
        historical: bool,
        move: bool = False,
        replays: tuple[int, int] | None = None,
    ) -> None:
        """Begin a hand-over.

        Args:
            replays: how many rows it brings back from quarantine, and how many are carried over beside them; None for
                what is new. Such a file was written here, so it is not compared with earlier deliveries.
        """
        self.lake = lake
        self.home = lake.home
        self.connection = lake.connection
        self.sequence = manifest.next_sequence(lake.rows)
        self.scratch = lake.scratch / str(self.sequence)
        self.rows = {(row.source, row.table_name, row.sequence): row for row in lake.rows}
        self.source = source
        self.received_at = to_utc(received_at, lake.home.timezone).replace(tzinfo=None)
        self.historical = historical
        self.move = move
        self.replays = replays
        self.delivery_id: str | None = None
        self.say = lake.say

    def load(
        self,
        files: Mapping[str, Sequence[Path]],
        renames: Mapping[str, Mapping[str, str]],
        *,
        before_commit: Callable[[str], None] | None = None,
    ) -> LoadReport:
        """Take the files of each table in.

        Args:
            before_commit: called with the delivery id when everything is written but the manifest.
        """
        reports: dict[str, TableReport] = {}
        offers: dict[str, _Offer] = {}
        for name, paths in files.items():
            try:
                offer = self._receive(name, [Path(path) for path in paths], renames.get(name, {}))
            except (ContractError, DeliveryError) as error:
                reports[name] = TableReport(self.source, name, error=str(error))
            else:
                if isinstance(offer, TableReport):
                    reports[name] = offer
                else:
                    offers[name] = offer
        delivery_id = storage.delivery_id(
            self.sequence, (said for name in sorted(offers) for said in (self.source, name, *offers[name].hashes))
        )
        taken: list[_Offer] = []
        for name, offer in offers.items():
            self.say(f"{offer.table.full_name}: reading {', '.join(file.name for file in offer.files)}")
            try:
                reports[name] = self._take(offer, delivery_id)
            except DeliveryError as error:
                reports[name] = TableReport(self.source, name, error=str(error))
            else:
                taken.append(offer)
        for name in renames.keys() - files.keys():
            self.say(f"{self.source}.{name}: columns are renamed, but no file is given for this table")
        if taken:
            if before_commit is not None:
                before_commit(delivery_id)
            self._commit(taken, delivery_id)
        for name in files:
            self.say(reports[name].describe())
        return LoadReport(
            self.source,
            delivery_id if taken else None,
            self.sequence if taken else None,
            tuple(reports[name] for name in files),
        )

    def _receive(self, name: str, files: list[Path], renames: Mapping[str, str]) -> _Offer | TableReport:
        """Copy the files into the scratch folder and leave out those that the lake has already."""
        table = load_contract().table(self.source, name)
        if not files:
            raise DeliveryError(f"no file was given for {table.full_name}: name at least one")
        try:
            for file in files:
                check_file(file)
            placed = storage.place(files, self.scratch / "raw" / name, link=self.move)
            hashes = [_hash_of(path, renames) for path in placed]
        except OSError as error:
            raise DeliveryError(
                f"{error.filename or files[0]} can't be copied into the lake ({error.strerror}): correct that and deliver"
                " it again"
            ) from None
        earlier = self._earlier(table)
        if table.delivery_mode == "snapshot":
            # A snapshot that was delivered before, and replaced since, comes into force again.
            newest = earlier[-1:]
            known = {digest: row for row in newest if sorted(row.file_hashes) == sorted(hashes) for digest in hashes}
        else:
            known = {digest: row for row in reversed(earlier) for digest in row.file_hashes}
        new, notices = [], []
        for position, (file, digest) in enumerate(zip(files, hashes, strict=True)):
            if digest in known:
                notices.append(f"{file.name} was delivered before, as {known[digest].delivery_id}, and was skipped")
            elif digest in hashes[:position]:
                notices.append(f"{file.name} is the same as {files[hashes.index(digest)].name} and was skipped")
            else:
                new.append(position)
        for position in set(range(len(files))) - set(new):
            storage.remove(placed[position])
        if not new:
            return TableReport(self.source, name, notices=tuple(notices), duplicate_of=known[hashes[0]].delivery_id)
        return _Offer(
            table,
            tuple(files[position] for position in new),
            tuple(placed[position] for position in new),
            tuple(hashes[position] for position in new),
            tuple(notices),
            renames,
        )

    def _take(self, offer: _Offer, delivery_id: str) -> TableReport:
        """Write the accepted and quarantined rows of one table, and note in `rows` what they change."""
        table = offer.table
        accepted = storage.accepted_file(self.home, self.source, table.name, delivery_id)
        quarantine = storage.quarantine_file(self.home, self.source, table.name, delivery_id)
        staged = [self.scratch / f"{table.name}-{number}.parquet" for number in range(len(offer.placed))]
        try:
            files = [
                open_file(self.connection, path, staging) for path, staging in zip(offer.placed, staged, strict=True)
            ]
            history = [row.columns for row in reversed(self._earlier(table)) if row.columns]
            delivery = Delivery(
                delivery_id,
                self.received_at,
                self.home.timezone,
                offer.renames,
                history,
                is_replay=self.replays is not None,
            )
            taken = take(self.connection, table, delivery, files, accepted, quarantine)
        except BaseException:
            storage.remove(accepted, quarantine)
            raise
        finally:
            storage.remove(*staged)
        earlier = self._earlier(table)
        paths = {
            row.sequence: storage.accepted_file(self.home, self.source, table.name, row.delivery_id) for row in earlier
        }
        replaced = superseding.newly_superseded(
            self.connection, table, paths, {row.sequence: row.rows_accepted for row in earlier}, accepted
        )
        repeated = superseding.repeated_events(self.connection, table, list(paths.values()), accepted)
        for row in earlier:
            if rows := replaced.get(row.sequence, 0):
                self.rows[row.source, row.table_name, row.sequence] = replace(
                    row, rows_accepted=row.rows_accepted - rows, rows_superseded=row.rows_superseded + rows
                )
        notices = (*offer.notices, *taken.notices)
        if self.replays is not None:
            replayed, carried = self.replays
            notices = (
                f"replayed from quarantine: {_rows(replayed)}, and {_rows(carried)} carried over",
                *notices,
            )
        self.rows[self.source, table.name, self.sequence] = DeliveryRow(
            delivery_id=delivery_id,
            sequence=self.sequence,
            source=self.source,
            table_name=table.name,
            received_at=self.received_at,
            historical=self.historical,
            content_hash=" ".join(offer.hashes),
            file_names=tuple(path.name for path in offer.placed),
            rows_read=taken.rows_read,
            rows_accepted=taken.stored - repeated,
            rows_superseded=repeated,
            rows_rejected=taken.rejected,
            rows_erased=0,
            notices=notices,
            columns=taken.columns,
            changes=taken.changes,
        )
        return TableReport(
            self.source,
            table.name,
            rows_read=taken.rows_read,
            accepted=taken.stored - repeated,
            superseded=repeated,
            rejected=taken.rejected,
            superseded_earlier=sum(replaced.values()),
            notices=notices,
            changes=taken.changes,
        )

    def _commit(self, taken: Sequence[_Offer], delivery_id: str) -> None:
        """Move the raw files to where they stay, then make everything visible by rewriting the manifest."""
        for offer in taken:
            folder = storage.raw_folder(self.home, self.source, offer.table.name, delivery_id)
            folder.parent.mkdir(parents=True, exist_ok=True)
            (self.scratch / "raw" / offer.table.name).rename(folder)
        self.lake.rows = list(self.rows.values())
        manifest.write(self.home, self.lake.rows)
        self.delivery_id = delivery_id
        if self.move:
            storage.remove(*(file for offer in taken for file in offer.files))

    def _earlier(self, table: Table) -> list[DeliveryRow]:
        """The table's earlier deliveries, oldest first."""
        found = (
            row
            for row in self.rows.values()
            if (row.source, row.table_name) == (table.source, table.name) and row.sequence < self.sequence
        )
        return sorted(found, key=lambda row: row.sequence)


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number:,} rows"


def _hash_of(path: Path, renames: Mapping[str, str]) -> str:
    """Of a file as it is read: with columns renamed it says something else, and is no repetition."""
    content = sha256_of(path)
    if not renames:
        return content
    return hashlib.sha256(f"{content} {sorted(renames.items())}".encode()).hexdigest()
