"""Product affinity: what to recommend to whom and why, as arrays in and arrays out; no database, no files.

A customer's list blends their own history, what those items say for others (EASE, or item-kNN beyond 10,000 items) and
what is bought now. It is filled up by popularity in the customer's categories, then overall. Never on it: what is not
available or has no name, and what was just bought, unless the same customers buy it again and again. Bots are left out
by the caller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import isnan
from typing import TYPE_CHECKING

from ml.recommendation_metrics import mean_of, ndcg_at_k, new_to_the_customer, recall_at_k

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from scipy import sparse

SOURCES = ("history", "similar", "category", "popular")
"""Where a recommendation came from: the own history, an item of it (`because`), or filled up with what is bought now."""

HISTORY, SIMILAR, CATEGORY, POPULAR = range(len(SOURCES))
CUSTOMERS_MIN = 50  # with a history; of fewer, co-purchases are anecdotes
ITEMS_MIN = 2
CHOICE_CUSTOMERS = 5_000  # customers that a blend is chosen on


@dataclass(frozen=True)
class Blend:
    """What own history, similar items and present sales count for, each scaled to 1 at a customer's best item."""

    own: float = 2.0
    similar: float = 1.0
    trending: float = 0.1


BLENDS = tuple(Blend(own, 1.0, trending) for own, trending in product((0.0, 0.25, 0.5, 1.0, 2.0, 4.0), (0.0, 0.1, 0.3)))


@dataclass(frozen=True)
class Settings:
    """Constants of the lists.

    Attributes:
        k: length of a list.
        own_half_life: days, of the own history.
        similar_half_life: days, of what similarity is learned from and applied to.
        trending_half_life: days, of present sales.
        just_bought_days: an item bought within is left out, unless it is a consumable.
        neighbours: similar items that speak for an item. On the real retailer 50 find more new items than 200.
        reach: items that an item speaks for, and weights that EASE keeps towards each.
        ease_items_max: items up to which EASE is used.
        chunk: customers scored at a time.
        fill_by_category: whether lists are filled up from the customer's categories before all others.
    """

    k: int = 20
    own_half_life: float = 180.0
    similar_half_life: float = 60.0
    trending_half_life: float = 14.0
    just_bought_days: int = 30
    neighbours: int = 50
    reach: int = 200
    ease_items_max: int = 10_000
    chunk: int = 2_000
    fill_by_category: bool = True

    def __post_init__(self) -> None:
        if min(self.k, self.neighbours, self.reach, self.chunk) < 1 or self.just_bought_days < 0:
            raise ValueError(f"k, neighbours, reach and chunk must be 1 or more, days 0 or more: {self}")


@dataclass(frozen=True)
class Catalogue:
    """The items, in order of their columns.

    Attributes:
        item_ids: each once.
        names: None or blank where an item has none; such an item is not recommended, nor given as a reason.
        categories: None where an item has none.
        available: whether it can be bought now.
        consumable: whether the catalogue says that it is used up and bought again; None where it says so of nothing.
    """

    item_ids: Sequence[str]
    names: Sequence[str | None]
    categories: Sequence[str | None]
    available: npt.NDArray[np.bool_]
    consumable: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        sizes = [len(column) for column in (self.item_ids, self.names, self.categories, self.available)]
        sizes += [] if self.consumable is None else [len(self.consumable)]
        if len(set(sizes)) > 1:
            raise ValueError(f"columns of {', '.join(map(str, sizes))} items don't match")
        if len(set(self.item_ids)) < len(self.item_ids):
            twice = next(item for item, count in Counter(self.item_ids).items() if count > 1)
            raise ValueError(f"item {twice!r} is in the catalogue twice")

    @cached_property
    def named(self) -> npt.NDArray[np.bool_]:
        """Whether an item has a name."""
        import numpy as np

        return np.array([bool(name and name.strip()) for name in self.names], dtype=bool)

    @cached_property
    def recommendable(self) -> npt.NDArray[np.bool_]:
        """Whether an item may be on a list."""
        import numpy as np

        allowed: npt.NDArray[np.bool_] = self.named & np.asarray(self.available, dtype=bool)
        return allowed

    @cached_property
    def category_names(self) -> tuple[str, ...]:
        """The categories, sorted."""
        return tuple(sorted({category for category in self.categories if category}))

    @cached_property
    def category_numbers(self) -> npt.NDArray[np.int64]:
        """Place of each item's category in `category_names`, -1 without one."""
        import numpy as np

        places = {name: place for place, name in enumerate(self.category_names)}
        return np.array([places[category] if category else -1 for category in self.categories], dtype=np.int64)

    def refusals(self) -> dict[str, str]:
        """The items that are never recommended whatever the stock, and why."""
        return {
            item: "it has no name" for item, named in zip(self.item_ids, self.named.tolist(), strict=True) if not named
        }


