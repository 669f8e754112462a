"""What is said to the ledger and what it says: how a contact stands, acknowledgements, dead letters, requests."""

from __future__ import annotations

import enum
import hashlib
import struct
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from activation.ledger_tables import FIELD_HASH_BYTES


class State(enum.IntEnum):
    """How a contact stands at a destination. The numbers are in the ledger: none is ever given to another state.

    Attributes:
        SYNCED: we wrote it and that was acknowledged.
        FOUND: it was there before us, and nothing of ours is acknowledged yet.
        UNSUBSCRIBED: we told of a refusal, and that was acknowledged.
        LEFT: unsubscribed, or bounced, over there.
        ERASED: deleted for good.
        ARCHIVED: taken out of the audience.
    """

    SYNCED = 1
    FOUND = 2
    UNSUBSCRIBED = 3
    LEFT = 4
    ERASED = 5
    ARCHIVED = 6


# Nothing that is written to a contact lifts one of these: only reading the destination does.
REFUSED_STATES = frozenset({State.UNSUBSCRIBED, State.LEFT, State.ERASED})
GONE = frozenset({State.ERASED, State.ARCHIVED})


@dataclass(frozen=True)
class Standing:
    """Where a destination stands.

    Attributes:
        revision: how many plans have moved it.
        plan_hash, release: the last of them, and the release it was of.
        is_new: no plan has moved it, and it was never read.
        silent: why the next plan starts no automation; None where it may.
        generation: how often the destination was moved, by the ledger and by the home.
    """

    revision: int
    plan_hash: str | None
    is_new: bool
    silent: str | None
    generation: int
    release: int | None


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What a destination acknowledged of one row. What is None leaves the ledger's row as it was.

    Attributes:
        action: the operation's.
        content_hash, layout, field_hashes: of the content that is there from now on; given together.
        add, remove: names of the tags that were put on and taken off.
        new_key: the contact goes by this key from now on (action `rekey`). As hashes are salted with the key, a content
            that is not given with it counts as unknown.
    """

    key: bytes
    action: str
    state: State | None = None
    content_hash: bytes | None = None
    layout: int | None = None
    field_hashes: bytes | None = None
    add: Collection[str] = ()
    remove: Collection[str] = ()
    new_key: bytes | None = None


@dataclass(frozen=True)
class Withheld:
    """A row that was not sent."""

    key: bytes
    action: str
    tag: str
    code: str


@dataclass(frozen=True)
class DeadLetter:
    """A row that the platform refused, with the platform's own words, free of personal data."""

    key: bytes
    action: str
    tag: str
    content_hash: bytes
    code: str
    words: str


@dataclass(frozen=True)
class RequestMade:
    """One HTTP request, without anything personal: a route is a template, never a path with an address in it."""

    sent_at: datetime
    method: str
    route: str
    rows: int
    status: int | None
    seconds: float
    problem: str | None = None


def field_hash(key: str, name: str, value: str) -> bytes:
    """The hash of a field's value: salted with the key, in hexadecimal digits, so that equal values don't show."""
    said = f"{key}\x1f{name}\x1f{value}".encode()
    return hashlib.md5(said, usedforsecurity=False).digest()[:FIELD_HASH_BYTES]


def pack(tag_ids: Iterable[int]) -> bytes:
    """Tags as a contact's row has them: two bytes each, big-endian, ascending."""
    numbers = sorted(tag_ids)
    return struct.pack(f">{len(numbers)}H", *numbers)


def unpack(packed: bytes) -> set[int]:
    """The opposite of `pack`."""
    return set(struct.unpack(f">{len(packed) // 2}H", packed))
