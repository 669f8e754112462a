"""Which version scores: a challenger becomes champion by itself only where it beats baseline and champion beyond noise."""

from __future__ import annotations

from dataclasses import dataclass

from ml.model import Contest


@dataclass(frozen=True)
class Decision:
    """Whether a challenger is promoted, and why, in a sentence."""

    promote: bool
    reason: str


def decide(
    baseline: Contest, champion: Contest | None, unusable: str | None = None, *, is_first: bool = False
) -> Decision:
    """Decide over a challenger.

    Args:
        baseline: the challenger against the baseline on the newest period.
        champion: the challenger against the champion on the same period; None where there is no champion, or where it
            can't be used.
        unusable: why the champion can't be used: its libraries, its file, a feature that is no more.
        is_first: nothing scores yet. What does not beat the baseline has the baseline's own estimator, which then scores
            until a model beats it.
    """
    if not baseline.beats and is_first:
        return Decision(True, f"the baseline itself scores, as the model does not beat it beyond noise: {baseline}")
    if not baseline.beats:
        return Decision(False, f"it does not beat the baseline beyond noise: {baseline}")
    if unusable is not None:
        return Decision(True, f"the champion can't be used ({unusable}), and it beats the baseline: {baseline}")
    if champion is None:
        return Decision(True, f"it beats the baseline, and there is no champion yet: {baseline}")
    if not champion.beats:
        return Decision(False, f"it does not beat the champion beyond noise: {champion}")
    return Decision(True, f"it beats the champion and the baseline: {champion}; {baseline}")
