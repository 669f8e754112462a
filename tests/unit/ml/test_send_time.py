from __future__ import annotations

import io
import math
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import duckdb
import joblib
import numpy as np
import pandas as pd
import pytest

from ml import send_time
from ml.model import Refused
from ml.models.send_time import SEND_TIME
from ml.plots import send_time as plots
from ml.registry import one_thread
from ml.send_time import DAYPARTS, Reactions, SendTimes, concentration_of, curve_of, dayparts, near, said

AS_OF = datetime(2024, 6, 3)
MORNING, EVENING = 8, 20


def mail(
    *, customers: int = 400, differ: bool = True, hours: tuple[int, ...] = (8, 9, 12, 15, 20, 21), seed: int = 1
) -> pd.DataFrame:
    """Events of one and a half years: two campaigns a week at an hour by turns, some of them liked more than others.

    Even customers click in the morning, odd ones in the evening, if they differ; in the mornings a little more.
    """
    generator = np.random.default_rng(seed)
    number = np.arange(customers)
    events = []
    for campaign in range(156):
        day = AS_OF - timedelta(days=546) + timedelta(days=int(campaign * 3.5))
        sent = day + timedelta(hours=hours[int(generator.integers(len(hours)))])
        own = 8 if differ else 1
        likes_it = np.where((sent.hour < 12) == (number % 2 == 0), own, 1) if not 12 <= sent.hour < 18 else 1
        rate = 0.03 * generator.uniform(0.6, 1.4) * (1.3 if sent.hour < 12 else 1.0) * likes_it
        clicked = generator.random(customers) < rate
        rows = pd.DataFrame({"number": number, "message_id": [f"{campaign}-{one}" for one in number]})
        rows["campaign_id"] = f"c{campaign}"
        rows["occurred_at"] = sent
        events.append(rows.assign(event_type="delivered", is_machine=False))
        events.append(
            rows[clicked].assign(event_type="clicked", is_machine=False, occurred_at=sent + timedelta(hours=2))
        )
    frame = pd.concat(events, ignore_index=True)
    frame["customer_id"] = [f"{one * 40503 % 65536:04x}{one:012x}" for one in frame["number"]]
    frame["known_at"] = frame["occurred_at"]
    frame["machine_known_at"] = pd.NaT
    frame["campaign_kind"] = "promotional"
    return frame


@pytest.fixture(scope="module")
def differing():
    return mail()


@pytest.fixture(scope="module")
def alike():
    return mail(differ=False)


@pytest.fixture
def build():
    opened = []

    def make(frame: pd.DataFrame, timezone: str | None = "UTC") -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect()
        opened.append(connection)
        connection.execute("create schema marts; create schema features; create schema staging")
        connection.execute("create table staging.stg_lake__clock (timezone varchar)")
        connection.execute("insert into staging.stg_lake__clock values (?)", [timezone])
        connection.register("given", frame)
        stamps = ", ".join(
            f"cast({name} as timestamp) as {name}"
            for name in ("occurred_at", "known_at", "machine_known_at")
            if name in frame
        )
        connection.execute(f"create table marts.fct_email_events as select * replace ({stamps}) from given")
        connection.execute(
            "create table marts.customer_permissions as select distinct customer_id, true as may_be_profiled from given"
        )
        connection.execute(
            "create table features.feat_customers as select customer_id, cast(? as timestamp) as as_of, true as has_email"
            " from marts.customer_permissions",
            [AS_OF],
        )
        return connection

    yield make
    for connection in opened:
        connection.close()


def train(connection: duckdb.DuckDBPyConnection) -> Any:
    with one_thread():
        return SEND_TIME.train(connection, AS_OF)


