"""Natural groupings of customers: K-Means on RFM and behaviour, k chosen and explained, clusters named by profile."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from core.home import Home
from ml import registry
from ml.features import ROWS_MAX, current_as_of, informative, nobody_to_profile, read, signed_log

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pandas as pd
    from sklearn.pipeline import Pipeline

MODEL = "clusters"
FEATURES = (
    "recency_days",
    "frequency",
    "monetary",
    "average_order_value",
    "returns_365",
    "sessions_90",
    "clicks_90",
)
PROFILE = (*FEATURES, "mean_gap_days", "product_views_90", "carts_90")
"""What clusters are described by. Views and carts go with visits, and most customers have no gap: not clustered on."""

K_RANGE = range(5, 11)
CUSTOMERS_MIN = 200  # below, clusters of a few dozen say nothing
CHOICE_ROWS = 3_000  # customers that silhouettes and resamples are computed on: silhouettes need n^2 distances
RESAMPLES = 6
SMALLEST_SHARE = 0.02
STABLE = 0.75

# Names: see `name_of`.
_RECENT_DAYS = 90
_LAPSED_DAYS = 180
_SEASONAL_GAP_DAYS = 150
_QUALIFIERS: Mapping[str, tuple[str, str, str]] = {
    "recency_days": ("most recent", "less recent", "longest ago"),
    "frequency": ("few orders", "some orders", "many orders"),
    "monetary": ("low spend", "medium spend", "high spend"),
    "average_order_value": ("small baskets", "medium baskets", "large baskets"),
    "returns_365": ("few returns", "some returns", "many returns"),
    "sessions_90": ("few visits", "some visits", "many visits"),
    "clicks_90": ("few clicks", "some clicks", "many clicks"),
}


@dataclass(frozen=True)
class Candidate:
    """One k that was tried.

    Attributes:
        silhouette: mean over customers, -1 to 1; how well they fit their own cluster against the next.
        stability: mean adjusted Rand index between the clustering and those of bootstrap resamples; 1 is identical.
        smallest_share: share of customers in the smallest cluster.
    """

    k: int
    silhouette: float
    stability: float
    smallest_share: float


@dataclass(frozen=True)
class Cluster:
    """One cluster, and its customers' medians by feature."""

    number: int
    name: str
    customers: int
    medians: Mapping[str, float]


@dataclass(frozen=True)
class ClusterReport:
    """How the clusters came about.

    Attributes:
        status: trained, reused or refused.
        explanation: why this k, or why none.
        as_of: naive UTC instant of training.
    """

    status: str
    explanation: str
    as_of: datetime | None = None
    version: str | None = None
    features: tuple[str, ...] = ()
    k: int | None = None
    candidates: tuple[Candidate, ...] = ()
    clusters: tuple[Cluster, ...] = ()


def refresh(connection: duckdb.DuckDBPyConnection, home: Home) -> ClusterReport:
    """Train if no usable model is kept, then score everyone with an order in the RFM window who may be profiled.

    Returns:
        The report; `refused` with the reason, and no scores, where customers are too few or nobody may be profiled.
    """
    as_of, _ = current_as_of(connection)
    if (nobody := nobody_to_profile(connection)) is not None:
        return ClusterReport("refused", nobody, as_of)
    frame = _customers(connection, as_of)
    features = informative(frame, FEATURES)
    card = registry.usable(home, MODEL, as_of, features)
    report = train(connection, home) if card is None else replace(_report(card), status="reused")
    if report.status != "refused":
        score(connection, home, report)
    return report


def train(connection: duckdb.DuckDBPyConnection, home: Home) -> ClusterReport:
    """Choose k, fit, name, and store the model. See `refresh`."""
    as_of, _ = current_as_of(connection)
    frame = _customers(connection, as_of)
    if len(frame) < CUSTOMERS_MIN:
        return ClusterReport(
            "refused",
            f"{len(frame)} customers with an order in the window may be profiled; clusters need {CUSTOMERS_MIN}",
            as_of,
        )
    features = informative(frame, FEATURES)
    learning = _customers(connection, as_of, rows_max=ROWS_MAX) if len(frame) > ROWS_MAX else frame
    with registry.one_thread():
        candidates = tuple(assess(learning[list(features)], k) for k in K_RANGE)
        chosen, why = choose(candidates)
        pipeline = make_pipeline(chosen.k).fit(learning[list(features)])
        order, clusters = describe(learning, features, pipeline.predict(learning[list(features)]), chosen.k)
    report = ClusterReport(
        "trained",
        why,
        as_of,
        registry.version_of(as_of, features, learning[["customer_id", *features]]),
        features,
        chosen.k,
        candidates,
        clusters,
    )
    assert report.version is not None
    said = {**asdict(report), "as_of": as_of.isoformat(sep=" ")}
    card = registry.Card(MODEL, report.version, as_of, features, registry.SEED, registry.libraries(), said)
    registry.save(home, card, {"pipeline": pipeline, "order": order})
    return report


