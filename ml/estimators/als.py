"""ALS: matrix factorisation of implicit feedback, by the package `implicit`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from threadpoolctl import threadpool_limits

from ml.estimators.interactions import checked, learnable


class ALS(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Customers and items as vectors whose products say what is wanted (Hu, Koren and Volinsky 2008).

    Parameters:
        factors: length of the vectors.
        regularization: of the vectors' lengths.
        alpha: confidence gained by a weight of 1.
        iterations: alternations between customers and items.
        seed: of the first vectors.

    Attributes:
        item_factors_: items x factors.
        n_features_in_: number of items.
    """

    item_factors_: npt.NDArray[np.float32]
    n_features_in_: int

    def __init__(
        self,
        *,
        factors: int = 128,
        regularization: float = 20.0,
        alpha: float = 5.0,
        iterations: int = 10,
        seed: int = 20111210,
    ) -> None:
        self.factors = factors
        self.regularization = regularization
        self.alpha = alpha
        self.iterations = iterations
        self.seed = seed

    def fit(self, X: sparse.csr_array, y: None = None) -> ALS:
        """Alternate, on one thread: the sums of several differ in their last bits.

        Args:
            X: customers x items of weights.
            y: ignored, as scikit-learn passes it.
        """
        X = learnable(X)
        self.n_features_in_ = X.shape[1]
        # implicit calls BLAS for small matrices, where its threads wait for each other: many times slower.
        with threadpool_limits(1, user_api="blas"):
            self.model_ = self._model()
            self.model_.fit(sparse.csr_matrix(X), show_progress=False)
        self.item_factors_ = np.asarray(self.model_.item_factors)
        return self

    def predict(self, X: sparse.csr_array) -> npt.NDArray[np.float32]:
        """Products of the customers' vectors, solved for their weights, with the items', customers x items."""
        check_is_fitted(self)
        X = checked(X, items=self.n_features_in_)
        with threadpool_limits(1, user_api="blas"):
            vectors = self.model_.recalculate_user(np.arange(X.shape[0]), sparse.csr_matrix(X))
            scores: npt.NDArray[np.float32] = vectors @ self.item_factors_.T
        return scores

    def _model(self) -> Any:
        from implicit.cpu.als import AlternatingLeastSquares

        return AlternatingLeastSquares(
            factors=self.factors,
            regularization=self.regularization,
            alpha=self.alpha,
            iterations=self.iterations,
            random_state=self.seed,
            num_threads=1,
        )
