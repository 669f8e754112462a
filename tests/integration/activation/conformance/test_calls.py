"""What can go wrong with a call: the platform is in the end as planned, and nobody is there twice or against their will."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from activation.sandbox.faults import Kind
from activation.sandbox.part import Part
from core.errors import DestinationError
from tests.integration.activation.conformance.place import Place, person, persons

# How the sandbox is ordered to do it: kind and options, for the calls that write.
FAULTS: Mapping[str, list[tuple[Kind, dict[str, Any]]]] = {
    "latency": [("latency", {"seconds": 0.3, "times": 3})],
    "429 with Retry-After": [("throttled", {"seconds": 1})],
    "429 without headers": [("throttled_bare", {}), ("throttled_bare", {"after": 2})],
    "500": [("error", {"times": 2}), ("error", {"after": 3, "status": 503})],
    "reset in the body": [("reset", {}), ("reset", {"after": 2})],
    "lost answer": [("lost", {}), ("lost", {"after": 2}), ("lost", {"after": 4})],
    "slow drip": [("drip", {"seconds": 0.4, "times": 2})],
    "HTML instead of JSON": [("html", {}), ("html", {"after": 2})],
    "JSON cut off": [("garbled", {}), ("garbled", {"after": 2})],
    "clock skew": [("skew", {}), ("throttled", {"seconds": 1, "after": 1})],
    "rows out of order": [("shuffled", {"times": None})],
}
WRITES = "^(POST|PUT|PATCH|DELETE) "


def change(place: Place) -> dict[str, Any]:
    """Sync a first release, then have a second with every kind of change. Returns who refused or left since."""
    place.release(persons(*range(10)))
    place.settle()
    second = persons(*range(12))
    del second[0], second[6]
    second[1].surname, second[1].country_code = "Married", None
    second[2].segments = ("frequent_buyers", "onboarding")
    second[3].segments = ()
    place.withdraw(person(6))
    place.part.leave(place.there_key(person(7)), "unsubscribe")
    place.release(second)
    return {"gone": [person(6), person(7)]}


@pytest.mark.fault
@pytest.mark.parametrize("fault", FAULTS)
def test_a_call_that_goes_wrong_is_made_good(place: Place, fault: str) -> None:
    if place.faults is None:
        pytest.skip("makes no calls")
    expected = change(place)
    made = place.plan()
    for kind, options in FAULTS[fault]:
        place.faults.order(kind, route=WRITES, **options)
    report = place.apply(made)
    assert not report.rejected
    place.faults.clear()
    place.assert_settled(**expected)


@pytest.mark.fault("token expiry")
def test_a_token_that_runs_out_is_renewed(place: Place) -> None:
    if place.faults is None:
        pytest.skip("makes no calls")
    if getattr(type(place.part), "expire", Part.expire) is Part.expire:
        pytest.skip("its keys do not expire")
    expected = change(place)
    made = place.plan()
    place.faults.order("expired", route=WRITES, after=1)
    place.apply(made)
    place.assert_settled(**expected)


@pytest.mark.fault("credential revoked half-way")
def test_a_key_that_is_taken_back_stops_the_apply_and_loses_nothing(place: Place) -> None:
    if place.faults is None:
        pytest.skip("has no key")
    expected = change(place)
    made = place.plan()
    place.faults.order("revoked", route=WRITES, after=2)
    with pytest.raises(DestinationError) as raised:
        place.apply(made)
    secrets = [said for said in place.part.secrets.values() if said not in place.connector.description]
    assert secrets
    assert not any(secret in str(raised.value) for secret in secrets)
    place.faults.clear()
    report = place.apply(made)
    assert report.done_before > 0
    place.assert_settled(**expected)


@pytest.mark.fault("down for good")
def test_a_platform_that_never_answers_is_given_up_and_taken_up_again(place: Place) -> None:
    if place.faults is None:
        pytest.skip("makes no calls")
    expected = change(place)
    made = place.plan()
    place.faults.order("lost", route=WRITES, times=None, after=1)
    with pytest.raises(DestinationError):
        place.apply(made)
    place.faults.clear()
    place.apply(made)
    place.assert_settled(**expected)
