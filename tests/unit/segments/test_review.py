"""Small parts of reviewing segments: masks, intervals, replays."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from segments.backtest import Backtest, Outcome, Point, Replay, wilson
from segments.diff import masked
from segments.plots import picture
from segments.versions import is_same


def test_a_mask_keeps_the_first_four_and_the_last_two() -> None:
    assert masked("0123456789abcdef") == "0123…ef"


@pytest.mark.parametrize("short", ["", "a", "abcdef"])
def test_a_short_id_is_masked_whole(short: str) -> None:
    assert masked(short) == "…"


def test_wilson_is_as_published() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_nothing_is_known_of_nobody() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert Outcome(0, 0, Decimal(0)).share is None


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("select customer_id\nfrom ref.a -- all\nwhere x > 1", True),
        ("select customer_id from ref.a where x > 2", False),
        ("select customer_id from ref.a where x >", False),
    ],
    ids=["layout", "condition", "broken"],
)
def test_layout_and_comments_are_no_difference(other: str, same: bool) -> None:
    assert is_same("select customer_id from ref.a where x > 1", other) is same


def replay(side: str) -> Replay:
    """Two as_ofs whose outcome is known, and one whose is not."""
    return Replay(
        side,
        (
            Point(date(2011, 8, 1), 100, None, None, Outcome(100, 30, Decimal(900)), Outcome(900, 90, Decimal(1800))),
            Point(date(2011, 8, 29), 50, 10, 60, Outcome(50, 30, Decimal(600)), Outcome(950, 95, Decimal(1900))),
            Point(date(2011, 9, 26), 60, 20, 10),
        ),
    )


def test_a_replay_sums_up_what_is_known() -> None:
    found = replay("new")
    assert found.turnover == pytest.approx((60 / 100 + 10 / 50) / 2)
    together = found.together()
    assert together is not None
    assert together[0] == Outcome(150, 60, Decimal(1500))
    assert together[1].share == pytest.approx(0.1)
    rows = {row[0]: row[1] for row in next(iter(Backtest("x", "GBP", (found,)).tables()))[2]}
    assert rows["bought in the next 90 days"] == "40.0%"
    assert rows["GBP per member"] == "10.00"
    assert rows["customers, least to most"] == "50 to 100"
    assert rows["the newest of these, with its 95 % interval"].startswith("60.0% (")


def test_a_note_on_both_definitions_is_said_once() -> None:
    both = Backtest("x", "GBP", (Replay("old", (), ("no",)), Replay("new", (), ("no", "never"))))
    assert both.notes == ("old and new definition: no", "new definition: never")
    assert list(both.tables()) == []


def test_a_picture_is_drawn() -> None:
    png = picture(Backtest("x", "GBP", (replay("old"), replay("new"))))
    assert png.startswith(b"\x89PNG")
    assert len(png) > 10_000
