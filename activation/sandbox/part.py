"""A platform's part of the sandbox: what every part has, and what each writes for itself.

A part is one module of `activation.sandbox.parts`, named as the platform, that exports `PART`, a subclass of `Part`. It
takes its limits from the connector's declaration and writes four things of its own: `make_secrets` (keys as the platform
gives them), `routes` (an `Endpoint` for each call), `authenticate` (raises `ProblemError` unless the call has the key),
and `problem` (how the platform words an error). A handler takes a `Call` and returns a `Said`, or plain JSON for a 200,
or None for a 204. All that a handler changes in `self.people` is one transaction, undone when it raises. Everything is
served below `/<platform>`; `SandboxAccount.base_url` gives that address, so a connector adds the rest of the path:

    class Example(Part):
        platform = PLATFORM
        document = "example/openapi.json"  # of `specs`, if it may be shipped: bodies are validated against it

        @staticmethod
        def make_secrets():
            return {"api_key": secrets.token_hex(16)}

        def routes(self):
            return [Endpoint("POST", "/v1/contacts", self._write, kind="contacts")]

        def _write(self, call):
            ...
            return Said(202, {"errors": errors}, refused=len(errors))

    PART = Example

The platform's limits of calls are imposed by a sliding window and answered by `too_many`. Time is `self.clock.now()`, in
seconds of the epoch, as the skew that a fault orders shows in everything that the platform says.
"""

from __future__ import annotations

import hmac
import math
import re
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qsl

import orjson

from activation.platform import Platform
from activation.sandbox.people import People, Person
from activation.sandbox.specification import Specification, shipped

Unauthorised = Literal["missing", "wrong", "expired", "revoked"]


class Clock:
    """The platform's time, which a fault may put wrong."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self.skew = 0.0

    def now(self) -> float:
        """Seconds of the epoch, as the platform believes."""
        return self._now() + self.skew


@dataclass(frozen=True)
class Said:
    """An answer.

    Attributes:
        body: JSON; a string is sent as it is, None is no body.
        refused: rows of the call that were not taken, for the journal.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    refused: int = 0


class ProblemError(Exception):
    """An error of the platform. `Part.problem` puts it into the platform's words."""

    def __init__(self, status: int, code: str, words: str = "", **details: Any) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.words = words
        self.details = details


@dataclass(frozen=True)
class Endpoint:
    """A call that the platform takes.

    Attributes:
        path: template below the part's address, as `/lists/{list}`.
        kind: by which limit it counts; a kind without a limit of its own counts with `contacts`; None with nothing.
        is_open: needs no key.
        rows: how many contacts a body has, for the journal.
    """

    method: str
    path: str
    handler: Callable[[Call], Any]
    kind: str | None = "contacts"
    is_open: bool = False
    rows: Callable[[Any], int] | None = None


@dataclass
class Call:
    """A request to a part.

    Attributes:
        path: below the part's address.
        params: values of the path's template.
        query: the last value of each name.
        headers: names in lower case.
    """

    method: str
    path: str
    params: Mapping[str, str]
    raw_query: str
    headers: Mapping[str, str]
    raw: bytes

    @cached_property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.raw_query, keep_blank_values=True))

    @cached_property
    def body(self) -> Any:
        """The JSON that was sent; an empty mapping where nothing was.

        Raises:
            ValueError: it is no JSON.
        """
        return orjson.loads(self.raw) if self.raw else {}

    @cached_property
    def bearer(self) -> str | None:
        """The token of the header `Authorization: Bearer`."""
        kind, _, token = self.headers.get("authorization", "").partition(" ")
        return token if kind.lower() == "bearer" else None


