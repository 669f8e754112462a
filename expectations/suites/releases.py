"""Suites of what earlier releases say, and of the segments that are set aside: what dwell, re-entry and kept members rest on."""

from __future__ import annotations

from expectations.rules import Suite, given, never, none_where, unique


def suites() -> list[Suite]:
    """The suites of `stg_releases__*`, of the segments set aside, and of the versions of bought demographics."""
    return [
        Suite(
            group="staging",
            table="staging.stg_releases__newest",
            keys=("release",),
            rules=(
                never("one_release_is_newest", "count(*) > 1", "There is at most one newest release"),
                given("as_of"),
            ),
            optional=True,
        ),
        Suite(
            group="staging",
            table="staging.stg_releases__memberships",
            keys=("customer_id", "segment"),
            rules=(unique(("customer_id", "segment"), name="membership_frozen_once"),),
            optional=True,
        ),
        Suite(
            group="staging",
            table="staging.stg_releases__membership_changes",
            keys=("release", "customer_id", "segment"),
            rules=(
                unique(("release", "customer_id", "segment"), name="one_change_a_release"),
                given("as_of"),
            ),
            optional=True,
        ),
        Suite(
            group="staging",
            table="staging.stg_lake__segments_set_aside",
            keys=("segment",),
            rules=(unique(("segment",), name="segment_set_aside_once"), given("reason")),
            optional=True,
        ),
        Suite(
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
        ),
    ]