@dataclass(frozen=True)
class Interactions:
    """What customers did, one row each.

    Attributes:
        customers: row number of the customer.
        items: column number of the item.
        kinds: `view`, `cart` or `purchase`.
        ages: days since, 0 or more.
        shape: number of customers and items.
    """

    customers: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.str_]
    ages: npt.NDArray[np.float64]
    shape: tuple[int, int]

    @classmethod
    def of(
        cls,
        customer_ids: Sequence[str],
        item_ids: Sequence[str],
        kinds: Sequence[str],
        ages: npt.ArrayLike,
        *,
        customers: Sequence[str],
        items: Sequence[str],
    ) -> Interactions:
        """Map ids to numbers.

        Args:
            customer_ids: of each interaction.
            item_ids: of each interaction.
            kinds: of each interaction.
            ages: of each interaction.
            customers: all customers, each once.
            items: all items, each once.

        Raises:
            ValueError: an id that is not among all of them, or one there that comes twice.
        """
        import numpy as np

        return cls(
            _numbered("customer", customer_ids, customers),
            _numbered("item", item_ids, items),
            np.asarray(kinds, dtype=str),
            np.asarray(ages, dtype=np.float64),
            (len(customers), len(items)),
        )

    def matrix(self, half_life: float | None, *, purchases_only: bool = False) -> sparse.csr_array:
        """Customers x items of damped, decayed weights."""
        from ml.estimators.interactions import KIND_WEIGHTS, customer_items

        weights = dict.fromkeys(KIND_WEIGHTS, 0.0) | {"purchase": 1.0} if purchases_only else KIND_WEIGHTS
        return customer_items(
            self.customers,
            self.items,
            self.kinds,
            self.ages,
            shape=self.shape,
            half_life=half_life,
            kind_weights=weights,
        )

    def only(self, mask: npt.NDArray[np.bool_ | np.int64]) -> Interactions:
        """Some of the rows, by mask or number."""
        return replace(
            self, customers=self.customers[mask], items=self.items[mask], kinds=self.kinds[mask], ages=self.ages[mask]
        )

    def held_out(self, days: int) -> tuple[Interactions, sparse.csr_array]:
        """What was known `days` days ago, and what was bought since.

        Returns:
            Interactions older than `days`, with the ages of then; customers x items bought since, 1 each.
        """
        before = self.only(self.ages > days)
        since = self.only((self.ages <= days) & (self.kinds == "purchase"))
        bought = since.matrix(None)
        bought.data[:] = 1
        return replace(before, ages=before.ages - days), bought


@dataclass(frozen=True)
class Recommender:
    """What was learned; see `learn`.

    Attributes:
        method: `ease` or `item_knn`.
        weights: items x items, what having the row's item says for the column's, columns that may be recommended only.
        own: customers x items, their history with the decay of `own_half_life`.
        history: the same with that of `similar_half_life`.
        just_bought: customers x items, what is left out of a customer's list.
        popularity: present sales by item, as a share of the best seller's.
        ranks: place of each item by popularity, each once: what breaks ties.
        consumable: whether the catalogue says so of an item, or the same customers buy it again.
        intervals: days between two days of buying an item, NaN where nobody did.
    """

    catalogue: Catalogue
    settings: Settings
    blend: Blend
    method: str
    weights: sparse.csr_array
    own: sparse.csr_array
    history: sparse.csr_array
    just_bought: sparse.csr_array
    popularity: npt.NDArray[np.float32]
    ranks: npt.NDArray[np.int64]
    consumable: npt.NDArray[np.bool_]
    intervals: npt.NDArray[np.float64]

    @cached_property
    def weight_keys(self) -> npt.NDArray[np.int64]:
        """Row and column of each weight as one number, rising: what single weights are looked up by."""
        return _keys(self.weights)

    @cached_property
    def stacked_weights(self) -> sparse.csr_array:
        """The weights above a unit matrix, which lets own history through; see `_parts`."""
        import numpy as np
        from scipy import sparse

        unit = sparse.eye_array(self.weights.shape[0], dtype=np.float32, format="csr")
        return sparse.vstack([self.weights, unit], format="csr").astype(np.complex64)