def score(connection: duckdb.DuckDBPyConnection, home: Home, report: ClusterReport) -> None:
    """Write the cluster of each customer at the current as_of: score is its number, label its name."""
    as_of, _ = current_as_of(connection)
    card = registry.usable(home, MODEL, as_of, report.features)
    if card is None or card.version != report.version:
        raise ValueError(f"model {report.version} is not kept in {home.models}: train again")
    stored = registry.load(home, card)
    frame = _customers(connection, as_of)
    with registry.one_thread():
        raw = stored["pipeline"].predict(frame[list(report.features)])
    numbers = stored["order"][raw]
    names = {cluster.number: cluster.name for cluster in report.clusters}
    registry.write_scores(
        home, card, as_of, frame["customer_id"].tolist(), numbers.astype(float), [names[number] for number in numbers]
    )


def make_pipeline(k: int) -> Pipeline:
    """Impute, tame, scale and cluster: one pipeline, so that scoring applies what training learned."""
    from sklearn.cluster import KMeans
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    return Pipeline(
        [
            ("impute", SimpleImputer(strategy="constant", fill_value=0.0)),
            ("tame", FunctionTransformer(signed_log, feature_names_out="one-to-one")),
            ("scale", StandardScaler()),
            ("cluster", KMeans(n_clusters=k, n_init=10, random_state=registry.SEED, algorithm="lloyd")),
        ]
    )


def assess(frame: pd.DataFrame, k: int) -> Candidate:
    """Silhouette and stability of `k` clusters on at most `CHOICE_ROWS` customers.

    Stability after Hennig (2007), "Cluster-wise assessment of cluster stability", with the adjusted Rand index over
    the whole clustering in place of the Jaccard index of each cluster.
    """
    import numpy as np
    from sklearn.metrics import adjusted_rand_score, silhouette_score

    generator = np.random.default_rng(registry.SEED)
    drawn = frame
    if len(frame) > CHOICE_ROWS:
        drawn = frame.iloc[np.sort(generator.choice(len(frame), CHOICE_ROWS, replace=False))]
    pipeline = make_pipeline(k).fit(drawn)
    labels = pipeline.predict(drawn)
    space = pipeline[:-1].transform(drawn)
    agreements = []
    for _ in range(RESAMPLES):
        rows = generator.integers(0, len(drawn), len(drawn))
        again = make_pipeline(k).set_params(cluster__n_init=3).fit(drawn.iloc[rows])
        agreements.append(adjusted_rand_score(labels, again.predict(drawn)))
    return Candidate(
        k,
        round(float(silhouette_score(space, labels)), 4),
        round(float(np.mean(agreements)), 4),
        round(float(np.bincount(labels, minlength=k).min() / len(labels)), 4),
    )


def choose(candidates: Sequence[Candidate]) -> tuple[Candidate, str]:
    """The k with the highest silhouette among those that come out the same on resampled customers.

    Returns:
        The candidate, and the reason in words.
    """
    eligible = [
        candidate
        for candidate in candidates
        if candidate.stability >= STABLE and candidate.smallest_share >= SMALLEST_SHARE
    ]
    if eligible:
        best = max(eligible, key=lambda candidate: (candidate.silhouette, -candidate.k))
        return best, (
            f"k = {best.k} has the highest silhouette ({best.silhouette:.3f}) among the {len(eligible)} of"
            f" {len(candidates)} that are stable (adjusted Rand index {best.stability:.2f} over {RESAMPLES} resamples,"
            f" {STABLE} asked) and whose smallest cluster holds {SMALLEST_SHARE:.0%} of customers or more"
        )
    best = max(candidates, key=lambda candidate: (candidate.stability, candidate.silhouette, -candidate.k))
    return best, (
        f"no k is stable with clusters of {SMALLEST_SHARE:.0%} or more; k = {best.k} comes out most alike on resampled"
        f" customers (adjusted Rand index {best.stability:.2f}): read these clusters with caution"
    )


