"""Features of one customer at one instant, worked out slowly and plainly from everything that ever happened.

No windows of SQL, no sharing of work, nothing kept: each feature is looked for anew in the whole history. Written from
the definitions in the documentation, not from the SQL.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from statistics import fmean, pstdev
from typing import Any
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class Order:
    """One version of an order; amounts in the reporting currency."""

    ordered_on: date
    amount: Decimal
    known_at: datetime
    superseded_at: datetime | None = None
    reversed_known_at: datetime | None = None
    reversal_ended_at: datetime | None = None
    channel: str = "web"
    coupon: str | None = None
    gross: Decimal = Decimal(0)
    discount: Decimal = Decimal(0)

    def stands(self, as_of: datetime) -> bool:
        return self.known_at < as_of and not (self.superseded_at is not None and self.superseded_at < as_of)

    def is_reversed(self, as_of: datetime) -> bool:
        if self.reversed_known_at is None or self.reversed_known_at >= as_of:
            return False
        return self.reversal_ended_at is None or self.reversal_ended_at >= as_of


@dataclass(frozen=True)
class Line:
    """One version of an order line; the amount of a return is negative."""

    occurred_on: date
    line_type: str
    product: str
    category: str | None
    amount: Decimal
    known_at: datetime
    superseded_at: datetime | None = None

    def stands(self, as_of: datetime) -> bool:
        return self.known_at < as_of and not (self.superseded_at is not None and self.superseded_at < as_of)


@dataclass(frozen=True)
class Session:
    """One version of a visit."""

    started_on: date
    views: int
    cart_adds: int
    searches: int
    checkouts: int
    has_order: bool
    is_bot: bool
    known_at: datetime
    superseded_at: datetime | None = None

    def stands(self, as_of: datetime) -> bool:
        return self.known_at < as_of and not (self.superseded_at is not None and self.superseded_at < as_of)


@dataclass(frozen=True)
class Mail:
    """What became of a message; a machine's doing is known to be one from `machine_known_at`."""

    message: str
    event_type: str
    occurred_on: date
    known_at: datetime
    machine_known_at: datetime | None = None


@dataclass(frozen=True)
class Profile:
    """What a delivery said of a record; a later delivery of the same record takes its place whole."""

    record: str
    said: Mapping[str, Any]
    known_at: datetime


@dataclass(frozen=True)
class Bought:
    """A delivery of bought data, by contact point; a later one takes its place whole."""

    said: Mapping[str, Mapping[str, Any]]
    known_at: datetime


@dataclass(frozen=True)
class Consent:
    """A word about mail, or what a platform reported."""

    state: str
    suppression: str | None
    captured_at: datetime
    expires_at: datetime | None
    known_at: datetime
    channel: str = "email"
    purpose: str = "marketing"
    superseded_at: datetime | None = None


@dataclass(frozen=True)
class Destination:
    """The country that a version of an order went to, and the record that ordered."""

    record: str
    country: str
    ordered_at: datetime
    known_at: datetime
    superseded_at: datetime | None = None


@dataclass(frozen=True)
class History:
    """Everything that ever became known of one customer; profiles and bought data in the order of their deliveries."""

    known_at: datetime
    email_known_at: datetime | None = None
    phone_known_at: datetime | None = None
    profiles: Sequence[Profile] = field(default_factory=tuple)
    bought: Sequence[Bought] = field(default_factory=tuple)
    consents: Sequence[Consent] = field(default_factory=tuple)
    destinations: Sequence[Destination] = field(default_factory=tuple)
    orders: Sequence[Order] = field(default_factory=tuple)
    lines: Sequence[Line] = field(default_factory=tuple)
    sessions: Sequence[Session] = field(default_factory=tuple)
    mail: Sequence[Mail] = field(default_factory=tuple)


@dataclass(frozen=True)
class Anchor:
    """An as_of of a home, and what holds for all its customers then."""

    as_of: datetime
    as_of_on: date
    timezone: str
    history_days: int
    gap_days: int


