"""Figures of lifetime value: expected against spent, week by week, and who is expected back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from ml.plots import ACCENT, INK, LIGHT, MAIN, MUTED, as_png, blank, entitle, ramp

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ml.lifetime_evaluation import Tenth
    from ml.lifetime_methods import PurchasesAndSpend

    Floats = NDArray[np.float64]

_FREQUENCIES = 20
_WEEKS_SINCE = 52


def deciles(model: Sequence[Tenth], baseline: Sequence[Tenth], horizon_days: int, method: str) -> bytes:
    """Mean spend by tenths of what was expected, of a method and of the baseline.

    Args:
        model, baseline: tenths of the same customers, each by its own predictions.
    """
    import numpy as np

    figure, axes = blank(9.0, 5.2)
    places = np.arange(1, len(model) + 1)
    axes.bar(places, [one.observed for one in model], width=0.62, color=LIGHT, label="Spent", zorder=2)
    axes.plot(places, [one.predicted for one in model], color=MAIN, marker="o", linewidth=2, label="Expected", zorder=4)
    axes.plot(
        places,
        [one.predicted for one in baseline],
        color=MUTED,
        marker="s",
        linewidth=1.5,
        linestyle="--",
        label="Expected by the history mean, of its own tenths",
        zorder=3,
    )
    axes.set_xticks(places)
    axes.set_xlabel("Tenth of customers by expected spend (10 = the most)")
    axes.set_ylabel(f"Mean spend in {horizon_days} days (reporting currency)")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.legend(frameon=False, labelcolor=INK, fontsize=10, loc="upper left")
    expected, spent = (sum(one.customers * getattr(one, part) for one in model) for part in ("predicted", "observed"))
    top, everybody = model[-1], sum(one.customers * one.observed for one in model)
    off = expected / spent - 1
    entitle(
        axes,
        f"Expected {abs(off):.0%} too {'much' if off > 0 else 'little'}; the top tenth brought"
        f" {top.customers * top.observed / everybody:.0%} of all spend",
        f"{method}, {sum(one.customers for one in model):,} customers whose {horizon_days} days came after all that was"
        " learned",
    )
    return as_png(figure)


def tracking(actual: Floats, expected: Floats, method: str) -> bytes:
    """Order dates per week of customers who were known before, as they came and as they were expected.

    Args:
        actual, expected: by week, shape (weeks,).
    """
    import numpy as np

    figure, axes = blank(9.0, 4.8)
    weeks = np.arange(1, len(actual) + 1)
    axes.plot(weeks, actual, color=ACCENT, linewidth=2, marker="o", markersize=3.5, label="Came", zorder=3)
    axes.plot(weeks, expected, color=MAIN, linewidth=2, linestyle="--", label=f"Expected by {method}", zorder=4)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0.5, len(actual) + 0.5)
    axes.set_xlabel("Week after the judged instant")
    axes.set_ylabel("Repeat order dates per week")
    axes.legend(frameon=False, labelcolor=INK, fontsize=10)
    entitle(
        axes,
        f"{expected.sum():,.0f} repeat order dates were expected, {actual.sum():,.0f} came",
        "The model knows of no season: weeks above or below its even line are the season's",
    )
    return as_png(figure)


def alive(method: PurchasesAndSpend, learned_on: date) -> bytes:
    """Probability that a customer will order again at all, by repeat order dates and by weeks since the last one."""
    import numpy as np
    import pandas as pd

    age = float(2 * _WEEKS_SINCE)
    frequency, since = np.meshgrid(np.arange(1.0, _FREQUENCIES + 1), np.arange(0.0, _WEEKS_SINCE + 1))
    grid = pd.DataFrame(
        {"frequency": frequency.ravel(), "recency": age - since.ravel(), "T": np.full(frequency.size, age)}
    )
    probability = method.purchases.probability_alive(grid).reshape(frequency.shape)
    figure, axes = blank(9.0, 5.6)
    image = axes.imshow(
        probability,
        cmap=ramp(),
        aspect="auto",
        vmin=0,
        vmax=1,
        origin="upper",
        extent=(0.5, _FREQUENCIES + 0.5, _WEEKS_SINCE + 0.5, -0.5),
    )
    drawn = axes.contour(frequency, since, probability, levels=[0.5], colors=ACCENT, linewidths=2)
    axes.clabel(drawn, fmt="50 %%", fontsize=10)
    axes.set_xticks([1, 5, 10, 15, 20])
    axes.set_xlabel("Repeat order dates so far")
    axes.set_ylabel("Weeks since the last order date")
    often, seldom = probability[_WEEKS_SINCE // 2, -1], probability[_WEEKS_SINCE // 2, 1]
    entitle(
        axes,
        f"Half a year of silence: {seldom:.0%} are still customers after 2 repeat orders, {often:.0%} after"
        f" {_FREQUENCIES}",
        f"Probability of ever ordering again by {method.name.split(' x ')[0]}, learned by {learned_on}; first order"
        " two years ago",
    )
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label("Probability of ordering again", color=INK)
    bar.outline.set_visible(False)
    axes.grid(False)
    axes.tick_params(length=0)
    return as_png(figure)
