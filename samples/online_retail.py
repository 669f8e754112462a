"""The real sample: UCI Online Retail II mapped onto the shop contract, and companions simulated around its customers.

Each of the two files is a delivery of its own, so that the nine days which both hold are a real re-delivery. What the
files don't say (status, channel, tax) stays empty. `samples/online_retail_ii/README.md` has source, licence and quirks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from core.settings import Settings
from samples import companions
from samples.draws import Block, Progress, connect, join_truth, no_progress, run_blocks, write_raw
from samples.handover import Handover, SampleProfile
from samples.names import HERE, draw_pools
from samples.scope import Scope

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

PROFILE = SampleProfile(
    name="online-retail",
    title="UCI Online Retail II: a real British gift retailer, 2009-12 to 2011-12",
    timezone="Europe/London",
    currency="GBP",
    as_of=datetime(2011, 12, 10, tzinfo=UTC),
)
SCOPE = Scope(
    start=datetime(2009, 12, 1),
    end=datetime(2011, 12, 10),
    currency="GBP",
    visits_per_month=0.6,
    anonymous_per_person=1.6,
    bots_per_person=0.02,
    days_between_campaigns=6,
    cadences=(1.0, 0.95, 0.75),
    has_order_effect=False,
    web_share=0.8,
    receipts_per_person=5.0,
)
FILES = (
    ("year_2009_2010", datetime(2010, 12, 10, tzinfo=UTC)),
    ("year_2010_2011", datetime(2011, 12, 10, tzinfo=UTC)),
)
FOLDER = HERE / "online_retail_ii"
BLOCKS = 4
PROSPECT_SHARE = 0.08


def handovers(
    settings: Settings,
    workdir: Path,
    truth_dir: Path,
    *,
    orders_only: bool,
    seed: int = 20111210,
    customers: int | None = None,
    progress: Progress = no_progress,
) -> Iterator[Handover]:
    """Prepare the sample's raw files and yield them, delivery by delivery.

    Args:
        workdir: where raw files are put; may be deleted once they are loaded.
        truth_dir: where the truth about what was simulated goes.
        orders_only: stop after the real orders.
        customers: simulate companions for so many of the customers only.
        progress: told what is being done.
    """
    with connect(settings, seed, threads=settings.threads) as connection:
        for number, (name, received_at) in enumerate(FILES, start=1):
            progress(f"Online Retail II: mapping {name}")
            yield Handover("shop", _map_file(connection, number, name, workdir), received_at, historical=True)
        if orders_only:
            return
        progress("Simulating companions around the real customers")
        base = _base(connection, customers)
    pools = draw_pools(seed, base.countries)
    parts = truth_dir / ".parts"

    def make(block: Block) -> None:
        _load_block(block, base)
        companions.before_orders(block, pools, SCOPE, seed)
        _tracked(block)
        companions.after_orders(block, SCOPE)

    _, files = run_blocks(settings, seed, BLOCKS, workdir, parts, make, progress, "Simulating companions")
    join_truth(settings, parts, truth_dir)
    for source in sorted(files):
        yield Handover(source, files[source], PROFILE.as_of, historical=True)


def _map_file(connection: duckdb.DuckDBPyConnection, number: int, name: str, workdir: Path) -> dict[str, list[Path]]:
    path = str(FOLDER / f"{name}.parquet").replace("'", "''")
    connection.execute(
        f"""
        create table lines_{number} as
        select
            trim("Invoice") as order_id,
            row_number() over (partition by trim("Invoice") order by file_row_number)::integer as line_number,
            upper(trim("StockCode")) as product_id,
            nullif(trim("Description"), '') as description,
            "Quantity"::decimal(18, 4) as quantity,
            "Price"::decimal(18, 4) as unit_price,
            "InvoiceDate" as occurred_at,
            "Customer ID"::varchar as customer_ref,
            "Country" as country,
            regexp_full_match(upper(trim("StockCode")), '[0-9]{{5}}[A-Z]*|DCGS.*') as is_goods,
            starts_with(trim("Invoice"), 'C') as is_cancellation,
            starts_with(trim("Invoice"), 'A') as is_adjustment,
            file_row_number
        from read_parquet('{path}', file_row_number = true)
        order by file_row_number
        """
    )
    connection.execute(f"create table products_{number} as {_products_query(number)}")
    queries = {
        "orders": f"""
            select
                order_id,
                min(occurred_at) as ordered_at,
                min(customer_ref) as customer_ref,
                'GBP' as currency,
                min(country) as country,
                bool_or(is_cancellation) as is_cancellation
            from lines_{number}
            group by order_id
            order by min(file_row_number)
        """,
        "order_lines": f"select * exclude (country, file_row_number) from lines_{number} order by file_row_number",
        "products": f"from products_{number} order by product_id",
    }
    files = {}
    for table, query in queries.items():
        files[table] = [workdir / "shop" / table / f"online_retail_ii_{name}.parquet"]
        write_raw(connection, "shop", table, query, files[table][0])
    return files


def _products_query(number: int) -> str:
    # Lines without a price are mostly stock notes ("damaged", "?"), so their texts come last as names.
    keywords = str(HERE / "online_retail_categories.csv").replace("'", "''")
    return f"""
        with texts as (
            select
                product_id, bool_or(is_goods) as is_goods, description,
                count(*) filter (where unit_price > 0 and quantity > 0) as sold, count(*) as seen
            from lines_{number}
            group by product_id, description
        ),
        named as (
            select
                product_id,
                bool_or(is_goods) as is_goods,
                first(description order by sold desc, seen desc, description) filter (where description is not null) as name
            from texts
            group by product_id
        ),
        priced as (
            select product_id, first(unit_price order by sold desc, unit_price) as unit_price
            from (
                select product_id, unit_price, count(*) as sold
                from lines_{number}
                where unit_price > 0 and quantity > 0
                group by product_id, unit_price
            ) as prices
            group by product_id
        ),
        keywords as (
            select *, row_number() over () as place
            from read_csv('{keywords}', header = true, columns = {{
                'category': 'varchar', 'is_consumable': 'boolean', 'keyword': 'varchar'
            }})
        ),
        placed as (
            select product_id, arg_min(category, place) as category, arg_min(is_consumable, place) as is_consumable
            from (
                select *, ' ' || trim(regexp_replace(upper(name), '[^A-Z0-9]+', ' ', 'g')) || ' ' as words
                from named
                where is_goods
            ) as worded
            inner join keywords
                on contains(words, ' ' || keyword || ' ') or contains(words, ' ' || keyword || 'S ')
            group by product_id
        )
        select
            product_id,
            name,
            category,
            unit_price,
            'GBP' as currency,
            is_goods,
            is_consumable,
            case when category is not null then '{{"category_origin":"derived from the description by keywords"}}' end as attributes
        from named
        left join priced using (product_id)
        left join placed using (product_id)
    """


@dataclass(frozen=True)
class _Base:
    """What every block starts from: people, valid orders, their first five goods, categories and catalogue."""

    people: pa.Table
    orders: pa.Table
    goods: pa.Table
    categories: pa.Table
    catalogue: pa.Table

    @property
    def countries(self) -> set[str]:
        return set(self.people.column("country").to_pylist())


def _base(connection: duckdb.DuckDBPyConnection, customers: int | None) -> _Base:
    limit = "" if customers is None else f"limit {int(customers)}"
    connection.execute(
        f"""
        create table lines as
        select * from lines_1 where order_id not in (select order_id from lines_2)
        union all
        select * from lines_2;

        create table product_names as
        select product_id, arg_max(name, file) as name, arg_max(category, file) as category
        from (
            select *, 1 as file from products_1
            union all
            select *, 2 as file from products_2
        ) as both_years
        group by product_id;

        create table sold as
        select *
        from lines
        where is_goods and quantity > 0 and unit_price > 0 and not is_cancellation and not is_adjustment;

        create table ranked_products as
        select
            product_id, name, category, price,
            (row_number() over (order by sold desc, product_id) - 1)::integer as popularity
        from (
            select product_id, count(*) as sold, quantile_disc(unit_price, 0.5) as price from sold group by product_id
        ) as counted
        inner join product_names using (product_id);

        create table categories as
        select 0 as category_number, null::varchar as category, count(*)::integer as products
        from ranked_products
        union all
        select (row_number() over (order by category))::integer, category, count(*)::integer
        from ranked_products
        where category is not null
        group by category
        order by category_number;

        create table catalogue as
        select 0 as category_number, popularity as position, product_id, name, price
        from ranked_products
        union all
        select
            category_number,
            (row_number() over (partition by category_number order by popularity) - 1)::integer,
            product_id, name, price
        from ranked_products
        inner join categories using (category)
        order by category_number, position;

        create table valid_orders as
        select
            order_id,
            min(customer_ref) as customer_ref,
            min(occurred_at) as ordered_at,
            row_number() over (order by order_id) as order_key,
            sum(quantity) as units,
            sum(quantity * unit_price) as amount
        from sold
        group by order_id
        order by order_id;

        create table goods as
        select
            order_key, product_id, quantity, unit_price as price,
            row_number() over (partition by order_key order by line_number) as rank
        from sold
        inner join valid_orders using (order_id)
        qualify rank <= 5
        order by order_key, rank;

        create table people as
        with customers as (
            select customer_ref, min(occurred_at) as first_seen_at
            from lines
            where customer_ref is not null
            group by customer_ref
            order by customer_ref
            {limit}
        ),
        homes as (
            select customer_ref, first(country order by lines desc, country) as country
            from (select customer_ref, country, count(*) as lines from lines group by customer_ref, country) as counted
            group by customer_ref
        ),
        buys as (
            select
                customer_ref, count(*) as orders, min(ordered_at) as first_at, max(ordered_at) as last_at,
                sum(amount) as amount, sum(units) as units
            from valid_orders
            group by customer_ref
        ),
        liked as (
            select
                customer_ref,
                category_number,
                row_number() over (partition by customer_ref order by count(*) desc, category_number) as place
            from sold
            inner join ranked_products using (product_id)
            inner join categories using (category)
            group by customer_ref, category_number
        ),
        known as (
            select
                row_number() over (order by customer_ref) - 1 as person,
                customer_ref,
                country,
                first_seen_at,
                coalesce(last_at, first_seen_at) as last_at,
                -- Interest outlasts the last order by a few of the customer's own gaps.
                greatest(90, coalesce(2.5 * datediff('day', first_at, last_at) / nullif(orders - 1, 0), 150)) as patience,
                coalesce(amount >= 5000 or units / orders >= 500, false) as is_business,
                favourite.category_number as first_taste,
                runner_up.category_number as second_taste
            from customers
            inner join homes using (customer_ref)
            left join buys using (customer_ref)
            left join liked as favourite on favourite.customer_ref = customers.customer_ref and favourite.place = 1
            left join liked as runner_up on runner_up.customer_ref = customers.customer_ref and runner_up.place = 2
        ),
        prospects as (
            select
                (select count(*) from known) + unnest(range(
                    ceil({PROSPECT_SHARE} * (select count(*) from known))::bigint
                )) as person
        ),
        everybody as (
            select
                person,
                customer_ref,
                country,
                greatest(
                    first_seen_at - to_minutes(floor(power(draw(person, 'born'), 3) * 57600)::bigint), {SCOPE.start_sql}
                ) as born_at,
                last_at + to_minutes(floor((0.3 + 0.7 * draw(person, 'interest')) * patience * 1440)::bigint) as interest_until,
                datediff('day', last_at, {SCOPE.end_sql}) < patience as is_alive,
                last_at,
                is_business,
                first_taste,
                second_taste
            from known
            union all
            select
                person,
                null,
                case when draw(person, 'country') < 0.9 then 'United Kingdom' when draw(person, 'country') < 0.95 then 'Germany' else 'France' end,
                {SCOPE.start_sql} + to_minutes(below(person, 'born', 1000000)),
                {SCOPE.start_sql} + to_minutes(below(person, 'born', 1000000) + below(person, 'interest', 400000)),
                draw(person, 'alive') < 0.4,
                {SCOPE.start_sql},
                false,
                null,
                null
            from prospects
        )
        select
            person,
            case when customer_ref is null then 'prospect-' || person else 'customer-' || customer_ref end as person_id,
            customer_ref,
            country,
            born_at,
            case when is_alive then {SCOPE.end_sql} else least(interest_until, {SCOPE.end_sql} - interval 1 day) end as active_until,
            is_business,
            coalesce(first_taste, 1 + below(person, 'first taste', (select count(*) - 1 from categories)))::integer as first_taste,
            coalesce(second_taste, 1 + below(person, 'second taste', (select count(*) - 1 from categories)))::integer as second_taste
        from everybody
        order by person
        """
    )
    return _Base(
        *(
            connection.sql(f"from {table}").to_arrow_table()
            for table in ("people", "valid_orders", "goods", "categories", "catalogue")
        )
    )


def _load_block(block: Block, base: _Base) -> None:
    """Give a block its quarter of the people and their orders. Every fourth guest order is its, too."""
    block.load("founded", base.people)
    block.load("all_orders", base.orders)
    block.load("all_goods", base.goods)
    block.load("categories", base.categories)
    block.load("catalogue", base.catalogue)
    block.connection.execute(f"delete from founded where person % {BLOCKS} <> {block.number}")


def _tracked(block: Block) -> None:
    """Which of the orders came from a visit that the tracker saw: fewer of the businesses' and the guests'."""
    block.connection.execute(
        f"""
        create table tracked_orders as
        select order_key, order_id, person, ordered_at
        from all_orders
        inner join persons using (customer_ref)
        where draw(order_key, 'tracked') < {SCOPE.web_share} * case when is_business then 0.6 else 1 end
        union all
        select order_key, order_id, null, ordered_at
        from all_orders
        where customer_ref is null
            and order_key % {BLOCKS} = {block.number}
            and draw(order_key, 'tracked') < {SCOPE.web_share} * 0.4
        order by order_key;

        create table order_goods as
        select all_goods.* from all_goods semi join tracked_orders using (order_key) order by order_key, rank
        """
    )
