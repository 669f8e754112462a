"""Pictures and small tables that the assets carry: what one wants to look at after a run.

Aggregates only; nothing here shows a person.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def rfm_heat_map(counts: Mapping[tuple[int, int], int], names: Mapping[tuple[int, int], str] | None = None) -> bytes:
    """Customers by recency score (up) and frequency score (across), as PNG.

    Args:
        counts: (r_score, f_score) -> customers.
        names: (r_score, f_score) -> name of the grid's cell, written into it.
    """
    figure = _figure(7.2, 5.2)
    axes = figure.add_subplot()
    grid = [[counts.get((r, f), 0) for f in range(1, 6)] for r in range(1, 6)]
    image = axes.imshow(grid, origin="lower", cmap="YlGnBu", aspect="auto")
    top = max(max(row) for row in grid) or 1
    for r in range(1, 6):
        for f in range(1, 6):
            count = counts.get((r, f), 0)
            label = (names or {}).get((r, f), "").replace("_", "\n")
            axes.text(
                f - 1,
                r - 1,
                f"{count:,}\n{label}".strip(),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if count > 0.55 * top else "black",
            )
    axes.set_xticks(range(5), [f"F{f}" for f in range(1, 6)])
    axes.set_yticks(range(5), [f"R{r}" for r in range(1, 6)])
    axes.set_xlabel("frequency score")
    axes.set_ylabel("recency score")
    axes.set_title("Customers by recency and frequency")
    figure.colorbar(image, ax=axes, label="customers")
    return _png(figure)


def reliability_curve(
    points: Sequence[tuple[float, float, int]], baseline: Sequence[tuple[float, float, int]] = ()
) -> bytes:
    """Predicted against observed churn by bin, as PNG: on the diagonal a score means what it says.

    Args:
        points: (mean predicted, share observed, customers) per bin of the model.
        baseline: the same for recency alone.
    """
    figure = _figure(5.6, 5.2)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey", label="perfect")
    for label, said, marker in (("churn model", points, "o"), ("recency alone", baseline, "x")):
        if said:
            axes.plot([p[0] for p in said], [p[1] for p in said], marker=marker, label=label)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("predicted share without an order in 180 days")
    axes.set_ylabel("observed share")
    axes.set_title("Reliability on the later anchors")
    axes.legend()
    return _png(figure)


def funnel_chart(steps: Sequence[tuple[str, int]]) -> bytes:
    """Addresses left after each step of the audience funnel, as PNG."""
    figure = _figure(7.2, 0.5 * len(steps) + 1.2)
    axes = figure.add_subplot()
    names = [step.replace("_", " ") for step, _ in steps]
    bars = axes.barh(names, [count for _, count in steps], color="#2c7fb8")
    axes.bar_label(bars, labels=[f"{count:,}" for _, count in steps], padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("addresses")
    axes.set_title("From addresses to sendable")
    return _png(figure)


def markdown_image(png: bytes, alt: str) -> str:
    """A PNG as a Markdown image that needs no file beside it."""
    return f"![{alt}](data:image/png;base64,{base64.b64encode(png).decode()})"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows as a Markdown table; whole numbers get thousands separators."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


def _figure(width: float, height: float) -> Figure:
    # Without pyplot: no global state, no display, safe in a server's threads.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return written.getvalue()
