"""Lifetime value on a DuckDB with the tables that dbt would build, filled from a seeded process, and on CDNOW."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import joblib
import numpy as np
import pandas as pd
import pytest

from ml import lifetime, lifetime_evaluation, lifetime_methods
from ml.drift import measure
from ml.estimators.bg_nbd import BetaGeoNBD
from ml.estimators.gamma_gamma import GammaGamma
from ml.estimators.lifetimes import FitRefusedError
from ml.estimators.pareto_nbd import ParetoNBD
from ml.lifetime import LifetimeEstimator
from ml.model import Contest, Refused
from ml.models.lifetime_value import LIFETIME_VALUE
from ml.scores import TABLES

CDNOW = Path(__file__).parents[2] / "data" / "cdnow" / "cdnow_sample.csv"
START = date(2021, 1, 1)
DAYS = 1_130
LONG = START + timedelta(days=DAYS)  # a year can be judged
MIDDLE = START + timedelta(days=800)  # 180 days can, a year can't
RETURNED = 0.05
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="session")
def orders():
    """Order days of 700 customers: each has a rhythm and a basket of their own, and stops for good some day."""
    generator = np.random.default_rng(11)
    rows = []
    for number in range(700):
        gap, first = 1 / generator.gamma(1.2, 1 / 60.0), generator.integers(0, 600)
        leaves = first + generator.exponential(1 / generator.gamma(1.5, 1 / 600.0))
        basket = float(generator.lognormal(3.2, 0.7)) * (8 if number % 5 == 0 else 1)
        day = float(first)
        while day < min(DAYS, leaves):
            amount = round(basket * float(generator.gamma(4, 0.25)) + 1, 2)
            rows.append((f"{number * 7919 % 65536:04x}{number:012x}", START + timedelta(days=int(day)), amount))
            day += 1 + generator.exponential(gap)
    frame = pd.DataFrame(rows, columns=["customer_id", "ordered_on", "amount"])
    # The last twelve digits of an id count the customers.
    numbers = frame["customer_id"].str[4:].map(lambda digits: int(digits, 16))
    return frame.assign(account_type=np.where(numbers % 5 == 0, "business", "private"))


def tables(orders: pd.DataFrame, as_of_on: date = LONG) -> duckdb.DuckDBPyConnection:
    """What dbt would have built of the orders by a day."""
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    connection.register("given_orders", orders)
    connection.execute(
        "create table orders as select * replace (cast(amount as decimal(18, 4)) as amount) from given_orders"
        " where ordered_on < ?",
        [as_of_on],
    )
    connection.execute("create schema marts; create schema features; create schema staging")
    connection.execute(
        """
        create table marts.dim_as_ofs as
        select cast(day as timestamp) as as_of, cast(day as date) as as_of_on, false as is_current
        from (select unnest(generate_series(date '2000-01-03', cast($1 as date) - 1, interval 28 day)) as day)
        where day > $1 - 731
        union all select cast($1 as timestamp), cast($1 as date), true
        """,
        [as_of_on],
    )
    connection.execute(
        "create table marts.customer_permissions as select distinct customer_id, true as may_be_profiled from orders"
    )
    connection.execute(
        """
        create table features.feat_order_dates as select distinct customer_id, ordered_on from orders;
        create table features.feat_customers as
        with by_date as (
            select customer_id, account_type, ordered_on, sum(amount) as amount, count(*) as orders
            from orders group by all
        ),
        dates as (
            select *, row_number() over (partition by customer_id order by ordered_on) as place,
                date_diff('day', lag(ordered_on) over (partition by customer_id order by ordered_on), ordered_on) as gap
            from by_date
        ),
        known as (
            select *, date_diff('day', ordered_on, as_of_on) as age
            from marts.dim_as_ofs inner join dates on ordered_on < as_of_on
        )
        select
            customer_id, as_of, as_of_on, any_value(account_type) as account_type,
            min(age) as age_days, max(age) as tenure_days, count(*) as order_days, sum(orders) as orders,
            sum(amount) as spend_total, sum(amount) filter (place = 1) as first_day_spend,
            coalesce(sum(orders) filter (age <= 90), 0) as orders_90, coalesce(sum(orders) filter (age <= 180), 0) as orders_180,
            coalesce(sum(amount) filter (age <= 90), 0) as spend_90,
            min(age) <= 180 as is_churn_population,
            avg(gap) as mean_gap_days, arg_max(gap, ordered_on) as last_gap_days, min(age) / avg(gap) as overdue_ratio,
            date_diff('day', date '2021-01-01', as_of_on) as history_days
        from known group by customer_id, as_of, as_of_on
        """
    )
    connection.execute(
        """
        create table features.outcomes as
        select feat.customer_id, feat.as_of, horizon_days, count(orders.amount)::integer as orders,
            coalesce(sum(orders.amount), 0) as revenue, coalesce(sum(orders.amount), 0) * (1 - $2::double) as net_revenue
        from features.feat_customers as feat
        cross join (values (30), (90), (180), (365)) as horizons (horizon_days)
        left join orders on orders.customer_id = feat.customer_id
            and date_diff('day', feat.as_of_on, orders.ordered_on) between 0 and horizon_days - 1
        where date_diff('day', feat.as_of_on, $1::date) >= horizon_days
        group by all
        """,
        [as_of_on, RETURNED],
    )
    return connection


def instant(day: date) -> datetime:
    return datetime(day.year, day.month, day.day)


@pytest.fixture(scope="session")
def long(orders):
    return tables(orders)


@pytest.fixture(scope="session")
def trained(long):
    return LIFETIME_VALUE.train(long, instant(LONG))


@pytest.fixture(scope="session")
def scored(long, trained):
    return LIFETIME_VALUE.score(trained.estimator, long, instant(LONG))


@pytest.fixture
def changeable(orders):
    """A connection of one's own."""
    connection = tables(orders)
    yield connection
    connection.close()


