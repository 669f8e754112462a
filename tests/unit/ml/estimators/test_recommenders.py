from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone

from ml.estimators.als import ALS
from ml.estimators.ease import EASE, ITEMS_MAX
from ml.estimators.interactions import customer_items
from ml.estimators.item_knn import ItemKNN
from ml.estimators.popularity import Popularity
from ml.estimators.repurchase import Repurchase, RepurchaseIntervals
from ml.estimators.top import best_of_rows

ALL = [Popularity(), Repurchase(), ItemKNN(), EASE(), ALS(factors=4)]
EACH = pytest.mark.parametrize("estimator", ALL, ids=lambda estimator: type(estimator).__name__)


def weights(rows=60, items=25, seed=3) -> sparse.csr_array:
    generator = np.random.default_rng(seed)
    dense = generator.gamma(1, 1, (rows, items)) * (generator.random((rows, items)) < 0.3)
    return sparse.csr_array(dense.astype(np.float32))


def dense(scores) -> np.ndarray:
    return scores.toarray() if sparse.issparse(scores) else scores


def test_interactions_add_up_by_kind_and_age():
    found = customer_items(
        [0, 0, 1, 1], [2, 2, 0, 1], ["purchase", "view", "cart", "purchase"], [0, 30, 60, 0], shape=(3, 3), half_life=30
    )
    expected = np.log1p(np.array([[0, 0, 1 + 0.1 / 2], [0.3 / 4, 1, 0], [0, 0, 0]]))
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-6)


def test_weights_do_not_depend_on_the_order_of_interactions():
    generator = np.random.default_rng(5)
    customer, item, age = generator.integers(0, 5, 4000), generator.integers(0, 4, 4000), generator.random(4000) * 400
    kind = generator.choice(["view", "cart", "purchase"], 4000)
    once = customer_items(customer, item, kind, age, shape=(5, 4))
    order = generator.permutation(4000)
    again = customer_items(customer[order], item[order], kind[order], age[order], shape=(5, 4))
    assert once.data.tobytes() == again.data.tobytes()
    assert once.indices.tobytes() == again.indices.tobytes()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"customers": [3]}, "customer 3 is unknown"),
        ({"items": [-1]}, "item -1 is unknown"),
        ({"customers": ["c1"]}, "map ids to numbers"),
        ({"kinds": ["wish"]}, "unknown kind 'wish'"),
        ({"ages": [-1.0]}, "no number of days"),
        ({"ages": [np.nan]}, "no number of days"),
        ({"half_life": 0.0}, "half_life is 0.0"),
        ({"kind_weights": {"view": np.inf}}, "weight of 'view' is inf"),
        ({"ages": [1.0, 2.0]}, "don't match"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_wrong_interactions_are_refused(change, said):
    given = {"customers": [0], "items": [0], "kinds": ["view"], "ages": [1.0], "shape": (3, 3)} | change
    with pytest.raises(ValueError, match=said):
        customer_items(**given)


@EACH
@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (sparse.csr_array((0, 3), dtype=np.float32), "at least one customer and one item"),
        (sparse.csr_array((3, 0), dtype=np.float32), "at least one customer and one item"),
        (sparse.csr_array((3, 3), dtype=np.float32), "nothing to learn"),
        (sparse.csr_array(np.array([[1, 2], [np.inf, 1]])), "customer 1, item 0: the weight inf"),
        (sparse.csr_array(np.array([[1, np.nan]])), "customer 0, item 1: the weight nan"),
        (sparse.csr_array(np.array([[1, -2]])), "customer 0, item 1: the weight -2"),
    ],
    ids=["no customer", "no item", "all zero", "infinite", "nan", "negative"],
)
def test_wrong_weights_are_refused(estimator, matrix, said):
    with pytest.raises(ValueError, match=said):
        clone(estimator).fit(matrix)


@EACH
def test_a_matrix_that_is_not_sparse_is_refused(estimator):
    with pytest.raises(TypeError, match="sparse"):
        clone(estimator).fit(np.ones((3, 3)))


@EACH
def test_contract(estimator):
    fresh = clone(estimator)
    assert fresh.get_params() == estimator.get_params()
    assert not [name for name in vars(fresh) if name.endswith("_")]
    assert fresh.fit(weights()) is fresh
    assert fresh.n_features_in_ == 25
    assert fresh.predict(weights(rows=7, seed=9)).shape == (7, 25)
    with pytest.raises(ValueError, match="learned from"):
        fresh.predict(weights(items=24))


@EACH
def test_same_input_same_scores_to_the_last_bit(estimator):
    first, second = (dense(clone(estimator).fit(weights()).predict(weights())) for _ in range(2))
    assert first.tobytes() == second.tobytes()


