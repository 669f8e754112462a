"""How fast calls go: by what a platform publishes, and by what its answers say. The clock stands but for what is waited."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import httpx
import pytest

from activation.connectors.mailchimp import PLATFORM
from activation.http import Api, RetryPolicy, TryAgainError
from activation.platform import Limit, Platform
from activation.throttle import Throttle
from tests.unit.activation.recording import Recording, recording

# 100 calls in 10 seconds: evenly paced at nine tenths, one call in every ninth of a second.
PUBLISHED = Limit(calls=100, seconds=10)
SPACING = 1 / 9


class Clock:
    """Seconds that pass by waiting alone."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.waited: list[float] = []

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.seconds += seconds


class Paced:
    """A throttle and its clock."""

    def __init__(self, limit: Limit, longest: float = 300.0) -> None:
        self.clock = Clock()
        self.throttle = Throttle(platform_of(limit), longest, self.clock.now, self.clock.sleep)

    def calls(self, count: int, kind: str = "contacts") -> list[float]:
        """When so many calls went, each as soon as it might."""
        went = []
        for _ in range(count):
            self.throttle.wait(kind)
            went.append(self.clock.now())
        return went

    def rate(self, count: int = 20) -> float:
        """Calls a second that go now, past any burst."""
        went = self.calls(count + 5)[5:]
        return (len(went) - 1) / (went[-1] - went[0])

    def refused(self, retry_after: float | None = None, headers: Mapping[str, str] | None = None) -> None:
        """A 429 came."""
        self.throttle.learn("contacts", headers or {}, is_limited=True, retry_after=retry_after)

    def said(self, headers: Mapping[str, str], kind: str = "contacts") -> None:
        """A good answer came."""
        self.throttle.learn(kind, headers, is_limited=False, retry_after=None)


def platform_of(limit: Limit) -> Platform:
    return replace(PLATFORM, limits={"contacts": limit, "tags": limit})


@pytest.fixture
def paced() -> Paced:
    return Paced(PUBLISHED)


@pytest.fixture
def server() -> Iterator[Recording]:
    with recording() as made:
        yield made


def test_calls_are_spaced_evenly_at_nine_tenths_of_what_is_published(paced: Paced) -> None:
    went = paced.calls(200)
    gaps = [later - earlier for earlier, later in pairwise(went[2:])]
    assert gaps == pytest.approx([SPACING] * len(gaps))
    for start in went:
        within = [moment for moment in went if start <= moment < start + PUBLISHED.seconds]
        assert len(within) <= 0.9 * 100 + 2


@pytest.mark.parametrize("idle", [1.0, 3600.0])
def test_a_pause_is_made_up_for_by_a_tenth_of_a_second_at_most(idle: float) -> None:
    paced = Paced(Limit(calls=100))
    paced.calls(50)
    paced.clock.seconds += idle
    started = paced.clock.now()
    went = paced.calls(60)
    assert sum(moment == started for moment in went) == 10, (
        "a tenth of a second at 90 a second, and the one that is due"
    )
    assert sum(moment < started + 1 for moment in went[10:]) <= 90


def test_kinds_of_calls_do_not_wait_for_each_other(paced: Paced) -> None:
    paced.calls(10)
    paced.refused(60)
    started = paced.clock.now()
    assert paced.calls(1, "tags") == [started]
    assert paced.calls(1) == [started + 60]


def test_nothing_is_waited_for_where_nothing_is_published() -> None:
    paced = Paced(Limit())
    paced.calls(1000)
    assert paced.clock.waited == []


@pytest.mark.parametrize(("limit", "before", "after"), [(PUBLISHED, 9.0, 4.5), (Limit(), None, 10.0)])
def test_a_429_halves_the_pace(limit: Limit, before: float | None, after: float) -> None:
    paced = Paced(replace(limit, seconds=100, calls=limit.calls and 1000))
    if before is not None:
        assert paced.rate() == pytest.approx(before)
    paced.refused()
    assert paced.rate() == pytest.approx(after)


def test_a_429_leaves_no_burst(paced: Paced) -> None:
    paced.clock.seconds += 100
    paced.refused()
    went = paced.calls(3)
    assert went == pytest.approx([went[0], went[0] + 2 * SPACING, went[0] + 4 * SPACING])


