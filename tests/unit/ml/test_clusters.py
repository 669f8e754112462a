from __future__ import annotations

import io
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import duckdb
import joblib
import numpy as np
import pandas as pd
import pytest

from ml import clustering, clusters
from ml.model import Refused
from ml.models.clusters import CLUSTERS
from ml.plots import clusters as plots
from ml.registry import one_thread

NOW, THEN = datetime(2024, 3, 4), datetime(2023, 12, 4)
KINDS = 5
FEATURES = ("recency_days", "frequency", "average_order_value", "sessions_90", "clicks_90")
# By kind of customer: days since the last order, order dates, basket, visits and clicks in 90 days.
CENTRES = ((10, 30, 60, 12, 0), (20, 5, 900, 3, 0), (30, 3, 50, 20, 6), (300, 6, 70, 0, 0), (500, 1, 20, 1, 0))


@pytest.fixture(autouse=True)
def quick_choice(monkeypatch):
    monkeypatch.setattr(clustering, "SAMPLE", 300)
    monkeypatch.setattr(clustering, "PUBLISHED_SAMPLE", 300)
    monkeypatch.setattr(clustering, "RESAMPLES", 3)
    monkeypatch.setattr(clustering, "RESTARTS", 3)


def customers(size: int = 600, seed: int = 1, spread: float = 0.12) -> pd.DataFrame:
    """Customers of five kinds at two instants; each stays what it is."""
    rows = []
    generator = np.random.default_rng(seed)
    for as_of in (THEN, NOW):
        for number in range(size):
            recency, frequency, basket, sessions, clicks = CENTRES[number % KINDS]
            wobble = np.exp(generator.normal(0, spread, 5))
            rows.append(
                {
                    "customer_id": f"{number * 40503 % 65536:04x}{number:012x}",
                    "as_of": as_of,
                    "recency_days": int(recency * wobble[0]),
                    "frequency": max(1, int(frequency * wobble[1])),
                    "average_order_value": basket * wobble[2],
                    "sessions_90": round(sessions * wobble[3]),
                    "clicks_90": round(clicks * wobble[4]),
                    "monetary": frequency * basket * wobble[2],
                    "mean_gap_days": 400.0 / frequency if frequency > 1 else None,
                    "returns_365": 0.0,
                    "product_views_90": round(2 * sessions * wobble[3]),
                    "carts_90": 0,
                    "orders_90": int(frequency * wobble[1] / 4) if recency < 90 else 0,
                    "spend_90": float(int(frequency * wobble[1] / 4) * basket) if recency < 90 else 0.0,
                    "account_type": None,
                    "history_days": 800,
                }
            )
    return pd.DataFrame(rows)


@pytest.fixture
def build():
    opened = []

    def make(frame: pd.DataFrame) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect()
        opened.append(connection)
        connection.execute("create schema marts; create schema features; create schema staging")
        connection.execute(
            "create table marts.dim_as_ofs (as_of timestamp, as_of_on date, is_current boolean);"
            f"insert into marts.dim_as_ofs values ('{THEN}', '{THEN.date()}', false), ('{NOW}', '{NOW.date()}', true)"
        )
        connection.register("given", frame)
        connection.execute(
            "create table features.feat_customers as"
            " select * replace (cast(as_of as timestamp) as as_of, cast(account_type as varchar) as account_type) from given"
        )
        connection.execute(
            "create table marts.customer_permissions as select distinct customer_id, true as may_be_profiled from given"
        )
        return connection

    yield make
    for connection in opened:
        connection.close()


def train(connection: duckdb.DuckDBPyConnection) -> Any:
    with one_thread():
        return CLUSTERS.train(connection, NOW)


