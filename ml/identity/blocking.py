"""Which pairs are compared: blocking rules chosen by the columns that there are, and by counting the pairs they make.

A rule is a set of key expressions that must all be equal. Values that very many share (a common surname, 'unknown'
that nobody recognised) would make most of a rule's pairs and hardly any of its matches: such blocks are left out, rule
by rule, until the rule fits its budget.

Which rules are worth their pairs is found out by simulation, as there are no labels. Pairs of records of one person
are drawn as they would be if values were present as often as they are in the data, and now and then mistyped, replaced
or moved away from (`_simulate`). Rules are taken greedily, by how many of the drawn pairs they newly find for the pairs
they make; finding one a second and third time counts too, but less.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ml.identity.columns import identifier_key, is_identifier

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    from numpy.typing import NDArray

PAIRS_PER_RECORD = 15
PAIRS_MIN = 5_000_000
"""The budget of candidate pairs: so many for each record, and for few records at least this."""

RULES_MAX = 24
_RULE_SHARE = 0.25  # of the budget that one rule may take
_BLOCK_MAX = 5_000  # records that may share a key: 12 million pairs
_DRAWN = 4_000  # pairs of one person that are simulated
_WORTH = (1.0, 0.35, 0.1)  # of finding a drawn pair for the first, second, third time
_LEAST_WORTH = 0.002  # of all drawn pairs, below which no further rule is taken

_KEYS: Mapping[str, tuple[str, ...]] = {
    "given": ("given_first", "given_sound", "left(given_first, 3)", "left(given_first, 1)"),
    "surname": ("surname", "surname_sound", "left(surname, 3)", "left(surname, 1)"),
    "birth": ("dob", "dob_year", "substr(dob, 5, 4)"),
    "email": ("email", "email_key", "email_local", "email_digits"),
}
_G, _GS, _G3, _G1 = _KEYS["given"]
_S, _SS, _S3, _S1 = _KEYS["surname"]
_D, _Y, _MD = _KEYS["birth"]
_E, _EK, _EL, _ED = _KEYS["email"]
_PAIR = (
    "case when given_first is not null and surname is not null"
    " then concat(least(given_first, surname), ' ', greatest(given_first, surname)) end"
)
_Z, _C, _R, _A, _ST, _H, _P, _O = "postal", "city", "region", "address", "street", "house", "phone", "occupation"

_CANDIDATES: tuple[tuple[str, ...], ...] = (
    *((_E,), (_EK,), (_EL,), (_P,), (_D,), (_A,), (_Z,), (_ST,), (_S,), (_G,), (_Y,), (_C,), (_SS,), (_GS,), (_MD,)),
    *((_PAIR,), (_SS, _GS), (_S3, _G3), (_S, _G1), (_SS, _G1), (_G, _S1)),
    *((_S, _Y), (_SS, _Y), (_G, _Y), (_GS, _Y), (_S, _MD), (_SS, _MD), (_G, _MD), (_GS, _MD), (_S3, _Y, _G1)),
    *((_D, _G1), (_D, _S1), (_D, _SS), (_D, _GS), (_D, _Z), (_D, _C), (_D, _O), (_D, _R), (_D, _H)),
    *((_S, _Z), (_SS, _Z), (_G, _Z), (_GS, _Z), (_Y, _Z), (_MD, _Z), (_H, _Z), (_O, _Z), (_G1, _Z), (_S1, _Z)),
    *((_S, _C), (_SS, _C), (_G, _C), (_GS, _C), (_Y, _C), (_MD, _C), (_H, _C), (_Y, _C, _G1), (_Y, _C, _S1), (_O, _C)),
    *((_S, _G, _C), (_S, _G, _Z), (_S, _G, _Y), (_SS, _GS, _Y), (_S, _G, _R), (_S, _G, _H), (_S, _G, _O)),
    *(
        (_ST, _H),
        (_ST, _C),
        (_ST, _G1),
        (_ST, _S1),
        (_ST, _Y),
        (_ST, _Z),
        (_H, _SS),
        (_H, _GS),
        (_H, _S),
        (_H, _G),
        (_H, _Y),
        (_H, _MD),
    ),
    *((_O, _S), (_O, _SS), (_O, _G, _Y), (_O, _Y), (_O, _Y, _C), (_O, _G), (_O, _MD), (_O, _C, _G)),
    *((_ED, _S1), (_ED, _G1), (_ED, _SS), (_P, _S1), (f"left({_P}, 6)", _SS), (f"right({_P}, 6)", _G1)),
)


@dataclass(frozen=True)
class Rule:
    """One blocking rule.

    Attributes:
        keys: SQL expressions on the prepared table that must be equal.
        block_max: blocks of more records than this are left out.
        pairs: pairs that it makes by itself, as counted when it was chosen.
    """

    keys: tuple[str, ...]
    block_max: int
    pairs: int

    @property
    def name(self) -> str:
        """For people to read."""
        return " + ".join(self.keys) + ("" if self.block_max >= _BLOCK_MAX else f" (blocks up to {self.block_max})")


def choose(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    columns: Collection[str],
    records: int,
    *,
    budget: int | None = None,
) -> list[Rule]:
    """Choose rules for a prepared table.

    Args:
        columns: the person columns that hold anything.
        records: rows of the table.
        budget: pairs that may be made; by default in proportion to the records, with a floor for small data.
    """
    if budget is None:
        budget = max(PAIRS_MIN, PAIRS_PER_RECORD * records)
    wanted = list(candidates(columns))
    if not wanted or records < 2:
        return []
    limit = int(budget * _RULE_SHARE)
    measured = [(keys, *_measure(connection, table, keys, budget=limit)) for keys in wanted]
    finds = _simulate(connection, table, columns, wanted)
    return _cover(
        [(Rule(keys, block_max, pairs), kept) for keys, pairs, block_max, kept in measured], finds, budget, records
    )


def _cover(measured: Sequence[tuple[Rule, float]], finds: NDArray[np.bool_], budget: int, records: int) -> list[Rule]:
    """Take rules greedily by what they find for what they cost.

    Args:
        measured: rules, and the share of records whose block is small enough.
        finds: rules x drawn pairs.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    finds = finds & (rng.random(finds.shape) < np.array([[kept] for _, kept in measured]))
    times = np.zeros(finds.shape[1], dtype=np.intp)
    worth = np.array([*_WORTH, 0.0])
    left = dict(enumerate(rule for rule, _ in measured))
    taken: list[Rule] = []
    total = 0
    while left and len(taken) < RULES_MAX:
        gains = worth[np.minimum(times, len(_WORTH))]
        # Each rule costs a join over all records, even if it makes hardly a pair.
        rated = [
            (float((finds[place] * gains).mean()) / (rule.pairs + records), -place)
            for place, rule in left.items()
            if rule.pairs and total + rule.pairs <= budget
        ]
        if not rated:
            break
        _, place = max(rated)
        place = -place
        rule = left.pop(place)
        if float((finds[place] * gains).mean()) < _LEAST_WORTH:
            continue
        taken.append(rule)
        total += rule.pairs
        times += finds[place]
    return sorted(_without_implied(taken), key=lambda rule: (rule.pairs, rule.keys))


