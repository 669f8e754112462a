from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ml.affinity import (
    CATEGORY,
    CUSTOMERS_MIN,
    HISTORY,
    POPULAR,
    SIMILAR,
    Blend,
    Catalogue,
    Interactions,
    Settings,
    category_affinity,
    choose_blend,
    learn,
    ranked,
    recommend,
    refusal,
    similar_items,
)

CUSTOMERS, ITEMS = 300, 40
COLD = CUSTOMERS - 1  # never did anything
BROWSER = CUSTOMERS - 2  # looked at item 3, bought nothing
CONSUMABLES = np.arange(0, ITEMS, 4)


@pytest.fixture(scope="module")
def interactions():
    """Two tastes, items below 20 and above; items divisible by 4 are bought again and again."""
    generator = np.random.default_rng(8)
    rows = []
    for customer in range(CUSTOMERS - 2):
        for item in generator.choice(20, 6, replace=False) + 20 * (customer % 2):
            ages = generator.integers(1, 200, 4 if item % 4 == 0 else 1)
            rows += [(customer, item, "purchase", float(age)) for age in ages]
    rows.append((BROWSER, 3, "view", 2.0))
    customers, items, kinds, ages = (np.array(column) for column in zip(*rows, strict=True))
    return Interactions(customers, items, kinds, ages.astype(float), (CUSTOMERS, ITEMS))


@pytest.fixture(scope="module")
def catalogue():
    return Catalogue(
        [f"sku-{item:02d}" for item in range(ITEMS)],
        [f"Item {item}" for item in range(ITEMS)],
        [None if item % 10 == 9 else f"Category {item // 10}" for item in range(ITEMS)],
        np.ones(ITEMS, dtype=bool),
    )


def rows_of(recommender, customers=None) -> dict[str, np.ndarray]:
    parts = list(recommend(recommender, customers))
    names = ("customers", "ranks", "items", "scores", "sources", "because")
    return {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}


def without(catalogue, items) -> Catalogue:
    return replace(catalogue, available=~np.isin(np.arange(ITEMS), items))


METHODS = pytest.mark.parametrize("settings", [Settings(), Settings(ease_items_max=0)], ids=["ease", "item_knn"])


@METHODS
def test_everyone_gets_a_full_list_without_repeats(interactions, catalogue, settings):
    recommender = learn(interactions, catalogue, settings=settings)
    found = rows_of(recommender)
    assert recommender.method == ("ease" if settings.ease_items_max else "item_knn")
    assert len(found["items"]) == CUSTOMERS * 20
    assert len(np.unique(found["customers"] * ITEMS + found["items"])) == CUSTOMERS * 20
    assert found["ranks"].tolist() == list(range(1, 21)) * CUSTOMERS
    assert np.isfinite(found["scores"]).all()


@METHODS
def test_nothing_that_is_not_available(interactions, catalogue, settings):
    gone = np.array([1, 8, 22, 37])
    recommender = learn(interactions, without(catalogue, gone), settings=settings)
    assert not np.isin(rows_of(recommender)["items"], gone).any()
    assert not np.isin(similar_items(recommender)[0], gone).any()


def test_an_item_without_a_name_is_neither_recommended_nor_a_reason(interactions, catalogue):
    nameless = replace(catalogue, names=[" " if item == 4 else name for item, name in enumerate(catalogue.names)])
    found = rows_of(learn(interactions, nameless))
    assert 4 not in found["items"]
    assert 4 not in found["because"]
    assert 4 in rows_of(learn(interactions, catalogue))["because"]
    assert nameless.refusals() == {"sku-04": "it has no name"}


def test_what_was_just_bought_is_left_out_unless_it_is_a_consumable(interactions, catalogue):
    recommender = learn(interactions, catalogue)
    assert np.flatnonzero(recommender.consumable).tolist() == CONSUMABLES.tolist()
    found = rows_of(recommender)
    listed = set((found["customers"] * ITEMS + found["items"]).tolist())
    late = interactions.only((interactions.kinds == "purchase") & (interactions.ages <= 30))
    pairs = late.customers * ITEMS + late.items
    durable = late.items % 4 != 0
    assert durable.any()
    assert not listed & set(pairs[durable].tolist())
    assert listed & set(pairs[~durable].tolist())
    told = rows_of(learn(interactions, replace(catalogue, consumable=np.ones(ITEMS, dtype=bool))))
    assert set((told["customers"] * ITEMS + told["items"]).tolist()) & set(pairs[durable].tolist())