def scored(estimator: Any, connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    with one_thread():
        return CLUSTERS.score(estimator, connection, NOW).tables["scores"].to_pandas()


def kept(connection: duckdb.DuckDBPyConnection, scores: pd.DataFrame, as_of: datetime) -> None:
    """Let scores be those of an earlier instant, as dbt gives them back."""
    connection.register("before", scores.assign(model="clusters", model_version="1", as_of=as_of))
    connection.execute(
        "create or replace table staging.stg_ml__scores as select model, model_version, customer_id, label, score,"
        " cast(as_of as timestamp) as as_of from before"
    )


@pytest.fixture(scope="module")
def population():
    return customers()


def test_planted_kinds_are_found_named_and_numbered_by_value(build, population):
    connection = build(population)
    trained = train(connection)
    scores = scored(trained.estimator, connection)

    assert len(scores) == 600
    assert scores["customer_id"].is_monotonic_increasing
    kinds = (scores["customer_id"].str[4:].map(lambda digits: int(digits, 16)) % KINDS).to_numpy()
    assert scores.groupby(kinds)["score"].nunique().tolist() == [1] * KINDS
    assert scores.groupby("score")["label"].unique().explode().to_dict() == {
        1.0: "High-Value Buyers",
        2.0: "Frequent Buyers",
        3.0: "Lapsed Repeat Buyers",
        4.0: "Frequent Browsers",
        5.0: "Infrequent Browsers",
    }


def test_it_earns_its_place_by_what_customers_do_later(build, population):
    trained = train(build(population))

    assert trained.evaluation.baseline.beats
    assert trained.evaluation.judged_on == "customers of 2023-12-04, by the 90 days to 2024-03-04"
    assert trained.evaluation.rows == 600
    assert isinstance(trained.estimator.grouping, clusters.Clusters)


def test_where_clusters_tell_no_more_the_quantiles_score(build):
    frame = customers()
    generator = np.random.default_rng(3)
    # What anybody does next follows from how much they spent, and from nothing else.
    now = (frame["as_of"] == NOW).to_numpy()
    before = frame[~now].set_index("customer_id")["monetary"].reindex(frame.loc[now, "customer_id"]).to_numpy()
    for name in ("frequency", "average_order_value", "sessions_90", "clicks_90", "recency_days"):
        frame.loc[~now, name] = generator.integers(1, 1_000, int((~now).sum()))
    frame.loc[now, ["orders_90", "spend_90", "sessions_90"]] = np.stack([before, before, before], axis=1).round()
    connection = build(frame)

    trained = train(connection)

    assert not trained.evaluation.baseline.beats
    assert isinstance(trained.estimator.grouping, clusters.Quantiles)
    assert trained.features == ("recency_days", "monetary")
    labels = set(scored(trained.estimator, connection)["label"])
    assert all("spend level" in label for label in labels)
    assert len(labels) == len(trained.estimator.clusters)


def test_the_same_data_give_the_same_model_and_the_same_scores(build, population):
    first, second = (train(build(population)) for _ in range(2))

    assert first.label == second.label
    assert first.evaluation.figures == second.evaluation.figures
    stored = io.BytesIO()
    joblib.dump(first.estimator, stored)
    again = joblib.load(io.BytesIO(stored.getvalue()))
    pd.testing.assert_frame_equal(scored(again, build(population)), scored(second.estimator, build(population)))


def test_other_rows_are_another_model(build, population):
    other = population.copy()
    other.loc[other.index[-1], "frequency"] += 1

    assert train(build(population)).label != train(build(other)).label


def test_numbers_and_names_stay_when_the_data_change(build, population):
    connection = build(population)
    before = scored(train(connection).estimator, connection)
    # Last time the numbers were others, and one cluster had a name that was given by an earlier median.
    renumbered = {1.0: 4.0, 2.0: 9.0, 3.0: 1.0, 4.0: 2.0, 5.0: 3.0}
    earlier = before.assign(score=before["score"].map(renumbered))
    later = build(customers(seed=2))
    kept(later, earlier, NOW - timedelta(days=7))

    trained = train(later)
    now = scored(trained.estimator, later)

    both = earlier.merge(now, on="customer_id", suffixes=("_before", "_now"))
    assert (both["score_before"] == both["score_now"]).mean() > 0.98
    assert (both["label_before"] == both["label_now"]).mean() > 0.98
    moved = int((both["score_before"] != both["score_now"]).sum())
    assert trained.evaluation.figures["moved_share"] == moved / len(both)
    assert any(caption.startswith(f"{moved:,} of 600") for caption in trained.evaluation.tables)
    assert trained.evaluation.pictures["movement"].startswith(b"\x89PNG")


def test_a_cluster_that_is_new_gets_a_number_that_was_never_given(build, population):
    connection = build(population)
    before = scored(train(connection).estimator, connection)
    # Those of one cluster were not there last time; number 12 went to customers who are gone.
    earlier = before[before["score"] != 4.0]
    gone = earlier.head(1).assign(customer_id="f" * 16, score=12.0, label="Once there")
    kept(connection, pd.concat([earlier, gone]), NOW - timedelta(days=7))

    now = scored(train(connection).estimator, connection)

    assert set(now["score"]) == {1.0, 2.0, 3.0, 5.0, 13.0}


def test_a_name_whose_rule_no_longer_holds_goes(build, population):
    connection = build(population)
    before = scored(train(connection).estimator, connection)
    wrong = before["label"].replace({"Frequent Buyers": "Lapsed One-Time Buyers"})
    kept(connection, before.assign(label=wrong), NOW - timedelta(days=7))

    assert "Frequent Buyers" in set(scored(train(connection).estimator, connection)["label"])


def test_scores_of_the_same_instant_say_nothing_about_numbers(build, population):
    connection = build(population)
    first = train(connection)
    kept(connection, scored(first.estimator, connection).assign(score=lambda frame: 20 + frame["score"]), NOW)

    assert train(connection).label == first.label


def test_new_customers_are_assigned_without_a_refit(build, population):
    trained = train(build(population))
    other = build(customers(size=50, seed=9).assign(customer_id=lambda frame: "f" + frame["customer_id"].str[1:]))

    scores = scored(trained.estimator, other)

    assert len(scores) == 50
    assert scores["score"].value_counts().tolist() == [10] * KINDS


def test_what_training_learned_is_applied_to_other_customers(build, population):
    trained = train(build(population))
    richer = population.assign(average_order_value=population["average_order_value"] * 1_000)

    # A scaler fitted on the batch would not notice that everybody fills baskets a thousand times as large.
    assert scored(trained.estimator, build(richer))["label"].value_counts()["High-Value Buyers"] > 300


def test_a_champion_is_judged_on_the_same_customers(build, population):
    trained = train(build(population))
    alike = trained.against(trained.estimator)
    frame = clusters.read(build(population), NOW, clusters.PROFILE)
    coarse = clusters.ClusterEstimator(
        clusters.Quantiles.learned(frame, KINDS),
        tuple(clusters.Cluster(number, "", 1, {}, 1.0) for number in range(1, KINDS + 1)),
    )

    assert alike.gain == pytest.approx(0, abs=0.02)
    assert trained.against(coarse).beats
    with pytest.raises(Refused, match="no grouping"):
        trained.against("a string")


def test_weak_clusters_are_named(build, population):
    connection = build(population)
    estimator = train(connection).estimator
    sure = CLUSTERS.score(estimator, connection, NOW).findings
    shaky = replace(estimator.clusters[0], jaccard=0.5)
    found = CLUSTERS.score(replace(estimator, clusters=(shaky, *estimator.clusters[1:])), connection, NOW)

    assert [(finding.check, finding.passed) for finding in sure] == [("stability", True)]
    assert [(finding.check, finding.passed) for finding in found.findings] == [("stability", False)]
    assert f"{shaky.number} {shaky.name} (0.50)" in found.findings[0].said
    assert set(CLUSTERS.checks) == {"stability"}


def test_who_may_not_be_profiled_is_in_no_cluster(build, population):
    connection = build(population)
    connection.execute(
        "update marts.customer_permissions set may_be_profiled = false where customer_id[-1] in ('1', '2', '3')"
    )
    allowed = build(population[~population["customer_id"].str[-1].isin(["1", "2", "3"])])

    assert train(connection).label == train(allowed).label
    assert not scored(train(allowed).estimator, connection)["customer_id"].str[-1].isin(["1", "2", "3"]).any()


def test_without_an_order_in_the_window_there_is_no_cluster(build, population):
    frame = population.copy()
    frame["recency_days"] = frame["recency_days"].astype("Int64")
    frame.loc[frame["customer_id"] == frame["customer_id"].iloc[0], "recency_days"] = pd.NA

    assert len(scored(train(build(frame)).estimator, build(frame))) == 599


def test_earlier_clusters_are_followed_up_by_what_came_since(build, population):
    connection = build(population)
    estimator = train(connection).estimator
    kept(connection, scored(estimator, connection), NOW - timedelta(days=30))
    assert CLUSTERS.follow_up(connection, NOW).tables == {}

    kept(connection, scored(estimator, connection), THEN)
    (table,) = CLUSTERS.follow_up(connection, NOW).tables.values()

    assert [row[0] for row in table.rows] == ["orders", "basket", "visits", "clicks"]
    assert all(0.5 < row[1] <= 1 for row in table.rows if row[0] != "basket")


BAD = {
    "20 customers": (lambda frame: frame[frame["customer_id"].isin(frame["customer_id"].unique()[:20])], "need 200"),
    "infinite amounts": (lambda frame: frame.assign(monetary=np.inf), "monetary has infinite values"),
    "customers who are all alike": (lambda frame: frame.assign(**dict.fromkeys(FEATURES, 1)), "differ in 0 of 5"),
    "few customers who differ": (
        lambda frame: frame.assign(**dict.fromkeys(FEATURES, 1) | {"frequency": frame["frequency"] % 2})
        .assign(clicks_90=frame["frequency"] % 3),
        "customers differ from each other",
    ),
    "a short history": (lambda frame: frame.assign(history_days=300), "the history is 300 days"),
    "nothing done later": (
        lambda frame: frame.assign(orders_90=0, spend_90=0, sessions_90=1, clicks_90=1),
        "nothing to judge",
    ),
    "a feature that is missing": (lambda frame: frame.drop(columns="frequency"), "has no frequency"),
    "a feature of another type": (lambda frame: frame.assign(frequency="many"), "frequency is VARCHAR"),
    "no as_of long enough ago": (lambda frame: frame[frame["as_of"] == NOW], "0 customers"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "said"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_with_a_reason(build, population, spoil, said):
    with pytest.raises(Refused, match=said):
        train(build(spoil(population)))


def test_without_a_past_as_of_it_is_refused(build, population):
    connection = build(population)
    connection.execute("delete from marts.dim_as_ofs where not is_current")

    with pytest.raises(Refused, match="no as_of of the features is 90 days old"):
        train(connection)


@pytest.mark.parametrize("value", [None, 7], ids=["null", "constant"])
def test_a_feature_that_says_nothing_is_left_out(build, population, value):
    trained = train(build(population.assign(clicks_90=value).astype({"clicks_90": "Int64"})))

    assert "clicks_90" not in trained.features
    assert "clicks_90" not in trained.reference


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda frame: frame.drop(columns="sessions_90"), "has no sessions_90"),
        (lambda frame: frame.assign(sessions_90="many"), "sessions_90 is VARCHAR"),
        (lambda frame: frame.assign(average_order_value=np.inf), "infinite"),
    ],
    ids=["missing", "of another type", "infinite"],
)
def test_scoring_is_refused_where_a_feature_is_not_what_it_was(build, population, spoil, said):
    estimator = train(build(population)).estimator

    with pytest.raises(Refused, match=said):
        CLUSTERS.score(estimator, build(spoil(population)), NOW)
    with pytest.raises(Refused, match="no grouping"):
        CLUSTERS.score({"a": "model of before"}, build(population), NOW)


