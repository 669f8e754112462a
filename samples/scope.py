"""How much of what a sample's companions hold, and over which time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

FIRST_TASTE, SECOND_TASTE = 0.5, 0.22
"""Chance that something looked at or bought is of the first or second favourite category; else anything popular."""


@dataclass(frozen=True)
class Scope:
    """Constants of the companions.

    Attributes:
        start: first moment of the period, local wall time.
        end: the sample's as_of, local wall time; only consents go beyond it.
        currency: of all prices.
        visits_per_month: browsing sessions of an average person while active.
        anonymous_per_person: visits of people who never say who they are, per person.
        bots_per_person: visits of bots, per person.
        days_between_campaigns: one campaign goes out every so many days.
        cadences: shares of the campaigns that an address gets; each address has one of them.
        has_order_effect: whether mail causes orders. False where the orders are real.
        web_share: share of the orders that were placed in a visit which the tracker saw.
        receipts_per_person: in-store receipts of an average loyal person.
    """

    start: datetime
    end: datetime
    currency: str
    visits_per_month: float
    anonymous_per_person: float
    bots_per_person: float
    days_between_campaigns: int
    cadences: tuple[float, float, float]
    has_order_effect: bool
    web_share: float
    receipts_per_person: float

    @property
    def start_sql(self) -> str:
        return f"timestamp '{self.start.isoformat(sep=' ')}'"

    @property
    def end_sql(self) -> str:
        return f"timestamp '{self.end.isoformat(sep=' ')}'"