# --- Training and judging


def test_a_year_is_judged_where_history_is_three_years_long(trained):
    evaluation = trained.evaluation
    assert trained.estimator.judged == (90, 180, 365)
    assert evaluation.baseline.metric == "R2 of spend in 365 days, winsorised"
    assert evaluation.baseline.beats
    assert evaluation.judged_on.startswith("365 days from 2023-01-3")
    assert evaluation.figures["r2_365"] == pytest.approx(evaluation.baseline.model)
    assert evaluation.figures["baseline_r2_365"] == pytest.approx(evaluation.baseline.other)
    assert 0.4 < evaluation.figures["r2_365"] < 1
    assert abs(evaluation.figures["bias_365"]) < 0.25
    assert 0.85 < evaluation.figures["coverage_365"] <= 1


def test_what_scores_is_the_best_on_its_horizons_holdout(trained):
    table = trained.evaluation.tables["Holdout by horizon and method"]
    for horizon in (90, 180, 365):
        rows = {row[2]: row for row in table.rows if row[0] == horizon}
        assert len(rows) == 4
        chosen = next(row for row in rows.values() if row[3] == "yes")
        models = [row for name, row in rows.items() if name != "history mean"]
        assert chosen[5] >= max(row[5] for row in models) - lifetime_evaluation.NEARLY_AS_GOOD


def test_the_judgement_learns_nothing_of_what_came_after_it(changeable, trained):
    """Outcomes that were not known yet when the judged instant was are made a thousand times as large."""
    judged = date.fromisoformat(trained.evaluation.judged_on.split()[3].rstrip(","))
    changeable.execute(
        """
        update features.outcomes set net_revenue = net_revenue * 1000, orders = orders * 7
        where cast(as_of as date) + horizon_days + 2 > ?::date and not (cast(as_of as date) = ? and horizon_days = 365)
        """,
        [judged, judged],
    )
    again = LIFETIME_VALUE.train(changeable, instant(LONG)).evaluation
    assert again.baseline == trained.evaluation.baseline
    # The judgement itself does see its own outcome.
    changeable.execute("update features.outcomes set net_revenue = revenue * random() where horizon_days = 365")
    assert LIFETIME_VALUE.train(changeable, instant(LONG)).evaluation.baseline != trained.evaluation.baseline


def test_features_after_the_judged_instant_leave_its_judgement_alone(changeable, trained):
    judged = date.fromisoformat(trained.evaluation.judged_on.split()[3].rstrip(","))
    changeable.execute(
        "update features.feat_customers set orders_90 = orders_90 * 3, spend_90 = 0 where as_of_on > ?",
        [judged],
    )
    assert LIFETIME_VALUE.train(changeable, instant(LONG)).evaluation.baseline == trained.evaluation.baseline


