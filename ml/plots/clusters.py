"""Figures of clusters: what they are like, why these, how large and how sure, and who moved between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ml.clustering import STABLE
from ml.plots import ACCENT, INK, MAIN, MUTED, as_png, blank, entitle, ramp, short

if TYPE_CHECKING:
    from ml.clustering import Candidate
    from ml.clusters import Cluster, Movement

_LABELS = {
    "recency_days": "Days since order",
    "frequency": "Order dates",
    "monetary": "Monetary value",
    "average_order_value": "Basket",
    "mean_gap_days": "Days between orders",
    "returns_365": "Returns, 365 d",
    "sessions_90": "Visits, 90 d",
    "product_views_90": "Product views, 90 d",
    "carts_90": "Carts, 90 d",
    "clicks_90": "Clicks, 90 d",
}
_MARKERS = {"K-Means": ("o", MAIN), "Ward": ("s", ACCENT), "HDBSCAN": ("^", MUTED)}


def profiles(clusters: Sequence[Cluster], currency: str = "reporting currency") -> bytes:
    """Medians of each cluster by feature, coloured against the other clusters. Money is in `currency`."""
    import numpy as np

    names = [name for name in _LABELS if any(name in cluster.medians for cluster in clusters)]
    values = np.array([[cluster.medians.get(name, np.nan) for name in names] for cluster in clusters])
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    shades = (values - low) / np.where(high > low, high - low, 1.0)
    figure, axes = blank(11.0, 1.9 + 0.5 * len(clusters))
    axes.imshow(shades, cmap=ramp(), aspect="auto", vmin=0, vmax=1.15)
    for row, column in np.ndindex(*values.shape):
        shown = "–" if np.isnan(values[row, column]) else short(float(values[row, column]))
        colour = "white" if shades[row, column] > 0.6 else INK
        axes.text(column, row, shown, ha="center", va="center", fontsize=10, color=colour)
    axes.set_xticks(range(len(names)), [_LABELS[name].replace(" ", "\n", 1) for name in names])
    total = max(1, sum(cluster.customers for cluster in clusters))
    axes.set_yticks(
        range(len(clusters)),
        [f"{cluster.number}  {cluster.name}\n{cluster.customers / total:.0%} of customers" for cluster in clusters],
    )
    axes.xaxis.set_ticks_position("top")
    axes.tick_params(length=0, labelsize=9.5)
    axes.grid(False)
    largest = max(clusters, key=lambda cluster: cluster.customers)
    figure.suptitle(
        f"{largest.customers / total:.0%} of customers are {largest.name}\n",
        x=0.01,
        ha="left",
        fontsize=13,
        fontweight="bold",
        color=INK,
    )
    said = (
        f"\nmedians of {len(clusters)} clusters by feature, money in {currency}; darker = higher than in other clusters"
    )
    figure.text(0.01, 0.985, said, va="top", fontsize=10, color=MUTED)
    return as_png(figure)


def choice(candidates: Sequence[Candidate], chosen: Candidate) -> bytes:
    """Silhouette and the weakest cluster's Jaccard index by number of clusters, for each algorithm."""
    figure, (left, right) = blank(10.0, 4.6, columns=2)
    drawn = [candidate for candidate in candidates if candidate.found > 1]
    for axes, label, figure_of in (
        (left, "Mean silhouette (-1 to 1)", "silhouette"),
        (right, "Jaccard index of the weakest cluster (0 to 1)", "weakest"),
    ):
        for method, (marker, colour) in _MARKERS.items():
            mine = sorted((one for one in drawn if one.setting.method == method), key=lambda one: one.found)
            if not mine:
                continue
            line = "none" if method == "HDBSCAN" else "-"
            xs, ys = [one.found for one in mine], [getattr(one, figure_of) for one in mine]
            axes.plot(xs, ys, color=colour, linestyle=line, linewidth=2, marker=marker, label=method, zorder=3)
        axes.plot(
            chosen.found, getattr(chosen, figure_of), marker="o", markersize=15, markerfacecolor="none", markeredgecolor=INK,
            markeredgewidth=1.6, linestyle="none", label="chosen", zorder=4,
        )  # fmt: skip
        axes.set_xlabel("Number of clusters")
        axes.set_ylabel(label)
        axes.set_xticks(sorted({one.found for one in drawn}))
        axes.margins(y=0.2)
    right.axhline(STABLE, color=MUTED, linewidth=1, linestyle="--")
    right.text(
        0.995, STABLE, "asked ", transform=right.get_yaxis_transform(), ha="right", va="bottom", color=MUTED, fontsize=9
    )
    right.set_ylim(0, 1.08)
    left.legend(loc="best", frameon=False, fontsize=9.5)
    entitle(
        left,
        f"Chosen: {chosen.setting} clusters" if chosen.setting.groups else f"Chosen: {chosen.setting}",
        "how well separated: higher is better",
    )
    entitle(right, "", "and whether every cluster comes again on resampled customers")
    return as_png(figure)


