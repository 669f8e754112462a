from __future__ import annotations

import hashlib
import json
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from core.home import Home
from ml import clusters, registry
from tests.unit.ml.conftest import AS_OF_ON


@pytest.fixture(autouse=True)
def quick_choice(monkeypatch):
    monkeypatch.setattr(clusters, "CHOICE_ROWS", 300)
    monkeypatch.setattr(clusters, "RESAMPLES", 2)


def scores_bytes(home: Home) -> str:
    path = registry.scores_path(home, clusters.MODEL, datetime(2024, 3, 4))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_customer_with_an_order_has_a_cluster_with_a_name(build, home):
    report = clusters.refresh(build(), home)

    scores = pq.read_table(registry.scores_path(home, clusters.MODEL, datetime(2024, 3, 4))).to_pandas()
    assert report.status == "trained"
    assert report.k in clusters.K_RANGE
    assert len(scores) == 900
    assert scores["customer_id"].is_monotonic_increasing
    assert set(zip(scores["score"], scores["label"], strict=True)) == {
        (float(cluster.number), cluster.name) for cluster in report.clusters
    }
    assert scores["score"].value_counts().to_dict() == {
        float(cluster.number): cluster.customers for cluster in report.clusters
    }


def test_names_are_unique_and_numbers_fall_with_value(build, home):
    report = clusters.refresh(build(), home)

    assert len({cluster.name for cluster in report.clusters}) == report.k
    money = [cluster.medians["monetary"] for cluster in report.clusters]
    assert money == sorted(money, reverse=True)


def test_the_choice_of_k_is_explained_by_its_figures(build, home):
    report = clusters.refresh(build(), home)

    assert [candidate.k for candidate in report.candidates] == list(clusters.K_RANGE)
    assert f"k = {report.k}" in report.explanation


def test_a_second_refresh_and_a_training_from_nothing_write_the_same_bytes(build, home, tmp_path):
    first = clusters.refresh(build(), home)
    before = scores_bytes(home)
    second = clusters.refresh(build(), home)

    assert second.status == "reused"
    assert (second.version, second.clusters, second.candidates) == (first.version, first.clusters, first.candidates)
    assert scores_bytes(home) == before

    other = Home.create(tmp_path / "other", "Europe/London", "GBP")
    clusters.refresh(build(), other)
    assert scores_bytes(other) == before


def test_a_kept_model_applies_what_training_learned_to_new_customers(build, home, history):
    clusters.refresh(build(), home)
    later = AS_OF_ON + timedelta(days=14)
    connection = build(later)
    # Everybody spends a thousand times as much: a scaler fitted on the batch would not notice.
    connection.execute("update features.feat_customers set monetary = monetary * 1000 where as_of_on = ?", [later])

    report = clusters.refresh(connection, home)

    scores = pq.read_table(registry.scores_path(home, clusters.MODEL, datetime(2024, 3, 18))).to_pandas()
    assert report.status == "reused"
    assert scores["score"].nunique() < (report.k or 0)


def test_the_card_tells_what_the_model_was_trained_with(build, home):
    report = clusters.refresh(build(), home)

    card = json.loads((home.models / "clusters" / str(report.version) / "card.json").read_text())
    assert card["as_of"] == "2024-03-04 00:00:00"
    assert card["seed"] == registry.SEED
    assert set(card["libraries"]) == {"scikit-learn", "numpy", "pandas"}
    assert "recency_days" in card["features"]
    # Constant in this home, as mail is absent.
    assert "clicks_90" not in card["features"]


def test_too_few_customers_are_refused_with_a_reason_and_no_scores(build, home, history):
    few = history[history["customer_id"].isin(history["customer_id"].unique()[:50])]

    report = clusters.refresh(build(orders=few), home)

    assert report.status == "refused"
    assert "clusters need 200" in report.explanation
    assert not (home.state / "scores").exists()


