"""staging.stg_third_party__demographics: bought data of the newest delivery. Its rows have no name that is not personal."""

from __future__ import annotations

from expectations.rules import given, one_of, unique

RULES = (
    unique(
        ("contact_point_type", "contact_point"),
        name="contact_point_told_once",
        reason="Two spellings of one address may be told twice; either is as good as the other.",
    ),
    given("contact_point", share=0.9, reason="A contact point that can't be one meets no customer."),
    one_of("gender", ("female", "male", "other")),
)
