"""Faults on demand: what a platform and the way to it can do wrong, ordered for the calls to come.

A fault is ordered for one platform and met by its next calls that fit, so many times, after letting so many pass.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import orjson

from activation.sandbox.part import Part, Said
from activation.sandbox.wire import App, Message, Receive, Scope, Send, answer, hang_up, read_all

Kind = Literal[
    "latency", "throttled", "throttled_bare", "error", "reset", "lost", "drip", "html", "garbled", "skew", "expired",
    "revoked", "shuffled", "answer",
]  # fmt: skip

KINDS: Mapping[Kind, str] = {
    "latency": "answers `seconds` late (1)",
    "throttled": "429, to be repeated after `seconds` (1), with the platform's headers",
    "throttled_bare": "429 without any header or body",
    "error": "500 in the platform's form, or another `status`",
    "reset": "the work is done, and the connection cut in the middle of the answer's body",
    "lost": "the work is done, and the connection closed without a byte of the answer",
    "drip": "the answer comes in small pieces, over `seconds` (2)",
    "html": "200 with a proxy's HTML page; nothing is done",
    "garbled": "the work is done, and the answer's JSON ends too early",
    "skew": "the platform's clock, its Date and its resets are off by `seconds` (a day)",
    "expired": "401, as for a token that has run out",
    "revoked": "401 or 403, as for a key that was taken back; until cleared, unless `times` is given",
    "shuffled": "the rows of the answer come in another order",
    "answer": "is answered with `status`, `body` and `headers`; nothing is done",
}
_PAGE = b"<!doctype html><html><head><title>Please wait</title></head><body>One moment, we are back soon.</body></html>"
_PIECES = 20


@dataclass
class Fault:
    """An order for calls to come.

    Attributes:
        times: calls that meet it; None for all until it is cleared.
        after: fitting calls that are let pass first.
        route: regular expression, searched in `METHOD /path` below the platform's address; empty fits all.
        met: calls that met it so far.
    """

    kind: Kind
    times: int | None = 1
    after: int = 0
    route: str = ""
    seconds: float | None = None
    status: int | None = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    id: int = 0
    met: int = 0

    def fits(self, method: str, path: str) -> bool:
        return re.search(self.route, f"{method} {path}") is not None


class Faults:
    """ASGI layer around one platform's part. Orders may come from any thread.

    Args:
        is_open: whether a call needs no key: those can't meet `expired`.
    """

    def __init__(self, part: Part, app: App, is_open: Callable[[str, str], bool]) -> None:
        self._part = part
        self._app = app
        self._is_open = is_open
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._standing: list[Fault] = []

    def order(self, kind: Kind, *, times: int | None = -1, **options: Any) -> Fault:
        """Have the next fitting calls meet a fault.

        Raises:
            ValueError: there is no such fault, or something about it is wrong.
        """
        if kind not in get_args(Kind):
            raise ValueError(f"there is no fault {kind!r}; there is: {', '.join(KINDS)}")
        if times == -1:
            times = None if kind in ("revoked", "skew") else 1
        if times is not None and times < 1:
            raise ValueError("times must be 1 or more, or null")
        try:
            fault = Fault(kind, times, **options)
            re.compile(fault.route)
        except (TypeError, re.error) as error:
            raise ValueError(str(error)) from None
        with self._lock:
            fault.id = next(self._ids)
            self._standing.append(fault)
            if kind == "skew":
                self._part.clock.skew = 86_400.0 if fault.seconds is None else fault.seconds
        return fault

    def clear(self, number: int | None = None) -> None:
        """Take back one order, or all."""
        with self._lock:
            self._standing = [fault for fault in self._standing if number is not None and fault.id != number]
            if not any(fault.kind == "skew" for fault in self._standing):
                self._part.clock.skew = 0.0

    def standing(self) -> list[Fault]:
        """Orders that are still to be met."""
        with self._lock:
            return list(self._standing)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self._next(scope["method"], scope["part_path"])
        if fault is None:
            await self._app(scope, receive, send)
            return
        scope["fault"] = fault.kind
        done = self._done_by_app(fault, scope, receive, send)
        if done is None:
            await read_all(receive)
            said = self._instead(fault)
            method, path = scope["method"], scope["part_path"]
            self._part.people.note_call(method, path, path, said.status, 0, 0, 0.0, fault.kind)
            await answer(send, said, self._part.clock.now())
        else:
            await done

    def _next(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._standing:
                if not fault.fits(method, path) or (fault.kind == "expired" and self._is_open(method, path)):
                    continue
                if fault.after > 0:
                    fault.after -= 1
                    continue
                fault.met += 1
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times == 0:
                        self._standing.remove(fault)
                return fault
        return None

    def _done_by_app(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> Awaitable[None] | None:
        """Faults that meet a call on its way there or back; None for those that are answered instead."""
        match fault.kind:
            case "latency":
                return self._late(fault, scope, receive, send)
            case "reset" | "lost" | "drip" | "garbled" | "shuffled":
                return self._on_the_way_back(fault, scope, receive, send)
            case "skew":
                return self._skewed(fault, scope, receive, send)
            case _:
                return None

    def _instead(self, fault: Fault) -> Said:
        part = self._part
        match fault.kind:
            case "throttled":
                return part.too_many(1.0 if fault.seconds is None else fault.seconds, "ordered")
            case "throttled_bare":
                return Said(429)
            case "error":
                said = part.unavailable()
                return Said(fault.status or said.status, said.body, said.headers)
            case "html":
                return Said(fault.status or 200, _PAGE.decode(), {"Content-Type": "text/html; charset=utf-8"})
            case "expired":
                part.expire()
                return part.problem(part.unauthorised("expired"))
            case "revoked":
                return part.problem(part.unauthorised("revoked"))
            case _:
                return Said(fault.status or 200, fault.body, fault.headers)

    async def _late(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(1.0 if fault.seconds is None else fault.seconds)
        await self._app(scope, receive, send)

    async def _skewed(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            if fault.times == 0:
                self._part.clock.skew = 0.0

    async def _on_the_way_back(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {}
        pieces: list[bytes] = []

        async def catch(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                pieces.append(message.get("body", b""))

        await self._app(scope, receive, catch)
        body = b"".join(pieces)
        if fault.kind == "lost" or (fault.kind == "reset" and not body):
            await hang_up(scope, send)
            return
        if fault.kind == "shuffled" and body:
            body = _shuffled(self._part, body)
        elif fault.kind == "garbled":
            body = body[: len(body) // 2] or b"{"
        others = [header for header in start["headers"] if header[0] != b"content-length"]
        await send({**start, "headers": [*others, (b"content-length", str(len(body)).encode())]})
        if fault.kind == "reset":
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            await hang_up(scope, send)
            return
        if fault.kind == "drip":
            size = max(1, -(-len(body) // _PIECES))
            for at in range(0, len(body), size):
                await asyncio.sleep((2.0 if fault.seconds is None else fault.seconds) / _PIECES)
                await send({"type": "http.response.body", "body": body[at : at + size], "more_body": True})
            body = b""
        await send({"type": "http.response.body", "body": body})


def _shuffled(part: Part, body: bytes) -> bytes:
    """An answer with its rows in another order; one that is no JSON is given to the part as text."""
    try:
        said = orjson.loads(body)
    except ValueError:
        return str(part.shuffled(body.decode())).encode()
    return orjson.dumps(part.shuffled(said))
