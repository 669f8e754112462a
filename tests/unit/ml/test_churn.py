from __future__ import annotations

import hashlib
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from core.home import Home
from ml import churn, registry
from tests.unit.ml.conftest import AS_OF_ON


@pytest.fixture
def few_resamples(monkeypatch):
    monkeypatch.setattr(churn, "RESAMPLES", 60)


def scores_of(home: Home, as_of: datetime = datetime(2024, 3, 4)) -> pd.DataFrame:
    return pq.read_table(registry.scores_path(home, churn.MODEL, as_of)).to_pandas()


def digest(home: Home) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (home.state / "scores").iterdir()}


@pytest.mark.usefixtures("few_resamples")
def test_the_model_is_judged_on_what_came_after_its_training(build, home):
    report = churn.refresh(build(), home)

    assert report.status == "trained"
    assert report.split is not None
    newest_learned = max(*report.split.training, report.split.calibration)
    assert newest_learned + timedelta(days=180) <= report.split.evaluation
    assert report.split.evaluation + timedelta(days=180) <= AS_OF_ON
    assert report.split.calibration not in report.split.training
    assert max(report.retrained_on) + timedelta(days=180) <= AS_OF_ON


@pytest.mark.usefixtures("few_resamples")
def test_the_model_earns_its_place_on_a_process_where_rates_differ(build, home):
    report = churn.refresh(build(), home)

    assert report.chosen == "model", report.explanation
    assert report.gain is not None
    assert report.gain[1] > 0
    assert report.model is not None
    assert report.recency is not None
    assert report.model.auc > report.recency.auc
    assert report.model.auc_low < report.model.auc < report.model.auc_high
    assert report.best_brier is not None
    assert report.best_brier <= report.model.brier


@pytest.mark.usefixtures("few_resamples")
def test_scores_are_probabilities_of_the_churn_population(build, home):
    connection = build()
    churn.refresh(connection, home)

    scores = scores_of(home)
    population = connection.execute(
        "select customer_id from features.feat_customers inner join marts.dim_as_ofs using (as_of)"
        " where is_current and is_churn_population order by customer_id"
    ).fetchall()
    assert list(scores["customer_id"]) == [row[0] for row in population]
    assert scores["score"].between(0, 1).all()
    assert scores["label"].isna().all()
    assert set(scores["model"]) == {"churn_180"}
    assert list(scores.columns) == ["model", "model_version", "customer_id", "as_of", "score", "label"]


@pytest.mark.usefixtures("few_resamples")
def test_a_second_refresh_uses_the_model_again_and_writes_the_same_bytes(build, home):
    first = churn.refresh(build(), home)
    before = digest(home)

    second = churn.refresh(build(), home)

    assert second.status == "reused"
    assert (second.version, second.model, second.split) == (first.version, first.model, first.split)
    assert digest(home) == before


@pytest.mark.usefixtures("few_resamples")
def test_training_again_from_nothing_gives_the_same_bytes(build, home, tmp_path):
    other = Home.create(tmp_path / "other", "Europe/London", "GBP")
    churn.refresh(build(), home)
    churn.refresh(build(), other)

    assert digest(home) == digest(other)


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize(
    ("days", "status"), [(27, "reused"), (28, "trained"), (-28, "trained")], ids=["young", "old", "of the future"]
)
def test_a_model_is_used_for_28_days_and_never_for_the_past(build, home, days, status):
    churn.refresh(build(), home)

    assert churn.refresh(build(AS_OF_ON + timedelta(days=days)), home).status == status


@pytest.mark.usefixtures("few_resamples")
def test_a_source_that_appears_makes_a_new_model(build, home):
    churn.refresh(build(), home)
    connection = build()
    connection.execute("update features.feat_customers set clicks_90 = order_days")

    report = churn.refresh(connection, home)

    assert report.status == "trained"
    assert "clicks_90" in report.features


@pytest.mark.usefixtures("few_resamples")
def test_what_happens_after_the_evaluation_does_not_change_it(build, home, history, tmp_path):
    """Poison: orders after the evaluation's horizon are invented; the judgement stays as it was."""
    report = churn.refresh(build(), home)
    assert report.split is not None
    horizon = report.split.evaluation + timedelta(days=180)
    invented = history.drop_duplicates("customer_id").assign(ordered_on=horizon, amount=9_999.0)
    other = Home.create(tmp_path / "poisoned", "Europe/London", "GBP")

    poisoned = churn.refresh(build(orders=pd.concat([history, invented])), other)

    assert poisoned.split == report.split
    assert (poisoned.model, poisoned.recency) == (report.model, report.recency)


@pytest.mark.parametrize("late", [date(2023, 6, 1), date(2023, 12, 31)])
def test_fitting_on_outcomes_of_the_future_is_refused(late):
    with pytest.raises(ValueError, match="end after 2023-09-01"):
        churn.fit(pd.DataFrame(), churn.RECENCY, churn.Split((date(2022, 1, 1),), late, late), date(2023, 9, 1))


