"""The classifiers by the contract of models, on a warehouse in memory whose outcomes follow known odds."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml import candidates, classification, classifiers, features
from ml.classification import Classifier
from ml.classification_report import contest_of
from ml.classifiers import ClassifierModel
from ml.drift import measure
from ml.evaluation import OFF, compare
from ml.model import Refused
from ml.reasons import codes, in_words, top_reasons
from ml.scores import TABLES

AS_OF = datetime(2024, 3, 4)
ANCHORS = [AS_OF - timedelta(days=28 * number) for number in range(20, 0, -1)]
CUSTOMERS = 700
READ = ("age_days", "order_days", "spend_365", "sessions_90", "clicked_90")
MODEL = ClassifierModel(
    Classifier(
        name="returns_90",
        question="Will they return?",
        event="an order within 90 days",
        population="feat.order_days > 0",
        target="outcome.bought",
        horizon_days=90,
        features=READ,
    )
)


def drawn(seed: int = 0) -> pd.DataFrame:
    """A row per customer and instant, the current one included; visits say more than age, spend and clicks nothing.

    Customers hardly change from month to month, as real ones.
    """
    generator = np.random.default_rng(seed)
    visits, age = generator.gamma(1.5, 2.0, CUSTOMERS), generator.exponential(60, CUSTOMERS)
    frames = []
    for anchor in [*ANCHORS, AS_OF]:
        frame = pd.DataFrame(
            {
                "customer_id": [f"{number * 7919 % 65536:04x}{number:012x}" for number in range(CUSTOMERS)],
                "as_of": anchor,
                "as_of_on": anchor.date(),
                "history_days": (anchor - ANCHORS[0]).days + 400,
                "age_days": (age + generator.exponential(3, CUSTOMERS)).round(1),
                "order_days": 1 + generator.poisson(2.0, CUSTOMERS),
                "spend_365": generator.lognormal(3, 1, CUSTOMERS).round(2),
                "sessions_90": (visits + generator.exponential(0.2, CUSTOMERS)).round(1),
                "clicked_90": generator.poisson(1.0, CUSTOMERS),
                "age_band": np.where(np.arange(CUSTOMERS) % 3 == 0, "65+", "35-44"),
                "gender": np.where(np.arange(CUSTOMERS) % 2 == 0, "female", "male"),
                "region_type": None,
            }
        )
        odds = 1.0 - 0.6 * np.log1p(frame["age_days"]) + 0.6 * frame["sessions_90"]
        chance = 1 / (1 + np.exp(-odds))
        frames.append(frame.assign(chance=chance, bought=generator.random(CUSTOMERS) < chance))
    return pd.concat(frames, ignore_index=True)


def warehouse(frame: pd.DataFrame, denied: tuple[str, ...] = ()) -> duckdb.DuckDBPyConnection:
    """The tables that a classifier reads; an outcome within 30 days is the one within 90, for most."""
    connection = duckdb.connect()
    connection.execute("set threads = 1")
    connection.register("given", frame)
    connection.execute("create schema marts; create schema features; create schema staging")
    connection.execute(
        "create table features.feat_customers as select * exclude (chance, bought), null::varchar as region_type_2"
        " from given order by hash(customer_id, as_of)"
    )
    connection.execute("alter table features.feat_customers drop region_type_2")
    connection.execute(
        "create table features.outcomes as select customer_id, as_of, horizon_days::integer as horizon_days,"
        " bought and (horizon_days = 90 or hash(customer_id) % 5 < 4) as bought"
        " from given, (values (30), (90)) as horizons (horizon_days)"
        " where as_of + horizon_days * interval 1 day <= $1",
        [AS_OF],
    )
    connection.execute(
        "create table marts.customer_permissions as select distinct customer_id,"
        " not list_contains($1, customer_id) as may_be_profiled from given",
        [list(denied)],
    )
    connection.execute(
        "create table marts.dim_as_ofs as select distinct as_of, as_of_on, as_of = $1 as is_current from given", [AS_OF]
    )
    connection.execute(
        "create table staging.stg_ml__scores (model varchar, model_version varchar, customer_id varchar, label varchar,"
        " score double, as_of timestamp)"
    )
    return connection


@pytest.fixture(scope="module", autouse=True)
def one_candidate() -> Iterator[None]:
    """What is tested here is the same for all; their own tests fit the others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "CANDIDATES", ("logistic",))
        yield


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return drawn()


@pytest.fixture(scope="module")
def connection(frame: pd.DataFrame) -> duckdb.DuckDBPyConnection:
    return warehouse(frame)