def test_businesses_are_measured_among_businesses():
    generator = np.random.default_rng(4)
    frame = pd.DataFrame(
        {
            "average_order_value": np.r_[generator.lognormal(3, 0.5, 300), generator.lognormal(7, 0.5, 300)],
            "frequency": np.r_[np.full(300, 2.0), np.full(300, 20.0)],
            "account_type": ["private"] * 300 + ["business"] * 300,
        }
    )
    points = clusters.Preparation.learned(frame, ("average_order_value", "frequency")).points(frame)

    assert abs(points[:300, 0].mean() - points[300:, 0].mean()) < 1e-9
    # That businesses order more often is for the clusters to say.
    assert points[300:, 1].mean() - points[:300, 1].mean() > 1.5


def test_extreme_spenders_are_held_to_the_top_where_nobody_tells_who_is_a_business():
    frame = pd.DataFrame({"average_order_value": [*range(1, 1_000), 1e9], "account_type": None})
    known = frame.assign(account_type="private")
    learned = clusters.Preparation.learned(frame, ("average_order_value",))

    points = learned.points(frame)[:, 0]
    assert points[-1] == points[989]
    assert points[988] < points[989]
    assert clusters.Preparation.learned(known, ("average_order_value",)).points(known)[-1, 0] > points[-1] + 3
    # A type that training did not know is as good as none.
    assert learned.points(frame.assign(account_type="charity"))[:, 0].tolist() == points.tolist()


