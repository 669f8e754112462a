"""How small an effect of mail a segment of a given size can show, when some of it is held out.

Two independent proportions, normal approximation, two-sided (Fleiss, Levin and Paik, Statistical Methods for Rates and
Proportions, 3rd edition, section 4.2): the standard error is pooled under the null hypothesis and is not under the
alternative.
"""

from __future__ import annotations

from math import inf, sqrt
from statistics import NormalDist


def smallest_effect(
    members: int, base_rate: float, *, holdout_share: float = 0.5, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The smallest rise of a rate that an experiment in the segment would show.

    Args:
        members: customers in the segment, both arms together.
        base_rate: the rate without mail, 0 to 1.
        holdout_share: share that is held out.
        alpha: two-sided error of the first kind.
        power: probability of seeing the effect if it is there.

    Returns:
        The absolute difference of the two proportions; infinity where not even a rise to one would be seen.

    Raises:
        ValueError: a share or probability out of its range.
    """
    _check(members, holdout_share, alpha, power)
    if not 0 <= base_rate <= 1:
        raise ValueError(f"a rate lies within 0 and 1, {base_rate} does not")
    held = members * holdout_share
    mailed = members - held
    if held < 1 or mailed < 1:
        return inf
    null, alternative = NormalDist().inv_cdf(1 - alpha / 2), NormalDist().inv_cdf(power)

    def is_seen(effect: float) -> bool:
        higher = base_rate + effect
        pooled = (held * base_rate + mailed * higher) / members
        under_null = sqrt(pooled * (1 - pooled) * (1 / held + 1 / mailed))
        under_alternative = sqrt(base_rate * (1 - base_rate) / held + higher * (1 - higher) / mailed)
        return effect >= null * under_null + alternative * under_alternative

    low, high = 0.0, 1.0 - base_rate
    if high <= 0 or not is_seen(high):
        return inf
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if is_seen(middle) else (middle, high)
    return high


def smallest_mean_effect(
    members: int, variation: float, *, holdout_share: float = 0.5, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The smallest relative change of a mean, such as revenue per member, that an experiment would show.

    Args:
        members: customers in the segment, both arms together.
        variation: standard deviation divided by mean.
        holdout_share: share that is held out.
        alpha: two-sided error of the first kind.
        power: probability of seeing the effect if it is there.

    Returns:
        The change as a share of the mean; infinity where an arm would be empty.

    Raises:
        ValueError: a share or probability out of its range.
    """
    _check(members, holdout_share, alpha, power)
    if variation < 0:
        raise ValueError(f"a coefficient of variation is not negative, {variation} is")
    held = members * holdout_share
    mailed = members - held
    if held < 1 or mailed < 1:
        return inf
    normal = NormalDist()
    return (normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)) * variation * sqrt(1 / held + 1 / mailed)


def _check(members: int, holdout_share: float, alpha: float, power: float) -> None:
    if members < 0:
        raise ValueError(f"a segment has no {members} members")
    for name, value in (("holdout_share", holdout_share), ("alpha", alpha), ("power", power)):
        if not 0 < value < 1:
            raise ValueError(f"{name} lies between 0 and 1, {value} does not")