def test_what_was_bought_longer_ago_may_come_again(interactions, catalogue):
    found = rows_of(learn(interactions, catalogue))
    assert (found["items"][found["sources"] == HISTORY] % 4 != 0).any()


@METHODS
def test_the_reason_is_the_item_that_contributed_most(interactions, catalogue, settings):
    recommender = learn(interactions, catalogue, settings=settings)
    found = rows_of(recommender)
    weights, history = recommender.weights.toarray(), recommender.history.toarray()
    own, blend = recommender.own.toarray(), recommender.blend
    seen = {HISTORY: 0, SIMILAR: 0}
    for customer, item, score, source, because in zip(
        *(found[name].tolist() for name in ("customers", "items", "scores", "sources", "because")), strict=True
    ):
        if source not in seen:
            assert because == -1
            continue
        seen[source] += 1
        likely = np.maximum(history[customer] @ weights, 0)
        given = blend.similar * history[customer] * weights[:, item] / likely.max()
        itself = blend.own * own[customer, item] / own[customer].max()
        assert source == (HISTORY if itself > 0 and itself >= given.max() - 1e-6 else SIMILAR)
        assert because == item if source == HISTORY else given[because] == pytest.approx(given.max(), rel=1e-4)
        expected = itself + blend.similar * likely[item] / likely.max()
        assert score == pytest.approx(expected + blend.trending * recommender.popularity[item], rel=1e-4)
    assert min(seen.values()) > 100


@METHODS
def test_who_only_browsed_gets_what_goes_with_it(interactions, catalogue, settings):
    found = rows_of(learn(interactions, catalogue, settings=settings), np.array([BROWSER]))
    assert found["items"][0] == 3
    assert set(found["because"][found["sources"] == SIMILAR].tolist()) == {3}
    assert (found["items"][found["sources"] == SIMILAR] < 20).all()


def test_without_any_history_what_is_popular(interactions, catalogue):
    recommender = learn(interactions, catalogue)
    found = rows_of(recommender, np.array([COLD]))
    assert set(found["sources"].tolist()) == {POPULAR}
    assert found["items"].tolist() == np.argsort(recommender.ranks)[:20].tolist()
    assert (np.diff(found["scores"]) <= 0).all()


def test_a_short_list_is_filled_by_the_customers_categories_then_overall(catalogue):
    # Customers 0 to 9 buy items 0 and 1; of the others each buys one item only, so that nothing speaks for it.
    customers = np.concatenate([np.repeat(np.arange(10), 2), 10 + np.repeat(np.arange(38), np.arange(38) + 1)])
    items = np.concatenate([np.tile([0, 1], 10), 2 + np.repeat(np.arange(38), np.arange(38) + 1)])
    given = Interactions(
        customers, items, np.full(len(items), "purchase"), (np.arange(len(items)) % 9).astype(np.float64), (48, ITEMS)
    )
    found = rows_of(learn(given, catalogue, settings=Settings(ease_items_max=0)), np.array([0]))
    recommender = learn(given, catalogue, settings=Settings(ease_items_max=0))
    by_popularity = [item for item in np.argsort(recommender.ranks).tolist() if item not in (0, 1)]
    inside = [item for item in by_popularity if item in range(9)]
    outside = [item for item in by_popularity if item not in range(9)]
    assert found["items"].tolist() == [*inside, *outside][:20]
    assert found["sources"].tolist() == [CATEGORY] * len(inside) + [POPULAR] * (20 - len(inside))


def test_fewer_items_than_places_give_a_shorter_list(interactions, catalogue):
    recommender = learn(interactions, without(catalogue, np.arange(5, ITEMS)))
    found = rows_of(recommender)
    assert set(found["items"].tolist()) == set(range(5))
    assert np.bincount(found["customers"], minlength=CUSTOMERS).max() <= 5


@METHODS
def test_the_same_lists_again_in_any_order_and_chunk(interactions, catalogue, settings):
    first = rows_of(learn(interactions, catalogue, settings=settings))
    order = np.random.default_rng(0).permutation(len(interactions.items))
    shuffled = interactions.only(order)
    second = rows_of(learn(shuffled, catalogue, settings=replace(settings, chunk=7)))
    for name, column in first.items():
        assert column.tobytes() == second[name].tobytes(), name


def test_category_affinity_is_the_share_of_the_history(interactions, catalogue):
    recommender = learn(interactions, catalogue)
    shares = category_affinity(recommender).toarray()
    own = recommender.own.toarray()
    for customer in (0, 1, BROWSER, COLD):
        expected = np.array([own[customer, first : first + 9].sum() for first in range(0, ITEMS, 10)])
        np.testing.assert_allclose(shares[customer], expected / max(expected.sum(), 1e-9), rtol=1e-5)


