"""Samples and one's own data are never mixed, and neither is deleted by mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.errors import HomeError
from core.home import Home
from core.settings import Settings
from orchestration.loading import SAMPLE_MARKER, Sample, load_files, load_sample, now
from orchestration.progress import Reporter

ORDERS_ONLY = Sample("online-retail", {"orders_only": True})


def make_home(root: Path, *, sample: str | None, delivered: bool) -> Settings:
    home = Home.create(root, "Europe/London", "GBP")
    if sample is not None:
        (root / SAMPLE_MARKER).write_text(json.dumps({"name": sample, "loaded": [{"customers": 100}]}))
    if delivered:
        home.lake.mkdir()
        home.deliveries.touch()
    return Settings(home=root)


@pytest.mark.parametrize("sample", [None, "simulated"], ids=["own data", "another sample"])
def test_a_sample_is_not_loaded_into_other_data(tmp_path: Path, sample: str | None) -> None:
    settings = make_home(tmp_path / "home", sample=sample, delivered=True)
    with pytest.raises(HomeError, match="holds"):
        load_sample(settings, ORDERS_ONLY, reset=False, reporter=Reporter())


def test_a_sample_of_another_size_is_not_loaded_on_top(tmp_path: Path) -> None:
    settings = make_home(tmp_path / "home", sample="simulated", delivered=True)
    with pytest.raises(HomeError, match="another size"):
        load_sample(settings, Sample("simulated", {"customers": 200}), reset=False, reporter=Reporter())


def test_reset_does_not_delete_own_data(tmp_path: Path) -> None:
    settings = make_home(tmp_path / "home", sample=None, delivered=True)
    with pytest.raises(HomeError, match="by hand"):
        load_sample(settings, ORDERS_ONLY, reset=True, reporter=Reporter())
    assert (tmp_path / "home" / "lake" / "deliveries.parquet").exists()


def test_own_data_are_not_loaded_into_a_sample(tmp_path: Path) -> None:
    settings = make_home(tmp_path / "home", sample="simulated", delivered=True)
    with pytest.raises(HomeError, match="holds a sample"):
        load_files(
            settings,
            Home.open(settings.home),
            "shop",
            {},
            received_at=now(),
            historical=False,
            reporter=Reporter(),
        )


def test_own_data_are_mixed_with_a_sample_where_that_is_asked_for(tmp_path: Path) -> None:
    settings = make_home(tmp_path / "home", sample="simulated", delivered=False)
    home = Home.open(settings.home)
    (tmp_path / "consents.csv").write_text(
        "contact_point,channel,purpose,state,captured_at\nada@example.com,email,marketing,withdrawn,2026-01-01 10:00\n"
    )
    files = {"consents": [tmp_path / "consents.csv"]}
    report = load_files(
        settings, home, "crm", files, received_at=now(), historical=True, reporter=Reporter(), into_sample=True
    )
    assert [table.accepted for table in report.tables] == [1]


def test_a_damaged_marker_is_named(tmp_path: Path) -> None:
    settings = make_home(tmp_path / "home", sample="simulated", delivered=True)
    (tmp_path / "home" / SAMPLE_MARKER).write_text("{")
    with pytest.raises(HomeError, match=SAMPLE_MARKER):
        load_sample(settings, ORDERS_ONLY, reset=False, reporter=Reporter())
