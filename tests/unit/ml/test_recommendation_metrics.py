from __future__ import annotations

import math
from datetime import date
from itertools import combinations

import numpy as np
import pytest
from scipy import sparse

from ml.recommendation_metrics import (
    Period,
    bootstrap_interval,
    coverage,
    diversity,
    ndcg_at_k,
    new_to_the_customer,
    novelty,
    recall_at_k,
    rolling_periods,
)

K, ITEMS, CUSTOMERS = 6, 20, 200


@pytest.fixture(scope="module")
def drawn():
    generator = np.random.default_rng(11)
    lists = np.full((CUSTOMERS, K), -1, dtype=np.int32)
    for customer in range(CUSTOMERS):
        length = generator.integers(0, K + 1)
        lists[customer, :length] = generator.choice(ITEMS, length, replace=False)
    return lists, generator.random((CUSTOMERS, ITEMS)) < generator.random((CUSTOMERS, 1)) * 0.7


def test_recall_and_ndcg_by_the_slow_way(drawn):
    lists, relevant = drawn
    recall, ndcg = (figure(lists, sparse.csr_array(relevant.astype(float))) for figure in (recall_at_k, ndcg_at_k))
    for customer in range(CUSTOMERS):
        wanted = set(np.flatnonzero(relevant[customer]).tolist())
        if not wanted:
            assert math.isnan(recall[customer])
            assert math.isnan(ndcg[customer])
            continue
        shown = [item for item in lists[customer].tolist() if item >= 0]
        gain = sum(1 / math.log2(rank + 1) for rank, item in enumerate(shown, start=1) if item in wanted)
        best = sum(1 / math.log2(rank + 1) for rank in range(1, min(K, len(wanted)) + 1))
        assert recall[customer] == pytest.approx(len(wanted & set(shown)) / len(wanted))
        assert ndcg[customer] == pytest.approx(gain / best)


def test_ndcg_of_two_relevant_items_by_hand():
    relevant = sparse.csr_array(np.array([[1, 0, 0, 1]]))
    assert ndcg_at_k(np.array([[0, 1, 3]], dtype=np.int32), relevant)[0] == pytest.approx(1.5 / (1 + 1 / math.log2(3)))
    assert ndcg_at_k(np.array([[3, 0, 1]], dtype=np.int32), relevant)[0] == 1


def test_stored_zeros_are_not_relevant():
    relevant = sparse.csr_array((np.array([0.0, 1.0]), np.array([0, 1]), np.array([0, 2])), shape=(1, 3))
    assert recall_at_k(np.array([[0]], dtype=np.int32), relevant).tolist() == [0]


def test_lists_that_repeat_an_item_or_do_not_match_are_refused():
    relevant = sparse.csr_array(np.ones((1, 3)))
    with pytest.raises(ValueError, match="holds an item twice"):
        recall_at_k(np.array([[1, 1]], dtype=np.int32), relevant)
    with pytest.raises(ValueError, match="2 lists for 1 customers"):
        ndcg_at_k(np.array([[1], [2]], dtype=np.int32), relevant)


def test_coverage_diversity_and_novelty_by_the_slow_way(drawn):
    lists, _ = drawn
    groups = np.arange(ITEMS) % 4
    groups[:3] = -1
    buyers = np.arange(ITEMS) * 7
    diverse, novel = diversity(lists, groups), novelty(lists, buyers, 1_000)
    shown_to_anyone = set()
    for customer in range(CUSTOMERS):
        shown = [item for item in lists[customer].tolist() if item >= 0]
        shown_to_anyone |= set(shown)
        pairs = list(combinations(shown, 2))
        apart = [groups[one] != groups[other] or groups[one] == -1 for one, other in pairs]
        bits = [-math.log2(max(buyers[item], 0.5) / 1_000) for item in shown]
        assert diverse[customer] == pytest.approx(np.mean(apart) if pairs else math.nan, nan_ok=True)
        assert novel[customer] == pytest.approx(np.mean(bits) if shown else math.nan, nan_ok=True)
    assert coverage(lists, ITEMS) == len(shown_to_anyone) / ITEMS


def test_new_to_the_customer_leaves_the_history_out():
    relevant, history = np.array([[2, 1, 0], [0, 3, 0]]), np.array([[5, 0, 1], [0, 0, 9]])
    assert new_to_the_customer(sparse.csr_array(relevant), sparse.csr_array(history)).toarray().tolist() == [
        [0, 1, 0],
        [0, 1, 0],
    ]


def test_periods_end_where_the_next_begins():
    assert list(rolling_periods(date(2011, 12, 10), 28, 2)) == [
        Period(date(2011, 10, 15), date(2011, 11, 12)),
        Period(date(2011, 11, 12), date(2011, 12, 10)),
    ]
    with pytest.raises(ValueError, match="1 or more"):
        list(rolling_periods(date(2011, 12, 10), 0, 2))


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(4)
    covered = 0
    for _ in range(200):
        _, low, high = bootstrap_interval(generator.exponential(1, 80), resamples=200)
        covered += low <= 1 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_the_interval_leaves_out_what_is_unknown_and_is_the_same_again():
    values = np.array([1.0, np.nan, 3.0, 2.0])
    assert bootstrap_interval(values)[0] == 2
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert all(math.isnan(figure) for figure in bootstrap_interval(np.array([np.nan])))
