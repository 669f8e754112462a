"""The sandbox as a background process of its own: start, stop, status.

The server holds a kernel lock on a file in which it wrote its process id and port. The lock ends with the process,
however that dies, so whoever finds it held knows that the process named there is alive and is the sandbox of this home.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import DestinationError
from core.home import Home
from core.settings import PREFIX, Settings

if TYPE_CHECKING:
    from activation.connector import SandboxAccount

PORTS_TRIED = 20


@dataclass(frozen=True)
class Running:
    """A sandbox that runs.

    Attributes:
        is_new: started by this call.
        wanted_port: the port of the settings, when something else has it and the next free one was taken.
    """

    process_id: int
    port: int
    is_new: bool = False
    wanted_port: int | None = None

    @property
    def url(self) -> str:
        """Without a slash at the end; the page for people is there, each platform below its own name."""
        return f"http://127.0.0.1:{self.port}"

    def summary(self) -> dict[str, str | int]:
        """Label to value, for people."""
        said: dict[str, str | int] = {"sandbox": self.url, "process": self.process_id}
        if self.wanted_port is not None:
            said["note"] = f"port {self.wanted_port} is taken by something else"
        return said


def lock_file(folder: Path) -> Path:
    """Where the server of the sandbox in `folder` says who it is."""
    return folder / "server.json"


def log_file(folder: Path) -> Path:
    """Where the server of the sandbox in `folder` complains."""
    return folder / "server.log"


def status(home: Home) -> Running | None:
    """The home's sandbox, or None if it does not run."""
    path = lock_file(home.sandbox)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None  # nobody holds it: what it says is of a process that ended
        except BlockingIOError:
            said = json.loads(os.pread(descriptor, 4096, 0) or b"{}")
    except ValueError:
        return None
    finally:
        os.close(descriptor)
    if "port" not in said:
        return None  # still on its way up
    return Running(said["process_id"], said["port"], wanted_port=said["wanted_port"])


def start(settings: Settings, home: Home, *, wait_seconds: float = 20.0) -> Running:
    """Start the home's sandbox in the background, or return the one that runs, once it answers.

    Raises:
        DestinationError: it does not come up; names its log.
    """
    running = status(home)
    if running is not None and _answers(running):
        return running
    home.sandbox.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = log_file(home.sandbox)
    with open(log, "ab") as output:
        child = subprocess.Popen(
            [
                sys.executable, "-m", "activation.sandbox",
                "--folder", str(home.sandbox.resolve()), "--port", str(settings.sandbox_port),
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=settings.project_dir,
            # It needs no setting, and no key of a real account.
            env={name: value for name, value in os.environ.items() if not name.startswith(PREFIX)},
        )  # fmt: skip
    log.chmod(0o600)
    deadline = time.monotonic() + wait_seconds
    while time.monotonic() < deadline:
        # Another start may have been first: then its server is the one, and ours ends by itself.
        running = status(home)
        if running is not None and _answers(running):
            is_new = running.process_id == child.pid
            if not is_new:
                child.terminate()  # else it would step in when the other is stopped
                child.wait()
            return Running(running.process_id, running.port, is_new, running.wanted_port)
        if running is None and child.poll() not in (None, 0):
            break
        time.sleep(0.05)
    raise DestinationError(f"the sandbox did not come up: its log, {log}, ends with {_last_line(log)!r}")


def account(settings: Settings, home: Home, platform: str) -> SandboxAccount:
    """A platform's account in the home's sandbox, which is started by the first call there.

    Raises:
        PlanError: the sandbox has no such platform.
    """
    from activation.sandbox.account import open_account

    return open_account(home.sandbox, platform, lambda: start(settings, home).url)


def stop(home: Home, *, wait_seconds: float = 10.0) -> bool:
    """Stop the home's sandbox and wait for its end. Returns whether one was running."""
    running = status(home)
    if running is None:
        return False
    deadline = time.monotonic() + wait_seconds
    os.kill(running.process_id, signal.SIGTERM)
    while (now := status(home)) is not None and now.process_id == running.process_id:
        if time.monotonic() > deadline:
            os.kill(running.process_id, signal.SIGKILL)
        time.sleep(0.05)
    return True


def _answers(running: Running) -> bool:
    """Whether it is our server that answers on its port."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{running.url}/health", timeout=5) as response:
            return bool(json.load(response)["instance"] == f"{running.process_id}-{running.port}")
    except (OSError, ValueError, KeyError):
        return False


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return lines[-1] if lines else ""
