"""How far scores and features of today lie from those in training.

Two figures a column: the population stability index over the tenths of training, which says how much mass moved, and the
two-sample statistic of Kolmogorov and Smirnov over the same edges. At a million rows every difference is significant, so
an alarm asks for a practical one as well: the index above `PSI_ALARM` and the statistic above its critical value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

BINS = 10
PSI_WARNING = 0.1
PSI_ALARM = 0.25
"""Siddiqi (2006), Credit Risk Scorecards: below .1 no shift worth mention, above .25 a shift to act on."""

ROWS_MIN = 100
_LEAST_SHARE = 1e-4  # of an empty bin: the index is infinite for none
_CRITICAL = math.sqrt(-0.5 * math.log(0.01 / 2))  # of the two-sample test at 1 %, by sqrt((n + m) / (n m))


@dataclass(frozen=True)
class Drift:
    """One column today against training.

    Attributes:
        psi: population stability index; 0 is no change.
        statistic: largest difference between the two distribution functions, 0 to 1, at the edges of the bins.
        critical: above it the difference is no chance, at 1 %.
        null_then: share without a value in training, and
        null_now: today.
    """

    column: str
    rows: int
    psi: float
    statistic: float
    critical: float
    null_then: float
    null_now: float

    @property
    def is_alarm(self) -> bool:
        """Whether the shift is both large and no chance."""
        return self.psi > PSI_ALARM and self.statistic > self.critical

    @property
    def is_warning(self) -> bool:
        """Whether the shift is worth a look."""
        return not self.is_alarm and self.psi > PSI_WARNING and self.statistic > self.critical


def reference_of(frame: pd.DataFrame, columns: Sequence[str]) -> dict[str, Any]:
    """What `measure` needs to know of training, as JSON holds it: edges of the bins, shares in them, and of nulls.

    Args:
        frame: rows of training; `columns` are numbers, null as NaN.
    """
    import numpy as np

    said: dict[str, Any] = {}
    for column in columns:
        values = frame[column].to_numpy(dtype=float)
        given = values[np.isfinite(values)]
        # Edges are values that occur: a column of few distinct values gets as many bins as it has values.
        edges: Any = (
            np.unique(np.quantile(given, np.linspace(0, 1, BINS + 1)[1:-1], method="lower")) if len(given) else []
        )
        said[column] = {
            "edges": [float(edge) for edge in edges],
            "shares": [round(share, 8) for share in _shares(values, edges)],
            "rows": len(values),
        }
    return said


def measure(reference: Mapping[str, Any], frame: pd.DataFrame) -> list[Drift]:
    """Compare today's rows with training, column by column, the largest shift first.

    Raises:
        ValueError: a column of the reference is missing in `frame`.
    """
    import numpy as np

    found = []
    for column, said in reference.items():
        if column not in frame.columns:
            raise ValueError(f"{column} was there in training and is missing now")
        now = np.array(_shares(frame[column].to_numpy(dtype=float), said["edges"]))
        then = np.array(said["shares"])
        floored_then, floored_now = np.maximum(then, _LEAST_SHARE), np.maximum(now, _LEAST_SHARE)
        psi = float(((floored_now - floored_then) * np.log(floored_now / floored_then)).sum())
        rows, before = len(frame), int(said["rows"])
        found.append(
            Drift(
                column=column,
                rows=rows,
                psi=round(psi, 4),
                statistic=round(float(np.abs(np.cumsum(now) - np.cumsum(then)).max()), 4),
                critical=round(_CRITICAL * math.sqrt((rows + before) / max(rows * before, 1)), 4),
                null_then=float(then[0]),
                null_now=float(now[0]),
            )
        )
    return sorted(found, key=lambda drift: (-drift.psi, drift.column))


def _shares(values: npt.NDArray[np.float64], edges: Sequence[float] | npt.NDArray[np.float64]) -> list[float]:
    """Share without a value, then by bin: up to and with each edge, and above the last."""
    import numpy as np

    if not len(values):
        return [0.0] * (len(edges) + 2)
    given = values[np.isfinite(values)]
    counts = np.bincount(np.searchsorted(edges, given, side="left"), minlength=len(edges) + 1)
    return [(len(values) - len(given)) / len(values), *(counts / len(values)).tolist()]
