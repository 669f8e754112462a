"""What customers did with items, as one sparse matrix of weights: the input of all recommenders here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from scipy import sparse

KIND_WEIGHTS: Mapping[str, float] = MappingProxyType({"view": 0.1, "cart": 0.3, "purchase": 1.0})
"""What an interaction of a kind is worth, against a purchase."""


def customer_items(
    customers: npt.ArrayLike,
    items: npt.ArrayLike,
    kinds: Sequence[str] | npt.NDArray[np.str_],
    ages: npt.ArrayLike,
    *,
    shape: tuple[int, int],
    half_life: float | None = 60.0,
    kind_weights: Mapping[str, float] = KIND_WEIGHTS,
    damped: bool = True,
) -> sparse.csr_array:
    """Add interactions up, each worth its kind's weight, halved with every half-life since.

    Args:
        customers: row of each interaction, 0 to shape[0] - 1.
        items: column of each interaction, 0 to shape[1] - 1.
        kinds: kind of each interaction; those that `kind_weights` gives nothing for are refused.
        ages: days since each interaction, 0 or more.
        shape: number of customers and of items.
        half_life: days after which an interaction is worth half; None for no decay.
        kind_weights: weight by kind, 0 or more; kinds of weight 0 are left out.
        damped: take log(1 + sum), as the tenth purchase of an item says less than the first.

    Returns:
        Canonical CSR of float32, customers x items: the same to the last bit, in whatever order interactions come.

    Raises:
        ValueError: a row or column out of range, an unknown kind, an age or weight that is negative or not finite.
    """
    row, column = _numbers("customer", customers, shape[0]), _numbers("item", items, shape[1])
    age = np.asarray(ages, dtype=np.float64)
    if not len(row) == len(column) == len(kinds) == len(age):
        raise ValueError(f"columns of {len(row)}, {len(column)}, {len(kinds)} and {len(age)} interactions don't match")
    if len(age) and not (np.isfinite(age) & (age >= 0)).all():
        where = int(np.flatnonzero(~(np.isfinite(age) & (age >= 0)))[0])
        raise ValueError(f"interaction {where}: the age {age[where]} is no number of days since")
    if half_life is not None and not (np.isfinite(half_life) and half_life > 0):
        raise ValueError(f"half_life is {half_life}: it must be a positive number of days, or None")
    worth = _worth(kinds, kind_weights)
    if half_life is not None:
        worth = worth * np.exp2(-age / half_life)
    counts = worth > 0
    key, worth = row[counts] * shape[1] + column[counts], worth[counts]
    # Sorted by worth as well: float sums depend on the order in which they are made.
    order = np.lexsort((worth, key))
    key, worth = key[order], worth[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    sums = np.add.reduceat(worth, starts) if len(starts) else np.empty(0)
    row, column = np.divmod(key[starts], shape[1])
    matrix = sparse.csr_array(
        ((np.log1p(sums) if damped else sums).astype(np.float32), (row, column.astype(np.int32))), shape=shape
    )
    matrix.eliminate_zeros()  # what is so old that nothing is left of it
    return matrix


def checked(X: sparse.csr_array, *, items: int | None = None) -> sparse.csr_array:
    """The matrix as canonical CSR of float32, if a recommender can use it.

    Args:
        X: customers x items of weights.
        items: number of items that it must have.

    Raises:
        TypeError: it is no sparse matrix.
        ValueError: no rows or columns, another number of items than expected, a weight negative or not finite.
    """
    if not sparse.issparse(X):
        raise TypeError(f"weights must be a sparse matrix of customers x items, got {type(X).__name__}")
    if X.ndim != 2 or min(X.shape) == 0:
        raise ValueError(f"weights of shape {X.shape}: at least one customer and one item are needed")
    if items is not None and X.shape[1] != items:
        raise ValueError(f"weights of {X.shape[1]} items, but {items} were learned from: map items the same way")
    found = sparse.csr_array(X, dtype=np.float32)
    if not found.has_canonical_format:
        found = found.copy()
        found.sum_duplicates()
    good = np.isfinite(found.data) & (found.data >= 0)
    if not good.all():
        where = int(np.flatnonzero(~good)[0])
        row = int(np.searchsorted(found.indptr, where, side="right")) - 1
        raise ValueError(
            f"customer {row}, item {found.indices[where]}: the weight {found.data[where]} is negative or not finite"
        )
    return found


def learnable(X: sparse.csr_array) -> sparse.csr_array:
    """`checked`, and there is something to learn from.

    Raises:
        ValueError: also when all weights are zero.
    """
    found = checked(X)
    if not found.data.any():
        raise ValueError(f"no weight above zero among {X.shape[0]} customers and {X.shape[1]} items: nothing to learn")
    return found


def _numbers(name: str, given: npt.ArrayLike, count: int) -> npt.NDArray[np.int64]:
    found = np.asarray(given)
    if found.size == 0:
        return np.empty(0, dtype=np.int64)
    if found.dtype.kind not in "iu":
        raise ValueError(f"{name} must be row numbers, got {found.dtype}: map ids to numbers first")
    if found.min() < 0 or found.max() >= count:
        where = int(np.flatnonzero((found < 0) | (found >= count))[0])
        raise ValueError(f"interaction {where}: {name} {found[where]} is unknown, there are {count}")
    return found.astype(np.int64)


def _worth(kinds: Sequence[str] | npt.NDArray[np.str_], kind_weights: Mapping[str, float]) -> npt.NDArray[np.float64]:
    for kind, weight in kind_weights.items():
        if not (np.isfinite(weight) and weight >= 0):
            raise ValueError(f"the weight of {kind!r} is {weight}: it must be a number, 0 or more")
    given = np.asarray(kinds, dtype=str)
    worth, known = np.zeros(len(given)), np.zeros(len(given), dtype=bool)
    for kind, weight in kind_weights.items():
        hit = given == kind
        worth[hit], known = weight, known | hit
    if not known.all():
        unknown = str(given[~known][0])
        raise ValueError(f"interactions of unknown kind {unknown!r}: known are {', '.join(sorted(kind_weights))}")
    return worth
