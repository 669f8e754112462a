"""Pools of names, places and streets for each country, drawn once from Faker, and fictional phone numbers.

Faker is far too slow to be asked for each row: it fills seeded pools, and rows take a position in their country's pool.
Repetitions inside a pool are kept, so that common names are common.
"""

from __future__ import annotations

import csv
import unicodedata
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

HERE = Path(__file__).parent
LARGE, SMALL = 900, 120
"""Size of a pool for the countries where most customers live, and for the others."""


@dataclass(frozen=True)
class Pools:
    """Arrow tables to load into a block.

    Attributes:
        countries: country (as the source writes it), country_code, locale, language, calling_code, pool_size,
            phone_capacity (numbers in ranges reserved for fiction), phone_range_count.
        names: locale, position, female, male, surname, and their forms for an email's local part (`*_ascii`).
        places: locale, position, city, postal_code, street.
        nicknames: given_name, nickname.
        phone_ranges: country_code, range_number, national_prefix, digits.
    """

    countries: pa.Table
    names: pa.Table
    places: pa.Table
    nicknames: pa.Table
    phone_ranges: pa.Table


def read_csv(name: str) -> list[dict[str, str]]:
    """Rows of a CSV file that stands in this folder."""
    with open(HERE / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def draw_pools(seed: int, countries: Collection[str], large: Collection[str] = ("United Kingdom",)) -> Pools:
    """Draw the pools of the given countries.

    Args:
        countries: as `countries.csv` writes them; others get the row of 'Unspecified'.
        large: the countries that get a large pool.
    """
    import pyarrow as pa

    listed = {row["country"]: row for row in read_csv("countries.csv")}
    chosen = [listed.get(country, listed["Unspecified"]) | {"country": country} for country in sorted(countries)]
    size: dict[str, int] = {}
    for row in chosen:
        size[row["locale"]] = max(size.get(row["locale"], SMALL), LARGE if row["country"] in large else SMALL)
    names: list[dict[str, object]] = []
    places: list[dict[str, object]] = []
    for locale in sorted(size):
        drawn_names, drawn_places = _draw_locale(locale, size[locale], seed ^ zlib.crc32(locale.encode()))
        names += drawn_names
        places += drawn_places
    reserved: dict[str, list[dict[str, str]]] = {}
    for row in read_csv("phone_ranges.csv"):
        reserved.setdefault(row["country_code"], []).append(row)
    return Pools(
        countries=pa.Table.from_pylist(
            [
                {
                    "country": row["country"],
                    "country_code": row["country_code"] or None,
                    "locale": row["locale"],
                    "language": row["language"],
                    "calling_code": row["calling_code"],
                    "pool_size": size[row["locale"]],
                    "phone_capacity": sum(int(range_["capacity"]) for range_ in reserved.get(row["country_code"], [])),
                    "phone_range_count": len(reserved.get(row["country_code"], [])),
                }
                for row in chosen
            ]
        ),
        names=pa.Table.from_pylist(names),
        places=pa.Table.from_pylist(places),
        nicknames=pa.Table.from_pylist(read_csv("nicknames.csv")),
        phone_ranges=pa.Table.from_pylist(
            [
                {
                    "country_code": code,
                    "range_number": position,
                    "national_prefix": row["national_prefix"],
                    "digits": int(row["digits"]),
                }
                for code, rows in reserved.items()
                for position, row in enumerate(rows)
            ]
        ),
    )


def ascii_form(name: str) -> str:
    """Lower-case letters for the local part of an email: accents dropped, '' for a script that is not Latin."""
    special = str.maketrans(
        {"ß": "ss", "ø": "o", "Ø": "o", "æ": "ae", "Æ": "ae", "ł": "l", "Ł": "l", "đ": "d", "þ": "th"}
    )
    plain = unicodedata.normalize("NFKD", name.translate(special)).encode("ascii", "ignore").decode().lower()
    return "".join(letter for letter in plain if letter.isalpha())


def _draw_locale(locale: str, size: int, seed: int) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    from faker import Faker

    fake = Faker(locale)
    fake.seed_instance(seed)
    names: list[dict[str, object]] = []
    places: list[dict[str, object]] = []
    for position in range(size):
        female, male, surname = fake.first_name_female(), fake.first_name_male(), fake.last_name()
        names.append(
            {
                "locale": locale,
                "position": position,
                "female": female,
                "male": male,
                "surname": surname,
                "female_ascii": ascii_form(female),
                "male_ascii": ascii_form(male),
                "surname_ascii": ascii_form(surname),
            }
        )
        places.append(
            {
                "locale": locale,
                "position": position,
                "city": fake.city(),
                "postal_code": fake.postcode(),
                "street": " ".join(fake.street_name().split()),
            }
        )
    return names, places