@dataclass(frozen=True)
class Recommendations:
    """Rows of lists, by customer and rank.

    Attributes:
        customers: row number.
        ranks: from 1.
        items: column number.
        scores: weighted sum of the blend, with 0 from history and similar items for what is filled up: at its end.
        sources: place in `SOURCES`.
        because: column number of the item of the own history that contributed most, itself for a repurchase; -1 if none.
    """

    customers: npt.NDArray[np.int64]
    ranks: npt.NDArray[np.int16]
    items: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    sources: npt.NDArray[np.int8]
    because: npt.NDArray[np.int32]


@dataclass(frozen=True)
class Trial:
    """One blend on one earlier period: means over customers, over all items and over those new to the customer."""

    blend: Blend
    recall: float
    ndcg: float
    new_recall: float
    new_ndcg: float

    @property
    def score(self) -> float:
        """What a blend is chosen by: the mean of the four, or of two where nobody bought what was new to them."""
        known = [figure for figure in (self.recall, self.ndcg, self.new_recall, self.new_ndcg) if not isnan(figure)]
        return sum(known) / max(len(known), 1)


@dataclass
class _Parts:
    """What any blend for some customers is made of.

    Attributes:
        own: customers x items, own history of what may be recommended, 1 at the best item.
        scale: what makes the best similar item 1.
        both: customers x items, similar items (scaled) as real and own history as imaginary part; the latter negative
            for what is left out as just bought.
    """

    own: sparse.csr_array
    scale: npt.NDArray[np.float32]
    both: sparse.csr_array


def refusal(interactions: Interactions, catalogue: Catalogue) -> str | None:
    """Why nothing can be learned, or None."""
    import numpy as np

    customers = len(np.unique(interactions.customers))
    items = len(np.unique(interactions.items))
    if customers < CUSTOMERS_MIN:
        return f"{customers} customers have a history; recommendations need {CUSTOMERS_MIN}"
    if items < ITEMS_MIN:
        return f"{items} items were bought or looked at; recommendations need {ITEMS_MIN}"
    if not catalogue.recommendable.any():
        return "no item of the catalogue is available and has a name"
    return None


def learn(
    interactions: Interactions,
    catalogue: Catalogue,
    *,
    blend: Blend | None = None,
    settings: Settings | None = None,
) -> Recommender:
    """Learn from all interactions.

    Args:
        interactions: of everyone who may be learned from, bots left out.
        catalogue: the items.
        blend: as `choose_blend` found it.
        settings: constants.

    Raises:
        ValueError: items of the two don't match, or there is nothing to learn from.
    """
    import numpy as np

    from ml.estimators.ease import EASE
    from ml.estimators.item_knn import ItemKNN
    from ml.estimators.popularity import Popularity
    from ml.estimators.repurchase import RepurchaseIntervals

    settings = settings or Settings()
    items = interactions.shape[1]
    if items != len(catalogue.item_ids):
        raise ValueError(f"interactions with {items} items, a catalogue of {len(catalogue.item_ids)}")
    history = interactions.matrix(settings.similar_half_life)
    if items <= settings.ease_items_max:
        method, weights = "ease", EASE(neighbours=settings.reach).fit(history).weights_
    else:
        knn = ItemKNN(neighbours=settings.neighbours, reach=settings.reach)
        method, weights = "item_knn", knn.fit(history).weights_
    long_run = Popularity().fit(history)
    sales = interactions.matrix(settings.trending_half_life)
    popularity = np.bincount(sales.indices, weights=sales.data, minlength=items)
    ranks = np.empty(items, dtype=np.int64)
    ranks[np.lexsort((long_run.ranks_, -popularity))] = np.arange(items)
    purchases = interactions.only(interactions.kinds == "purchase")
    repeats = RepurchaseIntervals().fit(
        purchases.customers, purchases.items, np.floor(purchases.ages).astype(np.int64), items
    )
    consumable = repeats.consumable_
    if catalogue.consumable is not None:
        consumable = consumable | catalogue.consumable
    late = purchases.only((purchases.ages <= settings.just_bought_days) & ~consumable[purchases.items])
    return Recommender(
        catalogue,
        settings,
        blend or Blend(),
        method,
        _columns(weights, catalogue.recommendable),
        interactions.matrix(settings.own_half_life),
        history,
        late.matrix(None),
        (popularity / max(popularity.max(), np.finfo(float).tiny)).astype(np.float32),
        ranks,
        consumable,
        repeats.intervals_,
    )


