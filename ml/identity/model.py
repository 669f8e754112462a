"""The linkage model: a Splink model whose parameters are estimated from the records themselves, without labels.

What is estimated, and how:

- *u*, how often different persons agree at a level: Splink's random sampling, with a seed, less the matches that EM
  expects among the random pairs. In small data full of duplicates, and of columns that few records hold, that is most
  of those that agree.
- *m*, how often records of one person agree: expectation maximisation over the pairs of all blocking rules together,
  each weighed with its term frequencies. Pairs outside all rules count as different persons, so this is EM over the
  whole population, and needs no rule left out of its own estimate, as separate sessions do. A level that the data do
  not show keeps its default, which weighs as much as a few pairs. Pairs that conflict (see `conflicts`) are no match.
- *lambda*, the chance that two random records are one person: the matches that the same EM expects, over all pairs.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ml.identity import blocking
from ml.identity import comparisons as compare
from ml.identity.blocking import Rule
from ml.identity.comparisons import Comparison
from ml.identity.keys import Prepared

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    from numpy.typing import NDArray

SEED = 20240229
TRAINING_PAIRS = 3_000_000
"""Candidate pairs that EM reads; of larger data a sample of records is compared with all."""

RANDOM_PAIRS = 1_500_000
"""Random pairs that u is estimated from."""

_ITERATIONS = 40
_CONVERGED = 1e-4
_DEFAULT_PAIRS = 5.0  # matching pairs that a default m counts for
_DEFAULT_RANDOM_PAIRS = 20.0  # random pairs that a default u counts for
_UNSEEN_VALUES = 100
_SAMPLE_RECORDS = 1_000  # records whose pairs tell how often two records can be compared at all
_PROBABILITY_MIN = 1e-7
FLOOR = -4.0
"""Match weight, in bits, below which a pair is not kept: a probability of 6 %."""

THRESHOLD = 1.0
"""Match weight, in bits, from which two records are one person: odds of two to one, a probability of 2/3.

