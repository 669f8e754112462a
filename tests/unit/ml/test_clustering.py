from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score

from ml import clustering
from ml.clustering import SETTINGS, Candidate, Setting, agreement, choose, compare, crossed, fit, stability_of

KMEANS, WARD, HDBSCAN = Setting("K-Means", 6), Setting("Ward", 6), Setting("HDBSCAN", least_share=0.05)


def blobs(size: int = 600, groups: int = 6, spread: float = 0.15) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(2)
    centres = generator.permutation(np.array([(x, y, z) for x in range(3) for y in range(2) for z in range(2)]))[
        :groups
    ]
    labels = np.arange(size) % groups
    return centres[labels] * 2.0 + generator.normal(0, spread, (size, 3)), labels


@pytest.mark.parametrize("setting", [KMEANS, WARD, HDBSCAN], ids=str)
def test_every_algorithm_finds_planted_groups_and_places_new_points(setting):
    points, labels = blobs()
    partition = fit(points[:500], setting)

    assert partition is not None
    assert partition.size == 6
    assert adjusted_rand_score(labels, partition.of(points)) == 1
    assert stability_of(points, partition, setting, resamples=4).weakest == 1


def test_ward_goes_through_micro_clusters_when_there_are_many_points(monkeypatch):
    points, labels = blobs(3_000, spread=0.3)
    monkeypatch.setattr(clustering, "MICRO_ABOVE", 1_000)
    monkeypatch.setattr(clustering, "MICRO_CLUSTERS", 80)
    monkeypatch.setattr(clustering, "_tree", None)
    partition = fit(points, WARD)

    assert partition is not None
    assert adjusted_rand_score(labels, partition.of(points)) > 0.99


def test_the_hierarchy_of_weighted_points_is_that_of_the_points_repeated():
    generator = np.random.default_rng(3)
    centres, weights = generator.normal(size=(40, 3)), generator.integers(1, 6, 40)
    repeated = np.repeat(centres, weights, axis=0)

    for groups in (2, 5, 9):
        found = clustering.ward_of_weighted(centres, weights, groups)
        expected = fcluster(linkage(repeated, "ward"), groups, "maxclust")
        assert adjusted_rand_score(np.repeat(found, weights), expected) == 1


def test_without_any_density_hdbscan_finds_nothing_and_is_no_choice():
    points = np.random.default_rng(4).random((300, 5))
    found = compare(points, [Setting("HDBSCAN", least_share=0.3)])

    assert found[0].found == 0
    assert "finds 0 groups" in str(found[0].objection)


def test_noise_is_not_stable_and_planted_groups_are():
    noise = np.random.default_rng(5).normal(size=(400, 4))
    planted, _ = blobs(400)

    assert all(candidate.objection for candidate in compare(noise, [Setting("K-Means", 9), Setting("Ward", 7)]))
    assert [candidate.objection for candidate in compare(planted, [KMEANS, WARD, HDBSCAN])] == [None] * 3


def test_comparisons_are_the_same_each_time():
    points, _ = blobs(spread=0.8)

    assert compare(points) == compare(points)
    assert [candidate.setting for candidate in compare(points)] == list(SETTINGS)


def test_agreement_is_by_group():
    mine = np.repeat([0, 1, 2], [4, 4, 2])
    split = np.repeat([1, 0, 2, 2], [4, 2, 2, 2])

    # The first group is there whole, half of the second is, the third is half of another.
    assert agreement(mine, [split])[1] == (1.0, 0.5, 0.5)
    assert agreement(mine, [split, None])[1] == (0.5, 0.25, 0.25)
    assert agreement(mine, [mine]) == (1.0, (1.0, 1.0, 1.0))
    assert crossed(mine, split).tolist() == [[0, 4, 0], [2, 0, 2], [0, 0, 2]]


def candidate(
    groups: int, silhouette: float, stability: float = 0.9, weakest: float = 0.9, smallest: float = 0.1
) -> Candidate:
    return Candidate(Setting("K-Means", groups), groups, silhouette, stability, (0.95, weakest), smallest)


def test_the_finest_of_the_well_separated_that_come_out_again_is_chosen():
    chosen, why = choose(
        [
            candidate(5, 0.40),
            candidate(6, 0.39),
            candidate(7, 0.30),
            candidate(8, 0.60, weakest=0.7),
            candidate(9, 0.60, stability=0.7),
            candidate(10, 0.60, smallest=0.01),
            candidate(11, 0.90),
        ]
    )

    assert chosen.found == 6
    assert "3 of 7" in why


def test_when_nothing_comes_out_again_the_reason_says_so():
    chosen, why = choose([candidate(5, 0.9, weakest=0.2), candidate(6, 0.1, weakest=0.5), candidate(4, 0.9)])

    assert chosen.found == 6
    assert "caution" in why
