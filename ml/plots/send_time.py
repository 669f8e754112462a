"""Figures of the best time to send: how hours of the week do, and which are recommended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ml.plots import ACCENT, INK, MUTED, as_png, blank, entitle, ramp
from ml.send_time import DAYS, said

_FLAT = 0.05  # of the best hour's rate: a curve that varies by less was shrunk to nothing

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes

    from ml.send_time import SendTimes


def curve(times: SendTimes) -> bytes:
    """Clicks per 100 deliveries by day and hour, shrunk; hours at which hardly any mail was sent are left white."""
    import numpy as np

    figure, axes = blank(11.0, 4.2)
    shown = np.full(168, np.nan)
    shown[list(times.tried)] = 100 * np.array(times.curve)[list(times.tried)]
    worst, best = min(times.curve[hour] for hour in times.tried), times.curve[times.best]
    is_flat = best - worst < _FLAT * best
    image = _week(axes, shown, from_zero=is_flat)
    day, hour = divmod(times.best, 24)
    axes.plot(hour, day, marker="s", markersize=17, markerfacecolor="none", markeredgecolor=ACCENT, markeredgewidth=2)
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label("Clicks per 100 deliveries", color=INK)
    bar.outline.set_visible(False)
    rate = f"{100 * best:.2f} clicks per 100 deliveries"
    entitle(
        axes,
        f"No hour does better than another beyond chance: {rate}"
        if is_flat
        else f"Mail is clicked most at {said(times.best)}: {rate}",
        "all customers, shrunk to daypart and average; white = hardly any mail was sent then; square = the best hour",
    )
    return as_png(figure)


def recommended(counts: npt.NDArray[np.int64]) -> bytes:
    """Customers by the hour of the week recommended to them.

    Args:
        counts: customers by hour, 168 of them.
    """
    import numpy as np

    figure, axes = blank(11.0, 4.2)
    total = int(counts.sum())
    image = _week(axes, np.where(counts > 0, 100 * counts / max(1, total), np.nan))
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label("Share of customers, %", color=INK)
    bar.outline.set_visible(False)
    best = int(counts.argmax())
    used = int((counts > 0).sum())
    title = f"{counts[best] / max(1, total):.0%} of customers are best written to at {said(best)}"
    if used == 1:
        title = f"Everyone gets the hour that does best with all, {said(best)}: customers are not told apart"
    entitle(axes, title, f"{total:,} customers; {used} of 168 hours recommended")
    return as_png(figure)


def _week(axes: Axes, values: npt.NDArray[np.float64], *, from_zero: bool = True) -> Any:
    import numpy as np

    low = float(np.nanmin(values)) if np.isfinite(values).any() else 0.0
    high = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    bottom = 0.0 if from_zero else low - 0.15 * (high - low)
    image = axes.imshow(
        values.reshape(7, 24), cmap=ramp(), aspect="auto", vmin=bottom, vmax=max(high * (1.3 if from_zero else 1), 1e-9)
    )
    axes.set_xticks(range(24), [str(hour) for hour in range(24)])
    axes.set_yticks(range(7), DAYS)
    axes.set_xlabel("Hour of the day, local time")
    axes.set_ylabel("Day")
    axes.set_xticks(np.arange(-0.5, 24), minor=True)
    axes.set_yticks(np.arange(-0.5, 7), minor=True)
    axes.grid(False)
    axes.grid(which="minor", color="#eceff2", linewidth=0.8)
    axes.tick_params(which="both", length=0, labelcolor=INK, color=MUTED)
    return image
