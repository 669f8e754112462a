"""How good expected spend is: against what customers spent afterwards, in rank, in total and by tenths.

Arrays in, figures out; all of shape (customers,). A few buyers spend as much as hundreds of others, and an R2 of their
bare amounts is an R2 of these few. The one that decides is winsorised: what was spent and what was predicted both count
as the `WINSORISED` quantile of what was spent, where they are above, and as 0 below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ml.evaluation import RESAMPLES, SEED
from ml.model import Contest, Refused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

WINSORISED = 0.99
TENTHS = 10
NEARLY_AS_GOOD = 0.01  # R2 by which a better calibrated method may be worse


@dataclass(frozen=True)
class Tenth:
    """A tenth of the customers by what was predicted, the least first: means per customer."""

    customers: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class Holdout:
    """How a method did on customers whose outcome came after all that it had learned.

    Attributes:
        r2: of spend, winsorised: share of the variance that is explained; below 0 the mean would have done better.
        r2_raw: of spend as it was.
        r2_orders: of orders.
        correlation: Pearson's, of winsorised spend.
        bias: predicted over observed spend of all, less 1.
        calibration: mean distance of predicted from observed over the tenths, over the mean observed; 0 is perfect.
        error: mean absolute error of spend.
    """

    horizon_days: int
    method: str
    customers: int
    r2: float
    r2_raw: float
    r2_orders: float
    correlation: float
    bias: float
    calibration: float
    error: float
    tenths: tuple[Tenth, ...]


def judge(
    method: str, horizon_days: int, orders: Floats, spend: Floats, expected_orders: Floats, expected_spend: Floats
) -> Holdout:
    """Judge a method.

    Args:
        orders, spend: what customers did.
        expected_orders, expected_spend: what was predicted.

    Raises:
        Refused: all customers spent alike, so that there is nothing to tell apart.
    """
    import numpy as np

    held, predicted = winsorised(spend, expected_spend)
    if not np.ptp(held) > 0 or not spend.sum() > 0:
        raise Refused(
            f"{len(spend):,} customers spent alike in the {horizon_days} days that are judged: nothing to predict"
        )
    tenths = by_tenth(spend, expected_spend)
    gaps = sum(tenth.customers * abs(tenth.predicted - tenth.observed) for tenth in tenths)
    varied = np.ptp(predicted) > 0
    return Holdout(
        horizon_days=horizon_days,
        method=method,
        customers=len(spend),
        r2=_r2(held, predicted),
        r2_raw=_r2(spend, expected_spend),
        r2_orders=_r2(orders, expected_orders) if np.ptp(orders) > 0 else 0.0,
        correlation=float(np.corrcoef(held, predicted)[0, 1]) if varied else 0.0,
        bias=float(expected_spend.sum() / spend.sum() - 1),
        calibration=float(gaps / spend.sum()),
        error=float(np.abs(spend - expected_spend).mean()),
        tenths=tenths,
    )


def best(holdouts: Sequence[Holdout]) -> Holdout:
    """The one with the highest R2; of those within `NEARLY_AS_GOOD` of it, the least biased in total and by tenths."""
    top = max(holdout.r2 for holdout in holdouts)
    near = [holdout for holdout in holdouts if holdout.r2 >= top - NEARLY_AS_GOOD]
    return min(near, key=lambda holdout: (abs(holdout.bias) + holdout.calibration, holdout.method))


def contest(spend: Floats, model: Floats, other: Floats, horizon_days: int) -> Contest:
    """Two predictions of the same customers, by winsorised R2 over resamples that draw the same customers for both."""
    import numpy as np

    held, mine = winsorised(spend, model)
    _, theirs = winsorised(spend, other)
    generator = np.random.default_rng(SEED)
    of_mine, of_theirs = (held - mine) ** 2, (held - theirs) ** 2
    gains = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        weight = np.bincount(generator.integers(0, len(held), len(held)), minlength=len(held)).astype(float)
        spread = weight @ held**2 - (weight @ held) ** 2 / len(held)
        gains[number] = (weight @ of_theirs - weight @ of_mine) / spread if spread > 0 else 0.0
    low, high = np.quantile(gains, [0.025, 0.975])
    return Contest(
        f"R2 of spend in {horizon_days} days, winsorised", _r2(held, mine), _r2(held, theirs), float(low), float(high)
    )


def winsorised(spend: Floats, expected: Floats) -> tuple[Floats, Floats]:
    """Spend and prediction, held between 0 and the `WINSORISED` quantile of spend.

    Where so few spent that this is 0, of the spend of those who did.
    """
    import numpy as np

    limit = np.quantile(spend, WINSORISED)
    if not limit > 0 and (spend > 0).any():
        limit = np.quantile(spend[spend > 0], WINSORISED)
    return np.clip(spend, 0, limit), np.clip(expected, 0, limit)


def by_tenth(spend: Floats, expected: Floats) -> tuple[Tenth, ...]:
    """Predicted against observed by tenths of the customers, in order of what was predicted."""
    import numpy as np

    order = np.argsort(expected, kind="stable")
    return tuple(
        Tenth(len(rows), float(expected[rows].mean()), float(spend[rows].mean()))
        for rows in np.array_split(order, TENTHS)
        if len(rows)
    )


def covered(spend: Floats, low: Floats, high: Floats) -> float:
    """Share of customers whose spend, 0 if they brought back more than they bought, lies within their interval."""
    import numpy as np

    held = np.maximum(spend, 0.0)
    return float(((held >= low) & (held <= high)).mean())


def _r2(observed: Floats, predicted: Floats) -> float:
    return float(1 - ((observed - predicted) ** 2).sum() / ((observed - observed.mean()) ** 2).sum())