@pytest.mark.parametrize("limit", [PUBLISHED, Limit()], ids=["published", "not published"])
def test_nothing_goes_before_the_time_that_a_429_asks_for(limit: Limit) -> None:
    paced = Paced(limit)
    paced.calls(3)
    refused_at = paced.clock.now()
    paced.refused(7.5)
    first, second = paced.calls(2)
    assert first == refused_at + 7.5
    assert second - first >= 0.1, "half the pace after it, and not all at once"


def test_a_time_beyond_all_patience_is_not_waited_for() -> None:
    paced = Paced(PUBLISHED, longest=300)
    started = paced.clock.now()
    paced.refused(86_400)
    assert paced.calls(1) == [started + 300]


def test_calls_that_were_refused_together_halve_the_pace_once(paced: Paced) -> None:
    paced.calls(10)
    for _ in range(4):
        paced.refused()
        paced.clock.seconds += 0.05
    assert paced.rate(10) == pytest.approx(4.5)


def test_refusals_that_go_on_halve_it_again_down_to_a_twentieth() -> None:
    paced = Paced(Limit(calls=6000, seconds=60))
    rates = []
    for _ in range(8):
        paced.refused()
        rates.append(1 / (-paced.calls(1)[0] + paced.calls(1)[0]))
        paced.clock.seconds += 1.5
    assert rates[:3] == pytest.approx([45, 22.5, 11.25])
    assert rates[-2:] == pytest.approx([4.5, 4.5]), "never to a standstill"


def test_each_window_without_a_429_lets_a_tenth_more_through_until_the_published_pace(paced: Paced) -> None:
    paced.refused()
    rates = []
    for _ in range(9):
        went = paced.calls(4)
        rates.append(1 / (went[3] - went[2]))
        paced.clock.seconds = went[0] + PUBLISHED.seconds
    assert rates == pytest.approx([min(9, 4.5 * 1.1**window) for window in range(9)])


def test_windows_in_which_nothing_was_sent_count_as_well(paced: Paced) -> None:
    paced.refused()
    paced.clock.seconds += 35
    assert paced.rate(10) == pytest.approx(4.5 * 1.1**3)
    paced.clock.seconds += 1e9
    assert paced.rate() == pytest.approx(9)


def test_a_pace_that_nobody_published_ends_when_it_is_past_all_need() -> None:
    paced = Paced(Limit())
    paced.refused()
    assert paced.rate(5) == pytest.approx(10)
    paced.clock.seconds += 10.5
    assert 10 * 1.1**10 <= paced.rate(10) <= 10 * 1.1**12
    paced.clock.seconds += 30
    waited = len(paced.clock.waited)
    paced.calls(500)
    assert len(paced.clock.waited) == waited


def test_a_limit_by_the_hour_does_not_stay_slow_for_hours() -> None:
    paced = Paced(Limit(calls=36_000, seconds=3600))
    paced.refused()
    paced.clock.seconds += 8 * 60
    assert paced.rate() == pytest.approx(9)


@pytest.mark.parametrize("prefix", ["X-RateLimit", "RateLimit"])
def test_an_empty_window_is_waited_out(paced: Paced, prefix: str) -> None:
    paced.calls(10)
    answered_at = paced.clock.now()
    paced.said(httpx.Headers({f"{prefix}-Limit": "100", f"{prefix}-Remaining": "0", f"{prefix}-Reset": "4"}))
    first, second = paced.calls(2)
    assert first == answered_at + 4
    assert second - first == pytest.approx(SPACING), "the pace stays: nothing was refused"


@pytest.mark.parametrize("skew", [timedelta(), timedelta(hours=3), timedelta(days=-2)])
def test_a_reset_in_seconds_of_the_epoch_is_read_by_the_platform_s_own_clock(paced: Paced, skew: timedelta) -> None:
    theirs = datetime.now(UTC).replace(microsecond=0) + skew
    reset = int((theirs + timedelta(seconds=9)).timestamp())
    started = paced.clock.now()
    paced.said(
        httpx.Headers({
            "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(reset), "Date": format_datetime(theirs, usegmt=True),
        })
    )  # fmt: skip
    assert paced.calls(1) == [started + 9]


def test_a_reset_in_seconds_of_the_epoch_is_read_by_ours_where_there_is_no_date(paced: Paced) -> None:
    started = paced.clock.now()
    paced.said({"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{datetime.now(UTC).timestamp() + 20:.0f}"})
    assert 15 < paced.calls(1)[0] - started <= 20.5


