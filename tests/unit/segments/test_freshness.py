"""How old the members of a segment that is kept from before may be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from segments.definitions import Cadence
from segments.freshness import LARGEST_AGE, is_stale

AS_OF = datetime(2025, 3, 31, tzinfo=UTC)


@pytest.mark.parametrize("cadence", get_args(Cadence))
def test_members_are_stale_past_the_largest_age(cadence: Cadence) -> None:
    age = LARGEST_AGE[cadence]
    assert not is_stale(cadence, AS_OF, AS_OF)
    assert not is_stale(cadence, AS_OF - age, AS_OF)
    assert is_stale(cadence, AS_OF - age - timedelta(seconds=1), AS_OF)


def test_what_never_was_good_is_stale() -> None:
    assert is_stale("monthly", None, AS_OF)