def scored(estimator: Any, connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    with one_thread():
        return SEND_TIME.score(estimator, connection, AS_OF).tables["scores"].to_pandas()


def is_even(scores: pd.DataFrame) -> np.ndarray:
    return scores["customer_id"].str[4:].map(lambda digits: int(digits, 16) % 2 == 0).to_numpy()


def test_where_customers_differ_each_gets_their_own_time_and_it_beats_one_hour(build, differing):
    connection = build(differing)
    trained = train(connection)
    scores = scored(trained.estimator, connection)

    assert trained.evaluation.baseline.beats
    assert trained.evaluation.rows > 100
    assert math.isfinite(trained.estimator.concentration)
    is_early = scores["score"].to_numpy() % 24 < 12
    assert (is_early == is_even(scores)).mean() > 0.9
    assert scores["label"].tolist() == [said(int(hour)) for hour in scores["score"]]
    assert scores["score"].between(0, 167).all()


def test_where_customers_are_alike_the_best_hour_of_all_scores(build, alike):
    connection = build(alike)
    trained = train(connection)

    assert not trained.evaluation.baseline.beats
    assert math.isinf(trained.estimator.concentration)
    assert set(scored(trained.estimator, connection)["score"]) == {float(trained.estimator.best)}
    assert trained.estimator.best % 24 in (8, 9)


def test_when_customers_change_their_habits_what_was_learned_does_not_beat(build, differing):
    # In the judged half year everybody clicks at the other end of the day, as do those who click then.
    swapped = differing.copy()
    later = swapped["occurred_at"] >= AS_OF - timedelta(days=send_time.JUDGED_DAYS)
    number = swapped.loc[later & (swapped["event_type"] == "clicked"), "number"]
    other = number + np.where(number % 2 == 0, 1, -1)
    swapped.loc[number.index, "number"] = other
    swapped.loc[number.index, "message_id"] = [
        f"{message.split('-')[0]}-{one}"
        for message, one in zip(swapped.loc[number.index, "message_id"], other, strict=True)
    ]
    swapped["customer_id"] = [f"{one * 40503 % 65536:04x}{one:012x}" for one in swapped["number"]]

    trained = train(build(swapped))

    assert trained.evaluation.baseline.gain < 0
    assert math.isinf(trained.estimator.concentration)


@pytest.mark.parametrize("own", [1.0, 3.0], ids=["alike", "with a time of their own"])
def test_the_content_of_campaigns_is_not_taken_for_the_hour(own):
    # Whatever went out at nine was dull, and whatever at twenty was not. Every third customer is told twenty.
    generator = np.random.default_rng(4)
    told = np.arange(600) % 3 == 0
    later = pd.concat(
        pd.DataFrame(
            {
                "customer": np.arange(600),
                "hour": hour,
                "campaign_id": f"{hour}-{number}",
                "week": number,
                "is_clicked": generator.random(600) < rate * np.where(told & (hour == 20), own, 1.0),
            }
        )
        for number in range(10)
        for hour, rate in ((9, 0.04), (20, 0.2))
    )
    mailings = later.groupby(["hour", "campaign_id", "week"], as_index=False).agg(
        deliveries=("is_clicked", "size"), clicks=("is_clicked", "sum")
    )
    judged = send_time._Judged((0.1,) * 168, later, mailings, 600)

    found, customers = send_time.contest(judged, np.where(told, 20, 9), np.full(600, 9))

    assert customers == 200
    assert found.beats == (own > 1)
    assert found.model == pytest.approx(0.1 if own == 1 else 0.18, abs=0.02)


def test_the_same_data_give_the_same_model_and_scores(build, differing):
    first, second = (train(build(differing.sample(frac=1, random_state=seed))) for seed in (1, 2))

    assert first.label == second.label
    assert first.evaluation.baseline == second.evaluation.baseline
    stored = io.BytesIO()
    joblib.dump(first.estimator, stored)
    again = joblib.load(io.BytesIO(stored.getvalue()))
    pd.testing.assert_frame_equal(scored(again, build(differing)), scored(second.estimator, build(differing)))


def test_hours_are_local(build, differing):
    here, there = (train(build(differing, zone)).estimator for zone in ("UTC", "Asia/Tokyo"))

    assert {(hour + 9) % 168 for hour in here.tried} == set(there.tried)


def test_clicks_of_machines_do_not_count_once_they_are_known(build, alike):
    deliveries = alike[alike["event_type"] == "delivered"]
    evening = deliveries[deliveries["occurred_at"].dt.hour == EVENING]
    scanner = evening.assign(event_type="clicked", is_machine=True, machine_known_at=evening["occurred_at"])

    assert train(build(pd.concat([alike, scanner]))).estimator == train(build(alike)).estimator
    # Until it is known to be one, it counts: nobody can have left it out.
    unknown = scanner.assign(machine_known_at=AS_OF + timedelta(days=1))
    assert train(build(pd.concat([alike, unknown]))).estimator.best % 24 == EVENING


def test_what_was_known_later_changes_nothing(build, differing):
    later = differing[differing["event_type"] == "delivered"].assign(event_type="clicked", known_at=AS_OF)

    assert train(build(pd.concat([differing, later]))).label == train(build(differing)).label


def test_service_mail_and_late_clicks_do_not_count(build, alike):
    deliveries = alike[alike["event_type"] == "delivered"]
    service = deliveries.assign(
        campaign_kind="service",
        message_id="s" + deliveries["message_id"],
        occurred_at=deliveries["occurred_at"].dt.floor("D"),
    )
    late = deliveries.assign(event_type="clicked", occurred_at=deliveries["occurred_at"] + timedelta(days=4))

    assert train(build(pd.concat([alike, service, late]))).estimator == train(build(alike)).estimator


def test_who_may_not_be_profiled_is_not_read_and_not_scored(build, differing):
    connection = build(differing)
    connection.execute(
        "update marts.customer_permissions set may_be_profiled = false where customer_id[-1] in ('1', '2')"
    )
    allowed = build(differing[~differing["customer_id"].str[-1].isin(["1", "2"])])

    assert train(connection).label == train(allowed).label
    assert not scored(train(allowed).estimator, connection)["customer_id"].str[-1].isin(["1", "2"]).any()


def test_new_customers_get_the_best_hour_of_all(build, differing):
    connection = build(differing)
    estimator = train(connection).estimator
    connection.execute("insert into marts.customer_permissions values ('new', true), ('without address', true)")
    connection.execute(
        "insert into features.feat_customers values ('new', $1, true), ('without address', $1, false)", [AS_OF]
    )

    scores = scored(estimator, connection).set_index("customer_id")["score"]

    assert scores["new"] == estimator.best
    assert "without address" not in scores


def test_a_champion_is_judged_on_the_same_mail(build, differing):
    trained = train(build(differing))
    one_hour = replace(trained.estimator, concentration=math.inf)

    assert trained.against(one_hour).beats
    with pytest.raises(Refused, match="does not recommend hours"):
        trained.against("a string")


BAD = {
    "20 customers": (lambda frame: frame[frame["number"] < 20], "300 are needed"),
    "no mail": (lambda frame: frame[frame["event_type"] == "clicked"], "no promotional mail"),
    "no clicks": (lambda frame: frame[frame["event_type"] == "delivered"], "0 mails were clicked"),
    "every mail clicked by a machine": (
        lambda frame: frame.assign(is_machine=True, machine_known_at=frame["known_at"]), "0 mails were clicked"
    ),
    "one hour": (lambda frame: frame.assign(occurred_at=datetime(2023, 2, 1, 9), known_at=datetime(2023, 2, 1, 9)), "hardly varied"),
    "infinite instants": (lambda frame: frame.assign(occurred_at="infinity"), "no promotional mail"),
    "null instants": (lambda frame: frame.assign(occurred_at=None), "no promotional mail"),
    "a column that is missing": (lambda frame: frame.drop(columns="is_machine"), "has no is_machine"),
    "a column of another type": (lambda frame: frame.assign(is_machine="maybe"), "is_machine is VARCHAR"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "why"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_with_a_reason(build, differing, spoil, why):
    with pytest.raises(Refused, match=why):
        train(build(spoil(differing)))


def test_without_a_timezone_it_is_refused(build, differing):
    with pytest.raises(Refused, match="no timezone"):
        train(build(differing, None))


def test_scoring_is_refused_where_a_column_is_not_what_it_was(build, differing):
    estimator = train(build(differing)).estimator

    with pytest.raises(Refused, match="has no message_id"):
        SEND_TIME.score(estimator, build(differing.drop(columns="message_id")), AS_OF)
    with pytest.raises(Refused, match="does not recommend hours"):
        SEND_TIME.score({"a": "model of before"}, build(differing), AS_OF)


def test_it_says_when_send_hours_no_longer_vary(build, differing):
    estimator = train(build(differing)).estimator
    sure = SEND_TIME.score(estimator, build(differing), AS_OF).findings
    late = differing["occurred_at"] >= AS_OF - timedelta(days=send_time.JUDGED_DAYS)
    same = differing[~late | (differing["occurred_at"].dt.hour == 9) & (differing["occurred_at"].dt.weekday < 2)]
    found = SEND_TIME.score(estimator, build(same), AS_OF).findings

    assert [(finding.check, finding.passed) for finding in sure] == [("varied", True)]
    assert [(finding.check, finding.passed) for finding in found] == [("varied", False)]
    assert set(SEND_TIME.checks) == {"varied"}


def test_earlier_hours_are_followed_up_by_the_clicks_since(build, differing):
    connection = build(differing)
    scores = scored(train(connection).estimator, connection)
    connection.register("given_scores", scores.assign(model="send_time"))
    connection.execute(
        "create table staging.stg_ml__scores as select model, customer_id, score, label, cast($1 as timestamp) as as_of"
        " from given_scores",
        [AS_OF - timedelta(days=89)],
    )
    assert SEND_TIME.follow_up(connection, AS_OF).tables == {}

    connection.execute("update staging.stg_ml__scores set as_of = as_of - interval 60 day")
    (table,) = SEND_TIME.follow_up(connection, AS_OF).tables.values()

    assert table.rows[0][3] > 2 * table.rows[1][3]


def test_an_hour_tried_once_is_held_to_its_daypart_and_a_daypart_to_all():
    generator = np.random.default_rng(2)
    hours = np.repeat([9, 12, 15], 40)
    clicks = generator.binomial(500, np.repeat([0.10, 0.05, 0.03], 40) * generator.uniform(0.7, 1.3, 120))
    lucky = pd.DataFrame({"hour": [16], "deliveries": [500], "clicks": [100]})
    rates = curve_of(pd.concat([pd.DataFrame({"hour": hours, "deliveries": 500, "clicks": clicks}), lucky]))

    assert rates[9] == pytest.approx(0.10, abs=0.01)
    assert rates[12] == pytest.approx(0.05, abs=0.01)
    # It saw 0.20 itself, and the afternoon 0.03 otherwise.
    assert 0.05 < rates[16] < 0.16
    # Never tried: as its daypart does.
    assert rates[24 + 12] < rates[24 + 9]


def test_a_concentration_is_found_again():
    generator = np.random.default_rng(3)
    expected = np.zeros((4_000, len(DAYPARTS)))
    expected[:, :4] = generator.uniform(0.5, 2, (4_000, 4))
    shares = expected[:, :4] / expected[:, :4].sum(axis=1, keepdims=True)

    def drawn(concentration: float) -> Reactions:
        clicks = np.zeros_like(expected)
        for row, share in enumerate(shares):
            own = share if math.isinf(concentration) else generator.dirichlet(concentration * share)
            clicks[row, :4] = generator.multinomial(6, own)
        return Reactions((), expected, clicks)

    assert concentration_of(drawn(4.0)) == pytest.approx(4, rel=0.51)
    assert math.isinf(concentration_of(drawn(math.inf)))
    assert math.isinf(concentration_of(Reactions((), expected[:0], expected[:0])))


def test_lifts_grow_with_clicks_and_say_nothing_of_what_was_not_tried():
    curve = [0.0] * 168
    curve[9], curve[15], curve[33] = 0.05, 0.06, 0.055  # Monday morning and afternoon, Tuesday morning
    times = SendTimes(tuple(curve), (9, 15, 33), 4.0)
    morning, afternoon = (dayparts()[hour] for hour in (9, 15))
    expected = np.zeros((4, len(DAYPARTS)))
    expected[:3, [morning, afternoon]] = 1.0
    clicks = np.zeros_like(expected)
    clicks[1, morning] = 1
    clicks[2, morning] = 6

    assert times.best == 15
    # Nobody's clicks, one morning click, six of them, and no mail at all.
    assert times.hours(expected, clicks).tolist() == [15, 33, 33, 15]
    assert replace(times, concentration=100.0).hours(expected, clicks).tolist() == [15, 15, 33, 15]
    assert replace(times, concentration=math.inf).hours(expected, clicks).tolist() == [15] * 4


def test_every_hour_has_its_daypart():
    names = [DAYPARTS[part] for part in dayparts()]

    assert (names[4], names[5], names[9], names[10], names[23]) == (
        "weekday nights", "weekday mornings", "weekday mornings", "weekday middays", "weekday nights",
    )  # fmt: skip
    assert names[5 * 24 + 19] == "weekend evenings"
    assert (said(0), said(42), said(167)) == ("Mon 00:00", "Tue 18:00", "Sun 23:00")


def test_near_is_an_hour_around_on_a_day_of_the_same_kind():
    hours = np.array([8, 9, 10, 11, 24 + 9, 120 + 9, 0, 23])

    assert near(hours, np.full(8, 9)).tolist() == [True, True, True, False, True, False, False, False]
    assert near(np.array([0, 23]), np.array([23, 24])).tolist() == [True, True]


@pytest.mark.parametrize("draw", ["curve", "recommended", "recommended to nobody"])
def test_figures_are_png_of_readable_size_and_equal_when_drawn_again(draw):
    figures = {
        "curve": lambda: plots.curve(SendTimes(tuple(0.01 + hour / 1e4 for hour in range(168)), (9, 33), 3.0)),
        "recommended": lambda: plots.recommended(np.arange(168)),
        "recommended to nobody": lambda: plots.recommended(np.zeros(168, dtype=int)),
    }
    image = figures[draw]()

    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(image[16:20], "big") >= 900
    assert figures[draw]() == image
