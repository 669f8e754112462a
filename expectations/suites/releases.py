"""Suites of what earlier releases say: what dwell, re-entry and kept members rest on."""

from __future__ import annotations

from expectations.rules import Suite, given, never, unique


def suites() -> list[Suite]:
    """The suites of `stg_releases__*`."""
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
    ]
