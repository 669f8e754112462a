"""reference.postal_codes as delivered: what the contract can't say of the list that addresses are checked against."""

from __future__ import annotations

from expectations.rules import given, matches, none_where

RULES = (
    matches(
        "country_code_is_a_code", "trim(country_code)", "^[A-Za-z]{2}$", "country_code is two letters (ISO 3166-1)"
    ),
    none_where(
        "postal_code_can_be_one",
        r"not regexp_matches(trim(postal_code), '^[A-Za-z0-9](?:[A-Za-z0-9 \-]{0,10}[A-Za-z0-9])?$')",
        "postal_code is letters and digits, at most twelve",
        reason="One entry that is none leaves its addresses marked as unknown; they are still delivered to.",
    ),
    given("place", share=0.95, reason="Without a place only the code itself can be checked."),
)
