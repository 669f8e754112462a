"""What clusters are called, and how a cluster keeps its number and name when it is found again.

A name follows from the medians of a cluster's customers by the first of `RULES` that they meet. Over refits clusters are
matched by the customers whom both scored; a matched one keeps its number, and its name as long as the name's rule holds
within `SLACK`: a cluster is not renamed because a median went from 89 to 91 days.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ml.clustering import crossed, overlap_share
from ml.features import signed_log

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SLACK = 1.25
SAME = 1 / 3
"""Least Jaccard index between two clusters that are one and the same: half of their mean size is in both."""

_RECENT_DAYS = 90
_LAPSED_DAYS = 180
_SEASONAL_GAP_DAYS = 150


@dataclass(frozen=True)
class Condition:
    """What a rule asks of one median.

    Attributes:
        least: it is this or more, or the 80 % value of all customers where that is more and `top` is set.
        above: it is more than this.
        most: it is this or less.
    """

    feature: str
    least: float | None = None
    above: float | None = None
    most: float | None = None
    top: bool = False

    def holds(self, profile: Mapping[str, float], high: Mapping[str, float], slack: float = 1.0) -> bool:
        """Whether medians meet it, with `slack` times the room on either side."""
        value = profile.get(self.feature, 1.0 if self.feature == "frequency" else 0.0)
        least = self.least
        if self.top:
            least = max(least or 0.0, high.get(self.feature, math.inf))
        if least is not None and value < least / slack:
            return False
        if self.above is not None and value <= self.above / slack:
            return False
        return self.most is None or value <= self.most * slack


_LAPSED = Condition("recency_days", above=_LAPSED_DAYS)
_LIVELY = Condition("recency_days", most=_LAPSED_DAYS)
_RECENT = Condition("recency_days", most=_RECENT_DAYS)
_FADING = Condition("recency_days", above=_RECENT_DAYS, most=_LAPSED_DAYS)
_OFTEN = Condition("frequency", least=3, top=True)
_ONCE = Condition("frequency", most=1)
_LARGE = Condition("average_order_value", top=True)
_MUCH_BROWSING = Condition("sessions_90", least=4, top=True)

RULES: tuple[tuple[str, tuple[Condition, ...]], ...] = (
    ("Lapsed High-Value Buyers", (_LAPSED, _LARGE)),
    ("Frequent Browsers", (_LAPSED, _MUCH_BROWSING)),
    ("Infrequent Browsers", (_LAPSED, Condition("sessions_90", least=1))),
    ("Lapsed One-Time Buyers", (_LAPSED, _ONCE)),
    ("Lapsed Repeat Buyers", (_LAPSED,)),
    ("Frequent High-Value Buyers", (_LIVELY, _OFTEN, _LARGE)),
    ("Frequent Buyers", (_LIVELY, _OFTEN)),
    ("High-Value Buyers", (_LIVELY, _LARGE)),
    (
        "Seasonal Shoppers",
        (_LIVELY, Condition("frequency", least=2), Condition("mean_gap_days", least=_SEASONAL_GAP_DAYS)),
    ),
    ("New Buyers", (_RECENT, _ONCE)),
    ("One-Time Buyers", (_LIVELY, _ONCE)),
    ("Frequent Browsers", (_LIVELY, _MUCH_BROWSING)),
    ("Repeat Buyers", (_RECENT,)),
    ("Fading Repeat Buyers", (_FADING,)),
)

_QUALIFIERS: Mapping[str, tuple[str, str, str]] = {
    "recency_days": ("most recent", "less recent", "longest ago"),
    "frequency": ("few orders", "some orders", "many orders"),
    "monetary": ("low spend", "medium spend", "high spend"),
    "average_order_value": ("small baskets", "medium baskets", "large baskets"),
    "sessions_90": ("few visits", "some visits", "many visits"),
    "clicks_90": ("few clicks", "some clicks", "many clicks"),
}


@dataclass(frozen=True)
class Earlier:
    """What customers were in before, as it was scored.

    Attributes:
        numbers: cluster of each customer, 0 where they had none.
        names: of clusters by number.
        last_number: the highest that was ever given.
    """

    numbers: npt.NDArray[np.int64]
    names: Mapping[int, str]
    last_number: int


def name_of(profile: Mapping[str, float], high: Mapping[str, float]) -> str:
    """Name a cluster by the first rule that its medians meet.

    Args:
        profile: the cluster's medians.
        high: the 80 % value of each feature over all customers.
    """
    return next(name for name, conditions in RULES if all(condition.holds(profile, high) for condition in conditions))


def still_holds(name: str, profile: Mapping[str, float], high: Mapping[str, float]) -> bool:
    """Whether a name, with or without what tells it from others, is still right within `SLACK`."""
    base = name.partition(",")[0]
    return any(
        known == base and all(condition.holds(profile, high, SLACK) for condition in conditions)
        for known, conditions in RULES
    )


def numbered(labels: npt.NDArray[np.intp], order: Sequence[int], earlier: Earlier | None) -> dict[int, int]:
    """A number for each label: that of the cluster it was before, else the next that was never given.

    The pairing is the one with the most customers in the same cluster before and after (Kuhn 1955). A pair that has less
    than `SAME` in common is none.

    Args:
        labels: of customers, 0 to n - 1.
        order: all labels, in which new ones are numbered.
        earlier: of the same customers; None if nothing was ever scored.
    """
    import numpy as np
    from scipy.optimize import linear_sum_assignment

    kept: dict[int, int] = {}
    if earlier is not None and (both := earlier.numbers > 0).any():
        numbers, before = np.unique(earlier.numbers[both], return_inverse=True)
        counts = crossed(labels[both], before, len(order))
        shares = overlap_share(counts)
        for label, column in zip(*linear_sum_assignment(-counts), strict=True):
            if shares[label, column] >= SAME:
                kept[int(label)] = int(numbers[column])
    following = earlier.last_number if earlier is not None else 0
    for label in order:
        if label not in kept:
            following += 1
            kept[label] = following
    return kept


def names_of(
    profiles: Sequence[Mapping[str, float]], high: Mapping[str, float], kept: Sequence[str | None]
) -> list[str]:
    """Names that differ, one per cluster.

    Args:
        profiles: medians by cluster.
        high: the 80 % value of each feature over all customers.
        kept: what each was called before; None for a new one.
    """
    named = unique_names(profiles, [name_of(profile, high) for profile in profiles])
    result: list[str | None] = [
        name if name is not None and still_holds(name, profile, high) else None
        for name, profile in zip(kept, profiles, strict=True)
    ]
    for position, name in enumerate(named):
        if result[position] is None:
            taken, repeat = set(result), 1
            candidate = name
            while candidate in taken:
                repeat += 1
                candidate = f"{name} {repeat}"
            result[position] = candidate
    return [name for name in result if name is not None]


def unique_names(profiles: Sequence[Mapping[str, float]], names: Sequence[str]) -> list[str]:
    """Tell clusters of one name apart by the feature in which they differ most, against the spread of all clusters."""
    import numpy as np

    groups: dict[str, list[int]] = defaultdict(list)
    for position, name in enumerate(names):
        groups[name].append(position)
    result = list(names)
    for name, members in groups.items():
        if len(members) == 1:
            continue
        spread: dict[str, float] = {}
        for feature in _QUALIFIERS:
            values = signed_log(np.array([profile.get(feature, 0.0) for profile in profiles]))
            spread[feature] = float(np.ptp(values[members]) / (np.std(values) or 1.0))
        feature = max(spread, key=lambda key: spread[key])
        low, middle, high = _QUALIFIERS[feature]
        ranked = sorted(members, key=lambda position: (profiles[position].get(feature, 0.0), position))
        for rank, position in enumerate(ranked):
            if rank == 0:
                said = low
            elif rank == len(ranked) - 1:
                said = high
            else:
                said = middle if len(ranked) == 3 else f"{middle} {rank}"
            result[position] = f"{name}, {said}"
    return result
