"""Figures of models of a yes or no: ranking, calibration, reasons and scores, each beside the baseline or perfection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ml.plots import ACCENT, DRAWN_MIN, GRID, INK, MAIN, MUTED, as_png, blank, entitle

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from ml.evaluation import Comparison, Month

_POINTS = 400  # a curve is drawn through so many of its points at most


def roc(outcome: np.ndarray, model: np.ndarray, baseline: np.ndarray, comparison: Comparison, event: str) -> bytes:
    """Share of customers with the outcome that are found, by share of the others that are taken for such.

    Args:
        outcome: boolean, shape (customers,).
        model: probabilities of it, and
        baseline: those by the baseline.
        event: the outcome in words.
    """
    figure, axes = blank(7.6, 6.6)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--", zorder=1)
    _note(axes, "by chance", (0.6, 0.6))
    for scores, judged, name, colour in (
        (baseline, comparison.baseline, "Baseline", ACCENT),
        (model, comparison.model, "Model", MAIN),
    ):
        false, true = _rates(outcome, scores)
        said = f"{name}: AUC {judged.auc.value:.3f} [{judged.auc.low:.3f}, {judged.auc.high:.3f}]"
        axes.plot(false, true, color=colour, linewidth=2, label=said, zorder=3)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.01)
    axes.set_xlabel(f"Share of those without the outcome who score as high ({event})")
    axes.set_ylabel("Share of those with the outcome who do")
    axes.legend(loc="lower right", frameon=False, fontsize=10)
    gain = comparison.gain
    verdict = (
        "The model ranks better than its baseline" if gain.low > 0 else "The model ranks no better than its baseline"
    )
    entitle(
        axes,
        f"{verdict}: {gain.value:+.3f} AUC",
        f"{len(outcome):,} customers, all later than training; gain {gain.low:+.3f} to {gain.high:+.3f} in 95 % of resamples",
    )
    return as_png(figure)


def gains(outcome: np.ndarray, model: np.ndarray, baseline: np.ndarray, comparison: Comparison, event: str) -> bytes:
    """Share of the outcome that is reached by share of customers, taken from the highest score down."""
    import numpy as np

    figure, axes = blank(7.6, 6.6)
    share = np.linspace(0, 1, _POINTS)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--", zorder=1)
    _note(axes, "by chance", (0.6, 0.6))
    axes.plot(share, np.minimum(share / outcome.mean(), 1), color=MUTED, linewidth=1, linestyle=":", zorder=1)
    _note(axes, "perfect", (min(0.92, float(outcome.mean())), 0.97))
    for scores, name, colour in ((baseline, "Baseline", ACCENT), (model, "Model", MAIN)):
        found = np.concatenate([[0.0], np.cumsum(outcome[np.argsort(-scores, kind="stable")])]) / outcome.sum()
        reached = np.interp(share * len(outcome), np.arange(len(found)), found)
        axes.plot(share, reached, color=colour, linewidth=2, label=name, zorder=3)
    axes.axvline(0.1, color=GRID, linewidth=2, zorder=2)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.01)
    axes.set_xlabel("Share of customers, highest score first")
    axes.set_ylabel(f"Share of all with the outcome ({event})")
    axes.legend(loc="lower right", frameon=False, fontsize=10)
    lift, other = comparison.model.lift, comparison.baseline.lift
    entitle(
        axes,
        f"The top tenth holds {lift.value:.1f} times as many as a tenth by chance",
        f"{lift.ceiling:.1f} times would be perfect, {other.value:.1f} times by the baseline; {len(outcome):,} customers",
    )
    return as_png(figure)


def reliability(comparison: Comparison, event: str) -> bytes:
    """Predicted against observed by tenths of probability, the baseline beside the model."""
    figure, axes = blank(9.0, 6.0)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--", zorder=1)
    _note(axes, "exact", (0.94, 0.94))
    customers = comparison.model.customers
    for judged, name, colour, marker in (
        (comparison.baseline, "Baseline", ACCENT, "s"),
        (comparison.model, "Model", MAIN, "o"),
    ):
        drawn = [row for row in judged.calibration.reliability if row.customers >= DRAWN_MIN]
        predicted, observed = [row.predicted for row in drawn], [row.observed for row in drawn]
        axes.plot(predicted, observed, color=colour, linewidth=1.5, alpha=0.7, zorder=2)
        axes.scatter(
            predicted,
            observed,
            s=[12 + 340 * row.customers / max(1, customers) for row in drawn],
            color=colour,
            marker=marker,
            zorder=3,
            edgecolor="white",
            label=f"{name}: ECE {judged.calibration.ece:.3f}, slope {judged.calibration.slope:.2f}, Brier {judged.brier:.3f}",
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel(f"Predicted probability of {event}")
    axes.set_ylabel("Share of customers for whom it came true")
    axes.legend(loc="upper left", frameon=False, fontsize=10)
    calibration = comparison.model.calibration
    entitle(
        axes,
        f"Predicted and observed lie {100 * calibration.ece:.1f} points apart on average",
        f"{100 * calibration.perfect_ece.value:.1f} points would show in a perfect model of {customers:,} customers;"
        " area = customers",
    )
    return as_png(figure)


def importance(shares: Sequence[tuple[str, float]], event: str, most: int = 12) -> bytes:
    """What decided customers' scores: share of customers by their strongest reason.

    Args:
        shares: (feature in words, share), the largest first.
    """
    drawn = [(name, share) for name, share in shares if share > 0][:most]
    figure, axes = blank(9.0, 2.6 + 0.36 * len(drawn))
    positions = range(len(drawn))
    axes.barh(positions, [share for _, share in drawn], color=MAIN, height=0.66, zorder=3)
    for position, (_, share) in enumerate(drawn):
        axes.text(share, position, f" {share:.0%}", va="center", color=INK, fontsize=10)
    axes.set_yticks(positions, [name for name, _ in drawn])
    axes.invert_yaxis()
    axes.set_xlim(0, max((share for _, share in drawn), default=1.0) * 1.15)
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_xlabel("Share of customers whose strongest reason it is")
    axes.yaxis.grid(False)
    axes.tick_params(axis="y", length=0)
    first = f"The strongest reason, most often: {drawn[0][0]}" if drawn else "No feature moves a score"
    entitle(axes, first, f"probability of {event}; a reason explains a score and is no cause")
    return as_png(figure)


def score_distribution(scores: np.ndarray, event: str, threshold: float = 0.7) -> bytes:
    """Customers by probability, those above `threshold` apart.

    Args:
        scores: probabilities, one per customer.
    """
    import numpy as np

    figure, axes = blank(9.0, 4.4)
    counts, edges = np.histogram(scores, bins=np.linspace(0, 1, 21))
    above = edges[:-1] >= threshold - 1e-9
    axes.bar(edges[:-1], counts, width=0.046, align="edge", color=np.where(above, ACCENT, MAIN), zorder=3)
    share = float(np.mean(np.asarray(scores) > threshold)) if len(scores) else 0.0
    axes.set_xlim(0, 1)
    axes.margins(y=0.1)
    axes.set_xlabel(f"Predicted probability of {event}")
    axes.set_ylabel("Customers")
    axes.xaxis.grid(False)
    entitle(
        axes,
        f"{share:.1%} of customers score above {threshold:.0%}",
        f"{len(scores):,} customers scored; orange: above {threshold:.0%}",
    )
    return as_png(figure)


def calibration_by_month(months: Sequence[Month], event: str) -> bytes:
    """What was predicted and what came true, by month of the scores; the bar is what chance allows.

    Args:
        months: in order of time.
    """
    figure, axes = blank(9.0, 4.8)
    positions = range(len(months))
    axes.errorbar(
        positions,
        [month.predicted for month in months],
        yerr=[month.margin for month in months],
        color=MAIN,
        marker="o",
        linewidth=1.5,
        capsize=4,
        label="Predicted, with 95 % of chance",
        zorder=3,
    )
    axes.plot(
        positions,
        [month.observed for month in months],
        color=ACCENT,
        marker="s",
        linewidth=1.5,
        label="Came true",
        zorder=4,
    )
    axes.set_xticks(positions, [f"{month.month}\n{month.customers:,}" for month in months])
    axes.set_xlim(-0.5, max(len(months), 1) - 0.5)
    axes.set_ylim(bottom=0)
    axes.margins(y=0.2)
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.set_xlabel("Month of the scores, and customers judged")
    axes.set_ylabel(f"Share with {event}")
    axes.legend(loc="best", frameon=False, fontsize=10)
    last = months[-1] if months else None
    gap = f"{100 * abs(last.observed - last.predicted):.1f} points apart" if last else "not known yet"
    entitle(
        axes,
        f"Predicted and observed of the newest month: {gap}",
        f"{sum(month.customers for month in months):,} scores whose outcome is known",
    )
    return as_png(figure)


def _rates(outcome: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rate, from the highest score down, one point per distinct score."""
    import numpy as np

    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.concatenate([np.diff(scores[order]) != 0, [True]]))
    if len(last) > _POINTS:
        last = last[np.unique(np.linspace(0, len(last) - 1, _POINTS).astype(int))]
    true = np.cumsum(outcome[order])[last] / outcome.sum()
    false = np.cumsum(~outcome[order])[last] / (~outcome).sum()
    return np.concatenate([[0.0], false]), np.concatenate([[0.0], true])


def _note(axes: Axes, text: str, at: tuple[float, float]) -> None:
    said: Any = {"textcoords": "offset points", "ha": "right", "color": MUTED, "fontsize": 9}
    axes.annotate(text, at, xytext=(-6, 6), **said)