@pytest.mark.parametrize(
    ("anchors", "message"),
    [
        ([date(2024, 1, 1)], "no outcome is known yet"),
        ([date(2023, 1, 2), date(2023, 8, 7)], r"1 instant\(s\) whose outcome was known on 2023-08-07"),
    ],
    ids=["nothing closed", "nothing to calibrate on"],
)
def test_too_little_history_is_refused(anchors, message):
    with pytest.raises(churn.TooFewData, match=message):
        churn.split_in_time(anchors, AS_OF_ON)


@pytest.mark.parametrize(
    ("kept", "message"),
    [("0", "customers who churned for training"), (None, "too few, or all alike")],
    ids=["few customers", "nobody"],
)
def test_too_few_customers_are_refused_with_a_reason_and_no_scores(build, home, history, kept, message):
    few = history[history["customer_id"].str[-1] == kept] if kept else history.head(0)

    report = churn.refresh(build(orders=few), home)

    assert report.status == "refused"
    assert message in report.explanation
    assert not (home.state / "scores").exists()
    assert not home.models.exists()


@pytest.mark.usefixtures("few_resamples")
def test_who_may_not_be_profiled_is_in_no_training_set_and_has_no_score(build, home, history, tmp_path):
    """Today's permission holds for the past: the model is the one that would be, had they never been."""
    objected = history["customer_id"].str[-1].isin(["1", "2", "3"])
    other = Home.create(tmp_path / "other", "Europe/London", "GBP")
    connection = build()
    connection.execute(
        "update marts.customer_permissions set may_be_profiled = false where customer_id[-1] in ('1', '2', '3')"
    )

    report = churn.refresh(connection, home)

    assert report.status == "trained"
    assert report == churn.refresh(build(orders=history[~objected]), other)
    scored = set(scores_of(home)["customer_id"])
    assert scored
    assert not scored & set(history[objected]["customer_id"])


def test_where_nobody_may_be_profiled_it_says_so(build, home):
    connection = build()
    connection.execute("update marts.customer_permissions set may_be_profiled = false")

    report = churn.refresh(connection, home)

    assert report.status == "refused"
    assert "none of 900 customers may be profiled" in report.explanation
    assert not (home.state / "scores").exists()
    assert not home.models.exists()


@pytest.mark.usefixtures("few_resamples")
def test_where_recency_is_as_good_its_scores_are_used(build, home, history):
    """Everyone buys at one rate until they drop out: nothing but recency tells who is gone."""
    generator = np.random.default_rng(3)
    rows = []
    for number, customer in enumerate(history["customer_id"].unique()):
        day, alive = float(number % 700), generator.exponential(250)
        while day < min(1_000, number % 700 + alive):
            rows.append((customer, AS_OF_ON - timedelta(days=1_000 - int(day)), 20.0))
            day += 1 + generator.exponential(25)
    alike = pd.DataFrame(rows, columns=["customer_id", "ordered_on", "amount"])

    report = churn.refresh(build(orders=alike), home)

    assert report.chosen == "recency"
    assert "does not beat recency" in report.explanation
    scores = scores_of(home)
    ages = build(orders=alike).execute(
        "select customer_id, age_days from features.feat_customers inner join marts.dim_as_ofs using (as_of)"
        " where is_current order by customer_id"
    )
    joined = scores.merge(ages.df(), on="customer_id")
    # Scores of recency alone: equal ages, equal scores.
    assert joined.groupby("age_days")["score"].nunique().max() == 1
    assert joined["score"].corr(joined["age_days"], method="spearman") > 0.99


@pytest.mark.parametrize("seed", range(5))
def test_auc_by_ranks_agrees_with_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    outcome = generator.random(200) < 0.3
    scores = np.round(generator.random(200) + outcome * 0.2, 1)

    assert churn.auc(outcome, scores) == pytest.approx(roc_auc_score(outcome, scores))


def test_judgement_of_scores_that_are_exact():
    generator = np.random.default_rng(0)
    probabilities = generator.random(20_000)
    outcome = generator.random(20_000) < probabilities

    model, _, gain = churn.judge(outcome, probabilities, 1 - probabilities)

    assert model.ece < 0.02
    assert model.brier == pytest.approx(brier_score_loss(outcome, probabilities), abs=1e-4)
    assert sum(row.customers for row in model.reliability) == 20_000
    assert gain[1] > 0


def test_a_retrained_model_learns_from_every_known_outcome(build, home, monkeypatch):
    monkeypatch.setattr(churn, "RESAMPLES", 20)
    connection = build()
    report = churn.refresh(connection, home)

    closed = connection.execute("select distinct cast(as_of as date) from features.outcomes order by 1").fetchall()
    assert list(report.retrained_on) == [row[0] for row in closed]


def test_large_homes_learn_from_a_fixed_draw_of_customers(build, home, monkeypatch):
    from ml.features import read

    connection = build()
    every = read(connection, ["age_days"], "feat.as_of_on < '2023-06-01'")
    drawn = read(connection, ["age_days"], "feat.as_of_on < '2023-06-01'", rows_max=len(every) // 4)

    assert 0.1 < len(drawn) / len(every) < 0.4
    kept = every[every["customer_id"].isin(drawn["customer_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, drawn)
