"""How two records are compared: levels of agreement for each person column, chosen by the columns that there are.

Each comparison is a Splink comparison. Columns whose agreement goes together in a household are one comparison
(street, house, postal code, city and region), as Fellegi-Sunter would count their evidence as many times as there are
columns. An email made of the name counts beyond the name only by what is its own: its digits.

Term frequencies are on wherever a level means that a value is equal: agreeing on a rare surname says more than on a
common one. The starting values here are sane defaults: training moves them, and where the data say nothing they stand.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ml.identity.columns import identifier_key, is_identifier


@dataclass(frozen=True)
class Level:
    """One level of agreement.

    Attributes:
        condition: SQL on `<key>_l` and `<key>_r`; 'else' for the last level.
        agrees: person columns that agree at this level.
        m: default share of pairs of one person that reach this level, and no higher one.
        u: the same for pairs of different persons.
        frequency: the key whose term frequency tells how much an agreement at this level says.
    """

    label: str
    condition: str
    m: float
    u: float
    agrees: tuple[str, ...] = ()
    frequency: str | None = None


@dataclass(frozen=True)
class Comparison:
    """Levels from the highest to 'else', and when nothing can be said."""

    name: str
    nothing: str
    levels: tuple[Level, ...]

    def as_splink(self, m: Collection[float] | None = None, u: Collection[float] | None = None) -> dict[str, Any]:
        """The comparison in Splink's settings, with given or default probabilities by level, highest first."""
        ms = list(m) if m is not None else [level.m for level in self.levels]
        us = list(u) if u is not None else [level.u for level in self.levels]
        levels: list[dict[str, Any]] = [
            {"sql_condition": self.nothing, "label_for_charts": "nothing to compare", "is_null_level": True}
        ]
        for level, m_probability, u_probability in zip(self.levels, ms, us, strict=True):
            entry: dict[str, Any] = {
                "sql_condition": level.condition,
                "label_for_charts": level.label,
                "m_probability": m_probability,
                "u_probability": u_probability,
            }
            if level.frequency is not None:
                entry |= {"tf_adjustment_column": level.frequency, "disable_tf_exact_match_detection": True}
            levels.append(entry)
        return {"output_column_name": self.name, "comparison_levels": levels}


def _slip(key: str, slips: int = 1) -> str:
    """SQL: at most one letter is other, missing, too many or changed places with its neighbour (or `slips` of them).

    Two neighbours changing places leave the Jaro similarity of n letters at 1 - 1/3n, any other letter at 1 - 2/3n.
    DuckDB's own Damerau-Levenshtein distance takes seven times as long as this.
    """
    left, right = f"{key}_l", f"{key}_r"
    swapped = (
        f"length({left}) = length({right}) and jaro_similarity({left}, {right}) >= 1 - 1.01 / (3 * length({left}))"
    )
    near = f"levenshtein({left}, {right}) <= {slips}" + (f" or ({swapped})" if slips == 1 else "")
    return f"abs(length({left}) - length({right})) <= {slips} and ({near})"


def compare(columns: Collection[str]) -> list[Comparison]:
    """The comparisons for the given person columns (those that hold anything)."""
    there = set(columns)
    chosen = []
    if "given_name" in there:
        chosen.append(_given(with_surname="surname" in there))
    if "surname" in there:
        chosen.append(_surname(with_given="given_name" in there))
    if "date_of_birth" in there:
        chosen.append(_DATE)
    if "email" in there:
        chosen.append(_email(with_surname="surname" in there))
    if "phone" in there:
        chosen.append(_PHONE)
    place = _place(there)
    if place is not None:
        chosen.append(place)
    if "gender" in there:
        chosen.append(_simple("gender", "gender", m=0.95, u=0.5, frequency=False))
    if "occupation" in there:
        chosen.append(_OCCUPATION)
    if "country" in there and not there & {"address", "city", "postal_code", "region"}:
        chosen.append(_simple("country", "country", m=0.98, u=0.3, frequency=True))
    chosen += [_identifier(name) for name in columns if is_identifier(name)]
    return chosen


