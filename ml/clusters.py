"""Natural groupings of customers by how recently, how often, for how much they buy, and how much they look around.

What a grouping has to prove. Silhouettes are no proof: an algorithm that maximises compactness beats any other grouping
in its own space. A marketer who uses clusters believes what their names say: that these customers order often, fill
large baskets, look around, react to mail, and will go on doing so. So the recipe is run on what was known three months
ago, and judged by the three months since: which share of the variance of orders, baskets, visits and clicks lies between
groups (eta squared, the mean over these). The baseline is what needs no algorithm: as many groups by quantiles of recency
and, within these, of monetary value. Where the clusters don't tell more, the quantiles score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ml.cluster_names import Earlier, names_of, numbered
from ml.clustering import (
    SEED,
    SETTINGS,
    STABLE,
    Candidate,
    Partition,
    Setting,
    agreement,
    choose,
    compare,
    crossed,
    drawn,
    fit,
    stability_of,
)
from ml.drift import reference_of
from ml.features import ROWS_MAX, informative, signed_log
from ml.model import Contest, Evaluation, Finding, FollowUp, Refused, Scored, Table, Trained
from ml.registry import label_of
from ml.scores import can_read_back, scores_of

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

FEATURES = ("recency_days", "frequency", "average_order_value", "sessions_90", "clicks_90")
"""Not monetary value: it is frequency times basket, and counting spend twice made the clusters less stable."""

SPEND = ("average_order_value",)
"""Measured among their like where a source tells business from private accounts, else held to the 99 % value."""

PROFILE = (*FEATURES, "monetary", "mean_gap_days", "returns_365", "product_views_90", "carts_90")
"""What clusters are described by. Views and carts go with visits, most customers have no gap, and returns are so rare that
one cluster would be those who ever sent something back: not clustered on."""

JUDGED_DAYS = 90
HISTORY_DAYS = 365
"""The longest window of fixed length among the features; recency and frequency look back as far as there is history, up
to two years."""

CUSTOMERS_MIN = 200  # below, clusters of a few dozen say nothing
TYPE_MIN = 50  # customers of an account type, to be measured among themselves
_TOP = 0.99
_RESAMPLES = 200
_JUDGED_MAX = 20_000  # customers; a resample of more says the same, slower

BEHAVIOURS: Mapping[str, str] = {
    "orders": "orders_90",
    "basket": "case when orders_90 > 0 then spend_90 / orders_90 end",
    "visits": "sessions_90",
    "clicks": "clicks_90",
}
"""What customers did in the 90 days before an as_of, as SQL on their row of feat_customers. Null: it can't be said."""

_AMONG_LIKE = "basket"