@pytest.fixture(scope="module")
def trained(connection: duckdb.DuckDBPyConnection) -> Any:
    return MODEL.train(connection, AS_OF)


def written(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def test_it_is_judged_beside_recency_on_the_newest_instant_whose_outcome_is_known(trained: Any) -> None:
    evaluation = trained.evaluation
    judged = max(anchor for anchor in ANCHORS if anchor + timedelta(days=92) <= AS_OF)
    assert evaluation.judged_on == judged.date().isoformat()
    assert evaluation.rows == CUSTOMERS
    assert evaluation.baseline.metric == "AUC"
    assert evaluation.baseline.beats
    assert evaluation.figures["auc"] == evaluation.baseline.model > evaluation.figures["baseline_auc"] + 0.05
    assert evaluation.figures["ece"] < evaluation.figures["perfect_ece_high"] + 0.02
    assert set(evaluation.tables) == {
        "Data card", "Calibration by tenths of customers", "Subgroups", "What was tried", "Base rates",
        "Strongest reasons", "Features left out",
    }  # fmt: skip
    card = dict(evaluation.tables["Data card"].rows)
    assert card["customers judged"] == CUSTOMERS
    assert card["what scores"] == "the model"
    subgroups = {(row[0], row[1]): row[2] for row in evaluation.tables["Subgroups"].rows}
    assert subgroups["gender", "female"] == CUSTOMERS / 2
    assert subgroups["region_type", "unknown"] == CUSTOMERS
    assert all(len(row) == len(table.columns) for table in evaluation.tables.values() for row in table.rows)
    assert all(png.startswith(b"\x89PNG") for png in evaluation.pictures.values())
    assert set(evaluation.pictures) == {"ROC", "Lift", "Reliability", "Importance"}


def test_scores_are_the_odds_that_made_the_outcomes_and_carry_their_reasons(
    trained: Any, connection: duckdb.DuckDBPyConnection, frame: pd.DataFrame
) -> None:
    kept = io.BytesIO()
    joblib.dump(trained.estimator, kept)
    kept.seek(0)
    scored = MODEL.score(joblib.load(kept), connection, AS_OF)
    table = scored.tables["scores"]
    assert table.schema.names == list(TABLES["scores"])
    rows = table.to_pandas().merge(frame[frame["as_of"] == AS_OF], on="customer_id")
    assert len(rows) == CUSTOMERS
    assert np.abs(rows["score"] - rows["chance"]).mean() < 0.05
    assert set(rows["reason_1"]) <= {f"{in_words(name)} {way}" for name in READ for way in "+-"}
    often = rows[rows["sessions_90"] > rows["sessions_90"].quantile(0.95)]
    assert (often["reason_1"] == "visits in 90 days +").mean() > 0.8
    assert set(scored.frame.columns) == set(trained.reference) == {*READ, "score"}
    assert {drift.psi for drift in measure(trained.reference, scored.frame)} == {0.0}
    assert [(finding.check, finding.passed) for finding in scored.findings] == [("coverage", True)]


def test_trained_twice_it_is_the_same_to_the_last_bit(trained: Any, connection: duckdb.DuckDBPyConnection) -> None:
    again = MODEL.train(connection, AS_OF)
    assert again.label == trained.label
    assert again.evaluation == trained.evaluation
    assert again.reference == trained.reference
    first, second = (MODEL.score(made.estimator, connection, AS_OF).tables["scores"] for made in (trained, again))
    assert written(first) == written(second)


def test_other_rows_are_another_model(frame: pd.DataFrame, trained: Any) -> None:
    other = frame.assign(spend_365=frame["spend_365"].where(frame.index != 3, 1.0))
    assert MODEL.train(warehouse(other), AS_OF).label != trained.label


def test_what_is_known_only_after_as_of_changes_nothing(frame: pd.DataFrame, trained: Any) -> None:
    later = frame[frame["as_of"] == AS_OF].assign(
        as_of=AS_OF + timedelta(days=28), as_of_on=AS_OF.date() + timedelta(days=28), sessions_90=0.0, bought=True
    )
    connection = warehouse(pd.concat([frame, later]))
    assert MODEL.train(connection, AS_OF).label == trained.label


def test_trained_at_an_earlier_instant_it_knows_no_outcome_that_came_true_after_it(frame: pd.DataFrame) -> None:
    before = ANCHORS[-2]
    turned = frame.assign(bought=frame["bought"] ^ (frame["as_of"] + timedelta(days=90) > before))
    made = [MODEL.train(warehouse(given), before) for given in (frame, turned)]
    assert made[0].label == made[1].label
    assert made[0].evaluation.tables == made[1].evaluation.tables


def test_who_may_not_be_profiled_is_neither_learned_from_nor_scored(frame: pd.DataFrame) -> None:
    denied = tuple(sorted(frame["customer_id"].unique())[:100])
    turned = frame.assign(bought=frame["bought"] ^ frame["customer_id"].isin(denied))
    made = [MODEL.train(warehouse(given, denied), AS_OF) for given in (frame, turned)]
    assert made[0].label == made[1].label
    assert made[0].evaluation.rows == CUSTOMERS - 100
    scored = MODEL.score(made[0].estimator, warehouse(frame, denied), AS_OF)
    assert not set(scored.tables["scores"]["customer_id"].to_pylist()) & set(denied)
    assert "600 of 700 customers who are asked about have a score (86%)" in scored.findings[0].said


def test_coverage_warns_where_few_may_be_profiled(trained: Any, frame: pd.DataFrame) -> None:
    denied = tuple(sorted(frame["customer_id"].unique())[:600])
    finding = MODEL.score(trained.estimator, warehouse(frame, denied), AS_OF).findings[0]
    assert not finding.passed
    assert "14%" in finding.said


def test_what_does_not_beat_recency_scores_by_recency(frame: pd.DataFrame) -> None:
    """Visits are drawn anew: of all features, only age tells something."""
    generator = np.random.default_rng(5)
    chance = 1 / (1 + np.exp(-(2.5 - 0.8 * np.log1p(frame["age_days"]))))
    blind = frame.assign(sessions_90=generator.poisson(2.0, len(frame)), bought=generator.random(len(frame)) < chance)
    connection = warehouse(blind)
    made = MODEL.train(connection, AS_OF)
    assert not made.evaluation.baseline.beats
    assert made.features == made.estimator.features == ("age_days",)
    assert set(made.reference) == {"age_days", "score"}
    scored = MODEL.score(made.estimator, connection, AS_OF)
    assert set(scored.tables["scores"]["reason_1"].to_pylist()) <= {
        "days since last order +", "days since last order -", None
    }  # fmt: skip
    assert scored.tables["scores"]["reason_2"].null_count == CUSTOMERS
    assert max(made.estimator.learned) > date.fromisoformat(made.evaluation.judged_on) - timedelta(days=1)


def test_a_better_ranking_with_worse_probabilities_has_not_won() -> None:
    generator = np.random.default_rng(1)
    chance = generator.random(4_000)
    outcome = generator.random(4_000) < chance
    overconfident = 1 / (1 + np.exp(-6 * candidates.log_odds(chance)))
    blurred = 1 / (1 + np.exp(-candidates.log_odds(chance) - generator.normal(0, 0.5, 4_000)))
    contest = contest_of(compare(outcome, overconfident, blurred))
    assert contest.metric == "1 - Brier score"
    assert contest.gain < 0
    assert not contest.beats


def infinite(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(spend_365=frame["spend_365"].where(frame["customer_id"] != frame["customer_id"][4], np.inf))


BAD: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "baseline all null": (lambda frame: frame.assign(age_days=np.nan), "age_days is null for everybody"),
    "baseline constant": (lambda frame: frame.assign(age_days=3.0), "age_days is the same for everybody"),
    "one class": (lambda frame: frame.assign(bought=True), "0 customers with the outcome no for training"),
    "20 customers": (
        lambda frame: frame[frame["customer_id"].isin(frame["customer_id"].unique()[:20])],
        "customers with the outcome .* returns_90 needs 100",
    ),
    "nobody": (lambda frame: frame.assign(order_days=0), "nobody to score"),
    "infinite": (infinite, "spend_365 is infinite in .* first for customer"),
    "missing": (lambda frame: frame.drop(columns="sessions_90"), "feat_customers has no sessions_90"),
    "trait missing": (lambda frame: frame.drop(columns="gender"), "feat_customers has no gender"),
    "text": (lambda frame: frame.assign(sessions_90="many"), "sessions_90 is of type VARCHAR, not a number"),
    "young": (lambda frame: frame.assign(history_days=200), "200 days of history; returns_90 needs 3 x 90"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_with_the_reason(frame: pd.DataFrame, spoil: Any, message: str) -> None:
    with pytest.raises(Refused, match=message):
        MODEL.train(warehouse(spoil(frame)), AS_OF)


@pytest.mark.parametrize("kind", ["nobody", "infinite", "missing", "text"])
def test_bad_input_at_scoring_is_refused_with_the_reason(trained: Any, frame: pd.DataFrame, kind: str) -> None:
    spoil, message = BAD[kind]
    with pytest.raises(Refused, match=message):
        MODEL.score(trained.estimator, warehouse(spoil(frame)), AS_OF)


@pytest.mark.parametrize(
    ("value", "reason"),
    [(np.nan, "null for everybody in training"), (3.0, "the same for everybody in training")],
    ids=["all null", "constant"],
)
def test_a_feature_that_tells_nothing_is_left_out_and_said(frame: pd.DataFrame, value: float, reason: str) -> None:
    connection = warehouse(frame.assign(clicked_90=value))
    made = MODEL.train(connection, AS_OF)
    assert made.evaluation.tables["Features left out"].rows == (("clicked_90", reason),)
    assert "clicked_90" not in made.features
    assert MODEL.score(made.estimator, connection, AS_OF).tables["scores"].num_rows == CUSTOMERS


def leaked_outcome(frame: pd.DataFrame) -> pd.Series[Any]:
    return frame["bought"].astype(float)


def leaked_month(frame: pd.DataFrame) -> pd.Series[Any]:
    """What the customer is about to do, in part: visits on the way to the order, counted a month too late."""
    return frame["clicked_90"] + 3.0 * frame["bought"] * (frame["customer_id"].str[-1] < "b")


@pytest.mark.parametrize("leak", [leaked_outcome, leaked_month])
def test_a_leaked_feature_is_refused_by_its_name(frame: pd.DataFrame, leak: Any) -> None:
    with pytest.raises(Refused, match=r"1 feature\(s\) seem to know what came after as_of: clicked_90 \(AUC"):
        MODEL.train(warehouse(frame.assign(clicked_90=leak(frame))), AS_OF)


@pytest.mark.parametrize(
    ("sensitivity", "message"), [("special", "of a special category"), ("proxy", "states no purpose")]
)
def test_a_sensitive_feature_is_refused(
    connection: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch, sensitivity: str, message: str
) -> None:
    monkeypatch.setattr(classifiers, "sensitivities", lambda: {"sessions_90": sensitivity})
    with pytest.raises(Refused, match=message):
        MODEL.train(connection, AS_OF)


def test_the_traits_that_dbt_marks_are_known_and_in_no_model() -> None:
    marked = features.sensitivities()
    assert {name: marked[name] for name in classifiers.TRAITS} == dict.fromkeys(classifiers.TRAITS, "proxy")
    assert not {name for name, said in marked.items() if said != "none"} & set(classification.NUMERIC_FEATURES)


def test_a_champion_that_learned_the_judged_outcomes_is_fitted_anew_without_them(
    trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[Any] = []
    fit = classification.fit

    def watched(*given: Any) -> Any:
        fits.append(given)
        return fit(*given)

    monkeypatch.setattr(classification, "fit", watched)
    contest = trained.against(trained.estimator)
    assert (contest.gain, contest.low, contest.high) == (0.0, 0.0, 0.0), "the same recipe on the same rows"
    assert len(fits) == 1
    assert max(fits[0][2].learned) < date.fromisoformat(trained.evaluation.judged_on)


def test_a_champion_too_old_to_know_the_judged_outcomes_is_judged_as_it_is(
    frame: pd.DataFrame, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It learned when visits still said the opposite."""
    earlier = ANCHORS[-7]
    known = frame[frame["as_of"] < earlier]
    turned = known.assign(sessions_90=known["sessions_90"].max() - known["sessions_90"], outcome=known["bought"])
    days = sorted(known["as_of_on"].unique())
    split = classification.Split(
        classification.learnable(MODEL.classifier, days, earlier.date()), earlier.date()
    )  # fmt: skip
    old = classification.fit(MODEL.classifier, turned, split, READ, trained.estimator.recipe)
    monkeypatch.setattr(classification, "fit", lambda *given: pytest.fail("was fitted anew"))
    contest = trained.against(old)
    assert contest.beats
    assert contest.other < 0.5


@pytest.mark.parametrize("what", ["another kind", "another model"])
def test_an_estimator_of_something_else_is_refused(
    trained: Any, connection: duckdb.DuckDBPyConnection, what: str
) -> None:
    alien = {"mean": 3} if what == "another kind" else replace(
        trained.estimator, model=replace(MODEL.classifier, name="returns_30")
    )  # fmt: skip
    with pytest.raises(Refused, match="no classifier of returns_90"):
        MODEL.score(alien, connection, AS_OF)
    with pytest.raises(Refused, match="no classifier of returns_90"):
        trained.against(alien)


def follow(frame: pd.DataFrame, shift: float, at: tuple[datetime, ...] = (ANCHORS[-6], ANCHORS[-5])) -> Any:
    """What follows scores that were off by `shift`, written a few minutes after the instants of the spine."""
    connection = warehouse(frame)
    scores = frame[frame["as_of"].isin(at)].assign(
        model="returns_90", model_version="v1", label=None, as_of=lambda rows: rows["as_of"] + timedelta(minutes=7),
        score=lambda rows: np.clip(rows["chance"] + shift, 0, 1),
    )  # fmt: skip
    wrong = scores.assign(model="another_model", score=0.0)
    between = scores.assign(as_of=scores["as_of"] + timedelta(days=2), score=0.0)  # of no instant of the spine
    every = pd.concat([scores, wrong, between])[["model", "model_version", "customer_id", "label", "score", "as_of"]]
    connection.register("every", every)
    connection.execute("insert into staging.stg_ml__scores select * from every")
    return MODEL.follow_up(connection, AS_OF)


def test_scores_that_came_true_pass(frame: pd.DataFrame) -> None:
    followed = follow(frame, 0.0)
    assert [(finding.check, finding.passed) for finding in followed.findings] == [("calibration", True)]
    (table,) = followed.tables.values()
    assert [row[0] for row in table.rows] == sorted({f"{anchor:%Y-%m}" for anchor in (ANCHORS[-6], ANCHORS[-5])})
    for _, customers, predicted, observed, margin, ece, auc in table.rows:
        assert customers == CUSTOMERS
        assert abs(predicted - observed) <= max(margin, OFF)
        assert ece < 0.1
        assert auc > 0.7
    assert followed.pictures["Calibration by month"].startswith(b"\x89PNG")


@pytest.mark.parametrize("shift", [-0.15, 0.15])
def test_scores_that_were_off_warn(frame: pd.DataFrame, shift: float) -> None:
    (finding,) = follow(frame, shift).findings
    assert not finding.passed
    assert f"of 700 customers scored in {ANCHORS[-5]:%Y-%m}" in finding.said


def test_a_miss_too_small_to_matter_does_not_warn(frame: pd.DataFrame) -> None:
    assert follow(frame, 0.02).findings[0].passed


def test_scores_whose_horizon_has_not_passed_say_nothing_yet(frame: pd.DataFrame) -> None:
    followed = follow(frame, 0.3, (ANCHORS[-1], ANCHORS[-2]))
    assert followed.findings == ()
    assert followed.tables == {}


def test_reason_codes_of_a_logistic_model_are_its_largest_terms() -> None:
    """Coefficient times distance from the mean, of features that were drawn one at a time."""
    generator = np.random.default_rng(3)
    values = generator.normal(size=(4_000, 3))
    outcome = generator.random(4_000) < 1 / (1 + np.exp(-(2 * values[:, 0] - 1 * values[:, 1])))
    pipeline = candidates.make("logistic").fit(values, outcome)
    asked = np.array([[3.0, 0.1, 0.0], [0.1, 3.0, 0.0], [-3.0, -3.0, 0.0]])
    said = codes(top_reasons(pipeline, asked, ("age_days", "sessions_90", "spend_total")))
    assert [ranked[0] for ranked in said[:2]] == ["days since last order +", "visits in 90 days -"]
    assert [ranked[1] for ranked in said[:2]] == ["visits in 90 days -", "days since last order +"]
    assert [ranked[2] for ranked in said[:2]] == ["days since last order -", "visits in 90 days +"]
    alone = codes(top_reasons(candidates.make("logistic").fit(values[:, :1], outcome), asked[:, :1], ("age_days",)))
    assert alone == [
        ["days since last order +", "days since last order +", "days since last order -"], [None] * 3, [None] * 3
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("feature", "said"),
    [
        ("age_days", "days since last order"),
        ("orders_90", "orders in 90 days"),
        ("product_views_90", "products viewed in 90 days"),
        ("discount_share_365", "share of discount in 365 days"),
        ("average_order_value", "average order value"),
    ],
)
def test_features_in_words(feature: str, said: str) -> None:
    assert in_words(feature) == said


def test_every_feature_has_words_of_its_own() -> None:
    words = [in_words(feature) for feature in classification.NUMERIC_FEATURES]
    assert len(set(words)) == len(words)
    assert not any("_" in word for word in words)


def test_large_homes_are_read_by_a_fixed_draw_of_customers(connection: duckdb.DuckDBPyConnection) -> None:
    every = features.read(connection, READ, "feat.order_days > 0")
    some = features.read(connection, READ, "feat.order_days > 0", rows_max=len(every) // 4)
    assert 0.1 < len(some) / len(every) < 0.4
    kept = every[every["customer_id"].isin(some["customer_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, some)
