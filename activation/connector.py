"""What a connector does: it translates between contacts and one platform's API, and nothing else.

Consent, the ledger, the order of batches, repeating, dead letters, breakers and silence are the engine's, so that no
connector can forget them. All connectors pass one conformance suite (`tests/integration/activation/conformance`).
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Literal

from activation.http import Api, Observer, RetryPolicy, without_addresses
from activation.platform import FieldType, Key, Platform
from core.errors import PlanError
from core.home import Home


@dataclass(frozen=True)
class Field:
    """A field of ours at the platform.

    Attributes:
        column: column of the release's profiles.
        name: the platform's name of it.
        label: what people see there.
    """

    column: str
    name: str
    label: str
    type: FieldType


@dataclass(frozen=True, slots=True)
class Contact:
    """One contact in a call.

    Attributes:
        key: the platform's key as the ledger has it: the MD5 of the address in lower case, or the customer's id.
        email: the address; None where only the key is known any more.
        is_new: the ledger knows of no such contact there: its subscription is written, else never.
        fields: field name to value, only those to be written; None clears. A date is YYYY-MM-DD, a number its digits.
        add, remove: tags to be put on and taken off with this contact (membership `attributes` only).
        is_doubtful: the ledger does not know for certain what is there of it, if anything is.
    """

    key: str
    email: str | None = field(default=None, repr=False)
    is_new: bool = False
    fields: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    is_doubtful: bool = False


@dataclass(frozen=True)
class Rekey:
    """A contact that goes by another key, or address, from now on: never a deletion and a creation."""

    old: Contact
    new: Contact


State = Literal["subscribed", "unsubscribed", "bounced", "archived"]


@dataclass(frozen=True)
class Member:
    """A contact as it is at the platform.

    Attributes:
        state: `subscribed` may be mailed; `unsubscribed` and `bounced` may not; `archived` counts as not there.
        tags: tags of ours that it has.
        fields: hashes are made of them; None where the platform does not give them back.
    """

    key: str
    state: State
    tags: frozenset[str] = frozenset()
    fields: Mapping[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Rejection:
    """A row that the platform refused, in its own words."""

    key: str
    code: str
    words: str = field(repr=False)


@dataclass
class Answer:
    """What the platform said about each row of a call. A row in neither part is not acknowledged and is sent again."""

    accepted: set[str] = field(default_factory=set)
    rejected: list[Rejection] = field(default_factory=list)


@dataclass(frozen=True)
class Credentials(ABC):
    """What it takes to call an account. A subclass adds secrets, as `SecretStr`.

    Attributes:
        base_url: where the API is, without a slash at the end; or a function that tells when it is first needed.
        account: which account this is, without any secret: with the platform's name it is the ledger's key.
        description: where this goes, for people.
    """

    base_url: str | Callable[[], str]
    account: str
    description: str


@dataclass(frozen=True)
class SandboxAccount:
    """A platform's account in the home's sandbox.

    Attributes:
        account: made at random with the sandbox's files: other files are another account.
        base_url: where the platform's part answers, asked for at the first call: the port is known while it runs.
        secrets: keys as the real platform would give them, by name.
    """

    account: str
    base_url: Callable[[], str]
    secrets: Mapping[str, str] = field(repr=False)


class Connector(ABC):
    """One account at one platform. Methods that call the platform are called from several threads.

    Every such method raises:
        TryAgainError: no answer this time; the same call may be repeated.
        RefusedError: the call was refused as a whole; its rows are sent apart.
        DestinationError: nothing will work before somebody mends it (rights, account, key).
    """

    platform: ClassVar[Platform]

    def __init__(self, credentials: Credentials, api: Api) -> None:
        self.account = credentials
        self.api = api

    @classmethod
    @abstractmethod
    def credentials(cls, home: Home) -> Credentials | None:
        """Of the real account, from the environment; None where that says nothing of it: then it is the sandbox.

        Raises:
            SettingsError: the environment says some of it and not all, or something wrong.
        """

    @classmethod
    @abstractmethod
    def sandbox_credentials(cls, account: SandboxAccount) -> Credentials:
        """Of the sandbox's account."""

    @classmethod
    @abstractmethod
    def connect(cls, credentials: Any, retry: RetryPolicy | None = None) -> Connector:
        """Make the connector of an account. Opens no connection."""

    @property
    def target(self) -> str:
        """Which account: the ledger is kept by it, so that a sandbox and a real account never mix."""
        return f"{self.platform.name}/{self.account.account}"

    @property
    def description(self) -> str:
        return self.account.description

    def __repr__(self) -> str:
        return f"<{self.description}>"

    def observe(self, observer: Observer) -> None:
        """Have every later request told to `observer`."""
        self.api.observer = observer

    def close(self) -> None:
        """Give connections back."""
        self.api.close()

    # What follows is a connector's own.

    @abstractmethod
    def prepare(self, fields: Sequence[Field], tags: Collection[str]) -> None:
        """Make the fields and tags that are missing. Called before any write, with all that the sync maps."""

    @abstractmethod
    def write(self, contacts: Sequence[Contact]) -> Answer:
        """Create or update. Never changes the subscription of a contact that is there, nor brings anyone back.

        Who has only tags to lose, and is not there, counts as done and is not made.
        """

    def change_tag(self, tag: str, add: Sequence[Contact], remove: Sequence[Contact]) -> Answer:
        """Put a tag on some and take it off others; no contact is in both. For membership `tags` only."""
        raise NotImplementedError(f"{self.platform.title} writes memberships with the contact")

    @abstractmethod
    def unsubscribe(self, contacts: Sequence[Contact]) -> Answer:
        """Have these mailed no more. One that is not there counts as done."""

    @abstractmethod
    def erase(self, contacts: Sequence[Contact]) -> Answer:
        """Delete these for good. One that is not there counts as done."""

    @abstractmethod
    def archive(self, contacts: Sequence[Contact]) -> Answer:
        """Take these out of the audience so that they can come back. Where a platform knows no such thing: erase."""

    @abstractmethod
    def rekey(self, changes: Sequence[Rekey]) -> Answer:
        """Give contacts another key or address; the answer holds the new keys."""

    def members(self) -> Iterator[Member]:
        """Everybody who is there, read page by page; only where the platform `can_read`."""
        raise NotImplementedError(f"{self.platform.title} can't be read")

    def members_among(self, keys: Collection[str]) -> Iterator[Member]:
        """What can be read, given the keys that the ledger has or a first plan wants.

        Everybody where the platform lists its members; else those of `keys` who are there.
        """
        return self.members()