def test_who_may_not_be_profiled_is_in_no_cluster(build, home, history, tmp_path):
    objected = history["customer_id"].str[-1].isin(["1", "2", "3"])
    other = Home.create(tmp_path / "other", "Europe/London", "GBP")
    connection = build()
    connection.execute(
        "update marts.customer_permissions set may_be_profiled = false where customer_id[-1] in ('1', '2', '3')"
    )

    report = clusters.refresh(connection, home)

    assert report.status == "trained"
    assert report == clusters.refresh(build(orders=history[~objected]), other)


def test_where_nobody_may_be_profiled_it_says_so(build, home):
    connection = build()
    connection.execute("update marts.customer_permissions set may_be_profiled = false")

    report = clusters.refresh(connection, home)

    assert (report.status, report.k) == ("refused", None)
    assert "none of 900 customers may be profiled" in report.explanation
    assert not (home.state / "scores").exists()


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
        ({"recency_days": 400, "frequency": 1, "average_order_value": 50}, "Lapsed One-Time Buyers"),
        ({"recency_days": 400, "frequency": 4, "average_order_value": 50}, "Lapsed Repeat Buyers"),
        ({"recency_days": 400, "frequency": 4, "average_order_value": 500}, "Lapsed High-Value Buyers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_names_follow_from_the_profile(profile, name):
    assert clusters.name_of(profile, HIGH) == name


def test_clusters_of_one_name_are_told_apart_by_what_differs_most():
    profiles = [
        {"recency_days": 20.0, "frequency": 3.0, "monetary": 100.0},
        {"recency_days": 21.0, "frequency": 3.0, "monetary": 9_000.0},
        {"recency_days": 20.0, "frequency": 3.0, "monetary": 900.0},
        {"recency_days": 400.0, "frequency": 1.0, "monetary": 500.0},
    ]

    names = clusters.unique_names(profiles, ["Repeat Buyers", "Repeat Buyers", "Repeat Buyers", "Lapsed Buyers"])

    assert names == [
        "Repeat Buyers, low spend",
        "Repeat Buyers, high spend",
        "Repeat Buyers, medium spend",
        "Lapsed Buyers",
    ]


@pytest.mark.parametrize("alike", range(2, 11))
def test_names_stay_unique_however_alike_clusters_are(alike):
    names = clusters.unique_names([{"recency_days": 1.0}] * alike, ["Repeat Buyers"] * alike)

    assert len(set(names)) == alike


def test_k_is_the_best_separated_of_the_stable_ones():
    candidates = [
        clusters.Candidate(5, 0.30, 0.90, 0.10),
        clusters.Candidate(6, 0.35, 0.95, 0.10),
        clusters.Candidate(7, 0.60, 0.40, 0.10),
        clusters.Candidate(8, 0.50, 0.95, 0.001),
    ]

    chosen, why = clusters.choose(candidates)

    assert chosen.k == 6
    assert "2 of 4" in why


def test_when_no_k_is_stable_the_report_says_so():
    chosen, why = clusters.choose([clusters.Candidate(5, 0.9, 0.2, 0.1), clusters.Candidate(6, 0.1, 0.5, 0.1)])

    assert chosen.k == 6
    assert "no k is stable" in why


def test_planted_groups_are_found_again():
    generator = np.random.default_rng(1)
    centres = [(5, 20, 5_000), (5, 2, 50), (300, 1, 40), (300, 15, 4_000), (60, 6, 600)]
    frame = pd.DataFrame(
        np.vstack([np.exp(generator.normal(np.log(centre), 0.05, (100, 3))) for centre in centres]),
        columns=["recency_days", "frequency", "monetary"],
    )

    labels = clusters.make_pipeline(5).fit(frame).predict(frame)

    assert [len(set(labels[start : start + 100])) for start in range(0, 500, 100)] == [1] * 5
    assert len(set(labels)) == 5
    assert clusters.assess(frame, 5).stability == 1.0
