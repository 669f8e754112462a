"""Purchase propensity: an order within 30 or 90 days, among all who ever ordered."""

from __future__ import annotations

from ml.classification import Classifier
from ml.classifiers import ClassifierModel

PURCHASE_30 = ClassifierModel(
    Classifier(
        name="purchase_30",
        question="Will this customer order within 30 days?",
        event="an order within 30 days",
        population="feat.order_days > 0",
        target="outcome.bought",
        horizon_days=30,
    )
)

PURCHASE_90 = ClassifierModel(
    Classifier(
        name="purchase_90",
        question="Will this customer order within 90 days?",
        event="an order within 90 days",
        population="feat.order_days > 0",
        target="outcome.bought",
        horizon_days=90,
    )
)