def describe(
    frame: pd.DataFrame, features: Sequence[str], labels: np.ndarray, k: int
) -> tuple[np.ndarray, tuple[Cluster, ...]]:
    """Number clusters from 1 by falling median monetary value, and name them.

    Returns:
        An array from K-Means' label to the cluster's number, and the clusters in order of number.
    """
    import numpy as np

    medians = frame[list(PROFILE)].groupby(labels).median().reindex(range(k))
    by_value = medians.sort_values(["monetary", "frequency"], ascending=False, kind="stable").index.to_numpy()
    order = np.empty(k, dtype=int)
    order[by_value] = np.arange(1, k + 1)
    sizes = np.bincount(labels, minlength=k)
    described = [*features, *(name for name in informative(frame, PROFILE) if name not in features)]
    table = medians[described].to_numpy(dtype=float)[by_value]
    profiles = [
        {name: float(value) for name, value in zip(described, row, strict=True) if not np.isnan(value)} for row in table
    ]
    tops = np.nanquantile(frame[described].to_numpy(dtype=float), 0.8, axis=0)
    high = {name: float(value) for name, value in zip(described, tops, strict=True)}
    names = unique_names(profiles, [name_of(profile, high) for profile in profiles])
    return order, tuple(
        Cluster(number, name, int(sizes[label]), {key: round(value, 4) for key, value in profile.items()})
        for number, (label, name, profile) in enumerate(zip(by_value, names, profiles, strict=True), start=1)
    )


def name_of(profile: Mapping[str, float], high: Mapping[str, float]) -> str:
    """Name a cluster by the first rule that its medians meet.

    Args:
        profile: the cluster's medians.
        high: the 80 % value of each feature over all customers.
    """
    recency = profile.get("recency_days", 0.0)
    frequency = profile.get("frequency", 1.0)
    value = profile.get("average_order_value", 0.0)
    sessions = profile.get("sessions_90", 0.0)
    gap = profile.get("mean_gap_days", 0.0)
    large_baskets = value >= high.get("average_order_value", math.inf)
    often = frequency >= max(3.0, high.get("frequency", math.inf))
    much_browsing = sessions >= max(4.0, high.get("sessions_90", math.inf))
    if recency > _LAPSED_DAYS:
        if large_baskets:
            return "Lapsed High-Value Buyers"
        if sessions >= 1:
            return "Frequent Browsers" if much_browsing else "Infrequent Browsers"
        return "Lapsed One-Time Buyers" if frequency <= 1 else "Lapsed Repeat Buyers"
    if often:
        return "Frequent High-Value Buyers" if large_baskets else "Frequent Buyers"
    if large_baskets:
        return "High-Value Buyers"
    if frequency >= 2 and gap >= _SEASONAL_GAP_DAYS:
        return "Seasonal Shoppers"
    if frequency <= 1:
        return "New Buyers" if recency <= _RECENT_DAYS else "One-Time Buyers"
    if much_browsing:
        return "Frequent Browsers"
    return "Repeat Buyers" if recency <= _RECENT_DAYS else "Fading Repeat Buyers"


def unique_names(profiles: Sequence[Mapping[str, float]], names: Sequence[str]) -> list[str]:
    """Tell clusters of one name apart by the feature in which they differ most, against the spread of all clusters."""
    import numpy as np

    groups: dict[str, list[int]] = defaultdict(list)
    for position, name in enumerate(names):
        groups[name].append(position)
    result = list(names)
    for name, members in groups.items():
        if len(members) == 1:
            continue
        spread: dict[str, float] = {}
        for feature in _QUALIFIERS:
            values = signed_log(np.array([profile.get(feature, 0.0) for profile in profiles]))
            spread[feature] = float(np.ptp(values[members]) / (np.std(values) or 1.0))
        feature = max(spread, key=lambda key: spread[key])
        low, middle, high = _QUALIFIERS[feature]
        ranked = sorted(members, key=lambda position: (profiles[position].get(feature, 0.0), position))
        for rank, position in enumerate(ranked):
            if rank == 0:
                said = low
            elif rank == len(ranked) - 1:
                said = high
            else:
                said = middle if len(ranked) == 3 else f"{middle} {rank}"
            result[position] = f"{name}, {said}"
    return result


def _customers(connection: duckdb.DuckDBPyConnection, as_of: datetime, *, rows_max: int | None = None) -> pd.DataFrame:
    return read(connection, PROFILE, "feat.as_of = ? and feat.recency_days is not null", [as_of], rows_max=rows_max)


def _report(card: registry.Card) -> ClusterReport:
    said: dict[str, Any] = dict(card.report)
    said["as_of"] = datetime.fromisoformat(said["as_of"])
    said["features"] = tuple(said["features"])
    said["candidates"] = tuple(Candidate(**candidate) for candidate in said["candidates"])
    said["clusters"] = tuple(Cluster(**cluster) for cluster in said["clusters"])
    return ClusterReport(**said)
