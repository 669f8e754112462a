"""CDNOW, and customers who are simulated purchase by purchase, without a formula of what is tested."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

CDNOW = Path(__file__).parents[3] / "data" / "cdnow" / "cdnow_sample.csv"


@pytest.fixture(scope="session")
def cdnow():
    return pd.read_csv(CDNOW)


def _history(
    instants: list[float], age: float, later: float, p: float, nu: float, generator: np.random.Generator
) -> dict[str, float]:
    repeat = [instant for instant in instants if instant <= age]
    after = sum(age < instant <= age + later for instant in instants)
    amounts = generator.gamma(p, 1 / nu, len(repeat))
    return {
        "frequency": len(repeat),
        "recency": max(repeat, default=0.0),
        "T": age,
        "monetary": float(np.mean(amounts)) if len(amounts) else 0.0,
        "later": after,
        "later_spend": float(generator.gamma(p, 1 / nu, after).sum()),
    }


def simulate(kind, parameters, customers, seed, *, weeks=(30, 60), later=52.0, spends=(6.0, 4.0, 15.0)):
    """Histories and what came after, of customers with the parameters of `kind`: bg_nbd or pareto_nbd."""
    generator = np.random.default_rng(seed)
    r, alpha, third, fourth = parameters
    p, q, v = spends
    rows = []
    for _ in range(customers):
        rate = generator.gamma(r, 1 / alpha)
        age = float(generator.integers(weeks[0] * 7, weeks[1] * 7)) / 7
        stops = generator.beta(third, fourth) if kind == "bg_nbd" else 0.0
        lifetime = np.inf if kind == "bg_nbd" else generator.exponential(1 / generator.gamma(third, 1 / fourth))
        instants, now = [], 0.0
        while True:
            now += generator.exponential(1 / rate) if rate > 0 else np.inf
            if now > min(age + later, lifetime):
                break
            instants.append(now)
            if generator.random() < stops:
                break
        rows.append(_history(instants, age, later, p, generator.gamma(q, 1 / v), generator))
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def simulated():
    return simulate
