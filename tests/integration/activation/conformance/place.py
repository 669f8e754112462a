"""A home with one sync of one platform, whose sandbox serves on loopback. What is there is read from the sandbox itself."""

from __future__ import annotations

import dataclasses
import importlib
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pytest

from activation import apply, plan, releases, suppress, sync
from activation.apply import ApplyReport
from activation.connector import Answer, Connector, Contact, Rekey, SandboxAccount, key_of, platform_named
from activation.http import RetryPolicy
from activation.ledger import Ledger
from activation.plan import Plan
from activation.platform import Limit, Platform
from activation.releases import Release
from activation.sandbox.app import Sandbox
from activation.sandbox.faults import Faults
from activation.sandbox.part import Part, Said
from activation.sandbox.people import Person as Found
from activation.sandbox.wire import answer
from activation.suppress import SuppressReport
from activation.sync import Sync
from core.home import Home
from core.settings import Settings
from tests.integration.activation.conformance.imported import Imported
from tests.integration.activation.world import AS_OF, Person, deliver, fill_warehouse, naive, serving

IMPATIENT = RetryPolicy(attempts=5, first_wait=0.01, longest_wait=0.05, longest_retry_after=1.0)
BATCH = 4
# What the releases of these tests have of the profiles' columns.
COLUMNS = ("email", "given_name", "surname", "country_code", "rfm_segment")
SEGMENTS = ("frequent_buyers", "dormant", "onboarding")
# A name that no platform takes, wherever it stands.
UNACCEPTABLE = "Unacceptable-Surname"
# An address that no platform takes, as its domain can't be: it is told of that row alone.
IMPOSSIBLE = "person004@example.c"
# What a connector without a server does that changes something there.
_WRITES = ("write", "unsubscribe", "erase", "archive", "rekey")


def quick(platform: Platform) -> Platform:
    """The platform with small batches and without limits of calls: a test has few contacts, and no time."""

    def small(limit: Limit) -> Limit:
        return dataclasses.replace(limit, batch=min(BATCH, limit.batch), calls=None, burst=None)

    return dataclasses.replace(platform, limits={kind: small(limit) for kind, limit in platform.limits.items()})


def make_quick(kind: type[Connector], set_attribute: Callable[[Any, str, Any], None]) -> Platform:
    """Put the quick platform in the place of the declared one."""
    fast = quick(kind.platform)
    set_attribute(importlib.import_module(kind.__module__), "PLATFORM", fast)
    set_attribute(kind, "platform", fast)
    return fast


def settings_of(root: Path) -> Settings:
    return Settings(home=root, memory_limit="500MB", threads=1)


@cache
def _shipped(platform: str) -> Sync:
    return sync.read(Settings(), platform)


def document_of(platform: str) -> Sync:
    """The shipped sync, of the columns and segments that the releases here have, with breakers that stop nothing."""
    shipped = _shipped(platform)
    fields = {column: name for column, name in shipped.fields.items() if column in COLUMNS}
    generous = shipped.breakers.model_copy(update={"added": 1.0, "removed": 1.0, "rejects": 1.0})
    return shipped.model_copy(
        update={"fields": fields, "segments": list(SEGMENTS), "automations": [], "breakers": generous}
    )


def person(number: int, **changes: Any) -> Person:
    return Person(
        **{
            "email": f"person{number:03}@example.com", "customer_id": f"{number:016x}", "given_name": f"Given{number}",
            "surname": f"Surname{number}", "segments": (SEGMENTS[number % 3],), **changes,
        }
    )  # fmt: skip


def persons(*numbers: int, **changes: Any) -> dict[int, Person]:
    return {number: person(number, **changes) for number in numbers}


@dataclass(frozen=True)
class Asked:
    """A call that reached the sandbox."""

    method: str
    path: str
    raw: bytes

    @property
    def is_write(self) -> bool:
        return self.method != "GET"

    @property
    def is_reading(self) -> bool:
        """Whether it is a POST all the same that changes nobody: a token, or SOAP's way to read."""
        return "token" in self.path or b"RetrieveRequest" in self.raw

    def names(self, someone: Person, key: str) -> bool:
        """Whether it is about somebody: their address or key stands in it."""
        said = self.raw.decode(errors="replace").lower() + self.path.lower()
        return any(text.lower() in said for text in (someone.email, key))


