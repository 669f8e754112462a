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

_LEAST = 1e-3  # of the regularization: an item of smaller squared weight has weights near zero, and is left out
_CONDITION_MAX = 1e4  # single precision then keeps three digits of a weight and more
_BLOCK = 512

ITEMS_MAX = 10_000
"""Beyond, the inverse takes minutes and gigabytes: 390 s and 3.2 GB at 20,000."""


class EASE(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Each item is predicted from all others by ridge regression (Steck 2019, "Embarrassingly Shallow Autoencoders").

    With P the inverse of X'X + regularization * I, the weights are -P[j, i] / P[i, i], and 0 on the diagonal (eq. 8).
    Items of hardly any weight, against the regularization, are left out: nothing speaks for them, nor they for others.

    Parameters:
        regularization: of the ridge, in squared weights.
        neighbours: keep only so many weights towards each item, the largest by amount and what equals the last of
            them; None keeps all. What is kept makes scoring many customers a sparse product.

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
        # The inverse grows with the cube of items, and of the real retailer's a third is hardly wanted any more.
        squares = np.bincount(X.indices, weights=np.square(X.data, dtype=np.float64), minlength=items)
        least = min(_LEAST * self.regularization, squares.max() / 2)  # the heaviest always stays
        had = np.flatnonzero(squares > least)
        known = X[:, had]
        gram = (known.T @ known).toarray(order="F")
        gram[np.diag_indices(len(had))] += self.regularization
        weights = _inverse(gram, self.regularization)
        scale = -np.diag(weights).copy()
        np.fill_diagonal(weights, 0)
        if self.neighbours is not None:
            self.weights_ = _pruned(weights, scale, self.neighbours, had, items)
            return self
        self.weights_ = np.zeros((items, items), dtype=np.float32)
        self.weights_[np.ix_(had, had)] = weights / scale
        return self

    def predict(self, X: sparse.csr_array) -> npt.NDArray[np.float32] | sparse.csr_array:
        """Sums over the customer's items of weight x weight learned, customers x items; as sparse as `weights_`."""
        check_is_fitted(self)
        return checked(X, items=self.n_features_in_) @ self.weights_


def _inverse(gram: npt.NDArray[np.float32], regularization: float) -> npt.NDArray[np.floating]:
    """The inverse of X'X + regularization * I, which is overwritten; symmetric to the last bit."""
    # Single precision takes half the time, and loses digits in proportion to the condition, of which this is a bound.
    condition = float(np.abs(gram).sum(axis=0, dtype=np.float64).max()) / regularization
    single = condition <= _CONDITION_MAX
    factor, invert = (lapack.spotrf, lapack.spotri) if single else (lapack.dpotrf, lapack.dpotri)
    with threadpool_limits(1):
        inverse, failed = factor(gram if single else gram.astype(np.float64), lower=1, overwrite_a=1)
        if not failed:
            inverse, failed = invert(inverse, lower=1, overwrite_c=1)
    if failed:
        raise ValueError("the weights differ too much in size for EASE: damp them, or raise the regularization")
    for start in range(0, len(inverse), _BLOCK):
        end = start + _BLOCK
        inverse[start:end, end:] = inverse[end:, start:end].T
        square = inverse[start:end, start:end]
        square[:] = np.tril(square) + np.tril(square, -1).T
    found: npt.NDArray[np.floating] = inverse
    return found


def _pruned(
    inverse: npt.NDArray[np.floating],
    scale: npt.NDArray[np.floating],
    neighbours: int,
    had: npt.NDArray[np.integer],
    items: int,
) -> sparse.csr_array:
    """The largest weights by amount towards each column, items x items; row and column i of `inverse` are item had[i]."""
    found = []
    for start in range(0, len(had), _BLOCK):
        # The inverse is symmetric: its columns are its rows, which lie together.
        towards = (inverse[:, start : start + _BLOCK].T / scale[start : start + _BLOCK, None]).astype(np.float32)
        amounts = np.abs(towards)
        if neighbours < len(had):
            least = np.partition(amounts, len(had) - neighbours, axis=1)[:, len(had) - neighbours, None]
            towards[amounts < least] = 0
        target, source = np.nonzero(towards)
        found.append((towards[target, source], had[source], had[target + start]))
    value, row, column = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return sparse.csr_array((value, (row, column)), shape=(items, items), dtype=np.float32)
