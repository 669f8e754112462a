"""third_party.demographics as delivered: what the contract can't say of bought data."""

from __future__ import annotations

from expectations.rules import matches, none_where, one_of, unique

RULES = (
    unique(
        ("delivery_id", "lower(trim(contact_point_type))", "lower(trim(contact_point))"),
        name="contact_point_once_per_delivery",
        description="A delivery tells a contact point once",
        reason="Of a repeated one the last row of the delivery counts.",
    ),
    none_where(
        "contact_point_is_of_its_type",
        "lower(trim(contact_point_type)) = 'email' and not contains(contact_point, '@')"
        r" or lower(trim(contact_point_type)) = 'phone' and not regexp_matches(contact_point, '(\d.*){6,}')",
        "contact_point is an email or a phone, as contact_point_type says",
        reason="Such a row meets no customer and enriches nobody.",
    ),
    matches(
        "age_band_has_a_form",
        "replace(replace(lower(trim(age_band)), ' ', ''), '–', '-')",
        r"^(\d{1,3}-\d{1,3}|\d{1,3}\+|under\d{1,2}|unknown)$",
        "age_band reads like 25-34, 65+ or under 18",
        reason="Bought data fill gaps only; a band that can't be read fills none.",
    ),
    one_of(
        "lower(trim(region_type))",
        ("urban", "suburban", "rural"),
        name="region_type_known",
        reason="Bought data fill gaps only; another word is shown as it is.",
    ),
)
