"""The lists of parsed emails and phones: what goes in, and that a value is parsed once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import disposable_email_domains
import duckdb
import pytest

from core import lock
from core.errors import WarehouseBusyError
from ingestion import contact_points
from ingestion.contact_points import ParseReport, parse_new
from tests.integration.ingestion.conftest import Lake, make_lake

LATER = datetime(2012, 2, 1, tzinfo=UTC)


def deliver(lake: Lake, source: str, received_at: datetime = LATER, **tables: Sequence[dict[str, Any]]) -> None:
    files = {
        name: [lake.write(f"{name}-{received_at:%m%d%H%M}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))]
        for name, rows in tables.items()
    }
    report = lake.load(source, files, received_at=received_at)
    assert not report.errors


def parse(lake: Lake) -> ParseReport:
    return parse_new(lake.settings, lake.home)


def kept(lake: Lake, name: str, columns: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        file = lake.home.contact_points / f"{name}.parquet"
        return connection.execute(f"select {columns} from '{file}' order by all").fetchall()


def counts(report: ParseReport) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    emails, phones = report.emails, report.phones
    return (emails.parsed, emails.unusable, emails.known), (phones.parsed, phones.unusable, phones.known)


def noting(parse: Callable[..., Any], parsed: list[str]) -> Callable[..., Any]:
    """The same function, which notes what it is asked for."""

    def noted(given: str, *more: str) -> Any:
        parsed.append(given)
        return parse(given, *more)

    return noted


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a lake with contact points in every table that has some."""
    with pytest.MonkeyPatch.context() as patch:
        lake = make_lake(tmp_path_factory.mktemp("delivered"), patch)
        at = "2011-05-01T10:00:00"
        deliver(
            lake,
            "crm",
            contacts=[
                {
                    "contact_id": "k1",
                    "email": " Jane@Example.com",
                    "phone": "020 7946 0018",
                    "country": "United Kingdom",
                },
                {"contact_id": "k2", "email": "nobody", "phone": "020 7946 0018", "country": "gb"},
                {"contact_id": "k3", "email": " Jane@Example.com", "phone": "06 1234 5678", "country": "Italia"},
                {"contact_id": "k4", "email": " ", "phone": None, "country": None},
            ],
            consents=[
                {
                    "channel": "email",
                    "purpose": "marketing",
                    "state": "granted",
                    "captured_at": at,
                    "contact_point": "c@x.test",
                },
                {
                    "channel": "sms",
                    "purpose": "marketing",
                    "state": "granted",
                    "captured_at": at,
                    "contact_point": "06 8765 4321",
                    "contact_id": "k3",
                },
            ],
        )
        deliver(
            lake,
            "shop",
            orders=[
                {
                    "order_id": "1",
                    "ordered_at": at,
                    "email": "o@example.com",
                    "phone": "+32 2 555 12 12",
                    "country": "?",
                }
            ],
            order_lines=[{"order_id": "1", "product_id": "a", "quantity": 1, "unit_price": 1}],
        )
        deliver(
            lake,
            "web",
            events=[{"event_id": "e", "event_type": "identify", "occurred_at": at, "email": "w@example.com"}],
        )
        deliver(
            lake,
            "email",
            sends=[{"send_id": "s", "campaign_id": "c", "email": "s@example.com", "sent_at": at}],
            events=[{"event_id": "x", "event_type": "delivered", "email": "e@trash.test", "occurred_at": at}],
        )
        deliver(
            lake,
            "pos",
            sales=[
                {
                    "sale_id": "1",
                    "sold_at": at,
                    "product_id": "a",
                    "quantity": 1,
                    "unit_price": 1,
                    "email": "p@sub.trash.test",
                }
            ],
        )
        deliver(
            lake,
            "third_party",
            demographics=[
                {"contact_point_type": "email", "contact_point": "d@example.com"},
                {"contact_point_type": "phone", "contact_point": "+442079460018"},
            ],
        )
    return lake.home.root


