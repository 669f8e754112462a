"""Features that know the future: found by how fast they grow old.

What a feature knew of the past, it still knows a month later, only less well: on both samples, no feature from before
as_of predicted a purchase within 30 days by more than .073 AUC better than the same feature 28 days older. A feature
computed a month late jumped by .11 to .33. A feature that repeats the outcome itself is caught by being too good.

How fast honest features grow old depends on the business: where people buy every other week and then leave for good,
recency lost .13 in four weeks, and all that counts the last month with it. So where recency loses more than honest features
did on both samples, the others may lose as much more; recency itself is suspect only by being too good.

This is a guard on what is trained, for leaks of weeks. Leaks of any size are the poison test's, which changes what
became known after as_of and compares features to the byte.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ml import evaluation

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

JUMP = 0.10
"""AUC that a feature may lose by being one anchor (four weeks) older, where recency loses no more than `ORDINARY`."""

ORDINARY = 0.073
"""The most that an honest feature lost on both samples."""

TOO_GOOD = 0.97
"""AUC that no feature reaches by itself. Recency reached .88 for a purchase within 30 days."""

PAIRS = 3  # newest pairs of anchors that are looked at: a leak shows in all of them
CUSTOMERS_MIN = 200  # of each outcome; below, chance makes jumps of its own


@dataclass(frozen=True)
class Suspect:
    """A feature that knows too much: its AUC by itself, and the same of its values one anchor earlier, both means."""

    feature: str
    auc: float
    older_auc: float


def suspects(frame: pd.DataFrame, features: Sequence[str], recency: str) -> tuple[Suspect, ...]:
    """Features that look as if they had been computed after as_of.

    Args:
        frame: customer_id, as_of_on, outcome (a purchase within 30 days: with longer horizons leaks and honest features
            grow old alike) and the features, for several anchors in steps of four weeks.
        recency: the feature by whose ageing that of the others is measured.

    Returns:
        The suspects, worst first. None where too few customers are in two successive anchors.
    """
    import numpy as np

    anchors = sorted(frame["as_of_on"].unique())
    figures: dict[str, list[tuple[float, float]]] = {feature: [] for feature in features}
    for before, now in list(itertools.pairwise(anchors))[-PAIRS:]:
        both = frame[frame["as_of_on"] == now].merge(
            frame[frame["as_of_on"] == before][["customer_id", *features]], on="customer_id", suffixes=("", "__older")
        )
        outcome = both["outcome"].to_numpy(dtype=bool)
        if min(outcome.sum(), len(outcome) - outcome.sum()) < CUSTOMERS_MIN:
            continue
        for feature in features:
            newer, older = (
                _strength(outcome, both[name].to_numpy(dtype=float, na_value=np.nan))
                for name in (feature, f"{feature}__older")
            )
            figures[feature].append((newer, older))
    means = {
        feature: tuple(float(value) for value in np.mean(pairs, axis=0)) for feature, pairs in figures.items() if pairs
    }
    lost = means[recency][0] - means[recency][1] if recency in means else 0.0
    allowed = JUMP + max(0.0, lost - ORDINARY)
    found = [
        Suspect(feature, newer, older)
        for feature, (newer, older) in means.items()
        if newer > TOO_GOOD or (feature != recency and newer - older > allowed)
    ]
    return tuple(sorted(found, key=lambda suspect: (suspect.older_auc - suspect.auc, suspect.feature)))


def tell_tales(known: pd.DataFrame, features: Sequence[str]) -> tuple[Suspect, ...]:
    """Features that tell the model's own outcome, at the newest instants that it is known of.

    A leak as long as a horizon of half a year hardly grows old in four weeks, but is too good.

    Args:
        known: customer_id, as_of_on, outcome (the model's own) and the features.

    Returns:
        The suspects, worst first, with the AUC of values four weeks older, or of their own where there are none.
    """
    import numpy as np

    anchors = sorted(known["as_of_on"].unique())[-PAIRS:]
    figures: dict[str, list[float]] = {feature: [] for feature in features}
    for anchor in anchors:
        rows = known[known["as_of_on"] == anchor]
        outcome = rows["outcome"].to_numpy(dtype=bool)
        if min(outcome.sum(), len(outcome) - outcome.sum()) < CUSTOMERS_MIN:
            continue
        for feature in features:
            figures[feature].append(_strength(outcome, rows[feature].to_numpy(dtype=float, na_value=np.nan)))
    means = {feature: float(np.mean(values)) for feature, values in figures.items() if values}
    return tuple(
        Suspect(feature, mean, mean)
        for feature, mean in sorted(means.items(), key=lambda item: (-item[1], item[0]))
        if mean > TOO_GOOD
    )


def _strength(outcome: np.ndarray, values: np.ndarray) -> float:
    """AUC of one feature, whichever way it points; missing values rank below all others."""
    import numpy as np

    return abs(evaluation.auc(outcome, np.where(np.isnan(values), -np.inf, values)) - 0.5) + 0.5