class Part(ABC):
    """One platform of the sandbox.

    Attributes:
        platform: the connector's declaration.
        document: OpenAPI document in `specs`, if there is one that may be shipped.
        document_base: what the document's paths lack at the beginning of the part's: `/3.0`.
        most_connections: calls at once before it answers 429; None for no such limit.
    """

    platform: ClassVar[Platform]
    document: ClassVar[str | None] = None
    document_base: ClassVar[str] = ""
    most_connections: ClassVar[int | None] = None

    def __init__(self, people: People, clock: Clock | None = None) -> None:
        self.people = people
        self.clock = clock or Clock()
        self.secrets = {
            name: people.setting(f"secret {name}", lambda made=made: made)  # type: ignore[misc]
            for name, made in self.make_secrets().items()
        }
        self.account = people.account
        self.windows: dict[str, list[Window]] = {}
        self.specification: Specification | None = shipped(self.document) if self.document else None
        self.prepare()

    @property
    def name(self) -> str:
        return self.platform.name

    @property
    def title(self) -> str:
        return self.platform.title

    # What a part writes for itself.

    @staticmethod
    @abstractmethod
    def make_secrets() -> dict[str, str]:
        """Keys of a new account by name, at random, in the platform's form."""

    @abstractmethod
    def routes(self) -> Sequence[Endpoint]:
        """Every call that is taken. The first that fits is the one."""

    @abstractmethod
    def authenticate(self, call: Call) -> None:
        """Raise `unauthorised(...)` unless the call has the key. Compare with `is_same`."""

    @abstractmethod
    def problem(self, problem: ProblemError) -> Said:
        """An error in the platform's own form."""

    def prepare(self) -> None:  # noqa: B027  # most need nothing
        """Have what a new account has from the start. Called whenever the part is opened."""

    def not_found(self, call: Call) -> ProblemError:
        """A path that names nothing."""
        return ProblemError(404, "Not Found", "There is nothing at this address.")

    def bad_json(self) -> ProblemError:
        """A body that can't be read."""
        return ProblemError(400, "Bad Request", "The body is no JSON.")

    def invalid(self, where: str, words: str) -> ProblemError:
        """A body that is not as the document has it; `where` is its path with dots."""
        return ProblemError(400, "Bad Request", f"{where}: {words}")

    def unauthorised(self, how: Unauthorised) -> ProblemError:
        """A call without a good key; also what the faults of that name answer."""
        return ProblemError(401, "Unauthorized", f"The key is {how}.")

    def too_many(self, retry_after: float, limit: str) -> Said:
        """A limit is reached. The headers that a platform gives go in here."""
        seconds = str(max(1, math.ceil(retry_after)))
        said = self.problem(ProblemError(429, "Too Many Requests", limit))
        return Said(said.status, said.body, {**said.headers, "Retry-After": seconds})

    def unavailable(self) -> Said:
        """It went wrong on their side."""
        return self.problem(ProblemError(500, "Internal Server Error", "An unexpected error occurred."))

    def limit_headers(self, most: int, left: int, reset_after: float) -> Mapping[str, str]:
        """What an answer says of the limit: calls in the window, calls left, seconds until it begins anew."""
        return {}

    def limits_of(self, kind: str) -> Sequence[tuple[int, float]]:
        """Calls and seconds of the windows that a kind of call has; by default as the connector declares."""
        limit = self.platform.limit(kind)
        windows = [] if limit.calls is None else [(limit.calls, limit.seconds)]
        return windows if limit.burst is None else [(limit.burst, 1.0), *windows]

    def expire(self) -> None:  # noqa: B027  # most have no tokens
        """Let every token that was given out be worth nothing any more. For platforms with tokens."""

    def leave(self, key: str, how: Literal["unsubscribe", "bounce"]) -> bool:
        """What only the contact or the mail system does. Returns whether there is such a person."""
        return self.people.leave(key, how)

    def memberships(self, people: Sequence[Person]) -> dict[str, list[str]]:
        """Tags, lists or segments of people by key, for the page and for tests."""
        if self.platform.membership == "tags":
            there = self.people.groups_of(person.key for person in people)
            return {key: [group.name for group in groups] for key, groups in there.items()}
        return {person.key: marks_of(person.fields, self.platform.tag_prefix) for person in people}

    def group_sizes(self) -> dict[str, int]:
        """Tags, lists or segments with how many of those who may be mailed are in each."""
        if self.platform.membership == "tags":
            sizes = self.people.group_sizes("subscribed")
            return {name: sizes.get(group.id, 0) for name, group in self.people.groups().items()}
        return self.people.mark_sizes(self.platform.tag_prefix)

    def page(self, count: int, offset: int, *, search: str = "", group: str = "") -> tuple[list[Person], int]:
        """Some people for the page, the last changed first, and how many there are in all."""
        wanted: dict[str, Any] = {"but": ["archived"], "search": search}
        if group and self.platform.membership == "tags":
            found = self.people.groups().get(group)
            wanted["group"] = found.id if found else -1
        elif group:
            wanted["mark"] = group
        return self.people.page(count, offset, newest=True, **wanted), self.people.count(**wanted)

    def fields_of(self, person: Person) -> Mapping[str, Any]:
        """The fields that the page shows."""
        return person.fields

    def shuffled(self, body: Any) -> Any:
        """An answer with its rows in another order, where it has rows: by default every list in it, reversed."""
        if isinstance(body, list):
            return [self.shuffled(entry) for entry in reversed(body)]
        if isinstance(body, dict):
            return {name: self.shuffled(value) for name, value in body.items()}
        return body

    # What every part has.

    def admit(self, kind: str) -> tuple[Said | None, Mapping[str, str]]:
        """Count a call. Returns the answer if it is one too many, and what every answer says of the limit."""
        if kind not in self.windows:
            # Kinds that share a limit share its window.
            shared = kind if kind in self.platform.limits else "contacts"
            if shared not in self.windows:
                self.windows[shared] = [Window(calls, seconds) for calls, seconds in self.limits_of(shared)]
            self.windows[kind] = self.windows[shared]
        windows, now = self.windows[kind], time.monotonic()
        for window in windows:
            wait = window.wait(now)
            if wait > 0:
                return self.too_many(wait, f"the limit is {window.most} calls in {window.seconds:g} s"), {}
        for window in windows:
            window.take(now)
        if not windows:
            return None, {}
        widest = windows[-1]
        return None, self.limit_headers(widest.most, widest.left(now), widest.reset_after(now))

    def validate(self, call: Call, endpoint: Endpoint) -> None:
        """Hold a body against the platform's document, where there is one.

        Raises:
            ProblemError: it is not as the document has it.
        """
        if self.specification is None or not call.raw:
            return
        path = endpoint.path.removeprefix(self.document_base)
        if (found := self.specification.first_error(call.method, path, call.body)) is not None:
            raise self.invalid(*found)