@dataclass(frozen=True)
class Scale:
    """How one kind of account is put on a common scale, feature by feature, after the signed logarithm.

    Attributes:
        tops: values above are held to it; infinite where nothing is held.
    """

    tops: npt.NDArray[np.float64]
    means: npt.NDArray[np.float64]
    deviations: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Preparation:
    """Customers' features as points in space: nulls are zero, tails are tamed, each feature has mean 0 and deviation 1.

    A business buys for more than a household does: what it spends is compared with other businesses', where account
    types are known of enough customers. Of the rest extreme spenders, who may be businesses, are held to the 99 % value.

    Attributes:
        by_type: scale of each account type that has its own.
        rest: of everyone else.
    """

    features: tuple[str, ...]
    by_type: Mapping[str, Scale]
    rest: Scale

    @classmethod
    def learned(cls, frame: pd.DataFrame, features: Sequence[str]) -> Preparation:
        """Learn scales from rows with `features` and account_type."""
        import numpy as np

        tamed = signed_log(frame[list(features)].fillna(0.0).to_numpy(dtype=float))
        sizes = frame["account_type"].value_counts()
        known = sorted(str(kind) for kind in sizes[sizes >= TYPE_MIN].index)
        others = ~frame["account_type"].isin(known).to_numpy()
        if others.sum() < TYPE_MIN:
            others = np.ones(len(frame), dtype=bool)
        is_spend = np.isin(list(features), SPEND)
        tops = np.where(is_spend, np.quantile(tamed[others], _TOP, axis=0, method="lower"), np.inf)
        overall = _scale(np.minimum(tamed, tops), tops)
        unheld = np.full(len(features), np.inf)

        def scale(rows: npt.NDArray[np.bool_], highest: npt.NDArray[np.float64]) -> Scale:
            own = _scale(np.minimum(tamed[rows], highest), highest)
            # Only spend is measured among their like: that businesses order more often is for the clusters to say.
            return Scale(
                highest,
                np.where(is_spend, own.means, overall.means),
                np.where(is_spend & (own.deviations > 0), own.deviations, overall.deviations),
            )

        by_type = {kind: scale((frame["account_type"] == kind).to_numpy(), unheld) for kind in known}
        return cls(tuple(features), by_type, scale(others, tops))

    def points(self, frame: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Points of shape (rows, features)."""
        import numpy as np

        tamed = signed_log(frame[list(self.features)].fillna(0.0).to_numpy(dtype=float))
        placed = np.empty_like(tamed)
        kinds = frame["account_type"].to_numpy(dtype=object)
        left = np.ones(len(frame), dtype=bool)
        for kind, scale in self.by_type.items():
            rows = kinds == kind
            left &= ~rows
            placed[rows] = (np.minimum(tamed[rows], scale.tops) - scale.means) / scale.deviations
        placed[left] = (np.minimum(tamed[left], self.rest.tops) - self.rest.means) / self.rest.deviations
        return placed


@dataclass(frozen=True)
class Clusters:
    """A grouping that an algorithm found."""

    preparation: Preparation
    partition: Partition
    setting: Setting

    @property
    def features(self) -> tuple[str, ...]:
        """Columns that it reads, in order."""
        return self.preparation.features

    @property
    def size(self) -> int:
        """How many groups there are."""
        return self.partition.size

    def of(self, frame: pd.DataFrame) -> npt.NDArray[np.intp]:
        """The group of each customer, from 0."""
        return self.partition.of(self.preparation.points(frame))


@dataclass(frozen=True)
class Quantiles:
    """The baseline: bands of recency, each divided by quantiles of monetary value.

    Attributes:
        recency: days at which the next band begins, ascending.
        monetary: per band, the amounts at which its next group begins, ascending.
    """

    recency: tuple[float, ...]
    monetary: tuple[tuple[float, ...], ...]
    features: tuple[str, ...] = ("recency_days", "monetary")

    @classmethod
    def learned(cls, frame: pd.DataFrame, size: int) -> Quantiles:
        """As many groups as asked for, in as many bands as there are groups in one, as nearly as can be."""
        import numpy as np

        bands = math.isqrt(size)
        recency = frame["recency_days"].to_numpy(dtype=float)
        edges = np.quantile(recency, np.arange(1, bands) / bands, method="lower")
        band = np.searchsorted(edges, recency, side="left")
        cuts = []
        for number in range(bands):
            groups = size // bands + (number < size % bands)
            amounts = frame["monetary"].fillna(0.0).to_numpy(dtype=float)[band == number]
            shares = np.arange(1, groups) / groups
            found = np.quantile(amounts, shares, method="lower") if len(amounts) else np.zeros(groups - 1)
            cuts.append(tuple(float(value) for value in found))
        return cls(tuple(float(edge) for edge in edges), tuple(cuts))

    @property
    def size(self) -> int:
        """How many groups there are."""
        return sum(len(cuts) + 1 for cuts in self.monetary)

    @property
    def names(self) -> list[str]:
        """What each group is called."""
        bands = {1: ("All",), 2: ("Recent", "Long ago"), 3: ("Recent", "A while ago", "Long ago")}[len(self.monetary)]
        return [
            f"{band}, spend level {level} of {len(cuts) + 1}"
            for band, cuts in zip(bands, self.monetary, strict=True)
            for level in range(1, len(cuts) + 2)
        ]

    def of(self, frame: pd.DataFrame) -> npt.NDArray[np.intp]:
        """The group of each customer, from 0: the most recent and lowest spenders first."""
        import numpy as np

        band = np.searchsorted(self.recency, frame["recency_days"].to_numpy(dtype=float), side="left")
        amounts = frame["monetary"].fillna(0.0).to_numpy(dtype=float)
        groups = np.zeros(len(frame), dtype=np.intp)
        first = 0
        for number, cuts in enumerate(self.monetary):
            rows = band == number
            groups[rows] = first + np.searchsorted(cuts, amounts[rows], side="left")
            first += len(cuts) + 1
        return groups


@dataclass(frozen=True)
class Cluster:
    """One cluster as it is published.

    Attributes:
        customers: how many of those it was learned from it holds.
        medians: of its customers by feature.
        jaccard: how alike it comes out on resampled customers, 0 to 1.
        business_share: of its customers whose account type is known; None where it is of none.
    """

    number: int
    name: str
    customers: int
    medians: Mapping[str, float]
    jaccard: float
    business_share: float | None = None

    @property
    def is_weak(self) -> bool:
        """Whether it is not the same again on resampled customers."""
        return self.jaccard < STABLE


@dataclass(frozen=True)
class ClusterEstimator:
    """What scores: a grouping, with the number and name of each of its groups.

    Attributes:
        clusters: by group, from 0.
    """

    grouping: Clusters | Quantiles
    clusters: tuple[Cluster, ...]

    @property
    def features(self) -> tuple[str, ...]:
        """Columns that it reads, in order."""
        return self.grouping.features

    def numbers(self, frame: pd.DataFrame) -> npt.NDArray[np.int64]:
        """The cluster's number of each customer. New customers need no refit."""
        import numpy as np

        return np.array([cluster.number for cluster in self.clusters])[self.grouping.of(frame)]


@dataclass(frozen=True)
class Choice:
    """What came of trying all candidates on one set of customers."""

    grouping: Clusters
    chosen: Candidate
    why: str
    candidates: tuple[Candidate, ...]
    points: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Movement:
    """Customers whom earlier scores knew, by cluster before and now.

    Attributes:
        as_of: of the earlier scores.
        counts: customers by (name before, name now), with numbers.
    """

    as_of: datetime
    counts: Mapping[tuple[str, str], int]
    customers: int
    moved: int


@dataclass(frozen=True)
class ClusterModel:
    """Clusters by the shared contract."""

    name: str = "clusters"
    question: str = "Which customers are alike in how recently, how often, for how much they buy and look around?"
    baseline: str = "as many groups by quantiles of recency and, within these, of monetary value"
    features: tuple[str, ...] = tuple(dict.fromkeys((*PROFILE, "account_type", "orders_90", "spend_90")))
    reads: tuple[str, ...] = ("features.feat_customers", "marts.dim_as_ofs", "marts.customer_permissions")

    @property
    def checks(self) -> Mapping[str, str]:
        """What it watches beyond drift and the age of its scores."""
        return {
            "stability": f"Every cluster comes out again on resampled customers: mean Jaccard index {STABLE} or more."
        }

    def train(self, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> Trained:
        """Choose, fit and name clusters; judge the same recipe, run on what was known 90 days ago, by what came since."""
        now = read(connection, as_of, PROFILE, rows_max=ROWS_MAX)
        _accept(now)
        then_as_of, judged_on = judged_period(connection, as_of)
        then = read(connection, then_as_of, PROFILE, rows_max=ROWS_MAX)
        _accept(then)
        later = behaviours(connection, then, as_of)

        recipe = learn(then)
        ours = recipe.grouping.of(then)
        simple = Quantiles.learned(then, recipe.grouping.size)
        earned = contest(later, ours, simple.of(then))

        choice = learn(now)
        grouping: Clusters | Quantiles = choice.grouping
        if not earned.beats:
            grouping = Quantiles.learned(now, choice.grouping.size)
        earlier, before = earlier_scores(connection, as_of, now["customer_id"].tolist())
        estimator = published(now, grouping, choice, earlier)
        movement = movement_of(estimator, now, earlier, before)

        now = now.assign(score=estimator.numbers(now).astype(float))
        held = now[["customer_id", "account_type", *estimator.features]].copy()
        if earlier is not None:
            held["earlier"] = [earlier.names.get(int(number), "") for number in earlier.numbers]
        kind = "quantiles" if isinstance(grouping, Quantiles) else str(choice.chosen.setting)
        return Trained(
            label=label_of(as_of, [self.name, kind, *estimator.features], held),
            features=estimator.features,
            estimator=estimator,
            evaluation=Evaluation(
                judged_on=judged_on,
                rows=len(then),
                baseline=earned,
                figures=_figures(choice, estimator, earned, later, ours, movement),
                tables=_tables(choice, estimator, later, ours, simple.of(then), movement),
                pictures=_pictures(choice, estimator, movement),
            ),
            against=lambda champion: _against(champion, then, later, ours),
            reference=reference_of(now, (*estimator.features, "score")),
        )

    def score(self, estimator: Any, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> Scored:
        """The cluster of everyone with an order in the RFM window who may be profiled: score is its number, label its name."""
        import numpy as np

        from ml.plots import clusters as plots

        if not isinstance(estimator, ClusterEstimator):
            raise Refused(f"the champion is no grouping of customers but {type(estimator).__name__}: train it again")
        frame = read(connection, as_of, estimator.features)
        _finite(frame, estimator.features)
        groups = estimator.grouping.of(frame)
        numbers = np.array([cluster.number for cluster in estimator.clusters])[groups]
        names = np.array([cluster.name for cluster in estimator.clusters], dtype=object)[groups]
        sizes = np.bincount(groups, minlength=len(estimator.clusters)).tolist()
        rows = sorted(zip(estimator.clusters, sizes, strict=True), key=lambda pair: pair[0].number)
        total = max(1, len(frame))
        return Scored(
            tables={"scores": scores_of(frame["customer_id"].tolist(), numbers.astype(float), labels=names.tolist())},
            frame=frame[list(estimator.features)].assign(score=numbers.astype(float)),
            findings=(_stability(estimator),),
            report={
                "Customers by cluster": Table(
                    ("cluster", "name", "customers", "share", "Jaccard index"),
                    tuple(
                        (cluster.number, cluster.name, size, f"{size / total:.1%}", cluster.jaccard)
                        for cluster, size in rows
                    ),
                )
            },
            pictures={"sizes": plots.sizes([replace(cluster, customers=size) for cluster, size in rows])},
        )

    def follow_up(self, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> FollowUp:
        """How much of what customers did since lies between the clusters that they were in 90 days ago and before."""
        import numpy as np

        rows = connection.execute(
            "select distinct as_of from staging.stg_ml__scores where model = ? and as_of <= ? order by as_of desc limit 1",
            [self.name, as_of - timedelta(days=JUDGED_DAYS)],
        ).fetchall()
        if not rows:
            return FollowUp()
        scored = connection.execute(
            "select scores.customer_id, scores.score, feat.account_type from staging.stg_ml__scores as scores left join"
            " features.feat_customers as feat on feat.customer_id = scores.customer_id and feat.as_of = ?"
            " where scores.model = ? and scores.as_of = ? order by scores.customer_id",
            [as_of, self.name, rows[0][0]],
        ).df()
        later = behaviours(connection, scored, as_of)
        _, groups = np.unique(scored["score"].to_numpy(dtype=float), return_inverse=True)
        said = [(name, explained(values, groups)) for name, values in later.items()]
        caption = f"Clusters of {rows[0][0]:%Y-%m-%d}: share of what their customers did since that lies between them"
        return FollowUp(tables={caption: Table(("in the last 90 days", "eta squared"), tuple(said))} if said else {})


def read(
    connection: duckdb.DuckDBPyConnection,
    as_of: datetime,
    features: Sequence[str],
    *,
    rows_max: int | None = None,
) -> pd.DataFrame:
    """Customers at `as_of` with an order in the RFM window who may be profiled, in order of customer.

    Args:
        features: numbers, null as NaN.
        rows_max: draw a fixed share of customers, so that about so many remain.

    Returns:
        customer_id, history_days, account_type (None where no source says) and `features`.

    Raises:
        Refused: a feature is missing, or is no number.
    """
    kinds = dict(
        connection.execute(
            "select column_name, data_type from information_schema.columns"
            " where table_schema = 'features' and table_name = 'feat_customers'"
        ).fetchall()
    )
    if missing := [name for name in ("recency_days", *features) if name not in kinds]:
        raise Refused(f"features.feat_customers has no {', '.join(missing)}, which clusters read")
    if odd := [name for name in features if not _is_number(kinds[name])]:
        raise Refused(f"{', '.join(f'{name} is {kinds[name]}' for name in odd)}, and clusters read numbers")
    source = (
        "features.feat_customers as feat inner join marts.customer_permissions as permission on"
        " permission.customer_id = feat.customer_id and permission.may_be_profiled"
    )
    where = "feat.as_of = ? and feat.recency_days is not null"
    if rows_max is not None:
        rows = connection.execute(f"select count(*) from {source} where {where}", [as_of]).fetchall()[0][0]
        if rows > rows_max:
            # customer_id is 16 hex digits of a hash: those below a threshold are a fair draw, the same each time.
            where += f" and feat.customer_id < '{int(rows_max / rows * 16**8):08x}'"
    selected = "".join(f", cast(feat.{name} as double) as {name}" for name in features)
    account_type = "feat.account_type" if "account_type" in kinds else "cast(null as varchar)"
    history = "feat.history_days" if "history_days" in kinds else "cast(null as integer)"
    return connection.execute(
        f"select feat.customer_id, {history} as history_days, {account_type} as account_type{selected}"
        f" from {source} where {where} order by feat.customer_id",
        [as_of],
    ).df()


def judged_period(connection: duckdb.DuckDBPyConnection, as_of: datetime) -> tuple[datetime, str]:
    """The newest as_of of the features whose next 90 days have passed, and the period that judges it, in words.

    Raises:
        Refused: there is none.
    """
    rows = connection.execute(
        "select past.as_of, past.as_of_on, present.as_of_on from marts.dim_as_ofs as past, marts.dim_as_ofs as present"
        " where present.as_of = ? and past.as_of_on <= present.as_of_on - cast(? as integer) order by past.as_of desc"
        " limit 1",
        [as_of, JUDGED_DAYS],
    ).fetchall()
    if not rows:
        raise Refused(f"no as_of of the features is {JUDGED_DAYS} days old: nothing came after it to judge clusters by")
    then, then_on, now_on = rows[0]
    return then, f"customers of {then_on}, by the {JUDGED_DAYS} days to {now_on}"


def behaviours(
    connection: duckdb.DuckDBPyConnection, frame: pd.DataFrame, as_of: datetime
) -> dict[str, npt.NDArray[np.float64]]:
    """What customers did in the 90 days before `as_of`, tamed as the features are; only what differs between them.

    Baskets are measured among accounts of the same type, as spend is when clusters are made: that businesses fill larger
    ones than households is no discovery.

    Args:
        frame: rows with customer_id and account_type; results are in their order, NaN where it can't be said of one.
    """
    import numpy as np
    import pandas as pd

    selected = ", ".join(f"cast({expression} as double) as {name}" for name, expression in BEHAVIOURS.items())
    did = connection.execute(f"select customer_id, {selected} from features.feat_customers where as_of = ?", [as_of])
    joined = frame[["customer_id"]].merge(did.df(), how="left", on="customer_id")
    found = {}
    for name in BEHAVIOURS:
        values = signed_log(joined[name].to_numpy(dtype=float))
        if name == _AMONG_LIKE:
            values = values - pd.Series(values).groupby(frame["account_type"].fillna("").to_numpy()).transform("mean")
            values = values.to_numpy(dtype=float)
        known = values[np.isfinite(values)]
        if len(known) and known.min() < known.max():
            found[name] = values
    return found


def learn(frame: pd.DataFrame) -> Choice:
    """Try all candidates and fit the chosen one.

    Raises:
        Refused: no candidate divides these customers into an allowed number of clusters.
    """
    import numpy as np

    features = informative(frame, FEATURES)
    if len(features) < 2:
        raise Refused(f"customers differ in {len(features)} of {len(FEATURES)} features: nothing to group them by")
    preparation = Preparation.learned(frame, features)
    points = preparation.points(frame)
    most = max(setting.groups for setting in SETTINGS)
    if (distinct := len(np.unique(drawn(points, 10_000, np.random.default_rng(SEED)).round(9), axis=0))) < 5 * most:
        raise Refused(
            f"only {distinct} customers differ from each other; {5 * most} are needed for up to {most} clusters"
        )
    candidates = tuple(compare(points))
    chosen, why = choose(candidates)
    partition = fit(points, chosen.setting)
    assert partition is not None
    return Choice(Clusters(preparation, partition, chosen.setting), chosen, why, candidates, points)


def explained(values: npt.NDArray[np.float64], groups: npt.NDArray[np.intp]) -> float:
    """Eta squared: the share of variance that lies between groups, among rows whose value is known."""
    import numpy as np

    known = np.isfinite(values)
    return float(_explained(values[known], groups[known], np.ones(int(known.sum()))))


def contest(
    later: Mapping[str, npt.NDArray[np.float64]], ours: npt.NDArray[np.intp], theirs: npt.NDArray[np.intp]
) -> Contest:
    """Two groupings of the same customers, by the mean share of their later behaviours that lies between groups.

    Raises:
        Refused: customers did not differ in anything they did.
    """
    import numpy as np

    if not later:
        raise Refused(f"no customer did anything in the last {JUDGED_DAYS} days: nothing to judge clusters by")
    generator = np.random.default_rng(SEED)
    rows = np.arange(len(ours))
    if len(rows) > _JUDGED_MAX:
        rows = np.sort(generator.choice(rows, _JUDGED_MAX, replace=False))
    mine, other = ours[rows], theirs[rows]
    did = [values[rows] for values in later.values()]

    def means(weights: npt.NDArray[np.float64]) -> tuple[float, float]:
        figures = []
        for groups in (mine, other):
            figures.append(
                np.mean(
                    [
                        _explained(values[known], groups[known], weights[known])
                        for values in did
                        for known in (np.isfinite(values),)
                    ]
                )
            )
        return float(figures[0]), float(figures[1])

    model, baseline = means(np.ones(len(rows)))
    gains = []
    for _ in range(_RESAMPLES):
        drawn_again = np.bincount(generator.integers(0, len(rows), len(rows)), minlength=len(rows)).astype(float)
        gains.append(np.subtract(*means(drawn_again)))
    low, high = np.quantile(gains, [0.025, 0.975])
    return Contest("eta squared of later behaviour", model, baseline, float(low), float(high))


def published(
    frame: pd.DataFrame, grouping: Clusters | Quantiles, choice: Choice, earlier: Earlier | None
) -> ClusterEstimator:
    """Number and name a grouping's groups: as before where they are the same, new ones by falling median value."""
    import numpy as np

    labels = grouping.of(frame)
    size = grouping.size
    medians = frame[list(PROFILE)].groupby(labels).median().reindex(range(size))
    order = medians.sort_values(["monetary", "frequency"], ascending=False, kind="stable").index.tolist()
    numbers = numbered(labels, order, earlier)
    described = informative(frame, PROFILE)
    profiles = [
        {name: float(row[name]) for name in described if not math.isnan(row[name])}
        for _, row in medians[list(described)].iterrows()
    ]
    tops = frame[list(described)].quantile(0.8).to_dict()
    high = {str(name): float(value) for name, value in tops.items() if not math.isnan(value)}
    if isinstance(grouping, Quantiles):
        names = grouping.names
        jaccards = _quantile_jaccards(frame, grouping)
    else:
        known = earlier.names if earlier is not None else {}
        ordered = [order.index(label) for label in range(size)]
        named = names_of([profiles[label] for label in order], high, [known.get(numbers[label]) for label in order])
        names = [named[position] for position in ordered]
        jaccards = stability_of(choice.points, choice.grouping.partition, choice.chosen.setting).jaccards
    sizes = np.bincount(labels, minlength=size)
    shares = _business_shares(frame, labels, size)
    return ClusterEstimator(
        grouping,
        tuple(
            Cluster(
                numbers[label],
                names[label],
                int(sizes[label]),
                {name: round(value, 4) for name, value in profiles[label].items()},
                jaccards[label],
                shares[label],
            )
            for label in range(size)
        ),
    )


def earlier_scores(
    connection: duckdb.DuckDBPyConnection, as_of: datetime, customers: Sequence[str]
) -> tuple[Earlier | None, datetime | None]:
    """The newest clusters scored before `as_of`, and when; None where there are none.

    Not those of `as_of` itself: training twice on the same data gives the same numbers.
    """
    import pandas as pd

    if not can_read_back(connection):
        return None, None
    rows = connection.execute(
        "select max(as_of), max(score) from staging.stg_ml__scores where model = 'clusters' and as_of < ?", [as_of]
    ).fetchall()
    before, last = rows[0]
    if before is None:
        return None, None
    scored = connection.execute(
        "select customer_id, cast(score as integer) as number, label from staging.stg_ml__scores"
        " where model = 'clusters' and as_of = ?",
        [before],
    ).df()
    numbers = pd.Series(scored["number"].to_numpy(), index=scored["customer_id"].to_numpy()).reindex(list(customers))
    names = dict(zip(scored["number"].tolist(), scored["label"].tolist(), strict=True))
    return (
        Earlier(
            numbers.fillna(0).to_numpy(dtype=int), {int(number): str(name) for number, name in names.items()}, int(last)
        ),
        before,
    )


def movement_of(
    estimator: ClusterEstimator, frame: pd.DataFrame, earlier: Earlier | None, before: datetime | None
) -> Movement | None:
    """Who is in another cluster than before; None where nobody was in one."""
    import numpy as np

    if earlier is None or before is None:
        return None
    both = earlier.numbers > 0
    if not both.any():
        return None
    now = estimator.numbers(frame)[both]
    then = earlier.numbers[both]
    names = {cluster.number: cluster.name for cluster in estimator.clusters}
    old, old_rows = np.unique(then, return_inverse=True)
    new, new_rows = np.unique(now, return_inverse=True)
    counts = crossed(old_rows, new_rows)
    said = {
        (f"{source} {earlier.names[int(source)]}", f"{target} {names[int(target)]}"): int(counts[i, j])
        for i, source in enumerate(old)
        for j, target in enumerate(new)
        if counts[i, j]
    }
    return Movement(before, said, len(now), int((now != then).sum()))


def _scale(values: npt.NDArray[np.float64], tops: npt.NDArray[np.float64]) -> Scale:
    import numpy as np

    deviations = values.std(axis=0)
    return Scale(tops, values.mean(axis=0), np.where(deviations > 0, deviations, 1.0))


def _is_number(kind: str) -> bool:
    return kind.startswith("DECIMAL") or kind in {
        "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "FLOAT",
        "DOUBLE",
    }  # fmt: skip


def _accept(frame: pd.DataFrame) -> None:
    """Refuse what clusters can't be learned from."""
    if len(frame) < CUSTOMERS_MIN:
        raise Refused(
            f"{len(frame)} customers with an order in the window may be profiled; clusters need {CUSTOMERS_MIN}"
        )
    history = frame["history_days"].max()
    if not history >= HISTORY_DAYS:
        known = "unknown" if math.isnan(history) else f"{history:.0f} days"
        raise Refused(f"the history is {known}; the features' windows need {HISTORY_DAYS}")
    _finite(frame, PROFILE)


def _finite(frame: pd.DataFrame, features: Sequence[str]) -> None:
    import numpy as np

    values = frame[list(features)].to_numpy(dtype=float)
    if (infinite := np.isinf(values).any(axis=0)).any():
        names = [name for name, bad in zip(features, infinite, strict=True) if bad]
        raise Refused(f"{', '.join(names)} has infinite values: see what the source delivered")


def _explained(
    values: npt.NDArray[np.float64], groups: npt.NDArray[np.intp], weights: npt.NDArray[np.float64]
) -> float:
    import numpy as np

    if not len(values) or not weights.sum():
        return 0.0
    off = values - np.average(values, weights=weights)
    total = float((weights * off * off).sum())
    mass = np.bincount(groups, weights=weights)
    sums = np.bincount(groups, weights=weights * off)
    between = float((sums[mass > 0] ** 2 / mass[mass > 0]).sum())
    return between / total if total > 0 else 0.0


def _against(
    champion: Any, then: pd.DataFrame, later: Mapping[str, npt.NDArray[np.float64]], ours: npt.NDArray[np.intp]
) -> Contest:
    import numpy as np

    if not isinstance(champion, ClusterEstimator):
        raise Refused(f"the champion is no grouping of customers but {type(champion).__name__}")
    _, theirs = np.unique(champion.numbers(then), return_inverse=True)
    return contest(later, ours, theirs)


def _quantile_jaccards(frame: pd.DataFrame, grouping: Quantiles) -> tuple[float, ...]:
    import numpy as np

    generator = np.random.default_rng(SEED + 1)
    sample = frame if len(frame) <= 10_000 else frame.iloc[np.sort(generator.choice(len(frame), 10_000, replace=False))]
    others = [
        Quantiles.learned(sample.iloc[generator.integers(0, len(sample), len(sample))], grouping.size).of(sample)
        for _ in range(20)
    ]
    return agreement(grouping.of(sample), others, grouping.size)[1]


def _business_shares(frame: pd.DataFrame, labels: npt.NDArray[np.intp], size: int) -> list[float | None]:
    known = frame["account_type"].notna().to_numpy()
    business = (frame["account_type"] == "business").to_numpy()
    return [
        round(float(business[(labels == label) & known].mean()), 4) if ((labels == label) & known).any() else None
        for label in range(size)
    ]


def _stability(estimator: ClusterEstimator) -> Finding:
    weak = [cluster for cluster in estimator.clusters if cluster.is_weak]
    if weak:
        said = ", ".join(f"{cluster.number} {cluster.name} ({cluster.jaccard:.2f})" for cluster in weak)
        return Finding("stability", False, f"{len(weak)} of {len(estimator.clusters)} clusters are weak: {said}")
    lowest = min(cluster.jaccard for cluster in estimator.clusters)
    return Finding(
        "stability", True, f"all {len(estimator.clusters)} clusters come out again: Jaccard index {lowest:.2f} or more"
    )


def _figures(
    choice: Choice,
    estimator: ClusterEstimator,
    earned: Contest,
    later: Mapping[str, npt.NDArray[np.float64]],
    ours: npt.NDArray[np.intp],
    movement: Movement | None,
) -> dict[str, float]:
    figures = {
        "eta_squared": earned.model,
        "eta_squared_baseline": earned.other,
        "clusters": float(choice.chosen.found),
        "silhouette": choice.chosen.silhouette,
        "stability": choice.chosen.stability,
        "smallest_jaccard": min(cluster.jaccard for cluster in estimator.clusters),
    }
    figures |= {f"eta_squared_{name}": explained(values, ours) for name, values in later.items()}
    if movement is not None:
        figures["moved_share"] = movement.moved / movement.customers
    return figures


def _tables(
    choice: Choice,
    estimator: ClusterEstimator,
    later: Mapping[str, npt.NDArray[np.float64]],
    ours: npt.NDArray[np.intp],
    simple: npt.NDArray[np.intp],
    movement: Movement | None,
) -> dict[str, Table]:
    clusters = sorted(estimator.clusters, key=lambda cluster: cluster.number)
    total = sum(cluster.customers for cluster in clusters)
    medians = [name for name in PROFILE if any(name in cluster.medians for cluster in clusters)]
    tables = {
        f"What is published: {_kind(estimator, choice)}": Table(
            ("cluster", "name", "customers", "share", "Jaccard index", "weak", "business accounts"),
            tuple(
                (
                    cluster.number,
                    cluster.name,
                    cluster.customers,
                    f"{cluster.customers / total:.1%}",
                    cluster.jaccard,
                    "weak" if cluster.is_weak else "",
                    "" if cluster.business_share is None else f"{cluster.business_share:.0%}",
                )
                for cluster in clusters
            ),
        ),
        "Medians by cluster": Table(
            ("cluster", *medians),
            tuple((cluster.name, *(cluster.medians.get(name) for name in medians)) for cluster in clusters),
        ),
        f"The choice. {choice.why}": Table(
            ("candidate", "clusters", "silhouette", "adjusted Rand index", "lowest Jaccard", "smallest", "verdict"),
            tuple(
                (
                    str(candidate.setting),
                    candidate.found,
                    candidate.silhouette,
                    candidate.stability,
                    candidate.weakest,
                    f"{candidate.smallest_share:.1%}",
                    "chosen" if candidate is choice.chosen else candidate.objection or "eligible",
                )
                for candidate in choice.candidates
            ),
        ),
        "Share of what customers did later that lies between groups": Table(
            ("behaviour", "clusters", "quantiles"),
            tuple((name, explained(values, ours), explained(values, simple)) for name, values in later.items()),
        ),
    }
    if movement is not None:
        moved = sorted(movement.counts.items(), key=lambda item: (-item[1], item[0]))
        caption = (
            f"{movement.moved:,} of {movement.customers:,} customers scored on {movement.as_of:%Y-%m-%d} as well are in"
            " another cluster now"
        )
        tables[caption] = Table(("before", "now", "customers"), tuple((*pair, count) for pair, count in moved))
    return tables


def _kind(estimator: ClusterEstimator, choice: Choice) -> str:
    if isinstance(estimator.grouping, Quantiles):
        return "quantiles of recency and monetary value, as clusters tell no more"
    return str(choice.chosen.setting)


def _pictures(choice: Choice, estimator: ClusterEstimator, movement: Movement | None) -> dict[str, bytes]:
    from ml.plots import clusters as plots

    clusters = sorted(estimator.clusters, key=lambda cluster: cluster.number)
    pictures = {
        "profiles": plots.profiles(clusters),
        "choice": plots.choice(choice.candidates, choice.chosen),
    }
    if movement is not None:
        pictures["movement"] = plots.movement(movement)
    return pictures