def choose_blend(
    interactions: Interactions,
    catalogue: Catalogue,
    *,
    days: int = 28,
    blends: Sequence[Blend] = BLENDS,
    settings: Settings | None = None,
) -> tuple[Blend, tuple[Trial, ...]]:
    """The blend that would have been best for the last `days` days, learned from what was before them.

    To judge it, hold out a later period first and choose on what was known before that.

    Returns:
        The blend, the first of equals, and all that were tried; the default one and no trials if nobody with a history
        bought anything in those days.
    """
    import numpy as np

    before, bought = interactions.held_out(days)
    if not len(before.customers):
        return Blend(), ()
    known = np.flatnonzero(
        (np.diff(bought.indptr) > 0) & (np.bincount(before.customers, minlength=bought.shape[0]) > 0)
    )
    if not len(known):
        return Blend(), ()
    if len(known) > CHOICE_CUSTOMERS:
        known = known[np.linspace(0, len(known) - 1, CHOICE_CUSTOMERS).astype(int)]
    recommender = learn(
        before, replace(catalogue, available=np.ones(len(catalogue.item_ids), dtype=bool)), settings=settings
    )
    history = recommender.own[known]
    relevant = bought[known]
    unknown = new_to_the_customer(relevant, history)
    parts = _parts(recommender, known)
    trials = []
    over_new: dict[tuple[float, float], tuple[float, float]] = {}  # the weight of what is left out changes nothing
    for blend in blends:
        candidate = replace(recommender, blend=blend)
        lists = _lists(candidate, known, parts).items
        if (blend.similar, blend.trending) not in over_new:
            new_lists = _lists(candidate, known, parts, only_new=True).items
            over_new[blend.similar, blend.trending] = (
                mean_of(recall_at_k(new_lists, unknown)),
                mean_of(ndcg_at_k(new_lists, unknown)),
            )
        trials.append(
            Trial(
                blend,
                mean_of(recall_at_k(lists, relevant)),
                mean_of(ndcg_at_k(lists, relevant)),
                *over_new[blend.similar, blend.trending],
            )
        )
    return max(trials, key=lambda trial: trial.score).blend, tuple(trials)


def ranked(
    recommender: Recommender, customers: npt.NDArray[np.int64], *, only_new: bool = False
) -> npt.NDArray[np.int32]:
    """The lists alone, customers x k, -1 where they are shorter: what is measured.

    Args:
        customers: row numbers.
        only_new: leave out all that a customer's history holds.
    """
    import numpy as np

    chunk = recommender.settings.chunk
    found = []
    for start in range(0, len(customers), chunk):
        rows = customers[start : start + chunk]
        found.append(_lists(recommender, rows, _parts(recommender, rows), only_new=only_new).items)
    return np.concatenate(found) if found else np.empty((0, recommender.settings.k), dtype=np.int32)


def recommend(recommender: Recommender, customers: npt.NDArray[np.int64] | None = None) -> Iterator[Recommendations]:
    """The lists with scores, sources and reasons, `settings.chunk` customers at a time.

    A customer without any history gets what is popular.

    Args:
        customers: row numbers, all by default.
    """
    import numpy as np

    if customers is None:
        customers = np.arange(recommender.own.shape[0])
    for start in range(0, len(customers), recommender.settings.chunk):
        rows = customers[start : start + recommender.settings.chunk]
        parts = _parts(recommender, rows)
        found = _lists(recommender, rows, parts)
        row, place = np.nonzero(found.items >= 0)
        item, score, source = found.items[row, place], found.scores[row, place], found.sources[row, place]
        because = np.full(len(row), -1, dtype=np.int32)
        asked = np.flatnonzero(source == SIMILAR)
        because[asked], source[asked] = _reasons(recommender, rows, parts, row[asked], item[asked])
        yield Recommendations(rows[row], (place + 1).astype(np.int16), item, score, source, because)