@EACH
@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (1, 1)])
def test_one_customer_or_one_item_is_no_error(estimator, shape):
    scores = dense(
        clone(estimator)
        .fit(sparse.csr_array(np.ones(shape, dtype=np.float32)))
        .predict(sparse.csr_array(np.ones(shape, dtype=np.float32)))
    )
    assert np.isfinite(scores).all()


def test_popularity_adds_up_and_ranks_equal_items_by_column():
    found = Popularity().fit(sparse.csr_array(np.array([[1.0, 0, 2, 0], [1, 3, 0, 0]])))
    assert found.popularity_.tolist() == [2, 3, 2, 0]
    assert found.ranks_.tolist() == [1, 0, 2, 3]
    assert found.predict(sparse.csr_array((2, 4))).tolist() == [[2, 3, 2, 0]] * 2


def test_repurchase_is_the_own_history():
    given = weights()
    assert (dense(Repurchase().fit(given).predict(given)) == given.toarray()).all()


def test_item_knn_is_the_shrunk_cosine_by_brute_force():
    given = weights()
    columns = given.toarray().astype(float).T
    expected = np.zeros((25, 25))
    for target in range(25):
        similar = {}
        for other in set(range(25)) - {target}:
            both = sum(x * y for x, y in zip(columns[target], columns[other], strict=True))
            lengths = np.sqrt((columns[target] ** 2).sum() * (columns[other] ** 2).sum())
            similar[other] = both / (lengths + 2.0)
        for other in sorted(similar, key=lambda other: (-similar[other], other))[:4]:
            expected[other, target] = similar[other]
    found = ItemKNN(neighbours=4, shrinkage=2.0).fit(given)
    np.testing.assert_allclose(found.weights_.toarray(), expected, rtol=1e-5)
    np.testing.assert_allclose(dense(found.predict(given)), given.toarray() @ expected, rtol=1e-5, atol=1e-6)


def test_item_knn_is_the_same_in_blocks(monkeypatch):
    whole = ItemKNN(neighbours=5).fit(weights()).weights_.toarray()
    monkeypatch.setattr("ml.estimators.item_knn._BLOCK", 7)
    assert (ItemKNN(neighbours=5).fit(weights()).weights_.toarray() == whole).all()


def test_item_knn_lets_an_item_speak_for_the_most_similar_ones_only():
    whole = ItemKNN(neighbours=10).fit(weights()).weights_.toarray()
    within = ItemKNN(neighbours=10, reach=3).fit(weights()).weights_.toarray()
    for item in range(25):
        expected = np.argsort(-whole[item], kind="stable")[: min(3, (whole[item] > 0).sum())]
        assert np.flatnonzero(within[item]).tolist() == sorted(expected.tolist())
        assert (within[item, expected] == whole[item, expected]).all()


def test_ease_is_the_ridge_regression_of_each_item_on_the_others():
    given = weights()
    x = given.toarray().astype(float)
    expected = np.zeros((25, 25))
    for target in range(25):
        others = np.delete(np.arange(25), target)
        a = x[:, others]
        expected[others, target] = np.linalg.solve(a.T @ a + 3.0 * np.eye(24), a.T @ x[:, target])
    found = EASE(regularization=3.0).fit(given)
    np.testing.assert_allclose(found.weights_, expected, rtol=1e-4, atol=1e-6)
    inverse = np.linalg.inv(x.T @ x + 3.0 * np.eye(25))
    closed = -inverse / np.diag(inverse)
    np.fill_diagonal(closed, 0)
    np.testing.assert_allclose(found.weights_, closed, rtol=1e-4, atol=1e-6)


def test_ease_keeps_the_largest_weights_towards_each_item():
    full = dense(EASE().fit(weights()).weights_)
    kept = dense(EASE(neighbours=3).fit(weights()).weights_)
    for target in range(25):
        largest = np.sort(np.argsort(-np.abs(full[:, target]))[:3])
        assert np.flatnonzero(kept[:, target]).tolist() == largest.tolist()
        assert (kept[largest, target] == full[largest, target]).all()


def test_ease_leaves_out_items_of_hardly_any_weight():
    given = weights()
    scale = np.ones(25, dtype=np.float32)
    scale[[3, 8]] = 1e-3
    faint = sparse.csr_array(given * scale)
    found = EASE(regularization=100.0).fit(faint).weights_
    assert not found[[3, 8]].any()
    assert not found[:, [3, 8]].any()
    x = faint.toarray().astype(np.float64)
    inverse = np.linalg.inv(x.T @ x + 100.0 * np.eye(25))
    closed = -inverse / np.diag(inverse)
    np.fill_diagonal(closed, 0)
    assert np.abs(found - closed).max() < 1e-3
    assert EASE(regularization=1e9).fit(given).weights_.any()


