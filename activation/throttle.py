"""The throttle: never faster than a platform publishes, slower as soon as it says so.

Each kind of call has a window of its own. Where a platform tells in its headers how much is left, that counts; where it
only answers 429, the pace is halved and grows again by a tenth with every window that passes without one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from activation.platform import Platform

# Share of a published limit that we use ourselves: others work with the account too.
SHARE = 0.9
_SLOWEST = 0.05


class Throttle:
    """Paces the calls of one account. Safe for threads.

    Args:
        now, sleep: the clock, in seconds; given by tests.
    """

    def __init__(
        self,
        platform: Platform,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._platform = platform
        self._now = now
        self._sleep = sleep
        self._lock = threading.Lock()
        self._paces: dict[str, _Pace] = {}

    def wait(self, kind: str) -> float:
        """Wait until a call of this kind may go. Returns the seconds waited."""
        with self._lock:
            now = self._now()
            pause = self._pace(kind).take(now)
        if pause > 0:
            self._sleep(pause)
        return max(0.0, pause)

    def learn(self, kind: str, status: int, headers: Mapping[str, str], retry_after: float | None) -> None:
        """Heed what an answer says of the limit.

        Args:
            retry_after: seconds that the platform asks for; None where it asks for nothing.
        """
        with self._lock:
            pace = self._pace(kind)
            now = self._now()
            if status == 429 or retry_after is not None:
                pace.slow_down(now, retry_after)
            elif (left := _remaining(headers)) is not None:
                pace.heed(now, *left)

    def pace_of(self, kind: str) -> float | None:
        """Calls a second that are let through now; None where nothing limits them."""
        with self._lock:
            return self._pace(kind).rate

    def _pace(self, kind: str) -> _Pace:
        if kind not in self._paces:
            limit = self._platform.limit(kind)
            self._paces[kind] = _Pace(
                None if limit.calls is None else SHARE * limit.calls / limit.seconds, limit.seconds
            )
        return self._paces[kind]


class _Pace:
    """When the next call of a kind may go: evenly spaced at `rate`, with a burst of a tenth of a second."""

    def __init__(self, rate: float | None, window: float) -> None:
        self._published = rate
        self.rate = rate
        self._window = max(window, 1.0)
        self._next = float("-inf")
        self._grow_at = float("-inf")

    def take(self, now: float) -> float:
        rate = self.rate = self._grown(now)
        if rate is None:
            return max(0.0, self._next - now)
        at = max(self._next, now - 0.1)
        self._next = at + 1.0 / rate
        return at - now

    def slow_down(self, now: float, retry_after: float | None) -> None:
        # With nothing published the first 429 sets a pace: that of ten calls a second, then halves.
        current = self.rate if self.rate is not None else 20.0
        floor = _SLOWEST * (self._published or 20.0)
        self.rate = max(current / 2, floor)
        self._grow_at = now + self._window
        self._next = max(self._next, now + (retry_after if retry_after is not None else 0.0))

    def heed(self, now: float, remaining: float, reset: float) -> None:
        if remaining <= 0 and 0 < reset <= 120:
            self._next = max(self._next, now + reset)

    def _grown(self, now: float) -> float | None:
        """The rate after what has passed without a 429; None once an unpublished one has grown past all need."""
        if self.rate is None or self.rate == self._published or now < self._grow_at:
            return self.rate
        self._grow_at = now + self._window
        grown = self.rate * 1.1
        if self._published is not None:
            return min(grown, self._published)
        return grown if grown <= 200 else None


def _remaining(headers: Mapping[str, str]) -> tuple[float, float] | None:
    """Calls left in the window, and seconds until it begins anew; None where the answer says nothing of it."""
    for prefix in ("x-ratelimit-", "ratelimit-"):
        remaining, reset = headers.get(f"{prefix}remaining"), headers.get(f"{prefix}reset")
        if remaining is not None and reset is not None:
            try:
                seconds = float(reset)
                # Braze says when, in seconds of the epoch; others in how many seconds.
                return float(remaining), seconds - time.time() if seconds > 1e9 else seconds
            except ValueError:
                return None
    return None
