"""File drops on a real folder and on fsspec's memory: formats, names, expiry, suppression, erasure, cuts."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activation import destinations, drop_files
from activation.connector import Contact, Rekey, key_of
from activation.connectors.file_drop import CONNECTOR, PLATFORM, FileDrop, FolderAccount
from activation.drop_files import Folder
from activation.http import Api, TryAgainError
from core.errors import DestinationError, SettingsError
from core.home import Home
from core.settings import Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def contact(number: int, **said: Any) -> Contact:
    email = f"person{number}@example.com"
    return Contact(key_of("email", email, ""), email, **said)


def connect(url: str, clock: Clock | None = None) -> FileDrop:
    account = FolderAccount(url, "test", "file drop")
    return FileDrop(account, Api(PLATFORM, "", description="file drop"), clock or Clock())


@pytest.fixture(params=["folder", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "folder":
        yield str(tmp_path / "drops")
        return
    yield "memory://drops"
    fsspec.filesystem("memory").rm("/", recursive=True)


def rows(folder: Folder, name: str) -> list[dict[str, str]]:
    content = folder.read(f"{name}.csv")
    assert content is not None
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def changes(folder: Folder) -> list[dict[str, str]]:
    return [row for found in drop_files.manifests(folder, "changes") for row in rows(folder, found.name)]


def test_a_batch_is_one_drop_whose_manifest_describes_its_files(url: str) -> None:
    answer = connect(url).write(
        [contact(1, is_new=True, fields={"a": "Ada", "b": None}, add=("mw_x", "mw_y")), contact(2)]
    )
    folder = Folder(url)
    (manifest,) = drop_files.manifests(folder, "changes")
    assert answer.accepted == {contact(1).key, contact(2).key}
    assert (manifest.kind, manifest.rows, manifest.expires_at) == ("changes", 2, NOW + timedelta(hours=24))
    for file in manifest.files:
        content = folder.read(file.name)
        assert content is not None
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.bytes, file.sha256)
    found = {row["email"]: row for row in rows(folder, manifest.name)}["person1@example.com"]
    assert (found["action"], found["segments_added"]) == ("create", "mw_x|mw_y")
    assert json.loads(found["fields"]) == {"a": "Ada", "b": None}
    table = drop_files.read_table(folder, manifest.name)
    assert table.column_names == list(manifest.columns)
    assert ["mw_x", "mw_y"] in table["segments_added"].to_pylist()


def test_a_repeated_batch_replaces_itself_in_whatever_order(url: str) -> None:
    connect(url).write([contact(1), contact(2)])
    connect(url).write([contact(2), contact(1)])
    assert len(drop_files.manifests(Folder(url), "changes")) == 1


def test_expired_drops_go_when_the_next_sync_begins(url: str) -> None:
    clock = Clock()
    drop = connect(url, clock)
    drop.write([contact(1)])
    clock.now += timedelta(hours=23)
    drop.write([contact(2)])
    clock.now += timedelta(hours=2)
    drop.prepare([], [])
    assert [row["email"] for row in changes(Folder(url))] == ["person2@example.com"]
    assert len(Folder(url).names("changes")) == 3


def test_a_refusal_is_in_the_suppression_for_good(url: str) -> None:
    clock = Clock()
    drop = connect(url, clock)
    drop.unsubscribe([contact(1)])
    clock.now += timedelta(days=400)
    drop.prepare([], [])
    # Known by key alone now: the address that was there stays.
    connect(url, clock).unsubscribe([Contact(contact(1).key), contact(2)])
    manifest = drop_files.read_manifest(Folder(url), "suppression")
    assert manifest is not None
    assert (manifest.kind, manifest.expires_at, manifest.rows) == ("suppression", None, 2)
    said = {row["key"]: (row["email"], row["reason"]) for row in rows(Folder(url), "suppression")}
    assert said[contact(1).key] == ("person1@example.com", "unsubscribe")


def test_an_erasure_leaves_the_key_alone(url: str) -> None:
    drop = connect(url)
    drop.write([contact(1, fields={"a": "Ada"}), contact(2, fields={"a": "Ben"})])
    drop.write([contact(1, add=("mw_x",))])
    drop.rekey([Rekey(contact(1), contact(3))])
    drop.unsubscribe([contact(1)])
    drop.erase([Contact(contact(1).key)])
    drop.unsubscribe([contact(1)])
    folder = Folder(url)
    everything = b"".join(
        folder.read(name) or b"" for name in [*folder.names(), *folder.names("changes")] if "." in name[1:]
    )
    left = [row for row in changes(folder) if row["email"] == "person1@example.com"]
    assert [row["action"] for row in left] == ["unsubscribe"], "what came after the erasure, and nothing before it"
    assert b"Ada" not in everything
    assert b"Ben" in everything
    (said,) = rows(folder, "suppression")
    assert (said["key"], said["email"], said["reason"]) == (contact(1).key, "", "erase")


def test_a_rewritten_drop_keeps_its_place_and_expiry_and_its_hashes_fit(url: str) -> None:
    clock = Clock()
    drop = connect(url, clock)
    drop.write([contact(1), contact(2)])
    clock.now += timedelta(hours=5)
    drop.erase([contact(1)])
    folder = Folder(url)
    manifest = next(found for found in drop_files.manifests(folder, "changes") if "update" in found.name)
    assert (manifest.made_at, manifest.expires_at) == (NOW, NOW + timedelta(hours=24))
    assert [hashlib.sha256(folder.read(file.name) or b"").hexdigest() for file in manifest.files] == [
        file.sha256 for file in manifest.files
    ]


def test_refusals_from_many_threads_are_all_there(tmp_path: Path) -> None:
    drops = [connect(str(tmp_path)) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda drop=drop, n=n: [drop.unsubscribe([contact(100 * n + i)]) for i in range(5)])
        for n, drop in enumerate(drops)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows(Folder(str(tmp_path)), "suppression")) == 20


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_csv_comes_back_as_written_but_for_formulas(values: list[str]) -> None:
    values = [value.replace("\x00", "") for value in values]
    said = list(
        csv.reader(io.StringIO(drop_files.csv_bytes(pa.table({"a": values, "b": values})).decode(), newline=""))
    )
    shown = [f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value for value in values]
    assert said == [["a", "b"], *([value] * 2 for value in shown)]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_is_a_formula_and_parquet_is_exact(tmp_path: Path, start: str) -> None:
    value = f"{start}1+1"
    folder = Folder(str(tmp_path))
    drop_files.write_table(
        folder, "x", pa.table({"a": [value]}), kind="audience", made_at=NOW, expires_at=NOW + timedelta(days=1)
    )
    assert rows(folder, "x") == [{"a": "'" + value}]
    assert pq.read_table(tmp_path / "x.parquet")["a"].to_pylist() == [value]


def test_lines_end_as_in_rfc_4180() -> None:
    table = pa.table({"a": ['say "hi"', "two\nlines", None], "b": [True, None, False], "c": [1, 2, None]})
    assert drop_files.csv_bytes(table) == b'a,b,c\r\n"say ""hi""",true,1\r\n"two\nlines",,2\r\n,false,\r\n'


