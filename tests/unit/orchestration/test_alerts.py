"""Once per change of state, to every channel, whatever fails in between."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from core.home import Home
from core.settings import Settings
from orchestration import alerts
from orchestration.alert_channels import UndeliveredError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass
class Recording:
    """A channel that notes what it was sent, or is down."""

    name: str
    is_down: bool = False
    subjects: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def send(self, subject: str, text: str) -> None:
        if self.is_down:
            raise UndeliveredError("the server did not answer")
        self.subjects.append(subject)
        self.texts.append(text)

    @property
    def lines(self) -> list[str]:
        """What was told, without when."""
        return [line.partition("UTC  ")[2] for text in self.texts for line in text.splitlines() if "UTC  " in line]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.create(tmp_path / "home", "Europe/London", "GBP")


@pytest.fixture
def settings(home: Home) -> Settings:
    return Settings(home=home.root)


@pytest.fixture
def channels(monkeypatch: pytest.MonkeyPatch) -> list[Recording]:
    made = [Recording("mail"), Recording("webhook")]
    monkeypatch.setattr(alerts, "configured", lambda _: made)
    return made


def wrong(home: Home) -> dict[str, str]:
    return {change.condition: change.words for change in alerts.standing(home)}


def test_it_is_told_when_it_begins_and_when_it_is_over_and_not_in_between(
    home: Home, settings: Settings, channels: list[Recording]
) -> None:
    assert alerts.note(settings, home, {"sync a": None}, now=NOW) == []
    for hours, words in enumerate(["down", "down", "still down"]):
        alerts.note(settings, home, {"sync a": words, "sync b": None}, now=NOW + hours * HOUR)
    assert wrong(home) == {"sync a": "still down"}
    for hours in (3, 4):
        alerts.note(settings, home, {"sync a": None}, now=NOW + hours * HOUR)
    assert wrong(home) == {}
    for channel in channels:
        assert channel.lines == ["sync a ALARM: down", "sync a recovered: well again after 3 h 0 min"]
        assert channel.subjects == ["Mailwright: sync a ALARM", "Mailwright: sync a recovered"]


def test_what_is_not_named_stays_as_it_was(home: Home, settings: Settings, channels: list[Recording]) -> None:
    alerts.note(settings, home, {"sync a": "down", "sync b": "down"}, now=NOW)
    alerts.note(settings, home, {"sync b": None}, now=NOW + HOUR)
    assert wrong(home) == {"sync a": "down"}


def test_what_changes_together_is_one_message(home: Home, settings: Settings, channels: list[Recording]) -> None:
    alerts.note(settings, home, {"sync a": "down", "a past its deadline": "files lie there"}, now=NOW)
    assert channels[0].subjects == ["Mailwright: a past its deadline ALARM, and 1 more"]
    assert len(channels[0].lines) == 2


def test_what_a_channel_did_not_take_it_gets_with_the_next_look(
    home: Home, settings: Settings, channels: list[Recording], caplog: pytest.LogCaptureFixture
) -> None:
    mail, webhook = channels
    mail.is_down = True
    alerts.note(settings, home, {"sync a": "down"}, now=NOW)
    assert "not delivered by mail: the server did not answer" in caplog.text
    assert [change.untold for change in alerts.standing(home)] == [["mail"]]
    alerts.note(settings, home, {"sync a": "down"}, now=NOW + HOUR)
    mail.is_down = False
    alerts.note(settings, home, {}, now=NOW + 2 * HOUR)
    alerts.note(settings, home, {}, now=NOW + 3 * HOUR)
    assert mail.lines == webhook.lines == ["sync a ALARM: down"]


def test_who_could_not_be_told_before_it_was_over_gets_both(
    home: Home, settings: Settings, channels: list[Recording]
) -> None:
    channels[0].is_down = True
    alerts.note(settings, home, {"sync a": "down"}, now=NOW)
    alerts.note(settings, home, {"sync a": None}, now=NOW + HOUR)
    channels[0].is_down = False
    alerts.note(settings, home, {}, now=NOW + HOUR)
    assert channels[0].lines == ["sync a ALARM: down", "sync a recovered: well again after 60 min"]
    assert len(channels[0].texts) == 1


def test_without_a_channel_it_is_kept_and_one_that_is_set_up_is_told_what_stands(
    home: Home, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "configured", lambda _: [])
    alerts.note(settings, home, {"sync a": "down", "sync b": "down"}, now=NOW)
    alerts.note(settings, home, {"sync b": None}, now=NOW + HOUR)
    assert wrong(home) == {"sync a": "down"}
    mail = Recording("mail")
    monkeypatch.setattr(alerts, "configured", lambda _: [mail])
    alerts.note(settings, home, {}, now=NOW + 2 * HOUR)
    assert mail.lines == ["sync a ALARM: down"]


def test_what_is_over_for_a_week_is_no_news(home: Home, settings: Settings, channels: list[Recording]) -> None:
    for channel in channels:
        channel.is_down = True
    alerts.note(settings, home, {"sync a": "down", "sync b": "down"}, now=NOW)
    alerts.note(settings, home, {"sync a": None}, now=NOW + HOUR)
    channels[0].is_down = False
    alerts.note(settings, home, {}, now=NOW + timedelta(days=8))
    assert channels[0].lines == ["sync b ALARM: down"]


def test_only_changes_are_written(home: Home, settings: Settings, channels: list[Recording]) -> None:
    alerts.note(settings, home, {"sync a": None}, now=NOW)
    assert not home.alerts.exists()
    alerts.note(settings, home, {"sync a": "down"}, now=NOW)
    written = home.alerts.stat().st_mtime_ns
    alerts.note(settings, home, {"sync a": "down"}, now=NOW + HOUR)
    assert home.alerts.stat().st_mtime_ns == written


def test_no_address_is_kept_or_sent(home: Home, settings: Settings, channels: list[Recording]) -> None:
    alerts.note(settings, home, {"sync a": "jane@example.com looks fake"}, now=NOW)
    assert "jane" not in home.alerts.read_text() + "".join(channels[0].texts)


def test_a_home_that_can_not_be_written_is_told_of_all_the_same(
    home: Home, settings: Settings, channels: list[Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(alerts, "write_atomically", full)
    alerts.note(settings, home, {"sync a": "the disk is full"}, now=NOW)
    assert channels[0].lines == ["sync a ALARM: the disk is full"]


def test_a_file_that_can_not_be_read_is_begun_anew(
    home: Home, settings: Settings, channels: list[Recording], caplog: pytest.LogCaptureFixture
) -> None:
    home.alerts.write_text('{"changes": [{"condition"')
    assert alerts.note(settings, home, {"sync a": "down"}, now=NOW)
    assert "can't be read" in caplog.text
    assert wrong(home) == {"sync a": "down"}


def test_the_past_is_cut_off_and_what_stands_is_not(
    home: Home, settings: Settings, channels: list[Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "_KEPT", 10)
    alerts.note(settings, home, {"old": "down"}, now=NOW)
    for number in range(6):
        alerts.note(settings, home, {"new": "down"}, now=NOW + number * HOUR)
        alerts.note(settings, home, {"new": None}, now=NOW + number * HOUR)
    assert len(alerts.read(home)) == 11
    assert wrong(home) == {"old": "down"}
    alerts.note(settings, home, {"old": None}, now=NOW + 999 * HOUR)
    assert channels[0].lines[-1].startswith("old recovered")


looks = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from([None, "bad", "worse"])),
        st.booleans(),
        st.booleans(),
    ),
    max_size=25,
)


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(looks=looks)
def test_every_change_is_told_once_and_in_order(
    looks: list[tuple[dict[str, str | None], bool, bool]],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = Home.create(tmp_path_factory.mktemp("alerts") / "home", "Europe/London", "GBP")
    settings = Settings(home=home.root)
    channels = [Recording("mail"), Recording("webhook")]
    monkeypatch.setattr(alerts, "configured", lambda _: channels)
    expected: dict[str, list[bool]] = {}
    for number, (problems, mail_is_down, webhook_is_down) in enumerate(looks):
        channels[0].is_down, channels[1].is_down = mail_is_down, webhook_is_down
        alerts.note(settings, home, problems, now=NOW + number * HOUR)
        for condition, words in problems.items():
            told = expected.setdefault(condition, [False])
            if told[-1] != (words is not None):
                told.append(words is not None)
    for channel in channels:
        channel.is_down = False
    alerts.note(settings, home, {}, now=NOW + len(looks) * HOUR)
    for channel in channels:
        for condition, states in expected.items():
            told = ["ALARM" in line for line in channel.lines if line.startswith(f"{condition} ")]
            assert told == states[1:]
    assert set(wrong(home)) == {condition for condition, states in expected.items() if states[-1]}


def test_changes_are_logged(home: Home, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        alerts.note(settings, home, {"sync a": "down"}, now=NOW)
        alerts.note(settings, home, {"sync a": None}, now=NOW + HOUR)
    assert [record.getMessage() for record in caplog.records] == [
        "sync a ALARM: down",
        "sync a recovered: well again after 60 min",
    ]


def test_threads_do_not_tell_twice(home: Home, settings: Settings, channels: list[Recording]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        names = itertools.cycle([f"sync {number}" for number in range(4)])
        list(pool.map(lambda name: alerts.note(settings, home, {name: "down"}), [next(names) for _ in range(40)]))
    assert sorted(channels[0].lines) == [f"sync {number} ALARM: down" for number in range(4)]
