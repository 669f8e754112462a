"""A retailer quite unlike the sample: Polish, few, paid in zloty, files of another shape and no web events."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

CUSTOMERS = 400
FIRST = datetime(2023, 6, 1, 9)
DAYS = 700
TIMEZONE = "Europe/Warsaw"
CURRENCY = "PLN"
CATALOGUE = [(f"HERB-{number:03}", f"Herbata {number}", 12.5 + number) for number in range(40)]


def write(folder: Path, seed: int = 7, *, customers: int = CUSTOMERS, every_consenting: int = 2) -> dict[str, Path]:
    """Write orders, order_lines, products, contacts and consents as CSV; returns their paths by table.

    Args:
        customers: how many.
        every_consenting: every how many-th customer allows mail and profiling.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(seed)
    orders: list[tuple[object, ...]] = []
    lines: list[tuple[object, ...]] = []
    for customer in range(customers):
        left = FIRST + timedelta(days=draw.uniform(60, DAYS))
        moment = FIRST + timedelta(days=draw.uniform(0, 400))
        pace = draw.choice([15, 30, 60, 120])
        while moment < min(left, FIRST + timedelta(days=DAYS)):
            number = f"Z/{len(orders) + 1:06}"
            orders.append(
                (moment.isoformat(sep=" ", timespec="minutes"), f"K{customer:04}", number, CURRENCY, "allegro")
            )
            for product, name, price in draw.sample(CATALOGUE, draw.randint(1, 4)):
                lines.append((f"{price:.2f}", draw.randint(1, 5), name, product, number))
            moment += timedelta(days=draw.expovariate(1 / pace) + 0.5)
    contacts, consents = [], []
    for customer in range(customers):
        reference = f"K{customer:04}"
        contacts.append((f"ola{customer}@example.com", "PL", "Ola", f"Nowak{customer}", reference, f"C{customer}"))
        if customer % every_consenting == 0:
            captured = (FIRST + timedelta(days=1)).isoformat(sep=" ")
            for purpose in ("marketing", "profiling"):
                consents.append(("granted", purpose, "email", captured, f"C{customer}"))
    return {
        "orders": _csv(
            folder / "orders.csv", ("ordered_at", "customer_ref", "order_id", "currency", "marketplace"), orders
        ),
        "order_lines": _csv(
            folder / "order_lines.csv", ("unit_price", "quantity", "description", "product_id", "order_id"), lines
        ),
        "products": _csv(
            folder / "products.csv", ("name", "product_id"), [(name, code) for code, name, _ in CATALOGUE]
        ),
        "contacts": _csv(
            folder / "contacts.csv",
            ("email", "country", "given_name", "surname", "customer_ref", "contact_id"),
            contacts,
        ),
        "consents": _csv(
            folder / "consents.csv", ("state", "purpose", "channel", "captured_at", "contact_id"), consents
        ),
    }


def _csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path
