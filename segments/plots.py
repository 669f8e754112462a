"""Pictures of replayed segments: sizes over time, and what members bought next. They show counts, never a person."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import MailwrightError
from segments.backtest import HORIZON_DAYS, Backtest, Replay

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from segments.diff import SegmentDiff

INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
_EPOCH = date(1970, 1, 1)
COLOURS = {"old": "#e8590c", "new": "#0b7285"}


def draw(found: SegmentDiff, folder: Path) -> list[Path]:
    """Write `<segment>.png` for each segment that was replayed.

    Raises:
        MailwrightError: the folder can't be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = []
        for name, backtest in found.backtests.items():
            if any(replay.points for replay in backtest.replays):
                file = folder / f"{name}.png"
                file.write_bytes(picture(backtest))
                files.append(file)
        return files
    except OSError as error:
        raise MailwrightError(f"--plots {folder} can't be written to: {error.strerror or error}") from None


def picture(backtest: Backtest) -> bytes:
    """Size and share that bought, over the replayed as_ofs, of the old and the new definition and everyone else, as PNG."""
    import io

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 4.4), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    sizes, bought = figure.subplots(1, 2)
    told = [replay for replay in backtest.replays if replay.points]
    for replay in told:
        days = _days([point.as_of_on for point in replay.points])
        sizes.plot(
            days,
            replay.sizes,
            color=COLOURS[replay.side],
            label=f"{replay.side} definition",
            linewidth=2,
            marker="o",
            markersize=3.5,
        )
        _bought(bought, replay)
    if told:
        _others(bought, max(told, key=lambda replay: len(replay.closed)))
    for axes, title in ((sizes, "Customers in the segment"), (bought, f"Bought in the next {HORIZON_DAYS} days, %")):
        _dress(axes, title)
    lines = {line.get_label(): line for axes in (sizes, bought) for line in axes.get_lines()}
    named = {str(label): line for label, line in lines.items() if not str(label).startswith("_")}
    figure.legend(
        list(named.values()),
        list(named),
        loc="outside upper right",
        ncols=3,
        frameon=False,
        labelcolor=INK,
        fontsize=9.5,
    )
    figure.suptitle(
        f"{backtest.name}, replayed",
        x=0.01,
        ha="left",
        fontsize=13,
        fontweight="bold",
        color=INK,
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _bought(axes: Axes, replay: Replay) -> None:
    """Share of the members, with its 95 % interval as a band."""
    points = [(point.as_of_on, point.members) for point in replay.points if point.members and point.members.customers]
    if not points:
        return
    days = _days([day for day, _ in points])
    shares = [100 * members.bought / members.customers for _, members in points]
    low, high = ([100 * members.interval[end] for _, members in points] for end in (0, 1))
    axes.fill_between(days, low, high, color=COLOURS[replay.side], alpha=0.15, linewidth=0)
    axes.plot(days, shares, color=COLOURS[replay.side], linewidth=2, marker="o", markersize=3.5)


def _others(axes: Axes, replay: Replay) -> None:
    points = [(point.as_of_on, point.others) for point in replay.points if point.others and point.others.customers]
    if not points:
        return
    days = _days([day for day, _ in points])
    shares = [100 * others.bought / others.customers for _, others in points]
    axes.plot(days, shares, color=MUTED, label="everyone else", linewidth=1.5, linestyle="--")


def _days(days: Sequence[date]) -> list[int]:
    """Dates as matplotlib counts them, in days since 1970; its types know no others."""
    return [(day - _EPOCH).days for day in days]


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xticks(*_quarters(*axes.get_xlim()))
    axes.grid(axis="y", color=GRID)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(colors=MUTED, length=0, labelsize=9)


def _quarters(first: float, last: float) -> tuple[list[int], list[str]]:
    """Where quarters begin between two days, and what to call them; the year stands below its first."""
    years = range(_EPOCH.year + int(first // 366), _EPOCH.year + int(last // 365) + 1)
    starts = [date(year, month, 1) for year in years for month in (1, 4, 7, 10)]
    shown = [day for day in starts if first <= (day - _EPOCH).days <= last]
    names = [
        f"{day:%b}" + (f"\n{day.year}" if before is None or before.year != day.year else "")
        for before, day in zip([None, *shown], shown, strict=False)
    ]
    return _days(shown), names
