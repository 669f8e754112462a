"""The face of the quarantine: what is printed, and that no contents are."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from core.errors import ContractError, DeliveryError
from core.home import Home
from core.settings import load_settings
from ingestion import loader
from orchestration.commands.quarantine import app


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`mailwright quarantine` on a home with two rejected orders; returns what it printed."""
    monkeypatch.setenv("MAILWRIGHT_HOME", str(tmp_path / "home"))
    home = Home.create(tmp_path / "home", "Europe/London", "GBP")
    orders = tmp_path / "orders.csv"
    orders.write_text("order_id,ordered_at,email\nO1,2011-12-01,\nO2,31/02/2011,xanthippe@example.com\nO3,,\n")
    loader.load(
        load_settings(),
        home,
        "shop",
        {"orders": [orders]},
        received_at=datetime(2012, 1, 1, tzinfo=UTC),
        historical=True,
    )

    def invoke(*arguments: str | Path) -> str:
        result = CliRunner().invoke(app, [str(said) for said in arguments], terminal_width=140)
        if result.exception is not None:
            raise result.exception
        assert "xanthippe" not in result.output
        return result.output

    return invoke


def test_list_shows_table_delivery_reason_and_rows(run):
    said = run("list")
    assert "shop.orders" in said
    assert "ordered_at has no value" in said
    assert "ordered_at is not a time that exists" in said
    assert "2 rows wait" in said
    assert run("list", "shop.orders", "--delivery", "000009-00000000") == "No row was rejected.\n"
    assert run("list", "crm") == "No row was rejected.\n"


def test_rows_go_out_are_repaired_and_come_back_once(run, tmp_path):
    out = tmp_path / "rows.csv"
    assert "2 rows of shop.orders written to" in run("list", "shop.orders", "--out", out)
    out.write_text(out.read_text(encoding="utf-8-sig").replace("31/02/2011", "28/02/2011"))

    said = run("replay", "shop.orders", out)

    assert "2 rows tried: 1 replayed, 1 still rejected" in said
    assert "1 x ordered_at has no value" in said
    assert "Delivery 000002-" in said
    assert "2 rows tried: 1 settled before, 1 still rejected" in run("replay", "shop.orders", out)
    assert "1 rows wait" in run("list")
    assert "replayed" in run("list", "--all")


def test_discarded_rows_wait_no_more(run):
    assert run("discard", "shop.orders") == "shop.orders: 2 rows discarded\n"
    assert run("list") == "No rejected rows wait here.\n"
    assert "nothing to do" in run("replay", "shop.orders")


def test_what_is_no_table_is_an_error_that_says_which_there_are(run, tmp_path):
    with pytest.raises(ContractError, match=r"no table shop\.lines"):
        run("replay", "shop.lines")
    with pytest.raises(ContractError, match="no source store; the contract has: crm, "):
        run("list", "store")
    with pytest.raises(DeliveryError, match=r"SOURCE\.TABLE"):
        run("discard", "shop")
    with pytest.raises(DeliveryError, match=r"SOURCE\.TABLE"):
        run("list", "--out", tmp_path / "x.csv")
