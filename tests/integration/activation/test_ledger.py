"""The ledger's promises, on SQLite and on a real PostgreSQL: rows, runs, dead letters, leases, restored backups."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import select, text

from activation import generations, leases, sync_history
from activation.connector import Member
from activation.leases import Lease
from activation.ledger import Acknowledgement, DeadLetter, Ledger, RequestMade, State, Withheld
from activation.ledger_records import field_hash, pack, unpack
from activation.ledger_tables import requests
from core.errors import LedgerError, PlanError, SettingsError
from core.home import Home
from core.settings import Settings

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
TARGET = "mailchimp/an-account"
ADA, BOB, CAT, DOT = (bytes([number]) * 16 for number in (1, 2, 3, 4))


@pytest.fixture(params=["sqlite", "postgresql"])
def kept_in(request: pytest.FixtureRequest, home: Home) -> Settings:
    """Settings of a ledger in either database."""
    url = request.getfixturevalue("database") if request.param == "postgresql" else None
    return Settings(home=home.root, ledger_url=url)


@pytest.fixture
def ledger(home: Home, kept_in: Settings) -> Iterator[Ledger]:
    with Ledger(home, kept_in) as opened:
        yield opened


def begin(ledger: Ledger, plan: str = "plan-1", base: int = 0, at: datetime = AT) -> int:
    return ledger.begin(TARGET, plan, base, 1, [], at)


def created(ledger: Ledger, key: bytes, *tags: str, content: bytes = b"content1") -> Acknowledgement:
    layout = ledger.layout_id(TARGET, ["CITY", "NAME"])
    return Acknowledgement(key, "create", State.SYNCED, content, layout, b"12345abcde", add=tags)


def rows(ledger: Ledger) -> dict[bytes, tuple[State, bytes, int | None, set[str]]]:
    """What the ledger knows: state, content, layout, names of tags, by key."""
    names = ledger.tags(TARGET)
    return {
        row["key"]: (
            State(row["state"]),
            row["content_hash"],
            row["layout"],
            {names[number] for number in unpack(row["tags"])},
        )
        for row in ledger.rows(TARGET).to_pylist()
    }


class TestRows:
    def test_what_is_acknowledged_is_what_is_read(self, ledger: Ledger) -> None:
        run = begin(ledger)
        ledger.acknowledge(run, TARGET, [created(ledger, ADA, "mw: b", "mw: a"), created(ledger, BOB)], AT)
        assert rows(ledger) == {
            ADA: (State.SYNCED, b"content1", 1, {"mw: a", "mw: b"}),
            BOB: (State.SYNCED, b"content1", 1, set()),
        }
        assert ledger.layouts(TARGET) == {1: ["CITY", "NAME"]}
        assert ledger.field_hashes(TARGET, [ADA, DOT]).to_pylist() == [
            {"key": ADA, "layout": 1, "field_hashes": b"12345abcde"}
        ]
        assert ledger.field_hashes(TARGET).num_rows == 2
        assert ledger.states(TARGET, [ADA, DOT]) == {ADA: State.SYNCED}

    def test_unknown_destination_has_nothing(self, ledger: Ledger) -> None:
        assert ledger.rows("braze/other").num_rows == 0
        assert ledger.field_hashes("braze/other").num_rows == 0
        assert ledger.dead_letters("braze/other").num_rows == 0
        assert not ledger.layouts("braze/other")
        assert not ledger.tags("braze/other")
        assert ledger.counts("braze/other") == {"tags": 0, "dead letters": 0}

    def test_destinations_do_not_mix(self, ledger: Ledger) -> None:
        ledger.acknowledge(begin(ledger), TARGET, [created(ledger, ADA, "mw: a")], AT)
        other = "mailchimp/sandbox-account"
        run = ledger.begin(other, "plan-9", 0, 1, [], AT)
        ledger.acknowledge(run, other, [Acknowledgement(ADA, "create", State.FOUND)], AT)
        assert rows(ledger)[ADA][0] == State.SYNCED
        assert ledger.tags(other) == {}
        assert [len(ledger.rows(target)) for target in (TARGET, other)] == [1, 1]

    def test_what_is_not_said_stays(self, ledger: Ledger) -> None:
        run = begin(ledger)
        ledger.acknowledge(run, TARGET, [created(ledger, ADA, "mw: a", "mw: b")], AT)
        ledger.acknowledge(run, TARGET, [Acknowledgement(ADA, "tag_remove", remove=["mw: a"])], AT)
        ledger.acknowledge(run, TARGET, [Acknowledgement(ADA, "unsubscribe", State.UNSUBSCRIBED)], AT)
        assert rows(ledger)[ADA] == (State.UNSUBSCRIBED, b"content1", 1, {"mw: b"})
        assert ledger.field_hashes(TARGET, [ADA]).column("field_hashes").to_pylist() == [b"12345abcde"]

    @pytest.mark.parametrize("refused", [State.UNSUBSCRIBED, State.LEFT, State.ERASED])
    def test_no_write_lifts_a_refusal(self, ledger: Ledger, refused: State) -> None:
        """An answer to a write that was under way may come after the refusal was told."""
        run = begin(ledger)
        ledger.acknowledge(run, TARGET, [created(ledger, ADA)], AT)
        ledger.acknowledge(run, TARGET, [Acknowledgement(ADA, "unsubscribe", refused)], AT)
        ledger.acknowledge(run, TARGET, [created(ledger, ADA)], AT)
        assert rows(ledger)[ADA][0] == refused

    @pytest.mark.parametrize("gone", [State.ERASED, State.ARCHIVED])
    def test_who_is_gone_keeps_nothing(self, ledger: Ledger, gone: State) -> None:
        run = begin(ledger)
        ledger.acknowledge(run, TARGET, [created(ledger, ADA, "mw: a")], AT)
        ledger.acknowledge(run, TARGET, [Acknowledgement(ADA, "erase", gone)], AT)
        assert rows(ledger)[ADA] == (gone, b"", None, set())
        assert ledger.field_hashes(TARGET).num_rows == 0

    def test_rekey_moves_tags_and_forgets_hashes_of_the_old_key(self, ledger: Ledger) -> None:
        run = begin(ledger)
        ledger.acknowledge(run, TARGET, [created(ledger, ADA, "mw: a"), created(ledger, CAT, "mw: c")], AT)
        moved = Acknowledgement(ADA, "rekey", State.SYNCED, new_key=BOB)
        merged = Acknowledgement(BOB, "rekey", State.SYNCED, b"content2", 1, b"xxxxxyyyyy", new_key=CAT)
        ledger.acknowledge(run, TARGET, [moved], AT)
        assert rows(ledger)[BOB] == (State.SYNCED, b"", None, {"mw: a"})
        ledger.acknowledge(run, TARGET, [merged], AT)
        assert rows(ledger) == {CAT: (State.SYNCED, b"content2", 1, {"mw: a", "mw: c"})}

    def test_rekey_there_and_back_in_one_call(self, ledger: Ledger) -> None:
        run = begin(ledger)
        ledger.acknowledge(run, TARGET, [created(ledger, ADA, "mw: a")], AT)
        there, back = Acknowledgement(ADA, "rekey", new_key=BOB), Acknowledgement(BOB, "rekey", new_key=ADA)
        ledger.acknowledge(run, TARGET, [there, back], AT)
        assert set(rows(ledger)) == {ADA}

    def test_a_call_is_whole_or_nothing(self, ledger: Ledger) -> None:
        run = begin(ledger)
        nameless = Acknowledgement(BOB, None, State.SYNCED)  # type: ignore[arg-type]
        with pytest.raises(LedgerError):
            ledger.acknowledge(run, TARGET, [created(ledger, ADA), nameless], AT)
        assert rows(ledger) == {}

    def test_trouble_that_the_driver_alone_meets_is_told_as_any(self, ledger: Ledger, kept_in: Settings) -> None:
        begin(ledger)
        with ledger._writer.begin() as connection:
            connection.execute(text("alter table contacts rename to elsewhere"))
        for read in (lambda: ledger.rows(TARGET), lambda: ledger.states(TARGET, [ADA])):
            with pytest.raises(LedgerError, match="can't be read or written"):
                read()

    def test_ids_are_made_once(self, ledger: Ledger) -> None:
        first = ledger.tag_ids(TARGET, ["mw: b", "mw: a"])
        assert ledger.tag_ids(TARGET, ["mw: c", "mw: a"]) == {"mw: a": first["mw: a"], "mw: c": 3}
        assert ledger.layout_id(TARGET, ["A", "B"]) == ledger.layout_id(TARGET, ["A", "B"]) == 1
        assert ledger.layout_id(TARGET, ["B", "A"]) == 2


@given(st.sets(st.integers(0, 0xFFFF), max_size=30))
def test_tags_are_packed_ascending_and_come_back(ids: set[int]) -> None:
    packed = pack(ids)
    assert unpack(packed) == ids
    assert [packed[i : i + 2] for i in range(0, len(packed), 2)] == [i.to_bytes(2, "big") for i in sorted(ids)]


class TestRuns:
    def test_plan_moves_on_once_and_may_be_resumed(self, ledger: Ledger) -> None:
        assert ledger.standing(TARGET).is_new
        first = begin(ledger)
        again = begin(ledger)
        assert again > first
        standing = ledger.standing(TARGET)
        assert (standing.revision, standing.plan_hash, standing.release, standing.is_new) == (1, "plan-1", 1, False)
        with pytest.raises(PlanError, match="the ledger has moved"):
            begin(ledger, "plan-2")
        begin(ledger, "plan-2", base=1)
        with pytest.raises(PlanError, match="the ledger has moved"):
            begin(ledger)

    def test_run_that_never_ended_was_killed(self, ledger: Ledger) -> None:
        killed = begin(ledger)
        withdrawals = ledger.begin_without_plan(TARGET, "suppress", AT)
        begin(ledger, at=AT + timedelta(hours=1))
        found = {run["run_id"]: run["outcome"] for run in ledger.last_runs(target=TARGET)}
        assert (found[killed], found[withdrawals]) == ("killed", "running")

    def test_first_plan_is_silent_until_it_is_done(self, ledger: Ledger) -> None:
        assert ledger.standing(TARGET).silent == "first"
        run = begin(ledger)
        ledger.end(run, "interrupted", {}, AT)
        assert ledger.standing(TARGET).silent == "first"
        ledger.end(ledger.begin_without_plan(TARGET, "suppress", AT), "done", {}, AT)
        assert ledger.standing(TARGET).silent == "first", "withdrawals make nobody a member"
        ledger.end(begin(ledger), "done", {}, AT)
        assert ledger.standing(TARGET).silent is None

    def test_overrides_are_noted(self, ledger: Ledger) -> None:
        run = ledger.begin(TARGET, "plan-1", 0, 7, ["removed by ops", "gate by ops"], AT)
        (found,) = ledger.last_runs()
        assert (found["run_id"], json.loads(found["overrides"])) == (run, ["gate by ops", "removed by ops"])
        assert ledger.bases() == {7}

    def test_newest_requests_are_kept(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("activation.ledger.REQUESTS_KEPT", 5)
        run = begin(ledger)
        for number in range(4):
            made = [RequestMade(AT, "POST", "/lists/{list}", number, 200, 0.1) for _ in range(3)]
            ledger.note_requests(run, made)
        with ledger._reading() as connection:
            kept: list[int] = list(
                connection.execute(select(requests.c.rows).order_by(requests.c.request_id)).scalars()
            )
        assert kept == [2, 2, 3, 3, 3]


class TestDeadLetters:
    def letter(self, action: str = "create", tag: str = "", content: bytes = b"content1") -> DeadLetter:
        return DeadLetter(ADA, action, tag, content, "invalid", "Please provide a valid address")

    def test_newest_stands_until_the_row_is_acknowledged(self, ledger: Ledger) -> None:
        run = begin(ledger)
        ledger.bury(run, TARGET, [self.letter()], AT)
        ledger.bury(run, TARGET, [self.letter(content=b"content2")], AT)
        standing = {"action": "create", "key": ADA, "tag": "", "content_hash": b"content2"}
        assert ledger.dead_letters(TARGET).to_pylist() == [standing]
        assert ledger.rejected_in(TARGET, "plan-1").to_pylist() == [standing]
        assert ledger.rejected_in(TARGET, "plan-2").num_rows == 0
        ledger.acknowledge(run, TARGET, [created(ledger, BOB)], AT)
        assert ledger.dead_letters(TARGET).num_rows == 1
        ledger.acknowledge(run, TARGET, [created(ledger, ADA)], AT)
        assert ledger.dead_letters(TARGET).num_rows == 0
        assert len(ledger.newest_letters(TARGET)) == 2, "what was said stays on record"

    def test_each_tag_has_letters_of_its_own(self, ledger: Ledger) -> None:
        run = begin(ledger)
        ledger.bury(run, TARGET, [self.letter("tag_add", "mw: a"), self.letter("tag_add", "mw: b")], AT)
        ledger.acknowledge(run, TARGET, [created(ledger, ADA)], AT)
        ledger.acknowledge(run, TARGET, [Acknowledgement(ADA, "tag_add", add=["mw: b"])], AT)
        assert ledger.dead_letters(TARGET).column("tag").to_pylist() == ["mw: a"]
        assert ledger.counts(TARGET)["dead letters"] == 1

    def test_letter_of_an_earlier_process_is_settled(self, home: Home, kept_in: Settings) -> None:
        with Ledger(home, kept_in) as ledger:
            ledger.bury(begin(ledger), TARGET, [self.letter()], AT)
        with Ledger(home, kept_in) as ledger:
            ledger.acknowledge(begin(ledger), TARGET, [created(ledger, ADA)], AT)
            assert ledger.dead_letters(TARGET).num_rows == 0


class TestHistory:
    def test_run_and_its_rows_are_exported_and_pruned(self, home: Home, ledger: Ledger) -> None:
        run = begin(ledger)
        ledger.acknowledge(run, TARGET, [created(ledger, ADA)], AT)
        ledger.acknowledge(run, TARGET, [Acknowledgement(ADA, "tag_add", add=["mw: a"])], AT)
        ledger.bury(run, TARGET, [DeadLetter(BOB, "create", "", b"", "invalid", "words of the platform")], AT)
        ledger.withhold(run, TARGET, [Withheld(CAT, "update", "", "refused")], AT)
        ledger.end(run, "done", {"created": 1}, AT + timedelta(seconds=3))
        moment = AT.replace(tzinfo=None)
        assert pq.read_table(sync_history.rows_file(home, run)).to_pylist() == [
            {"run_id": run, "row_number": number, "key": key.hex(), "action": action, "tag": tag, "outcome": outcome,
             "code": code, "noted_at": moment}
            for number, (key, action, tag, outcome, code) in enumerate([
                (ADA, "create", "", "acknowledged", ""),
                (ADA, "tag_add", "mw: a", "acknowledged", ""),
                (BOB, "create", "", "rejected", "invalid"),
                (CAT, "update", "", "withheld", "refused"),
            ], 1)
        ]  # fmt: skip
        (said,) = pq.read_table(sync_history.run_file(home, run)).to_pylist()
        assert said == {
            "run_id": run, "target": TARGET, "kind": "apply", "plan_hash": "plan-1", "release": 1, "overrides": "[]",
            "started_at": moment, "ended_at": moment + timedelta(seconds=3), "outcome": "done",
            "counts": '{"created": 1}',
        }  # fmt: skip
        with ledger._engine.connect() as connection:
            assert connection.execute(text("select count(*) from outcomes")).scalar_one() == 0

    def test_run_that_was_killed_is_exported_with_the_next(self, home: Home, ledger: Ledger) -> None:
        killed = begin(ledger)
        ledger.acknowledge(killed, TARGET, [created(ledger, ADA)], AT)
        ledger.end(begin(ledger), "done", {}, AT)
        assert pq.read_table(sync_history.run_file(home, killed)).column("outcome").to_pylist() == ["killed"]
        assert pq.read_table(sync_history.rows_file(home, killed)).num_rows == 1

    def test_full_disk_of_the_home_costs_nothing(
        self, home: Home, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        run = begin(ledger)
        ledger.acknowledge(run, TARGET, [created(ledger, ADA)], AT)
        with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
            patched.setattr("activation.sync_history.write", full)
            ledger.end(run, "done", {}, AT)
        assert "No space left" in caplog.text
        assert not sync_history.run_file(home, run).exists()
        ledger.export()
        assert pq.read_table(sync_history.rows_file(home, run)).num_rows == 1


class TestReading:
    def members(self, *said: Member) -> Iterator[Member]:
        yield from said

    def test_baseline(self, ledger: Ledger) -> None:
        counted = ledger.import_members(
            TARGET,
            self.members(
                Member(ADA.hex(), "subscribed", frozenset({"mw: a"}), {"NAME": "Ada"}),
                Member(BOB.hex(), "unsubscribed"),
                Member(CAT.hex(), "bounced"),
                Member(DOT.hex(), "archived"),
            ),
            AT,
            ["CITY", "NAME"],
        )
        assert counted == {"found": 1, "left": 2, "known": 0, "forgotten": 0}
        assert rows(ledger) == {
            ADA: (State.FOUND, b"", 1, {"mw: a"}),
            BOB: (State.LEFT, b"", None, set()),
            CAT: (State.LEFT, b"", None, set()),
        }
        hashes = field_hash(ADA.hex(), "CITY", "") + field_hash(ADA.hex(), "NAME", "Ada")
        assert ledger.field_hashes(TARGET, [ADA]).column("field_hashes").to_pylist() == [hashes]
        standing = ledger.standing(TARGET)
        assert (standing.is_new, standing.silent, standing.revision) == (False, "first", 0)

    def test_interrupted_baseline_is_done_again(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        def torn() -> Iterator[Member]:
            yield Member(ADA.hex(), "subscribed")
            raise ConnectionError

        monkeypatch.setattr("activation.ledger_rows.AT_ONCE", 1)
        with pytest.raises(ConnectionError):
            ledger.import_members(TARGET, torn(), AT)
        assert rows(ledger).keys() == {ADA}
        assert ledger.standing(TARGET).is_new
        ledger.import_members(TARGET, self.members(Member(BOB.hex(), "subscribed")), AT)
        assert rows(ledger).keys() == {BOB}

    def test_reading_again_respects_who_left_and_forgets_who_is_gone(self, ledger: Ledger) -> None:
        run = begin(ledger)
        ledger.acknowledge(run, TARGET, [created(ledger, key, "mw: a") for key in (ADA, BOB, CAT, DOT)], AT)
        ledger.acknowledge(run, TARGET, [Acknowledgement(CAT, "unsubscribe", State.UNSUBSCRIBED)], AT)
        ledger.end(run, "done", {}, AT)
        ledger.import_members(
            TARGET,
            self.members(
                Member(ADA.hex(), "subscribed", frozenset({"mw: b"})),
                Member(BOB.hex(), "unsubscribed", frozenset({"mw: a"})),
                Member(CAT.hex(), "unsubscribed"),
            ),
            AT,
        )
        assert rows(ledger) == {
            ADA: (State.SYNCED, b"content1", 1, {"mw: b"}),
            BOB: (State.LEFT, b"content1", 1, {"mw: a"}),
            CAT: (State.UNSUBSCRIBED, b"content1", 1, set()),
        }
        assert ledger.standing(TARGET).silent == "reconciled"
        with pytest.raises(PlanError, match="the ledger has moved"):
            begin(ledger, "plan-2", base=1)

    def test_who_came_back_by_themselves_is_found(self, ledger: Ledger) -> None:
        ledger.import_members(TARGET, self.members(Member(ADA.hex(), "unsubscribed")), AT)
        ledger.import_members(TARGET, self.members(Member(ADA.hex(), "subscribed")), AT)
        assert rows(ledger)[ADA][0] == State.FOUND

    def test_forgetting_keeps_refusals_and_rows(self, ledger: Ledger) -> None:
        run = begin(ledger)
        ledger.acknowledge(run, TARGET, [created(ledger, ADA, "mw: a"), created(ledger, BOB)], AT)
        ledger.acknowledge(run, TARGET, [Acknowledgement(BOB, "unsubscribe", State.UNSUBSCRIBED)], AT)
        assert ledger.forget(TARGET, AT) == 1
        assert rows(ledger)[ADA] == (State.FOUND, b"", None, set())
        assert rows(ledger)[BOB][0] == State.UNSUBSCRIBED
        assert ledger.standing(TARGET).silent == "first"


class TestRestored:
    """A ledger that was restored from a backup is older than the home remembers."""

    @pytest.fixture
    def restored(self, home: Home) -> Iterator[Ledger]:
        settings = Settings(home=home.root)
        with Ledger(home, settings) as ledger:
            run = begin(ledger)
            ledger.acknowledge(run, TARGET, [created(ledger, ADA, "mw: a")], AT)
            ledger.end(run, "done", {}, AT)
        shutil.copy(home.ledger, home.root / "backup.db")
        with Ledger(home, settings) as ledger:
            run = begin(ledger, "plan-2", base=1)
            ledger.acknowledge(run, TARGET, [created(ledger, BOB)], AT)
            ledger.end(run, "done", {}, AT)
        for path in home.root.glob("ledger.db*"):
            path.unlink()
        shutil.copy(home.root / "backup.db", home.ledger)
        with Ledger(home, settings) as ledger:
            yield ledger

    def test_is_refused_for_plans_and_for_runs(self, restored: Ledger) -> None:
        with pytest.raises(PlanError, match="reconcile DEST --repair"):
            restored.standing(TARGET)
        with pytest.raises(PlanError, match="older than the home remembers"):
            begin(restored, "plan-3", base=1)
        assert restored.standing(TARGET, restored=True).revision == 1

    def test_reading_the_destination_mends_it(self, home: Home, restored: Ledger) -> None:
        restored.import_members(TARGET, iter([Member(BOB.hex(), "subscribed")]), AT)
        assert rows(restored).keys() == {BOB}
        assert restored.standing(TARGET).silent == "reconciled"
        begin(restored, "plan-3", base=2)
        assert generations.generation(home, TARGET) == restored.standing(TARGET).generation

    def test_sending_again_mends_it(self, restored: Ledger) -> None:
        restored.forget(TARGET, AT)
        assert restored.standing(TARGET).generation == 3

    def test_no_run_gets_an_id_of_the_history(self, home: Home, restored: Ledger) -> None:
        before = sorted(path.name for path in (sync_history.folder(home) / "runs").iterdir())
        restored.import_members(TARGET, iter([]), AT)
        after = sorted(path.name for path in (sync_history.folder(home) / "runs").iterdir())
        assert after[: len(before)] == before
        assert len(after) > len(before)

    def test_deleted_ledger_is_refused(self, home: Home, restored: Ledger) -> None:
        for path in home.root.glob("ledger.db*"):
            path.unlink()
        with Ledger(home, Settings(home=home.root)) as empty, pytest.raises(PlanError, match="older"):
            empty.standing(TARGET)

    def test_killed_between_ledger_and_home_is_no_restoring(self, home: Home, ledger: Ledger) -> None:
        begin(ledger)
        (home.state / "generations.json").unlink()
        assert ledger.standing(TARGET).generation == 1
        begin(ledger)


class TestLeases:
    def test_second_holder_is_told_who_is_at_work(self, home: Home, kept_in: Settings, ledger: Ledger) -> None:
        with ledger.lease(TARGET, "apply of plan-1"), Ledger(home, kept_in) as other:
            at_work = rf"apply of plan-1 is at work \(process {os.getpid()}\)"
            with pytest.raises(PlanError, match=at_work), other.lease(TARGET, "apply of plan-2"):
                pass
            with other.lease("braze/account", "another destination"):
                pass
        with Ledger(home, kept_in) as other, other.lease(TARGET, "apply of plan-2"):
            pass

    def test_dead_process_is_no_holder(self, home: Home, kept_in: Settings, ledger: Ledger) -> None:
        holder = multiprocessing.get_context("spawn").Process(target=_hold_for_good, args=(home.root, kept_in))
        holder.start()
        assert holder.pid is not None
        _wait_for(lambda: _is_held(ledger))
        with pytest.raises(PlanError, match=f"process {holder.pid}"), ledger.lease(TARGET, "me"):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.join()
        with ledger.lease(TARGET, "me"):
            pass

    def test_other_process_with_the_number_of_a_dead_one_is_no_holder(self) -> None:
        started = leases.process_started(os.getpid())
        assert started is not None
        assert leases.is_running(os.getpid(), started)
        assert not leases.is_running(os.getpid(), "1")
        done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
        assert not leases.is_running(int(done.stdout), started)

    def test_other_host_is_waited_for_until_the_lease_ends(
        self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = time.time()
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(leases, "host", lambda: "elsewhere/1/1")
            Lease(ledger._writer, TARGET, "their apply", lambda: now).take()
        with pytest.raises(PlanError, match="on elsewhere"):
            Lease(ledger._writer, TARGET, "mine", lambda: now + leases.SECONDS - 1).take()
        mine = Lease(ledger._writer, TARGET, "mine", lambda: now + leases.SECONDS + 1)
        mine.take()
        mine.give_back()

    def test_heartbeat_renews_it(self, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(leases, "_HEARTBEAT", 0.05)
        monkeypatch.setattr(leases, "SECONDS", 0.5)
        lease = Lease(ledger._writer, TARGET, "mine")
        lease.take()
        time.sleep(1.0)
        theirs = Lease(ledger._writer, TARGET, "theirs")
        monkeypatch.setattr(leases, "host", lambda: "elsewhere/1/1")
        with pytest.raises(PlanError, match="mine is at work"):
            theirs.take()
        lease.give_back()

    def test_whoever_lost_it_writes_nothing_more(self, home: Home, kept_in: Settings, ledger: Ledger) -> None:
        with ledger.lease(TARGET, "suspended"):
            run = begin(ledger)
            with ledger._writer.begin() as connection:
                connection.execute(text("update leases set expires_at = 0, host = 'elsewhere'"))
            said = [created(ledger, ADA)]
            with (
                Ledger(home, kept_in) as other,
                other.lease(TARGET, "taking over"),
                pytest.raises(PlanError, match="took over"),
            ):
                ledger.acknowledge(run, TARGET, said, AT)
        assert ledger.rows(TARGET).num_rows == 0

    def test_withdrawals_are_noted_while_an_apply_is_at_work(
        self, home: Home, kept_in: Settings, ledger: Ledger
    ) -> None:
        """Both change rows of one destination at once, and neither loses what the other wrote."""
        keys = [bytes([number]) * 16 for number in range(100)]
        run = begin(ledger)
        ledger.acknowledge(run, TARGET, [created(ledger, key) for key in keys], AT)
        failed: list[BaseException] = []

        def withdraw() -> None:
            try:
                with Ledger(home, kept_in) as other, other.lease(f"{TARGET} suppress", "suppress"):
                    withdrawing = other.begin_without_plan(TARGET, "suppress", AT)
                    for key in keys:
                        said = Acknowledgement(key, "unsubscribe", State.UNSUBSCRIBED)
                        other.acknowledge(withdrawing, TARGET, [said], AT)
            except BaseException as error:
                failed.append(error)

        with ledger.lease(TARGET, "apply"):
            thread = threading.Thread(target=withdraw)
            thread.start()
            for number in range(20):
                said = [Acknowledgement(key, "tag_add", State.SYNCED, add=[f"mw: {number}"]) for key in keys]
                ledger.acknowledge(run, TARGET, said, AT)
            thread.join()
        assert not failed
        tags = {f"mw: {number}" for number in range(20)}
        assert {(state, frozenset(names)) for state, _, _, names in rows(ledger).values()} == {
            (State.UNSUBSCRIBED, frozenset(tags))
        }


class TestDatabase:
    def test_full_disk_is_one_clear_error_and_nothing_is_lost(self, home: Home) -> None:
        with Ledger(home, Settings(home=home.root)) as ledger:
            run = begin(ledger)
            ledger.acknowledge(run, TARGET, [created(ledger, ADA)], AT)
            with ledger._engine.connect() as connection:
                pages: int = connection.execute(text("pragma page_count")).scalar_one()
            ledger._engine.dispose()
            _limit_pages(ledger, pages)
            many = [created(ledger, number.to_bytes(16, "big")) for number in range(5_000)]
            with pytest.raises(LedgerError, match="full"):
                ledger.acknowledge(run, TARGET, many, AT)
            assert rows(ledger).keys() == {ADA}

    def test_no_secret_in_errors(self, home: Home) -> None:
        settings = Settings(
            home=home.root,
            ledger_url=SecretStr("postgresql://someone:secret-word@127.0.0.1:9/nowhere?connect_timeout=2"),
        )
        with pytest.raises(SettingsError) as caught:
            Ledger(home, settings)
        assert "MAILWRIGHT_LEDGER_URL" in str(caught.value)
        assert "secret-word" not in repr(caught.value) + repr(settings)

    def test_file_is_for_its_owner_only(self, home: Home) -> None:
        with Ledger(home, Settings(home=home.root)) as ledger:
            begin(ledger)
            assert {path.stat().st_mode & 0o777 for path in home.root.glob("ledger.db*")} == {0o600}

    def test_opening_a_current_ledger_imports_no_migrations(self, home: Home) -> None:
        with Ledger(home, Settings(home=home.root)) as ledger:
            begin(ledger)
        script = (
            "import sys; from core.home import Home; from core.settings import Settings\n"
            "from pathlib import Path; from activation.ledger import Ledger\n"
            f"root = Path({str(home.root)!r})\n"
            f"with Ledger(Home.open(root), Settings(home=root)) as ledger: print(ledger.standing({TARGET!r}).revision)\n"
            "print('alembic' in sys.modules, 'pyarrow' in sys.modules)"
        )
        said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
        assert said.split() == ["1", "False", "False"]

    def test_wrong_address_names_the_variable(self) -> None:
        with pytest.raises(ValueError, match="postgresql://"):
            Settings(ledger_url=SecretStr("mysql://somewhere"))

    def test_file_that_is_no_ledger(self, home: Home) -> None:
        home.ledger.write_bytes(b"no database at all" * 100)
        with pytest.raises(LedgerError, match="restore it from a backup"):
            Ledger(home, Settings(home=home.root))


def _limit_pages(ledger: Ledger, pages: int) -> None:
    from sqlalchemy import event

    def limit(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"pragma max_page_count = {pages}")

    event.listen(ledger._engine, "connect", limit)


def _hold_for_good(root: Path, settings: Settings) -> None:
    with Ledger(Home.open(root), settings) as ledger, ledger.lease(TARGET, "apply of plan-1"):
        time.sleep(600)


def _is_held(ledger: Ledger) -> bool:
    with ledger._engine.connect() as connection:
        return bool(connection.execute(text("select count(*) from leases")).scalar_one())


def _wait_for(condition: object, seconds: float = 30.0) -> None:
    assert callable(condition)
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about in time"
        time.sleep(0.05)