def features(history: History, anchor: Anchor) -> dict[str, Any] | None:
    """The features of a customer at an as_of; None for who was not known yet."""
    as_of, as_of_on = anchor.as_of, anchor.as_of_on
    if history.known_at >= as_of:
        return None
    said = _activity(history, as_of, as_of_on)
    ages = [said.pop("order_age_days"), said["visit_age_days"], said["click_age_days"]]
    return {
        **said,
        "activity_age_days": min((age for age in ages if age is not None), default=None),
        "known_days": (as_of_on - _local_date(history.known_at, anchor.timezone)).days,
        "history_days": anchor.history_days,
        "gap_days": anchor.gap_days,
        "is_churn_population": said["age_days"] is not None and said["age_days"] <= 6 * anchor.gap_days,
        "has_email": history.email_known_at is not None and history.email_known_at < as_of,
        "has_phone": history.phone_known_at is not None and history.phone_known_at < as_of,
        "email_consent": _email_consent(history.consents, as_of),
        **_profile(history, as_of, as_of_on),
    }


def _activity(history: History, as_of: datetime, as_of_on: date) -> dict[str, Any]:
    return {
        **_orders([order for order in history.orders if order.stands(as_of)], as_of, as_of_on),
        **_money(history, as_of, as_of_on),
        **_lines([line for line in history.lines if line.stands(as_of)], as_of_on),
        **_visits([visit for visit in history.sessions if visit.stands(as_of) and not visit.is_bot], as_of_on),
        **_mail(history.mail, as_of, as_of_on),
    }


def _orders(standing: Sequence[Order], as_of: datetime, as_of_on: date) -> dict[str, Any]:
    kept = [order for order in standing if not order.is_reversed(as_of)]
    dates = sorted({order.ordered_on for order in kept})
    gaps = [(later - earlier).days for earlier, later in itertools.pairwise(dates)]

    def within(first: int, last: int) -> list[Order]:
        return [order for order in kept if first <= (as_of_on - order.ordered_on).days <= last]

    def spent(orders: Sequence[Order]) -> Decimal:
        return sum((order.amount for order in orders), Decimal(0))

    year = within(1, 365)
    age = (as_of_on - dates[-1]).days if dates else None
    runs = {
        first: sum((day.month - first) % 12 < 4 for day in dates) for first in range(1, 13)
    }  # the four months from `first` on
    best = max(runs, key=lambda first: (runs[first], -first))
    years = len({day.year for day in dates})
    seasonal = years >= 2 and runs[best] * 100 >= 70 * len(dates)
    return {
        "age_days": age,
        "order_age_days": min((days for day in dates if (days := (as_of_on - day).days) >= 1), default=None),
        "recency_days": age if age is not None and age <= 730 else None,
        "first_order_on": dates[0] if dates else None,
        "last_order_on": dates[-1] if dates else None,
        "previous_order_on": dates[-2] if len(dates) > 1 else None,
        "tenure_days": (as_of_on - dates[0]).days if dates else None,
        "order_days": len(dates),
        "orders": len(kept),
        "rfm_orders": len(within(-1, 730)),
        "frequency": len({order.ordered_on for order in within(-1, 730)}),
        **{f"orders_{days}": len(within(1, days)) for days in (30, 90, 180, 365, 730)},
        **{f"spend_{days}": spent(within(1, days)) for days in (30, 90, 365, 730)},
        "spend_total": spent(kept),
        "first_day_spend": spent([order for order in kept if order.ordered_on == dates[0]]) if dates else None,
        "average_order_value": _share(spent(within(-1, 730)), len(within(-1, 730))),
        "largest_order_730": max((order.amount for order in within(1, 730)), default=None),
        "orders_change_90": len(within(1, 90)) - len(within(91, 180)),
        "spend_change_90": spent(within(1, 90)) - spent(within(91, 180)),
        "spend_share_90": _share(spent(within(1, 90)), spent(year)),
        "mean_gap_days": _share(sum(gaps), len(gaps)),
        "last_gap_days": gaps[-1] if gaps else None,
        "shortest_gap_days": min(gaps, default=None),
        "longest_gap_days": max(gaps, default=None),
        "gap_variation": _rounded(pstdev(gaps) / fmean(gaps)) if len(gaps) > 1 else None,
        "overdue_ratio": _share((age or 0) * len(gaps), sum(gaps)),
        "order_years": years,
        "season_share": _share(runs[best], len(dates)),
        "is_seasonal": seasonal,
        "season_first_month": best if seasonal else None,
        "last_quarter_share": _share(sum(day.month >= 10 for day in dates), len(dates)),
        "weekend_share": _share(sum(day.isoweekday() >= 6 for day in dates), len(dates)),
        "discount_share_365": _share(
            sum((order.discount for order in year), Decimal(0)), sum((order.gross for order in year), Decimal(0))
        ),
        "discounted_orders_365": sum(order.discount > 0 for order in year),
        "coupon_orders_365": sum(order.coupon is not None for order in year),
        "channels_365": len({order.channel if order.channel in ("web", "store") else "other" for order in year}),
        "store_order_share_365": _share(sum(order.channel == "store" for order in year), len(year)),
        "web_order_share_365": _share(sum(order.channel == "web" for order in year), len(year)),
    }


