"""HTTP as every connector uses it: one client, the throttle, errors by the platform's table, no secret in any text.

A call that carries people is made once: whether it is repeated is the engine's decision, which looks at their consent
again first. A call that carries nobody (reading, setting up, polling a job) may be repeated here.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import orjson

from activation.platform import Action, Platform
from activation.throttle import Throttle
from core.errors import DestinationError

Observer = Callable[[str, str, int, "int | None", float, "str | None"], None]
"""Told of every request: method, route template, rows, status, seconds, kind of failure."""


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


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently a call is repeated.

    Waits grow from `first_wait` seconds by a factor of two up to `longest_wait`, with jitter; what the platform asks for
    goes before, up to `longest_retry_after`.
    """

    attempts: int = 7
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_retry_after: float = 300.0

    def wait(self, attempt: int, retry_after: float | None) -> float:
        """Seconds to wait after attempt number `attempt`, counted from 1."""
        if retry_after is not None:
            return min(retry_after, self.longest_retry_after)
        return random.uniform(0.5, 1.0) * min(self.longest_wait, self.first_wait * 2.0 ** (attempt - 1))


@dataclass(frozen=True)
class Reply:
    """An answer that was accepted: status, decoded JSON (None for an empty body) and headers."""

    status: int
    said: Any
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """What a connector reads out of an error's body: a short code, and the platform's words."""

    code: str
    words: str


def problem_of(response: httpx.Response) -> Problem:
    """Code and words of an error in the forms that platforms have in common; else the status's own phrase."""
    try:
        said = orjson.loads(response.content)
    except ValueError:
        said = None
    if isinstance(said, dict):
        code = (
            said.get("title") or said.get("code") or said.get("errorcode") or said.get("error") or response.status_code
        )
        words = said.get("detail") or said.get("message") or said.get("error_description") or code
        return Problem(str(code), str(words))
    return Problem(response.reason_phrase or "no reason given", f"HTTP {response.status_code}")


_ADDRESS = re.compile(r"[^\s\"'<>(),;:]+@[^\s\"'<>(),;:]+")


def without_addresses(words: str) -> str:
    """A platform's words, in which it may repeat whom it was asked about."""
    return _ADDRESS.sub("<address>", words)