class Watch:
    """Notes calls, tells of them, and refuses bodies that hold a text: an ASGI layer around the sandbox.

    Around a connector that has no server it notes and tells of what that writes.

    Attributes:
        asked: every call that came.
        instead: asked before the sandbox; what it returns is the answer.
        before, after: told of a call before it reaches the sandbox, and when the work is done but not answered.
        unacceptable: a body that holds it is refused as a whole, in the platform's words.
    """

    def __init__(self, app: Any, part: Part | None) -> None:
        self._app = app
        self._part = part
        self._lock = threading.Lock()
        self.asked: list[Asked] = []
        self.before: Callable[[Asked], None] | None = None
        self.after: Callable[[Asked], None] | None = None
        self.instead: Callable[[Asked], Said | None] = lambda asked: None
        self.unacceptable: str | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        pieces = []
        while (message := await receive())["type"] == "http.request":
            pieces.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        raw = b"".join(pieces)
        asked = Asked(scope["method"], scope["path"], raw)
        self._begin(asked)
        if self._part is not None and (own := self.instead(asked)) is not None:
            await answer(send, own, self._part.clock.now())
            return
        if self._part is not None and self.unacceptable is not None and self.unacceptable.encode() in raw:
            said = self._part.problem(self._part.invalid("rows", "one of them is not acceptable"))
            await answer(send, said, self._part.clock.now())
            return
        replayed = iter([{"type": "http.request", "body": raw, "more_body": False}])

        async def replay() -> Any:
            return next(replayed, None) or await receive()

        done: list[Any] = []

        async def hold(message: Any) -> None:
            done.append(message)

        await self._app(scope, replay, send if self.after is None else hold)
        if self.after is not None:
            self.after(asked)
        for message in done:
            await send(message)

    def around(self, connector: Connector) -> Connector:
        """Watch a connector's own methods."""
        for name in _WRITES:
            setattr(connector, name, self._watched(name, getattr(connector, name)))
        return connector

    def _watched(self, name: str, method: Callable[[Any], Answer]) -> Callable[[Any], Answer]:
        def watched(rows: Sequence[Any]) -> Answer:
            asked = Asked("PUT", f"/{name}", b"\n".join(_said(row) for row in rows))
            self._begin(asked)
            done = method(rows)
            if self.after is not None:
                self.after(asked)
            return done

        return watched

    def _begin(self, asked: Asked) -> None:
        # One after the other, as a server's one thread has them.
        with self._lock:
            self.asked.append(asked)
            if self.before is not None:
                self.before(asked)


def _said(row: Contact | Rekey) -> bytes:
    contact = row.new if isinstance(row, Rekey) else row
    return f"{contact.key} {contact.email}".encode()