def key_of(kind: Key, email: str, customer_id: str) -> str:
    """The ledger's key of a contact: hexadecimal digits."""
    return hashlib.md5(email.lower().encode(), usedforsecurity=False).hexdigest() if kind == "email" else customer_id


def key_sql(kind: Key, email: str = "email", customer_id: str = "customer_id") -> str:
    """SQL of `key_of` over two column expressions; addresses are normalised."""
    return f"md5(lower({email}))" if kind == "email" else customer_id


def json_value(kind: FieldType, value: str | None) -> str | int | float | bool | None:
    """A field's value as JSON has it; None, which clears, stays None."""
    if value is None or kind in ("text", "date"):
        return value
    if kind == "boolean":
        return value == "true"
    return float(value) if any(mark in value for mark in ".eE") else int(value)


@cache
def platforms() -> dict[str, type[Connector]]:
    """Every connector by its platform's name: one for each module of `activation.connectors`."""
    from activation import connectors

    found: dict[str, type[Connector]] = {}
    for module in pkgutil.iter_modules(connectors.__path__):
        made: type[Connector] = importlib.import_module(f"{connectors.__name__}.{module.name}").CONNECTOR
        found[made.platform.name] = made
    return found


def platform_named(name: str) -> type[Connector]:
    """The connector of that platform.

    Raises:
        PlanError: there is none.
    """
    if name not in platforms():
        raise PlanError(f"there is no platform {name!r}; there is: {', '.join(sorted(platforms()))}")
    return platforms()[name]


def redact(words: str, contact: Contact | None = None) -> str:
    """Take addresses, and the values that were sent for `contact`, out of a platform's words."""
    if contact is not None:
        for name, value in contact.fields.items():
            if value is not None and len(value) > 2:
                words = words.replace(value, f"<{name}>")
        if contact.email:
            words = re.sub(re.escape(contact.email), "<address>", words, flags=re.IGNORECASE)
    return without_addresses(words)[:500]