def test_a_429_without_retry_after_waits_for_the_reset_that_it_tells(paced: Paced) -> None:
    started = paced.clock.now()
    paced.refused(headers={"x-ratelimit-remaining": "0", "x-ratelimit-reset": "12"})
    assert paced.calls(1) == [started + 12]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-ratelimit-remaining": "1", "x-ratelimit-reset": "60"},
        {"x-ratelimit-remaining": "0"},
        {"x-ratelimit-reset": "60"},
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "soon"},
        {"x-ratelimit-remaining": "none", "x-ratelimit-reset": "60"},
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "-5"},
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1000000001"},
    ],
)
def test_headers_that_ask_for_nothing(headers: dict[str, str]) -> None:
    paced = Paced(Limit())
    paced.said(headers)
    paced.calls(10)
    assert paced.clock.waited == []


def test_threads_share_the_pace() -> None:
    clock, lock, moments = Clock(), threading.Lock(), []

    def sleep(seconds: float) -> None:
        with lock:
            moments.append(seconds)

    throttle = Throttle(platform_of(Limit(calls=10)), now=clock.now, sleep=sleep)

    def fifty() -> None:
        for _ in range(50):
            throttle.wait("contacts")

    threads = [threading.Thread(target=fifty) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(moments) == pytest.approx([number / 9 - 0.1 for number in range(1, 200)])


# What an answer over HTTP means for the pace.


@pytest.mark.parametrize(
    ("status", "headers", "waits"),
    [
        (200, {}, 0),
        (400, {"Retry-After": "9"}, 0),
        (503, {}, 0),
        (503, {"Retry-After": "9"}, 9),
        (429, {"Retry-After": "9"}, 9),
        (429, {"Retry-After": "9999"}, 20),
        (429, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "6"}, 6),
        (200, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "6"}, 6),
    ],
)
def test_answers_reach_the_throttle(server: Recording, status: int, headers: dict[str, str], waits: float) -> None:
    clock = Clock()
    platform = platform_of(Limit())
    policy = RetryPolicy(longest_retry_after=20)
    api = Api(platform, server.url, description="Mailchimp one", retry=policy)
    api.throttle = Throttle(platform, policy.longest_retry_after, clock.now, clock.sleep)
    server.answers["/some"] = (status, {})
    server.headers = headers
    started = clock.now()
    with suppress(TryAgainError):
        api.call("POST", "/some", route="/some", body={}, accepts=(400,))
    api.throttle.wait("contacts")
    assert clock.now() - started == waits
    api.close()


def test_a_rate_limit_in_another_guise_slows_down_too(server: Recording) -> None:
    clock = Clock()
    api = Api(
        platform_of(Limit()),
        server.url,
        description="Mailchimp one",
        is_throttled=lambda answer: answer.status_code == 403,
    )
    api.throttle = Throttle(platform_of(Limit()), now=clock.now, sleep=clock.sleep)
    server.answers["/some"] = (403, {})
    with pytest.raises(TryAgainError):
        api.call("POST", "/some", route="/some", body={})
    for _ in range(3):
        api.throttle.wait("contacts")
    assert clock.waited == pytest.approx([0.1, 0.1])
    api.close()


def test_what_passes_by_itself_is_no_rate_limit(server: Recording) -> None:
    clock = Clock()
    platform = platform_of(Limit())
    api = Api(platform, server.url, description="Mailchimp one", is_passing=lambda answer: answer.status_code == 400)
    api.throttle = Throttle(platform, now=clock.now, sleep=clock.sleep)
    server.answers["/some"] = (400, {})
    with pytest.raises(TryAgainError):
        api.call("POST", "/some", route="/some", body={})
    for _ in range(3):
        api.throttle.wait("contacts")
    assert clock.waited == []
    api.close()


def test_an_api_waits_no_longer_for_its_throttle_than_its_policy_has_it(server: Recording) -> None:
    api = Api(
        platform_of(Limit()), server.url, description="Mailchimp one", retry=RetryPolicy(longest_retry_after=0.01)
    )
    server.answers["/some"] = (429, {})
    server.headers = {"Retry-After": "3600"}
    for _ in range(2):
        with pytest.raises(TryAgainError):
            api.call("POST", "/some", route="/some", body={})
    assert len(server.asked) == 2
    api.close()
