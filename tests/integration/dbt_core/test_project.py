"""The whole project by itself: on a home without data, on one without a home, and its own unit tests."""

from __future__ import annotations

import re
from pathlib import Path

from core.home import Home
from tests.integration.dbt_core.shop import Shop


def test_an_empty_home_builds_empty_typed_tables_and_unit_tests_pass(tmp_path: Path) -> None:
    shop = Shop(Home.create(tmp_path / "home", "Europe/London", "GBP"), tmp_path)
    ran = shop.try_dbt("--warn-error", "build")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "has no clock yet" in ran.stdout
    assert re.search(r"WARN=0 ERROR=0 SKIP=0", ran.stdout)
    assert shop.query("select count(*) from marts.fct_orders") == [(0,)]
    assert shop.query("select as_of, timezone, currency from lake.clock") == [(None, "Europe/London", "GBP")]


def test_a_folder_that_is_no_home_is_left_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "nowhere", "UTC", "GBP")
    ran = Shop(home, tmp_path).try_dbt("run", "--select", "dim_as_ofs")
    assert ran.returncode != 0
    assert "there is no home at" in ran.stdout
    assert not home.warehouse.exists()