class Window:
    """A sliding window: at most so many calls in so many seconds."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most = most
        self.seconds = seconds
        self._taken: deque[float] = deque()

    def wait(self, now: float) -> float:
        """Seconds until one more may come; 0 for now."""
        self._forget(now)
        return 0.0 if len(self._taken) < self.most else self._taken[0] + self.seconds - now

    def take(self, now: float) -> None:
        self._taken.append(now)

    def left(self, now: float) -> int:
        self._forget(now)
        return self.most - len(self._taken)

    def reset_after(self, now: float) -> float:
        """Seconds until the oldest call falls out."""
        return self._taken[0] + self.seconds - now if self._taken else 0.0

    def _forget(self, now: float) -> None:
        while self._taken and self._taken[0] <= now - self.seconds:
            self._taken.popleft()


def is_same(said: str | None, secret: str) -> bool:
    """Compare a key without telling by the time how much of it is right."""
    return said is not None and hmac.compare_digest(said.encode(), secret.encode())


def marks_of(fields: Mapping[str, Any], prefix: str) -> list[str]:
    """Segments that are kept as attributes: those that are true, and entries of lists, that begin with `prefix`."""
    found = {name for name, value in fields.items() if str(value).lower() == "true"}
    for value in fields.values():
        if isinstance(value, list):
            found.update(str(entry) for entry in value)
    return sorted(name for name in found if name.startswith(prefix))


def template(path: str) -> re.Pattern[str]:
    """A path's template as a regular expression with a group for each of its values; the last may not span a slash."""
    parts = re.split(r"\{(\w+)\}", path)
    pattern = "".join(re.escape(part) if at % 2 == 0 else f"(?P<{part}>[^/]+)" for at, part in enumerate(parts))
    return re.compile(pattern)
