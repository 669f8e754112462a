"""Figures as PNG bytes, for the metadata of Dagster's assets. They show counts and means, never a person."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f2933"
MUTED = "#7b8794"
GRID = "#e4e7eb"
MAIN = "#0b7285"
ACCENT = "#e8590c"
LIGHT = "#99d0da"
DRAWN_MIN = 10  # customers: the share among fewer is noise

# Lifecycle stages, the liveliest first; those of one number are as lively as each other.
_LIVELINESS = {
    "active": 0,
    "re_engaged": 0,
    "onboarding": 0,
    "lapsing": 1,
    "one_time_lapsed": 1,
    "dormant": 2,
    "lost": 3,
    "prospect": 4,
}
_UNKNOWN = "not_known"
RFM_SEGMENTS = (
    "champions",
    "loyal",
    "potential_loyalist",
    "new",
    "promising",
    "need_attention",
    "about_to_sleep",
    "cant_lose",
    "at_risk",
    "hibernating",
    "lapsed_loyal",
    "inactive",
)
_OUTSIDE = "no order in the window"


def rfm_heatmap(counts: Mapping[tuple[int, int], int], segments: Mapping[tuple[int, int], str] | None = None) -> bytes:
    """Customers by recency score (rows) and frequency score (columns).

    Args:
        counts: customers by (r_score, f_score); cells that are not named hold none.
        segments: name of each cell, written into it.
    """
    import numpy as np

    grid = np.array([[counts.get((r, f), 0) for f in range(1, 6)] for r in range(5, 0, -1)])
    figure, axes = blank(9.0, 5.6)
    image = axes.imshow(grid, cmap=ramp(), aspect="auto", vmin=0)
    _cells(axes, grid, segments)
    axes.set_xticks(range(5), [str(f) for f in range(1, 6)])
    axes.set_yticks(range(5), [str(r) for r in range(5, 0, -1)])
    axes.set_xlabel("Frequency score (5 = most order dates)")
    axes.set_ylabel("Recency score (5 = most recent)")
    entitle(axes, "Customers by recency and frequency", f"{int(grid.sum()):,} customers with an order in the window")
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label("Customers", color=INK)
    bar.outline.set_visible(False)
    axes.grid(False)
    axes.tick_params(length=0)
    return as_png(figure)


def audience_funnel(steps: Sequence[tuple[str, int]]) -> bytes:
    """Addresses that remain after each step of the way to a sendable audience.

    Args:
        steps: (name of the step, addresses), in order.
    """
    figure, axes = blank(9.0, 1.4 + 0.6 * len(steps))
    first = max((count for _, count in steps), default=0)
    positions = range(len(steps))
    axes.barh(positions, [first] * len(steps), color=GRID, height=0.62, zorder=2)
    colours = [MAIN] * (len(steps) - 1) + [ACCENT]
    axes.barh(positions, [count for _, count in steps], color=colours[: len(steps)], height=0.62, zorder=3)
    for position, (_, count) in enumerate(steps):
        share = f"{count / first:.0%}" if first else "–"
        axes.text(first * 1.015, position, f"{count:,}  ({share})", va="center", color=INK, fontsize=10.5)
    axes.set_yticks(positions, [name.replace("_", " ") for name, _ in steps])
    axes.invert_yaxis()
    axes.set_xlim(0, max(1, first) * 1.2)
    axes.set_xlabel("Addresses")
    axes.yaxis.grid(False)
    axes.tick_params(axis="y", length=0)
    entitle(axes, "From addresses to the sendable audience", "each step keeps those of the one before that meet it")
    return as_png(figure)


def lifecycle_flow(
    flows: Sequence[tuple[str | None, str | None, int]], from_label: str = "before", to_label: str = "now"
) -> bytes:
    """Where customers of each lifecycle stage went between two dates: ribbons as wide as the customers they carry.

    Who was a prospect at both is not drawn, only counted: prospects outnumber everyone.

    Args:
        flows: (stage at the first date, stage at the second, customers); a stage is None where the customer was not
            known, or is not any more.
        from_label: name of the first date.
        to_label: name of the second.
    """
    drawn: dict[tuple[str, str], int] = {}
    for source, target, customers in flows:
        ends = (source or _UNKNOWN, target or _UNKNOWN)
        drawn[ends] = drawn.get(ends, 0) + customers
    waiting = drawn.pop(("prospect", "prospect"), 0)
    total = sum(drawn.values())
    sides = (
        _stacked({stage: sum(n for (source, _), n in drawn.items() if source == stage) for stage, _ in drawn}),
        _stacked({stage: sum(n for (_, target), n in drawn.items() if target == stage) for _, stage in drawn}),
    )
    figure, axes = blank(10.0, 6.4)
    filled: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for source, target in sorted(drawn, key=lambda ends: (_liveliness(ends[0]), _liveliness(ends[1]))):
        width = drawn[source, target]
        left = sides[0][source][0] + filled[0].get(source, 0.0)
        right = sides[1][target][0] + filled[1].get(target, 0.0)
        filled[0][source] = filled[0].get(source, 0.0) + width
        filled[1][target] = filled[1].get(target, 0.0) + width
        _ribbon(axes, left, right, width, *_ribbon_look(source, target))
    for x, side, align in ((0.0, sides[0], "right"), (1.0, sides[1], "left")):
        height = max((top + size for top, size in side.values()), default=1.0)
        said = float("-inf")
        for stage, (top, size) in side.items():
            axes.barh(top + size / 2, 0.024, height=size, left=x - 0.012, color=INK, zorder=4)
            # Names of narrow stages give way downwards rather than lie on each other.
            said = max(top + size / 2, said + 0.047 * height)
            share = f"{size / total:.0%}" if total else "–"
            axes.annotate(
                f"{stage.replace('_', ' ')}  {size:,} ({share})",
                (x, said),
                xytext=(-12 if align == "right" else 12, 0),
                textcoords="offset points",
                ha=align,
                va="center",
                fontsize=10,
                color=INK,
            )
    for x, label in ((0.0, from_label), (1.0, to_label)):
        axes.annotate(label, (x, 0), xytext=(0, 8), textcoords="offset points", ha="center", color=MUTED, fontsize=10.5)
    axes.set_xlim(-0.36, 1.36)
    axes.invert_yaxis()
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    entitle(
        axes,
        "Customers between lifecycle stages",
        f"{total:,} customers; blue went to a livelier stage, orange to a less lively one, grey neither"
        + (f"; {waiting:,} prospects all along are not drawn" if waiting else ""),
    )
    return as_png(figure)


def rfm_migration(
    matrix: Mapping[tuple[str | None, str | None], int], labels: tuple[str, str] = ("before", "now")
) -> bytes:
    """Where customers of each RFM segment went between two instants.

    Args:
        matrix: customers by (segment at the first, segment at the second); a segment is None where the customer had no
            order in the window.
        labels: names of the two instants.
    """
    import numpy as np

    counted: dict[tuple[str, str], int] = {}
    for (source, target), customers in matrix.items():
        ends = (source or _OUTSIDE, target or _OUTSIDE)
        counted[ends] = counted.get(ends, 0) + customers
    counted.pop((_OUTSIDE, _OUTSIDE), None)
    extra = sorted({name for ends in counted for name in ends} - {*RFM_SEGMENTS, _OUTSIDE})
    names = [*RFM_SEGMENTS, *extra, *([_OUTSIDE] if any(_OUTSIDE in ends for ends in counted) else [])]
    grid = np.array([[counted.get((source, target), 0) for target in names] for source in names])
    sizes = grid.sum(axis=1)
    shares = grid / np.where(sizes > 0, sizes, 1)[:, None]
    figure, axes = blank(10.0, 1.9 + 0.46 * len(names))
    image = axes.imshow(shares, cmap=ramp(), aspect="auto", vmin=0, vmax=1)
    for row, column in np.argwhere(grid > 0):
        axes.text(
            column,
            row,
            f"{grid[row, column]:,}",
            ha="center",
            va="center",
            fontsize=9,
            fontweight="bold" if row == column else "normal",
            color="white" if shares[row, column] > 0.55 else INK,
        )
    shown = [name.replace("_", " ") for name in names]
    axes.set_xticks(range(len(names)), shown, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(
        range(len(names)), [f"{name}  ({size:,})" for name, size in zip(shown, sizes.tolist(), strict=True)]
    )
    axes.set_xlabel(labels[1])
    axes.set_ylabel(labels[0])
    stayed = int(np.trace(grid))
    entitle(
        axes,
        "Customers between RFM segments",
        f"{int(grid.sum()):,} customers, {stayed:,} of them in the same segment as before; colour = share of the row",
    )
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.ax.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    bar.set_label("Share of the segment's customers", color=INK)
    bar.outline.set_visible(False)
    axes.grid(False)
    axes.tick_params(length=0)
    return as_png(figure)


def blank(width: float, height: float, *, columns: int = 1) -> tuple[Figure, Any]:
    """A figure of its own, without pyplot's global state. 100 dots per inch: `width` 9 is 900 pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    made = figure.subplots(1, columns)
    for axes in [made] if columns == 1 else made:
        for side in ("top", "right", "left", "bottom"):
            axes.spines[side].set_visible(side == "bottom")
        axes.spines["bottom"].set_color(MUTED)
        axes.grid(color=GRID, linewidth=0.8, zorder=0)
        axes.set_axisbelow(True)
        axes.tick_params(colors=INK, labelsize=10, length=3)
        axes.xaxis.label.set_color(INK)
        axes.yaxis.label.set_color(INK)
        axes.xaxis.label.set_size(11)
        axes.yaxis.label.set_size(11)
    return figure, made


