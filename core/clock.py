"""The clock is an argument: this is the one place where an as_of is decided.

`as_of` is an exclusive bound on knowledge, an instant in UTC. A date means its local midnight. Nothing else in the
system asks what time it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from core.errors import MailwrightError
from core.files import write_atomically
from core.home import Home

Origin = Literal["given", "home", "newest order", "now"]


@dataclass(frozen=True)
class AsOf:
    """An instant, and where it came from.

    Attributes:
        instant: aware, in UTC.
        origin: given on the command line, the home's own, the midnight after the newest order, or now.
    """

    instant: datetime
    origin: Origin

    def describe(self, timezone: str) -> str:
        """For people: local time and origin."""
        local = self.instant.astimezone(ZoneInfo(timezone))
        shown = local.date().isoformat() if local.time() == time() else local.isoformat(timespec="seconds")
        reason = {
            "given": "as given",
            "home": "the home's own date",
            "newest order": "the midnight after the newest order, as every delivery is historical",
            "now": "now",
        }
        return f"{shown} ({reason[self.origin]})"


def parse_as_of(text: str, timezone: str) -> datetime:
    """Read `--as-of`: a date (its local midnight) or a date and time, local unless it carries an offset.

    Returns:
        An aware instant in UTC. An ambiguous local time is the earlier instant, a skipped one moves forward.

    Raises:
        MailwrightError: `text` is neither.
    """
    try:
        moment = datetime.combine(date.fromisoformat(text), time()) if len(text) == 10 else datetime.fromisoformat(text)
    except ValueError:
        raise MailwrightError(
            f"--as-of {text!r} is neither a date (2011-12-10) nor a time (2011-12-10T06:00)"
        ) from None
    return to_utc(moment, timezone)


def to_utc(moment: datetime, timezone: str) -> datetime:
    """Local wall time to UTC: the earlier instant if ambiguous, moved forward if skipped (PEP 495, fold=0)."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(timezone), fold=0)
    return moment.astimezone(UTC)


def local_midnight(day: date, timezone: str) -> datetime:
    """The instant at which a local day begins."""
    return to_utc(datetime.combine(day, time()), timezone)


def resolve_as_of(home: Home, given: str | None, now: datetime) -> AsOf:
    """Decide the as_of of a run.

    In this order: what is given; the home's own; for a home of only historical deliveries, the local midnight after
    the newest order; else `now`.

    Raises:
        MailwrightError: the result lies in the future, or nothing of any order was known before it.
    """
    if given is not None:
        decided = AsOf(parse_as_of(given, home.timezone), "given")
    elif home.as_of is not None:
        decided = AsOf(home.as_of, "home")
    elif (newest := _newest_historical_order(home)) is not None:
        day = newest.astimezone(ZoneInfo(home.timezone)).date() + timedelta(days=1)
        decided = AsOf(local_midnight(day, home.timezone), "newest order")
    else:
        decided = AsOf(now.astimezone(UTC), "now")
    if decided.instant > now:
        raise MailwrightError(f"as_of {decided.describe(home.timezone)} lies in the future: give an earlier --as-of")
    first = _first_known_order(home)
    if first is not None and decided.instant <= first:
        # Empty marts would replace good ones, and every audience would be emptied.
        raise MailwrightError(
            f"as_of {decided.describe(home.timezone)} lies before anything was known of an order"
            f" ({first.astimezone(ZoneInfo(home.timezone)).isoformat(sep=' ', timespec='minutes')}): give a later --as-of"
        )
    return decided


def write_clock(home: Home, as_of: datetime) -> None:
    """Write the one-row control table that dbt reads. Changing dbt's vars instead would re-parse the project."""
    said = {
        "as_of": as_of.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" "),
        "timezone": home.timezone,
        "currency": home.currency,
    }
    text = json.dumps(said) + "\n"
    if not home.clock.exists() or home.clock.read_text() != text:
        write_atomically(home.clock, text)


def _first_known_order(home: Home) -> datetime | None:
    """The first instant at which an order was known, or None if there is none."""
    import duckdb

    files = sorted(home.accepted("shop", "orders").glob("*.parquet"))
    if not home.deliveries.exists() or not files:
        return None
    with duckdb.connect() as connection:
        first = connection.execute(
            """
            select min(case
                when deliveries.historical then orders.ordered_at
                else greatest(orders.ordered_at, deliveries.received_at)
            end)
            from read_parquet($orders) as orders
            inner join read_parquet($deliveries) as deliveries using (delivery_id)
            where deliveries.source = 'shop' and deliveries.table_name = 'orders'
            """,
            {"orders": [str(file) for file in files], "deliveries": str(home.deliveries)},
        ).fetchone()
    if first is None or first[0] is None:
        return None
    instant: datetime = first[0]
    return instant.replace(tzinfo=UTC)


def _newest_historical_order(home: Home) -> datetime | None:
    """Instant of the newest order if there is one and every delivery is historical, else None."""
    import duckdb

    files = sorted(home.accepted("shop", "orders").glob("*.parquet"))
    if not home.deliveries.exists() or not files:
        return None
    with duckdb.connect() as connection:
        live = connection.execute(
            "select count(*) from read_parquet(?) where not historical", [str(home.deliveries)]
        ).fetchone()
        newest = connection.execute(
            "select max(ordered_at) from read_parquet(?)", [[str(file) for file in files]]
        ).fetchone()
    if live != (0,) or newest is None or newest[0] is None:
        return None
    instant: datetime = newest[0]
    return instant.replace(tzinfo=UTC)