_STATES: Mapping[str, tuple[float, float, float, float]] = {
    "equal": (1.0, 1.0, 1.0, 1.0),
    "slip": (0.0, 0.6, 0.7, 0.9),
    "other": (0.0, 0.0, 0.0, 0.05),
}
"""What is left of a value of one person: chance that whole, sound, three letters and first letter agree."""

_MOVED = 0.25  # of pairs: street, house, postal code and city are all others
_SLIPS, _OTHERS = 0.2, 0.12  # of pairs, for each value by itself


def _simulate(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Collection[str], rules: Sequence[tuple[str, ...]]
) -> NDArray[np.bool_]:
    """Draw pairs of one person: for each rule and pair, whether the rule finds it.

    Nulls are those of the data, as records hold them together; what happens to values is drawn for each by itself.
    """
    import numpy as np

    bases = sorted({base for rule in rules for key in rule for base in _bases(key)})
    nulls = ", ".join(f"({base} is not null) as {base}" for base in bases)
    rows = connection.execute(
        f"select {nulls} from {table} order by hash(record_id::varchar) limit {2 * _DRAWN}"
    ).fetchnumpy()
    count = len(rows[bases[0]])
    rng = np.random.default_rng(1)
    left, right = rng.integers(0, count, _DRAWN), rng.integers(0, count, _DRAWN)
    moved = rng.random(_DRAWN) < _MOVED
    states: dict[str, NDArray[np.intp]] = {}
    for base in sorted({_ORIGIN.get(base, base) for base in bases}):
        state = rng.choice(3, _DRAWN, p=[1 - _SLIPS - _OTHERS, _SLIPS, _OTHERS])
        states[base] = np.where(moved & (base in ("address", "postal", "city")), 2, state)
    strengths = np.array(list(_STATES.values()))
    finds = np.ones((len(rules), _DRAWN), dtype=bool)
    luck = {
        (base, strength): rng.random(_DRAWN) < strengths[states[_ORIGIN.get(base, base)], strength]
        for base in bases
        for strength in range(4)
    }
    for place, rule in enumerate(rules):
        for key in rule:
            for base in _bases(key):
                there = np.asarray(rows[base], dtype=bool)
                finds[place] &= there[left] & there[right] & luck[base, _strength(key)]
    return finds


