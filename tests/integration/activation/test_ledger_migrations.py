"""Ledgers of earlier versions are brought to this one with what they know; the migrations make the tables of today."""

from __future__ import annotations

import json
import multiprocessing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, create_engine, select, text

from activation import ledger_database, migrations
from activation.ledger import Ledger, State
from activation.ledger_records import unpack
from activation.ledger_tables import VERSION, metadata, requests
from core.errors import LedgerError
from core.home import Home
from core.settings import Settings

TARGET = "mailchimp/sandbox/ab12"
ADA, BOB, CAT = ("01" * 16, "02" * 16, "03" * 16)
HASHES = {"FNAME": "d34288b37c2b4ff3", "CITY": "a0457660d22103ce"}


@pytest.fixture
def settings(request: pytest.FixtureRequest, home: Home) -> Settings:
    """Of a ledger in SQLite; in PostgreSQL where the test is for it."""
    wants = getattr(request, "param", "sqlite")
    url: SecretStr | None = request.getfixturevalue("database") if wants == "postgresql" else None
    return Settings(home=home.root, ledger_url=url)


both = pytest.mark.parametrize("settings", ["sqlite", "postgresql"], indirect=True)


def engine_of(home: Home, settings: Settings) -> Engine:
    if settings.ledger_url is None:
        return ledger_database._sqlite(home)
    return ledger_database._postgresql(settings.ledger_url.get_secret_value())


def write_first_layout(home: Home, settings: Settings) -> None:
    """A ledger as the first version wrote it: its tables, and nothing of a version."""
    engine = engine_of(home, settings)
    with ledger_database.writing(engine).begin() as connection:
        migrations.upgrade(connection, None, "0001")
        connection.execute(text("drop table alembic_version"))
        fill(connection)
    engine.dispose()


def fill(connection: Connection) -> None:
    def add(table: str, **values: Any) -> None:
        marks = ", ".join(f":{name}" for name in values)
        connection.execute(text(f"insert into {table} ({', '.join(values)}) values ({marks})"), values)

    at = "2026-03-01 12:00:00.000000"
    add("positions", target=TARGET, revision=3, plan_hash="abc")
    for key, state in ((ADA, "synced"), (BOB, "unsubscribed")):
        add("contacts", target=TARGET, key=key, state=state, content_hash="ff" * 16, field_hashes=json.dumps(HASHES))
    for tag, key in (("mw: b", ADA), ("mw: a", ADA), ("mw: b", CAT)):
        add("tags", target=TARGET, tag=tag, key=key)
    run = {"target": TARGET, "plan_hash": "abc", "release": 7, "started_at": at, "outcome": "done"}
    add("runs", run_id=1, ended_at=at, counts="{}", **run)
    add("requests", run_id=1, sent_at=at, method="POST", route="/lists/{list}", rows=2, status=200, seconds=0.5)
    letter = {"run_id": 1, "target": TARGET, "key": CAT, "action": "create", "tag": "", "code": "bad", "at": at}
    for words in ("first words", "newest words"):
        add("dead_letters", content_hash="ee" * 16, words=words, **letter)


@both
def test_what_a_ledger_of_the_first_version_knows_is_kept(home: Home, settings: Settings) -> None:
    write_first_layout(home, settings)
    with Ledger(home, settings) as ledger:
        standing = ledger.standing(TARGET)
        assert (standing.revision, standing.plan_hash, standing.release) == (3, "abc", 7)
        assert (standing.is_new, standing.silent, standing.generation) == (False, None, 3)
        names = ledger.tags(TARGET)
        assert [
            (row["key"].hex(), State(row["state"]), row["content_hash"], row["layout"],
             {names[number] for number in unpack(row["tags"])})
            for row in ledger.rows(TARGET).to_pylist()
        ] == [
            (ADA, State.SYNCED, b"", 1, {"mw: a", "mw: b"}),
            (BOB, State.UNSUBSCRIBED, b"", 1, set()),
            (CAT, State.SYNCED, b"", None, {"mw: b"}),
        ]  # fmt: skip
        assert ledger.layouts(TARGET) == {1: ["CITY", "FNAME"]}
        packed = bytes.fromhex(HASHES["CITY"][:10] + HASHES["FNAME"][:10])
        assert ledger.field_hashes(TARGET).column("field_hashes").to_pylist() == [packed, packed]
        assert ledger.dead_letters(TARGET).column("key").to_pylist() == [bytes.fromhex(CAT)]
        assert [letter["words"] for letter in ledger.newest_letters(TARGET)] == ["newest words", "first words"]
        (run,) = ledger.last_runs()
        assert (run["outcome"], run["started_at"]) == ("done", datetime(2026, 3, 1, 12))
        with ledger._reading() as connection:
            assert list(connection.execute(select(requests.c.rows)).scalars()) == [2]
        again = ledger.begin(TARGET, "next", 3, 8, [], datetime(2026, 3, 2, tzinfo=UTC))
        assert again == 2


@both
@pytest.mark.parametrize("start", ["nothing", "first layout"])
def test_migrations_make_the_tables_of_today(home: Home, settings: Settings, start: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    if start == "first layout":
        write_first_layout(home, settings)
    with Ledger(home, settings):
        pass
    engine = engine_of(home, settings)
    with engine.connect() as connection:
        assert connection.execute(text("select version_num from alembic_version")).scalars().all() == [VERSION]
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


@both
def test_ledger_of_a_newer_version_is_refused(home: Home, settings: Settings) -> None:
    with Ledger(home, settings) as ledger, ledger._writer.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '9999'"))
    with pytest.raises(LedgerError, match="another version"):
        Ledger(home, settings)


def test_migration_that_fails_changes_nothing(home: Home, settings: Settings) -> None:
    write_first_layout(home, settings)
    engine = create_engine(f"sqlite:///{home.ledger}")
    with engine.begin() as connection:
        connection.execute(text("update contacts set state = 'never heard of' where key = :key"), {"key": BOB})
    with pytest.raises(KeyError):
        Ledger(home, settings)
    with engine.begin() as connection:
        connection.execute(text("update contacts set state = 'synced' where key = :key"), {"key": BOB})
    engine.dispose()
    with Ledger(home, settings) as ledger:
        assert ledger.rows(TARGET).num_rows == 3


@both
def test_processes_that_open_it_at_once_migrate_it_once(home: Home, settings: Settings) -> None:
    write_first_layout(home, settings)
    processes = [
        multiprocessing.get_context("spawn").Process(target=_open, args=(home.root, settings)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    with Ledger(home, settings) as ledger:
        assert ledger.rows(TARGET).num_rows == 3


def _open(root: Path, settings: Settings) -> None:
    with Ledger(Home.open(root), settings) as ledger:
        assert ledger.standing(TARGET).revision == 3
