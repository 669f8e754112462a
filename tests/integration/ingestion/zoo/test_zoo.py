"""Every animal of the zoo ends as it must, alone and all of them in one home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from core.clock import write_clock
from core.contract import load_contract
from core.settings import PROJECT_ROOT
from ingestion import accounting, manifest, quarantine, replaying, storage
from tests.integration.ingestion.conftest import RECEIVED_AT, Lake, make_lake
from tests.integration.ingestion.zoo.animals import ANIMALS, CANARY, Animal

# What is handed over beside an animal, and must be taken in whatever the animal does.
COMPANIONS = {
    "shop": ("exchange_rates", "rate_on,from_currency,to_currency,rate\n2011-12-01,EUR,GBP,0.85\n"),
    "crm": ("consents", "channel,purpose,state,captured_at\nemail,marketing,granted,2011-12-01\n"),
    "web": (None, ""),
    "pos": (None, ""),
    "third_party": (None, ""),
}


def hand_over(lake: Lake, animal: Animal, said: list[str], *, check: bool = True):
    """Deliver an animal with its companion; the reports of both."""
    source, _, table = animal.table.partition(".")
    companion, content = COMPANIONS[source]
    files = {table: [animal.put(lake.inbox)]}
    if companion:
        files[companion] = [lake.write(f"companion-{len(manifest.read(lake.home))}.csv", content + "\n" * len(said))]
    reports = lake.load(source, files, check=check, progress=said.append).tables
    return reports[0], reports[1] if companion else None


@pytest.mark.parametrize("animal", ANIMALS, ids=lambda animal: animal.name)
def test_animal(lake, animal: Animal):
    said: list[str] = []
    source, _, table = animal.table.partition(".")

    report, companion = hand_over(lake, animal, said)

    if companion is not None:
        assert (companion.error, companion.accepted) == (None, 1), "the other tables of the hand-over go on"
    if animal.error:
        assert report.error is not None
        assert [words for words in animal.error if words not in report.error] == [], report.error
        assert lake.counts(source, table) == []
        assert not list(lake.home.raw(source, table).glob("*"))
    else:
        assert report.error is None
        told = (report.rows_read, report.accepted, report.superseded, report.rejected)
        expected = animal.accepted + animal.superseded + animal.rejected
        assert told == (expected, animal.accepted, animal.superseded, animal.rejected), report.notices
        reasons = [reason for (reason,) in lake.quarantined(source, table, "reason")]
        assert len(reasons) == len(animal.reasons)
        assert [reason for words, reason in zip(animal.reasons, reasons, strict=True) if words not in reason] == []
        for words in animal.notices:
            assert words in "\n".join(report.notices)
        if animal.keeps:
            query, rows = animal.keeps
            assert lake.query(source, table, query) == rows
        messages = [*reasons, *report.notices]
        assert CANARY not in "\n".join(messages)
    assert CANARY not in "\n".join([*said, report.describe(), *report.notices])


def test_names_of_animals_are_unique_and_their_tables_known():
    assert len({animal.name for animal in ANIMALS}) == len(ANIMALS) >= 50
    assert {animal.table for animal in ANIMALS} <= {table.full_name for table in load_contract().tables.values()}


def growing(path: Path) -> None:
    with open(path, "a") as file:
        file.write("O2,P1,1,2")


def shrinking(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


@pytest.mark.parametrize(
    ("meanwhile", "said"),
    [
        (growing, "live.csv changed while it was read (69 bytes, then 78)"),
        (shrinking, "live.csv changed while it was read (69 bytes, then 64)"),
        (Path.unlink, "live.csv was taken away while it was read"),
    ],
    ids=["grows", "shrinks", "vanishes"],
)
@pytest.mark.parametrize("move", [False, True], ids=["copied", "linked"])
def test_file_that_changes_while_it_is_read_is_refused(lake, monkeypatch, meanwhile, said, move):
    name = "_linked" if move else "shutil.copy2"
    original = storage._linked if move else shutil.copy2

    def slow(source, target):
        done = original(source, target)
        if Path(source).name == "live.csv":
            meanwhile(Path(source))
        return done

    monkeypatch.setattr(f"ingestion.storage.{name}", slow)
    live = lake.write("live.csv", "order_id,product_id,quantity,unit_price,description\n" + "O1,P1,1,2.50,half")
    rates = lake.write("rates.csv", COMPANIONS["shop"][1])

    lines, companion = lake.load("shop", {"order_lines": [live], "exchange_rates": [rates]}, move=move).tables

    assert lines.error is not None
    assert said in lines.error
    assert (companion.error, companion.accepted) == (None, 1)
    assert lake.counts("shop", "order_lines") == []


def test_file_that_may_not_be_read_is_refused(lake, monkeypatch):
    path = lake.write("secret.csv", "order_id,ordered_at\nO1,2011-12-01\n")
    if os.geteuid() == 0:

        def refuse(source, target):  # root may read everything, so the refusal is played
            raise PermissionError(13, "Permission denied", str(source))

        monkeypatch.setattr("ingestion.storage.shutil.copy2", refuse)
    else:
        path.chmod(0)
    report = lake.load_one("shop", "orders", path)
    assert report.error is not None
    assert "secret.csv can't be copied into the lake (Permission denied)" in report.error


def test_same_file_twice_in_one_hand_over_counts_once(lake):
    path = lake.write("lines.csv", "order_id,product_id,quantity,unit_price\nO1,P1,1,2\n")
    copy = lake.write("copy/lines.csv", path.read_bytes())
    report = lake.load_one("shop", "order_lines", path, path, copy)
    assert (report.rows_read, report.accepted) == (1, 1)
    assert report.notices == ("lines.csv is the same as lines.csv and was skipped",) * 2


def test_files_of_one_name_in_one_hand_over_both_count(lake):
    first = lake.write("monday/[*].csv", "order_id,product_id,quantity,unit_price\nO1,P1,1,2\n")
    second = lake.write("tuesday/[*].csv", "order_id,product_id,quantity,unit_price\nO2,P1,x,2\n")
    report = lake.load_one("shop", "order_lines", first, second)
    assert (report.rows_read, report.accepted, report.rejected) == (2, 1, 1)
    assert lake.quarantined("shop", "order_lines", "file_name, row_number, file_row") == [("2-[*].csv", 2, 1)]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory):
    """One home that received every animal, with what was said."""
    folder = tmp_path_factory.mktemp("zoo")
    with pytest.MonkeyPatch.context() as monkeypatch:
        lake = make_lake(folder, monkeypatch)
        said: list[str] = []
        reports = [hand_over(lake, animal, said, check=False)[0] for animal in ANIMALS]
        yield lake, reports, said


@pytest.mark.slow
def test_all_animals_in_one_home_leave_every_row_accounted_for(zoo):
    lake, reports, said = zoo
    assert accounting.check(lake.home) == []
    wrong = [
        animal.name for animal, report in zip(ANIMALS, reports, strict=True) if bool(animal.error) != bool(report.error)
    ]
    assert wrong == []
    rows = [row for row in manifest.read(lake.home) if row.rows_rejected]
    groups = quarantine.listing(lake.settings, lake.home)
    assert sum(group.open for group in groups) == sum(row.rows_rejected for row in rows) > 50
    assert CANARY not in "\n".join(
        [*said, *map(repr, reports), *map(repr, groups), *map(repr, manifest.read(lake.home))]
    )


@pytest.mark.slow
def test_every_table_of_the_zoo_can_be_exported_and_replayed_without_a_crash(zoo, tmp_path):
    lake, _, _ = zoo
    for source, table in sorted(
        {(group.source, group.table) for group in quarantine.listing(lake.settings, lake.home)}
    ):
        out = tmp_path / f"{source}-{table}.csv"
        written = quarantine.export(lake.settings, lake.home, source, table, out)
        for file in (None, out):
            report = replaying.replay(lake.settings, lake.home, source, table, file=file, received_at=RECEIVED_AT)
            assert accounting.check(lake.home) == []
            assert report.tried == written
            settled = report.replayed + report.superseded + report.settled_before
            assert report.still_rejected.total() + settled == written


@pytest.mark.slow
def test_dbt_stages_what_the_zoo_left(zoo, tmp_path):
    lake, _, _ = zoo
    write_clock(lake.home, RECEIVED_AT)
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("dbt")),
            *("build", "--select", "+path:models/staging", "--indirect-selection", "cautious"),
            *("--exclude-resource-type", "unit_test"),
            *("--target-path", str(tmp_path / "target"), "--log-path", str(tmp_path / "logs")),
        ],
        cwd=PROJECT_ROOT / "dbt_project",
        env={**os.environ, "MAILWRIGHT_HOME": str(lake.home.root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ERROR=0" in done.stdout, done.stdout[-3000:]
    with duckdb.connect(str(lake.home.warehouse), read_only=True) as connection:
        views = connection.execute(
            "select table_name from information_schema.tables where table_schema = 'staging' order by 1"
        ).fetchall()
        # A view is computed when it is read, and whole only if every column is.
        rows = {
            view: connection.execute(f"select count(hash(t)) from staging.{view} as t").fetchone() for (view,) in views
        }
    assert rows["stg_crm__contacts"] is not None
    assert rows["stg_crm__contacts"][0] > 3
