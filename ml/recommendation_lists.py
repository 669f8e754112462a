"""What is said of everyone and of every product at an as_of: tables for SQL, what is watched, and no figure of a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ml import affinity, interactions
from ml.affinity import SOURCES, Recommendations, Recommender
from ml.interactions import Known
from ml.model import Finding, Table
from ml.recommendation_metrics import diversity
from ml.scores import schema_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

CATEGORIES_MAX = 10  # of a customer

COVERED_MIN = 0.1
FULL_MIN = 0.95
DIVERSE_MIN = 0.2
DOMINANT_MAX = 0.9

CHECKS: Mapping[str, str] = {
    "coverage": (
        f"At least {COVERED_MIN:.0%} of the products that can be recommended are on a list, and {FULL_MIN:.0%} of customers"
        " have a full one."
    ),
    "diversity": (
        f"At least {DIVERSE_MIN:.0%} of the pairs within a list are of different categories, and no product is on more of the"
        f" lists of customers with a history than {DOMINANT_MAX:.0%} of the way from lists that are spread evenly to all."
    ),
}

FEATURES = ("products", "products_bought", "days_since", *(f"from_{source}" for source in SOURCES))
"""What is watched for drift beside the best score: a customer's history, and the share of their list by its source."""

_DIGITS = 6  # of scores: another machine's last bit makes no other bytes


@dataclass(frozen=True)
class Lists:
    """Customers' lists at an as_of.

    Attributes:
        known: what they were made from.
        recommender: by what.
        table: `recommendations` of `ml.scores.TABLES`.
        frame: a row per customer, `FEATURES` and the best `score`.
        lengths: of each list.
        diverse: share of pairs in each that are of different categories; NaN below two products.
        on_lists: lists that hold each product, and
        on_lists_of_known: of them, those of customers with a history.
    """

    known: Known
    recommender: Recommender
    table: pa.Table
    frame: pd.DataFrame
    lengths: npt.NDArray[np.int64]
    diverse: npt.NDArray[np.float64]
    on_lists: npt.NDArray[np.int64]
    on_lists_of_known: npt.NDArray[np.int64]

    @classmethod
    def of(cls, known: Known, recommender: Recommender, customers: npt.NDArray[np.int64] | None = None) -> Lists:
        """Make them, a few thousand customers at a time.

        Args:
            known: what the recommender was learned from.
            recommender: what was learned.
            customers: rows, rising; all by default.
        """
        import numpy as np
        import pyarrow as pa

        rows = np.arange(recommender.own.shape[0]) if customers is None else customers
        products = pa.array(recommender.catalogue.item_ids, pa.string())
        items, k = recommender.own.shape[1], recommender.settings.k
        has_history = ~np.isnan(known.last_ages)
        batches = []
        counts = np.zeros((len(rows), len(SOURCES)), dtype=np.int64)
        best, diverse = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
        on_lists, on_lists_of_known = np.zeros(items, dtype=np.int64), np.zeros(items, dtype=np.int64)
        for part in affinity.recommend(recommender, rows):
            batches.append(_batch(part, known.customers, products))
            at = np.searchsorted(rows, part.customers)
            first, last = (int(at[0]), int(at[-1]) + 1) if len(at) else (0, 0)
            lists = np.full((last - first, k), -1, dtype=np.int32)
            lists[at - first, part.ranks - 1] = part.items
            diverse[first:last] = diversity(lists, recommender.catalogue.category_numbers)
            np.add.at(counts, (at, part.sources), 1)
            top = part.ranks == 1
            best[at[top]] = part.scores[top]
            on_lists += np.bincount(part.items, minlength=items)
            on_lists_of_known += np.bincount(part.items[has_history[part.customers]], minlength=items)
        return cls(
            known,
            recommender,
            pa.Table.from_batches(batches, schema=schema_of("recommendations")),
            _frame(known, recommender, rows, counts, best),
            counts.sum(axis=1),
            diverse,
            on_lists,
            on_lists_of_known,
        )

    @cached_property
    def covered(self) -> float:
        """Share of the products that could be on a list which are: of all that may, or as many as there are places."""
        could = min(int(self.recommender.catalogue.recommendable.sum()), int(self.lengths.sum()))
        return float((self.on_lists > 0).sum() / max(could, 1))

    @cached_property
    def full(self) -> float:
        """Share of customers with a full list."""
        return float((self.lengths == self.recommender.settings.k).mean()) if len(self.lengths) else 0.0

    @cached_property
    def dominance(self) -> float:
        """Share of the lists of customers with a history that hold the product which most of them hold."""
        customers = int((self.frame["products"] > 0).sum())
        return float(self.on_lists_of_known.max(initial=0) / max(customers, 1))

    @cached_property
    def dominant_from(self) -> float:
        """What `dominance` must not exceed: a small catalogue has every product on many lists, however they are spread."""
        even = min(1.0, self.recommender.settings.k / max(int(self.recommender.catalogue.recommendable.sum()), 1))
        return even + DOMINANT_MAX * (1 - even)

    @cached_property
    def differing(self) -> float:
        """Mean over customers of the share of pairs within a list that are of different categories."""
        import numpy as np

        return float(np.nanmean(self.diverse)) if not np.isnan(self.diverse).all() else 0.0

    def findings(self) -> tuple[Finding, ...]:
        """One per check of `CHECKS`."""
        recommendable = int(self.recommender.catalogue.recommendable.sum())
        has_categories = bool(self.recommender.catalogue.category_names)
        within = (
            f"{self.differing:.0%} of pairs within a list are of different categories"
            if has_categories
            else "products have no categories"
        )
        return (
            Finding(
                "coverage",
                self.covered >= COVERED_MIN and self.full >= FULL_MIN,
                f"{self.covered:.0%} of {recommendable:,} products that can be recommended are on a list, and"
                f" {self.full:.0%} of {len(self.lengths):,} customers have a full one",
            ),
            Finding(
                "diversity",
                (not has_categories or self.differing >= DIVERSE_MIN) and self.dominance <= self.dominant_from,
                f"{within}, and the product on most lists is on {self.dominance:.0%} of those of customers with a history"
                f" ({self.dominant_from:.0%} would be too many)",
            ),
        )

    def report(self) -> Mapping[str, Table]:
        """Tables of the model's report."""
        catalogue = self.recommender.catalogue
        named, available = int(catalogue.named.sum()), int((catalogue.named & ~catalogue.available).sum())
        gone = (
            "out of stock"
            if self.known.tells_stock
            else f"not sold or put into a cart for {interactions.MOVING_DAYS} days, as the shop tells of no stock"
        )
        shares = [(f"from {source}", float(self.frame[f"from_{source}"].mean())) for source in SOURCES]
        return {
            "Lists": Table(
                ("what", "figure"),
                (
                    ("customers", len(self.lengths)),
                    ("of them without any history", int((self.frame["products"] == 0).sum())),
                    ("recommendations", int(self.lengths.sum())),
                    ("products on a list", int((self.on_lists > 0).sum())),
                    *((f"share of a list {name}", round(share, 4)) for name, share in shares),
                    ("share of pairs of different categories", round(self.differing, 4)),
                    ("what items say for others was learned by", self.recommender.method),
                ),
            ),
            "Products that are on no list": Table(
                ("why", "products"), (("no name", len(catalogue.item_ids) - named), (gone, available))
            ),
        }


