"""Figures of identity resolution as PNG bytes. They show weights and counts, never a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from ml.plots import ACCENT, INK, MAIN, MUTED, as_png, blank, entitle

if TYPE_CHECKING:
    from ml.identity.run import LevelWeight, ThresholdPoint

SIZES_MAX = 12
"""Customers with more records than this are drawn as one bar."""

BITS_MAX = 30
"""Match weight where the threshold curve ends: beyond it there is no doubt left."""


def match_weights(levels: Sequence[LevelWeight]) -> bytes:
    """What each level of each comparison says, in bits: to the right for one person, to the left for two."""
    positions, names, at = [], [], 0.0
    for comparison, group in groupby(levels, key=lambda level: level.comparison):
        names.append((at - 0.1, _words(comparison.removeprefix("id_"))))
        for _ in group:
            at += 1
            positions.append(at)
        at += 1.4
    weights = [level.weight for level in levels]
    reach = max([1.0, *map(abs, weights)])
    figure, axes = blank(10.0, 1.6 + 0.235 * at)
    axes.barh(positions, weights, height=0.78, color=[MAIN if weight >= 0 else ACCENT for weight in weights], zorder=3)
    axes.axvline(0, color=MUTED, linewidth=1, zorder=4)
    for position, weight in zip(positions, weights, strict=True):
        toward = 1 if weight >= 0 else -1
        axes.text(
            weight + toward * reach * 0.01,
            position,
            f"{weight:+.1f}",
            va="center",
            ha="left" if toward > 0 else "right",
            fontsize=9,
            color=INK,
        )
    axes.set_yticks(
        [*positions, *(position for position, _ in names)],
        [
            *(_words(level.level) if level.level != "else" else "different" for level in levels),
            *(name for _, name in names),
        ],
    )
    for label in axes.get_yticklabels()[len(positions) :]:
        label.set_fontweight("bold")
    axes.set_xlim(min([0.0, *weights]) - reach * 0.16, max([0.0, *weights]) + reach * 0.16)
    axes.set_ylim(at - 0.6, -1.0)
    axes.set_xlabel("Match weight (bits; each bit doubles the odds that two records are one person)")
    axes.yaxis.grid(False)
    axes.tick_params(axis="y", length=0, labelsize=9.5)
    # In points, not in shares of a height that grows with the model.
    axes.set_title("What agreement and difference say", loc="left", fontsize=13, fontweight="bold", color=INK, pad=26)
    axes.annotate(
        "by comparison, from most to least alike; rare values say more",
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 8),
        textcoords="offset points",
        fontsize=10,
        color=MUTED,
    )
    return as_png(figure)


def threshold_curve(points: Sequence[ThresholdPoint], threshold: float | None) -> bytes:
    """Precision, recall and F1 that the model expects of each threshold, with the one in use."""
    figure, axes = blank(9.0, 4.8)
    at = [point.threshold for point in points]
    for name, colour, style, values in (
        ("Precision", MAIN, "-", [point.precision for point in points]),
        ("Recall", ACCENT, "-", [point.recall for point in points]),
        ("F1", INK, "--", [point.f1 for point in points]),
    ):
        axes.plot(at, values, color=colour, linewidth=2, linestyle=style, label=name, zorder=3)
    if threshold is not None and at:
        axes.axvline(threshold, color=MUTED, linewidth=1.2, linestyle=":", zorder=2)
        in_use = min(points, key=lambda point: abs(point.threshold - threshold))
        axes.plot([threshold], [in_use.f1], marker="o", markersize=9, color=INK, zorder=4)
        axes.annotate(
            f"in use: {threshold:.1f} bits\nexpected precision {in_use.precision:.1%}, recall {in_use.recall:.1%}",
            (threshold, 0.06),
            xytext=(8, 0),
            textcoords="offset points",
            color=INK,
            fontsize=10,
        )
    axes.set_ylim(0, 1.04)
    if at:
        axes.set_xlim(at[0] - 0.5, max(at[0] + 1, min(at[-1], BITS_MAX)))
    axes.set_xlabel("Match weight from which two records are one person (bits)")
    axes.set_ylabel("Expected share (0 to 1)")
    if at:
        axes.legend(loc="center right", frameon=False, fontsize=10)
    pairs = max((point.pairs for point in points), default=0)
    entitle(
        axes,
        "Where to draw the line",
        f"by the model's own probabilities of {pairs:,} scored pairs, without labels; recall is of the matches among these",
    )
    return as_png(figure)


def cluster_sizes(sizes: Mapping[int, int]) -> bytes:
    """Customers by how many records they have.

    Args:
        sizes: customers by number of records.
    """
    drawn = {size: sizes.get(size, 0) for size in range(1, min(SIZES_MAX, max([4, *sizes])) + 1)}
    more = sum(count for size, count in sizes.items() if size > SIZES_MAX)
    labels = [*map(str, drawn), *([f"> {SIZES_MAX}"] if more else [])]
    counts = [*drawn.values(), *([more] if more else [])]
    figure, axes = blank(9.0, 4.4)
    axes.bar(range(len(labels)), counts, width=0.72, color=[MAIN] * len(drawn) + [ACCENT], zorder=3)
    for position, count in enumerate(counts):
        if count:
            axes.annotate(
                f"{count:,}",
                (position, count),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=9.5,
                color=INK,
            )
    # One large bar must not hide the few large customers. Nobody has no logarithm.
    if any(counts):
        axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.minorticks_off()
    axes.set_ylim(0.7, max([10, *counts]) * 2.5)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlabel("Records of one customer")
    axes.set_ylabel("Customers (logarithmic)")
    axes.xaxis.grid(False)
    customers, records = sum(sizes.values()), sum(size * count for size, count in sizes.items())
    largest = f", the largest of {max(sizes):,}" if sizes else ""
    entitle(axes, "Records by customer", f"{records:,} records are {customers:,} customers{largest}")
    return as_png(figure)


def _words(name: str) -> str:
    return name.replace("_", " ")
