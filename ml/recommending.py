"""The affinity model: judge a blend on the newest weeks, and make everyone's list, by the contract of `ml.model`.

What is kept of training is a recipe: how own history, similar items and present sales are weighed. What items say for
each other is learned anew at each scoring, from everything known by then: a product that came yesterday is on lists
today, and a champion that stays for months does not age.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ml import affinity, interactions
from ml.affinity import Blend, Recommender, Settings
from ml.drift import reference_of
from ml.interactions import Known
from ml.model import Contest, Evaluation, FollowUp, Refused, Scored, Table, Trained
from ml.recommendation_lists import CHECKS, FEATURES, Lists, category_affinities, similar_products
from ml.recommendation_metrics import (
    bootstrap_interval,
    coverage,
    diversity,
    ndcg_at_k,
    new_to_the_customer,
    recall_at_k,
)
from ml.registry import label_of

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    from scipy import sparse

METRIC = "NDCG@20"
PERIODS = (28, 90)
"""Days that are held out to judge on: the first in which enough customers bought. History must be three times as long."""
JUDGED_MIN = 50  # customers with a history who bought in the period
JUDGED_MAX = 20_000  # beyond, the interval is narrow enough: every so many-th customer
REFERENCE_MAX = 2_000  # customers that drift is measured against: by chance alone an index of .005
GROUP_MIN = 100  # customers; a smaller subgroup is not judged

_MEASURES = (("recall", "all"), ("ndcg", "all"), ("recall", "new"), ("ndcg", "new"))
_SAID = {"recall": "recall@20", "ndcg": METRIC}
_TRAITS = ("age_band", "gender", "region_type")
_OURS, _OWN, _POPULAR, _SIMILAR = "blend", "own history", "popularity", "similar items alone"


@dataclass(frozen=True)
class Recipe:
    """What scores: weights of a blend, and constants. What it is applied to is read anew."""

    blend: Blend
    settings: Settings


# Both under the same rules as ours: what is not available or was just bought is on nobody's list.
_BASELINES: Mapping[str, Recipe] = {
    _OWN: Recipe(Blend(own=1.0, similar=0.0, trending=0.0), Settings(fill_by_category=False)),
    _POPULAR: Recipe(Blend(own=0.0, similar=0.0, trending=1.0), Settings(fill_by_category=False)),
}

Figures = Mapping[tuple[str, str], "npt.NDArray[np.float64]"]
"""By (metric, over which items): a figure for each judged customer, NaN where there is nothing to find."""


@dataclass(frozen=True)
class Holdout:
    """The newest days, and what was known before them.

    Attributes:
        before: what was known.
        days: held out.
        customers: rows of those who are judged: with a history, and a purchase since.
        bought: what they bought since, 1 each.
    """

    before: Known
    days: int
    customers: npt.NDArray[np.int64]
    bought: sparse.csr_array

    @cached_property
    def learned(self) -> Recommender:
        """What items said for each other by then."""
        return affinity.learn(self.before.interactions, self.before.catalogue)

    def by(self, recipe: Recipe) -> Recommender:
        """The recipe upon what was known then."""
        if _learned_by(recipe.settings) == _learned_by(self.learned.settings):
            return replace(self.learned, blend=recipe.blend, settings=recipe.settings)
        return affinity.learn(
            self.before.interactions, self.before.catalogue, blend=recipe.blend, settings=recipe.settings
        )

    def lists(self, recipe: Recipe) -> npt.NDArray[np.int32]:
        """What the recipe would have recommended, judged customers x k."""
        return affinity.ranked(self.by(recipe), self.customers)

    def judge(self, recipe: Recipe) -> Figures:
        """How the recipe did, over all items and over those new to the customer."""
        history = self.learned.own[self.customers]
        new = new_to_the_customer(self.bought, history)
        found = self.lists(recipe)
        found_new = affinity.ranked(self.by(recipe), self.customers, only_new=True)
        return {
            ("recall", "all"): recall_at_k(found, self.bought),
            ("ndcg", "all"): ndcg_at_k(found, self.bought),
            ("recall", "new"): recall_at_k(found_new, new),
            ("ndcg", "new"): ndcg_at_k(found_new, new),
        }


@dataclass(frozen=True)
class AffinityModel:
    """Recommendations for each customer, similar products for each product, and each customer's categories."""

    name: str
    question: str
    baseline: str

    @property
    def features(self) -> Sequence[str]:
        """None: what customers did with products is read, not what is known of them."""
        return ()

    @property
    def reads(self) -> Sequence[str]:
        """Marts alone; of customers' traits only what subgroups are judged by."""
        return (*interactions.READS, "marts.dim_customers")

    @property
    def checks(self) -> Mapping[str, str]:
        """How lists spread over products, and how they differ."""
        return CHECKS

    def train(self, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> Trained:
        """Choose a blend on the weeks before the newest, judge it on those, and keep it if it beats both baselines.

        Raises:
            Refused: too few customers or items, or too few who bought since.
        """
        now = interactions.read(connection, as_of)
        _learnable(now)
        held = hold_out(connection, as_of, now)
        chosen, trials = affinity.choose_blend(held.before.interactions, held.before.catalogue, days=held.days)
        recipe = Recipe(chosen, Settings())
        judged = {name: held.judge(one) for name, one in _rivals(recipe).items()}
        best = max(_BASELINES, key=lambda name: _mean(judged[name]["ndcg", "all"]))
        contest = contest_of(judged[_OURS], judged[best])
        kept = recipe if contest.beats else _BASELINES[best]
        evaluation = self._evaluation(connection, held, recipe, judged, best, trials)

        def against(champion: Any) -> Contest:
            return contest_of(judged[_OURS], held.judge(_recipe(champion)))

        return Trained(
            label=label_of(as_of, [self.name, repr(Settings()), repr(affinity.BLENDS)], _digest(now, held.before)),
            features=FEATURES,
            estimator=kept,
            evaluation=evaluation,
            against=against,
            reference=_reference(now, kept),
        )

    def score(self, estimator: Any, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> Scored:
        """Make everyone's list from what is known at `as_of`, also of those who never did anything.

        Raises:
            Refused: too few customers or items, an estimator that is none, or a column that is missing.
        """
        from ml.plots.recommendations import concentration

        recipe = _recipe(estimator)
        now = interactions.read(connection, as_of)
        _learnable(now)
        recommender = affinity.learn(now.interactions, now.catalogue, blend=recipe.blend, settings=recipe.settings)
        made = Lists.of(now, recommender)
        return Scored(
            tables={
                "recommendations": made.table,
                "similar_products": similar_products(recommender),
                "category_affinities": category_affinities(now, recommender),
            },
            frame=made.frame,
            findings=made.findings(),
            report=made.report(),
            pictures={
                "How recommendations spread over products": concentration(
                    made.on_lists[now.catalogue.recommendable], len(now.customers)
                )
            },
        )

    def follow_up(self, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> FollowUp:
        """Nothing: of lists only today's are kept, and each training judges the recipe on what was bought since."""
        return FollowUp()

    def _evaluation(
        self,
        connection: duckdb.DuckDBPyConnection,
        held: Holdout,
        recipe: Recipe,
        judged: Mapping[str, Figures],
        best: str,
        trials: Sequence[affinity.Trial],
    ) -> Evaluation:
        from ml.plots.recommendations import methods

        lists = held.lists(recipe)
        catalogue = held.before.catalogue
        ours, contest = judged[_OURS], contest_of(judged[_OURS], judged[best])
        diverse = diversity(lists, catalogue.category_numbers)
        intervals = {
            name: {measure: bootstrap_interval(figures[measure]) for measure in _MEASURES}
            for name, figures in judged.items()
        }
        figures = {
            f"{metric}_at_20_{over}{_slug(name)}": intervals[name][metric, over][0]
            for name in judged
            for metric, over in _MEASURES
        }
        popular_new = figures["recall_at_20_new_popularity"]
        first = held.before.on
        return Evaluation(
            judged_on=(
                f"what was bought from {first} to {first + timedelta(days=held.days - 1)} by customers known before"
            ),
            rows=len(held.customers),
            baseline=contest,
            figures={name: value for name, value in figures.items() if value == value}
            | {
                "new_recall_by_popularity": figures["recall_at_20_new"] / popular_new if popular_new else 0.0,
                "coverage": coverage(lists, max(int(catalogue.recommendable.sum()), 1)),
                "diversity": _mean(diverse),
                **{f"blend_{name}": float(getattr(recipe.blend, name)) for name in ("own", "similar", "trending")},
            },
            tables={
                f"Lists of 20 against what was bought in {held.days} days": _methods_table(intervals),
                "Gain over the baselines": Table(
                    ("against", "metric", "ours", "theirs", "gain", "low", "high"),
                    tuple(_gains(judged)),
                ),
                "Customers by what was known of them": _by_group(_history_groups(held), ours, judged[best], best),
                "Subgroups": _by_group(_trait_groups(connection, held), ours, judged[best], best),
                "Blends tried on the period before": _trials_table(trials),
            },
            pictures={"Recommendations against the baselines": methods(intervals, best, held.days)},
        )


def hold_out(connection: duckdb.DuckDBPyConnection, as_of: datetime, now: Known) -> Holdout:
    """The shortest of `PERIODS` in which enough customers with a history bought something.

    Raises:
        Refused: there is none, or history is not three times as long.
    """
    import numpy as np

    oldest = float(now.interactions.ages.max())
    if oldest < 3 * PERIODS[0]:
        raise Refused(
            f"interactions reach back {oldest:.0f} days; to hold out {PERIODS[0]} for judging, {3 * PERIODS[0]} are needed"
        )
    found = 0
    for days in (days for days in PERIODS if oldest >= 3 * days):
        before = interactions.read(connection, as_of, days_before=days)
        _, bought = now.interactions.held_out(days)
        customers = np.flatnonzero((np.diff(bought.indptr) > 0) & ~np.isnan(before.last_ages))
        found = len(customers)
        if found >= JUDGED_MIN and affinity.refusal(before.interactions, before.catalogue) is None:
            if found > JUDGED_MAX:
                customers = customers[np.linspace(0, found - 1, JUDGED_MAX).astype(int)]
            return Holdout(before, days, customers, bought[customers])
    raise Refused(
        f"{found} customers known before bought goods in the last {days} days; to judge recommendations {JUDGED_MIN} are"
        " needed"
    )


def contest_of(ours: Figures, theirs: Figures) -> Contest:
    """By NDCG@20 over all items, on resamples of customers."""
    return _contest(METRIC, ours["ndcg", "all"], theirs["ndcg", "all"])


def _contest(metric: str, ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> Contest:
    _, low, high = bootstrap_interval(ours - theirs)
    return Contest(metric, _mean(ours), _mean(theirs), low, high)


def _rivals(recipe: Recipe) -> Mapping[str, Recipe]:
    """What is judged: ours, the baselines, and one part of ours alone."""
    alone = Recipe(Blend(own=0.0, similar=1.0, trending=0.0), recipe.settings)
    return {_OURS: recipe, **_BASELINES, _SIMILAR: alone}


def _learnable(known: Known) -> None:
    reason = affinity.refusal(known.interactions, known.catalogue)
    if reason is not None:
        raise Refused(reason)


def _recipe(estimator: Any) -> Recipe:
    if not isinstance(estimator, Recipe):
        raise Refused(f"the estimator is a {type(estimator).__name__}, and no recipe of recommendations")
    return estimator


def _learned_by(settings: Settings) -> Settings:
    """The settings with all that only matters for making lists set to the defaults."""
    plain = Settings()
    return replace(settings, k=plain.k, chunk=plain.chunk, fill_by_category=plain.fill_by_category)


def _reference(now: Known, recipe: Recipe) -> Mapping[str, Any]:
    """Of all, or of every so many-th customer: ids are hashes, and so is their order."""
    import numpy as np

    recommender = affinity.learn(now.interactions, now.catalogue, blend=recipe.blend, settings=recipe.settings)
    customers = len(now.customers)
    drawn = np.linspace(0, customers - 1, min(customers, REFERENCE_MAX)).astype(np.int64)
    return reference_of(Lists.of(now, recommender, drawn).frame, (*FEATURES, "score"))


def _digest(*known: Known) -> pd.DataFrame:
    import pandas as pd

    return pd.concat([one.digest() for one in known], ignore_index=True)


def _slug(name: str) -> str:
    """What tells a rival's figure from ours: nothing, for ours."""
    return "" if name == _OURS else f"_{name.replace(' ', '_')}"


def _methods_table(intervals: Mapping[str, Mapping[tuple[str, str], tuple[float, float, float]]]) -> Table:
    columns = ("method", *(f"{_SAID[metric]}, {over} items" for metric, over in _MEASURES))
    said = (
        (name, *("{:.3f} ({:.3f} to {:.3f})".format(*by[measure]) for measure in _MEASURES))
        for name, by in intervals.items()
    )
    return Table(columns, tuple(said))


def _gains(judged: Mapping[str, Figures]) -> Iterator[tuple[Any, ...]]:
    for name in _BASELINES:
        for metric, over in _MEASURES:
            contest = _contest(_SAID[metric], judged[_OURS][metric, over], judged[name][metric, over])
            said = f"{contest.metric}, {over} items"
            yield (name, said, contest.model, contest.other, contest.gain, contest.low, contest.high)


def _trials_table(trials: Sequence[affinity.Trial]) -> Table:
    columns = ("own history", "similar", "present sales", *(f"{_SAID[metric]}, {over}" for metric, over in _MEASURES))
    ordered = sorted(trials, key=lambda trial: -trial.score)
    return Table(
        columns,
        tuple(
            (
                trial.blend.own,
                trial.blend.similar,
                trial.blend.trending,
                trial.recall,
                trial.ndcg,
                trial.new_recall,
                trial.new_ndcg,
            )
            for trial in ordered
        ),
    )


def _by_group(groups: Iterator[tuple[str, npt.NDArray[np.bool_]]], ours: Figures, theirs: Figures, best: str) -> Table:
    """Ours and the best baseline by group of the judged customers; a small group says its size alone."""
    rows = []
    for name, members in groups:
        size = int(members.sum())
        judged = size >= GROUP_MIN
        rows.append(
            (
                name,
                size,
                *(_mean(figures["ndcg", "all"][members]) if judged else None for figures in (ours, theirs)),
            )
        )
    return Table(("group", "customers", f"{METRIC}, {_OURS}", f"{METRIC}, {best}"), tuple(rows))


def _history_groups(held: Holdout) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """By how many products the history holds."""
    import numpy as np

    known = np.diff(held.learned.own.indptr)[held.customers]
    for low, high in ((1, 5), (6, 20), (21, 100), (101, None)):
        inside = (known >= low) & (known <= (high or known.max(initial=0)))
        yield (f"{low} to {high} products" if high else f"{low} products or more"), inside


def _trait_groups(connection: duckdb.DuckDBPyConnection, held: Holdout) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """By what is known of the customers themselves."""
    traits = connection.execute(
        f"select {', '.join(_TRAITS)} from marts.customer_permissions left join marts.dim_customers using (customer_id)"
        " where may_be_profiled order by customer_id"
    ).df()
    judged = traits.iloc[held.customers]
    for trait in _TRAITS:
        values = judged[trait].fillna("unknown").astype(str).to_numpy()
        for value in sorted(set(values)):
            yield f"{trait.replace('_', ' ')}: {value}", values == value


def _mean(figures: npt.NDArray[np.float64]) -> float:
    """Mean of those that are known; 0 if none is."""
    import numpy as np

    known = figures[~np.isnan(figures)]
    return float(known.mean()) if len(known) else 0.0
