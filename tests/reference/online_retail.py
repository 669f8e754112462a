"""Orders, RFM and lifecycle of Online Retail II by the definitions, one customer and one order at a time."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq

LONDON = ZoneInfo("Europe/London")
FOUR_PLACES = Decimal("0.0001")
GOODS = re.compile(r"[0-9]{5}[A-Z]*|DCGS.*")
WINDOW_DAYS = 730
REVERSAL = timedelta(days=7)


@dataclass
class Order:
    order_id: str
    customer: int | None
    instant: datetime
    amount: Decimal = Decimal(0)
    quantity: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    reversed_at: datetime | None = None

    @property
    def day(self) -> date:
        return self.instant.astimezone(LONDON).date()


@dataclass(frozen=True)
class Return:
    customer: int
    product: str
    quantity: Decimal
    amount: Decimal
    instant: datetime

    @property
    def day(self) -> date:
        return self.instant.astimezone(LONDON).date()


@dataclass(frozen=True)
class Rfm:
    recency_days: int
    frequency: int
    orders: int
    monetary: Decimal


@dataclass
class Books:
    """All valid orders by id, and all returns by customer."""

    orders: dict[str, Order]
    returns: dict[int, list[Return]]


def read_books(folder: Path) -> Books:
    """Orders and returns from the two files; an invoice in both counts as in the later one."""
    lines_of: dict[str, list[dict]] = {}
    for name in ("year_2009_2010.parquet", "year_2010_2011.parquet"):
        delivered = defaultdict(list)
        for line in pq.read_table(folder / name).to_pylist():
            delivered[line["Invoice"].strip()].append(line)
        lines_of.update(delivered)

    orders: dict[str, Order] = {}
    returns: dict[int, list[Return]] = defaultdict(list)
    for invoice, lines in lines_of.items():
        if invoice.startswith("A"):
            continue
        cancelled = invoice.startswith("C")
        order = Order(invoice, lines[0]["Customer ID"], min(_instant(line["InvoiceDate"]) for line in lines))
        for line in lines:
            product = line["StockCode"].strip().upper()
            price = Decimal(str(line["Price"]))
            quantity = Decimal(line["Quantity"])
            if not GOODS.fullmatch(product) or price <= 0:
                continue
            amount = (abs(quantity) * price).quantize(FOUR_PLACES, ROUND_HALF_UP)
            if cancelled or quantity < 0:
                if order.customer is not None:
                    back = Return(order.customer, product, abs(quantity), -amount, _instant(line["InvoiceDate"]))
                    returns[order.customer].append(back)
            elif quantity > 0:
                order.amount += amount
                order.quantity[product] += quantity
        if order.quantity:
            orders[invoice] = order

    books = Books(orders, returns)
    for order in orders.values():
        order.reversed_at = _reversed_at(order, returns.get(order.customer, ()) if order.customer else ())
    return books


def _instant(local: datetime) -> datetime:
    return local.replace(tzinfo=LONDON).astimezone(UTC)


def _reversed_at(order: Order, returns: Iterable[Return]) -> datetime | None:
    """The instant at which enough of every product had come back, or None."""
    complete = []
    in_time = sorted(
        (back for back in returns if order.instant <= back.instant <= order.instant + REVERSAL),
        key=lambda back: back.instant,
    )
    for product, ordered in order.quantity.items():
        came_back = Decimal(0)
        for back in in_time:
            if back.product == product:
                came_back += back.quantity
                if came_back >= ordered:
                    complete.append(back.instant)
                    break
        else:
            return None
    return max(complete)


def is_reversed(order: Order, as_of: datetime) -> bool:
    return order.reversed_at is not None and order.reversed_at < as_of


def rfm_at(books: Books, as_of: datetime) -> dict[int, Rfm]:
    """RFM of every customer with an unreversed order in the window before `as_of`."""
    today = as_of.astimezone(LONDON).date()
    earliest = today - timedelta(days=WINDOW_DAYS)
    orders_of: dict[int, list[Order]] = defaultdict(list)
    for order in books.orders.values():
        if order.customer is not None and order.instant < as_of and order.day >= earliest:
            orders_of[order.customer].append(order)

    result = {}
    for customer, orders in orders_of.items():
        standing = [order for order in orders if not is_reversed(order, as_of)]
        if not standing:
            continue
        days = {order.day for order in standing}
        sold = sum((order.amount for order in orders), Decimal(0))
        came_back = sum(
            (r.amount for r in books.returns.get(customer, ()) if r.instant < as_of and r.day >= earliest), Decimal(0)
        )
        result[customer] = Rfm((today - max(days)).days, len(days), len(standing), sold + came_back)
    return result


def cut_points(values: Iterable[int | Decimal]) -> list[int | Decimal]:
    """The 20, 40, 60 and 80 % values by nearest rank."""
    ascending = sorted(values)
    return [ascending[(k * len(ascending) + 4) // 5 - 1] for k in range(1, 5)]


def recency_pool(books: Books, fit_as_of: datetime) -> list[int]:
    """Recency of the customers at each of the twelve month starts up to `fit_as_of`."""
    start = fit_as_of.astimezone(LONDON).date().replace(day=1)
    pool: list[int] = []
    for _ in range(12):
        midnight = datetime(start.year, start.month, 1, tzinfo=LONDON).astimezone(UTC)
        pool += [rfm.recency_days for rfm in rfm_at(books, midnight).values()]
        start = (start - timedelta(days=1)).replace(day=1)
    return pool


def score(value: int | Decimal, cuts: Sequence[int | Decimal]) -> int:
    return 1 + sum(value > cut for cut in cuts)


def order_days(books: Books, as_of: datetime) -> dict[int, list[date]]:
    """Each customer's distinct local dates of unreversed orders before `as_of`, ascending."""
    days: dict[int, set[date]] = defaultdict(set)
    for order in books.orders.values():
        if order.customer is not None and order.instant < as_of and not is_reversed(order, as_of):
            days[order.customer].add(order.day)
    return {customer: sorted(said) for customer, said in days.items()}


