from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from ml import candidates, classification
from ml.classification import Classifier, Recipe, Split
from ml.model import Refused
from ml.models import churn, purchase

CHURN, PURCHASE_30, PURCHASE_90 = (
    model.classifier for model in (churn.CHURN, purchase.PURCHASE_30, purchase.PURCHASE_90)
)
AS_OF_ON = date(2024, 3, 4)
ANCHORS = [AS_OF_ON - timedelta(days=28 * number) for number in range(26, 0, -1)]
MODEL = Classifier(
    name="returns_90",
    question="Will they return?",
    population="true",
    target="outcome.bought",
    horizon_days=90,
    features=("age_days", "orders_90", "spend_365", "visits", "clicks"),
)


def drawn(anchors: list[date], customers: int = 500, seed: int = 0) -> pd.DataFrame:
    """Rows whose outcome follows known odds; visits say more than age, spend and clicks nothing."""
    generator = np.random.default_rng(seed)
    frames = []
    for anchor in anchors:
        frame = pd.DataFrame(
            {
                "customer_id": [f"{number * 7919 % 65536:04x}" for number in range(customers)],
                "as_of_on": anchor,
                "history_days": (anchor - ANCHORS[0]).days + 400,
                "age_days": generator.exponential(60, customers),
                "orders_90": generator.poisson(1.0, customers).astype(float),
                "spend_365": generator.lognormal(3, 1, customers),
                "visits": generator.poisson(2.0, customers).astype(float),
                "clicks": generator.normal(size=customers),
                "gender": np.where(np.arange(customers) % 2, "female", "male"),
            }
        )
        odds = 0.5 - 0.5 * np.log1p(frame["age_days"]) + 0.8 * frame["visits"]
        chance = 1 / (1 + np.exp(-odds))
        frames.append(frame.assign(chance=chance, outcome=generator.random(customers) < chance))
    return pd.concat(frames, ignore_index=True)


