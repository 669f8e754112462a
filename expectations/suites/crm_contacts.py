"""crm.contacts as delivered: what the contract can't say of contact records."""

from __future__ import annotations

from expectations.rules import between, matches, none_where

RULES = (
    none_where(
        "contact_can_be_told",
        "coalesce(nullif(trim(email), ''), nullif(trim(phone), ''), nullif(trim(customer_ref), ''),"
        " nullif(trim(surname), ''), nullif(trim(full_name), '')) is null",
        "A contact has an email, a phone, a shop number or a name",
        reason="One without any is its own customer, whom nobody can reach: useless, and harmless.",
    ),
    matches(
        "phone_has_digits",
        "phone",
        r"(\d.*){6,}",
        "phone holds six digits or more",
        reason="People write all sorts of things there: such a value is kept raw, marked, and used for nothing.",
    ),
    between(
        "birthday",
        "1905-01-01",
        "2100-01-01",
        reason="Forms that demand a birthday get an invented one; no age is derived from what can't be.",
    ),
    none_where(
        "changed_after_it_was_made",
        "updated_at < created_at",
        "updated_at is not before created_at",
        reason="Clocks of two systems differ; versions are ordered by delivery.",
    ),
    none_where(
        "preferences_are_json",
        "not json_valid(preferences)",
        "preferences is a JSON object",
        reason="Another text is not read; nothing is sent because of it.",
    ),
)
