"""email.campaigns as delivered: what the contract can't say of campaigns."""

from __future__ import annotations

from expectations.rules import given, one_of

RULES = (
    one_of(
        "lower(trim(kind))",
        ("promotional", "service"),
        name="kind_known",
        reason="Campaigns are history: nobody is mailed, or spared, because of their kind.",
    ),
    given("name", share=0.9, reason="A campaign without a name is hard to find in a report, and counted all the same."),
)