def entitle(axes: Axes, title: str, subtitle: str) -> None:
    """Write a title and, smaller beneath it, what the figure shows."""
    axes.set_title(f"{title}\n" if title else "\n", loc="left", fontsize=13, fontweight="bold", color=INK, pad=10)
    axes.text(0, 1.015, subtitle, transform=axes.transAxes, ha="left", va="bottom", fontsize=10, color=MUTED)


def _cells(axes: Axes, grid: np.ndarray, segments: Mapping[tuple[int, int], str] | None) -> None:
    import numpy as np

    top = grid.max() or 1
    for row, column in np.ndindex(*grid.shape):
        colour = "white" if grid[row, column] > 0.55 * top else INK
        axes.text(column, row - 0.12, f"{grid[row, column]:,}", ha="center", va="center", fontsize=12, color=colour)
        if segments:
            said = segments.get((5 - row, column + 1), "").replace("_", " ")
            axes.text(column, row + 0.2, said, ha="center", va="center", fontsize=9, color=colour)


def _liveliness(stage: str) -> tuple[int, int, str]:
    """Sorts stages as they are drawn, from the top: known ones as listed, others by name after them."""
    order = list(_LIVELINESS)
    return (order.index(stage), 0, "") if stage in _LIVELINESS else (len(order), stage == _UNKNOWN, stage)


