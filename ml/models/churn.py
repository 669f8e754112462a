"""Churn: no order in the next 180 days, among customers whose last order is recent enough to ask."""

from __future__ import annotations

from ml.classification import Classifier
from ml.classifiers import ClassifierModel

CHURN = ClassifierModel(
    Classifier(
        name="churn_180",
        question="Will this customer place no order in the next 180 days?",
        event="no order in 180 days",
        population="feat.is_churn_population",
        target="not outcome.bought",
        horizon_days=180,
    )
)
