"""One platform's part of the sandbox, served on loopback, with a connector to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from activation.connector import Connector, SandboxAccount, platform_named
from activation.http import RetryPolicy
from activation.sandbox.app import Sandbox, server
from activation.sandbox.faults import Faults
from activation.sandbox.part import Part
from activation.sandbox.people import Person

IMPATIENT = RetryPolicy(attempts=4, first_wait=0.01, longest_wait=0.05, longest_retry_after=1.0)


@dataclass
class Served:
    """A part at work.

    Attributes:
        calls: what the connector asked since, oldest first: method, route, contacts, status.
    """

    part: Part
    faults: Faults
    url: str
    connector: Any
    calls: list[tuple[str, str, int, int | None]]

    def person(self, key: str) -> Person | None:
        return self.part.people.find([key]).get(key)

    def ask(self, method: str, path: str, headers: dict[str, str], **options: Any) -> httpx.Response:
        """A call by hand."""
        with httpx.Client(base_url=self.url, trust_env=False) as client:
            return client.request(method, path, headers=headers, **options)


@contextmanager
def served(folder: Path, name: str) -> Iterator[Served]:
    sandbox = Sandbox(folder, "test", [name])
    part = sandbox.parts[name]
    with _serving(sandbox) as root:
        kind: type[Connector] = platform_named(name)
        url = f"{root}/{name}"
        account = SandboxAccount(part.account, lambda: url, part.secrets)
        connector = kind.connect(kind.sandbox_credentials(account), IMPATIENT)
        made = Served(part, sandbox.faults[name], url, connector, [])
        connector.observe(lambda method, route, rows, status, *_: made.calls.append((method, route, rows, status)))
        yield made
        connector.close()
    sandbox.close()


@contextmanager
def _serving(sandbox: Sandbox) -> Iterator[str]:
    """Serve on a free port of loopback for the length of the block."""
    made = server(sandbox)
    made.config.port = 0
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    while not made.started:
        assert thread.is_alive(), "the sandbox does not start"
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{made.servers[0].sockets[0].getsockname()[1]}"
    finally:
        made.should_exit = True
        thread.join(10)
