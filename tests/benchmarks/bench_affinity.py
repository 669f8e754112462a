"""How good recommendations are on the real retailer, and how fast for a million simulated customers and 20,000 items.

Run: python -m tests.benchmarks.bench_affinity [customers] [items] [--no-quality]

Each customer has 15 interactions on average, with items as unequally popular as in shops. The floor is scipy's bare
product of histories and similarities, of which only the sum is kept. Seconds are those of the processor. Figures are
printed and never asserted.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ml import affinity
from ml.recommendation_metrics import bootstrap_interval
from tests.benchmarks.measuring import say
from tests.unit.ml.test_affinity_quality import measure

SEED = 20260105
INTERACTIONS = 15
CATEGORIES = 40


@contextmanager
def timed(costs: dict[str, float], name: str) -> Iterator[None]:
    """Note the processor's seconds under a name."""
    started = time.process_time()
    yield
    costs[name] = time.process_time() - started


def simulate(customers: int, items: int) -> tuple[affinity.Interactions, affinity.Catalogue]:
    """Interactions with a taste for one of the categories each, and the catalogue."""
    generator = np.random.default_rng(SEED)
    popularity = 1 / np.arange(1, items + 1) ** 0.8
    count = generator.poisson(INTERACTIONS, customers)
    customer = np.repeat(np.arange(customers), count)
    item = generator.choice(items, len(customer), p=popularity / popularity.sum())
    category = np.arange(items) % CATEGORIES
    # Half of what is bought goes to the next item of the favourite category.
    taste = generator.integers(0, CATEGORIES, customers)[customer]
    moved = np.minimum(item - category[item] + taste, items - 1)
    item = np.where(generator.random(len(item)) < 0.5, moved, item)
    kind = np.array(["view", "cart", "purchase"])[generator.choice(3, len(item), p=[0.5, 0.1, 0.4])]
    return (
        affinity.Interactions(
            customer, item, kind, generator.integers(1, 400, len(item)).astype(float), (customers, items)
        ),
        affinity.Catalogue(
            [f"sku-{number}" for number in range(items)],
            [f"Item {number}" for number in range(items)],
            [f"Category {number}" for number in category],
            generator.random(items) < 0.95,
        ),
    )


def speed(customers: int, items: int) -> None:
    """Learn, and make everyone's list."""
    costs: dict[str, float] = {}
    interactions, catalogue = simulate(customers, items)
    with timed(costs, "learn"):
        recommender = affinity.learn(interactions, catalogue)
    chunk = recommender.settings.chunk
    with timed(costs, "floor"):
        total = sum(
            float((recommender.history[start : start + chunk] @ recommender.weights).sum())
            for start in range(0, customers, chunk)
        )
    with timed(costs, "recommend"):
        rows = sum(len(part.items) for part in affinity.recommend(recommender))
    with timed(costs, "similar"):
        affinity.similar_items(recommender)
    print(f"{customers:,} customers, {items:,} items, {len(interactions.items):,} interactions, {recommender.method}")
    say("bare product (floor)", costs["floor"], "s")
    say("learn", costs["learn"], "s", costs["floor"])
    say(f"{rows:,} recommendations with reasons", costs["recommend"], "s", costs["floor"])
    say("similar items", costs["similar"], "s", costs["floor"])
    say("peak memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "GB")
    assert total > 0


def quality() -> None:
    """Print recall and NDCG at 20 on the real retailer's last four weeks, with 95 % intervals."""
    found = measure()
    names = [f"{metric}@20 {what}" for metric, what in found["ours"]]
    print(f"{'':<24} " + "   ".join(f"{name:^22}" for name in names))
    for name, figures in found.items():
        said = ("{:.3f} ({:.3f} to {:.3f})".format(*bootstrap_interval(figure)) for figure in figures.values())
        print(f"{name:<24} " + "   ".join(said))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench_affinity", description=__doc__)
    parser.add_argument("customers", nargs="?", type=int, default=1_000_000)
    parser.add_argument("items", nargs="?", type=int, default=20_000)
    parser.add_argument("--no-quality", action="store_true", help="speed alone")
    given = parser.parse_args()
    if not given.no_quality:
        quality()
    speed(given.customers, given.items)


if __name__ == "__main__":
    main()