def frequencies(comparisons: Collection[Comparison]) -> list[str]:
    """Keys whose term frequencies are needed."""
    keys = dict.fromkeys(level.frequency for comparison in comparisons for level in comparison.levels)
    return [key for key in keys if key is not None]


_SWAPPED = "given_first_l = surname_r and surname_l = given_first_r"
_HALF_SWAPPED = (
    "jaro_winkler_similarity(given_l, surname_r) >= 0.9 or jaro_winkler_similarity(surname_l, given_r) >= 0.9"
)


def _given(*, with_surname: bool) -> Comparison:
    agrees = ("given_name",)
    levels = [
        Level("equal", "given_l = given_r", 0.75, 0.005, agrees, "given"),
        Level("first name equal", "given_first_l = given_first_r", 0.03, 0.001, agrees, "given_first"),
        Level("nickname", "list_has_any(given_roots_l, given_roots_r)", 0.03, 0.002, agrees),
    ]
    if with_surname:
        levels.append(Level("given name and surname swapped", _SWAPPED, 0.01, 1e-5, ("given_name", "surname")))
    levels += [
        Level(
            "slip",
            "jaro_winkler_similarity(given_l, given_r) >= 0.92"
            f" or (length(given_l) > 3 and length(given_r) > 3 and {_slip('given')})",
            0.08,
            0.003,
            agrees,
        ),
        Level(
            "initial",
            "(length(given_first_l) = 1 or length(given_first_r) = 1) and left(given_first_l, 1) = left(given_first_r, 1)",
            0.02,
            0.003,
        ),
        Level("alike", "jaro_winkler_similarity(given_first_l, given_first_r) >= 0.82", 0.03, 0.01),
        Level(
            "letters in disorder",
            "abs(length(given_l) - length(given_r)) <= 2 and jaccard(given_l, given_r) >= 0.66",
            0.01,
            0.01,
        ),
    ]
    if with_surname:
        levels.append(Level("one of the names in the other's place", _HALF_SWAPPED, 0.01, 0.001))
    levels += [
        Level("else", "else", 0.05, 0.97),
    ]
    return Comparison("given_name", "given_l is null or given_r is null", tuple(levels))


def _surname(*, with_given: bool) -> Comparison:
    agrees = ("surname",)
    nothing = "surname_l is null or surname_r is null"
    if with_given:
        # What is swapped has been counted with the given name.
        nothing += f" or (surname_l <> surname_r and given_l <> given_r and ({_HALF_SWAPPED}))"
    return Comparison(
        "surname",
        nothing,
        (
            Level("equal", "surname_l = surname_r", 0.8, 0.002, agrees, "surname"),
            Level(
                "slip",
                "jaro_winkler_similarity(surname_l, surname_r) >= 0.93"
                f" or (length(surname_l) > 3 and length(surname_r) > 3 and {_slip('surname')})",
                0.08,
                0.001,
                agrees,
            ),
            Level(
                "sounds alike or is part of it",
                "surname_sound_l = surname_sound_r"
                " or contains(concat(' ', surname_l, ' '), concat(' ', surname_r, ' '))"
                " or contains(concat(' ', surname_r, ' '), concat(' ', surname_l, ' '))",
                0.03,
                0.003,
                agrees,
            ),
            Level("alike", "jaro_winkler_similarity(surname_l, surname_r) >= 0.82", 0.03, 0.008),
            Level("else", "else", 0.06, 0.986),
        ),
    )


