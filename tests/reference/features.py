"""Features of one customer at one instant, worked out slowly and plainly from everything that ever happened.

No windows of SQL, no sharing of work, nothing kept: each feature is looked for anew in the whole history. Written from
the definitions in the documentation, not from the SQL.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from statistics import fmean, pstdev
from typing import Any


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
class History:
    """Everything that ever became known of one customer."""

    known_at: datetime
    orders: Sequence[Order] = field(default_factory=tuple)
    lines: Sequence[Line] = field(default_factory=tuple)
    sessions: Sequence[Session] = field(default_factory=tuple)
    mail: Sequence[Mail] = field(default_factory=tuple)


def features(history: History, as_of: datetime, as_of_on: date) -> dict[str, Any] | None:
    """The features of a customer at `as_of` whose local date is `as_of_on`; None for who was not known yet."""
    if history.known_at >= as_of:
        return None
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
        "recency_days": age if age is not None and age <= 730 else None,
        "first_order_on": dates[0] if dates else None,
        "last_order_on": dates[-1] if dates else None,
        "previous_order_on": dates[-2] if len(dates) > 1 else None,
        "tenure_days": (as_of_on - dates[0]).days if dates else None,
        "order_days": len(dates),
        "orders": len(kept),
        "frequency": len({order.ordered_on for order in within(-1, 730)}),
        **{f"orders_{days}": len(within(1, days)) for days in (30, 90, 180, 365, 730)},
        **{f"spend_{days}": spent(within(1, days)) for days in (30, 90, 365, 730)},
        "spend_total": spent(kept),
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


def _share(part: Decimal | int, whole: Decimal | int) -> Decimal | None:
    return None if whole == 0 else _rounded(float(part) / float(whole))


def _rounded(value: float) -> Decimal:
    """To four places, half away from zero, as SQL rounds."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is no share")
    return Decimal(repr(value)).quantize(Decimal("0.0001"), rounding=ROUND_HALF_UP)