def test_outcomes_are_told_from_features_of_the_same_name(long):
    """`orders_90` is what a customer did before an instant and after it."""
    known = lifetime._read(long, instant(LONG), before=True)
    assert known.columns.is_unique
    outcomes = long.execute(
        "select outcome.orders from features.feat_customers as feat inner join features.outcomes as outcome"
        " using (customer_id, as_of) where horizon_days = 90 order by feat.as_of_on, customer_id"
    ).fetchnumpy()["orders"]
    told = known["next_orders_90"].dropna()
    assert told.tolist() == outcomes.tolist()
    assert (told != known.loc[told.index, "orders_90"]).any()


def test_equal_tables_make_equal_bytes(orders, trained, scored):
    connection = tables(orders.sample(frac=1, random_state=3))
    again = LIFETIME_VALUE.train(connection, instant(LONG))
    assert again.label == trained.label
    assert again.evaluation.pictures == trained.evaluation.pictures
    assert again.evaluation.figures == trained.evaluation.figures
    assert LIFETIME_VALUE.score(again.estimator, connection, instant(LONG)).tables == scored.tables


def test_an_estimator_that_was_kept_says_the_same(long, trained, scored):
    kept = io.BytesIO()
    joblib.dump(trained.estimator, kept)
    kept.seek(0)
    assert LIFETIME_VALUE.score(joblib.load(kept), long, instant(LONG)).tables == scored.tables


def test_the_label_tells_other_rows_and_another_rate(changeable, trained):
    assert replace(LIFETIME_VALUE, annual_discount_rate=0.2).train(changeable, instant(LONG)).label != trained.label
    changeable.execute("update features.feat_customers set spend_90 = spend_90 + 1 where as_of_on = ?", [LONG])
    assert LIFETIME_VALUE.train(changeable, instant(LONG)).label != trained.label


def test_where_a_year_cannot_be_judged_the_longest_horizon_that_can_decides_and_is_said(orders):
    connection = tables(orders, MIDDLE)
    trained = LIFETIME_VALUE.train(connection, instant(MIDDLE))
    assert trained.estimator.judged == (90, 180)
    assert trained.evaluation.baseline.metric == "R2 of spend in 180 days, winsorised"
    assert "chosen on customers of 2022-0" in trained.evaluation.judged_on
    scored = LIFETIME_VALUE.score(trained.estimator, connection, instant(MIDDLE))
    finding = scored.findings[0]
    assert (finding.check, finding.passed) == ("horizon", False)
    assert "which was judged on 180 days" in finding.said
    assert set(scored.tables["lifetime_values"]["horizon_days"].to_pylist()) == {90, 180, 365}


def test_what_does_not_beat_the_baseline_leaves_it_to_score(long, monkeypatch):
    level = Contest("R2", 0.5, 0.5, -0.1, 0.1)
    monkeypatch.setattr("ml.lifetime.evaluation.contest", lambda *arguments: level)
    trained = LIFETIME_VALUE.train(long, instant(LONG))
    assert {method.name for method in trained.estimator.methods.values()} == {"history mean"}
    scored = LIFETIME_VALUE.score(trained.estimator, long, instant(LONG))
    rows = scored.tables["lifetime_values"].to_pandas()
    assert set(rows["method"]) == {"history mean"}
    assert rows["probability_alive"].isna().all()
    year = rows[rows["horizon_days"] == 365].set_index("customer_id")
    features = long.execute(
        "select customer_id, spend_total * 365 / greatest(tenure_days, 365) * is_churn_population::integer as value"
        " from features.feat_customers where as_of_on = ?",
        [LONG],
    ).df()
    expected = features.set_index("customer_id")["value"].astype(float)
    np.testing.assert_allclose(year["expected_spend"], expected.reindex(year.index), atol=1e-4)
    assert (year["clv_low"] <= year["clv_high"]).all()
    assert scored.tables["scores"]["reason_1"].null_count == len(year)


# --- Against a champion


