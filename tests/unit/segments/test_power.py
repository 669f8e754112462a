"""The smallest effect that shows, against what R's power.prop.test and power.t.test answer."""

from __future__ import annotations

from math import inf

import pytest

from segments.power import smallest_effect, smallest_mean_effect


def test_it_agrees_with_power_prop_test() -> None:
    # power.prop.test(p1 = .50, p2 = .75, power = .90) needs n = 76.7 in each group
    assert smallest_effect(2 * 77, 0.5, power=0.9) == pytest.approx(0.25, abs=0.001)
    # power.prop.test(p1 = .05, p2 = .07, power = .80) needs n = 2212.4 in each group
    assert smallest_effect(2 * 2213, 0.05) == pytest.approx(0.02, abs=0.0001)


def test_an_even_split_shows_the_most() -> None:
    even = smallest_effect(10_000, 0.1)
    assert even < smallest_effect(10_000, 0.1, holdout_share=0.2) < smallest_effect(10_000, 0.1, holdout_share=0.05)


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.5])
def test_four_times_the_members_show_about_half_the_effect(rate: float) -> None:
    effects = [smallest_effect(members, rate) for members in (1_000, 4_000, 16_000, 64_000)]
    assert effects == sorted(effects, reverse=True)
    assert effects[3] < effects[2] * 0.6


@pytest.mark.parametrize(("members", "rate"), [(0, 0.1), (1, 0.1), (8, 0.5), (1_000, 1.0)])
def test_nothing_shows_in_too_few_or_where_there_is_no_room(members: int, rate: float) -> None:
    assert smallest_effect(members, rate) == inf


def test_the_effect_never_takes_a_rate_above_one() -> None:
    assert 0.9 + smallest_effect(400, 0.9) <= 1


def test_means_follow_their_variation() -> None:
    # (1.95996 + 0.84162) * 2 * sqrt(2 / 500)
    assert smallest_mean_effect(1_000, 2.0) == pytest.approx(0.35437, abs=1e-4)
    assert smallest_mean_effect(1, 2.0) == inf


@pytest.mark.parametrize("wrong", [{"holdout_share": 0.0}, {"alpha": 1.0}, {"power": 1.5}])
def test_shares_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        smallest_effect(100, 0.1, **wrong)
    with pytest.raises(ValueError, match="rate"):
        smallest_effect(100, 1.1)
