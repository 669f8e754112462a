"""How good lists of recommendations are, against what customers did later: pure functions of arrays.

Lists are arrays of item columns, customers x k, best first, -1 where a list is shorter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from scipy import sparse


@dataclass(frozen=True)
class Period:
    """A stretch of local days to predict from what was before it: start inclusive, end exclusive."""

    start: date
    end: date


def rolling_periods(end: date, days: int, count: int) -> Iterator[Period]:
    """The `count` last periods of `days` days before `end`, oldest first: choose on the earlier, judge on the last."""
    if days < 1 or count < 1:
        raise ValueError(f"periods of {days} days, {count} of them: both must be 1 or more")
    for back in range(count, 0, -1):
        yield Period(end - timedelta(days=days * back), end - timedelta(days=days * (back - 1)))


def recall_at_k(lists: npt.NDArray[np.int32], relevant: sparse.csr_array) -> npt.NDArray[np.float64]:
    """Share of each customer's relevant items that the list holds; NaN for customers without any.

    Args:
        lists: customers x k.
        relevant: customers x items, what is stored and not zero is relevant.
    """
    import numpy as np

    hits, counts = _hits(lists, relevant)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(counts > 0, hits.sum(axis=1) / counts, np.nan)


def ndcg_at_k(lists: npt.NDArray[np.int32], relevant: sparse.csr_array) -> npt.NDArray[np.float64]:
    """Normalised discounted cumulative gain of each customer's list; NaN for customers without relevant items.

    A hit at rank r gains 1 / log2(r + 1); the best possible list has all its first min(k, relevant) ranks right
    (Järvelin and Kekäläinen 2002, with binary gains).
    """
    import numpy as np

    hits, counts = _hits(lists, relevant)
    discount = 1 / np.log2(np.arange(2, lists.shape[1] + 2))
    best = np.concatenate([[np.nan], np.cumsum(discount)])[np.minimum(counts, lists.shape[1])]
    gained: npt.NDArray[np.float64] = (hits * discount).sum(axis=1) / best
    return gained


def coverage(lists: npt.NDArray[np.int32], items: int) -> float:
    """Share of `items` that stand on anyone's list."""
    import numpy as np

    return len(np.unique(lists[lists >= 0])) / items


def diversity(lists: npt.NDArray[np.int32], groups: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Share of pairs of items within each list that are of different groups; NaN below two items.

    Args:
        lists: customers x k.
        groups: group (category) of each item, 0 or more; -1 is a group of its own for each item that has it.
    """
    import numpy as np

    filled = lists >= 0
    group = np.where(groups >= 0, groups, groups.max(initial=0) + 1 + np.arange(len(groups)))[lists]
    # Unfilled places: each a group of its own, then left out of the count.
    group = np.where(filled, group, -1 - np.arange(lists.shape[1]))
    same = np.zeros(len(lists))
    for one in range(lists.shape[1]):
        same += (group[:, one, None] == group[:, one + 1 :]).sum(axis=1)
    count = filled.sum(axis=1)
    pairs = count * (count - 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, 1 - same / pairs, np.nan)


def novelty(lists: npt.NDArray[np.int32], buyers: npt.NDArray[np.int64], customers: int) -> npt.NDArray[np.float64]:
    """Mean surprise of each list, in bits: -log2 of the share of customers who have the item; NaN for empty lists.

    Args:
        lists: customers x k.
        buyers: customers who have each item; an item of nobody counts as of half a customer.
        customers: all customers.
    """
    import numpy as np

    bits = -np.log2(np.maximum(buyers, 0.5) / customers)
    filled = lists >= 0
    count = filled.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, np.where(filled, bits[lists], 0).sum(axis=1) / count, np.nan)


def bootstrap_interval(
    values: npt.NDArray[np.float64], *, level: float = 0.95, resamples: int = 1_000, seed: int = 20111210
) -> tuple[float, float, float]:
    """Mean over customers, and its percentile interval when customers are drawn again.

    To compare two recommenders give the differences by customer: they vary less than either.

    Args:
        values: one figure by customer; NaN is left out.
        level: of the interval.
        resamples: draws.
        seed: of the draws.

    Returns:
        Mean, lower and upper end; NaN if no value is left.
    """
    import numpy as np

    known = values[~np.isnan(values)]
    if not len(known):
        return float("nan"), float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    means = [float(known[generator.integers(0, len(known), len(known))].mean()) for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(known.mean()), float(low), float(high)


def new_to_the_customer(relevant: sparse.csr_array, history: sparse.csr_array) -> sparse.csr_array:
    """The relevant items that the customer's history does not hold."""
    from scipy import sparse

    known = sparse.csr_array(history, copy=True)
    known.data = (known.data != 0).astype("float32")
    wanted = sparse.csr_array(relevant, copy=True)
    wanted.data = (wanted.data != 0).astype("float32")
    left = sparse.csr_array(wanted - wanted.multiply(known))
    left.eliminate_zeros()
    return left


def _hits(
    lists: npt.NDArray[np.int32], relevant: sparse.csr_array
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Which places hold a relevant item, customers x k, and how many items are relevant to each customer."""
    import numpy as np
    from scipy import sparse

    if lists.shape[0] != relevant.shape[0]:
        raise ValueError(f"{lists.shape[0]} lists for {relevant.shape[0]} customers")
    _no_repeats(lists)
    wanted = sparse.csr_array(relevant, copy=True)
    wanted.sum_duplicates()
    wanted.eliminate_zeros()
    row = np.repeat(np.arange(wanted.shape[0]), np.diff(wanted.indptr))
    keys = row * wanted.shape[1] + wanted.indices
    asked = np.arange(len(lists))[:, None] * wanted.shape[1] + lists
    return np.isin(asked, keys) & (lists >= 0), np.diff(wanted.indptr)


def _no_repeats(lists: npt.NDArray[np.int32]) -> None:
    import numpy as np

    ordered = np.sort(lists, axis=1)
    if (repeated := ((np.diff(ordered, axis=1) == 0) & (ordered[:, 1:] >= 0)).any(axis=1)).any():
        raise ValueError(f"the list of customer {int(np.flatnonzero(repeated)[0])} holds an item twice")


def mean_of(figures: npt.NDArray[np.float64]) -> float:
    """Mean over customers, NaN left out; NaN if nothing is left."""
    import numpy as np

    known = figures[~np.isnan(figures)]
    return float(known.mean()) if len(known) else float("nan")
