"""Ways to divide points into groups, and how well each divides them. Arrays in, figures out: no customer is known here.

Three algorithms on the same prepared points: K-Means, Ward's hierarchy and HDBSCAN. Each yields a `Partition`, which says
of any point, new ones included, to which group it belongs: that of the nearest centre (K-Means, Ward), or of the nearest
core point (HDBSCAN, whose groups have no centre that stands for them; what it calls noise goes to the nearest group too).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Points = npt.NDArray[np.float64]
    Labels = npt.NDArray[np.intp]

Method = Literal["K-Means", "Ward", "HDBSCAN"]

SEED = 20111210
GROUPS = range(5, 11)
CORE_SHARES = (0.01, 0.02)
"""Least size of a group of HDBSCAN, in shares of the points."""

SAMPLE = 2_500
"""Points that candidates are compared on: silhouettes and Ward's hierarchy need n^2 distances."""

PUBLISHED_SAMPLE = 10_000
"""Points that the published groups of K-Means are tried on: they were learned from more, and small samples wobble more."""

RESAMPLES = 10
RESTARTS = 5  # of K-Means: with fewer, resamples differ by where it started
MICRO_ABOVE = 20_000
MICRO_CLUSTERS = 500
STABLE = 0.75
"""Hennig (2007): a mean Jaccard index of .75 or more is a stable cluster. Asked of the adjusted Rand index as well."""

SMALLEST_SHARE = 0.02
ALIKE = 0.02
"""Silhouettes that differ by less are as good as each other: the finer of two divisions that come out again says more."""

_CORE_POINTS = 1_000


@dataclass(frozen=True)
class Setting:
    """An algorithm, and what it is told: the number of groups, or for HDBSCAN the least share of points in one."""

    method: Method
    groups: int = 0
    least_share: float = 0.0

    def __str__(self) -> str:
        told = f"{self.least_share:.0%} or more in each" if self.method == "HDBSCAN" else f"{self.groups}"
        return f"{self.method}, {told}"


SETTINGS = (
    *(Setting("K-Means", groups) for groups in GROUPS),
    *(Setting("Ward", groups) for groups in GROUPS),
    *(Setting("HDBSCAN", least_share=share) for share in CORE_SHARES),
)


@dataclass(frozen=True)
class Partition:
    """Groups 0 to n - 1, as places in space: a point belongs to the group of the nearest one.

    Attributes:
        places: of shape (places, features).
        groups: group of each place.
    """

    places: Points
    groups: Labels

    @property
    def size(self) -> int:
        """How many groups there are."""
        return int(self.groups.max()) + 1

    def of(self, points: Points) -> Labels:
        """The group of each point."""
        from sklearn.metrics import pairwise_distances_argmin

        return self.groups[pairwise_distances_argmin(points, self.places)]  # type: ignore[no-any-return]  # scikit-learn has no types


@dataclass(frozen=True)
class Candidate:
    """One setting that was tried, and how it did on a sample.

    Attributes:
        found: how many groups came out.
        silhouette: mean over points, -1 to 1: how much nearer their own group is than the next.
        stability: mean adjusted Rand index between the groups and those of resamples; 1 is identical.
        jaccards: per group, the mean over resamples of the Jaccard index to its likeliest counterpart.
        smallest_share: share of points in the smallest group.
    """

    setting: Setting
    found: int
    silhouette: float
    stability: float
    jaccards: tuple[float, ...]
    smallest_share: float

    @property
    def weakest(self) -> float:
        """The Jaccard index of the group that comes out the least alike."""
        return min(self.jaccards, default=0.0)

    @property
    def objection(self) -> str | None:
        """Why it can't be chosen; None if it can."""
        if self.found not in GROUPS:
            return f"finds {self.found} groups, not {GROUPS[0]} to {GROUPS[-1]}"
        if self.smallest_share < SMALLEST_SHARE:
            return f"a group of {self.smallest_share:.1%}"
        if self.stability < STABLE:
            return f"not the same again on resampled customers ({self.stability:.2f})"
        if self.weakest < STABLE:
            return f"a group that does not come again (Jaccard {self.weakest:.2f})"
        return None


def fit(points: Points, setting: Setting, *, restarts: int = 10, seed: int = SEED) -> Partition | None:
    """Divide points into groups; None where HDBSCAN finds none, or two or more can't be told apart."""
    import numpy as np

    if setting.method == "K-Means":
        from sklearn.cluster import KMeans

        model = KMeans(setting.groups, n_init=restarts, random_state=seed, algorithm="lloyd").fit(points)
        return Partition(model.cluster_centers_, np.arange(setting.groups))
    if setting.method == "Ward":
        return _centred(points, _ward(points, setting.groups, seed))
    from sklearn.cluster import HDBSCAN

    least = max(5, round(setting.least_share * len(points)))
    model = HDBSCAN(min_cluster_size=least, min_samples=min(least, 10), copy=True).fit(points)
    core = np.flatnonzero(model.labels_ >= 0)
    if not len(core):
        return None
    if len(core) > _CORE_POINTS:
        core = np.sort(np.random.default_rng(seed).choice(core, _CORE_POINTS, replace=False))
    _, groups = np.unique(model.labels_[core], return_inverse=True)
    return Partition(points[core], groups)