_ORIGIN: Mapping[str, str] = {
    **dict.fromkeys(("given_first", "given_sound"), "given"),
    **dict.fromkeys(("surname_sound",), "surname"),
    **dict.fromkeys(("dob_year",), "dob"),
    **dict.fromkeys(("email_key", "email_local", "email_digits"), "email"),
    **dict.fromkeys(("street", "house"), "address"),
}
"""The value that a key is made of: what happens to it, happens to all of its keys."""


def _bases(key: str) -> list[str]:
    """The columns of the prepared table that a key expression reads."""
    return sorted(set(re.findall(r"\b(?:id_\w+|[a-z]+(?:_[a-z]+)*)\b", re.sub(r"'[^']*'", "", key))) - _FUNCTIONS)


_FUNCTIONS = {"left", "right", "substr", "case", "when", "then", "end", "is", "not", "null", "and", "concat"} | {
    *("least", "greatest", "length")
}


def _strength(key: str) -> int:
    """Which part of a value a key asks for: 0 the whole, 1 its sound, or a half, 2 three letters, 3 the first letter."""
    if re.search(r", 1\)$", key):
        return 3
    if re.search(r"left\(\w+, 3\)$", key):
        return 2
    is_part = key.startswith(("left", "right", "substr")) or key.endswith("_sound")
    return 1 if is_part or key in ("dob_year", "email_digits", "email_key", "email_local", "street", "house") else 0


def candidates(columns: Collection[str]) -> Iterable[tuple[str, ...]]:
    """Rules that the given person columns allow."""
    keys = {
        "given_name": ("given_first", "given_sound"),
        "surname": ("surname", "surname_sound"),
        "date_of_birth": ("dob", "dob_year"),
        "email": ("email", "email_key", "email_local", "email_digits"),
        "postal_code": ("postal",),
        "address": ("address", "street", "house"),
        **{name: (name,) for name in ("city", "region", "phone", "occupation")},
    }
    there = {key for name in columns for key in keys.get(name, ())}
    missing = {key for names in keys.values() for key in names} - there
    identifiers = [identifier_key(name) for name in columns if is_identifier(name)]
    for key in identifiers:
        yield (key,)
        for half in (f"left({key}, length({key}) // 2)", f"right({key}, length({key}) // 2)"):
            for other in (_SS, _GS, _Y, _Z):
                if other in there:
                    yield (half, other)
    for rule in _CANDIDATES:
        text = " ".join(rule)
        if not any(_mentions(text, key) for key in missing):
            yield rule


def _mentions(text: str, key: str) -> bool:
    return re.search(rf"\b{key}\b", text) is not None


def _measure(
    connection: duckdb.DuckDBPyConnection, table: str, keys: Sequence[str], *, budget: int
) -> tuple[int, int, float]:
    """Pairs that a rule makes with the largest blocks that the budget allows, the size of those, and the records kept."""
    rows = connection.execute(
        f"""
        with keyed as (select {key_of(keys)} as block from {table} where {_all_there(keys)}),
        blocks as (select count(*) as size from keyed group by block)
        select size, count(*)::bigint as blocks from blocks group by size order by size
        """
    ).fetchall()
    records = sum(size * blocks for size, blocks in rows)
    total = kept = block_max = 0
    for size, blocks in rows:
        pairs = blocks * size * (size - 1) // 2
        if size > _BLOCK_MAX or total + pairs > budget:
            return total, block_max, kept / max(records, 1)
        total += pairs
        kept += size * blocks
        block_max = size
    return total, _BLOCK_MAX, 1.0


def _all_there(keys: Sequence[str]) -> str:
    return " and ".join(f"({key}) is not null" for key in keys)


def key_of(keys: Sequence[str]) -> str:
    """SQL: one number that is equal where all keys are."""
    return f"hash({', '.join(keys)})"


def _without_implied(rules: Sequence[Rule]) -> list[Rule]:
    whole = [set(rule.keys) for rule in rules if rule.block_max >= _BLOCK_MAX]
    return [rule for rule in rules if not any(keys < set(rule.keys) for keys in whole)]


def add_keys(connection: duckdb.DuckDBPyConnection, table: str, rules: Sequence[Rule], *, out: str) -> None:
    """Make the table `out`: what Splink reads.

    It is the prepared table with `bk_<n>`, the key of rule n: null where the record is alone with it, or the block is
    too large.
    """
    joins: list[str] = []
    for number, rule in enumerate(rules):
        there = _all_there(rule.keys)
        joins.append(
            f"left join (select {key_of(rule.keys)} as block from {table} where {there} group by block"
            f" having count(*) between 2 and {rule.block_max}) as b{number}"
            f" on b{number}.block = case when {there} then {key_of(rule.keys)} end"
        )
    more = "".join(f", b{number}.block as bk_{number}" for number in range(len(rules)))
    connection.execute(f"create or replace table {out} as select {table}.*{more} from {table} {' '.join(joins)}")