_DATE = Comparison(
    "date_of_birth",
    "dob_year_l is null or dob_year_r is null",
    (
        Level("equal", "dob_l = dob_r", 0.8, 1e-4, ("date_of_birth",), "dob"),
        Level(
            "slip, or day and month swapped",
            f"({_slip('dob')})"
            " or (dob_year_l = dob_year_r and substr(dob_l, 5, 2) = substr(dob_r, 7, 2) and substr(dob_l, 7, 2) = substr(dob_r, 5, 2))",
            0.08,
            0.002,
            ("date_of_birth",),
        ),
        Level(
            "year equal, where no more is known",
            "dob_year_l = dob_year_r and (dob_l is null or dob_r is null or right(dob_l, 4) = '0101' or right(dob_r, 4) = '0101')",
            0.04,
            0.005,
            ("date_of_birth",),
            "dob_year",
        ),
        Level("two slips", _slip("dob", 2), 0.03, 0.02),
        Level("year equal", "dob_year_l = dob_year_r", 0.02, 0.01),
        Level("else", "else", 0.03, 0.96),
    ),
)

_PHONE = Comparison(
    "phone",
    "phone_l is null or phone_r is null",
    (
        Level("equal", "phone_l = phone_r", 0.7, 1e-5, ("phone",), "phone"),
        Level("slip", _slip("phone"), 0.03, 1e-5, ("phone",)),
        Level("else", "else", 0.27, 0.9999),
    ),
)

_OCCUPATION = Comparison(
    "occupation",
    "occupation_l is null or occupation_r is null",
    (
        Level("equal", "occupation_l = occupation_r", 0.7, 0.03, ("occupation",), "occupation"),
        Level("alike", "jaro_winkler_similarity(occupation_l, occupation_r) >= 0.9", 0.1, 0.01, ("occupation",)),
        Level("else", "else", 0.2, 0.96),
    ),
)


def _email(*, with_surname: bool) -> Comparison:
    agrees = ("email",)
    own_digits = "length(email_digits_l) >= 2"
    kin = f"email_digits_l = email_digits_r and {own_digits}"
    slip = (
        "length(email_local_l) > 4 and length(email_local_r) > 4"
        " and jaro_winkler_similarity(email_l, email_r) >= 0.9 and levenshtein(email_l, email_r) <= 2"
    )
    explained = (
        f"(email_digits_l is distinct from email_digits_r and email_domain_l <> email_domain_r and {slip})"
        f" or (email_key_l = email_key_r and email_l <> email_r and not coalesce({own_digits}, false))"
    )
    related = "jaro_winkler_similarity(email_local_l, email_local_r) >= 0.85"
    if with_surname:
        related += (
            " or contains(replace(email_local_l, '.', ''), replace(surname_r, ' ', ''))"
            " and contains(replace(email_local_r, '.', ''), replace(surname_l, ' ', ''))"
        )
    return Comparison(
        "email",
        f"email_l is null or email_r is null or {explained}",
        (
            Level("equal", "email_l = email_r", 0.7, 1e-5, agrees, "email"),
            Level(
                "name parts and digits equal, elsewhere or in another order",
                f"email_key_l = email_key_r and {own_digits}",
                0.05,
                1e-6,
                agrees,
            ),
            Level("slip", f"{slip} and email_digits_l is not distinct from email_digits_r", 0.05, 1e-6, agrees),
            Level("digits equal, names related", f"{kin} and ({related})", 0.02, 1e-5, agrees),
            # Emails of two who share a name are as near to each other as a slip: only their domain says more.
            Level(
                "slip, or other digits, at the same domain",
                f"{slip} and email_domain_l = email_domain_r",
                0.02,
                1e-3,
                frequency="email_domain",
            ),
            Level("else", "else", 0.16, 0.9998),
        ),
    )


def _identifier(name: str) -> Comparison:
    key = identifier_key(name)
    return Comparison(
        key,
        f"{key}_l is null or {key}_r is null",
        (
            Level("equal", f"{key}_l = {key}_r", 0.85, 1e-5, (name,), key),
            Level(
                "slip",
                f"length({key}_l) > 4 and length({key}_r) > 4 and {_slip(key)}",
                0.08,
                1e-4,
                (name,),
            ),
            Level(
                "two slips",
                f"length({key}_l) > 5 and length({key}_r) > 5 and {_slip(key, 2)}",
                0.02,
                2e-3,
            ),
            Level("else", "else", 0.05, 0.998),
        ),
    )


