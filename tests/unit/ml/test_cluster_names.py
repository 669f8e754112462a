from __future__ import annotations

import numpy as np
import pytest

from ml.cluster_names import Earlier, name_of, names_of, numbered, still_holds, unique_names

HIGH = {"average_order_value": 200.0, "frequency": 6.0, "sessions_90": 8.0}


@pytest.mark.parametrize(
    ("profile", "name"),
    [
        ({"recency_days": 10, "frequency": 12, "average_order_value": 50}, "Frequent Buyers"),
        ({"recency_days": 10, "frequency": 12, "average_order_value": 500}, "Frequent High-Value Buyers"),
        ({"recency_days": 60, "frequency": 2, "average_order_value": 500}, "High-Value Buyers"),
        ({"recency_days": 60, "frequency": 2, "average_order_value": 50, "mean_gap_days": 350}, "Seasonal Shoppers"),
        ({"recency_days": 30, "frequency": 1, "average_order_value": 50}, "New Buyers"),
        ({"recency_days": 120, "frequency": 1, "average_order_value": 50}, "One-Time Buyers"),
        ({"recency_days": 30, "frequency": 3, "sessions_90": 12, "average_order_value": 50}, "Frequent Browsers"),
        ({"recency_days": 30, "frequency": 3, "sessions_90": 1, "average_order_value": 50}, "Repeat Buyers"),
        ({"recency_days": 120, "frequency": 3, "average_order_value": 50}, "Fading Repeat Buyers"),
        ({"recency_days": 400, "frequency": 1, "sessions_90": 1, "average_order_value": 50}, "Infrequent Browsers"),
        ({"recency_days": 400, "frequency": 1, "sessions_90": 9, "average_order_value": 50}, "Frequent Browsers"),
        ({"recency_days": 400, "frequency": 1, "average_order_value": 50}, "Lapsed One-Time Buyers"),
        ({"recency_days": 400, "frequency": 4, "average_order_value": 50}, "Lapsed Repeat Buyers"),
        ({"recency_days": 400, "frequency": 4, "average_order_value": 500}, "Lapsed High-Value Buyers"),
        ({}, "New Buyers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_names_follow_from_the_profile(profile, name):
    assert name_of(profile, HIGH) == name


@pytest.mark.parametrize("recency", [0, 90, 90.5, 180, 180.5, 999])
@pytest.mark.parametrize("frequency", [1, 1.5, 2, 40])
def test_every_profile_has_a_name_whose_rule_holds(recency, frequency):
    profile = {"recency_days": recency, "frequency": frequency}

    assert still_holds(name_of(profile, HIGH), profile, HIGH)


def test_a_name_holds_until_its_rule_is_clearly_broken():
    assert still_holds("Repeat Buyers, few visits", {"recency_days": 110, "frequency": 3}, HIGH)
    assert not still_holds("Repeat Buyers, few visits", {"recency_days": 120, "frequency": 3}, HIGH)
    assert not still_holds("Recent, spend level 3 of 3", {"recency_days": 10, "frequency": 3}, HIGH)


def test_clusters_of_one_name_are_told_apart_by_what_differs_most():
    profiles = [
        {"recency_days": 20.0, "frequency": 3.0, "monetary": 100.0},
        {"recency_days": 21.0, "frequency": 3.0, "monetary": 9_000.0},
        {"recency_days": 20.0, "frequency": 3.0, "monetary": 900.0},
        {"recency_days": 400.0, "frequency": 1.0, "monetary": 500.0},
    ]

    names = unique_names(profiles, ["Repeat Buyers", "Repeat Buyers", "Repeat Buyers", "Lapsed Buyers"])

    assert names == [
        "Repeat Buyers, low spend",
        "Repeat Buyers, high spend",
        "Repeat Buyers, medium spend",
        "Lapsed Buyers",
    ]


@pytest.mark.parametrize("alike", range(2, 11))
def test_names_stay_unique_however_alike_clusters_are(alike):
    profiles = [{"recency_days": 1.0, "frequency": 3.0}] * alike

    assert len(set(unique_names(profiles, ["Repeat Buyers"] * alike))) == alike
    kept = ["Repeat Buyers, most recent", *[None] * (alike - 1)]
    names = names_of(profiles, HIGH, kept)
    assert len(set(names)) == alike
    assert names[0] == kept[0]


def test_numbers_are_kept_by_who_is_in_a_cluster():
    before = np.repeat([7, 2, 5], [50, 30, 20])
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    shuffled = np.random.default_rng(1).permutation(100)
    earlier = Earlier(before[shuffled], {}, 7)

    assert numbered(labels[shuffled], [0, 1, 2], earlier) == {0: 7, 1: 2, 2: 5}


def test_the_pairing_is_the_best_of_all_not_the_best_first():
    # By row: clusters before 1, 2; by column now 0, 1: greedily 1 -> 0 (6) leaves 2 -> 1 (0); together 1 -> 1, 2 -> 0 is 10.
    before = np.repeat([1, 1, 2, 2], [6, 5, 5, 0])
    labels = np.repeat([0, 1, 0, 1], [6, 5, 5, 0])

    assert numbered(labels, [0, 1], Earlier(before, {}, 2)) == {1: 1, 0: 2}


def test_what_has_little_in_common_is_no_match_and_gets_a_new_number():
    # A tenth of old cluster 1 is all that the new one has of it.
    before = np.repeat([1, 1, 2, 0], [90, 10, 100, 60])
    labels = np.repeat([0, 1, 0, 1], [90, 10, 100, 60])

    assert numbered(labels, [1, 0], Earlier(before, {}, 4)) == {0: 2, 1: 5}


def test_first_numbers_follow_the_order():
    assert numbered(np.array([0, 1, 2]), [2, 0, 1], None) == {2: 1, 0: 2, 1: 3}
