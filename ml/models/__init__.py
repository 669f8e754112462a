"""The models, one file each: what is asked, of whom, from which features, and what it has to beat. No fitting here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.errors import ModelError

if TYPE_CHECKING:
    from ml.model import Model


def models() -> tuple[Model, ...]:
    """Every model, in the order in which they are trained and shown."""
    from ml.models.affinity import AFFINITY
    from ml.models.churn import CHURN
    from ml.models.clusters import CLUSTERS
    from ml.models.lifetime_value import LIFETIME_VALUE
    from ml.models.purchase import PURCHASE_30, PURCHASE_90
    from ml.models.send_time import SEND_TIME

    return (CLUSTERS, CHURN, PURCHASE_30, PURCHASE_90, LIFETIME_VALUE, AFFINITY, SEND_TIME)


def model_named(name: str) -> Model:
    """A model by its name.

    Raises:
        ModelError: there is none of that name.
    """
    for model in models():
        if model.name == name:
            return model
    raise ModelError(f"there is no model {name}: known are {', '.join(model.name for model in models())}")
