"""staging.stg_crm__consents: consent and suppression events."""

from __future__ import annotations

from expectations.rules import none_where

KEYS = ("delivery_id", "row_number")
RULES = (
    none_where(
        "refusals_meet_someone",
        "state in ('withdrawn', 'expired') and contact_id is null and contact_point is null",
        "A refusal names a contact or a contact point: one of nobody protects nobody",
    ),
)
