"""The throttle: never faster than a platform publishes, slower as soon as it says so.

Each kind of call has a window of its own. Where a platform tells in its headers how much is left, that counts; where it
only answers 429, the pace is halved and grows again by a tenth with every window that passes without one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from activation.platform import Platform

# Share of a published limit that we use ourselves: others work with the account too.
SHARE = 0.9
# What calls may make up for in a burst, in seconds of their pace.
_BURST = 0.1
# With nothing published the first 429 sets a pace: half of this many calls a second; ten times as many need none.
_ASSUMED = 20.0
_SLOWEST = 0.05
# A limit by the hour would else take its slowness through the whole apply.
_LONGEST_WINDOW = 60.0


class Throttle:
    """Paces the calls of one account. Safe for threads.

    Args:
        longest: seconds that a call waits at most for what the platform says; what it answers then decides.
        now, sleep: the clock, in seconds; given by tests.
    """

    def __init__(
        self,
        platform: Platform,
        longest: float = 300.0,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._platform = platform
        self._longest = longest
        self._now = now
        self._sleep = sleep
        self._lock = threading.Lock()
        self._paces: dict[str, _Pace] = {}

    def wait(self, kind: str) -> None:
        """Wait until a call of this kind may go."""
        with self._lock:
            pause = self._pace(kind).take(self._now())
        if pause > 0:
            self._sleep(pause)

    def learn(self, kind: str, headers: Mapping[str, str], *, is_limited: bool, retry_after: float | None) -> None:
        """Heed what an answer says of the limit.

        Args:
            headers: names in lower case, or a mapping that does not mind.
            is_limited: the answer is that there were too many calls.
            retry_after: seconds that the platform asks for; None where it asks for nothing.
        """
        asked = retry_after if retry_after is not None else _until_reset(headers)
        pause = None if asked is None else min(asked, self._longest)
        with self._lock:
            pace, now = self._pace(kind), self._now()
            if is_limited or retry_after is not None:
                pace.slow_down(now)
            if pause is not None:
                pace.hold(now + pause)

    def _pace(self, kind: str) -> _Pace:
        if kind not in self._paces:
            limit = self._platform.limit(kind)
            rate = None if limit.calls is None else SHARE * limit.calls / limit.seconds
            self._paces[kind] = _Pace(rate, min(max(limit.seconds, 1.0), _LONGEST_WINDOW))
        return self._paces[kind]


class _Pace:
    """When the next call of a kind may go: evenly spaced at a rate, which is None where nothing limits it."""

    def __init__(self, published: float | None, window: float) -> None:
        self._published = published
        self._rate = published
        self._window = window
        self._next = self._slowed_at = self._grow_at = float("-inf")

    def take(self, now: float) -> float:
        """Seconds until a call may go, which counts as made then."""
        self._grow(now)
        if self._rate is None:
            return self._next - now
        at = max(self._next, now - _BURST)
        self._next = at + 1.0 / self._rate
        return at - now

    def slow_down(self, now: float) -> None:
        # Calls that were under way together are refused together: that is one reason, not several.
        if now < self._slowed_at + 1.0:
            return
        self._grow(now)
        usual = self._published or _ASSUMED
        self._rate = max((self._rate or usual) / 2, _SLOWEST * usual)
        self._slowed_at, self._grow_at = now, now + self._window
        # No burst is left over from the faster pace.
        self.hold(now)

    def hold(self, until: float) -> None:
        self._next = max(self._next, until)

    def _grow(self, now: float) -> None:
        """Take back what windows without a 429 have earned; an unpublished pace ends once it is past all need."""
        if self._rate is None or self._rate == self._published or now < self._grow_at:
            return
        windows = 1 + int((now - self._grow_at) / self._window)
        self._grow_at += windows * self._window
        # More doublings than that are not needed from the slowest pace, and the power stays a number.
        grown = self._rate * 1.1 ** min(windows, 100)
        if self._published is not None:
            self._rate = min(grown, self._published)
        else:
            self._rate = grown if grown <= 10 * _ASSUMED else None


def _until_reset(headers: Mapping[str, str]) -> float | None:
    """Seconds until a window begins anew of which nothing is left; None where there is some, or nothing is said."""
    for prefix in ("x-ratelimit-", "ratelimit-"):
        remaining, reset = headers.get(f"{prefix}remaining"), headers.get(f"{prefix}reset")
        if remaining is not None and reset is not None:
            try:
                if float(remaining) > 0:
                    return None
                seconds = float(reset)
            except ValueError:
                return None
            # Braze says when, in seconds of the epoch; others in how many seconds.
            return max(0.0, seconds - _their_time(headers) if seconds > 1e9 else seconds)
    return None


def _their_time(headers: Mapping[str, str]) -> float:
    """Seconds of the epoch by the platform's own clock, as ours may be wrong; ours where it does not tell."""
    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return datetime.now(UTC).timestamp()
