from __future__ import annotations

from ml.model import Contest
from ml.promotion import decide


def against(low: float) -> Contest:
    return Contest("AUC", 0.8, 0.75, low, 0.09)


def test_a_first_model_has_to_beat_the_baseline_beyond_noise() -> None:
    assert decide(against(0.01), None).promote
    assert not decide(against(0.0), None).promote
    assert not decide(against(-0.01), None).promote


def test_a_later_one_has_to_beat_the_champion_as_well() -> None:
    assert decide(against(0.01), against(0.01)).promote
    assert not decide(against(0.01), against(-0.01)).promote
    assert not decide(against(-0.01), against(0.01)).promote


def test_a_champion_that_cannot_be_used_gives_way_only_to_one_that_beats_the_baseline() -> None:
    decision = decide(against(0.01), None, unusable="its file is missing")
    assert decision.promote
    assert "its file is missing" in decision.reason
    assert not decide(against(-0.01), None, unusable="its file is missing").promote


def test_the_reason_says_both_figures_and_the_noise() -> None:
    assert (
        "AUC 0.800 against 0.750 (gain +0.050, 95 % of resamples +0.010 to +0.090)"
        in decide(against(0.01), None).reason
    )
