"""What a platform is like: its limits, key, fields, memberships, consent and errors, declared in one visible place.

Every connector declares one `Platform`. Plans, the throttle, the checks of a sync's document, the conformance suite and
the documentation read that declaration; no limit is written down twice.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

FieldType = Literal["text", "number", "date", "boolean"]
Key = Literal["email", "customer_id"]
Membership = Literal["tags", "attributes"]


class Action(enum.Enum):
    """What is done about an HTTP status."""

    ACCEPT = "accept"
    RETRY = "retry"
    SPLIT = "split the batch until the bad row is found"
    STOP = "stop"


STATUSES: Mapping[int, Action] = {
    200: Action.ACCEPT,
    201: Action.ACCEPT,
    202: Action.ACCEPT,
    204: Action.ACCEPT,
    207: Action.ACCEPT,
    400: Action.SPLIT,
    401: Action.STOP,
    403: Action.STOP,
    404: Action.STOP,
    408: Action.RETRY,
    409: Action.RETRY,
    413: Action.SPLIT,
    422: Action.SPLIT,
    425: Action.RETRY,
    429: Action.RETRY,
}


@dataclass(frozen=True)
class Limit:
    """What the platform admits of one kind of call.

    Attributes:
        batch: contacts in one call.
        calls: calls in `seconds`, as published; None where nothing is published.
        body_bytes: size of one call's body; None where nothing is published.
        burst: calls in any one second, where that is published beside a longer window. Evenly paced calls stay below it.
    """

    batch: int = 1
    calls: int | None = None
    seconds: float = 1.0
    body_bytes: int | None = None
    burst: int | None = None

    @property
    def contacts_per_second(self) -> float | None:
        """How many contacts a second the published limit admits."""
        return None if self.calls is None else self.batch * self.calls / self.seconds


@dataclass(frozen=True)
class FieldRule:
    """What names and values of fields may be.

    Attributes:
        pattern: regular expression that the whole name must match.
        standard: names of the platform's own fields that may be mapped to; every other name must begin with `prefix`.
        prefix: what marks a field as ours: nothing without it is ever removed.
        longest: characters of a value; None where nothing is published.
        most: fields that one contact may have of ours; None where nothing is published.
    """

    pattern: str
    prefix: str
    standard: Collection[str] = ()
    types: Collection[FieldType] = ("text", "number", "date", "boolean")
    longest: int | None = None
    most: int | None = None


@dataclass(frozen=True)
class Platform:
    """A platform as its documents describe it.

    Attributes:
        name: of the connector's module and of the sandbox's part.
        title: for people.
        key: what a contact is known by there. Changing it would make everybody twice.
        membership: whether a segment is changed by calls of its own (`tags`), or with the contact (`attributes`).
        membership_form: how a segment looks there, for people.
        tag_prefix: what marks a tag, list or attribute of a segment as ours.
        most_tags: segments that one contact may be in; None where nothing is published.
        limits: by kind of call: `contacts` and `unsubscribe` always; `tags`, `erase`, `archive`, `rekey` and `read` where
            they differ from `contacts`.
        connections: calls that may be under way at once.
        consent_form: how consent and refusal are written there, for people.
        statuses: HTTP status to action where this platform differs from `STATUSES`.
        can_read: whether its members can be read back, for the first baseline and for reconciling.
        lists_members: whether it names everybody who is there; else it tells only of contacts that are asked for by key.
        can_unsubscribe_by_key: whether a refusal can be told of somebody whose address is not known any more.
        points_per_change: billable points for each field or membership attribute written; 0 where nothing is charged.
        is_middleware: passes on to other platforms, and says only that it took a record in.
        documents: where this is published.
    """

    name: str
    title: str
    key: Key
    membership: Membership
    membership_form: str
    tag_prefix: str
    limits: Mapping[str, Limit]
    fields: FieldRule
    consent_form: str
    documents: str
    connections: int = 4
    most_tags: int | None = None
    statuses: Mapping[int, Action] = field(default_factory=dict)
    can_read: bool = True
    lists_members: bool = True
    can_unsubscribe_by_key: bool = True
    points_per_change: int = 0
    is_middleware: bool = False

    def limit(self, kind: str) -> Limit:
        """The limit of a kind of call; that of `contacts` where it has none of its own."""
        return self.limits.get(kind, self.limits["contacts"])

    def action_of(self, status: int) -> Action:
        """Look a status up: the platform's table, the common one, then any 5xx as a retry, anything else as a stop."""
        if status in self.statuses:
            return self.statuses[status]
        return STATUSES.get(status, Action.RETRY if status >= 500 else Action.STOP)
