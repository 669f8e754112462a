"""Recommendations on the real retailer's last four weeks, against the baselines and the bare models.

The blend is chosen on the four weeks before, and nothing is learned from the last four.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import duckdb
import numpy as np
import pytest
from scipy import sparse

from ml.affinity import Catalogue, Interactions, choose_blend, learn, ranked
from ml.estimators.als import ALS
from ml.estimators.ease import EASE
from ml.estimators.item_knn import ItemKNN
from ml.estimators.popularity import Popularity
from ml.estimators.repurchase import Repurchase
from ml.estimators.top import best_of_rows
from ml.recommendation_metrics import bootstrap_interval, ndcg_at_k, new_to_the_customer, recall_at_k

DAYS = 28
K = 20

# Goods and orders as tests/reference/online_retail.py has them; an invoice in both files counts as in the later one.
PURCHASES = """
with lines as (
    select *, 2 as delivery from read_parquet($second)
    union all by name
    select *, 1 as delivery from read_parquet($first) where Invoice not in (select Invoice from read_parquet($second))
)
select
    cast("Customer ID" as varchar) as customer,
    upper(trim(StockCode)) as item,
    any_value(Description order by Description) as name,
    date_diff('day', cast(InvoiceDate as date), date '2011-12-10') as age
from lines
where "Customer ID" is not null and Quantity > 0 and Price > 0 and not starts_with(Invoice, 'C')
    and regexp_full_match(upper(trim(StockCode)), '[0-9]{5}[A-Z]*|DCGS.*')
group by all
order by customer, item, age
"""


@pytest.fixture(scope="module")
def measured():
    return measure()


def measure() -> dict[str, dict[tuple[str, str], np.ndarray]]:
    """Recall and NDCG by customer, over all items and over new ones, of our lists and of each rival's."""
    folder = files("samples") / "online_retail_ii"
    paths = {"first": str(folder / "year_2009_2010.parquet"), "second": str(folder / "year_2010_2011.parquet")}
    sales = duckdb.connect().execute(PURCHASES, paths).df()
    customers, items = sorted(set(sales["customer"])), sorted(set(sales["item"]))
    every = Interactions.of(
        sales["customer"].tolist(),
        sales["item"].tolist(),
        ["purchase"] * len(sales["age"]),
        sales["age"].to_numpy(),
        customers=customers,
        items=items,
    )
    catalogue = Catalogue(items, items, [None] * len(items), np.ones(len(items), dtype=bool))
    known, bought = every.held_out(DAYS)
    blend, _ = choose_blend(known, catalogue, days=DAYS)
    ours = learn(known, catalogue, blend=blend)
    asked = np.flatnonzero((np.diff(bought.indptr) > 0) & (np.diff(known.matrix(None).indptr) > 0))
    relevant, history = bought[asked], known.matrix(None)[asked]
    unknown = new_to_the_customer(relevant, history)
    lists = {"ours": (ranked(ours, asked), ranked(ours, asked, only_new=True))}
    plain = sparse.csr_array(known.matrix(None))
    plain.data[:] = 1
    decayed = known.matrix(60)
    for name, estimator, weights in (
        ("popularity", Popularity().fit(known.matrix(14)), decayed),
        ("popularity of all time", Popularity().fit(plain), plain),
        ("own history", Repurchase().fit(decayed), known.matrix(180)),
        ("item-kNN", ItemKNN().fit(decayed), decayed),
        ("EASE", EASE().fit(decayed), decayed),
        ("ALS", ALS(factors=64).fit(decayed), decayed),
    ):
        given: Any = estimator.predict(weights[asked])
        scores = given.toarray() if sparse.issparse(given) else given
        new = scores.copy()
        new[history.nonzero()] = -np.inf
        lists[name] = best_of_rows(scores, K)[0], best_of_rows(new, K)[0]
    found: dict[str, dict[tuple[str, str], np.ndarray]] = {}
    for name, (over_all, over_new) in lists.items():
        found[name] = {
            ("recall", "all"): recall_at_k(over_all, relevant),
            ("ndcg", "all"): ndcg_at_k(over_all, relevant),
            ("recall", "new"): recall_at_k(over_new, unknown),
            ("ndcg", "new"): ndcg_at_k(over_new, unknown),
        }
    return found


@pytest.mark.slow
@pytest.mark.xdist_group("affinity_quality")
@pytest.mark.parametrize("metric", ["recall", "ndcg"])
class TestLastPeriod:
    @pytest.mark.parametrize("rival", ["own history", "popularity", "popularity of all time"])
    def test_over_all_items_not_below_the_baselines(self, measured, metric, rival):
        gain, low, _ = bootstrap_interval(measured["ours"][metric, "all"] - measured[rival][metric, "all"])
        assert low > 0, f"{metric} gains {gain:.4f}, {low:.4f} at the lower end"

    @pytest.mark.parametrize("rival", ["popularity", "popularity of all time"])
    def test_over_new_items_well_above_popularity(self, measured, metric, rival):
        ours, theirs = (np.nanmean(measured[name][metric, "new"]) for name in ("ours", rival))
        assert ours >= 1.4 * theirs

    @pytest.mark.parametrize("rival", ["item-kNN", "EASE", "ALS"])
    def test_over_new_items_not_below_the_bare_models(self, measured, metric, rival):
        ours, theirs = (np.nanmean(measured[name][metric, "new"]) for name in ("ours", rival))
        assert ours >= theirs
