"""Leases: who may work on a destination, across processes and hosts.

A lease is a row of the ledger with the process that holds it. A heartbeat renews it; whoever finds it expired, or its
process on this host dead, takes it over at once. Whatever is written under it checks first that it is still held, so that
a process which was suspended for longer than that writes nothing more.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, Engine, delete, insert, select, update
from sqlalchemy.exc import DBAPIError

from activation.ledger_tables import leases
from core.errors import PlanError

SECONDS = 120.0
_HEARTBEAT = SECONDS / 6


class AtWorkError(PlanError):
    """Another process is at work on a destination. Recovery: wait for its end."""


class Lease:
    """One lease, held from `take` to `give_back`.

    Args:
        writing: an engine whose transactions take the write lock when they begin.
        holder: who this is, for people; the process is noted anyway.
        now: seconds of the epoch, as all hosts have them.
    """

    def __init__(self, writing: Engine, name: str, holder: str, now: Callable[[], float] = time.time) -> None:
        self.name = name
        self._engine = writing
        self._holder = holder
        self._now = now
        self._token = secrets.token_hex(8)
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, name=f"lease {name}", daemon=True)

    def take(self) -> None:
        """Take the lease and keep it renewed.

        Raises:
            AtWorkError: another process holds it; says which.
        """
        pid = os.getpid()
        with self._engine.begin() as connection:
            held = connection.execute(select(leases).where(leases.c.name == self.name).with_for_update()).one_or_none()
            if held is not None:
                dead = held.host == host() and not is_running(held.pid, held.process_started)
                if held.expires_at > self._now() and not dead:
                    where = "" if held.host == host() else f" on {held.host.partition('/')[0]}"
                    raise AtWorkError(
                        f"{self.name}: {held.holder} is at work (process {held.pid}{where}); it ends by itself, or its"
                        f" lease does {max(0, round(held.expires_at - self._now()))} s from now"
                    )
                connection.execute(delete(leases).where(leases.c.name == self.name))
            connection.execute(
                insert(leases).values(
                    name=self.name,
                    token=self._token,
                    holder=self._holder,
                    host=host(),
                    pid=pid,
                    process_started=process_started(pid) or "",
                    expires_at=self._now() + SECONDS,
                )
            )
        self._heart.start()

    def check(self, connection: Connection) -> None:
        """Refuse to go on once somebody else took the lease over.

        Raises:
            PlanError: it was taken over.
        """
        c = leases.c
        held = connection.execute(select(c.token).where(c.name == self.name).with_for_update()).scalar_one_or_none()
        if held != self._token:
            raise PlanError(f"{self.name}: another process took over while this one stood still: plan again")

    def give_back(self) -> None:
        """Stop renewing it and let go of it."""
        self._stop.set()
        self._heart.join()
        c = leases.c
        with self._engine.begin() as connection:
            connection.execute(delete(leases).where(c.name == self.name, c.token == self._token))

    def renew(self) -> None:
        """Move its end on."""
        c = leases.c
        with self._engine.begin() as connection:
            connection.execute(
                update(leases)
                .where(c.name == self.name, c.token == self._token)
                .values(expires_at=self._now() + SECONDS)
            )

    def _beat(self) -> None:
        while not self._stop.wait(_HEARTBEAT):
            try:
                self.renew()
            except DBAPIError:
                # A ledger that is busy or full for once; there are further beats before the lease expires.
                continue


def host() -> str:
    """Where a process id means one process: the host's name, which of its boots, and which container on it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
        return f"{socket.gethostname()}/{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def is_running(pid: int, started: str) -> bool:
    """Whether that very process of this host is there still, and not another one with its number."""
    return process_started(pid) == started if started else _exists(pid)


def process_started(pid: int) -> str | None:
    """When a process of this host was started, in any unit; None where there is none, or it can't be told."""
    try:
        said = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return _asked_of_ps(pid) if not Path("/proc/self/stat").exists() else None
    except OSError:
        return None
    # The name in parentheses may hold spaces; a zombie is dead.
    state, *rest = said.rpartition(")")[2].split()
    return None if state in "ZX" else rest[18]


def _asked_of_ps(pid: int) -> str | None:
    asked = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return asked.stdout.strip() or None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
