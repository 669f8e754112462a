"""staging.stg_crm__contacts: every version of a contact record."""

from __future__ import annotations

from expectations.rules import matches, none_from, one_of

KEYS = ("delivery_id", "row_number")
RULES = (
    none_from(
        "one_version_is_current",
        "select contact_id from {table} group by contact_id"
        " having count(*) filter (where is_latest) <> 1 or count(*) filter (where is_current) > 1",
        "A contact has one latest version, and at most one current one",
    ),
    one_of("gender", ("female", "male", "other")),
    matches(
        "language_is_a_tag",
        "language",
        "^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$",
        "language is a BCP 47 tag",
        reason="Mail in an unknown language falls back to the shop's own.",
    ),
)
