"""Lifetime value: what a customer will spend in the next twelve months, net of returns and discounted."""

from __future__ import annotations

from ml.lifetime import LifetimeModel

LIFETIME_VALUE = LifetimeModel(
    name="clv_365",
    question="What will this customer spend in the next twelve months, net of returns, at 10 % a year?",
    annual_discount_rate=0.10,
)
