"""Figures of recommendations: how good they are beside the baselines, and how they spread over products."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ml.plots import ACCENT, INK, LIGHT, MAIN, MUTED, as_png, blank, entitle

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_PANELS = (
    (("recall", "all"), "Recall@20, all products"),
    (("ndcg", "all"), "NDCG@20, all products"),
    (("recall", "new"), "Recall@20, products new to the customer"),
    (("ndcg", "new"), "NDCG@20, products new to the customer"),
)


def methods(
    intervals: Mapping[str, Mapping[tuple[str, str], tuple[float, float, float]]], best: str, days: int
) -> bytes:
    """Recall and NDCG of each method, with the 95 % of resamples of customers.

    Args:
        intervals: mean, low and high by method and (metric, over which products); the first method is ours.
        best: the baseline that has to be beaten.
        days: that were held out.
    """
    ours = next(iter(intervals))
    figure, panels = blank(13.0, 1.6 + 0.5 * len(intervals), columns=len(_PANELS))
    for axes, (measure, title) in zip(panels, _PANELS, strict=True):
        figures = [by[measure] for by in intervals.values()]
        colours = [MAIN if name == ours else LIGHT for name in intervals]
        axes.barh(range(len(figures)), [mean for mean, _, _ in figures], color=colours, height=0.62, zorder=3)
        for place, (mean, low, high) in enumerate(figures):
            axes.plot([low, high], [place, place], color=INK, linewidth=1.4, zorder=4)
            axes.annotate(
                f"{mean:.3f}", (high, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9.5
            )
        shown = [f"{name}\n(to beat)" if name == best else name for name in intervals]
        axes.set_yticks(range(len(figures)), shown if axes is panels[0] else [""] * len(figures))
        axes.invert_yaxis()
        axes.yaxis.grid(False)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, max(0.01, max(high for _, _, high in figures)) * 1.28)
        axes.set_xlabel(title, fontsize=9.5)
        axes.locator_params(axis="x", nbins=4)
    gain = intervals[ours]["ndcg", "all"][0] - intervals[best]["ndcg", "all"][0]
    verdict = f"{abs(gain):.3f} {'more' if gain >= 0 else 'less'} NDCG@20 than {best}"
    figure.suptitle(
        f"Recommendations: {verdict} over {days} held-out days; lines are 95 % of resamples of customers",
        x=0.01,
        ha="left",
        fontsize=13,
        fontweight="bold",
        color=INK,
    )
    return as_png(figure)


def concentration(on_lists: npt.NDArray[np.int64], customers: int) -> bytes:
    """Share of all recommendations that falls to the most recommended products.

    Args:
        on_lists: lists that hold each product which may be on one.
        customers: how many lists there are.
    """
    import numpy as np

    ordered = np.sort(on_lists)[::-1]
    total = max(int(ordered.sum()), 1)
    share = np.concatenate([[0.0], np.cumsum(ordered) / total])
    products = np.linspace(0, 1, len(share))
    used = int((ordered > 0).sum())
    tenth = share[int(np.ceil(0.1 * len(ordered)))] if len(ordered) else 0.0
    figure, axes = blank(9.0, 5.2)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
    axes.annotate("all alike", (0.9, 0.9), xytext=(4, -12), textcoords="offset points", color=MUTED, fontsize=9)
    axes.plot(products, share, color=MAIN, linewidth=2.2, zorder=3)
    axes.plot(0.1, tenth, marker="o", markersize=8, color=ACCENT, zorder=4)
    axes.annotate(
        f"a tenth of the products: {tenth:.0%}", (0.1, tenth), xytext=(12, -4), textcoords="offset points", color=ACCENT
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("Share of the products that can be recommended, the most recommended first")
    axes.set_ylabel("Share of all recommendations")
    entitle(
        axes,
        f"A tenth of the products takes {tenth:.0%} of the recommendations",
        f"{used:,} of {len(ordered):,} products are on the lists of {customers:,} customers",
    )
    return as_png(figure)