@dataclass
class Place:
    """A platform's sandbox, a home, and what goes from the one to the other.

    Attributes:
        there: who was in the newest release, by number.
    """

    home: Home
    settings: Settings
    sync: Sync
    connector: Connector
    part: Part | Imported
    faults: Faults | None
    watch: Watch
    account: SandboxAccount
    reconnect: Callable[[], Connector]
    there: dict[int, Person] = field(default_factory=dict)
    deliveries: int = 0
    releases: int = 0

    @property
    def platform(self) -> Platform:
        return self.connector.platform

    # What is known of customers.

    def release(self, people: Mapping[int, Person]) -> Release:
        """Freeze a release of these."""
        self.there = dict(people)
        self.releases += 1
        with duckdb.connect() as connection:
            fill_warehouse(connection, list(people.values()))
            return releases.freeze(self.settings, self.home, connection, as_of=AS_OF + timedelta(hours=self.releases))

    def withdraw(self, *people: Person, suppression: str = "unsubscribe", at: datetime = AS_OF) -> None:
        """Have refusals delivered by the CRM."""
        self.deliveries += 1
        said = [
            {
                "consent_id": f"w{self.deliveries}-{someone.email}", "contact_point": someone.email,
                "channel": "email", "purpose": "marketing", "state": "withdrawn", "suppression": suppression,
                "captured_at": naive(at),
            }
            for someone in people
        ]  # fmt: skip
        deliver(self.home, self.deliveries, "crm", "consents", said, at)

    def merge(self, gone: str, into: str) -> None:
        """Have two customers turn out to be one, as the journal of identities tells."""
        journal = self.home.identity / "journal"
        journal.mkdir(parents=True)
        with duckdb.connect() as connection:
            connection.execute(
                f"copy (select 1 as run, 1 as entry, 'merged' as event, '{into}' as customer_id,"
                f" '{gone}' as other_customer_id) to '{journal / '1.parquet'}' (format parquet)"
            )

    # What is done about it.

    def plan(self, **options: Any) -> Plan:
        return plan.make(self.settings, self.home, self.sync, connector=self.connector, now=self.now(), **options)

    def apply(self, made: Plan | None = None, **options: Any) -> ApplyReport:
        options = {"connector": self.connector, "sync": self.sync, "retry": IMPATIENT, "now": self.now, **options}
        options.setdefault("override", ("added", "removed"))
        return apply.apply(self.settings, self.home, made or self.plan(), **options)

    def suppress(self) -> SuppressReport:
        """Push withdrawals, as the job does every few minutes."""
        [report] = suppress.suppress(
            self.settings, self.home, [self.sync.name], connectors={self.sync.name: self.connector},
            retry=IMPATIENT, now=self.now,
        )  # fmt: skip
        return report

    def now(self) -> datetime:
        return AS_OF + timedelta(hours=self.releases, minutes=1)

    def settle(self, tries: int = 4) -> None:
        """Plan and apply until nothing is left to do, as an operator would after a failure."""
        for _ in range(tries):
            made = self.plan()
            if not made.operations:
                return
            self.apply(made)
        raise AssertionError(f"after {tries} more applies there is still something to do")

    # What became of it.

    def key(self, someone: Person) -> str:
        return key_of(self.platform.key, someone.email, someone.customer_id)

    def there_key(self, someone: Person) -> str:
        """What the sandbox finds somebody by."""
        return self.found()[self.key(someone)].key

    def found(self) -> dict[str, Found]:
        """Everybody at the platform, by the ledger's key."""
        return {key_of(self.platform.key, one.email or "", one.key): one for one in self.part.people.everyone()}

    def memberships(self) -> dict[str, set[str]]:
        """Tags of ours by the ledger's key."""
        everyone = list(self.part.people.everyone())
        tags = self.part.memberships(everyone)
        return {
            key_of(self.platform.key, one.email or "", one.key): {
                tag for tag in tags.get(one.key, []) if tag.startswith(self.platform.tag_prefix)
            }
            for one in everyone
        }

    def differences(
        self,
        people: Mapping[int, Person] | None = None,
        *,
        gone: Collection[Person] = (),
        refused: Collection[Person] = (),
    ) -> list[str]:
        """How the platform differs from what it should be, in words; empty where it does not.

        Args:
            people: who should be mailed there, with their fields and tags: by default those of the newest release.
            gone: of those, who left there.
            refused: of those, who refused: nothing of ours is left on them.
        """
        bare = {self.key(someone) for someone in refused}
        out = {self.key(someone) for someone in gone} | bare
        wanted = {self.key(someone): someone for someone in (self.there if people is None else people).values()}
        found, tags = self.found(), self.memberships()
        said = [f"{key}: is not there" for key in wanted.keys() - found.keys() - out]
        if len(found) < sum(1 for _ in self.part.people.everyone()):
            said.append("somebody is there twice")
        for key, one in found.items():
            if key in out or key not in wanted:
                if one.state == "subscribed" and key in out:
                    said.append(f"{key}: refused, and is subscribed")
                if tags[key] and (key in bare or key not in out):
                    said.append(f"{key}: is not to be mailed, and still has {sorted(tags[key])}")
                continue
            if one.state != "subscribed":
                said.append(f"{key}: is {one.state}")
            expected = {self.sync.tag_of(segment) for segment in wanted[key].segments}
            if tags[key] != expected:
                said.append(f"{key}: has {sorted(tags[key])}, not {sorted(expected)}")
            fields = self.part.fields_of(one)
            for column, name in self.sync.fields.items():
                value = getattr(wanted[key], column)
                if str(fields.get(name) or "") != str(value or ""):
                    said.append(f"{key}: {column} is {fields.get(name)!r}, not {value!r}")
        return said

    def assert_settled(self, **options: Any) -> None:
        """The platform is as it should be, and a new plan finds nothing to do."""
        found = self.differences(**options)
        assert not found, "\n".join(found)
        left = self.plan()
        assert left.operations == 0, f"a new plan would still do {operations(left)}"

    def calls_about(self, someone: Person, since: int) -> list[Asked]:
        """Writes that named somebody, of those after the first `since` calls."""
        return [one for one in self.watch.asked[since:] if one.is_write and one.names(someone, self.key(someone))]

    def for_a_process(self) -> tuple[Any, ...]:
        """What another process needs to reach the same platform from the same home."""
        account = self.account
        return self.home.root, self.platform.name, account.account, account.base_url(), dict(account.secrets)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.home, self.settings)


def operations(made: Plan) -> list[tuple[str, str]]:
    """Action and key of what a plan would do."""
    with duckdb.connect() as connection:
        return connection.execute(f"select action, key from read_parquet('{made.path}') order by all").fetchall()


@contextmanager
def place_of(platform: str, home: Home, settings: Settings, patch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A platform's place: its sandbox serves for the length of the block."""
    kind = platform_named(platform)
    fast = make_quick(kind, patch.setattr)
    document = document_of(platform)
    if not Imported.is_for(kind):
        sandbox = Sandbox(home.sandbox, "test", [platform])
        part, faults = sandbox.parts[platform], sandbox.faults[platform]
        patch.setattr(type(part), "platform", fast)
        watch = Watch(sandbox.app(), part)
        with serving(watch) as url:
            account = SandboxAccount(part.account, lambda: f"{url}/{platform}", part.secrets)
            with _connected(kind, account) as connect:
                yield Place(home, settings, document, connect(), part, faults, watch, account, connect)
        sandbox.close()
        return
    folder = home.sandbox / "drops"
    account = SandboxAccount("test", str, {"folder": str(folder)})
    watch = Watch(None, None)
    with _connected(kind, account) as connect:

        def connect_watched() -> Connector:
            return watch.around(connect())

        imported = Imported(folder)
        yield Place(home, settings, document, connect_watched(), imported, None, watch, account, connect_watched)


@contextmanager
def _connected(kind: type[Connector], account: SandboxAccount) -> Iterator[Callable[[], Connector]]:
    made: list[Connector] = []

    def connect() -> Connector:
        made.append(kind.connect(kind.sandbox_credentials(account), IMPATIENT))
        return made[-1]

    yield connect
    for connector in made:
        connector.close()
