"""In-store receipts of loyal customers and of passers-by. All of it simulated, priced from the catalogue.

Needs `identities` and `shelves`.
"""

from __future__ import annotations

from samples.draws import Block
from samples.scope import FIRST_TASTE, SECOND_TASTE, Scope

LOYAL_SHARE = 0.12
"""Share of private people who also buy in the stores."""


def make(block: Block, scope: Scope) -> None:
    """Write pos.sales."""
    block.write(
        "pos",
        "sales",
        f"""
        with loyal as (
            select
                *,
                1 + floor(-ln(1 - draw(person, 'receipts')) * {scope.receipts_per_person})::integer as receipts
            from identities
            where not is_business and coalesce(country_code, '') in ('GB', 'US') and draw(person, 'in store') < {LOYAL_SHARE}
        ),
        receipts as (
            select *, unnest(range(least(receipts, 60))) as ordinal from loyal
        ),
        keyed as (
            select
                *,
                person * 64 + ordinal as sale_key,
                born_at::date + floor(
                    draw(person * 64 + ordinal, 'day') * greatest(active_until::date - born_at::date, 1)
                )::integer + to_seconds(34200 + below(person * 64 + ordinal, 'second', 27000)) as sold_at
            from receipts
        ),
        lines as (
            select
                *,
                unnest(range(1, 2 + least(5, floor(-ln(1 - draw(sale_key, 'lines')) * 1.6)::integer))) as line_number
            from keyed
            where sold_at < {scope.end_sql}
        ),
        themed as (
            select
                *,
                sale_key * 8 + line_number as line_key,
                case
                    when draw(sale_key * 8 + line_number, 'theme') < {FIRST_TASTE} then first_taste
                    when draw(sale_key * 8 + line_number, 'theme') < {FIRST_TASTE + SECOND_TASTE} then second_taste
                    else 0
                end as theme
            from lines
        )
        select
            'sim-till-' || sale_key as sale_id,
            line_number,
            sold_at,
            'simulated-store-' || (1 + below(person, 'store', 4)) as store_id,
            case when draw(sale_key, 'known by') < 0.65 then customer_ref end as customer_ref,
            case when draw(sale_key, 'known by') between 0.65 and 0.88 then email end as email,
            shelves.product_id,
            shelves.name as description,
            case
                when draw(line_key, 'brought back') < 0.03 then -1
                else 1 + floor(-ln(1 - draw(line_key, 'quantity')) * 1.2)::integer
            end as quantity,
            shelves.price as unit_price,
            '{scope.currency}' as currency,
            true as is_goods
        from themed
        inner join shelves on shelves.shelf = shelf(theme, draw(line_key, 'product'))
        order by sale_key, line_number
        """,
    )