def compare(points: Points, settings: Sequence[Setting] = SETTINGS, *, seed: int = SEED) -> list[Candidate]:
    """Try every setting on one sample of at most `SAMPLE` points and on the same resamples of it.

    Stability after Hennig (2007), "Cluster-wise assessment of cluster stability": the groups of each bootstrap resample
    are laid over the whole sample and compared with the original ones. HDBSCAN gets each drawn point once: repeats would
    be peaks of density.
    """
    import numpy as np
    from sklearn.metrics import silhouette_score

    generator = np.random.default_rng(seed)
    sample = drawn(points, SAMPLE, generator)
    resamples = [generator.integers(0, len(sample), len(sample)) for _ in range(RESAMPLES)]
    labels = {
        setting: found[0] for setting, found in _laid_over(sample, settings, [np.arange(len(sample))], seed).items()
    }
    again = _laid_over(sample, settings, resamples, seed)
    candidates = []
    for setting in settings:
        mine = labels[setting]
        if mine is None or mine.max() == 0:
            candidates.append(Candidate(setting, 0 if mine is None else 1, 0.0, 0.0, (), 0.0))
            continue
        stability, jaccards = agreement(mine, again[setting])
        sizes = np.bincount(mine)
        candidates.append(
            Candidate(
                setting,
                len(sizes),
                round(float(silhouette_score(sample, mine)), 4),
                stability,
                jaccards,
                round(float(sizes.min() / len(sample)), 4),
            )
        )
    return candidates


def stability_of(
    points: Points, partition: Partition, setting: Setting, *, resamples: int = 2 * RESAMPLES
) -> Candidate:
    """The same figures for groups that were made already, on more resamples: those that are published."""
    import numpy as np
    from sklearn.metrics import silhouette_score

    generator = np.random.default_rng(SEED + 1)
    sample = drawn(points, PUBLISHED_SAMPLE if setting.method == "K-Means" else SAMPLE, generator)
    rows = [generator.integers(0, len(sample), len(sample)) for _ in range(resamples)]
    labels = partition.of(sample)
    stability, jaccards = agreement(labels, _laid_over(sample, [setting], rows, SEED)[setting], partition.size)
    sizes = np.bincount(labels, minlength=partition.size)
    few = slice(0, SAMPLE)
    silhouette = round(float(silhouette_score(sample[few], labels[few])), 4) if len(set(labels[few])) > 1 else 0.0
    smallest = round(float(sizes.min() / len(sample)), 4)
    return Candidate(setting, partition.size, silhouette, stability, jaccards, smallest)


def choose(candidates: Sequence[Candidate]) -> tuple[Candidate, str]:
    """The finest of the best separated whose every group comes out again; where there is none, what comes nearest.

    Returns:
        The candidate, and the reason in words.

    Raises:
        ValueError: no candidate has an allowed number of groups.
    """
    allowed = [candidate for candidate in candidates if candidate.found in GROUPS]
    if not allowed:
        raise ValueError("no candidate has an allowed number of groups")
    eligible = [candidate for candidate in allowed if candidate.objection is None]
    if eligible:
        highest = max(candidate.silhouette for candidate in eligible)
        near = [candidate for candidate in eligible if candidate.silhouette > highest - ALIKE]
        best = max(near, key=lambda candidate: (candidate.found, candidate.silhouette))
        return best, (
            f"{best.setting}: {len(eligible)} of {len(candidates)} come out again group by group on resampled customers"
            f" (Jaccard {STABLE} or more) with {SMALLEST_SHARE:.0%} of them or more in each; of these it is the finest whose"
            f" silhouette ({best.silhouette:.3f}) lies within {ALIKE} of the highest ({highest:.3f})"
        )
    sized = [candidate for candidate in allowed if candidate.smallest_share >= SMALLEST_SHARE] or allowed
    best = max(sized, key=lambda candidate: (candidate.weakest, candidate.stability, candidate.silhouette))
    return best, (
        f"{best.setting}: nothing divides these customers so that every group comes out again; here the weakest comes"
        f" nearest (Jaccard {best.weakest:.2f}, {STABLE} asked): read it with caution"
    )


def agreement(
    mine: Labels, others: Sequence[Labels | None], size: int | None = None
) -> tuple[float, tuple[float, ...]]:
    """How alike groups of the same points are to others.

    Args:
        mine: group of each point, 0 to size - 1.
        others: groups by other fits; None where there were none, which is like nothing.
        size: how many groups there are, where some may hold none of these points.

    Returns:
        Mean adjusted Rand index, and per group of `mine` the mean of its highest Jaccard index.
    """
    import numpy as np
    from sklearn.metrics import adjusted_rand_score

    count = int(mine.max()) + 1 if size is None else size
    rand, jaccards = [], np.zeros((len(others), count))
    for row, other in enumerate(others):
        if other is None:
            rand.append(0.0)
            continue
        rand.append(float(adjusted_rand_score(mine, other)))
        jaccards[row] = overlap_share(crossed(mine, other, count)).max(axis=1)
    return round(float(np.mean(rand)), 4), tuple(round(float(value), 4) for value in jaccards.mean(axis=0))