def test_a_champion_that_learned_from_later_is_fitted_anew(trained):
    itself = trained.against(trained.estimator)
    assert (itself.gain, itself.beats) == (0, False)
    assert itself.other == trained.evaluation.baseline.model


def test_a_champion_that_is_the_baseline_does_as_the_baseline_did(trained):
    plain = replace(trained.estimator, methods=dict.fromkeys((90, 180, 365), lifetime_methods.HistoryMean()))
    assert trained.against(plain) == trained.evaluation.baseline


def test_a_champion_of_before_the_judged_instant_answers_itself(orders, trained):
    earlier = START + timedelta(days=600)
    frame = lifetime._read(tables(orders, earlier), instant(earlier))
    methods = dict.fromkeys((90, 180, 365), lifetime_methods.fit_purchases("BG/NBD", frame, 1.0))
    champion = replace(trained.estimator, methods=methods, learned_on=earlier)
    old, anew = trained.against(champion), trained.against(replace(champion, learned_on=LONG))
    assert old.model == anew.model
    assert old.other != anew.other


def test_a_champion_of_another_kind_is_refused(trained):
    with pytest.raises(Refused, match="the champion is a dict"):
        trained.against({})


# --- Scoring


def test_every_customer_with_an_order_is_scored_once_a_horizon(long, scored):
    rows = scored.tables["scores"]
    values = scored.tables["lifetime_values"]
    customers = long.execute("select count(distinct customer_id) from orders").fetchall()[0][0]
    assert rows.column_names == list(TABLES["scores"])
    assert values.column_names == list(TABLES["lifetime_values"])
    assert (rows.num_rows, values.num_rows) == (customers, 3 * customers)
    wide = values.to_pandas().pivot(index="customer_id", columns="horizon_days", values="clv")
    assert wide.loc[rows["customer_id"].to_pylist(), 365].tolist() == rows["score"].to_pylist()
    frame = rows.to_pandas()
    assert (frame["low"] >= 0).all()
    assert (frame["low"] <= frame["high"]).all()
    table = values.to_pandas()
    # Who has most likely gone spends nothing with a probability that leaves the mean above the interval.
    expected_back = table[table["expected_orders"] > 1]
    assert len(expected_back) > 100
    assert (expected_back["clv"] < expected_back["clv_high"]).all()
    assert (table["clv"] <= table["expected_spend"]).all()
    assert table["probability_alive"].between(0, 1).all()
    assert not table.isna().any().any()


def test_a_higher_rate_makes_later_money_worth_less(long, trained):
    estimator: LifetimeEstimator = trained.estimator
    frame = lifetime._read(long, instant(LONG))
    plain = replace(estimator, annual_discount_rate=0.0).values(frame, 365)
    dear = replace(estimator, annual_discount_rate=0.5).values(frame, 365)
    np.testing.assert_allclose(plain.clv, plain.spend, rtol=1e-9)
    assert 0.75 < (dear.clv / dear.spend).mean() < 0.85
    assert lifetime_methods.discount(365, 0.1) == pytest.approx(np.mean(1.1 ** (-np.arange(1, 13) / 12)))


def test_who_may_not_be_profiled_is_in_no_row_and_no_training(changeable, trained):
    changeable.execute("update marts.customer_permissions set may_be_profiled = customer_id >= '4'")
    again = LIFETIME_VALUE.train(changeable, instant(LONG))
    assert again.evaluation.rows < trained.evaluation.rows
    tables_now = LIFETIME_VALUE.score(again.estimator, changeable, instant(LONG)).tables
    for rows in tables_now.values():
        assert min(rows["customer_id"].to_pylist()) >= "4"


def test_scores_lie_where_they_lay_in_training(trained, scored):
    assert set(trained.reference) == {*lifetime_methods.COLUMNS, "score"}
    assert not any(drift.is_warning or drift.is_alarm for drift in measure(trained.reference, scored.frame))