def _stacked(sizes: Mapping[str, int]) -> dict[str, tuple[float, int]]:
    """Stage -> (where its block begins, its size), the liveliest first, with room between blocks."""
    room = 0.02 * sum(sizes.values())
    blocks: dict[str, tuple[float, int]] = {}
    top = 0.0
    for stage in sorted(sizes, key=_liveliness):
        blocks[stage] = (top, sizes[stage])
        top += sizes[stage] + room
    return blocks


def _ribbon_look(source: str, target: str) -> tuple[str, float]:
    """Colour and opacity of a ribbon: blue if its customers became livelier, orange if less lively."""
    before, after = _LIVELINESS.get(source), _LIVELINESS.get(target)
    if before is None or after is None or before == after:
        return MUTED, 0.28
    return (MAIN, 0.6) if after < before else (ACCENT, 0.5)


def _ribbon(axes: Axes, left: float, right: float, width: float, colour: str, opacity: float) -> None:
    """A band of constant width from (0, left) to (1, right), level at both ends."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    ends, middle = (0.012, 0.988), 0.5
    upper = [(ends[0], left), (middle, left), (middle, right), (ends[1], right)]
    lower = [(ends[1], right + width), (middle, right + width), (middle, left + width), (ends[0], left + width)]
    codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY]
    path = Path([*upper, *lower, upper[0]], codes)
    axes.add_patch(PathPatch(path, facecolor=colour, alpha=opacity, linewidth=0, zorder=3))


def ramp() -> Any:
    """Colours from light to dark, for shares."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("teal", ["#f4fafb", LIGHT, MAIN, "#084c5a"])


def short(value: float) -> str:
    """A number with as many places as its size deserves."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}".removesuffix(".0")


def as_png(figure: Figure) -> bytes:
    """The figure's bytes; equal figures are equal bytes."""
    buffer = io.BytesIO()
    # No software tag, which names a version.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
