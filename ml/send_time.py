"""The hour of the local week at which each customer is best written to: clicks per delivery, shrunk to everyone's.

Two things are learned, each only as far as the data carry it.

How well an hour does with everyone. An hour's rate is shrunk to that of its daypart, and a daypart's to that of all mail,
by how much rates of mailings differ within hours against between them: one lucky campaign makes no best hour.

How far a customer differs. Of a customer's clicks those in daypart d follow, if they are like everyone, the share q_d of
the clicks to be expected from the hours at which they were written to. Customers' own shares are drawn around q by a
Dirichlet distribution, whose concentration is what makes the clicks that were seen likeliest (empirical Bayes; Minka
2000, "Estimating a Dirichlet distribution"). A customer's lift in d is their posterior share over q_d. If customers do
not differ, the concentration is infinite, all lifts are one, and everyone gets the global best hour. How much somebody
clicks drops out: only when counts.

How it is judged: `contest`. Its weakness: where each campaign goes out at one hour, what an hour does and what was in its
campaigns can't be told apart. Clicks are therefore counted against those of the same campaign's other recipients, and the
hour's own effect on everyone is taken from the shrunk curve learned before, on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ml.drift import reference_of
from ml.model import Contest, Evaluation, Finding, FollowUp, Refused, Scored, Table, Trained
from ml.registry import SEED, label_of
from ml.scores import scores_of

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    Floats = npt.NDArray[np.float64]
    Hours = npt.NDArray[np.int64]

HOURS = 168
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_PARTS = ((5, "mornings"), (10, "middays"), (14, "afternoons"), (18, "evenings"), (23, "nights"))  # from this hour on
DAYPARTS = tuple(f"{week} {part}" for week in ("weekday", "weekend") for _, part in _PARTS)

CLICK_DAYS = 3
"""A click counts until so long after delivery; younger deliveries are not judged yet."""

WINDOW_DAYS = 730
JUDGED_DAYS = 180
HOURS_MIN = 5
SHARE_MIN = 0.01
"""Refused below `HOURS_MIN` hours of the week that each saw `SHARE_MIN` of all deliveries; no other hour is recommended."""

CLICKS_MIN = 300
CUSTOMERS_MAX = 20_000  # whose later deliveries are resampled
_RESAMPLES = 400
_NEAR = 1  # hours to either side that count as the recommended one, when judging
_FORGETTING = 10.0  # strength of shrinkage where no hour saw two mailings, in mailings
_CONCENTRATIONS = tuple(2.0**power for power in range(-2, 9))

_COLUMNS = {
    "customer_id": "VARCHAR",
    "message_id": "VARCHAR",
    "campaign_id": "VARCHAR",
    "campaign_kind": "VARCHAR",
    "event_type": "VARCHAR",
    "is_machine": "BOOLEAN",
    "occurred_at": "TIMESTAMP",
    "known_at": "TIMESTAMP",
    "machine_known_at": "TIMESTAMP",
}


@dataclass(frozen=True)
class SendTimes:
    """What recommends hours.

    Attributes:
        curve: clicks per delivery by hour of the week, shrunk; of all customers.
        tried: hours that may be recommended: those at which enough mail was sent.
        concentration: how alike customers' dayparts are; infinite where nobody differs, and everyone gets the best hour.
    """

    curve: tuple[float, ...]
    tried: tuple[int, ...]
    concentration: float

    @property
    def best(self) -> int:
        """The hour that does best with everyone."""
        return max(self.tried, key=lambda hour: (self.curve[hour], -hour))

    def hours(self, expected: Floats, clicks: Floats) -> Hours:
        """The best hour of each customer.

        Args:
            expected: clicks by customer and daypart, if they were like everyone, of the mail that they got.
            clicks: those they made.
        """
        import numpy as np

        total = expected.sum(axis=1, keepdims=True)
        shares = np.divide(expected, total, out=np.zeros_like(expected), where=total > 0)
        made = clicks.sum(axis=1, keepdims=True)
        lifts = np.ones_like(expected)
        if math.isfinite(self.concentration):
            own = (clicks + self.concentration * shares) / (made + self.concentration)
            # Of a daypart in which they got no mail nothing is known.
            np.divide(own, shares, out=lifts, where=shares > 0)
        tried = np.array(sorted(self.tried, key=lambda hour: (-self.curve[hour], hour)))
        values = np.array(self.curve)[tried] * lifts[:, dayparts()[tried]]
        return np.asarray(tried[values.argmax(axis=1)], dtype=np.int64)


@dataclass(frozen=True)
class Reactions:
    """What customers with a click did with the mail they got, by daypart.

    Attributes:
        customers: ids, ascending.
        expected: of shape (customers, dayparts): clicks if they were like everyone.
        clicks: those they made.
    """

    customers: tuple[str, ...]
    expected: Floats
    clicks: Floats


@dataclass(frozen=True)
class SendTimeModel:
    """Best time to send, by the shared contract."""

    name: str = "send_time"
    question: str = "At which hour of the local week does this customer click most per mail delivered?"
    baseline: str = "the hour at which everyone together clicks most per mail delivered"
    features: tuple[str, ...] = ("has_email",)
    reads: tuple[str, ...] = (
        "marts.fct_email_events",
        "marts.customer_permissions",
        "features.feat_customers",
        "staging.stg_lake__clock",
    )

    @property
    def checks(self) -> Mapping[str, str]:
        """What it watches beyond drift and the age of its scores."""
        return {
            "varied": f"Promotional mail still goes out at {HOURS_MIN} hours of the week or more, so that it can learn."
        }

    def train(self, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> Trained:
        """Learn hours from all mail; judge the same recipe, run before the last 180 days, by the clicks since."""
        import pandas as pd

        from ml.plots import send_time as plots

        _check(connection)
        split = as_of - timedelta(days=JUDGED_DAYS)
        began = as_of - timedelta(days=WINDOW_DAYS)
        now, now_reactions = learn(connection, began, as_of)
        recipe, reactions = learn(connection, began, split)
        later = deliveries(connection, split, as_of, reactions.customers)
        _, later_waves = waves(connection, split, as_of)
        ours = recipe.hours(reactions.expected, reactions.clicks)
        simple = replace(recipe, concentration=math.inf)
        everyone = simple.hours(reactions.expected, reactions.clicks)
        judged = _Judged(recipe.curve, later, later_waves, len(reactions.customers))
        earned, told = contest(judged, ours, everyone)

        estimator = now if earned.beats else replace(now, concentration=math.inf)
        held = pd.DataFrame({"customer_id": now_reactions.customers})
        for number, part in enumerate(DAYPARTS):
            held[f"expected in {part}"] = now_reactions.expected[:, number].round(9)
            held[f"clicks in {part}"] = now_reactions.clicks[:, number]
        frame, _ = _scored(estimator, connection, as_of, now_reactions)
        return Trained(
            label=label_of(as_of, [self.name, "by customer" if earned.beats else "one hour", str(estimator)], held),
            features=("deliveries", "clicks"),
            estimator=estimator,
            evaluation=Evaluation(
                judged_on=f"mail of {split:%Y-%m-%d} to {as_of:%Y-%m-%d}",
                rows=told,
                baseline=earned,
                figures={
                    "clicks_per_delivery": earned.model,
                    "clicks_per_delivery_baseline": earned.other,
                    "customers_told_otherwise": float((ours != everyone).sum()),
                    "concentration": recipe.concentration if math.isfinite(recipe.concentration) else 1e9,
                },
                tables=_tables(recipe, estimator, ours, everyone, told),
                pictures={"curve": plots.curve(now)},
            ),
            against=lambda champion: _against(champion, judged, reactions, ours),
            reference=reference_of(frame, ("deliveries", "clicks", "score")),
        )

    def score(self, estimator: Any, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> Scored:
        """The best hour of everyone with an address who may be profiled; who never clicked gets everyone's."""
        import numpy as np

        from ml.plots import send_time as plots

        if not isinstance(estimator, SendTimes):
            raise Refused(f"the champion does not recommend hours but is {type(estimator).__name__}: train it again")
        _check(connection)
        frame, customers = _scored(estimator, connection, as_of)
        hours = frame["score"].to_numpy(dtype=int)
        names = np.array([said(hour) for hour in range(HOURS)], dtype=object)
        found = np.bincount(hours, minlength=HOURS)
        most = sorted(np.flatnonzero(found).tolist(), key=lambda hour: (-found[hour], hour))
        total = max(1, len(hours))
        table = Table(
            ("hour", "customers", "share", "clicks per 100 deliveries, everyone"),
            tuple(
                (said(hour), int(found[hour]), f"{found[hour] / total:.1%}", round(100 * estimator.curve[hour], 2))
                for hour in most[:20]
            ),
        )
        return Scored(
            tables={"scores": scores_of(customers, hours.astype(float), labels=names[hours].tolist())},
            frame=frame,
            findings=(_varied(connection, as_of),),
            report={"Recommended hours": table},
            pictures={"recommended": plots.recommended(found)},
        )

    def follow_up(self, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> FollowUp:
        """Clicks per delivery since, of mail that went out near the hour recommended 90 days ago, and of the rest."""
        rows = connection.execute(
            "select max(as_of) from staging.stg_ml__scores where model = ? and as_of <= ?",
            [self.name, as_of - timedelta(days=90)],
        ).fetchall()
        then = rows[0][0]
        if then is None:
            return FollowUp()
        scores = connection.execute(
            "select customer_id, cast(score as integer) as hour from staging.stg_ml__scores where model = ? and as_of = ?"
            " order by customer_id",
            [self.name, then],
        ).df()
        later = deliveries(connection, then, as_of, scores["customer_id"].tolist())
        if not len(later):
            return FollowUp()
        is_near = near(
            later["hour"].to_numpy(dtype=int), scores["hour"].to_numpy(dtype=int)[later["customer"].to_numpy()]
        )
        table = Table(
            ("mail", "deliveries", "clicks", "clicks per 100 deliveries"),
            tuple(
                (name, sent, clicked, round(100 * clicked / sent, 2) if sent else None)
                for name, mask in (("near the recommended hour", is_near), ("at other hours", ~is_near))
                for sent, clicked in ((int(mask.sum()), int(later["is_clicked"].to_numpy(dtype=bool)[mask].sum())),)
            ),
        )
        return FollowUp(tables={f"Mail since the hours of {then:%Y-%m-%d} were recommended": table})


def said(hour: int) -> str:
    """An hour of the week in words, such as Tue 18:00."""
    return f"{DAYS[hour // 24]} {hour % 24:02d}:00"


def dayparts() -> Hours:
    """Number of the daypart of each hour of the week."""
    import numpy as np

    starts = [start for start, _ in _PARTS]
    of_day = [
        max((n for n, start in enumerate(starts) if start <= hour), default=len(_PARTS) - 1) for hour in range(24)
    ]
    return np.array([of_day[hour % 24] + len(_PARTS) * (hour // 24 >= 5) for hour in range(HOURS)])


def near(hours: Hours, wanted: Hours) -> npt.NDArray[np.bool_]:
    """Whether hours lie within one of those wanted, on a weekday or a weekend as they do."""
    import numpy as np

    apart = np.abs(hours % 24 - wanted % 24)
    return np.asarray((np.minimum(apart, 24 - apart) <= _NEAR) & ((hours // 24 >= 5) == (wanted // 24 >= 5)))


def learn(connection: duckdb.DuckDBPyConnection, began: datetime, ended: datetime) -> tuple[SendTimes, Reactions]:
    """Learn from the mail delivered in a period, by what was known at its end.

    Raises:
        Refused: send hours hardly varied, or clicks are too few.
    """
    sent, mailings = waves(connection, began, ended)
    varied(sent, began, ended)
    clicks = int(mailings["clicks"].sum())
    if clicks < CLICKS_MIN:
        raise Refused(
            f"{clicks} mails were clicked between {began:%Y-%m-%d} and {ended:%Y-%m-%d} by a person who may be profiled;"
            f" {CLICKS_MIN} are needed"
        )
    curve = curve_of(mailings)
    tried = tuple(hour for hour in range(HOURS) if sent[hour] >= SHARE_MIN * sum(sent))
    found = reactions_of(connection, began, ended, curve)
    return SendTimes(curve, tried, concentration_of(found)), found


def waves(connection: duckdb.DuckDBPyConnection, began: datetime, ended: datetime) -> tuple[list[int], pd.DataFrame]:
    """Deliveries by hour of the week, and mailings: a campaign in one hour of one week, with deliveries and clicks."""
    found = connection.execute(
        f"{_messages(connection, began, ended)} select hour, campaign_id, week, count(*) as deliveries,"
        " count(*) filter (is_clicked) as clicks from messages group by all order by all"
    ).df()
    by_hour = found.groupby("hour")["deliveries"].sum()
    return [int(by_hour.get(hour, 0)) for hour in range(HOURS)], found


def varied(sent: Sequence[int], began: datetime, ended: datetime) -> None:
    """Refuse hours that hardly varied: what is not tried can't be learned."""
    total = sum(sent)
    if not total:
        raise Refused(f"no promotional mail was delivered between {began:%Y-%m-%d} and {ended:%Y-%m-%d}")
    used = sum(count >= SHARE_MIN * total for count in sent)
    if used < HOURS_MIN:
        raise Refused(
            f"send hours hardly varied between {began:%Y-%m-%d} and {ended:%Y-%m-%d}: {used} hours of the week saw"
            f" {SHARE_MIN:.0%} of deliveries or more, {HOURS_MIN} are needed"
        )


def curve_of(mailings: pd.DataFrame) -> tuple[float, ...]:
    """Clicks per delivery by hour of the week, shrunk from hour to daypart to all.

    Mailings, not deliveries, are the evidence: recipients of one campaign share its content. An hour's n mailings, of
    which large ones count more, weigh n / (n + s) against its daypart; s is the variance of rates within hours over that
    between them (one-way random effects).

    Args:
        mailings: rows with hour, deliveries, clicks.
    """
    import numpy as np

    hour = mailings["hour"].to_numpy(dtype=int)
    sent, clicks = (mailings[name].to_numpy(dtype=float) for name in ("deliveries", "clicks"))
    overall = clicks.sum() / sent.sum()

    def summed(groups: Hours, size: int) -> tuple[Floats, Floats]:
        """Rate, and effective number of mailings, by group."""
        total = np.bincount(groups, weights=sent, minlength=size)
        rate = np.divide(
            np.bincount(groups, weights=clicks, minlength=size), total, out=np.full(size, overall), where=total > 0
        )
        squares = np.bincount(groups, weights=sent**2, minlength=size)
        return rate, np.divide(total**2, squares, out=np.zeros(size), where=squares > 0)

    rates, counts = summed(hour, HOURS)
    parts = dayparts()
    part_rates, part_counts = summed(parts[hour], len(DAYPARTS))
    strength = _strength(hour, sent, clicks, rates, counts, overall)
    part_strength = _strength(parts[hour], sent, clicks, part_rates, part_counts, overall)
    by_part = (part_counts * part_rates + part_strength * overall) / (part_counts + part_strength)
    shrunk = (counts * rates + strength * by_part[parts]) / (counts + strength)
    return tuple(round(float(value), 9) for value in shrunk)


def reactions_of(
    connection: duckdb.DuckDBPyConnection, began: datetime, ended: datetime, curve: Sequence[float]
) -> Reactions:
    """Mail and clicks by daypart, of customers who clicked at least once in the period."""
    import numpy as np

    parts = dayparts()
    rates = ", ".join(f"({hour}, {parts[hour]}, {curve[hour]!r}::double)" for hour in range(HOURS))
    found = connection.execute(
        f"{_messages(connection, began, ended)},"
        f" rates (hour, part, rate) as (values {rates}),"
        " by_hour as (select customer_id, hour, count(*) as deliveries, count(*) filter (is_clicked) as clicks"
        " from messages group by all)"
        # Not a sum of doubles: their order would change the last digit.
        " select customer_id, part, sum(cast(deliveries * rate as decimal(18, 9))) as expected, sum(clicks) as clicks"
        " from by_hour inner join rates using (hour)"
        " where customer_id in (select customer_id from messages where is_clicked) group by all order by all"
    ).df()
    customers, rows = np.unique(found["customer_id"].to_numpy(dtype=str), return_inverse=True)
    expected, clicks = np.zeros((len(customers), len(DAYPARTS))), np.zeros((len(customers), len(DAYPARTS)))
    part = found["part"].to_numpy(dtype=int)
    expected[rows, part] = found["expected"].to_numpy(dtype=float)
    clicks[rows, part] = found["clicks"].to_numpy(dtype=float)
    return Reactions(tuple(customers.tolist()), expected, clicks)


def concentration_of(found: Reactions) -> float:
    """The concentration that makes customers' clicks by daypart likeliest; infinite if none beats everyone being alike.

    One click says nothing: wherever it fell, it is as likely under every concentration. A finite one has to raise the log
    likelihood by 2 (the 95 % bound of one more parameter).
    """
    import numpy as np
    from scipy.special import gammaln

    rows = found.clicks.sum(axis=1) >= 2
    expected, clicks = found.expected[rows], found.clicks[rows]
    if not len(clicks):
        return math.inf
    shares = expected / expected.sum(axis=1, keepdims=True)
    seen = clicks > 0
    made = clicks.sum(axis=1)
    alike = float((clicks[seen] * np.log(shares[seen])).sum())
    likelihoods = {}
    for concentration in _CONCENTRATIONS:
        own = concentration * shares
        likelihoods[concentration] = float(
            (gammaln(concentration) - gammaln(concentration + made)).sum()
            + (gammaln(own[seen] + clicks[seen]) - gammaln(own[seen])).sum()
        )
    best = max(likelihoods, key=lambda concentration: likelihoods[concentration])
    return best if likelihoods[best] > alike + 2 else math.inf


def deliveries(
    connection: duckdb.DuckDBPyConnection, began: datetime, ended: datetime, customers: Sequence[str]
) -> pd.DataFrame:
    """Deliveries of a period to some customers: customer (position in `customers`), hour, campaign_id, week, is_clicked."""
    import pandas as pd

    found = connection.execute(
        f"{_messages(connection, began, ended)} select customer_id, message_id, hour, campaign_id, week, is_clicked"
        " from messages order by customer_id, message_id"
    ).df()
    positions = pd.Series(range(len(customers)), index=list(customers), dtype=int)
    found["customer"] = found["customer_id"].map(positions)
    return found.dropna(subset="customer").astype({"customer": int})


@dataclass(frozen=True)
class _Judged:
    """What hours are judged by: the curve learned before, and mail delivered later with its mailings."""

    curve: tuple[float, ...]
    later: pd.DataFrame
    mailings: pd.DataFrame
    customers: int


def contest(judged: _Judged, ours: Hours, theirs: Hours) -> tuple[Contest, int]:
    """Clicks per delivery near the hours recommended one way and another, replayed on later mail.

    Only customers whose two hours differ can tell, and only those who happened to get later mail near both; both sides
    are the same customers, each with the same weight however much mail they got (inverse propensity within a customer).
    A click counts as much as clicks were rare among all recipients of the same mailing, times the curve at the
    recommended hour: what was in the mail drops out. Resamples draw customers and, crossed with them, mailings (Owen
    2007, "The pigeonhole bootstrap"): recipients of one mailing are not independent.

    Returns:
        The contest, and how many customers could tell.
    """
    import numpy as np

    curve = np.array(judged.curve)
    average = float(curve[theirs].mean()) if len(theirs) else 0.0
    even = Contest("clicks per delivery", average, average, 0.0, 0.0)
    later = judged.later
    if not len(later):
        return even, 0
    keys = ["hour", "campaign_id", "week"]
    rates = judged.mailings.assign(mailing=range(len(judged.mailings)))
    later = later.merge(rates, how="left", on=keys)
    customer = later["customer"].to_numpy(dtype=int)
    hour = later["hour"].to_numpy(dtype=int)
    mailing = later["mailing"].to_numpy(dtype=int)
    rate = (later["clicks"] / later["deliveries"]).to_numpy(dtype=float)
    clicked = later["is_clicked"].to_numpy(dtype=bool)
    weighed = np.divide(clicked, rate, out=np.zeros(len(later)), where=rate > 0)
    differs = (ours != theirs)[customer]
    at = (differs & near(hour, ours[customer]), differs & near(hour, theirs[customer]))
    counted = [np.bincount(customer[rows], minlength=judged.customers) for rows in at]
    both = np.flatnonzero((counted[0] > 0) & (counted[1] > 0))
    told = len(both)
    if not told:
        return even, 0
    generator = np.random.default_rng(SEED)
    if told > CUSTOMERS_MAX:
        both = np.sort(generator.choice(both, CUSTOMERS_MAX, replace=False))
    position = np.full(judged.customers, -1)
    position[both] = np.arange(len(both))
    sides = []
    for rows, hours in zip(at, (ours, theirs), strict=True):
        mine = rows & (position[customer] >= 0)
        sides.append((position[customer[mine]], mailing[mine], weighed[mine], curve[hours[both]]))

    def means(people: Floats, mailings: Floats) -> tuple[float, float]:
        sums, weights = [], []
        for who, what, value, worth in sides:
            weight = np.bincount(who, weights=mailings[what], minlength=len(both))
            sums.append(worth * np.bincount(who, weights=mailings[what] * value, minlength=len(both)))
            weights.append(weight)
        held = (weights[0] > 0) & (weights[1] > 0) & (people > 0)
        if not held.any():
            return math.nan, math.nan
        ratios = [
            float(np.average(total[held] / weight[held], weights=people[held]))
            for total, weight in zip(sums, weights, strict=True)
        ]
        return ratios[0], ratios[1]

    model, other = means(np.ones(len(both)), np.ones(len(rates)))
    gains = []
    for _ in range(_RESAMPLES):
        people = np.bincount(generator.integers(0, len(both), len(both)), minlength=len(both)).astype(float)
        drawn = np.bincount(generator.integers(0, len(rates), len(rates)), minlength=len(rates)).astype(float)
        gains.append(np.subtract(*means(people, drawn)))
    low, high = np.nanquantile(gains, [0.025, 0.975]) if np.isfinite(gains).any() else (-math.inf, math.inf)
    return Contest("clicks per delivery", model, other, float(low), float(high)), told


def _messages(connection: duckdb.DuckDBPyConnection, began: datetime, ended: datetime) -> str:
    """SQL: promotional messages delivered in a period to who may be profiled, with their local hour and whether clicked.

    By what was known at the period's end: a click that turned out to be a machine's later still counts as a person's.
    """
    rows = connection.execute("select timezone from staging.stg_lake__clock").fetchall()
    if not rows or rows[0][0] is None:
        raise Refused("staging.stg_lake__clock says no timezone: local hours are not known")
    zone = str(rows[0][0]).replace("'", "''")
    known = f"known_at < timestamp '{ended}'"
    return f"""
        with delivered as (
            select customer_id, message_id, min(occurred_at) as delivered_at, min(coalesce(campaign_id, '')) as campaign_id
            from marts.fct_email_events
            inner join (select customer_id from marts.customer_permissions where may_be_profiled) using (customer_id)
            where event_type = 'delivered' and campaign_kind = 'promotional' and isfinite(occurred_at) and {known}
            group by customer_id, message_id
        ),
        clicked as (
            select distinct clicks.customer_id, clicks.message_id
            from marts.fct_email_events as clicks
            inner join delivered
                on delivered.customer_id = clicks.customer_id and delivered.message_id = clicks.message_id
            where clicks.event_type = 'clicked' and {known.replace("known_at", "clicks.known_at")}
                and not (coalesce(clicks.is_machine, false) and clicks.machine_known_at < timestamp '{ended}')
                and clicks.occurred_at between delivered.delivered_at and delivered.delivered_at + interval {CLICK_DAYS} day
        ),
        messages as (
            select
                delivered.customer_id, delivered.message_id, delivered.campaign_id,
                clicked.message_id is not null as is_clicked,
                cast((isodow(local_at) - 1) * 24 + hour(local_at) as integer) as hour,
                cast(date_trunc('week', local_at) as date) as week
            from (
                select *, timezone('{zone}', timezone('UTC', delivered_at)) as local_at from delivered
                where delivered_at >= timestamp '{began}'
                    and delivered_at < timestamp '{ended}' - interval {CLICK_DAYS} day
            ) as delivered
            left join clicked using (customer_id, message_id)
        )
    """


def _check(connection: duckdb.DuckDBPyConnection) -> None:
    kinds = dict(
        connection.execute(
            "select column_name, data_type from information_schema.columns"
            " where table_schema = 'marts' and table_name = 'fct_email_events'"
        ).fetchall()
    )
    if missing := [name for name in _COLUMNS if name not in kinds]:
        raise Refused(
            f"marts.fct_email_events has no {', '.join(missing)}, which the best time to send is learned from"
        )
    if odd := [f"{name} is {kinds[name]}" for name, kind in _COLUMNS.items() if not kinds[name].startswith(kind)]:
        raise Refused(f"marts.fct_email_events is not what it was: {', '.join(odd)}")


def _strength(groups: Hours, sent: Floats, clicks: Floats, rates: Floats, counts: Floats, overall: float) -> float:
    """Variance of mailings' rates within groups over that between groups, by moments."""
    import numpy as np

    within = float((sent * (clicks / sent - rates[groups]) ** 2).sum() / sent.sum())
    freedom = 1 - (counts > 0).sum() / max(counts.sum(), 1)
    if freedom <= 0.05:
        return _FORGETTING
    within /= freedom
    weights = np.bincount(groups, weights=sent, minlength=len(rates))
    noise = np.divide(within, counts, out=np.zeros(len(counts)), where=counts > 0)
    between = float(np.average((rates - overall) ** 2 - noise, weights=weights))
    return float(np.clip(within / between, 0.5, 1_000.0)) if between > 0 else 1_000.0


def _scored(
    estimator: SendTimes, connection: duckdb.DuckDBPyConnection, as_of: datetime, found: Reactions | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Deliveries, clicks and best hour of everyone with an address who may be profiled, and their ids."""
    import pandas as pd

    began = as_of - timedelta(days=WINDOW_DAYS)
    frame = connection.execute(
        f"{_messages(connection, began, as_of)},"
        " counted as (select customer_id, count(*) as deliveries, count(*) filter (is_clicked) as clicks from messages"
        " group by customer_id)"
        " select customer_id, cast(coalesce(deliveries, 0) as double) as deliveries,"
        " cast(coalesce(clicks, 0) as double) as clicks from features.feat_customers as feat"
        " inner join marts.customer_permissions as permission using (customer_id) left join counted using (customer_id)"
        " where feat.as_of = ? and feat.has_email and permission.may_be_profiled order by customer_id",
        [as_of],
    ).df()
    if found is None:
        found = reactions_of(connection, began, as_of, estimator.curve)
    hours = pd.Series(estimator.hours(found.expected, found.clicks), index=list(found.customers), dtype=float)
    frame["score"] = frame["customer_id"].map(hours).fillna(float(estimator.best)).astype(float)
    return frame[["deliveries", "clicks", "score"]], frame["customer_id"].tolist()


def _against(champion: Any, judged: _Judged, reactions: Reactions, ours: Hours) -> Contest:
    if not isinstance(champion, SendTimes):
        raise Refused(f"the champion does not recommend hours but is {type(champion).__name__}")
    return contest(judged, ours, champion.hours(reactions.expected, reactions.clicks))[0]


def _varied(connection: duckdb.DuckDBPyConnection, as_of: datetime) -> Finding:
    began = as_of - timedelta(days=JUDGED_DAYS)
    sent, _ = waves(connection, began, as_of)
    try:
        varied(sent, began, as_of)
    except Refused as reason:
        return Finding("varied", False, f"{reason}; send some mail at other hours")
    used = sum(count >= SHARE_MIN * sum(sent) for count in sent)
    return Finding(
        "varied", True, f"{used} hours of the week saw {SHARE_MIN:.0%} of deliveries or more in {JUDGED_DAYS} days"
    )


def _tables(recipe: SendTimes, estimator: SendTimes, ours: Hours, everyone: Hours, told: int) -> dict[str, Table]:
    alike = "customers do not differ" if math.isinf(recipe.concentration) else f"concentration {recipe.concentration:g}"
    hours = sorted(estimator.tried, key=lambda hour: (-estimator.curve[hour], hour))
    return {
        "How it was judged": Table(
            ("what", "value"),
            (
                ("how much customers differ in when they click", alike),
                ("customers who clicked before", len(ours)),
                ("of them told another hour than everyone's", int((ours != everyone).sum())),
                ("of them with later mail near both hours", told),
                ("everyone's best hour before", said(recipe.best)),
                ("everyone's best hour now", said(estimator.best)),
            ),
        ),
        "Clicks per 100 deliveries by hour, shrunk": Table(
            ("hour", "clicks per 100 deliveries"),
            tuple((said(hour), round(100 * estimator.curve[hour], 2)) for hour in hours[:20]),
        ),
    }