A decision is best made where the expected costs of both errors are equal. Of a wrong link (someone reads another's mail)
and a missed one (someone gets mail twice) the former is taken to be twice as bad.
"""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class IdentityModel:
    """What training found. Holds no values of records, and can be kept as JSON.

    Attributes:
        columns: person columns that it compares.
        settings: Splink's settings, with all parameters.
        rules: blocking rules, in the order of `settings`.
        frequencies: keys whose term frequencies it uses.
        agreements: comparison -> the person columns that agree at each level, highest first.
        threshold: match weight in bits from which a pair is one person; see `THRESHOLD`.
        expected_precision: of the pairs from the threshold up, by the model's own probabilities.
        expected_recall: of all pairs of one person that blocking finds, by the model's own probabilities.
    """

    columns: tuple[str, ...]
    settings: Mapping[str, Any]
    rules: tuple[Rule, ...]
    frequencies: tuple[str, ...]
    agreements: Mapping[str, list[list[str]]]
    threshold: float
    expected_precision: float = 1.0
    expected_recall: float = 1.0
    seed: int = SEED
    version: int = field(default=1)

    def to_json(self) -> str:
        """The model as text, the same for the same model."""
        return json.dumps(asdict(self), sort_keys=True, indent=1)

    @classmethod
    def from_json(cls, text: str) -> IdentityModel:
        """The model that `to_json` wrote."""
        read = json.loads(text)
        read["rules"] = tuple(Rule(**{**rule, "keys": tuple(rule["keys"])}) for rule in read["rules"])
        read["columns"] = tuple(read["columns"])
        read["frequencies"] = tuple(read["frequencies"])
        return cls(**read)


def train(
    connection: duckdb.DuckDBPyConnection, prepared: Prepared, *, seed: int = SEED, progress: Progress | None = None
) -> IdentityModel:
    """Choose comparisons and blocking rules for the columns of `prepared`, and estimate the model's parameters."""
    say = progress or (lambda _: None)
    chosen = compare.compare(prepared.columns)
    say("Choose blocking rules")
    rules = blocking.choose(connection, prepared.table, prepared.columns, prepared.records)
    keys = compare.frequencies(chosen)
    if not rules or not chosen:
        return _untrained(prepared, chosen, rules, keys, seed)
    with workspace(connection) as work:
        blocking.add_keys(connection, prepared.table, rules, out=f"{work}.keyed")
        connection.execute(f"use {work}")
        say("Estimate how often different persons agree")
        random = _random_pairs(connection, chosen, rules, prepared.records, seed)
        say("Estimate how often records of one person agree")
        pairs = _training_pairs(connection, chosen, rules, prepared.records, seed)
    fitted = fit(chosen, pairs, random, records=prepared.records)
    precision, recall = expected(fitted.probabilities, fitted.weights)
    return IdentityModel(
        columns=prepared.columns,
        settings=settings(chosen, rules, prior=fitted.prior, m=fitted.m, u=fitted.u),
        rules=tuple(rules),
        frequencies=tuple(keys),
        agreements=compare.agreements(chosen),
        threshold=THRESHOLD,
        expected_precision=precision,
        expected_recall=recall,
        seed=seed,
    )


@dataclass(frozen=True)
class Pairs:
    """Candidate pairs as EM reads them.

    Attributes:
        levels: pairs x comparisons; 0 where nothing can be said, else 1 + position of the level, highest first.
        rarity: comparison position -> for each pair log2 of 1 / term frequency, at the levels that use one.
        scale: matches in all pairs for each match in these; 1 unless they are a sample.
    """

    levels: NDArray[np.int8]
    rarity: Mapping[int, NDArray[np.float32]]
    scale: float


@dataclass(frozen=True)
class Fit:
    """Estimated parameters; `m` and `u` by comparison and level, highest first. Weights are those of the pairs, in bits."""

    prior: float
    m: Sequence[Sequence[float]]
    u: Sequence[Sequence[float]]
    weights: NDArray[np.float64]
    probabilities: NDArray[np.float64]


def fit(chosen: Sequence[Comparison], pairs: Pairs, random_pairs: Sequence[Sequence[float]], *, records: int) -> Fit:
    """Expectation maximisation over candidate pairs, with what random pairs show known.

    Args:
        random_pairs: by comparison and level, how many of `random_count(records)` random pairs are at it; they hold
            matches, too.
        records: how many there are: with the pairs' scale it gives the chance that two random ones match.
    """
    import numpy as np

    total = max(records * (records - 1) / 2, 1.0)
    prior = min(1 / max(records, 2), 0.5)
    m = [np.array([level.m for level in comparison.levels]) for comparison in chosen]
    m = [values / values.sum() for values in m]
    defaults = [values.copy() for values in m]
    unlike = [np.array([level.u for level in comparison.levels]) for comparison in chosen]
    unlike = [_DEFAULT_RANDOM_PAIRS * values / values.sum() for values in unlike]
    drawn = [np.array(counts) for counts in random_pairs]
    u = [(counts + default) / (counts + default).sum() for counts, default in zip(drawn, unlike, strict=True)]
    drawn_share = random_count(records) / total
    impossible = conflicting(chosen, pairs.levels)
    at_levels = [pairs.levels[:, column].astype(np.intp) for column in range(len(chosen))]
    weights = np.zeros(len(pairs.levels))
    probabilities = np.zeros(len(pairs.levels))
    for _ in range(_ITERATIONS):
        weights = _weights(chosen, at_levels, pairs.rarity, prior, m, u)
        probabilities = np.where(impossible, 0.0, 1 / (1 + np.exp2(-np.clip(weights, -500, 500))))
        moved = 0.0
        for column, level_of in enumerate(at_levels):
            counts = np.bincount(level_of, weights=probabilities, minlength=len(m[column]) + 1)[1:]
            estimate = (counts + _DEFAULT_PAIRS * defaults[column]) / (counts.sum() + _DEFAULT_PAIRS)
            moved = max(moved, float(np.abs(estimate - m[column]).max()))
            m[column] = estimate
            matches = counts * pairs.scale * drawn_share
            others = np.maximum(drawn[column] - matches, 0.02 * drawn[column]) + unlike[column]
            u[column] = np.maximum(others / others.sum(), _PROBABILITY_MIN)
        prior = min(max(float(probabilities.sum()) * pairs.scale, 0.5) / total, 0.5)
        if moved < _CONVERGED:
            break
    weights = _weights(chosen, at_levels, pairs.rarity, prior, m, u)
    probabilities = np.where(impossible, 0.0, 1 / (1 + np.exp2(-np.clip(weights, -500, 500))))
    return Fit(prior, [values.tolist() for values in m], [values.tolist() for values in u], weights, probabilities)


def _weights(
    chosen: Sequence[Comparison],
    at_levels: Sequence[NDArray[np.intp]],
    rarity: Mapping[int, NDArray[np.float32]],
    prior: float,
    m: Sequence[NDArray[np.float64]],
    u: Sequence[NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Match weight of each pair in bits, as Splink computes it: prior, levels, and rarity instead of u where it is known."""
    import numpy as np

    total = np.full(len(at_levels[0]) if at_levels else 0, math.log2(prior / (1 - prior)))
    for column, comparison in enumerate(chosen):
        by_level = np.zeros(len(comparison.levels) + 1)
        for position, level in enumerate(comparison.levels):
            by_level[position + 1] = math.log2(m[column][position])
            if level.frequency is None:
                by_level[position + 1] -= math.log2(u[column][position])
        total += by_level[at_levels[column]]
        if column in rarity:
            total += rarity[column]
    return total


def conflicting(chosen: Sequence[Comparison], levels: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Pairs that can't be one person: other given names, and neither birth date nor a personal identifier agrees."""
    import numpy as np

    names = [comparison.name for comparison in chosen]
    if "given_name" not in names:
        return np.zeros(len(levels), dtype=bool)
    column = names.index("given_name")
    conflict = levels[:, column] == len(chosen[column].levels)
    for position, comparison in enumerate(chosen):
        if comparison.name == "date_of_birth" or comparison.name.startswith("id_"):
            agreeing = [place + 1 for place, level in enumerate(comparison.levels) if level.agrees]
            conflict &= ~np.isin(levels[:, position], agreeing)
    flags: NDArray[np.bool_] = conflict
    return flags


def expected(probabilities: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[float, float]:
    """Precision and recall of the pairs from `THRESHOLD` up, by the model's own probabilities, without a label.

    Any set of pairs holds sum(p) matches in expectation, and all candidate pairs hold the sum over all.
    """
    kept = weights >= THRESHOLD
    matches, everything = float(probabilities[kept].sum()), float(probabilities.sum())
    return matches / int(kept.sum()) if kept.any() else 1.0, matches / everything if everything > 0 else 1.0


def settings(
    chosen: Sequence[Comparison],
    rules: Sequence[Rule],
    *,
    prior: float,
    m: Sequence[Sequence[float]] | None = None,
    u: Sequence[Sequence[float]] | None = None,
) -> dict[str, Any]:
    """Splink's settings for the table that `blocking.add_keys` makes."""
    return {
        "link_type": "dedupe_only",
        "unique_id_column_name": "record_id",
        "probability_two_random_records_match": prior,
        "blocking_rules_to_generate_predictions": [f"l.bk_{number} = r.bk_{number}" for number in range(len(rules))],
        "comparisons": [
            comparison.as_splink(m[position] if m else None, u[position] if u else None)
            for position, comparison in enumerate(chosen)
        ],
        "retain_matching_columns": False,
        "retain_intermediate_calculation_columns": True,
    }


@contextmanager
def workspace(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """A database in memory, made current for a block, for the many tables that Splink leaves; then the old one again.

    Splink's logger is silent meanwhile: it writes to the terminal by itself.
    """
    name = "identity_work"
    [(database, schema)] = connection.execute("select current_database(), current_schema()").fetchall()
    logger = logging.getLogger("splink")
    was_disabled, logger.disabled = logger.disabled, True
    level, propagates = logger.level, logger.propagate
    logger.setLevel(logging.CRITICAL + 1)
    connection.execute(f"attach ':memory:' as {name}")
    try:
        yield name
    finally:
        connection.execute(f'use "{database}"."{schema}"')
        connection.execute(f"detach {name}")
        logger.disabled, logger.propagate = was_disabled, propagates
        logger.setLevel(level)


def linker(connection: duckdb.DuckDBPyConnection, table: str, model_settings: Mapping[str, Any]) -> tuple[Any, Any]:
    """A Splink linker on a table of the current database, and its database API."""
    from splink import DuckDBAPI, Linker

    api = DuckDBAPI(connection)
    frame = api.register(table)
    return Linker(frame, dict(model_settings), log_level=None, validate_settings=False), api


def random_count(records: int) -> float:
    """How many random pairs u is estimated from."""
    return min(RANDOM_PAIRS, max(records * (records - 1) / 2, 1.0))


def _random_pairs(
    connection: duckdb.DuckDBPyConnection,
    chosen: Sequence[Comparison],
    rules: Sequence[Rule],
    records: int,
    seed: int,
) -> list[list[float]]:
    """How many of `random_count(records)` random pairs are at each level, by comparison."""
    asked = settings(chosen, rules, prior=0.01)
    for comparison in asked["comparisons"]:
        for level in comparison["comparison_levels"]:
            level.pop("u_probability", None)
    splink, _ = linker(connection, "keyed", asked)
    splink.training.estimate_u_using_random_sampling(
        max_pairs=RANDOM_PAIRS, seed=seed, min_count_per_level=None, num_chunks=1
    )
    found = splink.misc.save_model_to_json()["comparisons"]
    pairs = random_count(records)
    return [
        [
            level.get("u_probability", 0.0) * pairs * comparable
            for level in trained["comparison_levels"]
            if not level.get("is_null_level")
        ]
        for trained, comparable in zip(found, _comparable_shares(connection, chosen), strict=True)
    ]


def count_values(connection: duckdb.DuckDBPyConnection, splink: Any, api: Any, keys: Sequence[str]) -> None:
    """Give Splink the term frequencies of the table `keyed`.

    A hundred further values, none of them seen, are counted in: in a column that only two records hold, and equal,
    their value would be as common as can be, and say nothing.
    """
    for key in keys:
        connection.execute(
            f"""
            create or replace table frequencies_{key} as
            select {key}, count(*) / (sum(count(*)) over () + {_UNSEEN_VALUES}) as tf_{key}
            from keyed
            where {key} is not null
            group by {key}
            """
        )
        splink.table_management.register_term_frequency_lookup(api.register(f"frequencies_{key}"), key)


def _comparable_shares(connection: duckdb.DuckDBPyConnection, chosen: Sequence[Comparison]) -> list[float]:
    """Share of random pairs of which each comparison can say anything.

    Where hardly any record has a value, the few pairs that Splink saw say little about u: one pair that agrees would make
    it 1.
    """
    keys = [row[0] for row in connection.execute("describe keyed").fetchall()]
    sides = ", ".join(f"{side}.{key} as {key}_{side}" for key in keys for side in ("l", "r"))
    told = ", ".join(f"count(*) filter (not coalesce({comparison.nothing}, true))" for comparison in chosen)
    [(pairs, *counts)] = connection.execute(
        f"""
        with sample as (select * from keyed order by hash(record_id), record_id limit {_SAMPLE_RECORDS}),
        sides as (select {sides} from sample as l inner join sample as r on l.record_id < r.record_id)
        select count(*), {told} from sides
        """
    ).fetchall()
    return [count / max(pairs, 1) for count in counts]


_CODE = 10  # u of level n is 2^-(10 + n) and m is 2^-10: Splink's weight of the level is n


def _training_pairs(
    connection: duckdb.DuckDBPyConnection,
    chosen: Sequence[Comparison],
    rules: Sequence[Rule],
    records: int,
    seed: int,
) -> Pairs:
    """Levels and rarity of candidate pairs. Splink is asked with weights that are the levels' numbers."""
    import numpy as np

    codes = [[2.0 ** -(_CODE + 1 + position) for position in range(len(comparison.levels))] for comparison in chosen]
    ones = [[2.0**-_CODE] * len(comparison.levels) for comparison in chosen]
    splink, api = linker(connection, "keyed", settings(chosen, rules, prior=0.5, m=ones, u=codes))
    count_values(connection, splink, api, compare.frequencies(chosen))
    expected = sum(rule.pairs for rule in rules)
    scale = 1.0
    if expected <= TRAINING_PAIRS:
        predicted = splink.inference.predict(warning_mode="never")
        where = ""
    else:
        share = TRAINING_PAIRS / (2 * expected)
        connection.execute(
            f"create or replace table sampled as select * from keyed"
            f" where hash(record_id::varchar || '{seed}') % 1000000 < {round(share * 1_000_000)}"
        )
        [(sampled,)] = connection.execute("select count(*) from sampled").fetchall()
        scale = records / (2 * max(sampled, 1))
        predicted = splink.inference.predict_between(
            api.register("sampled"), api.register("keyed"), warning_mode="never"
        )
        where = "where record_id_l <> record_id_r"
    columns = [
        f"round(mw_{comparison.name})::tinyint as level_{position}" for position, comparison in enumerate(chosen)
    ]
    with_frequency = [
        position for position, comparison in enumerate(chosen) if any(level.frequency for level in comparison.levels)
    ]
    for position in with_frequency:
        name = chosen[position].name
        rare = [str(place + 1) for place, level in enumerate(chosen[position].levels) if level.frequency]
        columns.append(
            f"case when round(mw_{name}) in ({', '.join(rare)}) then mw_tf_adj_{name} + {_CODE} + mw_{name} else 0 end::float"
            f" as rarity_{position}"
        )
    found = connection.execute(
        f"select {', '.join(columns)} from {predicted.physical_name} {where} order by record_id_l, record_id_r"
    ).fetchnumpy()
    api.delete_tables_created_by_splink_from_db()
    return Pairs(
        levels=np.column_stack(
            [np.asarray(found[f"level_{position}"], dtype=np.int8) for position in range(len(chosen))]
        ),
        rarity={position: np.asarray(found[f"rarity_{position}"], dtype=np.float32) for position in with_frequency},
        scale=scale,
    )


def _untrained(
    prepared: Prepared, chosen: Sequence[Comparison], rules: Sequence[Rule], keys: Sequence[str], seed: int
) -> IdentityModel:
    """Too little to learn from: nothing to compare, or no two records that share anything."""
    return IdentityModel(
        columns=prepared.columns,
        settings=settings(chosen, rules, prior=min(1 / max(prepared.records, 2), 0.5)),
        rules=tuple(rules),
        frequencies=tuple(keys),
        agreements=compare.agreements(chosen),
        threshold=THRESHOLD,
        seed=seed,
    )