def test_similar_items_come_from_the_same_customers_then_the_category(interactions, catalogue):
    recommender = learn(interactions, catalogue)
    items, scores = similar_items(recommender)
    assert items.shape == (ITEMS, 20)
    assert not (items == np.arange(ITEMS)[:, None]).any()
    assert (np.sort(items, axis=1)[:, 1:] != np.sort(items, axis=1)[:, :-1]).all()
    for item in range(ITEMS):
        similar = items[item][~np.isnan(scores[item])]
        assert (similar // 20 == item // 20).all()
        assert len(similar) >= 15
        wanted = recommender.history.toarray()
        cosines = wanted.T @ wanted[:, item] / (np.linalg.norm(wanted, axis=0) * np.linalg.norm(wanted[:, item]) + 5)
        assert scores[item, 0] == pytest.approx(np.delete(cosines, item).max(), rel=1e-4)


def test_only_new_leaves_the_history_out(interactions, catalogue):
    recommender = learn(interactions, catalogue)
    lists = ranked(recommender, np.arange(CUSTOMERS), only_new=True)
    own = recommender.own.toarray() > 0
    assert not own[np.arange(CUSTOMERS)[:, None], lists][lists >= 0].any()


def test_held_out_splits_at_the_day(interactions):
    before, bought = interactions.held_out(28)
    assert before.ages.tolist() == (interactions.ages[interactions.ages > 28] - 28).tolist()
    late = interactions.only((interactions.ages <= 28) & (interactions.kinds == "purchase"))
    expected = np.zeros((CUSTOMERS, ITEMS))
    expected[late.customers, late.items] = 1
    assert (bought.toarray() == expected).all()


def test_the_blend_is_the_best_of_those_tried_and_never_sees_the_period(interactions, catalogue):
    blends = (Blend(0.0, 0.0, 1.0), Blend(2.0, 1.0, 0.1))
    chosen, trials = choose_blend(interactions, catalogue, blends=blends)
    assert chosen == blends[1]
    assert trials[1].score > trials[0].score
    assert choose_blend(interactions.only(interactions.ages > 400), catalogue) == (Blend(), ())


def test_too_little_to_learn_from_is_refused_with_the_reason(interactions, catalogue):
    assert refusal(interactions, catalogue) is None
    few = interactions.only(interactions.customers < CUSTOMERS_MIN - 1)
    assert refusal(few, catalogue) == "49 customers have a history; recommendations need 50"
    assert refusal(interactions, without(catalogue, np.arange(ITEMS))) == (
        "no item of the catalogue is available and has a name"
    )


def test_ids_are_mapped_and_unknown_ones_refused():
    def of(customer, item, customers=("c1", "c2")) -> Interactions:
        return Interactions.of([customer], [item], ["view"], [1.0], customers=customers, items=["i1"])

    found = of("c2", "i1")
    assert (found.customers.tolist(), found.items.tolist(), found.shape) == ([1], [0], (2, 1))
    with pytest.raises(ValueError, match="interaction 0: customer 'c3' is unknown"):
        of("c3", "i1")
    with pytest.raises(ValueError, match="item 'i2' is unknown"):
        of("c1", "i2")
    with pytest.raises(ValueError, match="customer 'c1' is known twice"):
        of("c1", "i1", ("c1", "c1"))


def test_a_catalogue_that_does_not_fit_is_refused(interactions, catalogue):
    with pytest.raises(ValueError, match="'a' is in the catalogue twice"):
        Catalogue(["a", "a"], ["x", "y"], [None, None], np.ones(2, dtype=bool))
    with pytest.raises(ValueError, match="don't match"):
        Catalogue(["a", "b"], ["x"], [None, None], np.ones(2, dtype=bool))
    with pytest.raises(ValueError, match="a catalogue of 1"):
        learn(interactions, Catalogue(["a"], ["x"], [None], np.ones(1, dtype=bool)))
    with pytest.raises(ValueError, match="1 or more"):
        Settings(k=0)


def test_a_weight_that_is_infinite_is_refused(interactions, catalogue):
    broken = replace(interactions, ages=np.where(np.arange(len(interactions.ages)) == 5, -np.inf, interactions.ages))
    with pytest.raises(ValueError, match="interaction 5: the age -inf"):
        learn(broken, catalogue)