def _simple(name: str, key: str, *, m: float, u: float, frequency: bool) -> Comparison:
    return Comparison(
        name,
        f"{key}_l is null or {key}_r is null",
        (
            Level("equal", f"{key}_l = {key}_r", m, u, (name,), key if frequency else None),
            Level("else", "else", 1 - m, 1 - u),
        ),
    )


_STREET_EQUAL = "address_l = address_r"
_STREET_ALIKE = (
    "(house_l = house_r or house_l is null or house_r is null) and jaro_winkler_similarity(street_l, street_r) >= 0.88"
)


def _place(there: Collection[str]) -> Comparison | None:
    """One comparison of all that says where someone lives, by the finest that agrees."""
    near: list[str] = []
    if "city" in there:
        near.append("city_l = city_r or jaro_winkler_similarity(city_l, city_r) >= 0.92")
    if "postal_code" in there:
        near.append(f"({_slip('postal')})")
    levels: list[Level] = []
    street, code, city = ("address",), ("postal_code",), ("city",)
    if "address" in there:
        if "postal_code" in there:
            levels += [
                Level(
                    "address and postal code equal",
                    f"{_STREET_EQUAL} and postal_l = postal_r",
                    0.4,
                    1e-6,
                    street + code,
                    "address",
                ),
                Level(
                    "address alike, postal code equal",
                    f"{_STREET_ALIKE} and postal_l = postal_r",
                    0.1,
                    1e-6,
                    street + code,
                ),
            ]
        if near:
            levels += [
                Level(
                    "address equal, place alike",
                    f"{_STREET_EQUAL} and ({' or '.join(near)})",
                    0.1,
                    1e-6,
                    street,
                    "address",
                ),
                Level("address alike, place alike", f"{_STREET_ALIKE} and ({' or '.join(near)})", 0.05, 2e-6, street),
            ]
        levels += [
            Level("address equal", f"{_STREET_EQUAL}", 0.05, 1e-5, street, "address"),
            Level("address alike", f"{_STREET_ALIKE}", 0.03, 1e-4, street),
        ]
    if "postal_code" in there:
        if "city" in there:
            levels.append(
                Level(
                    "postal code and city equal",
                    "postal_l = postal_r and city_l = city_r",
                    0.1,
                    5e-4,
                    code + city,
                    "postal",
                )
            )
        levels.append(Level("postal code equal", "postal_l = postal_r", 0.05, 5e-4, code, "postal"))
        if "city" in there:
            levels.append(
                Level(
                    "city and postal code alike",
                    f"(city_l = city_r or jaro_winkler_similarity(city_l, city_r) >= 0.92) and {_slip('postal')}",
                    0.05,
                    1e-4,
                    city,
                )
            )
        else:
            levels.append(Level("postal code alike", _slip("postal"), 0.05, 2e-3, code))
    if "city" in there:
        levels += [
            Level("city equal", "city_l = city_r", 0.05, 0.01, city, "city"),
            Level("city alike", "jaro_winkler_similarity(city_l, city_r) >= 0.9", 0.02, 3e-3, city),
        ]
    if "region" in there:
        levels.append(Level("region equal", "region_l = region_r", 0.04, 0.1, ("region",), "region"))
    if not levels:
        return None
    keys = {"address": "address", "postal_code": "postal", "city": "city", "region": "region"}
    nothing = " and ".join(f"({key}_l is null or {key}_r is null)" for name, key in keys.items() if name in there)
    levels.append(Level("else", "else", 0.06, max(0.5, 1 - sum(level.u for level in levels))))
    return Comparison("place", nothing, tuple(levels))


def agreements(comparisons: Collection[Comparison]) -> Mapping[str, list[list[str]]]:
    """Comparison -> the person columns that agree at each level, highest first."""
    return {comparison.name: [list(level.agrees) for level in comparison.levels] for comparison in comparisons}
