"""How old a segment's members may be: a segment that is kept from an earlier run grows stale.

Only kept segments can: a fresh one is of the run's own as_of. What is stale is not synced: neither are its tags added nor
taken away, until it is good again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from segments.definitions import Cadence

# The cadence, and some grace for a run that is late.
LARGEST_AGE: Mapping[Cadence, timedelta] = {
    "daily": timedelta(days=1, hours=12),
    "weekly": timedelta(days=8),
    "monthly": timedelta(days=32),
}


def is_stale(cadence: Cadence, made_at: datetime | None, as_of: datetime) -> bool:
    """Whether members made at `made_at` are too old at `as_of`; what was never good is.

    Args:
        cadence: how often the segment is meant to be made anew.
        made_at: as_of that the members are of, or None if the segment never was good.
        as_of: as_of of the release that keeps them.
    """
    return made_at is None or as_of - made_at > LARGEST_AGE[cadence]
