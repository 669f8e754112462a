"""marts.dim_customers: one resolved person each. Failing rows are told by customer_id alone."""

from __future__ import annotations

from expectations.rules import Suite, between, given, has_rows, none_from, none_where, one_of, unique

KEYS = ("customer_id",)


def suite() -> Suite:
    """One row per customer."""
    return Suite(
        group="marts",
        table="marts.dim_customers",
        keys=KEYS,
        rules=(
            has_rows(),
            given("customer_id"),
            unique("customer_id"),
            none_where(
                "customer_id_has_its_form",
                "not regexp_matches(guarded.customer_id, '^[0-9a-f]{{16}}$')",
                KEYS,
                "critical",
                "customer_id is 16 hex digits; another form comes from somewhere else.",
            ),
            none_where(
                "email_is_normalised",
                "guarded.email <> lower(trim(guarded.email))"
                " or not regexp_matches(guarded.email, '^[^@\\s]+@[^@\\s]+[.][^@\\s]+$')",
                KEYS,
                "critical",
                "email is a normalised address: suppressions are matched by it.",
            ),
            none_where(
                "phone_is_e164",
                "not regexp_matches(guarded.phone, '^[+][1-9][0-9]{{6,14}}$')",
                KEYS,
                "warning",
                "phone is in E.164.",
            ),
            none_where(
                "country_code_is_iso",
                "not regexp_matches(guarded.country_code, '^[A-Z]{{2}}$')",
                KEYS,
                "warning",
                "country_code is two capital letters: what a country demands of consent is found by it.",
            ),
            one_of("account_type", ("private", "business"), "warning"),
            between("record_count", 0, None),
            given("first_known_at"),
            none_from(
                "emails_are_not_shared_by_many",
                "select max(customer_id) as customer_id from {batch} where email is not null"
                " group by email having count(*) > 10",
                "warning",
                "More than ten customers with one email: a placeholder address, or resolution has failed.",
            ),
        ),
    )