def test_ease_takes_double_precision_where_single_would_lose_digits():
    given = weights(rows=400)
    given.data *= 1_000
    x = given.toarray().astype(np.float64)
    inverse = np.linalg.inv(x.T @ x + 10.0 * np.eye(25))
    closed = -inverse / np.diag(inverse)
    np.fill_diagonal(closed, 0)
    np.testing.assert_allclose(EASE(regularization=10.0).fit(given).weights_, closed, rtol=1e-4, atol=1e-6)


def test_ease_refuses_large_catalogues_and_no_regularization():
    with pytest.raises(ValueError, match="use ItemKNN"):
        EASE().fit(sparse.csr_array(([1.0], ([0], [0])), shape=(1, ITEMS_MAX + 1)))
    with pytest.raises(ValueError, match="regularization"):
        EASE(regularization=0.0).fit(weights())


def test_als_finds_two_tastes():
    taste = np.zeros((40, 12), dtype=np.float32)
    generator = np.random.default_rng(2)
    for customer in range(40):
        mine = np.arange(6) + 6 * (customer % 2)
        taste[customer, generator.choice(mine, 4, replace=False)] = 1
    given = sparse.csr_array(taste)
    scores = ALS(factors=2, regularization=1.0).fit(given).predict(given)
    for customer in range(40):
        unknown = np.flatnonzero(taste[customer] == 0)
        best = unknown[np.argsort(-scores[customer, unknown])[:2]]
        assert (best // 6 == customer % 2).all()


def test_als_scores_customers_that_it_was_not_fitted_on():
    given = weights()
    fitted = ALS(factors=4).fit(given)
    np.testing.assert_allclose(fitted.predict(given[[7]]), fitted.predict(given)[[7]], rtol=1e-5)


def test_repurchase_intervals_by_hand():
    # Item 0: customer 0 on days 30, 20, 5 ago (gaps 10, 15), customer 1 twice on one day; item 1: nobody again.
    found = RepurchaseIntervals(repeat_share=0.4, prior_buyers=0).fit(
        np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 0, 0, 0, 1]), np.array([5, 30, 20, 4, 4, 9]), 3
    )
    assert found.buyers_.tolist() == [2, 1, 0]
    assert found.repeat_shares_.tolist() == [0.5, 0, 0]
    assert found.intervals_[0] == 10
    assert np.isnan(found.intervals_[1:]).all()
    assert found.consumable_.tolist() == [True, False, False]


def test_the_repeat_share_of_few_buyers_is_drawn_to_that_of_all():
    # A hundred customers bought item 0 once; one bought item 1 twice.
    customers, items = np.append(np.arange(100), [200, 200]), np.append(np.zeros(100, dtype=np.int64), [1, 1])
    ages = np.append(np.full(100, 9), [1, 8])
    found = RepurchaseIntervals(repeat_share=0.1, prior_buyers=20).fit(customers, items, ages, 2)
    assert found.repeat_shares_[1] == pytest.approx((1 + 20 / 101) / 21)
    assert not found.consumable_.any()


@pytest.mark.parametrize("form", [sparse.csr_array, np.asarray], ids=["sparse", "dense"])
@pytest.mark.parametrize("k", [1, 3, 40])
def test_best_of_rows_by_sorting(form, k):
    generator = np.random.default_rng(1)
    scores = generator.integers(1, 6, (1_300, 30)).astype(np.float32)  # many ties
    ties = generator.permutation(30)
    columns, values = best_of_rows(form(scores), k, ties=ties)
    for row in range(0, 1_300, 13):
        expected = sorted(range(30), key=lambda item: (-scores[row, item], ties[item]))[:k]
        assert columns[row][: len(expected)].tolist() == expected
        assert values[row][: len(expected)].tolist() == scores[row, expected].tolist()
        assert (columns[row][len(expected) :] == -1).all()


def test_best_of_rows_leaves_out_what_is_no_score():
    columns, values = best_of_rows(np.array([[1, np.nan, -np.inf, -2]], dtype=np.float32), 3)
    assert columns.tolist() == [[0, 3, -1]]
    assert np.isnan(values[0, 2])
    assert best_of_rows(sparse.csr_array((2, 4), dtype=np.float32), 2)[0].tolist() == [[-1, -1], [-1, -1]]
    with pytest.raises(ValueError, match="k is 0"):
        best_of_rows(np.ones((1, 1), dtype=np.float32), 0)