@pytest.fixture(scope="module", autouse=True)
def no_forest():
    """The slowest candidate, which its own tests fit, is not compared here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "CANDIDATES", ("logistic", "boosting"))
        yield


@pytest.fixture(scope="module")
def known():
    return drawn([anchor for anchor in ANCHORS if anchor + MODEL.reach <= AS_OF_ON])


@pytest.fixture(scope="module")
def current():
    return drawn([AS_OF_ON], seed=1).drop(columns="outcome")


@pytest.fixture(scope="module")
def made(known, current):
    return classification.develop(MODEL, known, current, AS_OF_ON, traits=["gender"])


def test_nothing_learned_ends_after_what_it_is_judged_on_begins(made):
    split = made.plan.split

    assert max(split.learned) + timedelta(days=92) <= split.judged
    assert split.judged + timedelta(days=92) <= AS_OF_ON
    assert made.judged.learned == made.baseline.learned == split.learned
    assert max(made.fitted.learned) == split.judged
    assert {trial.period for trial in made.trials} <= set(split.learned)


def test_the_model_earns_its_place_and_its_probabilities_are_those_that_made_the_outcomes(made, current):
    assert made.earns_its_place, made.explanation
    assert made.recipe.candidate == "logistic"
    assert made.importance[0][0] == "visits"
    probabilities = made.fitted.probabilities(current)
    assert np.abs(probabilities - current["chance"]).mean() < 0.06
    assert np.corrcoef(probabilities, current["chance"])[0, 1] > 0.97


def test_the_baseline_reads_its_own_features_only(made, current):
    assert made.baseline.features == ("age_days",)
    changed = current.assign(visits=99.0)

    assert np.array_equal(made.baseline.probabilities(current), made.baseline.probabilities(changed))


def test_a_model_that_knows_no_more_than_recency_does_not_earn_its_place(known, current):
    poor = replace(MODEL, features=("age_days", "clicks"))

    made = classification.develop(poor, known, current, AS_OF_ON)

    assert not made.earns_its_place
    assert "does not beat its baseline" in made.explanation


def test_scores_are_probabilities_with_three_reasons(made, current):
    scores = made.fitted.score(current)

    assert list(scores["customer_id"]) == list(current["customer_id"])
    assert scores["score"].between(0, 1).all()
    assert set(scores["direction_1"]) == {"up", "down"}
    many_visits = (current["visits"] >= 7).to_numpy()
    assert (scores.loc[many_visits, "reason_1"] == "visits").all()
    assert (scores.loc[many_visits, "direction_1"] == "up").all()


def test_same_data_same_scores_to_the_last_digit(made, known, current):
    again = classification.develop(MODEL, known, current, AS_OF_ON, traits=["gender"])

    assert again.fitted.probabilities(current).tobytes() == made.fitted.probabilities(current).tobytes()
    assert again.fitted.score(current).equals(made.fitted.score(current))
    assert again.comparison == made.comparison


def test_what_happens_after_the_evaluation_began_changes_no_choice_and_no_probability_judged(known, current):
    """Poison: the outcomes judged by, and all features from then on, are turned round."""
    split = classification.split_in_time(MODEL, ANCHORS, AS_OF_ON)
    late = known["as_of_on"] > max(split.learned)
    poisoned = known.copy()
    poisoned.loc[late, "outcome"] = ~poisoned.loc[late, "outcome"]
    poisoned.loc[late, "visits"] = 50.0 - poisoned.loc[late, "visits"]
    plan = classification.make_plan(MODEL, known, current, AS_OF_ON)
    with candidates.threads():
        recipes = [classification.choose(MODEL, frame, plan) for frame in (known, poisoned)]
        fitted = [classification.fit(MODEL, frame, split, plan.features, recipes[0][0]) for frame in (known, poisoned)]

    assert recipes[0] == recipes[1]
    assert fitted[0].probabilities(current).tobytes() == fitted[1].probabilities(current).tobytes()


@pytest.mark.parametrize("model", [CHURN, PURCHASE_30, PURCHASE_90], ids=lambda model: model.name)
def test_earlier_periods_are_judged_by_what_was_known_before_the_evaluation(model):
    split = classification.split_in_time(model, ANCHORS, AS_OF_ON)

    periods = classification.earlier_periods(model, split)

    assert 1 <= len(periods) <= classification.PERIODS
    for period in periods:
        assert period.judged + model.reach <= split.judged
        assert max(period.learned) + model.reach <= period.judged
    assert len({period.judged for period in periods}) == len(periods)


@pytest.mark.parametrize("model", [PURCHASE_30, PURCHASE_90], ids=lambda model: model.name)
def test_periods_with_a_season_know_instants_of_the_year_before(model):
    split = classification.split_in_time(model, ANCHORS, AS_OF_ON)

    periods = classification.earlier_periods(model, split, with_season=True)

    assert len(periods) == classification.PERIODS
    for period in periods:
        assert "season" in classification.scopes(model, period)
        assert period.judged + model.reach <= split.judged


def test_calibrations_are_compared_on_every_period_that_can_try_all_of_them(made):
    seasonal = classification.earlier_periods(MODEL, made.plan.split, with_season=True)
    tried = {(trial.option, trial.period) for trial in made.trials if " " in trial.option}

    assert len(seasonal) == classification.PERIODS
    assert {period for _, period in tried} == {split.judged for split in seasonal}
    assert {(f"sigmoid {scope}", split.judged) for split in seasonal for scope in ("newest", "season", "both")} <= tried


def test_fitting_on_outcomes_of_the_future_is_refused(known):
    split = Split((date(2023, 10, 1),), date(2023, 12, 31))

    with pytest.raises(ValueError, match="are known only after 2023-12-31"):
        classification.fit(MODEL, known, split, ("age_days",), Recipe())


def test_the_gap_for_late_deliveries_is_kept():
    anchors = [date(2023, 1, 2), date(2023, 1, 30), date(2023, 5, 2)]
    prompt, late = replace(MODEL, late_days=0), replace(MODEL, late_days=5)

    assert classification.learnable(prompt, anchors, date(2023, 4, 30)) == tuple(anchors[:2])
    assert classification.learnable(late, anchors, date(2023, 4, 30)) == tuple(anchors[:1])


def test_the_season_of_a_year_before_calibrates_where_it_is_known():
    split = classification.split_in_time(CHURN, ANCHORS, AS_OF_ON)
    scopes = classification.scopes(CHURN, split)

    assert scopes["newest"] == split.learned[-3:]
    assert all(abs((split.judged - anchor).days - 364) <= 28 for anchor in scopes["season"])
    split_30 = classification.split_in_time(PURCHASE_30, ANCHORS, AS_OF_ON)
    assert classification.scopes(PURCHASE_30, split_30)["season"] == (split_30.judged - timedelta(days=364),)
    assert set(scopes["both"]) == set(scopes["newest"]) | set(scopes["season"])
    assert set(classification.scopes(CHURN, Split(split.learned[-5:], split.judged))) == {"newest"}


def test_a_base_rate_that_moved_is_followed_by_calibrating_on_the_newest(current):
    anchors = [anchor for anchor in ANCHORS if anchor + MODEL.reach <= AS_OF_ON]
    known = drawn(anchors)
    generator = np.random.default_rng(5)
    newer = known["as_of_on"] > anchors[-8]
    known["outcome"] &= ~newer | (generator.random(len(known)) < 0.4)
    split = Split(tuple(anchors[:-4]), anchors[-1])
    rows = known[known["as_of_on"] == anchors[-1]]
    with candidates.threads():
        fitted = classification.fit(MODEL, known, split, MODEL.features, Recipe(scope="newest"))
        seasonal = classification.fit(MODEL, known, split, MODEL.features, Recipe(scope="season"))

    assert fitted.probabilities(rows).mean() == pytest.approx(rows["outcome"].mean(), abs=0.04)
    assert seasonal.probabilities(rows).mean() > rows["outcome"].mean() + 0.1


def test_short_history_drops_features_that_look_further_back(known, current):
    plan = classification.make_plan(MODEL, known.assign(history_days=known["history_days"] - 620), current, AS_OF_ON)

    assert plan.window_days == 90
    assert [name for name, _ in plan.dropped] == ["spend_365"]
    assert "spend_365" not in plan.features
    assert plan.split.learned[0] > ANCHORS[0]  # of the first instants the history is shorter than even 90 days


@pytest.mark.parametrize(
    ("feature", "days"),
    [("orders_90", 90), ("spend_change_90", 180), ("age_days", 0), ("click_rate", 0)],
)
def test_how_far_a_feature_looks_back(feature, days):
    assert classification.window_of(feature) == days


@pytest.mark.parametrize(
    ("value", "reason"), [(np.nan, "null for everybody"), (7.0, "the same for everybody")], ids=["all null", "constant"]
)
@pytest.mark.parametrize("where", ["training", "scoring"])
def test_a_feature_that_tells_nobody_apart_is_left_out_with_the_reason(known, current, value, reason, where):
    frames = {"training": known, "scoring": current}
    frames[where] = frames[where].assign(clicks=value)

    plan = classification.make_plan(MODEL, frames["training"], frames["scoring"], AS_OF_ON)

    assert plan.dropped == (("clicks", f"{reason} in {where}"),)
    assert "clicks" not in plan.features


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda known: known[known["customer_id"].isin(known["customer_id"].unique()[:20])],
            "customers with the outcome",
        ),
        (
            lambda known: known.assign(outcome=True),
            "0 customers with the outcome no for training; returns_90 needs 100",
        ),
        (lambda known: known.assign(age_days=np.nan), "compared with its baseline: age_days is null for everybody"),
        (lambda known: known[known["as_of_on"] > ANCHORS[-6]], "so no outcome is known yet|instant"),
        (lambda known: known.head(0), "no outcome is known yet"),
    ],
    ids=["20 customers", "one class", "baseline all null", "young", "nobody"],
)
def test_what_is_too_little_is_refused_with_the_reason(known, current, spoil, message):
    with pytest.raises(Refused, match=message):
        classification.develop(MODEL, spoil(known), current, AS_OF_ON)


def test_history_of_less_than_three_horizons_is_refused(known, current):
    with pytest.raises(Refused, match="269 days of history; returns_90 needs 3 x 90"):
        classification.make_plan(MODEL, known, current.assign(history_days=269), AS_OF_ON)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda frame: frame.assign(spend_365=np.where(frame.index == 3, np.inf, 1.0)),
            r"spend_365 is infinite in 1 row",
        ),
        (lambda frame: frame.drop(columns="visits"), "visits are missing"),
        (lambda frame: frame.assign(visits=frame["visits"].astype(str)), "visits is of type str, not a number"),
        (lambda frame: frame.assign(visits=pd.Timestamp("2024-01-01")), "visits is of type datetime64"),
    ],
    ids=["infinite", "missing", "text", "instant"],
)
@pytest.mark.parametrize("when", ["training", "scoring"])
def test_a_frame_that_is_not_what_the_model_reads_is_an_error(made, known, current, spoil, message, when):
    if when == "training":
        with pytest.raises(Refused, match=message):
            classification.develop(MODEL, spoil(known), current, AS_OF_ON)
    else:
        with pytest.raises(Refused, match=message):
            made.fitted.score(spoil(current))


def test_an_unknown_outcome_cannot_be_learned_from(known, current):
    with pytest.raises(Refused, match=r"1 row\(s\) have no outcome"):
        classification.develop(MODEL, known.assign(outcome=known["outcome"].where(known.index != 5)), current, AS_OF_ON)


def test_features_that_become_unknown_when_scoring_are_imputed(made, current):
    gone = made.fitted.score(current.assign(clicks=None, spend_365=np.nan))

    assert gone["score"].between(0, 1).all()


@pytest.mark.parametrize(
    ("sensitivity", "purpose", "message"),
    [
        ("special", "anything", "of a special category"),
        ("proxy", None, "states no purpose"),
        ("proxy", "fit of sizes", None),
        ("none", None, None),
    ],
)
def test_sensitive_features_are_refused(sensitivity, purpose, message):
    model = replace(MODEL, purpose=purpose)
    if message is None:
        classification.check_sensitivity(model, {"visits": sensitivity})
        return
    with pytest.raises(Refused, match=message):
        classification.check_sensitivity(model, {"visits": sensitivity})


def test_large_homes_learn_from_whole_customers_the_same_each_time(known):
    some = classification.draw(known, 1_000)

    assert 0.5 < len(some) / 1_000 < 1.6
    assert some.groupby("customer_id").size().nunique() == 1
    assert some.equals(classification.draw(known, 1_000))
    assert classification.draw(known, len(known)) is known


def test_a_baseline_must_be_among_the_features():
    with pytest.raises(ValueError, match="baseline features"):
        replace(MODEL, features=("visits",))
