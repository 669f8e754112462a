"""ASGI by hand, for the parts' calls: types, reading a body, sending an answer, hanging up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from email.utils import formatdate
from typing import Any

import orjson
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from activation.sandbox.part import Said

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


async def read_all(receive: Receive) -> bytes:
    """A request's whole body."""
    pieces = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError("the caller hung up")
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)


async def answer(send: Send, said: Said, now: float) -> None:
    """Send an answer whole, with the platform's date."""
    headers = {name.lower(): value for name, value in said.headers.items()}
    if said.body is None:
        body = b""
    elif isinstance(said.body, str):
        body = said.body.encode()
        headers.setdefault("content-type", "text/plain; charset=utf-8")
    else:
        body = orjson.dumps(said.body)
        headers.setdefault("content-type", "application/json")
    headers["date"] = formatdate(now, usegmt=True)
    if said.status != 204:
        headers["content-length"] = str(len(body))
    sent = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": said.status, "headers": sent})
    await send({"type": "http.response.body", "body": body})


async def hang_up(scope: Scope, send: Send) -> None:
    """Close the connection as it is."""
    transport = scope.get("state", {}).get("transport") or getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None:
        raise ConnectionAbortedError("the connection is cut on order")
    transport.close()
    # The server learns of it in the loop's next turns, and then takes no offence at the missing answer.
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def _connection_made(self: Any, transport: asyncio.Transport) -> None:
    AutoHTTPProtocol.connection_made(self, transport)
    self.app_state = {**self.app_state, "transport": transport}


# ASGI knows no way to hang up, so the server hands its connection to the application in the scope's state.
PROTOCOL: type[asyncio.Protocol] = type("Protocol", (AutoHTTPProtocol,), {"connection_made": _connection_made})
