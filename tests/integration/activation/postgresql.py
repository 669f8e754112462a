"""A real PostgreSQL for tests: Debian's, in a folder of its own, on a socket there, gone at the end.

PostgreSQL does not run as root. There, its processes run as the user `postgres` that Debian's package makes.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

MISSING = "PostgreSQL is not installed here (Debian: apt-get install postgresql): ledgers in it are NOT tested"


def binaries() -> Path | None:
    """The folder with `initdb` and `postgres`; None where there is none."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    if (found := shutil.which("initdb")) is not None:
        folders.append(Path(found).parent)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


@contextmanager
def running(bin_folder: Path) -> Iterator[str]:
    """A server of its own; yields the address of its database `postgres`, with a password in it."""
    # The path of a socket may have 107 characters, which pytest's folders go beyond.
    folder = Path(tempfile.mkdtemp(prefix="mw-pg-", dir="/tmp"))
    password = secrets.token_hex(8)
    try:
        (folder / "password").write_text(password)
        if os.getuid() == 0:
            owner = pwd.getpwnam("postgres")
            for path in (folder, folder / "password"):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        data, log = folder / "data", folder / "log"
        _run(
            folder,
            [bin_folder / "initdb", "-D", data, "-U", "mailwright", "-A", "scram-sha-256", "-E", "UTF8", "--no-sync"],
            f"--pwfile={folder / 'password'}",
        )
        options = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=40"
        try:
            _run(folder, [bin_folder / "pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "-t", "60", "start"])
            yield f"postgresql://mailwright:{password}@/postgres?host={folder}"
        finally:
            _run(folder, [bin_folder / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(folder: Path, command: Sequence[str | Path], *options: str) -> None:
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
    # The server inherits what it says to, so that this may be no pipe that somebody waits for.
    with open(folder / "said", "a+") as said:
        done = subprocess.run(
            [*as_user, *map(str, command), *options],
            cwd=folder,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            check=False,
        )
        if done.returncode:
            said.seek(0)
            raise RuntimeError(f"{Path(command[0]).name} failed: {said.read()[-2000:]}")
