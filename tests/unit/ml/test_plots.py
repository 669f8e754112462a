from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from ml import plots
from ml.churn import Bin, ChurnReport, Judgement, Split
from ml.clusters import Candidate, Cluster, ClusterReport

CLUSTERS = ClusterReport(
    "trained",
    "",
    k=5,
    candidates=tuple(Candidate(k, 0.3, 0.9, 0.1) for k in range(5, 11)),
    clusters=tuple(
        Cluster(number, f"Cluster {number}", 10 * number, {"recency_days": 1.0 * number, "monetary": 5.0})
        for number in range(1, 6)
    ),
)
JUDGED = Judgement(0.8, 0.7, 0.9, 0.1, 0.02, (Bin(0.0, 0.1, 90, 0.05, 0.04), Bin(0.1, 0.2, 3, 0.15, 0.9)))
CHURN = ChurnReport(
    "trained",
    "",
    split=Split((date(2023, 1, 2),), date(2023, 1, 30), date(2023, 9, 4)),
    customers=93,
    model=JUDGED,
    recency=JUDGED,
)

FIGURES = {
    "rfm": lambda: plots.rfm_heatmap({(1, 1): 3, (5, 5): 8}, {(5, 5): "champions"}),
    "rfm of nobody": lambda: plots.rfm_heatmap({}),
    "profiles": lambda: plots.cluster_profiles(CLUSTERS, "GBP"),
    "k": lambda: plots.k_choice(CLUSTERS),
    "reliability": lambda: plots.churn_reliability(CHURN),
    "scores": lambda: plots.score_distribution(np.linspace(0, 1, 50)),
    "scores of nobody": lambda: plots.score_distribution(np.array([])),
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
