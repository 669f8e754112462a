"""Where the files of deliveries lie in the lake, and how what a killed load left behind goes away.

A delivery id is `<sequence>-<hash>`. A load that is killed leaves files of the sequence number that comes next; nothing
that the manifest does not know is read, and the next load, which takes that same number, removes them first.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from core.errors import DeliveryError, HomeError
from core.home import Home
from ingestion.manifest import DeliveryRow, next_sequence

_DELIVERY_ID = re.compile(r"(\d{6,})-[0-9a-f]{8}")
# Begins the names of files that tell of rejected rows which no delivery replayed.
DECISION = "decision-"

_LEFTOVER = re.compile(r"\..*\.\d+\.tmp")


def delivery_id(sequence: int, hashes: Iterable[str]) -> str:
    """The id of a hand-over: its sequence number, and a hash of what was handed over."""
    digest = hashlib.sha256(" ".join(hashes).encode()).hexdigest()
    return f"{sequence:06d}-{digest[:8]}"


def accepted_file(home: Home, source: str, table: str, delivery: str) -> Path:
    """Typed rows of one delivery of one table."""
    return home.accepted(source, table) / f"{delivery}.parquet"


def quarantine_file(home: Home, source: str, table: str, delivery: str) -> Path:
    """Rejected rows of one delivery of one table; only there if there are any."""
    return home.quarantine(source, table) / f"{delivery}.parquet"


def raw_folder(home: Home, source: str, table: str, delivery: str) -> Path:
    """The files of one delivery of one table, as received."""
    return home.raw(source, table) / delivery


def settled_folder(home: Home, source: str, table: str) -> Path:
    """What became of rejected rows: a file for each delivery that replayed some, and one for each other decision."""
    return home.lake / "settled" / source / table


def spill_folder(home: Home) -> Path:
    """Scratch space of a load, emptied by the next one."""
    return home.lake / ".loading"


def place(files: Sequence[Path], folder: Path, *, link: bool) -> list[Path]:
    """Put the files into `folder` under their own names; of two with one name, the later ones get a number.

    Args:
        link: link instead of copying, where the file system can. For files that are about to be moved.

    Raises:
        DeliveryError: a file changes while it is read.
        OSError: a file can't be read, or the copy can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    placed: list[Path] = []
    for file in files:
        name, number = file.name, 1
        while (folder / name).exists():
            number += 1
            name = f"{number}-{file.name}"
        target = folder / name
        before = os.stat(file)
        if not (link and _linked(file, target)):
            shutil.copy2(file, target)
            with open(target, "rb") as written:
                os.fsync(written.fileno())
        refuse_changed(file, before)
        placed.append(target)
    return placed


def refuse_changed(file: Path, before: os.stat_result) -> None:
    """Stop if a file is another than `before`: half of a row may look like a whole one.

    Raises:
        DeliveryError: it grew, shrank, was written again or is gone.
    """
    try:
        now = os.stat(file)
    except FileNotFoundError:
        raise DeliveryError(f"{file.name} was taken away while it was read: deliver it again") from None
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise DeliveryError(
            f"{file.name} changed while it was read ({before.st_size:,} bytes, then {now.st_size:,}): deliver it again when"
            " it is complete"
        )


def remove(*paths: Path) -> None:
    """Remove files and folders, those that exist."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def remove_leftovers(home: Home, rows: Sequence[DeliveryRow]) -> None:
    """Remove what a killed load left. The caller holds the lake's lock.

    Raises:
        HomeError: the lake holds deliveries that the manifest should know: it is older than they are, or lost.
    """
    known = {(row.source, row.table_name, row.delivery_id) for row in rows}
    coming = next_sequence(rows)
    for area in ("raw", "accepted", "quarantine", "settled"):
        for path in (home.lake / area).glob("*/*/*"):
            source, table = path.parts[-3:-1]
            if _LEFTOVER.fullmatch(path.name) and area != "raw":
                remove(path)
                continue
            name = path.name if area == "raw" else path.stem
            match = _DELIVERY_ID.fullmatch(name)
            if match is None or (source, table, name) in known:
                continue
            if int(match[1]) != coming:
                raise HomeError(
                    f"{path} belongs to a delivery that the manifest {home.deliveries} does not know: restore the manifest"
                    " from a backup that is as new as the lake"
                )
            remove(path)
    remove(spill_folder(home), *home.lake.glob(f".{home.deliveries.name}.*.tmp"))


def _linked(file: Path, target: Path) -> bool:
    try:
        os.link(file, target)
    except OSError:
        return False  # another file system, or one without links: copy
    return True