def repurchase_gap(days_of: dict[int, list[date]]) -> int:
    """Lower median of the pooled gaps, held within 14 and 180 days."""
    gaps = sorted((b - a).days for days in days_of.values() for a, b in pairwise(days))
    return min(max(gaps[(len(gaps) - 1) // 2], 14), 180)


def stage_on(days: Sequence[date], today: date, gap: int) -> str:
    """Lifecycle stage on a day, of a customer whose order dates up to it are `days`."""
    active, dormant, lost = max(2 * gap, 30), 6 * gap, 12 * gap
    if not days:
        return "prospect"
    age = (today - days[-1]).days
    if len(days) == 1 and age <= active:
        return "onboarding"
    if len(days) == 1 and age <= dormant:
        return "one_time_lapsed"
    if age <= active and (days[-1] - days[-2]).days > dormant:
        return "re_engaged"
    if age <= active:
        return "active"
    if age <= dormant:
        return "lapsing"
    return "dormant" if age <= lost else "lost"


def stage_change(days: Sequence[date], today: date, gap: int) -> tuple[str, str | None, date]:
    """The stage today, the one before it (None for a first) and the day it began, by walking day by day."""
    stage = previous = None
    changed = days[0]
    day = days[0]
    while day <= today:
        now = stage_on(days[: bisect_right(days, day)], day, gap)
        if now != stage:
            stage, previous, changed = now, stage, day
        day += timedelta(days=1)
    assert stage is not None
    return stage, previous, changed


def is_seasonal(days: Sequence[date]) -> bool:
    """Order dates in two calendar years or more, at least 70 % of them in one run of four calendar months."""
    if len({day.year for day in days}) < 2:
        return False
    runs = [{(first + offset) % 12 + 1 for offset in range(4)} for first in range(12)]
    return any(10 * sum(day.month in run for day in days) >= 7 * len(days) for run in runs)
