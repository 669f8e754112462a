from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from ml import leaks

ANCHORS = [date(2023, 8, 7) + timedelta(days=28 * number) for number in range(5)]


@pytest.fixture(scope="module")
def orders():
    """Days of orders per customer: each has a rate of their own, and drops out some day."""
    generator = np.random.default_rng(0)
    rows = []
    for customer in range(1_500):
        gap, gone = float(generator.choice([10, 30, 100])), generator.exponential(500)
        day = generator.uniform(0, 100)
        while day < min(450, gone):
            rows.append((customer, int(day)))
            day += generator.exponential(gap)
    return pd.DataFrame(rows, columns=["customer_id", "day"])


def features_at(orders: pd.DataFrame, late_days: int = 0) -> pd.DataFrame:
    """Features at each anchor, of what is known up to `late_days` after it: 0 is honest."""
    frames = []
    for anchor in ANCHORS:
        day = (anchor - date(2023, 1, 1)).days
        known = orders[orders["day"] < day + late_days]
        grouped = known.groupby("customer_id")["day"]
        frame = pd.DataFrame({"age_days": day + late_days - grouped.max(), "orders": grouped.size()})
        frame["orders_30"] = known[known["day"] >= day - 30].groupby("customer_id").size()
        frame = frame.fillna(0)
        after = orders[(orders["day"] >= day) & (orders["day"] < day + 30)]
        frames.append(frame.assign(as_of_on=anchor, outcome=frame.index.isin(after["customer_id"])).reset_index())
    return pd.concat(frames, ignore_index=True)


def test_features_of_the_past_are_no_suspects(orders):
    assert leaks.suspects(features_at(orders), ["age_days", "orders", "orders_30"], "age_days") == ()


def test_where_people_buy_often_and_leave_for_good_honest_features_grow_old_fast_and_are_no_suspects():
    generator = np.random.default_rng(1)
    rows = []
    for customer in range(3_000):
        gone, day = generator.uniform(100, 400), generator.uniform(0, 20)
        while day < gone:
            rows.append((customer, int(day)))
            day += generator.exponential(15)
    frame = features_at(pd.DataFrame(rows, columns=["customer_id", "day"]))
    frame = frame[frame["age_days"] <= 60]
    features = ["age_days", "orders", "orders_30"]
    by_a_pace_of_none = leaks.suspects(frame.assign(still=1.0), [*features, "still"], "still")
    assert {suspect.feature for suspect in by_a_pace_of_none} == {"age_days", "orders_30"}
    assert leaks.suspects(frame, features, "age_days") == ()


@pytest.mark.parametrize("feature", ["age_days", "orders_30"])
def test_a_feature_computed_a_month_late_is_one(orders, feature):
    late = features_at(orders, late_days=28).set_index(["customer_id", "as_of_on"])[feature].rename("leaked")
    frame = features_at(orders).join(late, on=["customer_id", "as_of_on"])

    found = leaks.suspects(frame, ["age_days", "orders_30", "leaked"], "age_days")

    assert [suspect.feature for suspect in found] == ["leaked"]
    assert found[0].auc > found[0].older_auc


def test_the_outcome_itself_is_one(orders):
    frame = features_at(orders)
    frame["leaked"] = frame["outcome"] * 3.5

    assert [suspect.feature for suspect in leaks.suspects(frame, ["age_days", "leaked"], "age_days")] == ["leaked"]


def test_few_customers_raise_no_suspicion(orders):
    frame = features_at(orders[orders["customer_id"] < 30])
    frame["leaked"] = frame["outcome"] * 1.0

    assert leaks.suspects(frame, ["leaked"], "age_days") == ()


def test_a_leak_of_half_a_year_which_hardly_grows_old_is_told_by_being_too_good(orders):
    """The orders of the next 180 days, as a model of 180 days would have them leaked."""
    frame = features_at(orders)
    days = (pd.to_datetime(frame["as_of_on"]) - pd.Timestamp(2023, 1, 1)).dt.days
    by_customer = orders.groupby("customer_id")["day"].apply(np.array)
    pairs = list(zip(frame["customer_id"], days, strict=True))
    frame["leaked"] = [int(((by_customer[who] >= day) & (by_customer[who] < day + 180)).sum()) for who, day in pairs]

    own = frame.assign(outcome=frame["leaked"] > 0)

    assert leaks.suspects(frame, ["leaked"], "age_days") == (), "hardly older within four weeks"
    assert [suspect.feature for suspect in leaks.tell_tales(own, ["age_days", "orders_30", "leaked"])] == ["leaked"]


def test_too_few_customers_tell_no_tales(orders):
    frame = features_at(orders[orders["customer_id"] < 30])
    frame["leaked"] = frame["outcome"] * 1.0

    assert leaks.tell_tales(frame, ["leaked"]) == ()