def _money(history: History, as_of: datetime, as_of_on: date) -> dict[str, Any]:
    sold = [order for order in history.orders if order.stands(as_of) and (as_of_on - order.ordered_on).days <= 730]
    back = [
        line
        for line in history.lines
        if line.stands(as_of) and line.line_type == "return" and (as_of_on - line.occurred_on).days <= 730
    ]
    if all(order.is_reversed(as_of) for order in sold):
        return {"monetary": Decimal(0)}
    return {"monetary": sum((order.amount for order in sold), sum((line.amount for line in back), Decimal(0)))}


def _lines(standing: Sequence[Line], as_of_on: date) -> dict[str, Any]:
    ages = [(line, (as_of_on - line.occurred_on).days) for line in standing]
    bought = [line for line, age in ages if line.line_type == "sale" and 1 <= age <= 365]
    back = [line for line, age in ages if line.line_type == "return" and 1 <= age <= 365]
    by_category: dict[str, Decimal] = {}
    for line in bought:
        if line.category is not None:
            by_category[line.category] = by_category.get(line.category, Decimal(0)) + line.amount
    total = sum(by_category.values(), Decimal(0))
    top = min(by_category, key=lambda name: (-by_category[name], name)) if by_category else None
    returned = -sum((line.amount for line in back), Decimal(0))
    return {
        "returns_365": returned,
        "return_lines_365": len(back),
        "return_age_days": min((age for line, age in ages if line.line_type == "return" and age >= 1), default=None),
        "return_share_365": _share(returned, sum((line.amount for line in bought), Decimal(0))),
        "products_365": len({line.product for line in bought}),
        "categories_365": len(by_category),
        "top_category": top,
        "top_category_share_365": _share(by_category[top], total) if top else None,
        "category_diversity_365": (
            1 - _rounded(float(sum(amount * amount for amount in by_category.values())) / float(total * total))
            if total > 0
            else None
        ),
    }


def _visits(standing: Sequence[Session], as_of_on: date) -> dict[str, Any]:
    ages = [(visit, (as_of_on - visit.started_on).days) for visit in standing if visit.started_on < as_of_on]

    def within(first: int, last: int) -> list[Session]:
        return [visit for visit, age in ages if first <= age <= last]

    quarter = within(1, 90)
    carts = [visit for visit in quarter if visit.cart_adds > 0]
    return {
        "visit_age_days": min((age for _, age in ages), default=None),
        "cart_age_days": min((age for visit, age in ages if visit.cart_adds > 0), default=None),
        **{f"sessions_{days}": len(within(1, days)) for days in (14, 30, 90, 365)},
        "sessions_change_30": len(within(1, 30)) - len(within(31, 60)),
        "product_views_30": sum(visit.views for visit in within(1, 30)),
        "product_views_90": sum(visit.views for visit in quarter),
        "views_per_session_90": _share(sum(visit.views for visit in quarter), len(quarter)),
        "searches_90": sum(visit.searches for visit in quarter),
        "carts_90": sum(visit.cart_adds for visit in quarter),
        "cart_sessions_90": len(carts),
        "checkout_sessions_90": sum(visit.checkouts > 0 for visit in quarter),
        "ordered_sessions_90": sum(visit.has_order for visit in quarter),
        "cart_leave_share_90": _share(sum(not visit.has_order for visit in carts), len(carts)),
    }


def _mail(events: Sequence[Mail], as_of: datetime, as_of_on: date) -> dict[str, Any]:
    human = [
        (event, (as_of_on - event.occurred_on).days)
        for event in events
        if event.known_at < as_of
        and event.occurred_on < as_of_on
        and not (event.machine_known_at is not None and event.machine_known_at < as_of)
    ]

    def messages(event_type: str, days: int) -> int:
        return len({event.message for event, age in human if event.event_type == event_type and age <= days})

    delivered, clicked = messages("delivered", 180), messages("clicked", 180)
    return {
        "click_age_days": min((age for event, age in human if event.event_type == "clicked"), default=None),
        **{f"delivered_{days}": messages("delivered", days) for days in (7, 30, 90, 180)},
        "opened_180": messages("opened", 180),
        **{f"clicked_{days}": messages("clicked", days) for days in (30, 90, 180)},
        "clicks_90": sum(event.event_type == "clicked" and age <= 90 for event, age in human),
        "click_rate": _share(clicked, delivered) if delivered >= 8 else None,
        "bounced_180": messages("bounced", 180),
        "unsubscribed_180": messages("unsubscribed", 180),
    }


