"""What the home remembers of its ledger, so that an older ledger, restored from a backup, is recognised.

Beside the ledger and not in it: the number of times each destination was moved, and the newest run's id. It is written
after the ledger, so that a process killed in between leaves a ledger that is ahead, which is none that was restored.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.errors import HomeError
from core.files import write_atomically
from core.home import Home


def generation(home: Home, target: str) -> int:
    """How often that destination was moved as far as the home knows."""
    return int(_read(home)["destinations"].get(target, 0))


def last_run(home: Home) -> int:
    """The newest run's id, as far as the home knows."""
    return int(_read(home)["last_run"])


def note(home: Home, target: str, generation: int, run_id: int) -> None:
    """Note where the ledger is now; what is known never goes back."""
    with _locked(home):
        said = _read(home)
        known = said["destinations"]
        known[target] = max(generation, known.get(target, 0))
        said["last_run"] = max(run_id, said["last_run"])
        write_atomically(_file(home), json.dumps(said, indent=2, sort_keys=True) + "\n")


def _file(home: Home) -> Path:
    return home.state / "generations.json"


def _read(home: Home) -> dict[str, Any]:
    try:
        said = json.loads(_file(home).read_text(encoding="utf-8"))
        return {"destinations": dict(said["destinations"]), "last_run": int(said["last_run"])}
    except FileNotFoundError:
        return {"destinations": {}, "last_run": 0}
    except (ValueError, KeyError, TypeError) as error:
        raise HomeError(f"{_file(home)} can't be read ({type(error).__name__}): restore it from a backup") from None


@contextmanager
def _locked(home: Home) -> Iterator[None]:
    home.state.mkdir(parents=True, exist_ok=True)
    with open(home.state / ".generations.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
