"""What the macros that write a value for comparison make of it, value by value: rendered alone, run by DuckDB."""

from __future__ import annotations

from typing import Any

import duckdb
import jinja2
import pytest

from core.settings import PROJECT_ROOT


def made_by(macro: str, *values: str | None) -> Any:
    """The result of a macro for literal values."""
    source = (PROJECT_ROOT / "dbt_project" / "macros" / "normalise.sql").read_text(encoding="utf-8")
    module = jinja2.Environment(extensions=["jinja2.ext.do"]).from_string(source).module
    with duckdb.connect() as connection:
        names = [f"value_{n}" for n in range(len(values))]
        columns = ", ".join(f"cast(? as varchar) as {name}" for name in names)
        query = f"select {getattr(module, f'duckdb__{macro}')(*names)} from (select {columns})"
        return connection.execute(query, values).fetchall()[0][0]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("O'Brien", "obrien"),
        ("  Ana María ", "anamaria"),
        ("Dr. Anna", "anna"),
        ("Prof. Dr. Anna-Lena", "annalena"),
        ("Dipl.-Ing. Jörg", "jorg"),
        ("MRS Smith", "smith"),
        ("Smith Jr.", "smith"),
        ("Smith, PhD", "smith"),
        ("Drew", "drew"),
        ("Mag", "mag"),  # alone, it may be a name
        ("Sigrid", "sigrid"),
        ("Missy Elliott", "missyelliott"),
        ("김", "김"),
        ("---", None),
        (None, None),
    ],
)
def test_a_name_is_compared_without_titles_accents_and_signs(name: str | None, key: str | None):
    assert made_by("name_key", name) == key


@pytest.mark.parametrize(
    ("place", "key"),
    [("Saint-Étienne Cedex 02", "saintetienne"), ("KØBENHAVN K", "københavnk"), ("いすみ市", "いすみ市"), ("1", None)],
)
def test_a_place_is_compared_without_accents_and_signs(place: str, key: str | None):
    assert made_by("place_key", place) == key


@pytest.mark.parametrize(
    ("one", "other", "similar"),
    [
        ("leeds", "leedes", True),
        ("newyork", "newyorkcity", True),
        ("ely", "elyminster", False),
        ("london", "leeds", False),
    ],
)
def test_places_are_similar_by_a_slip_or_an_addition(one: str, other: str, similar: bool):
    assert made_by("are_similar_places", one, other) is similar
    assert made_by("are_similar_places", other, one) is similar


@pytest.mark.parametrize(
    ("given", "tag"),
    [
        ("EN", "en"),
        ("en_gb", "en-GB"),
        ("es-419", "es-419"),
        ("ZH-HANT-tw", "zh-Hant-TW"),
        ("sr-latn", "sr-Latn"),
        ("English", None),
        ("", None),
        (None, None),
    ],
)
def test_a_language_is_a_tag_or_nothing(given: str | None, tag: str | None):
    assert made_by("language_tag", given) == tag