# --- Bad input


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param("alter table features.feat_customers drop column spend_90", "spend_90", id="missing"),
        pytest.param(
            "alter table features.feat_customers alter spend_90 type varchar using 'much'", "can't be read", id="type"
        ),
        pytest.param(
            "alter table features.feat_customers alter spend_total type double;"
            "update features.feat_customers set spend_total = 'infinity' where customer_id < '2'",
            "spend_total is missing or infinite for",
            id="infinite",
        ),
        pytest.param(
            "update features.feat_customers set first_day_spend = null",
            "first_day_spend is missing or infinite for",
            id="all-null",
        ),
        pytest.param("delete from features.feat_customers", "nobody who may be profiled has an order", id="nobody"),
    ],
)
def test_features_that_cannot_be_read_are_refused(changeable, trained, change, said):
    changeable.execute(change)
    with pytest.raises(Refused, match=said):
        LIFETIME_VALUE.train(changeable, instant(LONG))
    with pytest.raises(Refused, match=said):
        LIFETIME_VALUE.score(trained.estimator, changeable, instant(LONG))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param("delete from features.feat_customers where customer_id >= '08'", "are needed", id="20-customers"),
        pytest.param(
            "update features.feat_customers set order_days = 1, age_days = tenure_days, spend_total = first_day_spend",
            "customers bought a second time: a fit needs",
            id="no-repeat-buyers",
        ),
        pytest.param("update features.outcomes set net_revenue = 0, revenue = 0", "spent alike", id="one-class"),
        pytest.param(
            "update features.feat_customers set history_days = 200", "200 days of history", id="short-history"
        ),
        pytest.param("delete from features.outcomes", "no outcome is known yet", id="no-outcomes"),
        pytest.param(
            "update features.feat_customers set history_days = null", "history_days is missing", id="no-history"
        ),
    ],
)
def test_data_that_cannot_carry_a_model_are_refused(changeable, change, said):
    changeable.execute(change)
    with pytest.raises(Refused, match=said):
        LIFETIME_VALUE.train(changeable, instant(LONG))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("update features.feat_customers set is_churn_population = true", id="constant"),
        pytest.param("update features.feat_customers set mean_gap_days = null, overdue_ratio = null", id="no-gaps"),
        pytest.param("update features.feat_customers set account_type = null", id="no-accounts"),
        pytest.param("delete from features.outcomes where horizon_days = 90", id="no-90"),
    ],
)
def test_features_that_say_nothing_are_no_fault(changeable, change):
    changeable.execute(change)
    trained = LIFETIME_VALUE.train(changeable, instant(LONG))
    assert np.isfinite(trained.evaluation.figures["r2_365"])
    scored = LIFETIME_VALUE.score(trained.estimator, changeable, instant(LONG))
    assert scored.tables["scores"]["score"].null_count == 0


def test_a_method_that_cannot_be_fitted_drops_out_and_is_said(long, monkeypatch):
    class Undetermined(ParetoNBD):
        def fit(self, X, y=None):
            raise FitRefusedError("no maximum")

    monkeypatch.setattr(
        lifetime_methods,
        "PURCHASE_MODELS",
        {"BG/NBD": BetaGeoNBD, "Pareto/NBD": Undetermined},
    )
    trained = LIFETIME_VALUE.train(long, instant(LONG))
    said = trained.evaluation.tables["Methods left out"].rows
    assert [(row[0], *row[2:]) for row in said] == [
        (horizon, "Pareto/NBD x Gamma-Gamma", "no maximum") for horizon in (90, 180, 365)
    ]
    assert {method.name for method in trained.estimator.methods.values()} <= {"BG/NBD x Gamma-Gamma", "regression"}


def test_spend_that_determines_no_maximum_is_fitted_with_a_penalty(frame, monkeypatch):
    plain = GammaGamma.fit

    def undetermined(self, X, y=None):
        if not self.penalty:
            raise FitRefusedError("no maximum")
        return plain(self, X, y)

    monkeypatch.setattr(GammaGamma, "fit", undetermined)
    fitted = lifetime_methods.fit_purchases("BG/NBD", frame, 0.95)
    assert {spend.penalty for spend in fitted.spends.values()} == {0.001}
    assert fitted.purchases.penalty == 0
    assert np.isfinite(fitted.expected(frame, 365).spend).all()


def test_another_estimator_is_refused(long):
    with pytest.raises(Refused, match="the estimator is a str"):
        LIFETIME_VALUE.score("clv", long, instant(LONG))


# --- Methods


@pytest.fixture(scope="session")
def frame(long):
    return lifetime._checked(lifetime._read(long, instant(LONG)))


