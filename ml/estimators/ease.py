"""EASE: the linear autoencoder with a closed form."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.linalg import lapack
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from ml.estimators.interactions import checked, learnable
from ml.estimators.top import best_of_rows

ITEMS_MAX = 10_000
"""Beyond, the inverse takes minutes and gigabytes: 390 s and 3.2 GB at 20,000."""


class EASE(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Each item is predicted from all others by ridge regression (Steck 2019, "Embarrassingly Shallow Autoencoders").

    With P the inverse of X'X + regularization * I, the weights are -P[j, i] / P[i, i], and 0 on the diagonal (eq. 8).

    Parameters:
        regularization: of the ridge, in squared weights.
        neighbours: keep only so many weights of each item, the largest by amount; None keeps all. What is kept makes
            scoring many customers a sparse product.

    Attributes:
        weights_: items x items, what having the row's item says for the column's; dense, or sparse with `neighbours`.
        n_features_in_: number of items.
    """

    weights_: npt.NDArray[np.float32] | sparse.csr_array
    n_features_in_: int

    def __init__(self, *, regularization: float = 100.0, neighbours: int | None = None) -> None:
        self.regularization = regularization
        self.neighbours = neighbours

    def fit(self, X: sparse.csr_array, y: None = None) -> EASE:
        """Invert, on one thread: the sums of several differ in their last bits.

        Args:
            X: customers x items of weights.
            y: ignored, as scikit-learn passes it.

        Raises:
            ValueError: more than `ITEMS_MAX` items, a regularization that is not above zero, or nothing to learn from.
        """
        if not (np.isfinite(self.regularization) and self.regularization > 0):
            raise ValueError(f"regularization is {self.regularization}: it must be above zero")
        X = learnable(X)
        items = X.shape[1]
        if items > ITEMS_MAX:
            raise ValueError(f"{items} items: EASE is for {ITEMS_MAX} at most, use ItemKNN")
        self.n_features_in_ = items
        gram = np.asfortranarray((X.T @ X).toarray(), dtype=np.float64)
        gram[np.diag_indices(items)] += self.regularization
        with threadpool_limits(1):
            inverse, failed = lapack.dpotrf(gram, lower=1, overwrite_a=1)
            if not failed:
                inverse, failed = lapack.dpotri(inverse, lower=1, overwrite_c=1)
        if failed:
            raise ValueError("the weights differ too much in size for EASE: damp them, or raise the regularization")
        inverse = np.tril(inverse)
        scale = np.diag(inverse).copy()
        weights = (inverse + np.tril(inverse, -1).T) / -scale
        np.fill_diagonal(weights, 0)
        self.weights_ = weights.astype(np.float32)
        if self.neighbours is not None:
            self.weights_ = _pruned(self.weights_, self.neighbours)
        return self

    def predict(self, X: sparse.csr_array) -> npt.NDArray[np.float32] | sparse.csr_array:
        """Sums over the customer's items of weight x weight learned, customers x items; as sparse as `weights_`."""
        check_is_fitted(self)
        return checked(X, items=self.n_features_in_) @ self.weights_


def _pruned(weights: npt.NDArray[np.float32], neighbours: int) -> sparse.csr_array:
    """The largest weights by amount towards each column."""
    names, _ = best_of_rows(np.abs(weights.T), neighbours)
    target, place = np.nonzero(names >= 0)
    source = names[target, place]
    kept = sparse.csr_array((weights[source, target], (source, target)), shape=weights.shape, dtype=np.float32)
    kept.eliminate_zeros()
    return kept