def test_nothing_stays_of_a_write_that_failed(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.put("x.csv", b"before")

    def half() -> None:
        with folder.writing("x.csv") as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert folder.read("x.csv") == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


def test_a_full_disk_stops_and_another_fault_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(number: int) -> None:
        def fsync(_: int) -> None:
            raise OSError(number, "no", "person1@example.com")

        monkeypatch.setattr("activation.drop_files.os.fsync", fsync)

    fails(errno.ENOSPC)
    with pytest.raises(DestinationError, match="No space left") as caught:
        connect(str(tmp_path)).write([contact(1)])
    assert not isinstance(caught.value, TryAgainError)
    assert "example.com" not in str(caught.value)
    fails(errno.EIO)
    with pytest.raises(TryAgainError):
        connect(str(tmp_path)).write([contact(1)])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_files_are_their_owners_only(tmp_path: Path) -> None:
    connect(str(tmp_path)).write([contact(1)])
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()} == {0o600}


def test_it_needs_no_setting_and_takes_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home.create(tmp_path / "home", "Europe/London", "GBP")
    account = CONNECTOR.credentials(home)
    assert account is not None
    assert account.base_url == str(home.root / "drops")
    monkeypatch.setenv("MAILWRIGHT_FILE_DROP_URL", "sftp://user:hunter2@files.example.com/in")
    with pytest.raises(SettingsError, match="MAILWRIGHT_FILE_DROP_URL: must hold no password") as caught:
        CONNECTOR.credentials(home)
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("MAILWRIGHT_FILE_DROP_URL", "nowhere://x")
    account = CONNECTOR.credentials(home)
    assert account is not None
    with pytest.raises(DestinationError, match="knows no such kind of URL"):
        CONNECTOR.connect(account).write([contact(1)])


def test_the_sandbox_of_a_file_drop_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home.create(tmp_path / "home", "Europe/London", "GBP")
    monkeypatch.setenv("MAILWRIGHT_FILE_DROP_URL", str(tmp_path / "real"))
    drop = destinations.open(Settings(home=home.root), home, "file_drop", sandbox=True)
    drop.write([contact(1)])
    assert len(changes(Folder(str(home.sandbox / "drops")))) == 1
    assert not (tmp_path / "real").exists()


def test_observed_without_anything_personal(tmp_path: Path) -> None:
    seen: list[tuple[Any, ...]] = []
    drop = connect(str(tmp_path))
    drop.observe(lambda *said: seen.append(said))
    drop.write([contact(1)])
    drop.unsubscribe([contact(1)])
    assert [(said[1], said[2]) for said in seen] == [("changes/{batch}", 1), ("suppression", 1), ("changes/{batch}", 1)]
