"""Alerts: what is wrong, said once when it begins and once when it is over.

A condition is something with a name that is well or not, such as `sync mailchimp`; `watching` decides which. Its changes
are kept in the home together with which channel was told. What a channel did not take is sent with the next look, which
comes every few minutes; a process killed between sending and noting it sends once more. Nothing here ever fails the
job that it is about.
"""

from __future__ import annotations

import logging
import platform
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ValidationError

from activation.connector import redact
from core import lock
from core.errors import WarehouseBusyError
from core.files import write_atomically
from core.home import Home
from core.settings import Settings
from orchestration.alert_channels import Channel, UndeliveredError, configured

_log = logging.getLogger(__name__)

# Changes that are over are kept for looking back.
_KEPT = 200
# What no channel took for so long is no news any more.
_NEWS = timedelta(days=7)
# Longer than a channel takes to fail.
_PATIENCE_SECONDS = 30.0
# The state of a home, and the right to send what is in it.
_STATE, _SENDING = "alerts", "alerts-sending"
_threads = {_STATE: threading.Lock(), _SENDING: threading.Lock()}


class Change(BaseModel):
    """A condition that began to be wrong, or came right again.

    Attributes:
        condition: its name.
        is_open: whether it is wrong from here on.
        at: since when.
        words: what is wrong, as last seen; for one that came right, for how long it was wrong.
        due: channels that are to be told; told: those that were.
    """

    condition: str
    is_open: bool
    at: AwareDatetime
    words: str
    due: list[str] = []
    told: list[str] = []

    @property
    def untold(self) -> list[str]:
        return [name for name in self.due if name not in self.told]

    def describe(self) -> str:
        return f"{self.condition} {self.state}: {self.words}"

    @property
    def state(self) -> str:
        return "ALARM" if self.is_open else "recovered"


class _State(BaseModel):
    changes: list[Change] = []


def note(
    settings: Settings, home: Home, problems: Mapping[str, str | None], *, now: datetime | None = None
) -> list[Change]:
    """Note how conditions are, and tell the channels of what changed and of what they were not told yet.

    Args:
        problems: by condition what is wrong, None where nothing is. Of conditions that are not named nothing is known.

    Returns:
        What changed.
    """
    now = now or datetime.now(UTC)
    channels = configured(settings)
    found: list[Change] = []
    try:
        with _alone(home, _STATE):
            changes = read(home)
            before = _State(changes=changes).model_copy(deep=True).changes
            found = _apply(changes, problems, now)
            _make_due(changes, [channel.name for channel in channels])
            if changes != before:
                _write(home, _worth_keeping(changes))
    except (OSError, WarehouseBusyError) as error:
        # Said twice is better than not said: a full disk is worth an alert too.
        _log.error("alerts can't be kept in %s: %s", home.alerts, error)
        for channel in channels if found else []:
            _send(home, channel, found)
    else:
        _deliver(home, channels, now)
    for change in found:
        _log.info("%s", change.describe())  # as an error it is said already, by whoever failed
    return found


def read(home: Home) -> list[Change]:
    """Every change that is kept, the oldest first."""
    try:
        return _State.model_validate_json(home.alerts.read_text(encoding="utf-8")).changes
    except FileNotFoundError:
        return []
    except (ValidationError, UnicodeDecodeError):
        _log.error("%s can't be read: what is wrong is noted anew", home.alerts)
        return []


def standing(home: Home) -> list[Change]:
    """What is wrong now, the longest first."""
    return [change for change in _latest(read(home)).values() if change.is_open]


def _latest(changes: Sequence[Change]) -> dict[str, Change]:
    return {change.condition: change for change in changes}


