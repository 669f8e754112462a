"""The best of each row: what all recommenders end with, and what takes the time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

_ROWS = 512  # rows of like width are laid side by side: 512 x 20,000 scores are 40 MB


def best_of_rows(
    scores: sparse.csr_array | npt.NDArray[np.float32], k: int, *, ties: npt.NDArray[np.int64] | None = None
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """The k highest entries of each row, highest first.

    Args:
        scores: rows x items. Of a sparse one only what it stores takes part; NaN and -inf never do.
        k: how many, 1 or more.
        ties: place of each item among equal scores, lowest first and each different; by default the column.

    Returns:
        Columns, -1 where a row has fewer than k, and their scores, NaN there; both rows x k.
    """
    if k < 1:
        raise ValueError(f"k is {k}: it must be 1 or more")
    rows = scores.shape[0]
    columns = np.full((rows, k), -1, dtype=np.int32)
    values = np.full((rows, k), np.nan, dtype=np.float32)
    place = np.arange(scores.shape[1]) if ties is None else ties
    if isinstance(scores, np.ndarray):
        for start in range(0, rows, _ROWS):
            part = np.arange(start, min(start + _ROWS, rows))
            block = np.where(np.isnan(scores[part]), -np.inf, scores[part]).astype(np.float32, copy=False)
            _pick(block, None, k, place, part, columns, values)
        return columns, values
    widths = np.diff(scores.indptr)
    # Rows of like width together: of a table as wide as its widest row, most would be empty.
    order = np.argsort(widths, kind="stable")
    for start in range(0, rows, _ROWS):
        part = order[start : start + _ROWS]
        if not (width := int(widths[part[-1]])):
            continue
        inside = np.arange(width) < widths[part][:, None]
        entry = (scores.indptr[part][:, None] + np.arange(width))[inside]
        block = np.full((len(part), width), -np.inf, dtype=np.float32)
        block[inside] = scores.data[entry]
        block[np.isnan(block)] = -np.inf
        names = np.zeros((len(part), width), dtype=np.int32)
        names[inside] = scores.indices[entry]
        _pick(block, names, k, place, part, columns, values)
    return columns, values


def _pick(
    block: npt.NDArray[np.float32],
    names: npt.NDArray[np.int32] | None,
    k: int,
    place: npt.NDArray[np.int64],
    part: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int32],
    values: npt.NDArray[np.float32],
) -> None:
    """Write the best of a dense block to the rows `part` of `columns` and `values`."""
    width = block.shape[1]
    candidates = block > -np.inf
    if width > k:
        # All that tie with the k-th stay, so that the tie-break decides and not the partition.
        candidates &= block >= np.partition(block, width - k, axis=1)[:, width - k, None]
    row, position = np.nonzero(candidates)
    score = block[row, position]
    name = position if names is None else names[row, position]
    order = np.lexsort((place[name], -score, row))
    row, name, score = row[order], name[order], score[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    kept = rank < k
    columns[part[row[kept]], rank[kept]] = name[kept]
    values[part[row[kept]], rank[kept]] = score[kept]
