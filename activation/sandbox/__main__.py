"""`python -m activation.sandbox --folder DIR --port N`: the sandbox's server, in the foreground."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import socket
import sys
import time
from pathlib import Path

from activation.sandbox.process import PORTS_TRIED, lock_file


def main() -> int:
    """Take the folder's lock, find a port, serve. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    given.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(lock_file(given.folder), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _lock(descriptor):
        sys.stderr.write("this folder's sandbox runs already\n")
        return 0
    os.ftruncate(descriptor, 0)
    listener = _bind(given.port)
    if listener is None:
        last = given.port + PORTS_TRIED - 1
        sys.stderr.write(f"ports {given.port} to {last} are all taken: set MAILWRIGHT_SANDBOX_PORT\n")
        return 1
    serve(given.folder, listener, descriptor, given.port)
    return 0


def serve(folder: Path, listener: socket.socket, descriptor: int, wanted_port: int) -> None:
    """Serve until told to end. The imports are here: what only asks for the status need not pay for them."""
    from activation.sandbox.app import Sandbox, server

    port = listener.getsockname()[1]
    sandbox = Sandbox(folder, f"{os.getpid()}-{port}")
    said = {"process_id": os.getpid(), "port": port, "wanted_port": None if port == wanted_port else wanted_port}
    os.pwrite(descriptor, json.dumps(said).encode(), 0)
    try:
        server(sandbox).run(sockets=[listener])
    finally:
        sandbox.close()


def _lock(descriptor: int) -> bool:
    # Someone who asks for the status holds the lock for an instant: that is no reason to give up.
    for _ in range(20):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.05)
    return False


def _bind(port: int) -> socket.socket | None:
    """A listening socket on the first free port from `port` on, on loopback."""
    for candidate in range(port, min(port + PORTS_TRIED, 65536)):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", candidate))
            listener.listen(128)
            return listener
        except OSError:
            listener.close()
    return None


if __name__ == "__main__":
    sys.exit(main())