def crossed(mine: Labels, other: Labels, rows: int | None = None) -> npt.NDArray[np.int64]:
    """How many points are in group i of one division and j of another, as a table i x j."""
    import numpy as np

    height, width = (int(mine.max()) + 1 if rows is None else rows), int(other.max()) + 1
    return np.bincount(mine * width + other, minlength=height * width).reshape(height, width)


def overlap_share(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Jaccard index of each pair of groups: points in both, of those in either."""
    import numpy as np

    union = counts.sum(axis=1, keepdims=True) + counts.sum(axis=0, keepdims=True) - counts
    return np.asarray(counts / np.maximum(union, 1), dtype=float)


def drawn(points: Points, most: int, generator: np.random.Generator) -> Points:
    """At most so many of the points, in their order."""
    import numpy as np

    if len(points) <= most:
        return points
    return points[np.sort(generator.choice(len(points), most, replace=False))]


def _laid_over(
    sample: Points, settings: Sequence[Setting], resamples: Sequence[Labels], seed: int
) -> dict[Setting, list[Labels | None]]:
    """Per setting, the groups that each resample would give the whole sample."""
    import numpy as np

    found: dict[Setting, list[Labels | None]] = {setting: [] for setting in settings}
    for rows in resamples:
        resample, once = sample[rows], sample[np.unique(rows)]
        tree: Any = None
        for setting in settings:
            if setting.method == "Ward":
                # One tree holds all numbers of groups.
                tree = _tree(resample) if tree is None else tree
                found[setting].append(_centred(resample, _cut(tree, setting.groups)).of(sample))
            else:
                learned = once if setting.method == "HDBSCAN" else resample
                partition = fit(learned, setting, restarts=RESTARTS, seed=seed)
                found[setting].append(None if partition is None else partition.of(sample))
    return found


def _centred(points: Points, labels: Labels) -> Partition:
    import numpy as np

    sizes = np.bincount(labels)
    sums = np.stack([np.bincount(labels, weights=column) for column in points.T], axis=1)
    return Partition(sums / sizes[:, None], np.arange(len(sizes)))


def _ward(points: Points, groups: int, seed: int) -> Labels:
    if len(points) <= MICRO_ABOVE:
        return _cut(_tree(points), groups)
    import numpy as np
    from sklearn.cluster import MiniBatchKMeans

    micro = MiniBatchKMeans(MICRO_CLUSTERS, random_state=seed, n_init=3, batch_size=4_096).fit(points)
    # Where its last batch left a centre is not where its points lie.
    held, labels = np.unique(micro.labels_, return_inverse=True)
    sizes = np.bincount(labels)
    assert len(held) == len(sizes)
    return ward_of_weighted(_centred(points, labels).places, sizes, groups)[labels]


def _tree(points: Points) -> Any:
    from scipy.cluster.hierarchy import linkage

    return linkage(points, "ward")


def _cut(tree: Any, groups: int) -> Labels:
    import numpy as np
    from scipy.cluster.hierarchy import fcluster

    _, labels = np.unique(fcluster(tree, groups, criterion="maxclust"), return_inverse=True)
    return labels


def ward_of_weighted(centres: Points, weights: npt.NDArray[np.int64], groups: int) -> Labels:
    """Ward's hierarchy over micro-clusters: the pair whose union adds the least variance is merged, until `groups` are left.

    What a union of groups of weight v and w with squared distance d between their centres adds is v w d / (v + w)
    (Ward 1963); with all weights 1 this is the hierarchy of the points themselves.
    """
    import numpy as np

    places, mass = centres.astype(float).copy(), weights.astype(float).copy()
    labels = np.arange(len(places))

    def cost_of(row: int) -> npt.NDArray[np.float64]:
        distance = ((places - places[row]) ** 2).sum(axis=1)
        cost = mass * mass[row] / np.maximum(mass + mass[row], 1e-300) * distance
        cost[~alive] = np.inf
        cost[row] = np.inf
        return np.asarray(cost)

    alive = np.ones(len(places), dtype=bool)
    costs = np.stack([cost_of(row) for row in range(len(places))])
    for _ in range(len(places) - groups):
        keep, gone = sorted(np.unravel_index(int(costs.argmin()), costs.shape))
        places[keep] = (mass[keep] * places[keep] + mass[gone] * places[gone]) / (mass[keep] + mass[gone])
        mass[keep] += mass[gone]
        alive[gone] = False
        labels[labels == gone] = keep
        costs[gone, :] = costs[:, gone] = np.inf
        costs[keep, :] = costs[:, keep] = cost_of(int(keep))
    _, numbered = np.unique(labels, return_inverse=True)
    return numbered
