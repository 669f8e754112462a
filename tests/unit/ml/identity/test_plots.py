from __future__ import annotations

import pytest

from ml.identity import plots
from ml.identity.run import LevelWeight, ThresholdPoint

LEVELS = tuple(
    LevelWeight(comparison, level, weight)
    for comparison, level, weight in (
        ("given_name", "equal", 8.0),
        ("given_name", "else", -6.5),
        ("id_passport", "equal", 19.0),
        ("id_passport", "else", -0.5),
    )
)
CURVE = tuple(ThresholdPoint(at / 2, 100 - at, 0.5 + at / 200, 1 - at / 100, 0.7) for at in range(-8, 100))

FIGURES = {
    "weights": lambda: plots.match_weights(LEVELS),
    "weights of no model": lambda: plots.match_weights(()),
    "curve": lambda: plots.threshold_curve(CURVE, 0.0),
    "curve of no model": lambda: plots.threshold_curve((), None),
    "sizes": lambda: plots.cluster_sizes({1: 1_000_000, 2: 20_000, 7: 3, 40: 1}),
    "sizes of nobody": lambda: plots.cluster_sizes({}),
}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
def test_figures_are_png_of_readable_size_and_equal_when_drawn_again(draw):
    image = draw()

    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(image[start : start + 4], "big") for start in (16, 20))
    assert width >= 900
    assert height >= 150
    assert draw() == image
