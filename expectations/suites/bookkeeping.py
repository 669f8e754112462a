"""Suites of staging's records about data: the lake's own, shipped lists, versions kept, and constants that were learned."""

from __future__ import annotations

from expectations.rules import Suite, form_rules, given, has_rows, never, none_from, none_where, unique


def suites() -> list[Suite]:
    """The suites of `stg_lake__*`, `stg_shipped__*` and `stg_ml__fits`, and of versions that staging keeps of what was delivered."""
    return [
        _clock(),
        _deliveries(),
        _emails(),
        _phones(),
        _segments_set_aside(),
        _demographics_versions(),
        _shipped_postal_codes(),
        _fits(),
    ]


def _clock() -> Suite:
    return Suite(
        group="staging",
        table="staging.stg_lake__clock",
        keys=("as_of",),
        rules=(
            never("one_clock", "count(*) <> 1", "There is exactly one as_of"),
            given("as_of"),
            given("timezone"),
            given("currency"),
            *form_rules(("currency",), raw=False),
        ),
    )


def _deliveries() -> Suite:
    return Suite(
        group="staging",
        table="staging.stg_lake__deliveries",
        keys=("delivery_id", "source", "table_name"),
        rules=(
            has_rows(),
            unique(("delivery_id", "source", "table_name"), name="delivery_told_once"),
            given("received_at"),
            none_from(
                "hand_over_has_one_number",
                "select delivery_id from {table} group by delivery_id having count(distinct sequence) > 1",
                "The tables of one hand-over share its sequence number: what is later is told by it",
            ),
            none_where(
                "counts_are_no_less_than_nothing",
                "least(rows_read, rows_accepted, rows_superseded, rows_rejected, rows_erased) < 0",
                "No count of rows is negative",
            ),
        ),
    )


def _emails() -> Suite:
    return Suite(
        group="staging",
        table="staging.stg_lake__emails",
        keys=(),
        rules=(
            *form_rules(("email",), raw=False),
            none_where(
                "address_or_problem",
                "(email is null) = (problem is null)",
                "Every value given is an address or has a problem",
            ),
            never(
                "most_emails_are_addresses",
                "count(*) >= 100 and count(email) < 0.5 * count(*)",
                "Fewer than half of the emails are addresses",
                reason="Values that are none are kept raw and used for nothing; the rest is right.",
            ),
        ),
        optional=True,
    )


def _phones() -> Suite:
    return Suite(
        group="staging",
        table="staging.stg_lake__phones",
        keys=(),
        rules=(
            unique(("given", "country_code"), name="number_parsed_once"),
            *form_rules(("phone",), raw=False),
            none_where(
                "number_or_problem",
                "phone is null and problem is null",
                "Every value given is a number or has a problem",
            ),
            never(
                "most_phones_are_numbers",
                "count(*) >= 100 and count(phone) < 0.5 * count(*)",
                "Fewer than half of the phones are numbers",
                reason="Values that are none are kept raw and used for nothing; the rest is right.",
            ),
        ),
        optional=True,
    )


def _shipped_postal_codes() -> Suite:
    return Suite(
        group="staging",
        table="staging.stg_shipped__postal_codes",
        keys=("country_code", "postal_code"),
        rules=(
            given("country_code"),
            given("postal_code"),
            *form_rules(("country_code",), raw=False),
        ),
        optional=True,
    )


def _fits() -> Suite:
    return Suite(
        group="staging",
        table="staging.stg_ml__fits",
        keys=("fit_version", "metric"),
        rules=(
            unique(("fit_version", "metric", "coalesce(account_type, '')", "k"), name="constant_learned_once"),
            given("fit_as_of"),
            given("value"),
            none_from(
                "cut_points_ascend",
                "select fit_version, metric from {table}"
                " qualify value < lag(value) over (partition by fit_version, metric, account_type order by k)",
                "The cut points of a fit ascend, else scores would go up and down",
            ),
        ),
        optional=True,
    )


def _segments_set_aside() -> Suite:
    return Suite(
        group="staging",
        table="staging.stg_lake__segments_set_aside",
        keys=("segment",),
        rules=(unique(("segment",), name="segment_set_aside_once"), given("reason")),
        optional=True,
    )


def _demographics_versions() -> Suite:
    return Suite(
        group="staging",
        table="staging.stg_third_party__demographics_versions",
        keys=("delivery_id", "row_number"),
        rules=(
            unique(("delivery_id", "row_number"), name="row_told_once"),
            given("known_at"),
            none_where(
                "version_ends_after_it_began",
                "superseded_at < known_at",
                "A delivery is not replaced before it was known",
            ),
        ),
        optional=True,
    )