@pytest.mark.parametrize("size", range(5, 11))
def test_the_baseline_has_as_many_groups_of_like_size(size):
    generator = np.random.default_rng(5)
    frame = pd.DataFrame({"recency_days": generator.permutation(1_000), "monetary": generator.permutation(1_000) * 1.0})
    quantiles = clusters.Quantiles.learned(frame, size)
    groups = quantiles.of(frame)

    assert quantiles.size == size == len(set(quantiles.names))
    sizes = np.bincount(groups, minlength=size)
    assert sizes.min() > 0.5 * 1_000 / size
    recent = frame["recency_days"].groupby(groups).max()
    assert recent[0] < recent[size - 1]


def test_shares_of_variance_are_between_all_and_nothing():
    groups = np.repeat([0, 1, 2], 100)
    generator = np.random.default_rng(6)

    assert clusters.explained(groups.astype(float), groups) == pytest.approx(1)
    assert clusters.explained(generator.normal(size=300), groups) < 0.05
    assert clusters.explained(np.r_[groups[:299].astype(float), np.nan], groups) == pytest.approx(1)


CLUSTERS_SHOWN = [
    clusters.Cluster(number, f"Cluster {number}", 10 * number, {"recency_days": 1.0 * number, "monetary": 5.0}, 0.6 + number / 20)
    for number in range(1, 6)
]  # fmt: skip
CANDIDATES = [
    clustering.Candidate(setting, setting.groups or 2, 0.3, 0.9, (0.8,), 0.1) for setting in clustering.SETTINGS
]
FIGURES = {
    "profiles": lambda: plots.profiles(CLUSTERS_SHOWN, "GBP"),
    "choice": lambda: plots.choice(CANDIDATES, CANDIDATES[0]),
    "sizes": lambda: plots.sizes(CLUSTERS_SHOWN),
    "sizes of nobody": lambda: plots.sizes([replace(CLUSTERS_SHOWN[0], customers=0)]),
    "movement": lambda: plots.movement(
        clusters.Movement(datetime(2024, 2, 26), {("1 A", "1 A"): 5, ("1 A", "10 B"): 2, ("2 C", "10 B"): 0}, 7, 2)
    ),
}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
def test_figures_are_png_of_readable_size_and_equal_when_drawn_again(draw):
    image = draw()

    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(image[start : start + 4], "big") for start in (16, 20))
    assert width >= 900
    assert height >= 200
    assert draw() == image
