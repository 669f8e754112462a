from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ml import plots
from ml.evaluation import Month, auc, compare
from ml.plots import classifiers

OUTCOME = np.arange(200) % 4 == 0
SCORES = np.where(OUTCOME, 0.6, 0.3) + np.arange(200) / 1_000
COMPARISON = compare(OUTCOME, SCORES, SCORES[::-1].copy())
MONTHS = tuple(Month(f"2024-0{number}", 300, 0.3, 0.3 + 0.01 * number, 0.05, 0.02, None) for number in range(1, 5))

FIGURES = {
    "rfm": lambda: plots.rfm_heatmap({(1, 1): 3, (5, 5): 8}, {(5, 5): "champions"}),
    "rfm of nobody": lambda: plots.rfm_heatmap({}),
    "roc": lambda: classifiers.roc(OUTCOME, SCORES, SCORES[::-1], COMPARISON, "an order"),
    "gains": lambda: classifiers.gains(OUTCOME, SCORES, SCORES[::-1], COMPARISON, "an order"),
    "reliability": lambda: classifiers.reliability(COMPARISON, "an order"),
    "importance": lambda: classifiers.importance([("visits", 0.7), ("spend", 0.3), ("nothing", 0.0)], "an order"),
    "importance of nothing": lambda: classifiers.importance([], "an order"),
    "scores": lambda: classifiers.score_distribution(np.linspace(0, 1, 50), "an order"),
    "scores of nobody": lambda: classifiers.score_distribution(np.array([]), "an order"),
    "calibration by month": lambda: classifiers.calibration_by_month(MONTHS, "an order"),
    "calibration of no month": lambda: classifiers.calibration_by_month((), "an order"),
    "flow": lambda: plots.lifecycle_flow(
        [("active", "lapsing", 4), ("lost", "re_engaged", 2), (None, "onboarding", 1)]
    ),
    "flow of a stage that is not known here": lambda: plots.lifecycle_flow([("asleep", "active", 4)]),
    "flow of prospects alone": lambda: plots.lifecycle_flow([("prospect", "prospect", 4)]),
    "flow of nobody": lambda: plots.lifecycle_flow([]),
    "migration": lambda: plots.rfm_migration(
        {("new", "loyal"): 3, ("champions", None): 1, (None, "new"): 8}, ("2011-05-02", "2011-06-01")
    ),
    "migration of a segment that is not known here": lambda: plots.rfm_migration({("whales", "loyal"): 3}),
    "migration of nobody": lambda: plots.rfm_migration({}),
    "funnel": lambda: plots.audience_funnel([("addresses", 10), ("sendable", 4)]),
    "funnel of nobody": lambda: plots.audience_funnel([("addresses", 0), ("sendable", 0)]),
}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
def test_figures_are_png_of_readable_size_and_equal_when_drawn_again(draw):
    image = draw()

    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(image[start : start + 4], "big") for start in (16, 20))
    assert width >= 700
    assert height >= 250
    assert draw() == image


def test_ribbons_are_as_wide_as_the_customers_they_carry(monkeypatch):
    bands = []
    monkeypatch.setattr(plots, "_ribbon", lambda axes, *band: bands.append(band))

    plots.lifecycle_flow(
        [("active", "active", 5), ("active", "lapsing", 3), ("lost", "active", 2), ("prospect", "prospect", 99)]
    )
    room = 0.02 * 10

    assert [(left, right, width) for left, right, width, *_ in bands] == [
        (0, 0, 5),
        (5, 7 + room, 3),
        (8 + room, 5, 2),
    ]
    assert [colour for *_, colour, _ in bands] == [plots.MUTED, plots.ACCENT, plots.MAIN]


def test_a_row_of_the_migration_is_coloured_by_its_shares(monkeypatch):
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(plots, "as_png", lambda figure: drawn.setdefault("axes", figure.axes[0]) and b"")

    plots.rfm_migration({("new", "loyal"): 3, ("new", "new"): 1, ("loyal", "loyal"): 7, (None, None): 5})
    shares = drawn["axes"].images[0].get_array()
    names = list(plots.RFM_SEGMENTS)

    assert shares[names.index("new"), names.index("loyal")] == 0.75
    assert shares[names.index("new"), names.index("new")] == 0.25
    assert shares[names.index("loyal"), names.index("loyal")] == 1
    assert shares.shape == (12, 12), "who had no order at either instant is in no row"
    assert [label.get_text() for label in drawn["axes"].get_yticklabels()][:2] == ["champions  (0)", "loyal  (7)"]


@pytest.mark.parametrize("customers", [200, 5_000])
def test_the_curve_of_the_roc_encloses_the_auc(customers):
    generator = np.random.default_rng(0)
    scores = generator.random(customers).round(2)
    outcome = generator.random(customers) < scores
    false, true = classifiers._rates(outcome, scores)

    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(true, false) == pytest.approx(auc(outcome, scores))
