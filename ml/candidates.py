"""What a classifier may be: logistic regression, random forest, gradient boosting, and the calibration around each.

Every candidate is one pipeline that learns its medians, scales and cut points in training only. Fitting the same rows
twice gives the same model to the last bit, on one number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from ml.features import signed_log

SEED = 20111210
CANDIDATES = ("logistic", "boosting", "forest")
"""In order of simplicity: of equally good ones the first is taken."""


@contextmanager
def threads(count: int = 1) -> Iterator[None]:
    """Compute on so many threads: sums over several differ in their last bits from one number of threads to another."""
    with threadpool_limits(limits=count):
        yield


def make(name: str) -> Pipeline:
    """An unfitted pipeline of that name.

    Raises:
        ValueError: no candidate has that name.
    """
    # Keeping features that are null throughout a fold, the columns that come out are known before fitting.
    impute = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    if name == "logistic":
        tame = FunctionTransformer(signed_log, feature_names_out="one-to-one")
        return Pipeline(
            [
                ("impute", impute),
                ("tame", tame),
                ("scale", StandardScaler()),
                ("classify", LogisticRegression(C=0.1, max_iter=2000)),
            ]
        )
    if name == "forest":
        # 100 trees of half of the rows took three times as long on Online Retail II, for .001 to .003 AUC.
        forest = RandomForestClassifier(
            60, min_samples_leaf=20, max_leaf_nodes=256, max_samples=0.35, random_state=SEED
        )
        return Pipeline([("impute", impute), ("classify", forest)])
    if name == "boosting":
        # At most 16 leaves: reasons follow the leaves in bit masks of 16.
        boosting = HistGradientBoostingClassifier(
            learning_rate=0.12,
            max_iter=80,
            max_leaf_nodes=15,
            min_samples_leaf=60,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=SEED,
        )
        return Pipeline([("classify", boosting)])
    raise ValueError(f"no candidate is called {name!r}: there are {', '.join(CANDIDATES)}")


class GroupCalibratedClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier whose probabilities are corrected by what it predicted for customers that it had not learned from.

    Each row is predicted by a clone fitted without its group. A calibration learned from those predictions then corrects
    the estimator fitted on all rows (as CalibratedClassifierCV with ensemble=False, whose folds know no groups at fit, and
    which cannot calibrate on a part of the rows).

    Parameters:
        estimator: a pipeline with `predict_proba`; None for the logistic candidate.
        method: sigmoid (Platt 1999, on log-odds) or isotonic (Zadrozny and Elkan 2002).
        folds: how many parts the groups are divided into.

    Attributes:
        estimator_: fitted on all rows.
        calibrator_: maps log-odds to probability.
        classes_: the two classes; the second is the one asked for.
    """

    def __init__(self, estimator: Any = None, *, method: str = "sigmoid", folds: int = 3) -> None:
        self.estimator = estimator
        self.method = method
        self.folds = folds

    def fit(self, X: Any, y: Any, groups: Any = None, calibrating: Any = None) -> Self:
        """Fit.

        Args:
            X: shape (rows, features); missing values are NaN.
            y: two classes, shape (rows,).
            groups: rows of one group are never on both sides of a fold; without, each row is its own.
            calibrating: which rows the calibration learns from, boolean of shape (rows,); all by default.

        Raises:
            ValueError: there are not two classes, or an unknown method.
        """
        X, y = validate_data(self, X, y, dtype=float, ensure_all_finite="allow-nan")
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("two classes are needed, not one class")
        if len(self.classes_) > 2:
            raise ValueError(f"Only binary classification is supported. There are {len(self.classes_)} classes.")
        held_out = self.held_out(X, codes, groups)
        self.estimator_ = clone(self._base()).fit(X, codes)
        chosen = np.ones(len(codes), dtype=bool) if calibrating is None else np.asarray(calibrating, dtype=bool)
        self.calibrator_ = make_calibrator(self.method, held_out[chosen], codes[chosen])
        return self

    def held_out(self, X: np.ndarray, codes: np.ndarray, groups: Any = None) -> np.ndarray:
        """Log-odds of each row by a clone that knew nothing of its group; shape (rows,)."""
        if groups is None:
            parts = StratifiedKFold(self.folds).split(X, codes)
        else:
            parts = GroupKFold(self.folds).split(X, codes, groups)
        odds = np.empty(len(codes))
        for learned, held in parts:
            if len(np.unique(codes[learned])) < 2:
                raise ValueError("a fold has a single class: too few rows of two classes")
            odds[held] = log_odds(clone(self._base()).fit(X[learned], codes[learned]).predict_proba(X[held])[:, 1])
        return odds

    def predict_proba(self, X: Any) -> np.ndarray:
        """Calibrated probabilities, shape (rows, 2)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=float, ensure_all_finite="allow-nan", reset=False)
        positive = self.calibrator_.predict(log_odds(self.estimator_.predict_proba(X)[:, 1]))
        return np.column_stack([1 - positive, positive])

    def predict(self, X: Any) -> np.ndarray:
        """The likelier class, shape (rows,)."""
        probabilities = self.predict_proba(X)
        likelier: np.ndarray = self.classes_[(probabilities[:, 1] > 0.5).astype(int)]
        return likelier

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.classifier_tags.multi_class = False
        return tags

    def _base(self) -> Any:
        return make("logistic") if self.estimator is None else self.estimator


class Sigmoid:
    """Calibration by a logistic curve over log-odds: keeps the ranking."""

    def __init__(self, odds: np.ndarray, outcome: np.ndarray) -> None:
        fitted = LogisticRegression(C=1e6, max_iter=1000).fit(odds[:, None], outcome)
        # Held above 0: a calibration corrects how sure a model is, never which way it points.
        self.slope = max(float(fitted.coef_[0, 0]), 1e-3)
        self.intercept = float(fitted.intercept_[0])

    def predict(self, odds: np.ndarray) -> np.ndarray:
        """Probabilities of log-odds, shape (rows,)."""
        probabilities: np.ndarray = 1 / (1 + np.exp(-(self.intercept + self.slope * odds)))
        return probabilities


class Isotonic:
    """Calibration by a rising step function: any shape, for many rows; may make scores equal."""

    def __init__(self, odds: np.ndarray, outcome: np.ndarray) -> None:
        # Never 0 or 1: so many rows do not prove that something cannot happen.
        least = 1 / (len(outcome) + 2)
        self.steps = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(odds, outcome)

    def predict(self, odds: np.ndarray) -> np.ndarray:
        """Probabilities of log-odds, shape (rows,)."""
        probabilities: np.ndarray = self.steps.predict(odds)
        return probabilities


METHODS: dict[str, type[Sigmoid | Isotonic]] = {"sigmoid": Sigmoid, "isotonic": Isotonic}


def make_calibrator(method: str, odds: np.ndarray, outcome: np.ndarray) -> Sigmoid | Isotonic:
    """Learn how log-odds become probabilities.

    Raises:
        ValueError: unknown method, or outcomes are all alike.
    """
    if method not in METHODS:
        raise ValueError(f"no calibration is called {method!r}: there are {', '.join(METHODS)}")
    if len(np.unique(outcome)) < 2:
        raise ValueError("calibration needs both outcomes: two classes")
    return METHODS[method](odds, outcome)


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)), p held within [1e-6, 1 - 1e-6]."""
    held = np.clip(probabilities, 1e-6, 1 - 1e-6)
    odds: np.ndarray = np.log(held / (1 - held))
    return odds
