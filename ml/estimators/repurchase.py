"""What customers bought before, and which items they buy again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ml.estimators.interactions import checked, learnable


class Repurchase(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Everyone is recommended their own history, by its weight: what is recent and frequent first.

    Attributes:
        n_features_in_: number of items.
    """

    n_features_in_: int

    def fit(self, X: sparse.csr_array, y: None = None) -> Repurchase:
        """Learn how many items there are: all else is in the weights.

        Args:
            X: customers x items of weights, with their decay.
            y: ignored, as scikit-learn passes it.
        """
        self.n_features_in_ = learnable(X).shape[1]
        return self

    def predict(self, X: sparse.csr_array) -> sparse.csr_array:
        """The weights themselves, customers x items."""
        check_is_fitted(self)
        return checked(X, items=self.n_features_in_)


class RepurchaseIntervals(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Which items the same customers buy again, and after how many days.

    The share of an item's buyers who bought it on two days or more is drawn towards the share over all items, as if
    `prior_buyers` more had bought at that: of three buyers, two say little.

    Parameters:
        repeat_share: share from which an item counts as a consumable.
        prior_buyers: weight of the share over all items.

    Attributes:
        buyers_: customers who bought, by item.
        repeat_shares_: share of them who bought again, as described.
        intervals_: lower median of days between two days of buying, by item; NaN where nobody bought again.
        consumable_: whether the share is reached, and anyone bought again.
    """

    buyers_: npt.NDArray[np.int64]
    repeat_shares_: npt.NDArray[np.float64]
    intervals_: npt.NDArray[np.float64]
    consumable_: npt.NDArray[np.bool_]

    def __init__(self, *, repeat_share: float = 0.1, prior_buyers: float = 20.0) -> None:
        self.repeat_share = repeat_share
        self.prior_buyers = prior_buyers

    def fit(
        self, customers: npt.NDArray[np.int64], items: npt.NDArray[np.int64], ages: npt.NDArray[np.int64], n_items: int
    ) -> RepurchaseIntervals:
        """Learn from purchases.

        Args:
            customers: row of each purchase.
            items: column of each purchase, 0 to n_items - 1.
            ages: whole days since each purchase.
            n_items: number of items.
        """
        order = np.lexsort((ages, items, customers))
        customer, item, age = (np.asarray(column)[order] for column in (customers, items, ages))
        same_pair = (np.diff(customer, prepend=-1) == 0) & (np.diff(item, prepend=-1) == 0)
        gap = np.diff(age, prepend=0)
        again = same_pair & (gap > 0)
        self.buyers_ = np.bincount(item[~same_pair], minlength=n_items)
        pair = np.cumsum(~same_pair) - 1
        repeated = np.unique(pair[again])
        repeats = np.bincount(item[~same_pair][repeated], minlength=n_items)
        overall = repeats.sum() / max(self.buyers_.sum(), 1)
        self.repeat_shares_ = (repeats + self.prior_buyers * overall) / np.maximum(
            self.buyers_ + self.prior_buyers, 1e-12
        )
        self.intervals_ = np.full(n_items, np.nan)
        gaps = np.column_stack([item[again], gap[again]])
        gaps = gaps[np.lexsort((gaps[:, 1], gaps[:, 0]))]
        found, start, count = np.unique(gaps[:, 0], return_index=True, return_counts=True)
        self.intervals_[found] = gaps[start + (count - 1) // 2, 1]
        self.consumable_ = (repeats > 0) & (self.repeat_shares_ >= self.repeat_share)
        return self
