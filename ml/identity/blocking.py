"""Which pairs are compared: blocking rules chosen by the columns that there are, and by counting the pairs they make.

A rule is a set of key expressions that must all be equal. Values that very many share (a common surname, 'unknown'
that nobody recognised) would make most of a rule's pairs and hardly any of its matches: such blocks are left out, rule
by rule, until the rule fits its budget. Rules that select best come first; a rule that another one implies is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ml.identity.columns import identifier_key, is_identifier

if TYPE_CHECKING:
    import duckdb

PAIRS_PER_RECORD = 25
PAIRS_MIN = 8_000_000
"""The budget of candidate pairs: so many for each record, and for few records at least this."""

_RULE_SHARE = 0.2  # of the budget that one rule may take
_BLOCK_MAX = 5_000  # records that may share a key: 12 million pairs
_PAIRS_LEAST = 5  # pairs on average per 1,000 records below which a rule is not worth its join

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
    counted = [
        (keys, *_measure(connection, table, keys, budget=int(budget * _RULE_SHARE), records=records)) for keys in wanted
    ]
    counted.sort(key=lambda entry: (entry[1], entry[0]))
    chosen: list[Rule] = []
    total = 0
    for keys, pairs, block_max in counted:
        if pairs == 0 or total + pairs > budget:
            continue
        chosen.append(Rule(keys, block_max, pairs))
        total += pairs
    return _without_implied(chosen)


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
    connection: duckdb.DuckDBPyConnection, table: str, keys: Sequence[str], *, budget: int, records: int
) -> tuple[int, int]:
    """Pairs that a rule makes with the largest blocks that the budget allows, and the size of those."""
    rows = connection.execute(
        f"""
        with blocks as (
            select count(*) as size from {table} where {_all_there(keys)} group by {key_of(keys)} having count(*) > 1
        ),
        sizes as (select size, sum(size * (size - 1) // 2) as pairs from blocks where size <= {_BLOCK_MAX} group by size)
        select size, pairs::bigint from sizes order by size
        """
    ).fetchall()
    total, block_max = 0, 0
    for size, pairs in rows:
        if total + pairs > budget:
            return total, block_max
        total += pairs
        block_max = size
    return total, _BLOCK_MAX


def _all_there(keys: Sequence[str]) -> str:
    return " and ".join(f"({key}) is not null" for key in keys)


def key_of(keys: Sequence[str]) -> str:
    """SQL: one number that is equal where all keys are."""
    return f"hash({', '.join(keys)})"


def _without_implied(rules: Sequence[Rule]) -> list[Rule]:
    whole = [set(rule.keys) for rule in rules if rule.block_max >= _BLOCK_MAX]
    return [rule for rule in rules if not any(keys < set(rule.keys) for keys in whole)]


def add_keys(
    connection: duckdb.DuckDBPyConnection, table: str, rules: Sequence[Rule], frequencies: Sequence[str], *, out: str
) -> None:
    """Make the table `out`: what Splink reads.

    It is the prepared table with `bk_<n>`, the key of rule n (null where the record is alone with it, or the block is
    too large), and `tf_<key>`, the share of records that have the value (null for values that occur once).
    """
    joins: list[str] = []
    selected: list[str] = []
    for number, rule in enumerate(rules):
        joins.append(
            f"left join (select {key_of(rule.keys)} as block from {table} where {_all_there(rule.keys)} group by block"
            f" having count(*) between 2 and {rule.block_max}) as b{number}"
            f" on b{number}.block = case when {_all_there(rule.keys)} then {key_of(rule.keys)} end"
        )
        selected.append(f"b{number}.block as bk_{number}")
    for key in frequencies:
        joins.append(
            f"left join (select {key} as value, count(*) / sum(count(*)) over () as share from {table}"
            f" where {key} is not null group by {key} qualify count(*) > 1) as f_{key} on f_{key}.value = {table}.{key}"
        )
        selected.append(f"f_{key}.share as tf_{key}")
    more = "".join(f", {column}" for column in selected)
    connection.execute(f"create or replace table {out} as select {table}.*{more} from {table} {' '.join(joins)}")
