"""marts.dim_customers: one resolved person each. Failing rows are told by customer_id alone."""

from __future__ import annotations

from expectations.rules import Suite, between, form_rules, has_rows, matches, none_from, one_of

KEYS = ("customer_id",)


def suite() -> Suite:
    """One row per customer."""
    return Suite(
        group="marts",
        table="marts.dim_customers",
        keys=KEYS,
        rules=(
            has_rows(),
            matches(
                "customer_id_has_its_form",
                "customer_id",
                "^[0-9a-f]{16}$",
                "customer_id is 16 hex digits; another form comes from somewhere else",
            ),
            *form_rules(("email", "phone", "country_code"), raw=False),
            one_of(
                "account_type",
                ("private", "business"),
                reason="Another word counts as no type: its customer is compared with all.",
            ),
            between("record_count", 0, None),
            none_from(
                "emails_are_not_shared_by_many",
                "select max(customer_id) as customer_id from {table} where email is not null"
                " group by email having count(*) > 10",
                "No email is shared by more than ten customers",
                reason="A family or an office may share one; many more are a placeholder address, or resolution has failed.",
            ),
        ),
    )