def _apply(changes: list[Change], problems: Mapping[str, str | None], now: datetime) -> list[Change]:
    """Add what changed to `changes`; returns it."""
    latest, found = _latest(changes), []
    for condition, problem in problems.items():
        before = latest.get(condition)
        was_open = before is not None and before.is_open
        if problem is not None:
            words = " ".join(redact(problem).split())
            if before is not None and was_open:
                before.words = words
            else:
                found.append(Change(condition=condition, is_open=True, at=now, words=words))
        elif before is not None and was_open:
            words = f"well again after {_span(now - before.at)}"
            # Whoever was told that something is wrong is told that it is over.
            found.append(Change(condition=condition, is_open=False, at=now, words=words, due=before.due))
    changes += found
    return found


def _make_due(changes: Sequence[Change], channels: Sequence[str]) -> None:
    """Have what is wrong now told to every channel, also to one that was set up since."""
    for change in _latest(changes).values():
        if change.is_open:
            change.due = sorted({*change.due, *channels})


def _worth_keeping(changes: list[Change]) -> list[Change]:
    latest = _latest(changes)
    old = changes[:-_KEPT]
    return [change for change in old if change.is_open and latest[change.condition] is change] + changes[-_KEPT:]


def _deliver(home: Home, channels: Sequence[Channel], now: datetime) -> None:
    """Send each channel what it is to be told, as one message."""
    if not channels or not any(_news(read(home), channel, now) for channel in channels):
        return
    try:
        # Sending takes time, in which others may note; but nothing is sent by two.
        with _alone(home, _SENDING):
            for channel in channels:
                if (news := _news(read(home), channel, now)) and _send(home, channel, news):
                    _note_told(home, channel, news)
    except (OSError, WarehouseBusyError) as error:
        _log.error("alerts were not sent (%s): the next run sends them", type(error).__name__)


def _news(changes: Sequence[Change], channel: Channel, now: datetime) -> list[Change]:
    standing = [change for change in _latest(changes).values() if change.is_open]
    return [
        change
        for change in changes
        if channel.name in change.untold and (change in standing or now - change.at < _NEWS)
    ]


def _send(home: Home, channel: Channel, news: Sequence[Change]) -> bool:
    try:
        channel.send(*message(home, news))
    except UndeliveredError as error:
        _log.error("not delivered by %s: %s. The next run tries again", channel.name, error)
        return False
    return True


def _note_told(home: Home, channel: Channel, news: Sequence[Change]) -> None:
    sent = {(change.condition, change.at) for change in news}
    with _alone(home, _STATE):
        changes = read(home)
        for change in changes:
            if (change.condition, change.at) in sent:
                change.told.append(channel.name)
        _write(home, changes)


def message(home: Home, news: Sequence[Change]) -> tuple[str, str]:
    """Subject and text of a message about some changes."""
    newest = news[-1]
    subject = f"Mailwright: {newest.condition} {newest.state}"
    if len(news) > 1:
        subject += f", and {len(news) - 1} more"
    lines = [f"{change.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC  {change.describe()}" for change in news]
    return subject, "\n".join([*lines, "", f"{home.root} on {platform.node()}. What stands: mailwright alerts"])


def try_out(settings: Settings, home: Home) -> dict[str, str | None]:
    """Send a message to each channel; returns what went wrong by channel, None where nothing did."""
    found: dict[str, str | None] = {}
    for channel in configured(settings):
        try:
            channel.send("Mailwright: test", f"Alerts arrive here.\n\n{home.root} on {platform.node()}.")
            found[channel.name] = None
        except UndeliveredError as error:
            found[channel.name] = str(error)
    return found


def _write(home: Home, changes: Sequence[Change]) -> None:
    write_atomically(home.alerts, _State(changes=list(changes)).model_dump_json(indent=1) + "\n")


@contextmanager
def _alone(home: Home, name: str) -> Iterator[None]:
    """Keep other threads out, and by the kernel other processes."""
    with _threads[name], lock.held(home.root / name, wait_seconds=_PATIENCE_SECONDS, what=f"the {name} of"):
        yield


def _span(span: timedelta) -> str:
    minutes = round(span.total_seconds() / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 2880 else f"{minutes // 1440} days"