@pytest.fixture(scope="session")
def purchases(frame):
    return lifetime_methods.fit_purchases("BG/NBD", frame, 0.95)


def test_cdnow_gives_its_published_parameters():
    """By what features say of customers: days since the first and the last order date, spend in all and on the first."""
    given = pd.read_csv(CDNOW)
    days = (given["T"] * 7).round()
    customers = pd.DataFrame(
        {
            "order_days": given["frequency"] + 1,
            "orders": given["frequency"] + 1,
            "tenure_days": days,
            "age_days": days - (given["recency"] * 7).round(),
            "spend_total": given["monetary"] * given["frequency"] + 10,
            "first_day_spend": 10.0,
            "account_type": None,
        }
    )
    fitted = lifetime_methods.fit_purchases("BG/NBD", customers, 1.0)
    assert list(fitted.purchases.parameters_.values()) == pytest.approx([0.243, 4.414, 0.793, 2.426], abs=0.001)
    # Winsorised at 99 %: the published 6.25, 3.74, 15.44 are of all amounts.
    assert list(fitted.spends) == [None]
    np.testing.assert_allclose(lifetime_methods.histories(customers)["monetary"], given["monetary"], atol=1e-9)


def test_spend_is_net_of_what_comes_back(long, trained, purchases, frame):
    known = lifetime._read(long, instant(LONG), before=True)
    assert lifetime._kept(known, LONG) == pytest.approx(1 - RETURNED)
    gross = replace(purchases, kept=1.0)
    np.testing.assert_allclose(
        purchases.expected(frame, 365).spend, 0.95 * gross.expected(frame, 365).spend, rtol=1e-12
    )
    plain, net = gross.values(frame, 365, 0.1), purchases.values(frame, 365, 0.1)
    for part in ("spend", "clv", "low", "high"):
        np.testing.assert_allclose(getattr(net, part), 0.95 * getattr(plain, part), rtol=1e-9)


def test_business_and_private_accounts_have_a_spend_of_their_own(purchases, frame):
    assert set(purchases.spends) == {None, "business", "private"}
    business = purchases.spend_per_date(frame.assign(account_type="business"))
    private = purchases.spend_per_date(frame.assign(account_type="private"))
    unknown = purchases.spend_per_date(frame.assign(account_type=None))
    assert not np.allclose(business, private)
    assert not np.allclose(unknown, private)


def test_one_extreme_spender_hardly_moves_what_others_are_expected_to_spend(purchases, frame):
    wild = frame.copy()
    largest = int(np.argmax(wild["order_days"]))
    wild.loc[wild.index[largest], "spend_total"] *= 1_000
    again = lifetime_methods.fit_purchases("BG/NBD", wild, 0.95)
    others = np.arange(len(frame)) != largest
    moved = again.spend_per_date(wild)[others] / purchases.spend_per_date(frame)[others]
    assert np.abs(np.log(moved)).max() < 0.05
    # They are still expected to spend a lot.
    assert again.spend_per_date(wild)[largest] > 100 * purchases.spend_per_date(frame)[largest]


def test_reasons_are_the_factors_that_make_the_value(purchases, frame):
    alive, returning, spend = lifetime_methods._factors(purchases.purchases, purchases.spends, frame)
    np.testing.assert_allclose(
        alive * returning * spend * purchases.kept,
        purchases.expected(frame, 365).spend,
        rtol=0.01,  # a year of 365 days in weeks
    )
    first, second, third = purchases.reasons(frame)
    moved = {
        "alive": np.log(alive / purchases.typical[0]),
        "often": np.log(returning / purchases.typical[1]),
        "baskets": np.log(spend / purchases.typical[2]),
    }
    words = {"alive": ("likely gone", "still active"), "often": ("orders rarely", "orders often")}
    words["baskets"] = ("small baskets", "large baskets")
    for row in range(0, len(frame), 37):
        ranked = sorted(moved, key=lambda factor: -abs(moved[factor][row]))
        expected = [
            words[factor][int(moved[factor][row] > 0)] if abs(moved[factor][row]) > np.log(1.1) else None
            for factor in ranked
        ]
        assert [first[row], second[row], third[row]] == expected
    assert {"orders often", "orders rarely", "likely gone"} <= set(first)


