"""How many contacts a second a connector brings into the sandbox, platform by platform.

Run: python -m tests.benchmarks.bench_sandbox [PLATFORM ...]

Connector and sandbox are two processes on this machine, as in an apply, but without plan, consent and ledger. Each contact
has eight fields and two memberships. What is held against it is the smaller of 5,000 a second and 80 % of what the platform
publishes, which the sandbox imposes. On a machine that others use too, the processors' seconds tell more than the clock's:
the last column is what one core of sandbox would bear.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil

from activation import destinations, sync
from activation.connector import Answer, Connector, Contact, Field, key_of
from activation.sandbox import process
from activation.sandbox.parts import parts
from core.home import Home
from core.settings import Settings

CONTACTS = 20_000
WANTED = 5_000
PORT = 8630


def main(names: Sequence[str] = ()) -> None:
    """Measure the platforms named, or all that the sandbox has."""
    print(
        f"{CONTACTS:,} contacts with 8 fields of the shipped sync and 2 memberships each, connector and sandbox on this machine",
        flush=True,
    )
    for name in names or parts():
        with tempfile.TemporaryDirectory(prefix="mailwright-bench-") as folder:
            home = Home.create(Path(folder) / "home", "Europe/London", "GBP")
            settings = Settings(home=home.root, sandbox_port=PORT)
            with opened(settings, home, name) as connector:
                measure(settings, connector, psutil.Process(process.start(settings, home).process_id))


@contextmanager
def opened(settings: Settings, home: Home, name: str) -> Iterator[Connector]:
    """A connector to a sandbox of its own."""
    process.start(settings, home)
    connector = destinations.open(settings, home, name, sandbox=True)
    try:
        yield connector
    finally:
        connector.close()
        process.stop(home)


def measure(settings: Settings, connector: Connector, sandbox: psutil.Process) -> None:
    """Create everybody, put them into their segments, and say how long it took."""
    platform = connector.platform
    limit = platform.limit("contacts")
    shipped = sync.read(settings, platform.name)
    names = [name for name in shipped.fields.values() if name != "email"][:8]
    tags = [shipped.tag_of(segment) for segment in ("frequent_buyers", "dormant")]
    connector.prepare([Field(name, name, name, "text") for name in names], tags)
    in_contact = tuple(tags) if platform.membership == "attributes" else ()
    contacts = [contact(connector, number, names, in_contact) for number in range(CONTACTS)]
    started, before, ours = time.perf_counter(), cpu(sandbox), time.process_time()
    with ThreadPoolExecutor(platform.connections) as pool:
        answers = list(pool.map(connector.write, batches(contacts, limit.batch)))
        if platform.membership == "tags":
            most = platform.limit("tags").batch
            for tag in tags:
                list(pool.map(lambda some, tag=tag: connector.change_tag(tag, some, ()), batches(contacts, most)))
    seconds, theirs, ours = time.perf_counter() - started, cpu(sandbox) - before, time.process_time() - ours
    check(platform.name, answers)
    published = limit.contacts_per_second
    wanted = WANTED if published is None else min(WANTED, 0.8 * published)
    reached = CONTACTS / seconds
    print(
        f"{platform.name:10} {reached:8,.0f} contacts/s, {reached / wanted:5.2f} of the wanted {wanted:6,.0f}"
        f" (published {'nothing' if published is None else f'{published:,.0f}'});"
        f" processors {ours:5.2f} s connector, {theirs:5.2f} s sandbox: {CONTACTS / theirs:8,.0f} contacts/s a core",
        flush=True,
    )


def contact(connector: Connector, number: int, names: Sequence[str], tags: tuple[str, ...]) -> Contact:
    """Somebody new."""
    email, customer = f"person{number:06}@example.com", f"{number:016x}"
    fields = {name: f"v{(number + index) % 97}" for index, name in enumerate(names)}
    return Contact(key_of(connector.platform.key, email, customer), email, True, fields, add=tags)


def batches(contacts: Sequence[Contact], most: int) -> list[Sequence[Contact]]:
    """The contacts in calls of at most so many."""
    return [contacts[start : start + most] for start in range(0, len(contacts), most)]


def check(name: str, answers: Sequence[Answer]) -> None:
    """Stop unless everybody was taken: a refusal costs less than a contact."""
    accepted = sum(len(answer.accepted) for answer in answers)
    if accepted != CONTACTS:
        words = next((one.code for answer in answers for one in answer.rejected), "no answer")
        sys.exit(f"{name}: {accepted:,} of {CONTACTS:,} contacts were taken; the first refusal is {words}")


def cpu(process: psutil.Process) -> float:
    """Seconds of processor that a process has used."""
    used = process.cpu_times()
    return float(used.user + used.system)


if __name__ == "__main__":
    main(sys.argv[1:])
