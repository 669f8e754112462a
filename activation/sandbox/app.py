"""The sandbox over HTTP: the API under /3.0, and a page for people at /."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from activation.sandbox.store import ProblemError, Store, not_found

CONNECTIONS = 10  # at once, per account
PAGE = Path(__file__).with_name("page.html")
Handler = Callable[[Request, Any], Any]


class Sandbox:
    """The application's parts: its store and how many calls are under way."""

    def __init__(self, folder: Path, instance: str) -> None:
        self.store = Store(folder)
        self.instance = instance
        self._under_way = 0
        self._lock = threading.Lock()

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/", self._page),
                Route("/health", self._health),
                Route("/sandbox/overview", self._overview),
                Route("/sandbox/members", self._members_page),
                Route("/sandbox/members/{hash}/{how:str}", self._leave, methods=["POST"]),
                *self._routes(),
                Route("/{rest:path}", self._endpoint(_unknown), methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
            ],
            # Only names of loopback, so that no web page elsewhere reaches it through a name of its own.
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
        )

    # For people and for `process`.

    async def _page(self, _: Request) -> Response:
        return FileResponse(PAGE, headers={"Content-Security-Policy": "default-src 'self' 'unsafe-inline'"})

    async def _health(self, _: Request) -> Response:
        return _json({"instance": self.instance})

    async def _overview(self, _: Request) -> Response:
        store = self.store
        return _json(
            await run_in_threadpool(
                lambda: {
                    "list": store.list_info(), "segments": store.segments(1000, 0), "calls": store.calls(30),
                    "merge_fields": store.merge_fields(1000, 0)["merge_fields"],
                }
            )
        )  # fmt: skip

    async def _members_page(self, request: Request) -> Response:
        query = request.query_params
        tag = query.get("tag", "")
        return _json(
            await run_in_threadpool(
                self.store.page_of_members,
                25,
                _number(query.get("offset"), 0, 10**9),
                int(tag) if tag.isdigit() else None,
                query.get("search", ""),
            )
        )

    async def _leave(self, request: Request) -> Response:
        """What a contact or a mail system does, for trying things out: it takes the API's key like everything else."""
        how = request.path_params["how"]
        if how not in ("unsubscribe", "bounce"):
            return _problem(not_found())
        try:
            self._check_key(request)
            await run_in_threadpool(self.store.leave, request.path_params["hash"], how)
        except ProblemError as problem:
            return _problem(problem)
        return Response(status_code=204)

    # The API.

    def _routes(self) -> list[Route]:
        store = self.store

        def settled(status: int, call: Callable[..., Any]) -> Handler:
            def handler(request: Request, body: Any) -> Any:
                call(request, body)
                return status

            return handler

        table: list[tuple[str, dict[str, Handler]]] = [
            ("/ping", {"GET": lambda r, b: {"health_status": "Everything's Chimpy!"}}),
            ("/", {"GET": lambda r, b: {"account_id": "sandbox", "account_name": "Sandbox", "role": "owner"}}),
            ("/lists", {"GET": lambda r, b: {"lists": [store.list_info()], "total_items": 1}}),
            ("/lists/{list}", {"GET": lambda r, b: store.list_info(), "POST": self._batch}),
            ("/lists/{list}/members", {"GET": self._members, "POST": lambda r, b: store.add_member(b)}),
            ("/lists/{list}/members/{hash}", {
                "GET": lambda r, b: store.member(r.path_params["hash"]),
                "PUT": lambda r, b: store.put_member(r.path_params["hash"], b),
                "PATCH": lambda r, b: store.patch_member(r.path_params["hash"], b),
                "DELETE": settled(204, lambda r, b: store.archive_member(r.path_params["hash"])),
            }),
            ("/lists/{list}/members/{hash}/actions/delete-permanent", {
                "POST": settled(204, lambda r, b: store.forget_member(r.path_params["hash"])),
            }),
            ("/lists/{list}/members/{hash}/tags", {
                "GET": lambda r, b: store.member_tags(r.path_params["hash"]),
                "POST": settled(204, lambda r, b: store.change_member_tags(r.path_params["hash"], b.get("tags"))),
            }),
            ("/lists/{list}/merge-fields", {
                "GET": lambda r, b: store.merge_fields(*_paging(r)),
                "POST": lambda r, b: store.create_merge_field(b),
            }),
            ("/lists/{list}/segments", {
                "GET": lambda r, b: {
                    "segments": store.segments(*_paging(r)), "list_id": store.account.list_id,
                    "total_items": store.count_segments(),
                },
                "POST": lambda r, b: store.create_segment(b),
            }),
            ("/lists/{list}/segments/{segment:int}", {
                "GET": lambda r, b: store.segment(r.path_params["segment"]),
                "POST": lambda r, b: store.change_segment(r.path_params["segment"], b),
                "DELETE": settled(204, lambda r, b: store.delete_segment(r.path_params["segment"])),
            }),
            ("/lists/{list}/segments/{segment:int}/members", {"GET": self._segment_members}),
            ("/lists/{list}/tag-search", {"GET": lambda r, b: store.search_tags(r.query_params.get("name", ""))}),
        ]  # fmt: skip
        return [
            Route(f"/3.0{path}", self._endpoint(handler), methods=[method])
            for path, handlers in table
            for method, handler in handlers.items()
        ]

    def _batch(self, request: Request, body: Any) -> Any:
        return self.store.batch(body, skip_duplicate_check=request.query_params.get("skip_duplicate_check") == "true")

    def _members(self, request: Request, _: Any) -> Any:
        query = request.query_params
        return self.store.members(query.get("status"), query.get("since_last_changed"), *_paging(request))

    def _segment_members(self, request: Request, _: Any) -> Any:
        query = request.query_params
        named = ("cleaned", "transactional", "unsubscribed")
        statuses = ["subscribed", *(name for name in named if query.get(f"include_{name}") == "true")]
        return self.store.segment_members(request.path_params["segment"], statuses, *_paging(request))

    def _endpoint(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a handler with what every call has: key, audience, limit of connections, JSON, problems, journal."""

        async def endpoint(request: Request) -> Response:
            started = time.perf_counter()
            sent = refused = 0
            with self._lock:
                self._under_way += 1
                too_many = self._under_way > CONNECTIONS
            try:
                try:
                    if too_many:
                        words = f"You have exceeded the limit of {CONNECTIONS} simultaneous connections."
                        raise ProblemError(429, "Too Many Requests", words)
                    self._check_key(request)
                    if request.path_params.get("list", self.store.account.list_id) != self.store.account.list_id:
                        raise not_found()
                    body = _body(await request.body(), request.method)
                    sent = _rows(body)
                    said = await run_in_threadpool(handler, request, body)
                    if isinstance(said, int):
                        response = Response(status_code=said)
                    else:
                        refused = said.get("error_count", 0)
                        if request.method == "GET":
                            said = _only(said, request.query_params.get("fields"))
                        response = await run_in_threadpool(_json, said)
                except ProblemError as problem:
                    response = _problem(problem)
                milliseconds = (time.perf_counter() - started) * 1000
                path = request.url.path.removeprefix("/3.0")
                await run_in_threadpool(
                    self.store.note_call, request.method, path, response.status_code, sent, refused, milliseconds
                )
                return response
            finally:
                with self._lock:
                    self._under_way -= 1

        return endpoint

    def _check_key(self, request: Request) -> None:
        said = request.headers.get("authorization", "")
        kind, _, credentials = said.partition(" ")
        key = credentials
        if kind.lower() == "basic":
            try:
                key = base64.b64decode(credentials, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                key = ""
        if not said:
            raise ProblemError(401, "API Key Missing", "Your request did not include an API key.")
        is_ours = hmac.compare_digest(key.encode(), self.store.account.api_key.encode())
        if kind.lower() not in ("basic", "bearer") or not is_ours:
            words = "Your API key may be invalid, or you've attempted to access the wrong datacenter."
            raise ProblemError(401, "API Key Invalid", words)


def _unknown(_: Request, __: Any) -> Any:
    raise not_found()


def _body(raw: bytes, method: str) -> Any:
    if method in ("GET", "DELETE") or not raw:
        return {}
    try:
        said = json.loads(raw)
    except ValueError:
        raise ProblemError(400, "JSON Parse Error", "We encountered an unspecified JSON parsing error.") from None
    if not isinstance(said, dict):
        raise ProblemError(400, "Invalid Resource", "Schema describes object, array found instead")
    return said


def _rows(body: Any) -> int:
    lists = (body.get(name) for name in ("members", "members_to_add", "members_to_remove", "tags"))
    return sum(len(found) for found in lists if isinstance(found, list))


def _paging(request: Request) -> tuple[int, int]:
    query = request.query_params
    return _number(query.get("count"), 10, 1000), _number(query.get("offset"), 0, 10**9)


def _number(said: str | None, default: int, most: int) -> int:
    if said is None or said == "":
        return default
    if not said.isdigit() or int(said) > most:
        raise ProblemError(400, "Invalid Resource", f"Value must be a number from 0 to {most}.")
    return int(said)


def _only(said: Any, fields: str | None) -> Any:
    """The parts named by `fields`: comma-separated paths with dots."""
    if not fields:
        return said
    tree: dict[str, Any] = {}
    for path in fields.split(","):
        node = tree
        for part in path.strip().split("."):
            node = node.setdefault(part, {})
    return _pruned(said, tree)


def _pruned(said: Any, tree: dict[str, Any]) -> Any:
    if not tree:
        return said
    if isinstance(said, list):
        return [_pruned(entry, tree) for entry in said]
    if isinstance(said, dict):
        return {name: _pruned(said[name], inner) for name, inner in tree.items() if name in said}
    return said


def _json(said: Any) -> Response:
    return Response(json.dumps(said), media_type="application/json")


def _problem(problem: ProblemError) -> Response:
    said = {
        "type": "https://mailchimp.com/developer/marketing/docs/errors/",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": secrets.token_hex(16),
        **({"errors": problem.errors} if problem.errors else {}),
    }
    return Response(json.dumps(said), problem.status, media_type="application/problem+json")