def sizes(clusters: Sequence[Cluster]) -> bytes:
    """Customers by cluster, and how alike each comes out on resampled customers."""
    figure, (left, right) = blank(11.0, 1.8 + 0.42 * len(clusters), columns=2)
    positions = range(len(clusters))
    counts = [cluster.customers for cluster in clusters]
    total, most = max(1, sum(counts)), max(1, *counts)
    left.barh(positions, counts, color=MAIN, height=0.62, zorder=3)
    for position, count in enumerate(counts):
        left.text(
            count + most * 0.015, position, f"{count:,}  ({count / total:.0%})", va="center", color=INK, fontsize=10
        )
    left.set_xlim(0, most * 1.3)
    left.set_yticks(positions, [f"{cluster.number}  {cluster.name}" for cluster in clusters])
    left.set_xlabel("Customers")
    colours = [ACCENT if cluster.is_weak else MAIN for cluster in clusters]
    right.barh(positions, [cluster.jaccard for cluster in clusters], color=colours, height=0.62, zorder=3)
    right.axvline(STABLE, color=MUTED, linewidth=1, linestyle="--", zorder=4)
    for position, cluster in enumerate(clusters):
        right.text(cluster.jaccard + 0.015, position, f"{cluster.jaccard:.2f}", va="center", color=INK, fontsize=10)
    right.set_xlim(0, 1.12)
    right.set_yticks(positions, [""] * len(clusters))
    right.set_xlabel(f"Jaccard index on resampled customers ({STABLE} asked)")
    for axes in (left, right):
        axes.invert_yaxis()
        axes.yaxis.grid(False)
        axes.tick_params(axis="y", length=0)
    weak = sum(cluster.is_weak for cluster in clusters)
    found = "all come out again on resampled customers" if not weak else f"{weak} of them weak (orange)"
    entitle(left, f"{total:,} customers in {len(clusters)} clusters; {found}", "how large")
    entitle(right, "", "how sure")
    return as_png(figure)


def movement(moved: Movement) -> bytes:
    """Customers by cluster before (rows) and now (columns), coloured by the share of the row."""
    import numpy as np

    rows = sorted({before for before, _ in moved.counts}, key=_number)
    columns = sorted({now for _, now in moved.counts}, key=_number)
    grid = np.array([[moved.counts.get((before, now), 0) for now in columns] for before in rows])
    shares = grid / np.maximum(grid.sum(axis=1, keepdims=True), 1)
    figure, axes = blank(max(9.0, 4.5 + 0.85 * len(columns)), 3.0 + 0.5 * len(rows))
    axes.imshow(shares, cmap=ramp(), aspect="auto", vmin=0, vmax=1.15)
    for row, column in np.ndindex(*grid.shape):
        if grid[row, column]:
            colour = "white" if shares[row, column] > 0.6 else INK
            axes.text(column, row, f"{grid[row, column]:,}", ha="center", va="center", fontsize=10, color=colour)
    axes.set_xticks(range(len(columns)), columns, rotation=35, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("Cluster now")
    axes.set_ylabel(f"Cluster on {moved.as_of:%Y-%m-%d}")
    axes.grid(False)
    axes.tick_params(length=0)
    entitle(
        axes,
        f"{moved.moved / max(1, moved.customers):.0%} of customers are in another cluster than before",
        f"{moved.customers:,} customers scored both times, {moved.moved:,} moved; colour = share of the row",
    )
    return as_png(figure)


def _number(said: str) -> int:
    return int(said.split(" ", 1)[0])