def test_many_customers_have_the_intervals_of_those_next_to_them(purchases, frame, monkeypatch):
    many = pd.concat([frame] * 5, ignore_index=True)
    every = purchases.values(many, 365, 0.1)
    monkeypatch.setattr(lifetime_methods, "REPRESENTATIVES", 700)
    some = purchases.values(many, 365, 0.1)
    np.testing.assert_array_equal(some.clv, every.clv)
    back = every.orders > 1
    apart = np.log(some.high[back] / every.high[back])
    assert np.median(apart) == pytest.approx(0, abs=0.05)
    assert np.quantile(np.abs(apart), 0.9) < 0.35
    assert (some.low <= some.high).all()


def test_a_regression_goes_on_beyond_its_horizon_as_the_purchase_model_does(long, frame, purchases):
    known = lifetime._read(long, instant(LONG), before=True)
    learned = known[known["next_net_90"].notna() & (known["history_days"] >= 180)]
    orders, net = (learned[f"next_{what}_90"].to_numpy(dtype=float) for what in ("orders", "net"))
    fitted = lifetime_methods.fit_regression(learned, orders, net, 90, purchases)
    near, far = fitted.expected(frame, 90), fitted.expected(frame, 180)
    longer = purchases.expected(frame, 180).orders / purchases.expected(frame, 90).orders
    np.testing.assert_allclose(far.spend / near.spend, longer, rtol=1e-9)
    assert fitted.expected(learned, 90).orders.sum() == pytest.approx(orders.sum(), rel=0.01)
    with pytest.raises(ValueError, match="learned for 90 days, not for 180"):
        replace(fitted, extension=None).expected(frame, 180)
    with pytest.raises(FitRefusedError, match="are too few"):
        lifetime_methods.fit_regression(learned.head(100), orders[:100], net[:100], 90)
    with pytest.raises(FitRefusedError, match="nobody spent anything"):
        lifetime_methods.fit_regression(learned, orders, np.zeros(len(net)), 90)


def test_bands_hold_what_they_promise_where_they_were_measured():
    generator = np.random.default_rng(5)
    predicted = generator.gamma(1.0, 50.0, 5_000)
    predicted[:1_000] = 0.0
    spent = predicted * generator.gamma(0.5, 2.0, 5_000) + generator.exponential(5, 5_000)

    class Given:
        name = "given"

        def expected(self, frame, horizon_days):
            return lifetime_methods.Expected(predicted, predicted * horizon_days / 90)

    bands = lifetime_methods.Bands.of(predicted, spent, 90)
    low, high = bands.bounds(Given(), pd.DataFrame(), 90)
    assert lifetime_evaluation.covered(spent, low, high) == pytest.approx(0.9, abs=0.02)
    twice_low, twice_high = bands.bounds(Given(), pd.DataFrame(), 180)
    np.testing.assert_allclose(twice_low, 2 * low)
    np.testing.assert_allclose(twice_high, 2 * high)


# --- Figures


def test_the_figures_of_a_judgement():
    spend = np.array([0.0] * 50 + list(range(1, 151)), dtype=float)
    perfect = lifetime_evaluation.judge("m", 90, spend, spend, spend, spend)
    assert (perfect.r2, perfect.r2_raw, perfect.bias, perfect.calibration) == (1, 1, 0, 0)
    assert perfect.correlation == pytest.approx(1)
    mean = np.full(200, spend.mean())
    level = lifetime_evaluation.judge("m", 90, spend, spend, mean, mean)
    assert level.r2_raw == pytest.approx(0)
    assert level.correlation == 0
    twice = lifetime_evaluation.judge("m", 90, spend, spend, spend, 2 * spend)
    assert twice.bias == pytest.approx(1)
    assert twice.calibration == pytest.approx(1)
    assert [tenth.customers for tenth in twice.tenths] == [20] * 10


def test_a_few_buyers_do_not_decide_the_winsorised_figure():
    generator = np.random.default_rng(6)
    spend = generator.gamma(1.0, 10.0, 1_000)
    predicted = spend + generator.normal(0, 5, 1_000)
    before = lifetime_evaluation.judge("m", 90, spend, spend, predicted, predicted)
    spend[3], predicted[3] = 1e6, 0.0
    after = lifetime_evaluation.judge("m", 90, spend, spend, predicted, predicted)
    assert after.r2 == pytest.approx(before.r2, abs=0.05)
    assert after.r2_raw < 0.01 < before.r2_raw


