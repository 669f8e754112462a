"""staging.stg_reference__postal_codes: the list that addresses are checked against, of the newest delivery."""

from __future__ import annotations

from expectations.rules import never

KEYS = ("country_code", "postal_code")
RULES = (
    never(
        "places_are_not_repeated",
        "count(*) >= 100 and count(distinct (country_code, postal_code, place)) < 0.9 * count(*)",
        "One entry in ten or more is there twice",
        reason="A code is looked up, not counted: repeats change nothing.",
    ),
)
