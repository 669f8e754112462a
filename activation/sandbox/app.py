"""The sandbox over HTTP: each platform below its own name, and at / a page for people."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from activation.sandbox.faults import KINDS, Fault, Faults
from activation.sandbox.part import Call, Endpoint, Part, ProblemError, Said, template
from activation.sandbox.parts import parts
from activation.sandbox.people import People
from activation.sandbox.wire import PROTOCOL, Receive, Scope, Send, answer, read_all

PAGE = Path(__file__).with_name("page.html")
_ON_PAGE = 25
_log = logging.getLogger(__name__)


class PartApp:
    """ASGI application of one part: finds the endpoint, and does what every call has in common.

    That is: limit of connections, size, key, limit of calls, JSON, the platform's document, problems and the journal. A
    call's work is done at once in the loop: the state lets one in at a time anyway, and a thread would only cost time.
    """

    def __init__(self, part: Part) -> None:
        self.part = part
        self.under_way = 0
        self._endpoints = [(template(endpoint.path), endpoint) for endpoint in part.routes()]

    def find(self, method: str, path: str) -> tuple[Endpoint | None, dict[str, str]]:
        """The endpoint of a path below the part's address, and the values in it."""
        for pattern, endpoint in self._endpoints:
            if endpoint.method == method and (found := pattern.fullmatch(path)) is not None:
                return endpoint, found.groupdict()
        return None, {}

    def is_open(self, method: str, path: str) -> bool:
        endpoint, _ = self.find(method, path)
        return endpoint is not None and endpoint.is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = await read_all(receive)
        started = time.perf_counter()
        method, path = scope["method"], scope["part_path"]
        endpoint, params = self.find(method, path)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        call = Call(method, path, params, scope["query_string"].decode("latin-1"), headers, raw)
        said, sent = self._said(call, endpoint)
        self.part.people.note_call(
            method,
            path,
            endpoint.path if endpoint else path,
            said.status,
            sent,
            said.refused or (sent if said.status >= 400 else 0),
            (time.perf_counter() - started) * 1000,
            scope.get("fault"),
        )
        await answer(send, said, self.part.clock.now())

    def _said(self, call: Call, endpoint: Endpoint | None) -> tuple[Said, int]:
        """The answer, and how many contacts were sent."""
        part, sent = self.part, 0
        try:
            if part.most_connections is not None and self.under_way > part.most_connections:
                words = f"You have exceeded the limit of {part.most_connections} simultaneous connections."
                return part.too_many(1, words), sent
            if endpoint is None:
                raise part.not_found(call)
            if not endpoint.is_open:
                part.authenticate(call)
            over, told = part.admit(endpoint.kind) if endpoint.kind is not None else (None, {})
            if over is not None:
                return over, sent
            largest = part.platform.limit(endpoint.kind or "contacts").body_bytes
            if largest is not None and len(call.raw) > largest:
                raise ProblemError(413, "Payload Too Large", f"A body may have {largest} bytes.")
            if call.raw and "json" in call.headers.get("content-type", "json"):
                try:
                    sent = (endpoint.rows or _rows)(call.body)
                except ValueError:
                    raise part.bad_json() from None
                part.validate(call, endpoint)
            with part.people.change():
                done = endpoint.handler(call)
            said = done if isinstance(done, Said) else Said(204) if done is None else Said(200, done)
            return Said(said.status, said.body, {**told, **said.headers}, said.refused), sent
        except ProblemError as problem:
            return part.problem(problem), sent
        except Exception:
            _log.exception("%s %s", call.method, endpoint.path if endpoint else "")
            return part.unavailable(), sent


