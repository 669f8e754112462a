from __future__ import annotations

from typing import Any

import pytest

from ml import plots

FIGURES = {
    "rfm": lambda: plots.rfm_heatmap({(1, 1): 3, (5, 5): 8}, {(5, 5): "champions"}),
    "rfm of nobody": lambda: plots.rfm_heatmap({}),
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
    assert width >= 900
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
