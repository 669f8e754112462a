"""A platform in memory, of either key and either form of membership, with trouble to order.

For tests that need thousands of applies; what connectors do with real requests is the conformance suite's matter.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from activation import connector as connectors
from activation.connector import (
    Answer,
    Connector,
    Contact,
    Credentials,
    Field,
    Member,
    Rejection,
    Rekey,
    SandboxAccount,
)
from activation.http import Api, RefusedError, RetryPolicy
from activation.platform import FieldRule, Key, Limit, Membership, Platform
from core.home import Home

Trouble = Callable[[str, Sequence[Contact]], None]
"""Told the kind of a call and its contacts; raises what the call shall meet."""


@dataclass
class Somebody:
    """A contact as the platform has it."""

    state: connectors.State = "subscribed"
    email: str | None = None
    fields: dict[str, str] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)


@dataclass
class Account:
    """What outlives a process: the platform's own data.

    Attributes:
        forgets: keys that answers leave out, though the work was done.
        rejects: keys that are refused row by row; poison: keys for which whole calls are refused.
        made: contacts that were created, by key: nobody may be twice.
        calls: by kind.
    """

    people: dict[str, Somebody] = field(default_factory=dict)
    forgets: set[str] = field(default_factory=set)
    rejects: set[str] = field(default_factory=set)
    poison: set[str] = field(default_factory=set)
    made: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    written: list[tuple[str, str, str | None]] = field(default_factory=list)

    def tags(self) -> dict[str, set[str]]:
        """Keys by tag."""
        found: dict[str, set[str]] = {}
        for key, one in self.people.items():
            for tag in one.tags:
                found.setdefault(tag, set()).add(key)
        return found


@dataclass(frozen=True)
class MemoryCredentials(Credentials):
    data: Account = field(default_factory=Account)


class Memory(Connector):
    """One account. `before` and `after` the work of each call, trouble may come."""

    platform: ClassVar[Platform]

    def __init__(self, credentials: MemoryCredentials, api: Api) -> None:
        super().__init__(credentials, api)
        self.data = credentials.data
        self.before: Trouble = lambda kind, contacts: None
        self.after: Trouble = lambda kind, contacts: None
        self.prepared: list[tuple[list[str], list[str]]] = []
        self._lock = threading.RLock()

    @classmethod
    def credentials(cls, home: Home) -> Credentials | None:
        return None

    @classmethod
    def sandbox_credentials(cls, account: SandboxAccount) -> Credentials:
        raise NotImplementedError

    @classmethod
    def connect(cls, credentials: Any, retry: RetryPolicy | None = None) -> Memory:
        return cls(credentials, Api(cls.platform, "http://127.0.0.1:1", description=credentials.description))

    def prepare(self, fields: Sequence[Field], tags: Collection[str]) -> None:
        self.before("prepare", [])
        self.prepared.append(([one.name for one in fields], sorted(tags)))

    def write(self, contacts: Sequence[Contact]) -> Answer:
        return self._call("write", contacts, self._write)

    def change_tag(self, tag: str, add: Sequence[Contact], remove: Sequence[Contact]) -> Answer:
        removing = {contact.key for contact in remove}

        def change(contact: Contact) -> str | None:
            one = self.data.people.get(contact.key)
            if contact.key in removing:
                if one is not None:
                    one.tags.discard(tag)
                return None
            if one is None or one.state == "archived":
                return "nobody there"
            one.tags.add(tag)
            return None

        return self._call(f"tag {tag}", [*add, *remove], change)

    def unsubscribe(self, contacts: Sequence[Contact]) -> Answer:
        def change(contact: Contact) -> None:
            if contact.key in self.data.people:
                self.data.people[contact.key].state = "unsubscribed"

        return self._call("unsubscribe", contacts, change)

    def erase(self, contacts: Sequence[Contact]) -> Answer:
        def change(contact: Contact) -> None:
            self.data.people.pop(contact.key, None)

        return self._call("erase", contacts, change)

    def archive(self, contacts: Sequence[Contact]) -> Answer:
        def change(contact: Contact) -> None:
            if contact.key in self.data.people:
                self.data.people[contact.key] = Somebody("archived")

        return self._call("archive", contacts, change)

    def rekey(self, changes: Sequence[Rekey]) -> Answer:
        old = {change.new.key: change.old.key for change in changes}

        def change(contact: Contact) -> None:
            if (one := self.data.people.pop(old[contact.key], None)) is not None:
                one.email = contact.email
                self.data.people[contact.key] = one

        return self._call("rekey", [change.new for change in changes], change)

    def members(self) -> Iterator[Member]:
        self.before("read", [])
        for key, one in sorted(self.data.people.items()):
            own = frozenset(tag for tag in one.tags if tag.startswith(self.platform.tag_prefix))
            yield Member(key, one.state, own, dict(one.fields))

    def _write(self, contact: Contact) -> str | None:
        people = self.data.people
        one = people.get(contact.key)
        if one is None or one.state == "archived":
            if not contact.is_new:
                return "nobody there" if contact.fields or contact.add else None
            one = people[contact.key] = Somebody(email=contact.email)
            self.data.made[contact.key] += 1
        for name, value in contact.fields.items():
            if value is None:
                one.fields.pop(name, None)
            else:
                one.fields[name] = value
        one.tags = (one.tags | set(contact.add)) - set(contact.remove)
        return None

    def _call(self, kind: str, contacts: Sequence[Contact], work: Callable[[Contact], str | None]) -> Answer:
        self.before(kind, contacts)
        answer = Answer()
        with self._lock:
            self.data.calls[kind] += 1
            if any(contact.key in self.data.poison for contact in contacts):
                raise RefusedError("BAD_CALL", f"{contacts[0].email} can't be parsed")
            for contact in contacts:
                self.data.written.append((kind, contact.key, contact.email))
                if contact.key in self.data.rejects:
                    answer.rejected.append(Rejection(contact.key, "BAD_ROW", f"{contact.email} looks fake"))
                    continue
                words = work(contact)
                if contact.key in self.data.forgets:
                    continue
                if words is None:
                    answer.accepted.add(contact.key)
                else:
                    answer.rejected.append(Rejection(contact.key, "NOT_FOUND", words))
        self.after(kind, contacts)
        if self.api.observer is not None:
            self.api.observer("POST", f"/{kind.partition(' ')[0]}", len(contacts), 200, 0.0, None)
        return answer


def kind_of(key: Key, membership: Membership, *, batch: int = 3, connections: int = 2) -> type[Memory]:
    """Make a platform."""
    name = f"memory_{key}_{membership}"
    made: type[Memory] = type("Made", (Memory,), {
        "platform": Platform(
            name=name, title="Memory", key=key, membership=membership, membership_form="a set", tag_prefix="mw_",
            limits={"contacts": Limit(batch=batch), "tags": Limit(batch=batch), "unsubscribe": Limit(batch=1)},
            fields=FieldRule(r"\w+", prefix=""), consent_form="state", documents="none", connections=connections,
        ),
    })  # fmt: skip
    return made


def register(kind: type[Memory]) -> None:
    """Put a platform among those that syncs may name."""
    connectors.platforms()[kind.platform.name] = kind


def opened(kind: type[Memory], data: Account, name: str = "one") -> Memory:
    """A connector as a new process has it, of an account that has been there before."""
    return kind.connect(MemoryCredentials("http://127.0.0.1:1", name, f"Memory {name}", data))
