"""The gate: whether the last refresh got through its checks, and when. What goes out asks it first.

A refresh notes when it begins and when everything is published. One that began and never came through was stopped by a
check, failed or was killed: what it would have released is not there, and what is there may be as wrong.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from core import lock
from core.errors import HomeError, WarehouseBusyError
from core.files import write_atomically
from core.home import Home


@dataclass(frozen=True)
class Gate:
    """What is known of the last refresh.

    Attributes:
        begun_at, passed_at: aware instants of the wall clock; None where there was none.
        is_running: a refresh is at work now, so that nothing can be said of it yet.
    """

    begun_at: datetime | None = None
    passed_at: datetime | None = None
    is_running: bool = False

    @property
    def failed(self) -> bool:
        """Whether the last refresh began and did not come through."""
        if self.begun_at is None or self.is_running:
            return False
        return self.passed_at is None or self.passed_at < self.begun_at


def begin(home: Home, at: datetime) -> None:
    """A refresh has begun."""
    _write(home, Gate(at, read(home).passed_at))


def passed(home: Home, at: datetime) -> None:
    """The refresh that began last has come through all its checks, and published."""
    _write(home, Gate(read(home).begun_at, at))


def read(home: Home) -> Gate:
    """How the last refresh ended.

    Raises:
        HomeError: the file can't be read.
    """
    path = _file(home)
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        begun, came = (datetime.fromisoformat(said[name]) if said[name] else None for name in ("begun_at", "passed_at"))
    except FileNotFoundError:
        return Gate()
    except (ValueError, KeyError, TypeError) as error:
        raise HomeError(f"{path} can't be read ({error}): delete it and refresh") from None
    return Gate(begun, came, _is_running(home))


def _is_running(home: Home) -> bool:
    if not (home.root / "refresh.lock").exists():
        return False
    try:
        with lock.held(home.root / "refresh"):
            return False
    except WarehouseBusyError:
        return True


def _write(home: Home, gate: Gate) -> None:
    said = {
        name: moment.astimezone(UTC).isoformat() if moment is not None else None
        for name, moment in (("begun_at", gate.begun_at), ("passed_at", gate.passed_at))
    }
    write_atomically(_file(home), json.dumps(said) + "\n")


def _file(home: Home) -> Path:
    return home.root / "gate.json"
