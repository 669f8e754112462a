"""Definitions replayed over a past that is known to the customer."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from core.errors import MailwrightError
from segments.backtest import Backtest, Outcome, Replay
from segments.diff import diff
from segments.plots import draw
from tests.integration.segments.review.conftest import Shop


def backtest(shop: Shop, name: str = "big") -> Backtest:
    return diff(shop.settings, shop.home, names=[name], backtest=True).backtests[name]


def sides(found: Backtest) -> tuple[Replay, Replay]:
    old, new = found.replays
    assert (old.side, new.side) == ("old", "new")
    return old, new


def test_sizes_and_turnover_are_those_of_each_as_of(shop: Shop) -> None:
    shop.write("big", "value > 60")
    old, new = sides(backtest(shop))
    # value was 2 less per month before: above 50 were 39, 41, ... 49 of 100.
    assert old.sizes == [39, 41, 43, 45, 47, 49]
    assert new.sizes == [29, 31, 33, 35, 37, 39]
    assert [point.as_of_on for point in old.points][-1] == date(2011, 12, 10)
    assert [(point.entered, point.left) for point in old.points] == [(None, None), *[(2, 0)] * 5]
    assert old.turnover == 0


def test_what_followed_is_of_the_members_and_of_everyone_else(shop: Shop) -> None:
    shop.write("big", "value > 69")
    old, new = sides(backtest(shop))
    # 90 days have passed at the first two of the as_ofs: 140 and 112 days before.
    assert [point.members is not None for point in new.points] == [True, True, False, False, False, False]
    # At the first, value is the number less 10: 60 and above are 30 customers, above 69 are 20, above 50 are 39.
    first = new.points[0]
    assert first.members == Outcome(20, 20, Decimal(200))
    assert first.others == Outcome(80, 10, Decimal(100))
    assert old.points[0].members == Outcome(39, 30, Decimal(300))
    assert old.points[0].others == Outcome(61, 0, Decimal(0))


def test_no_row_of_another_as_of_is_seen(shop: Shop) -> None:
    # One customer has this value at each as_of, and at each another one.
    shop.write("big", "value = 40")
    _, new = sides(backtest(shop))
    assert [(point.size, point.entered, point.left) for point in new.points] == [(1, None, None), *[(1, 1, 1)] * 5]


def test_other_relations_stand_as_they_did_then(shop: Shop) -> None:
    shop.write(
        "big",
        "select f.customer_id from {{ ref('feat_customers') }} as f"
        " inner join {{ ref('dim_as_ofs') }} as a on f.as_of = a.as_of and a.is_current where f.orders > 50",
    )
    old, new = sides(backtest(shop))
    assert new.sizes == old.sizes
    shop.write("big", "select customer_id from {{ ref('feat_customers') }} group by customer_id having count(*) >= 5")
    _, new = sides(backtest(shop))
    # Counted are the as_ofs up to each: before the fifth nobody has five rows.
    assert new.sizes == [0, 0, 0, 0, 100, 100]


def test_what_nobody_knew_is_said_and_not_replayed(shop: Shop) -> None:
    shop.write("big", "value > 50 and has_abandoned_cart and email is not null")
    found = backtest(shop)
    old, new = sides(found)
    assert len(old.points) == 6
    assert new.points == ()
    assert found.notes == (
        "new definition: it can't be replayed, as only today's state is kept of email, has_abandoned_cart",
    )


def test_a_relation_without_a_past_is_not_replayed(shop: Shop) -> None:
    shop.write("big", "select customer_id from {{ ref('dim_customers') }}")
    found = backtest(shop)
    assert "only today's state is kept of dim_customers" in found.notes[0]


def test_scores_are_replayed_since_there_are_any(shop: Shop) -> None:
    shop.write("big", "churn_score > 0.5")
    found = backtest(shop)
    _, new = sides(found)
    assert [point.as_of_on for point in new.points] == [date(2011, 11, 12), date(2011, 12, 10)]
    assert found.notes == (
        "new definition: churn_score is known since 2011-11-12: not replayed at the 4 as_ofs before",
    )


def test_an_added_segment_has_one_definition(shop: Shop) -> None:
    shop.write("new", "value > 90")
    [replay] = backtest(shop, "new").replays
    assert (replay.side, len(replay.points)) == ("new", 6)


def test_a_definition_that_fails_then_is_told(shop: Shop) -> None:
    shop.write("big", "valeu > 90")
    assert "it can't be replayed: Binder Error" in backtest(shop).notes[0]


def test_without_a_history_it_says_what_to_do(shop: Shop) -> None:
    shop.execute("drop table marts.customer_history")
    shop.write("big", "value > 90")
    with pytest.raises(MailwrightError, match="no customer_history to replay: run `mailwright refresh`"):
        backtest(shop)


def test_markdown_and_pictures(shop: Shop, tmp_path: Path) -> None:
    shop.write("big", "value > 69")
    shop.write("small", "has_abandoned_cart")
    found = diff(shop.settings, shop.home, backtest=True)
    text = found.markdown()
    assert "| bought in the next 90 days | 77.5% | 100.0% |" in text
    assert "<details><summary>Over time</summary>" in text
    assert "can't be replayed, as only today's state is kept of has_abandoned_cart" in text
    assert [file.name for file in draw(found, tmp_path / "plots")] == ["big.png", "small.png"]
