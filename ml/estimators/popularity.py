"""The best-seller list: what every recommender has to beat."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ml.estimators.interactions import checked, learnable


class Popularity(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Everyone is recommended what most weight lies on.

    Attributes:
        popularity_: sum of weights by item.
        ranks_: place of each item, 0 for the most popular; equal ones by their column.
        n_features_in_: number of items.
    """

    popularity_: npt.NDArray[np.float64]
    ranks_: npt.NDArray[np.int64]
    n_features_in_: int

    def fit(self, X: sparse.csr_array, y: None = None) -> Popularity:
        """Add up.

        Args:
            X: customers x items of weights.
            y: ignored, as scikit-learn passes it.
        """
        X = learnable(X)
        self.n_features_in_ = X.shape[1]
        self.popularity_ = np.bincount(X.indices, weights=X.data, minlength=X.shape[1]).astype(np.float64)
        self.ranks_ = np.empty(X.shape[1], dtype=np.int64)
        self.ranks_[np.argsort(-self.popularity_, kind="stable")] = np.arange(X.shape[1])
        return self

    def predict(self, X: sparse.csr_array) -> npt.NDArray[np.float32]:
        """The same scores for each customer, customers x items."""
        check_is_fitted(self)
        rows = checked(X, items=self.n_features_in_).shape[0]
        return np.broadcast_to(self.popularity_.astype(np.float32), (rows, self.n_features_in_)).copy()