def similar_items(recommender: Recommender) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """For each item's page: those that the same customers want, filled up with the most popular of its category.

    By cosine (item-kNN), whichever method makes the customers' lists: it can be told and needs no customer.

    Returns:
        Columns, items x k, -1 where there are not enough; their cosines, NaN for what is filled up.
    """
    import numpy as np
    from scipy import sparse

    from ml.estimators.item_knn import ItemKNN
    from ml.estimators.top import best_of_rows

    k = recommender.settings.k
    likeness = sparse.csr_array(ItemKNN(neighbours=recommender.settings.neighbours).fit(recommender.history).weights_.T)
    items, scores = best_of_rows(_columns(likeness, recommender.catalogue.recommendable), k, ties=recommender.ranks)
    themselves = sparse.csr_array(sparse.eye_array(len(items), dtype=np.float32))
    filled, _ = _fill(recommender, items, _category_matrix(recommender.catalogue), themselves)
    return filled, scores


def category_affinity(recommender: Recommender) -> sparse.csr_array:
    """Share of each category in the customer's history, customers x categories; rows add up to 1, or are empty."""
    import numpy as np

    found = recommender.own @ _category_matrix(recommender.catalogue)
    sums = np.asarray(found.sum(axis=1)).ravel()
    found.data /= np.repeat(sums, np.diff(found.indptr))
    return found


@dataclass(frozen=True)
class _Lists:
    items: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32]
    sources: npt.NDArray[np.int8]


def _lists(recommender: Recommender, rows: npt.NDArray[np.int64], parts: _Parts, *, only_new: bool = False) -> _Lists:
    """Items, scores and sources, customers x k. What is not filled up counts as `SIMILAR` until reasons are looked for."""
    import numpy as np
    from scipy import sparse

    from ml.estimators.top import best_of_rows

    blend, k = recommender.blend, recommender.settings.k
    left_out = recommender.own[rows] if only_new else recommender.just_bought[rows]
    scores = _blended(recommender, parts, only_new=only_new)
    items, values = best_of_rows(scores, k, ties=recommender.ranks)
    blended = items >= 0
    categories = recommender.own[rows] @ _category_matrix(recommender.catalogue)
    if not recommender.settings.fill_by_category:
        categories = sparse.csr_array(categories.shape, dtype=np.float32)
    items, filled = _fill(recommender, items, categories, left_out)
    values = np.where(blended, values, np.float32(blend.trending) * recommender.popularity[items])
    return _Lists(items, values.astype(np.float32), np.where(blended, np.int8(SIMILAR), filled))


def _blended(recommender: Recommender, parts: _Parts, *, only_new: bool) -> sparse.csr_array:
    """Weighted sum of own history, similar items and present sales, where the first two are above zero, customers x items."""
    import numpy as np
    from scipy import sparse

    blend = recommender.blend
    similar, own = parts.both.data.real, parts.both.data.imag
    likely = np.float32(blend.similar) * similar + np.float32(blend.own) * own
    kept = (likely > 0) & ((own == 0) if only_new else (own >= 0))
    before = np.concatenate([[0], np.cumsum(kept)])[parts.both.indptr]
    items = parts.both.indices[kept]
    return sparse.csr_array(
        (likely[kept] + np.float32(blend.trending) * recommender.popularity[items], items, before),
        shape=parts.both.shape,
    )


def _parts(recommender: Recommender, rows: npt.NDArray[np.int64]) -> _Parts:
    """One product for all blends: own history rides along as the imaginary part, as adding sparse matrices up takes longer."""
    import numpy as np
    from scipy import sparse

    own = _columns(recommender.own[rows], recommender.catalogue.recommendable)
    own = _scaled(own, _scale(own))
    marked = own.astype(np.complex64)
    marked.data *= 1j
    bought = recommender.just_bought[rows]
    marked.data[_lookup(bought, _keys(bought), _rows_of(own), own.indices) > 0] *= -1
    both = sparse.hstack([recommender.history[rows], marked], format="csr") @ recommender.stacked_weights
    scale = _scale(sparse.csr_array((both.data.real, both.indices, both.indptr), shape=both.shape))
    both.data.real *= np.repeat(scale, np.diff(both.indptr))
    return _Parts(own, scale, both)