class Api:
    """One account's API over HTTP. Safe for threads.

    Args:
        base_url: without a slash at the end; or a function that returns it, called before the first call.
        auth: httpx's authentication; one that fetches tokens renews them by itself.
        read_problem: reads an error's body.
        is_throttled: whether a response that the table would not repeat is a rate limit all the same.
        is_passing: whether one is trouble of the platform's own that the next call may not meet.
        timeout: seconds for one call.
    """

    def __init__(
        self,
        platform: Platform,
        base_url: str | Callable[[], str],
        *,
        description: str,
        auth: httpx.Auth | tuple[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        read_problem: Callable[[httpx.Response], Problem] = problem_of,
        is_throttled: Callable[[httpx.Response], bool] = lambda response: False,
        is_passing: Callable[[httpx.Response], bool] = lambda response: False,
        advice: Mapping[int, str] | None = None,
        timeout: float = 130.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        self._platform = platform
        self._base_url = base_url
        self._description = description
        self._auth = auth
        self._headers = {"User-Agent": "mailwright", **(headers or {})}
        self._read_problem = read_problem
        self._is_throttled = is_throttled
        self._is_passing = is_passing
        self._advice = advice or {}
        self._timeout = timeout
        self.retry = retry or RetryPolicy()
        self.throttle = Throttle(platform, self.retry.longest_retry_after)
        self.observer: Observer | None = None
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    def call(
        self,
        method: str,
        path: str,
        *,
        route: str,
        kind: str = "contacts",
        body: Any = None,
        content: bytes | None = None,
        content_type: str | None = None,
        params: Mapping[str, str | int] | None = None,
        rows: int = 0,
        accepts: Sequence[int] = (),
    ) -> Reply:
        """Make one request, once.

        Args:
            path: below the base URL, or a whole URL.
            route: the path as a template, without anything personal: this is what is noted.
            kind: the kind of call by which the throttle counts.
            body: sent as JSON; or `content`, sent as it is.
            rows: contacts in it.
            accepts: statuses that are no error here, such as 404 of something that is to be deleted.

        Raises:
            TryAgainError: a timeout, a cut connection, an answer that can't be read, 429 or 5xx.
            RefusedError: the body was refused as a whole.
            DestinationError: key, account or rights are wrong.
        """
        self.throttle.wait(kind)
        started = time.monotonic()
        status: int | None = None
        problem: str | None = None
        try:
            headers = {"Content-Type": content_type or "application/json"} if body is not None or content else {}
            data = orjson.dumps(body) if body is not None else content
            response = self._http().request(method, path, content=data, params=params, headers=headers)
            status = response.status_code
            is_limited = status == 429 or self._is_throttled(response)
            is_again = is_limited or self._is_passing(response)
            action = Action.RETRY if is_again else self._platform.action_of(status)
            retry_after = _retry_after(response) if action is Action.RETRY else None
            self.throttle.learn(kind, response.headers, is_limited=is_limited, retry_after=retry_after)
            if action is Action.ACCEPT or status in accepts:
                return Reply(status, _decoded(response), response.headers)
            found = self._read_problem(response)
            problem = without_addresses(found.code)[:100]
            if action is Action.RETRY:
                raise TryAgainError(f"{status} {problem}", retry_after)
            if action is Action.SPLIT:
                raise RefusedError(problem, found.words)
            advice = self._advice.get(
                status, "nothing acknowledged is lost; see the platform's status page, apply again"
            )
            raise DestinationError(f"{self._description} answers {status} {problem} to {method} {route}: {advice}")
        except httpx.ConnectError as error:
            problem = type(error).__name__
            raise TryAgainError(f"can't be reached ({problem})") from None
        except (httpx.TransportError, httpx.DecodingError, ValueError) as error:
            # A ValueError is an answer that is no JSON: it was cut, or a proxy wrote it.
            problem = type(error).__name__
            raise TryAgainError(f"no whole answer ({problem})") from None
        finally:
            if self.observer is not None:
                self.observer(method, route, rows, status, time.monotonic() - started, problem)

    def patiently(self, make: Callable[[], Reply]) -> Reply:
        """Make a call that carries nobody, again and again as the policy has it.

        Raises:
            DestinationError: it went wrong too often, or for good.
        """
        for attempt in range(1, self.retry.attempts + 1):
            try:
                return make()
            except TryAgainError as error:
                if attempt == self.retry.attempts:
                    raise
                time.sleep(self.retry.wait(attempt, error.retry_after))
        raise AssertionError("unreachable")

    def get(self, path: str, *, route: str, kind: str = "read", params: Mapping[str, str | int] | None = None) -> Any:
        """Read something, patiently. Returns the decoded JSON."""
        return self.patiently(lambda: self.call("GET", path, route=route, kind=kind, params=params)).said

    @contextmanager
    def stream(self, url: str, *, route: str, kind: str = "read") -> Iterator[httpx.Response]:
        """Read something large in pieces: the response, of which nothing is read yet. Not repeated."""
        self.throttle.wait(kind)
        with self._http().stream("GET", url) as response:
            if self._platform.action_of(response.status_code) is not Action.ACCEPT:
                raise TryAgainError(f"{response.status_code} to GET {route}")
            yield response

    def close(self) -> None:
        """Give connections back."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _http(self) -> httpx.Client:
        if self._client is None:
            with self._lock:
                if self._client is None:
                    # It logs whole addresses of requests, and a platform may be asked for people by query.
                    logging.getLogger("httpx").setLevel(logging.WARNING)
                    base_url = self._base_url if isinstance(self._base_url, str) else self._base_url()
                    connections = self._platform.connections
                    self._client = httpx.Client(
                        base_url=base_url,
                        auth=self._auth,
                        headers=self._headers,
                        timeout=httpx.Timeout(self._timeout, connect=10.0),
                        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
                        follow_redirects=False,
                        # Loopback never goes through a proxy; the real API goes through the one of the environment.
                        trust_env=not base_url.startswith("http://127.0.0.1"),
                    )
        return self._client


def _decoded(response: httpx.Response) -> Any:
    if not response.content:
        return None
    if "html" in response.headers.get("content-type", ""):
        # No platform speaks it: a proxy or a maintenance page does, and has done nothing.
        raise ValueError("HTML")
    if "xml" in response.headers.get("content-type", "") or "text/" in response.headers.get("content-type", ""):
        return response.text
    return orjson.loads(response.content)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that the platform asks us to wait: a number, or an HTTP date."""
    said = response.headers.get("retry-after")
    if said is None:
        return None
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        moment: datetime = parsedate_to_datetime(said)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