@pytest.fixture
def filled(delivered: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A copy of it, and a short list of throw-away domains."""
    monkeypatch.setattr(disposable_email_domains, "blocklist", {"trash.test"})
    shutil.rmtree(lake.home.root)
    shutil.copytree(delivered, lake.home.root)
    return lake


def test_every_column_that_the_contract_marks_is_read(filled: Lake):
    report = parse(filled)
    assert kept(filled, "emails", "given, email, problem, is_disposable") == [
        ("Jane@Example.com", "jane@example.com", None, False),
        ("c@x.test", "c@x.test", None, False),
        ("d@example.com", "d@example.com", None, False),
        ("e@trash.test", "e@trash.test", None, True),
        ("nobody", None, "no_at_sign", False),
        ("o@example.com", "o@example.com", None, False),
        ("p@sub.trash.test", "p@sub.trash.test", None, True),
        ("s@example.com", "s@example.com", None, False),
        ("w@example.com", "w@example.com", None, False),
    ]
    assert kept(filled, "phones", "given, country_code, phone, is_valid, problem") == [
        ("+32 2 555 12 12", "", "+3225551212", True, None),
        ("+442079460018", "", "+442079460018", True, None),
        ("020 7946 0018", "GB", "+442079460018", True, None),
        ("06 1234 5678", "IT", "+390612345678", True, None),
        ("06 8765 4321", "", None, False, "no_country"),
        ("06 8765 4321", "IT", "+390687654321", True, None),
    ]
    assert counts(report) == ((9, 1, 9), (6, 1, 6))
    assert report.describe() == "9 new emails, 1 unusable; 6 new phones, 1 unusable"


def test_a_value_is_parsed_once(filled: Lake, monkeypatch: pytest.MonkeyPatch):
    parse(filled)
    before = {name: (filled.home.contact_points / name).stat() for name in ("emails.parquet", "phones.parquet")}
    parsed: list[str] = []
    for name in ("parse_email", "parse_phone"):
        monkeypatch.setattr(contact_points, name, noting(getattr(contact_points, name), parsed))

    assert counts(parse(filled)) == ((0, 0, 9), (0, 0, 6))
    after = {name: (filled.home.contact_points / name).stat() for name in before}
    assert not parsed
    assert {name: stat.st_ino for name, stat in after.items()} == {name: stat.st_ino for name, stat in before.items()}

    deliver(
        filled,
        "crm",
        datetime(2012, 3, 1, tzinfo=UTC),
        contacts=[
            {"contact_id": "k1", "email": "Jane@Example.com", "phone": "020 7946 0018", "country": "GB"},
            {"contact_id": "k9", "email": "new@example.com", "phone": "020 7946 0018", "country": "DE"},
        ],
    )
    assert counts(parse(filled)) == ((1, 0, 10), (1, 0, 7))
    assert sorted(parsed) == ["020 7946 0018", "new@example.com"]


def test_an_empty_lake_has_no_lists(lake):
    assert counts(parse(lake)) == ((0, 0, 0), (0, 0, 0))
    assert not list(lake.home.contact_points.glob("*.parquet"))


def test_a_run_killed_between_the_lists_goes_on_where_it_was(filled: Lake, monkeypatch: pytest.MonkeyPatch):
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(contact_points, "parse_phone", killed)
        with pytest.raises(KeyboardInterrupt):
            parse(filled)
    assert [path.name for path in filled.home.contact_points.iterdir() if path.suffix != ".lock"] == ["emails.parquet"]
    assert counts(parse(filled)) == ((0, 0, 9), (6, 1, 6))


def test_a_run_killed_while_it_writes_leaves_the_old_list(filled: Lake, monkeypatch: pytest.MonkeyPatch):
    parse(filled)
    before = kept(filled, "emails", "*")
    deliver(
        filled, "crm", datetime(2012, 3, 1, tzinfo=UTC), contacts=[{"contact_id": "k9", "email": "new@example.com"}]
    )

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            parse(filled)
    assert kept(filled, "emails", "*") == before
    assert {path.name for path in filled.home.contact_points.iterdir()} == {
        "emails.lock",
        "emails.parquet",
        "phones.parquet",
    }
    assert counts(parse(filled)) == ((1, 0, 10), (0, 0, 6))


@pytest.mark.parametrize("damage", [b"", b"PAR1 no more"], ids=["empty", "truncated"])
def test_a_damaged_list_is_made_anew(filled: Lake, damage: bytes):
    parse(filled)
    whole = kept(filled, "emails", "*")
    (filled.home.contact_points / "emails.parquet").write_bytes(damage)
    assert counts(parse(filled)) == ((9, 1, 9), (0, 0, 6))
    assert kept(filled, "emails", "*") == whole


def test_a_new_major_version_parses_everything_anew(filled: Lake, monkeypatch: pytest.MonkeyPatch):
    versions = {"phonenumbers": "9.0.1", "email-validator": "2.4.0", "disposable-email-domains": "0.0.1"}
    monkeypatch.setattr(contact_points, "_version", versions.__getitem__)
    parse(filled)
    versions["phonenumbers"] = "9.9.9"
    assert counts(parse(filled)) == ((0, 0, 9), (0, 0, 6))
    versions["phonenumbers"] = "10.0.0"
    assert counts(parse(filled)) == ((0, 0, 9), (6, 1, 6))
    assert {parsed_with for (parsed_with,) in kept(filled, "phones", "parsed_with")} == {"phonenumbers 10, rules 1"}
    monkeypatch.setattr(contact_points, "RULES", contact_points.RULES + 1)
    assert counts(parse(filled)) == ((9, 1, 9), (6, 1, 6))


def test_a_new_list_of_throw_away_domains_flags_anew_without_parsing(filled: Lake, monkeypatch: pytest.MonkeyPatch):
    versions = {"phonenumbers": "9", "email-validator": "2", "disposable-email-domains": "0.0.1"}
    monkeypatch.setattr(contact_points, "_version", versions.__getitem__)
    parse(filled)
    monkeypatch.setattr(disposable_email_domains, "blocklist", {"x.test"})
    assert counts(parse(filled)) == ((0, 0, 9), (0, 0, 6))
    assert kept(filled, "emails", "given")[1] == ("c@x.test",)
    flagged = [given for given, is_disposable in kept(filled, "emails", "given, is_disposable") if is_disposable]
    assert flagged == ["e@trash.test", "p@sub.trash.test"]

    versions["disposable-email-domains"] = "0.0.2"
    assert counts(parse(filled)) == ((0, 0, 9), (0, 0, 6))
    flagged = [given for given, is_disposable in kept(filled, "emails", "given, is_disposable") if is_disposable]
    assert flagged == ["c@x.test"]


def test_many_values_are_parsed_by_several_processes_to_the_same_end(filled: Lake, monkeypatch: pytest.MonkeyPatch):
    parse(filled)
    alone = [kept(filled, name, "*") for name in ("emails", "phones")]
    for name in ("emails", "phones"):
        (filled.home.contact_points / f"{name}.parquet").unlink()
    monkeypatch.setattr(contact_points, "POOL_FROM", 1)
    monkeypatch.setattr(contact_points, "CHUNK", 2)
    monkeypatch.setattr(contact_points, "parse_email", None)  # not in this process
    assert counts(parse(filled)) == ((9, 1, 9), (6, 1, 6))
    assert [kept(filled, name, "*") for name in ("emails", "phones")] == alone


def test_nothing_that_is_said_names_a_value(filled: Lake, capsys: pytest.CaptureFixture[str], caplog):
    said: list[str] = []
    parse_new(filled.settings, filled.home, progress=said.append)
    assert said == ["parsing 9 new emails", "parsing 6 new phones"]
    assert capsys.readouterr() == ("", "")
    assert not caplog.records


def test_one_run_at_a_time(filled: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """In another process; within one, the lock is entered again."""
    monkeypatch.setattr(contact_points, "LOCK_WAIT_SECONDS", 0.0)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with lock.held(filled.home.contact_points / "emails"):
            os.write(writer, b".")
            signal_end = tmp_path / "end"
            while not signal_end.exists():
                pass
        os._exit(0)
    os.read(reader, 1)
    with pytest.raises(WarehouseBusyError, match="the contact points"):
        parse(filled)
    (tmp_path / "end").touch()
    os.waitpid(child, 0)
    assert counts(parse(filled)) == ((9, 1, 9), (6, 1, 6))
