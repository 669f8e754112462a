"""Small charts as inline SVG, coloured by the page's own style."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Literal

from expectations.deliveries import Delivered

PARTS: tuple[Literal["accepted", "superseded", "rejected", "erased"], ...] = (
    "accepted",
    "superseded",
    "rejected",
    "erased",
)
"""What becomes of a row, from the bottom of a bar upwards."""

WIDTH, HEIGHT = 760, 136
_TOP, _BOTTOM, _LEFT = 24, 24, 4
_LEAST = 2.0  # units high: few rejected rows among very many must be seen


def delivery_bars(deliveries: Sequence[Delivered], title: str) -> str:
    """One bar per delivery, the oldest on the left, stacked by what became of its rows; nothing to compare, no bars."""
    most = max((one.read for one in deliveries), default=0)
    if not most or len(deliveries) < 2:
        return ""
    step = min((WIDTH - 2 * _LEFT) / len(deliveries), 48.0)
    bars = "".join(_bar(one, _LEFT + place * step, step * 0.82, most) for place, one in enumerate(deliveries))
    base = HEIGHT - _BOTTOM
    first, last = (f"{one.received_at:%Y-%m-%d}" for one in (deliveries[0], deliveries[-1]))
    end = _LEFT + len(deliveries) * step
    if end > 200:
        dates = (
            f'<text x="{_LEFT}" y="{HEIGHT - 6}">{first}</text>'
            f'<text x="{end:.0f}" y="{HEIGHT - 6}" text-anchor="end">{last}</text>'
        )
    else:
        dates = f'<text x="{_LEFT}" y="{HEIGHT - 6}">{first} to {last}</text>'
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">'
        f'<line x1="0" x2="{WIDTH}" y1="{base}" y2="{base}" stroke="var(--line)"/>'
        f'<text x="{_LEFT}" y="16">{most:,} rows at most</text>{bars}{dates}</svg>'
    )


def _bar(one: Delivered, x: float, width: float, most: int) -> str:
    room = HEIGHT - _TOP - _BOTTOM
    said = ", ".join(f"{int(getattr(one, part)):,} {part}" for part in PARTS if getattr(one, part))
    title = html.escape(f"{one.received_at:%Y-%m-%d}, delivery {one.sequence}: {said or 'no rows'}")
    y, parts = float(HEIGHT - _BOTTOM), []
    for part in PARTS:
        rows = int(getattr(one, part))
        if rows:
            height = max(_LEAST, room * rows / most)
            y -= height
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="var(--{part})"/>'
            )
    return f"<g><title>{title}</title>{''.join(parts)}</g>"