def _scale(scores: sparse.csr_array) -> npt.NDArray[np.float32]:
    """What makes the highest entry of each row 1; 1 for rows with nothing above zero."""
    import numpy as np

    highest = np.zeros(scores.shape[0], dtype=np.float32)
    filled = np.flatnonzero(np.diff(scores.indptr))
    if len(filled):
        highest[filled] = np.maximum.reduceat(scores.data, scores.indptr[filled])
    # Below the least normal number, of interests that are years old, the quotient would be infinite.
    usable = highest >= np.finfo(np.float32).tiny
    return np.where(usable, 1 / np.where(usable, highest, 1), 1).astype(np.float32)


def _scaled(matrix: sparse.csr_array, factors: npt.NDArray[np.float32]) -> sparse.csr_array:
    """Each row times its factor."""
    import numpy as np
    from scipy import sparse

    data = matrix.data * np.repeat(factors, np.diff(matrix.indptr))
    return sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def _reasons(
    recommender: Recommender,
    rows: npt.NDArray[np.int64],
    parts: _Parts,
    row: npt.NDArray[np.int64],
    item: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int8]]:
    """The item of each customer's history that contributed most to each recommendation, and the source that makes it.

    Args:
        rows: customers of the chunk.
        parts: their scores.
        row: place in `rows` of each recommendation.
        item: its item.
    """
    import numpy as np

    blend, history = recommender.blend, recommender.history[rows]
    widths = np.diff(history.indptr)[row]
    pair = np.repeat(np.arange(len(row)), widths)
    within = np.arange(len(pair)) - np.repeat(np.cumsum(widths) - widths, widths)
    entry = history.indptr[row][pair] + within
    source = history.indices[entry]
    said = _lookup(recommender.weights, recommender.weight_keys, source, item[pair])
    given = blend.similar * history.data[entry] * said * parts.scale[row][pair]
    given[~recommender.catalogue.named[source]] = 0
    strongest = np.zeros(len(row), dtype=np.float32)
    np.maximum.at(strongest, pair, given)
    # The first of the strongest by popularity: an equal one must not depend on the order of columns.
    because = np.full(len(row), -1, dtype=np.int32)
    hits = np.flatnonzero((given > 0) & (given == strongest[pair]))
    hits = hits[np.lexsort((recommender.ranks[source[hits]], pair[hits]))]
    first = hits[np.diff(pair[hits], prepend=-1) > 0]
    because[pair[first]] = source[first]
    itself = blend.own * _lookup(parts.own, _keys(parts.own), row, item)
    kinds = np.full(len(row), SIMILAR, dtype=np.int8)
    again = (itself > 0) & (itself >= strongest)
    kinds[again], because[again] = HISTORY, item[again]
    return because, kinds


def _fill(
    recommender: Recommender,
    lists: npt.NDArray[np.int32],
    categories: sparse.csr_array,
    left_out: sparse.csr_array,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int8]]:
    """Fill lists up with the most popular items of the row's categories, the strongest first, then of all.

    Args:
        lists: rows x k, -1 where a place is free, at the end.
        categories: rows x categories, how strong each is.
        left_out: rows x items that must not be added.

    Returns:
        The lists, and where each place was filled from, CATEGORY or POPULAR.
    """
    import numpy as np
    from scipy import sparse

    from ml.estimators.top import best_of_rows

    sources = np.full(lists.shape, POPULAR, dtype=np.int8)
    short = np.flatnonzero((lists < 0).any(axis=1))
    if not len(short):
        return lists, sources
    lists, items = lists.copy(), recommender.history.shape[1]
    row, place = np.nonzero(lists[short] >= 0)
    taken = sparse.csr_array(
        (np.ones(len(row), dtype=np.float32), (row, lists[short][row, place])), shape=(len(short), items)
    )
    barred = taken + left_out[short]
    allowed = np.flatnonzero(recommender.catalogue.recommendable)
    # So many that a row that may take none of what is barred for it still finds enough.
    enough = lists.shape[1] + int(np.diff(barred.indptr).max())
    by_popularity = allowed[np.argsort(recommender.ranks[allowed])]
    worth = np.zeros(items, dtype=np.float32)
    worth[by_popularity] = np.linspace(1, 0.5, len(by_popularity), dtype=np.float32)
    number = recommender.catalogue.category_numbers[by_popularity]
    order = np.lexsort((np.arange(len(number)), number))
    start = np.searchsorted(number[order], number[order])
    top = by_popularity[order][((np.arange(len(order)) - start) < enough) & (number[order] >= 0)]
    best = sparse.csr_array(
        (worth[top], (recommender.catalogue.category_numbers[top], top)), shape=(categories.shape[1], items)
    )
    overall = np.where(np.isin(np.arange(items), by_popularity[:enough]), worth, 0).astype(np.float32)
    strength = categories[short]
    inside = _scaled(strength, _scale(strength)) @ best
    inside.data += 2  # a category before all that is popular elsewhere
    scores = _without(inside + _same_for_all(overall, len(short)), barred)
    found, values = best_of_rows(scores, lists.shape[1], ties=recommender.ranks)
    free = np.arange(lists.shape[1]) - (lists[short] >= 0).sum(axis=1)[:, None]
    at = np.maximum(free, 0)
    lists[short] = np.where(free >= 0, np.take_along_axis(found, at, 1), lists[short])
    sources[short] = np.where(np.take_along_axis(values, at, 1) > 2, np.int8(CATEGORY), np.int8(POPULAR))
    return lists, sources


