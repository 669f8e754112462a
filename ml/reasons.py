"""Why a customer has the score they have: what each feature added, and the three that moved it most.

What is added up is exact: over all features, contributions are the candidate's own output less its mean in training.
How it is shared out among features differs:

- logistic regression: coefficient times distance from the mean (in log-odds; the Shapley value where features are taken
  to be independent);
- trees: along the path to its leaf, each split's feature gets the change of the mean that the split brought (Saabas
  2014). For a forest in probability, for boosting in log-odds. Unlike Shapley values over trees it gives splits nearer
  the leaf somewhat more; for three names it is a hundred times cheaper, and needs no further package.

Features that say the same (orders in 90 and in 180 days) share between them. A contribution explains the score, and is
no effect: changing the feature need not change the customer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

REASONS = 3
_WORDS = {
    "age_days": "days since last order",
    "tenure_days": "days since first order",
    "order_days": "days with an order",
    "spend_total": "spend of all time",
    "mean_gap_days": "mean days between orders",
    "last_gap_days": "days between the last two orders",
    "longest_gap_days": "longest gap between orders",
    "gap_variation": "irregularity of orders",
    "overdue_ratio": "overdue against own rhythm",
    "orders_change_90": "change in orders over 90 days",
    "season_share": "orders in one season",
    "last_quarter_share": "orders from October to December",
    "weekend_share": "orders at weekends",
    "visit_age_days": "days since last visit",
    "click_age_days": "days since last click in mail",
    "discount_share_365": "share of discount in 365 days",
}
_STEMS = {
    "returns": "returned goods",
    "categories": "categories bought",
    "products": "products bought",
    "sessions": "visits",
    "product_views": "products viewed",
    "carts": "products put in a cart",
    "delivered": "mails delivered",
    "clicked": "mails clicked",
}
_CHUNK = 65_536  # rows at a time: 9 MB of 35 features, which stays in cache
_MOST_LEAVES = 16


def contributions(pipeline: Pipeline, values: np.ndarray) -> np.ndarray:
    """What each feature adds to the candidate's output, against its mean in training.

    Args:
        pipeline: a fitted candidate of `ml.candidates`.
        values: shape (rows, features), NaN where missing.

    Returns:
        Shape (rows, features).

    Raises:
        ValueError: the pipeline ends in something that this does not know.
    """
    explain = _explainer(pipeline, values.shape[1])
    parts = [explain(values[start : start + _CHUNK]) for start in range(0, len(values), _CHUNK)]
    return np.concatenate(parts) if parts else np.zeros(values.shape)


def top_reasons(pipeline: Pipeline, values: np.ndarray, features: tuple[str, ...]) -> pd.DataFrame:
    """The features that moved each row's score most, strongest first; of equal ones the first by position.

    Returns:
        Columns reason_1, direction_1 to reason_3, direction_3; direction is `up` where the feature raised the
        probability and `down` where it lowered it. Null where fewer features moved the score.
    """
    explain = _explainer(pipeline, len(features))
    found = np.full((len(values), REASONS), len(features), dtype=np.int16)
    raised = np.full((len(values), REASONS), 2, dtype=np.int8)
    for start in range(0, len(values), _CHUNK):
        # Rounded, so that a last bit decides no order.
        moved = np.round(explain(values[start : start + _CHUNK]), 9)
        strength, rows = np.abs(moved), np.arange(len(moved))
        for rank in range(min(REASONS, len(features))):
            first = strength.argmax(axis=1)
            some = strength[rows, first] > 0
            found[start : start + len(moved), rank] = np.where(some, first, len(features))
            raised[start : start + len(moved), rank] = np.where(some, moved[rows, first] > 0, 2)
            strength[rows, first] = -1
    columns: dict[str, pd.Categorical[Any]] = {}
    for rank in range(REASONS):
        known = found[:, rank] < len(features)
        columns[f"reason_{rank + 1}"] = pd.Categorical.from_codes(
            np.where(known, found[:, rank], -1).astype(int), categories=pd.Index(list(features))
        )
        columns[f"direction_{rank + 1}"] = pd.Categorical.from_codes(
            np.where(known, raised[:, rank], -1).astype(int), categories=pd.Index(["down", "up"])
        )
    return pd.DataFrame(columns)


def in_words(feature: str) -> str:
    """A feature as a marketer calls it, such as `days since last order` for age_days."""
    if feature in _WORDS:
        return _WORDS[feature]
    stem, _, days = feature.rpartition("_")
    if stem and days.isdigit():
        return f"{_STEMS.get(stem, stem.replace('_', ' '))} in {days} days"
    return feature.replace("_", " ")


def codes(reasons: pd.DataFrame) -> list[list[str | None]]:
    """What `top_reasons` found as scores carry it, such as `days since last order +`: the feature in words and its way.

    `+` is written where it raised the score, `-` where it lowered it; None stands where fewer features moved the score.

    Returns:
        One list per rank, the strongest first, each as long as `reasons`.
    """
    found: list[list[str | None]] = []
    for rank in range(1, REASONS + 1):
        names = [in_words(str(name)) for name in reasons[f"reason_{rank}"].cat.categories]
        which = reasons[f"reason_{rank}"].cat.codes.to_numpy()
        raised = (reasons[f"direction_{rank}"] == "up").to_numpy()
        table = np.array([[f"{name} -", f"{name} +"] for name in names] + [[None, None]], dtype=object)
        found.append(table[which, raised.astype(int)].tolist())
    return found


def _explainer(pipeline: Pipeline, features: int) -> Any:
    """A function from values, shape (rows, features), to contributions of the same shape."""
    final = pipeline.named_steps["classify"]
    kind = type(final).__name__
    before: Any = pipeline[:-1]
    sources = _sources(pipeline, features)
    if kind == "LogisticRegression":
        # After scaling, each column has mean 0 in training.
        return lambda values: _gather(before.transform(values) * final.coef_[0], sources, features)
    if kind == "RandomForestClassifier":
        tables = [_forest_table(tree.tree_, sources, features) for tree in final.estimators_]
        return lambda values: _forest(final, tables, before.transform(values), features)
    if kind == "HistGradientBoostingClassifier":
        # The nodes are no documented interface of scikit-learn: a test adds contributions up to its own prediction.
        trees = [_BoostedTree(stage[0].nodes) for stage in final._predictors]
        return lambda values: _boosting(trees, values)
    raise ValueError(f"no reasons are known for {kind}")


def _sources(pipeline: Pipeline, features: int) -> np.ndarray:
    """Which feature each column comes from that reaches the classifier: indicators belong to the feature they tell of."""
    own = np.arange(features)
    if "impute" not in pipeline.named_steps:
        return own
    return np.concatenate([own, pipeline.named_steps["impute"].indicator_.features_]).astype(int)


def _gather(added: np.ndarray, sources: np.ndarray, features: int) -> np.ndarray:
    total = added[:, :features].copy()
    for column, source in enumerate(sources[features:], start=features):
        total[:, source] += added[:, column]
    return total


def _forest(forest: Any, tables: list[np.ndarray], values: np.ndarray, features: int) -> np.ndarray:
    single = values.astype(np.float32)
    total = np.zeros((len(values), features))
    for tree, table in zip(forest.estimators_, tables, strict=True):
        total += table[tree.tree_.apply(single)]
    return total / len(tables)


def _forest_table(tree: Any, sources: np.ndarray, features: int) -> np.ndarray:
    """Per node, what each feature added on the way there; shape (nodes, features)."""
    share = tree.value[:, 0, 1] / tree.value[:, 0].sum(axis=1)
    table = np.zeros((tree.node_count, features))
    for node in range(tree.node_count):  # children come after their parent
        for child in (tree.children_left[node], tree.children_right[node]):
            if child >= 0:
                table[child] = table[node]
                table[child, sources[tree.feature[node]]] += share[child] - share[node]
    return table


class _BoostedTree:
    """One tree of a boosting: its leaves found by masks (QuickScorer, Lucchese et al. 2015), and what they add.

    Every split strikes out, in a mask with one bit per leaf, those that lie on its other side; the lowest bit that is
    left is the leaf. So each split is one comparison over a column, in place of a walk per row.
    """

    def __init__(self, nodes: np.ndarray) -> None:
        means, leaves = nodes["value"].astype(float).copy(), [0] * len(nodes)
        numbers: list[int] = []
        self._number(nodes, 0, means, leaves, numbers)
        if len(numbers) > _MOST_LEAVES:
            raise ValueError(f"a tree has {len(numbers)} leaves, reasons follow at most {_MOST_LEAVES}")
        split = [node for node in range(len(nodes)) if not nodes[node]["is_leaf"]]
        every = (1 << len(numbers)) - 1
        self.splits = [
            (
                int(nodes[node]["feature_idx"]),
                float(nodes[node]["num_threshold"]),
                bool(nodes[node]["missing_go_to_left"]),
                np.uint16(every & ~leaves[nodes[node]["right"]]),
                np.uint16(every & ~leaves[nodes[node]["left"]]),
            )
            for node in split
        ]
        used = sorted({feature for feature, *_ in self.splits})
        self.used = used
        self.table = np.zeros((len(used), len(numbers)))
        position = {feature: place for place, feature in enumerate(used)}
        for node in split:
            row = position[int(nodes[node]["feature_idx"])]
            for child in (nodes[node]["left"], nodes[node]["right"]):
                for leaf in range(len(numbers)):
                    if leaves[child] >> leaf & 1:
                        self.table[row, leaf] += means[child] - means[node]
        self.every = np.uint16(every)
        self.mean = float(means[0])

    def _number(self, nodes: np.ndarray, node: int, means: np.ndarray, leaves: list[int], numbers: list[int]) -> None:
        """Give leaves below `node` their bits from left to right, and inner nodes the mean of their rows in training."""
        if nodes[node]["is_leaf"]:
            leaves[node] = 1 << len(numbers)
            numbers.append(node)
            return
        left, right = int(nodes[node]["left"]), int(nodes[node]["right"])
        self._number(nodes, left, means, leaves, numbers)
        self._number(nodes, right, means, leaves, numbers)
        leaves[node] = leaves[left] | leaves[right]
        rows = float(nodes[left]["count"]), float(nodes[right]["count"])
        means[node] = (means[left] * rows[0] + means[right] * rows[1]) / sum(rows)

    def add(self, columns: np.ndarray, missing: dict[int, np.ndarray], total: np.ndarray) -> None:
        """Add what this tree gives each feature; `columns` and `total` have shape (features, rows)."""
        if not self.splits:
            return
        mask = np.full(columns.shape[1], self.every, dtype=np.uint16)
        for feature, threshold, missing_left, to_left, to_right in self.splits:
            left = columns[feature] <= threshold
            if missing_left and feature in missing:
                left |= missing[feature]
            mask &= np.where(left, to_left, to_right)
        leaf = _LOWEST_BIT[mask]
        for place, feature in enumerate(self.used):
            total[feature] += self.table[place].take(leaf)


def _boosting(trees: list[_BoostedTree], values: np.ndarray) -> np.ndarray:
    columns = np.ascontiguousarray(values.T)
    missing = {feature: where for feature, column in enumerate(columns) if (where := np.isnan(column)).any()}
    total = np.zeros(columns.shape)
    for tree in trees:
        tree.add(columns, missing, total)
    return total.T


def _lowest_bits() -> np.ndarray:
    """For each mask of 16 bits, the position of its lowest one."""
    masks = np.arange(1 << _MOST_LEAVES, dtype=np.int64)
    lowest: np.ndarray = np.log2(np.maximum(masks & -masks, 1)).astype(np.intp)
    return lowest


_LOWEST_BIT = _lowest_bits()