def test_customers_who_all_spent_alike_are_refused():
    with pytest.raises(Refused, match="spent alike"):
        lifetime_evaluation.judge("m", 90, np.ones(5), np.ones(5), np.ones(5), np.ones(5))


def test_of_nearly_equal_methods_the_better_calibrated_one_is_chosen(trained):
    spend = np.arange(200.0)
    plain = lifetime_evaluation.judge("plain", 90, spend, spend, spend, spend)
    best = replace(plain, method="best", r2=0.500, bias=0.30, calibration=0.30)
    near = replace(plain, method="near", r2=0.495, bias=-0.05, calibration=0.06)
    worse = replace(plain, method="worse", r2=0.480, bias=0.0, calibration=0.0)
    assert lifetime_evaluation.best([best, near, worse]).method == "near"


def test_a_contest_is_won_beyond_chance_only():
    generator = np.random.default_rng(8)
    spend = generator.gamma(0.5, 100.0, 2_000)
    good, poor = spend + generator.normal(0, 20, 2_000), spend + generator.normal(0, 60, 2_000)
    assert lifetime_evaluation.contest(spend, good, poor, 90).beats
    assert not lifetime_evaluation.contest(spend, poor, good, 90).beats
    same = lifetime_evaluation.contest(spend, good, good, 90)
    assert (same.gain, same.low, same.high) == (0, 0, 0)


# --- Afterwards


def test_before_anything_was_scored_there_is_nothing_to_follow_up(long):
    assert LIFETIME_VALUE.follow_up(long, instant(LONG)).findings == ()


@pytest.mark.parametrize(
    ("factor", "passes"), [pytest.param(1.0, True, id="right"), pytest.param(1.6, False, id="too-much")]
)
def test_earlier_scores_are_judged_by_what_came(changeable, factor, passes):
    changeable.execute(
        """
        create table staging.stg_ml__lifetime_values as
        select 'clv_365' as model, 'v' as model_version, customer_id, as_of, horizon_days,
            net_revenue * $1::double as expected_spend, net_revenue * $1::double * 0.95 as clv,
            net_revenue * 0.94 as clv_low,
            case when $1::double > 1 and customer_id > '8' then net_revenue * 0.941 - 1 else net_revenue * 1.1 end as clv_high
        from features.outcomes where horizon_days = 180
        """,
        [factor],
    )
    found = LIFETIME_VALUE.follow_up(changeable, instant(LONG))
    by_check = {finding.check: finding for finding in found.findings}
    assert by_check["bias"].passed is passes
    assert by_check["coverage"].passed is passes
    table = found.tables["Earlier scores and what came"]
    instants = changeable.execute(
        "select count(distinct as_of) from features.outcomes where horizon_days = 180"
    ).fetchall()
    assert len(table.rows) == instants[0][0]
    assert table.rows[-1][5] == pytest.approx(factor - 1)


def test_scores_of_who_may_no_longer_be_profiled_are_not_followed(changeable):
    changeable.execute(
        """
        create table staging.stg_ml__lifetime_values as
        select 'clv_365' as model, customer_id, as_of, horizon_days, net_revenue as expected_spend, net_revenue as clv,
            net_revenue as clv_low, net_revenue as clv_high
        from features.outcomes where horizon_days = 90
        """
    )
    before = LIFETIME_VALUE.follow_up(changeable, instant(LONG)).tables["Earlier scores and what came"].rows[-1][2]
    changeable.execute("update marts.customer_permissions set may_be_profiled = false where customer_id > '4'")
    after = LIFETIME_VALUE.follow_up(changeable, instant(LONG)).tables["Earlier scores and what came"].rows[-1][2]
    assert 0 < after < before


def test_every_check_that_is_found_is_stated(long, scored):
    assert {finding.check for finding in scored.findings} <= set(LIFETIME_VALUE.checks)


def test_pictures_are_pictures(trained):
    assert set(trained.evaluation.pictures) == {"Deciles", "Weekly orders", "Alive"}
    assert all(picture.startswith(PNG) for picture in trained.evaluation.pictures.values())