def _category_matrix(catalogue: Catalogue) -> sparse.csr_array:
    """Items x categories, 1 where an item is in one."""
    import numpy as np
    from scipy import sparse

    numbers = catalogue.category_numbers
    inside = np.flatnonzero(numbers >= 0)
    return sparse.csr_array(
        (np.ones(len(inside), dtype=np.float32), (inside, numbers[inside])),
        shape=(len(numbers), max(len(catalogue.category_names), 1)),
    )


def _columns(matrix: sparse.csr_array, mask: npt.NDArray[np.bool_]) -> sparse.csr_array:
    """The matrix with nothing left in other columns."""
    from scipy import sparse

    kept = sparse.csr_array(matrix, copy=True)
    kept.data[~mask[kept.indices]] = 0
    kept.eliminate_zeros()
    kept.sort_indices()
    return kept


def _same_for_all(scores: npt.NDArray[np.float32], rows: int) -> sparse.csr_array:
    """One sparse row, `rows` times."""
    import numpy as np
    from scipy import sparse

    stored = np.flatnonzero(scores).astype(np.int32)
    return sparse.csr_array(
        (
            np.tile(scores[stored].astype(np.float32), rows),
            np.tile(stored, rows),
            np.arange(rows + 1, dtype=np.int64) * len(stored),
        ),
        shape=(rows, len(scores)),
    )


def _without(scores: sparse.csr_array, left_out: sparse.csr_array) -> sparse.csr_array:
    """Entries above zero that are not stored in the other matrix."""
    import numpy as np
    from scipy import sparse

    if left_out.nnz:
        bar = sparse.csr_array(
            (np.full(left_out.nnz, -np.inf, dtype=np.float32), left_out.indices, left_out.indptr), shape=left_out.shape
        )
        scores = scores + bar
    scores.data[~(scores.data > 0)] = 0
    scores.eliminate_zeros()
    return scores


def _rows_of(matrix: sparse.csr_array) -> npt.NDArray[np.int64]:
    """Row of each stored entry."""
    import numpy as np

    return np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))


def _keys(matrix: sparse.csr_array) -> npt.NDArray[np.int64]:
    keys: npt.NDArray[np.int64] = _rows_of(matrix) * matrix.shape[1] + matrix.indices
    return keys


def _lookup(
    matrix: sparse.csr_array, keys: npt.NDArray[np.int64], row: npt.NDArray[np.int64], column: npt.NDArray[np.int32]
) -> npt.NDArray[np.float32]:
    """Single entries of a matrix with sorted columns and these keys, 0 where none is stored."""
    import numpy as np

    if not len(keys):
        return np.zeros(len(row), dtype=np.float32)
    asked = row.astype(np.int64) * matrix.shape[1] + column
    found = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[found] == asked, matrix.data[found], 0).astype(np.float32)


def _numbered(what: str, given: Sequence[str], known: Sequence[str]) -> npt.NDArray[np.int64]:
    import pandas as pd

    index = pd.Index(known)
    if index.has_duplicates:
        raise ValueError(f"{what} {index[index.duplicated()][0]!r} is known twice")
    numbers = index.get_indexer(pd.Index(given))
    if len(numbers) and numbers.min() < 0:
        where = int((numbers < 0).argmax())
        raise ValueError(f"interaction {where}: {what} {given[where]!r} is unknown")
    return numbers.astype("int64")
