"""What `mailwright segments diff` and `explain` print."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from core.errors import MailwrightError
from orchestration.commands import segment_review
from tests.integration.segments.review.conftest import Shop, ident


@pytest.fixture
def run(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    """Run one of the commands on the shop; returns what it printed."""
    monkeypatch.setattr(segment_review, "open_settings", lambda: shop.settings)
    app = typer.Typer()
    app.command()(segment_review.diff)
    app.command()(segment_review.explain)

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(app, list(arguments))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    return call


def test_diff_as_a_table(shop: Shop, run) -> None:
    shop.write("big", "value between 41 and 89", "One row per customer of [middling] value.")
    said = run("diff")
    assert "on published marts, as of 2011-12-10 00:00" in said
    assert "66.1%" in said  # 39 of 59
    assert "small 9 → 19" in said
    assert "One row per customer of [middling] value." in said


def test_diff_without_a_difference(run) -> None:
    assert "No segment differs from HEAD" in run("diff")


def test_markdown_alone_goes_to_stdout(shop: Shop, run) -> None:
    shop.write("big", "value between 41 and 89")
    said = run("diff", "HEAD", "--markdown", "-", "--segment", "big")
    assert said.startswith("## Segments that change\n")
    assert "| big | changed | 49 | 49 | 10 | 10 | 39 | 66.1% |" in said


def test_markdown_to_a_file(shop: Shop, run, tmp_path: Path) -> None:
    shop.write("big", "value between 41 and 89")
    file = tmp_path / "diff.md"
    assert f"Written: {file}" in run("diff", "--markdown", str(file))
    assert file.read_text().startswith("## Segments that change\n")
    with pytest.raises(MailwrightError, match="there is no folder"):
        run("diff", "--markdown", str(tmp_path / "none" / "diff.md"))


def test_a_backtest_with_pictures(shop: Shop, run, tmp_path: Path) -> None:
    shop.write("big", "value > 69")
    said = run("diff", "--backtest", "--plots", str(tmp_path / "plots"))
    assert "big: replayed" in said
    assert (tmp_path / "plots" / "big.png").exists()
    with pytest.raises(MailwrightError, match="give --backtest as well"):
        run("diff", "--plots", str(tmp_path / "plots"))


def test_explain(shop: Shop, run) -> None:
    shop.history((2, datetime(2011, 12, 3), ident(71), "big", "entered", "behaviour"))
    said = run("explain", ident(71), "--segment", "small")
    assert "in segments  big" in said
    assert "entered on 2011-12-03, with release 2 (behaviour)" in said
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "yes value > 50 value = 71 final select" in lines
    assert "no value < 60 value = 71 final select" in lines


def test_brackets_are_no_markup(shop: Shop, run) -> None:
    shop.write("big", "list_value(value)[1] > 50")
    assert "[value][1] > 50" in run("explain", ident(71))


def test_nothing_personal_is_printed(shop: Shop, run) -> None:
    shop.write("big", "email like 'c0ffee%'")
    assert "@example.com" not in run("diff", "--markdown", "-") + run("explain", ident(71), "--segment", "big")
