"""What a killed load leaves goes away, and nothing else does."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from core.errors import HomeError
from core.home import Home
from ingestion import manifest, storage
from ingestion.manifest import DeliveryRow


def row(sequence: int, **changes: Any) -> DeliveryRow:
    said: dict[str, Any] = {
        "delivery_id": storage.delivery_id(sequence, ["x"]),
        "sequence": sequence,
        "source": "shop",
        "table_name": "orders",
        "received_at": datetime(2012, 1, 2, 3, 4, 5, 678),
        "historical": True,
        "content_hash": "aa bb",
        "file_names": ("a.csv", "b.csv"),
        "rows_read": 10,
        "rows_accepted": 5,
        "rows_superseded": 3,
        "rows_rejected": 2,
        "rows_erased": 0,
        "notices": (),
    }
    return DeliveryRow(**(said | changes))


@pytest.fixture
def home(tmp_path):
    return Home.create(tmp_path / "home", "Europe/London", "GBP")


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    return path


def test_manifest_comes_back_as_written_in_order(home):
    rows = [row(2), row(1, notices=("said",), file_names=()), row(1, table_name="order_lines")]
    assert manifest.read(home) == []
    manifest.write(home, rows)
    assert manifest.read(home) == [rows[2], rows[1], rows[0]]
    assert manifest.next_sequence(rows) == 3
    assert rows[0].file_hashes == ("aa", "bb")


def test_damaged_manifest_is_an_error_that_names_it(home):
    put(home.deliveries)
    with pytest.raises(HomeError, match=r"deliveries\.parquet can't be read"):
        manifest.read(home)


def test_leftovers_of_the_coming_sequence_are_removed_and_the_rest_stays(home):
    known, coming = row(1), storage.delivery_id(2, ["y"])
    stays = [
        put(storage.accepted_file(home, "shop", "orders", known.delivery_id)),
        put(storage.raw_folder(home, "shop", "orders", known.delivery_id) / "a.csv"),
        put(home.raw("shop", "orders") / "staged" / "not-ours.csv"),
    ]
    goes = [
        put(storage.accepted_file(home, "shop", "order_lines", coming)),
        put(storage.quarantine_file(home, "shop", "orders", coming)),
        put(storage.raw_folder(home, "shop", "orders", coming) / "a.csv"),
        put(home.accepted("shop", "orders") / f".{coming}.parquet.123.tmp"),
        put(storage.spill_folder(home) / "raw" / "orders" / "a.csv"),
    ]
    storage.remove_leftovers(home, [known])
    assert [path.exists() for path in stays] == [True] * len(stays)
    assert [path.exists() for path in goes] == [False] * len(goes)


@pytest.mark.parametrize("sequence", [1, 5])
def test_lake_that_is_newer_than_its_manifest_is_not_touched(home, sequence):
    stranger = put(storage.accepted_file(home, "shop", "orders", storage.delivery_id(sequence, ["other"])))
    with pytest.raises(HomeError, match="restore the manifest"):
        storage.remove_leftovers(home, [row(1), row(2)])
    assert stranger.exists()


def test_files_of_one_name_get_a_number(tmp_path):
    files = [put(tmp_path / folder / "a.csv") for folder in ("x", "y", "z")]
    placed = storage.place(files, tmp_path / "raw", link=False)
    assert [path.name for path in placed] == ["a.csv", "2-a.csv", "3-a.csv"]
    assert all(not path.samefile(file) for path, file in zip(placed, files, strict=True))