def similar_products(recommender: Recommender) -> pa.Table:
    """`similar_products` of `ml.scores.TABLES`: for each product that has a name; no similarity where filled up."""
    import numpy as np
    import pyarrow as pa

    products = pa.array(recommender.catalogue.item_ids, pa.string())
    similar, cosines = affinity.similar_items(recommender)
    item, place = np.nonzero((similar >= 0) & recommender.catalogue.named[:, None])
    values = np.round(cosines[item, place].astype(np.float64), _DIGITS)
    return pa.table(
        [
            products.take(pa.array(item)),
            pa.array((place + 1).astype(np.int32)),
            products.take(pa.array(similar[item, place])),
            pa.array(values, mask=np.isnan(values)),
        ],
        schema=schema_of("similar_products"),
    )


def category_affinities(known: Known, recommender: Recommender) -> pa.Table:
    """`category_affinities` of `ml.scores.TABLES`: shares of the history, the `CATEGORIES_MAX` largest of each customer."""
    import numpy as np
    import pyarrow as pa

    from ml.estimators.top import best_of_rows

    names = recommender.catalogue.category_names
    best, shares = best_of_rows(affinity.category_affinity(recommender), CATEGORIES_MAX)
    customer, place = np.nonzero(best >= 0)
    return pa.table(
        [
            known.customers.take(pa.array(customer)),
            pa.array((place + 1).astype(np.int32)),
            pa.array(names, pa.string()).take(pa.array(best[customer, place])),
            pa.array(np.round(shares[customer, place].astype(np.float64), _DIGITS)),
        ],
        schema=schema_of("category_affinities"),
    )


def _batch(part: Recommendations, customers: pa.Array, products: pa.Array) -> pa.RecordBatch:
    import numpy as np
    import pyarrow as pa

    return pa.record_batch(
        [
            customers.take(pa.array(part.customers)),
            pa.array(part.ranks.astype(np.int32)),
            products.take(pa.array(part.items)),
            pa.array(np.round(part.scores.astype(np.float64), _DIGITS)),
            pa.array(SOURCES, pa.string()).take(pa.array(part.sources)),
            products.take(pa.array(part.because, mask=part.because < 0)),
        ],
        schema=schema_of("recommendations"),
    )


def _frame(
    known: Known,
    recommender: Recommender,
    rows: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    best: npt.NDArray[np.float64],
) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    done = known.interactions
    bought = done.only(done.kinds == "purchase").matrix(None)
    lengths = np.maximum(counts.sum(axis=1), 1)
    return pd.DataFrame(
        {
            "products": np.diff(recommender.own.indptr)[rows],
            "products_bought": np.diff(bought.indptr)[rows],
            "days_since": known.last_ages[rows],
            **{f"from_{source}": counts[:, place] / lengths for place, source in enumerate(SOURCES)},
            "score": best,
        }
    )
