"""One writer: whoever opens the warehouse takes a kernel lock first, and says who holds it.

DuckDB admits one writing process, and then no readers. A kernel `flock` ends with its process, however that dies, so
nothing stale is ever left behind.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import WarehouseBusyError

_guard = threading.Lock()
_held: dict[Path, tuple[int, int]] = {}  # lock file -> (file descriptor, depth); re-entrant within the process


def acquire(
    warehouse: Path,
    *,
    wait_seconds: float = 0.0,
    notify: Callable[[str], None] | None = None,
    what: str = "the warehouse",
) -> None:
    """Take the lock of the warehouse at `warehouse`, again if this process has it already.

    Args:
        what: how to call the thing that is locked, where it is not the warehouse.
        wait_seconds: how long to wait for another process before giving up.
        notify: told once who holds the lock, if one has to wait.

    Raises:
        WarehouseBusyError: another process holds it; names the command and its process id.
    """
    path = _lock_file(warehouse)
    deadline = time.monotonic() + wait_seconds
    told = False
    while True:
        with _guard:
            if path in _held:
                descriptor, depth = _held[path]
                _held[path] = (descriptor, depth + 1)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
            else:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "command": _command()}).encode(), 0)
                _held[path] = (descriptor, 1)
                return
        holder = f"{what} {warehouse} is in use by {describe_holder(warehouse) or 'another process'}"
        if time.monotonic() >= deadline:
            raise WarehouseBusyError(f"{holder}: try again when it is done")
        if notify and not told:
            notify(f"{holder}; waiting")
            told = True
        time.sleep(0.2)


def release(warehouse: Path) -> None:
    """Give the lock back; the last of nested acquisitions frees it."""
    path = _lock_file(warehouse)
    with _guard:
        descriptor, depth = _held[path]
        if depth > 1:
            _held[path] = (descriptor, depth - 1)
            return
        del _held[path]
        os.close(descriptor)


@contextmanager
def held(
    warehouse: Path,
    *,
    wait_seconds: float = 0.0,
    notify: Callable[[str], None] | None = None,
    what: str = "the warehouse",
) -> Iterator[None]:
    """Hold the lock for the length of a block. See `acquire`."""
    acquire(warehouse, wait_seconds=wait_seconds, notify=notify, what=what)
    try:
        yield
    finally:
        release(warehouse)


def describe_holder(warehouse: Path) -> str | None:
    """Who wrote the lock file last, as `command (process id)`, or None if nobody did. Not proof that it is held."""
    try:
        said = json.loads(_lock_file(warehouse).read_text())
        return f"`{said['command']}` (process {said['pid']})"
    except (OSError, ValueError, KeyError):
        return None


def _lock_file(warehouse: Path) -> Path:
    return warehouse.resolve().with_suffix(".lock")


def _command() -> str:
    # The first words only: later arguments may hold personal data.
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]]).strip()