def _profile(history: History, as_of: datetime, as_of_on: date) -> dict[str, Any]:
    """Field by field what became known last of all that stands, of the customer's records and of bought data."""
    records: dict[str, Profile] = {}
    for version in history.profiles:
        if version.known_at < as_of:
            records[version.record] = version
    standing = [delivery for delivery in history.bought if delivery.known_at < as_of][-1:]

    def own(name: str, plausible: Callable[[Any], bool] = lambda value: True) -> Any:
        said = [one for one in records.values() if one.said.get(name) is not None and plausible(one.said[name])]
        # Of two that became known at once either will do; the SQL takes the greater key.
        return max(said, key=lambda one: (one.known_at, record_key(one.record))).said[name] if said else None

    def bought(name: str) -> Any:
        said = [
            (point, values) for one in standing for point, values in one.said.items() if values.get(name) is not None
        ]
        return max(said, key=lambda one: record_key(one[0]))[1][name] if said else None

    birthday = own("birthday", lambda day: day.year >= 1900)
    return {
        "age_band": (None if birthday is None else _age_band(birthday, as_of_on)) or bought("age_band"),
        "gender": own("gender") or bought("gender"),
        "region_type": bought("region_type"),
        "country_code": _country(list(records.values()), history.destinations, as_of),
        **{name: own(name) for name in ("language", "account_type", "loyalty_tier")},
    }


def _country(profiles: Sequence[Profile], destinations: Sequence[Destination], as_of: datetime) -> str | None:
    """The country of the newest record with a town, else of the newest record or order."""
    claims = [
        (one.said["city"] is not None, one.known_at, True, -record_key(one.record), 0, one.said["country_code"])
        for one in profiles
        if one.said["country_code"] is not None
    ]
    claims += [
        (False, one.ordered_at, False, -record_key(one.record), place, one.country)
        for place, one in enumerate(destinations)
        if one.known_at < as_of and not (one.superseded_at is not None and one.superseded_at < as_of)
    ]
    return max(claims)[-1] if claims else None


def record_key(record: str) -> int:
    """The key of what is known as `source|type|identifier`."""
    return int(hashlib.md5(record.encode()).hexdigest()[:15], 16)


def _age_band(birthday: date, day: date) -> str | None:
    years = day.year - birthday.year - ((day.month, day.day) < (birthday.month, birthday.day))
    if birthday.year < 1900 or not 0 <= years <= 120:
        return None
    bands = ((18, "under 18"), (25, "18-24"), (35, "25-34"), (45, "35-44"), (55, "45-54"), (65, "55-64"))
    return next((band for end, band in bands if years < end), "65+")


def _email_consent(words: Sequence[Consent], as_of: datetime) -> str | None:
    """The last word about marketing by email; of two at once the refusal. A bounce is nothing that a person said."""
    heard = [
        word
        for word in words
        if word.known_at < as_of
        and not (word.superseded_at is not None and word.superseded_at < as_of)
        and (word.channel, word.purpose) == ("email", "marketing")
        and word.suppression != "hard_bounce"
    ]
    never = datetime(1900, 1, 1)
    refused = max((w.captured_at for w in heard if w.suppression or w.state == "withdrawn"), default=never)
    ended = max((w.captured_at for w in heard if not w.suppression and w.state == "expired"), default=never)
    granted = max(
        (
            word.captured_at
            for word in heard
            if not word.suppression
            and word.state in ("granted", "confirmed")
            and (word.expires_at is None or word.expires_at >= as_of)
        ),
        default=never,
    )
    if refused > never and refused >= granted:
        return "refused"
    return "granted" if granted > ended else None


def _local_date(instant: datetime, timezone: str) -> date:
    return instant.replace(tzinfo=UTC).astimezone(ZoneInfo(timezone)).date()


def _share(part: Decimal | int, whole: Decimal | int) -> Decimal | None:
    return None if whole == 0 else _rounded(float(part) / float(whole))


def _rounded(value: float) -> Decimal:
    """To four places, half away from zero, as SQL rounds."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is no share")
    return Decimal(repr(value)).quantize(Decimal("0.0001"), rounding=ROUND_HALF_UP)
