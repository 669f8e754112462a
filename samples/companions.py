"""What stands beside the orders: contacts, consent, mail, web, stores, bought data. Simulated, from latent variables.

A sample makes the block's tables `founded` (person, person_id, customer_ref, country, born_at, active_until, is_business,
first_taste, second_taste), `categories` (category_number, category, products; number 0 is the whole catalogue) and
`catalogue` (category_number, position by popularity, product_id, name, price), then calls `before_orders`, then makes
`tracked_orders` and `order_goods` (see `samples.web`), then calls `after_orders`.
"""

from __future__ import annotations

import numpy as np

from samples import mail, people, pos, web
from samples.draws import Block, arrow
from samples.names import Pools
from samples.scope import FIRST_TASTE, SECOND_TASTE, Scope

MOST_VISITS = 2_000


def before_orders(block: Block, pools: Pools, scope: Scope, seed: int) -> None:
    """Draw the latent variables; write contacts, consents, demographics, mail and the truth about people."""
    _shelves(block)
    _persons(block, scope)
    people.make(block, pools, scope)
    mail.load_campaigns(block, scope, seed)
    mail.make(block, scope)
    _truth(block, scope)


def after_orders(block: Block, scope: Scope) -> None:
    """Write web events and in-store sales."""
    web.make(block, scope)
    pos.make(block, scope)


def _shelves(block: Block) -> None:
    """Make `shelves` and the macro `shelf(category_number, draw)`, which picks a product, popular ones more often.

    One integer key and no join to `categories`: with one, DuckDB joins it to the catalogue first and then compares every
    row with a whole category (9 times slower).
    """
    block.connection.execute(
        """
        create table shelves as
        select category_number * 1000000 + position as shelf, product_id, name, price from catalogue order by shelf;

        set variable category_sizes = (select list(products order by category_number) from categories);

        create macro shelf(category_number, draw) as
            category_number * 1000000
            + floor(power(draw, 2.2) * getvariable('category_sizes')[category_number + 1])::bigint
        """
    )


def _persons(block: Block, scope: Scope) -> None:
    rows = block.connection.execute(
        "select person, greatest(datediff('day', born_at, active_until), 1) as days from founded order by person"
    ).fetchnumpy()
    count = len(rows["person"])
    rng = block.rng
    visits = rng.gamma(0.5, scope.visits_per_month / 0.5, count) * np.asarray(rows["days"]) / 30.4
    block.load(
        "latent",
        arrow(
            {
                "person": np.asarray(rows["person"]),
                "visits": np.minimum(rng.poisson(visits), MOST_VISITS),
                "mail_affinity": rng.beta(0.8, 2.4, count),
                "visit_effect": rng.beta(1.0, 60.0, count),
                "order_effect": rng.beta(1.0, 70.0, count) * scope.has_order_effect,
            }
        ),
    )
    block.connection.execute(
        "create table persons as select * from founded inner join latent using (person) order by person"
    )


def _truth(block: Block, scope: Scope) -> None:
    block.write_truth(
        "people",
        f"""
        select
            person_id,
            customer_ref,
            'household-' || household as household_id,
            is_business,
            born_at,
            active_until,
            active_until >= {scope.end_sql} as is_alive,
            visits as browsing_visits,
            mail_affinity,
            visit_effect,
            order_effect
        from identities
        order by person
        """,
    )
    block.write_truth(
        "affinity",
        f"""
        select person_id, category, weight
        from (
            select person, person_id, first_taste as category_number, {FIRST_TASTE} as weight from persons
            union all
            select person, person_id, second_taste, {SECOND_TASTE} from persons
        ) as tastes
        inner join categories using (category_number)
        order by person, weight desc
        """,
    )
