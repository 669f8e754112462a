"""Contacts that may be at a destination without the ledger knowing: sent, and the answer never came.

A process that is killed between a platform's answer and the ledger leaves such contacts, and so does a lost answer after
which a refusal came in. Applying again makes up for it, but for who refused since: they are sent no more, and the ledger
has no row by which they would be unsubscribed. So the keys of all that a plan creates are noted before it is begun, and
`suppress` looks at those, too, which the ledger does not know. Keys only, no addresses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

from activation.ledger import Ledger
from core.files import replacing
from core.home import Home


def note(home: Home, target: str, plan_hash: str, keys: Collection[str]) -> None:
    """Note the keys that a plan is about to create, in hexadecimal digits. On the disk when this returns."""
    if keys:
        _write(_folder(home) / f"{_prefix(target)}-{plan_hash}.parquet", [bytes.fromhex(key) for key in keys])


def settle(home: Home, ledger: Ledger, target: str) -> set[bytes]:
    """Drop the keys that the ledger knows by now; returns those that are left."""
    left: set[bytes] = set()
    for path in _files(home, target):
        keys = _read(path)
        known = ledger.states(target, keys)
        unknown = [key for key in keys if key not in known]
        if not unknown:
            path.unlink()
        elif len(unknown) < len(keys):
            _write(path, unknown)
        left.update(unknown)
    return left


def forget(home: Home, target: str) -> None:
    """Nothing is in doubt: the destination's members have been read."""
    for path in _files(home, target):
        path.unlink()


def _write(path: Path, keys: Collection[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing(path) as beside:
        beside.touch(mode=0o600)
        pq.write_table(pa.table({"key": pa.array(list(keys), pa.binary())}), beside)


def _read(path: Path) -> list[bytes]:
    import pyarrow.parquet as pq

    found: list[bytes] = pq.read_table(path).column("key").to_pylist()
    return found


def _files(home: Home, target: str) -> list[Path]:
    return sorted(_folder(home).glob(f"{_prefix(target)}-*.parquet"))


def _folder(home: Home) -> Path:
    return home.state / "syncs" / "doubtful"


def _prefix(target: str) -> str:
    return hashlib.sha256(target.encode()).hexdigest()[:16]