class Sandbox:
    """Every platform's part in one folder, with its faults.

    Args:
        instance: which server this is, said by /health.
        names: platforms to serve; all by default.
    """

    def __init__(self, folder: Path, instance: str = "", names: Sequence[str] | None = None) -> None:
        self.instance = instance
        self.parts: dict[str, Part] = {}
        self.faults: dict[str, Faults] = {}
        self._apps: dict[str, PartApp] = {}
        for name, kind in parts().items():
            if names is None or name in names:
                part = self.parts[name] = kind(People(folder, name))
                app = self._apps[name] = PartApp(part)
                self.faults[name] = Faults(part, app, app.is_open)

    def close(self) -> None:
        for part in self.parts.values():
            part.people.close()

    def app(self) -> Any:
        """The ASGI application."""
        pages = Starlette(
            routes=[
                Route("/", self._page),
                Route("/health", self._health),
                Route("/sandbox", self._platforms),
                Route("/sandbox/{platform}", self._overview),
                Route("/sandbox/{platform}/people", self._people),
                Route("/sandbox/{platform}/people/{key}/leave", self._leave, methods=["POST"]),
                Route("/sandbox/{platform}/faults", self._order, methods=["POST"]),
                Route("/sandbox/{platform}/faults", self._clear, methods=["DELETE"]),
                Route("/sandbox/{platform}/faults/{number:int}", self._clear, methods=["DELETE"]),
            ],
            exception_handlers={_Refused: _refused},
        )

        async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await pages(scope, receive, send)
                return
            name, _, rest = scope["path"].removeprefix("/").partition("/")
            if name not in self.parts or not rest:
                await pages(scope, receive, send)
                return
            scope["part_path"] = f"/{rest}"
            app = self._apps[name]
            app.under_way += 1
            try:
                await self.faults[name](scope, receive, send)
            finally:
                app.under_way -= 1

        # Only names of loopback, so that no web page elsewhere reaches it through a name of its own.
        return TrustedHostMiddleware(dispatch, allowed_hosts=["127.0.0.1", "localhost"])

    # For people, for tests and for `process`.

    async def _page(self, _: Request) -> Response:
        policy = "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
        return FileResponse(PAGE, headers={"Content-Security-Policy": policy})

    async def _health(self, _: Request) -> Response:
        return _json({"instance": self.instance, "platforms": list(self.parts)})

    async def _platforms(self, _: Request) -> Response:
        def look() -> list[dict[str, Any]]:
            return [
                {"name": name, "title": part.title, "people": part.people.count(but=["archived"])}
                for name, part in self.parts.items()
            ]

        return _json({"platforms": await run_in_threadpool(look), "faults": KINDS})

    async def _overview(self, request: Request) -> Response:
        part = self._part(request)
        after = request.query_params.get("after", "0")

        def look() -> dict[str, Any]:
            people = part.people
            return {
                "name": part.name,
                "title": part.title,
                "account": part.account,
                "key": part.platform.key,
                "membership": part.platform.membership_form,
                "consent": part.platform.consent_form,
                "states": people.count_by_state(),
                "groups": part.group_sizes(),
                "calls": people.calls(50, int(after) if after.isdigit() else 0),
                "faults": [_shown(fault) for fault in self.faults[part.name].standing()],
            }

        return _json(await run_in_threadpool(look))

    async def _people(self, request: Request) -> Response:
        part, query = self._part(request), request.query_params
        offset, search, group = query.get("offset", "0"), query.get("search", ""), query.get("group", "")

        def look() -> dict[str, Any]:
            found, total = part.page(_ON_PAGE, int(offset) if offset.isdigit() else 0, search=search, group=group)
            tags = part.memberships(found)
            return {
                "total": total,
                "people": [
                    {
                        "key": person.key,
                        "email": person.email,
                        "state": person.state,
                        "left_by": person.left_by,
                        "memberships": tags.get(person.key, []),
                        "fields": dict(part.fields_of(person)),
                        "changed_at": person.changed_at,
                    }
                    for person in found
                ],
            }

        return _json(await run_in_threadpool(look))

    async def _leave(self, request: Request) -> Response:
        part = self._part(request)
        how = (await _said_json(request)).get("how")
        if how not in ("unsubscribe", "bounce"):
            raise _Refused(400, "how must be unsubscribe or bounce")
        if not await run_in_threadpool(part.leave, request.path_params["key"], how):
            raise _Refused(404, "there is no such person")
        return Response(status_code=204)

    async def _order(self, request: Request) -> Response:
        part = self._part(request)
        try:
            fault = self.faults[part.name].order(**await _said_json(request))
        except (TypeError, ValueError) as error:
            raise _Refused(400, str(error)) from None
        return _json(_shown(fault), 201)

    async def _clear(self, request: Request) -> Response:
        part = self._part(request)
        # A web page elsewhere may not send this method without asking first, which is answered by nobody here.
        self.faults[part.name].clear(request.path_params.get("number"))
        return Response(status_code=204)

    def _part(self, request: Request) -> Part:
        name = request.path_params["platform"]
        if name not in self.parts:
            raise _Refused(404, f"there is no platform {name!r}; there is: {', '.join(self.parts)}")
        return self.parts[name]


def server(sandbox: Sandbox, log_level: str = "warning") -> uvicorn.Server:
    """A server of the sandbox. The date is the platforms' own."""
    config = uvicorn.Config(
        sandbox.app(), http=PROTOCOL, log_level=log_level, access_log=False, date_header=False, server_header=False,
        lifespan="off", timeout_graceful_shutdown=3,
    )  # fmt: skip
    return uvicorn.Server(config)


class _Refused(Exception):
    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, _Refused)
    return _json({"error": str(error)}, error.status)


async def _said_json(request: Request) -> dict[str, Any]:
    # A web page elsewhere may send text without asking first, but no JSON.
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise _Refused(415, "the body must be application/json")
    try:
        said = orjson.loads(await request.body())
    except ValueError:
        raise _Refused(400, "the body is no JSON") from None
    if not isinstance(said, dict):
        raise _Refused(400, "the body must be a JSON object")
    return said


def _shown(fault: Fault) -> dict[str, Any]:
    names = ("id", "kind", "times", "after", "route", "seconds", "status", "met")
    return {name: getattr(fault, name) for name in names}


def _rows(body: Any) -> int:
    if isinstance(body, list):
        return len(body)
    return sum(len(found) for found in body.values() if isinstance(found, list)) if isinstance(body, dict) else 0


def _json(said: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(said), status, media_type="application/json")
