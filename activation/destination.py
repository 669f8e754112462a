"""What a destination is: the protocol that every connector fulfils, and the registry of those there are.

A connector translates between rows and one platform's API. Consent, the ledger, retries, batching order and dead
letters are the engine's, so that no connector can forget them.
"""

from __future__ import annotations

import enum
import importlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from core.errors import DestinationError, PlanError
from core.home import Home
from core.settings import Settings

# Name -> module with a function `connect(settings, home) -> Destination`; imported when named, not before.
CONNECTORS = {"mailchimp": "activation.old_mailchimp"}

FieldType = Literal["text", "number", "date"]


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


@dataclass(frozen=True)
class Contact:
    """One contact in a call.

    Attributes:
        key: the platform's key, the one the ledger holds.
        email: the address; None where only the key is known any more.
        fields: field name to value; an empty string clears.
    """

    key: str
    email: str | None = field(default=None, repr=False)
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Rejection:
    """A row that the platform refused, in the platform's own words."""

    key: str
    code: str
    words: str = field(repr=False)


@dataclass
class Answer:
    """What the platform said about each row of a call. A row in neither part is not acknowledged."""

    accepted: set[str] = field(default_factory=set)
    rejected: list[Rejection] = field(default_factory=list)


@dataclass(frozen=True)
class Workload:
    """Size of a plan, from which a connector tells how many calls it takes.

    Attributes:
        tag_changes: contacts to add and to remove, by tag.
        keyed_removals: removals of contacts whose address is not known any more.
        new_fields, new_tags: those that the destination was never given.
    """

    upserts: int
    unsubscribes: int
    tag_changes: Mapping[str, tuple[int, int]]
    keyed_removals: int
    new_fields: Collection[str] = ()
    new_tags: Collection[str] = ()


class Action(enum.Enum):
    """What the engine does about an HTTP status."""

    ACCEPT = "accept"
    RETRY = "retry"
    SPLIT = "split the batch until the bad row is found"
    STOP = "stop"


STATUS_ACTIONS: Mapping[int, Action] = {
    200: Action.ACCEPT,
    201: Action.ACCEPT,
    202: Action.ACCEPT,
    204: Action.ACCEPT,
    400: Action.SPLIT,
    401: Action.STOP,
    403: Action.STOP,
    404: Action.STOP,
    408: Action.RETRY,
    413: Action.SPLIT,
    422: Action.SPLIT,
    425: Action.RETRY,
    429: Action.RETRY,
}


def action_of(status: int) -> Action:
    """Look a status up: the table, then any 5xx as a retry, anything else as a stop."""
    return STATUS_ACTIONS.get(status, Action.RETRY if status >= 500 else Action.STOP)


class TryAgainError(DestinationError):
    """The platform was not able to answer this time. Recovery: retry, after `retry_after` seconds if it said so."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RefusedError(DestinationError):
    """The platform refused a call as a whole. Recovery: send its rows apart; a single row is a dead letter."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(f"the platform refused a call: {code}")
        self.code = code
        self.words = words


Observer = Callable[[str, str, int, "int | None", float, "str | None"], None]
"""Told of every request: method, route template, rows, status, seconds, kind of failure."""


class Destination(Protocol):
    """One account at one platform. Its methods are called from several threads."""

    @property
    def name(self) -> str:
        """Name in the registry."""

    @property
    def target(self) -> str:
        """Which account and audience: the ledger is kept by it, so that a sandbox and a real list never mix."""

    @property
    def description(self) -> str:
        """Where this goes, for people; holds no secret."""

    @property
    def batch_size(self) -> int:
        """Contacts in one call."""

    @property
    def connections(self) -> int:
        """Calls that may be under way at once."""

    def key_sql(self, email: str) -> str:
        """SQL expression of the platform's key of the address expression `email`, which is normalised."""

    def fields(self, columns: Mapping[str, str]) -> list[Field]:
        """Map the release's columns (name to DuckDB type) to fields."""

    def tag_of(self, segment: str) -> str:
        """The platform's name of a segment."""

    def expected_calls(self, work: Workload) -> dict[str, int]:
        """Calls that a plan will take, by kind."""

    def observe(self, observer: Observer) -> None:
        """Have every later request told to `observer`."""

    def prepare(self, fields: Sequence[Field], tags: Collection[str]) -> None:
        """Make the fields and tags that are missing."""

    def upsert(self, contacts: Sequence[Contact]) -> Answer:
        """Create or update; never changes the subscription of a contact that is there."""

    def change_tag(self, tag: str, add: Sequence[Contact], remove: Sequence[Contact]) -> Answer:
        """Add contacts to and remove others from a tag. No contact is in both."""

    def unsubscribe(self, contact: Contact) -> Answer:
        """Have the platform mail this contact no more. A contact that is not there counts as done."""

    def close(self) -> None:
        """Give connections back."""


def connect(name: str, settings: Settings, home: Home) -> Destination:
    """Make the connector of that name. Opens no connection and starts nothing.

    Raises:
        PlanError: there is no such destination.
    """
    if name not in CONNECTORS:
        raise PlanError(f"there is no destination {name!r}; there is: {', '.join(sorted(CONNECTORS))}")
    made: Destination = importlib.import_module(CONNECTORS[name]).connect(settings, home)
    return made


def key_expressions(email: str) -> list[str]:
    """SQL of the key that each platform has of the address expression `email`. Needs no account."""
    return [importlib.import_module(module).key_sql(email) for module in CONNECTORS.values()]


_ADDRESS = re.compile(r"[^\s\"'<>(),;:]+@[^\s\"'<>(),;:]+")


def redact(words: str, contact: Contact | None = None) -> str:
    """Take addresses, and the values that were sent for `contact`, out of a platform's words."""
    if contact is not None:
        for name, value in contact.fields.items():
            if len(value) > 2:
                words = words.replace(value, f"<{name}>")
        if contact.email:
            words = re.sub(re.escape(contact.email), "<address>", words, flags=re.IGNORECASE)
    return _ADDRESS.sub("<address>", words)[:500]
