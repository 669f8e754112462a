"""What is made of an answer, or of none: by status, with the wait that was asked for, and without anything personal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activation import http
from activation.connector import Contact, redact
from activation.connectors.mailchimp import PLATFORM
from activation.http import Api, RetryPolicy, TryAgainError
from activation.platform import Action
from activation.throttle import Throttle
from core.errors import DestinationError
from tests.unit.activation.recording import Recording, recording


@pytest.fixture
def server() -> Iterator[Recording]:
    with recording() as made:
        yield made


def api_of(url: str, *, attempts: int = 1, timeout: float = 5) -> Api:
    policy = RetryPolicy(attempts=attempts, first_wait=0.01)
    return Api(PLATFORM, url, description="Mailchimp one", timeout=timeout, retry=policy)


@pytest.mark.parametrize(
    ("status", "action"),
    [
        (200, Action.ACCEPT), (204, Action.ACCEPT), (400, Action.SPLIT), (401, Action.STOP), (403, Action.STOP),
        (404, Action.STOP), (408, Action.RETRY), (422, Action.SPLIT), (429, Action.RETRY), (500, Action.RETRY),
        (502, Action.RETRY), (599, Action.RETRY), (301, Action.STOP), (418, Action.STOP),
    ],
)  # fmt: skip
def test_status_table(status: int, action: Action) -> None:
    assert PLATFORM.action_of(status) is action


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [
        (None, None, None),
        ("7", 7, 7),
        ("0.5", 0.5, 0.5),
        ("-3", 0, 0),
        (timedelta(seconds=90), 80, 90),
        (timedelta(seconds=-90), 0, 0),
        ("soon", None, None),
    ],
)
def test_retry_after(said: str | timedelta | None, least: float | None, most: float | None) -> None:
    if isinstance(said, timedelta):
        said = format_datetime(datetime.now(UTC) + said, usegmt=True)
    found = http._retry_after(httpx.Response(429, headers={"retry-after": said} if said is not None else {}))
    if least is None or most is None:
        assert found is None
    else:
        assert found is not None
        assert least <= found <= most


def test_waits_grow_and_respect_the_platform() -> None:
    policy = RetryPolicy()
    for attempt, most in ((1, 1.0), (3, 4.0), (20, 60.0)):
        assert most / 2 <= policy.wait(attempt, None) <= most
    assert policy.wait(1, 17.0) == 17.0
    assert policy.wait(1, 99_999.0) == policy.longest_retry_after


def test_nobody_answers() -> None:
    with pytest.raises(TryAgainError, match="can't be reached"):
        api_of("http://127.0.0.1:1").call("GET", "/ping", route="/ping")


def test_a_call_that_takes_too_long_is_given_up() -> None:
    async def serve() -> None:
        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(hang, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        api = api_of(url, timeout=0.2)
        try:
            with pytest.raises(TryAgainError, match=r"no whole answer \(ReadTimeout\)"):
                await asyncio.to_thread(api.call, "GET", "/ping", route="/ping")
        finally:
            api.close()
            server.close()

    asyncio.run(serve())


def test_setting_up_is_repeated_and_a_call_with_people_is_not(server: Recording) -> None:
    server.answers["/down"] = (503, {"title": "Down"})
    api = api_of(server.url, attempts=3)
    with pytest.raises(TryAgainError, match="503 Down"):
        api.get("/down", route="/down")
    assert len(server.asked) == 3
    with pytest.raises(TryAgainError):
        api.call("POST", "/down", route="/down", body={}, rows=1)
    assert len(server.asked) == 4
    api.close()


def test_reading_waits_as_long_as_it_is_asked_to(server: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("activation.http.time.sleep", waited.append)
    server.answers["/busy"] = (503, {"title": "Busy"})
    server.headers = {"Retry-After": "7"}
    api = api_of(server.url, attempts=3)
    api.throttle = Throttle(PLATFORM, sleep=lambda seconds: None)
    with pytest.raises(TryAgainError, match="503 Busy"):
        api.get("/busy", route="/busy")
    assert waited == [7.0, 7.0]
    api.close()


def test_a_code_that_repeats_an_address_loses_it(server: Recording) -> None:
    told: list[str | None] = []
    server.answers["/bad"] = (401, {"title": "no key for ada@example.com"})
    api = api_of(server.url)
    api.observer = lambda method, route, rows, status, seconds, problem: told.append(problem)
    with pytest.raises(DestinationError, match="no key for <address>") as raised:
        api.call("POST", "/bad", route="/bad", body={})
    assert "ada" not in str(raised.value)
    assert told == ["no key for <address>"]
    api.close()


@given(st.emails(), st.text(min_size=3, max_size=20))
def test_words_lose_addresses_and_values(email: str, name: str) -> None:
    contact = Contact("k", email, fields={"FNAME": name})
    words = redact(f"{email.upper()} ({name}) cannot be subscribed, nor can other@example.com", contact)
    assert email.lower() not in words.lower()
    assert "other@example.com" not in words


def test_a_contact_shows_no_address() -> None:
    assert "ada" not in repr(Contact("k", "ada@example.com", fields={"FNAME": "ada"}))
