"""The simulated sample: a retailer whose customers' behaviour is known, in any size.

Customers buy by a BG/NBD-like process (Fader, Hardie and Lee 2005, "Counting Your Customers" the Easy Way): while alive,
orders follow a Poisson process with a gamma-distributed rate; after each order the customer leaves for good with a
beta-distributed probability. Seasons stretch and shrink its time. How much one order holds is a gamma-distributed trait
of the customer (in the manner of the gamma-gamma model), what it holds follows a taste. Messages cause further orders.

Customers are made in blocks, each in sets and on its own, so that memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from core.settings import Settings
from samples import companions
from samples.draws import Block, Progress, arrow, connect, join_truth, no_progress, run_blocks, write_raw
from samples.handover import Handover, SampleProfile
from samples.names import draw_pools, read_csv
from samples.scope import FIRST_TASTE, SECOND_TASTE, Scope

PROFILE = SampleProfile(
    name="simulated",
    title="A simulated retailer with known ground truth, 2023-01 to 2026-01",
    timezone="Europe/London",
    currency="GBP",
    as_of=datetime(2026, 1, 5, tzinfo=UTC),
)
SCOPE = Scope(
    start=datetime(2023, 1, 1),
    end=datetime(2026, 1, 5),
    currency="GBP",
    visits_per_month=0.35,
    anonymous_per_person=0.5,
    bots_per_person=0.002,
    days_between_campaigns=14,
    cadences=(0.9, 0.5, 0.2),
    has_order_effect=True,
    web_share=0.85,
    receipts_per_person=5.0,
)
BLOCK_SIZE = 20_000
PROSPECTS_PER_CUSTOMER = 0.05
COUNTRIES = {"United Kingdom": 0.82, "EIRE": 0.05, "Germany": 0.05, "France": 0.05, "USA": 0.03}
EURO_COUNTRIES = ("EIRE", "Germany", "France")
ADJECTIVES = (
    "Plain", "Striped", "Spotted", "Floral", "Vintage", "Rustic", "Painted", "Ivory", "Slate", "Ochre", "Indigo", "Moss"
)  # fmt: skip
BRANDS = ("Harrow & Lark", "Fennmere", "Oakwick", "Saltmarsh", "Tilly Brand")
MOST_ORDERS = 2_000
_DAYS = (SCOPE.end - SCOPE.start).days


def handovers(
    settings: Settings,
    workdir: Path,
    truth_dir: Path,
    *,
    customers: int,
    seed: int = 20260105,
    progress: Progress = no_progress,
) -> Iterator[Handover]:
    """Prepare the sample's raw files and yield them, source by source.

    Args:
        workdir: where raw files are put; may be deleted once they are loaded.
        truth_dir: where the ground truth goes.
        customers: how many of them have ordered; prospects and strangers come on top.
        progress: told what is being done.

    Raises:
        ValueError: `customers` is not positive.
    """
    if customers < 1:
        raise ValueError(f"customers must be at least 1, not {customers}")
    shop = _write_catalogue(settings, seed, workdir)
    pools = draw_pools(seed, COUNTRIES)
    parts = truth_dir / ".parts"
    blocks = -(-customers // BLOCK_SIZE)

    def make(block: Block) -> None:
        _load_catalogue(block, shop["products"][0])
        _founded(block, min(BLOCK_SIZE, customers - block.number * BLOCK_SIZE))
        companions.before_orders(block, pools, SCOPE, seed)
        _orders(block)
        companions.after_orders(block, SCOPE)

    _, files = run_blocks(settings, seed, blocks, workdir, parts, make, progress, f"Simulating {customers:,} customers")
    join_truth(settings, parts, truth_dir)
    files["shop"] = shop | files["shop"]
    for source in sorted(files, key=lambda source: (source != "shop", source)):
        yield Handover(source, files[source], PROFILE.as_of, historical=True)


def _write_catalogue(settings: Settings, seed: int, workdir: Path) -> dict[str, list[Path]]:
    """Write shop.products, most popular first, and shop.exchange_rates."""
    rng = np.random.default_rng([seed, 7_002])
    rows = [
        (
            row["category"],
            row["is_consumable"] == "true",
            f"{adjective} {noun}",
            float(row["lowest_price"]),
            float(row["highest_price"]),
        )
        for row in read_csv("simulated_catalogue.csv")
        for noun in row["nouns"].split("|")
        for adjective in ADJECTIVES
    ]
    order = rng.permutation(len(rows))
    low, high = np.array([rows[i][3] for i in order]), np.array([rows[i][4] for i in order])
    price = np.round(np.exp(np.log(low) + rng.beta(2, 3, len(rows)) * (np.log(high) - np.log(low))) * 2) / 2 - 0.05
    ids = [f"P{number:05d}" for number in range(1, len(rows) + 1)]
    products = arrow(
        {
            "product_id": ids,
            "name": [rows[i][2] for i in order],
            "category": [rows[i][0] for i in order],
            "brand": [BRANDS[n] for n in rng.integers(0, len(BRANDS), len(rows))],
            "unit_price": price,
            "url": [f"https://shop.example.com/p/{product}" for product in ids],
            "image_url": [f"https://shop.example.com/i/{product}.jpg" for product in ids],
            "in_stock": rng.random(len(rows)) < 0.95,
            "is_consumable": [rows[i][1] for i in order],
        }
    )
    weeks = np.arange(0, _DAYS + 7, 7)
    rate = 0.86 + np.cumsum(rng.normal(0, 0.002, len(weeks)))
    rates = arrow(
        {"rate_on": [(SCOPE.start + timedelta(days=int(day))).date() for day in weeks], "rate": np.round(rate, 4)}
    )
    files = {
        "products": [workdir / "shop" / "products" / "simulated.parquet"],
        "exchange_rates": [workdir / "shop" / "exchange_rates" / "simulated.parquet"],
    }
    with connect(settings, seed, threads=1) as connection:
        connection.register("made_products", products)
        connection.register("made_rates", rates)
        write_raw(
            connection,
            "shop",
            "products",
            "select *, 'GBP' as currency, true as is_goods, '{\"simulated\":true}' as attributes from made_products",
            files["products"][0],
        )
        write_raw(
            connection,
            "shop",
            "exchange_rates",
            "select *, 'EUR' as from_currency, 'GBP' as to_currency from made_rates",
            files["exchange_rates"][0],
        )
    return files


def _load_catalogue(block: Block, products: Path) -> None:
    path = str(products).replace("'", "''")
    block.connection.execute(
        f"""
        create table categories as
        select 0 as category_number, null::varchar as category, count(*)::integer as products from '{path}'
        union all
        select (row_number() over (order by category))::integer, category, count(*)::integer
        from '{path}'
        group by category
        order by category_number;

        create table catalogue as
        with listed as (
            select category_number, product_id, name, unit_price as price, category from '{path}'
            inner join categories using (category)
        )
        select
            0 as category_number, (row_number() over (order by product_id) - 1)::integer as position,
            product_id, name, price
        from listed
        union all
        select
            category_number, (row_number() over (partition by category_number order by product_id) - 1)::integer,
            product_id, name, price
        from listed
        order by category_number, position
        """
    )


def seasons() -> np.ndarray:
    """Cumulated buying intensity, one row each for customers of the whole year, of spring and of autumn.

    Returns:
        Shape (3, days + 1), from 0, with a mean of about 1 a day.
    """
    days = np.array([SCOPE.start + timedelta(days=day) for day in range(_DAYS)])
    month = np.array([day.month for day in days])
    weekday = np.array([day.weekday() for day in days])
    week = np.where(weekday == 5, 0.85, np.where(weekday == 6, 1.15, 1.0))
    yearly = 1.0 + 0.5 * (month == 11) + 0.6 * (month == 12) + 0.1 * (month == 5) - 0.2 * np.isin(month, (1, 2, 8))
    spring = np.where(np.isin(month, (3, 4, 5, 6)), 2.9, 0.05)
    autumn = np.where(np.isin(month, (9, 10, 11, 12)), 2.9, 0.05)
    intensity = np.stack([yearly, spring, autumn]) * week
    return np.concatenate([np.zeros((3, 1)), np.cumsum(intensity, axis=1)], axis=1)


def _founded(block: Block, customers: int) -> None:
    """Draw who there is and when they order: tables `founded`, `processes` and `arrivals`."""
    rng, curves = block.rng, seasons()
    count = customers + int(np.ceil(customers * PROSPECTS_PER_CUSTOMER))
    most = BLOCK_SIZE + int(np.ceil(BLOCK_SIZE * PROSPECTS_PER_CUSTOMER))
    person = block.number * most + np.arange(count)
    is_customer = np.arange(count) < customers
    is_business = is_customer & (rng.random(count) < 0.06)
    season = rng.choice(3, count, p=[0.92, 0.03, 0.05])
    rate = rng.gamma(0.9, 11.0 / 0.9, count) * np.where(is_business, 1.8, 1.0)  # orders a year
    dropout = rng.beta(1.1, 11.0, count)
    spend = rng.gamma(3.0, 1 / 3.0, count) * np.where(is_business, 9.0, 0.6)

    # Time is the cumulated intensity of the customer's season: there, the process is an even Poisson process.
    whole = curves[season, -1]
    head_start = curves[season, 90]
    born = np.where(rng.random(count) < 0.25, rng.random(count) * head_start, rng.random(count) * whole)
    repeats = np.minimum(rng.poisson(rate * (whole - born) / 365.0), MOST_ORDERS - 1)
    stays = rng.geometric(np.clip(dropout, 1e-4, 1.0)) - 1  # repeat orders before leaving
    owner = np.repeat(np.arange(count), np.where(is_customer, repeats, 0))
    moment = born[owner] + rng.random(len(owner)) * (whole - born)[owner]
    sorting = np.lexsort((moment, owner))
    owner, moment = owner[sorting], moment[sorting]
    first = np.searchsorted(owner, np.arange(count))
    ordinal = np.arange(len(owner)) - first[owner] + 1
    kept = ordinal <= stays[owner]
    owner, moment, ordinal = owner[kept], moment[kept], ordinal[kept]
    buyers = np.flatnonzero(is_customer)
    owner = np.concatenate([buyers, owner])
    moment = np.concatenate([born[buyers], moment])
    ordinal = np.concatenate([np.zeros(len(buyers), dtype=np.int64), ordinal])

    day = np.empty(len(owner))
    for number, curve in enumerate(curves):
        chosen = season[owner] == number
        day[chosen] = np.interp(moment[chosen], curve, np.arange(_DAYS + 1))
    second = 25_200 + np.floor((rng.random(len(owner)) + rng.random(len(owner))) * 27_000)  # 07:00 to 22:00
    start = np.datetime64(SCOPE.start, "s")
    ordered = start + (np.minimum(np.floor(day), _DAYS - 1) * 86_400 + second).astype("timedelta64[s]")

    end = np.datetime64(SCOPE.end, "s")
    last, born_at = np.full(count, start), np.full(count, end)
    np.maximum.at(last, owner, ordered)
    np.minimum.at(born_at, owner, ordered)
    strangers = np.flatnonzero(~is_customer)
    born_at[strangers] = start + (rng.random(len(strangers)) * (_DAYS - 1) * 86_400).astype("timedelta64[s]")
    last[strangers] = born_at[strangers]
    is_alive = np.where(is_customer, repeats <= stays, rng.random(count) < 0.4)
    fading = (rng.exponential(12 * 86_400, count) + 60).astype("timedelta64[s]")
    active_until = np.where(is_alive, end, np.minimum(last + fading, end - np.timedelta64(1, "D")))

    tastes = block.count("categories") - 1
    first_taste = rng.integers(1, tastes + 1, count)
    country = rng.choice(np.array(list(COUNTRIES)), count, p=list(COUNTRIES.values()))
    block.load(
        "founding",
        arrow(
            {
                "person": person,
                "is_customer": is_customer,
                "country": country.tolist(),
                "born_at": born_at,
                "active_until": np.maximum(active_until, born_at + np.timedelta64(1, "m")),
                "is_business": is_business,
                "first_taste": first_taste,
                "second_taste": (first_taste + rng.integers(0, tastes - 1, count)) % tastes + 1,
                "season": season,
                "orders_a_year": rate,
                "dropout": dropout,
                "spend": spend,
            }
        ),
    )
    block.load("arrivals", arrow({"person": person[owner], "ordinal": ordinal, "ordered_at": ordered}))
    block.connection.execute(
        """
        create table founded as
        select
            person,
            case when is_customer then 'customer-' else 'prospect-' end || person as person_id,
            case when is_customer then (100000 + person)::varchar end as customer_ref,
            country,
            born_at::timestamp as born_at,
            active_until::timestamp as active_until,
            is_business,
            first_taste,
            second_taste
        from founding
        order by person
        """
    )
    block.write_truth(
        "processes",
        """
        select
            person_id,
            ['whole year', 'spring', 'autumn'][1 + season] as season,
            orders_a_year,
            dropout as dropout_probability,
            spend as spend_level
        from founding inner join founded using (person)
        order by person
        """,
    )


def _orders(block: Block) -> None:
    """Make orders, their lines and returns; write the shop's files; leave `tracked_orders` and `order_goods`."""
    euro = ", ".join(f"'{country}'" for country in EURO_COUNTRIES)
    block.connection.execute(
        f"""
        create table placed as
        with moments as (
            select person, person * 4096 + ordinal as order_key, ordered_at::timestamp as ordered_at, null::varchar as campaign_id
            from arrivals
            union all
            -- Orders that would not be there without the message.
            select person, person * 4096 + 2048 + number, nudged_at, campaign_id
            from nudges
            inner join persons using (person)
            where has_order and customer_ref is not null and nudged_at < {SCOPE.end_sql} and nudged_at > born_at
        )
        select
            moments.*,
            customer_ref,
            email,
            country,
            first_taste,
            second_taste,
            spend,
            draw(order_key, 'guest') < 0.06 as is_guest,
            country in ({euro}) as is_euro,
            draw(order_key, 'coupon') < 0.1 as has_coupon,
            case
                when draw(order_key, 'status') < 0.003 then 'test'
                when draw(order_key, 'status') < 0.007 then 'fraud'
                when draw(order_key, 'status') < 0.02 then 'cancelled'
                else 'fulfilled'
            end as status,
            case
                when draw(order_key, 'channel') < 0.8 then 'web'
                when draw(order_key, 'channel') < 0.95 then 'app'
                else 'phone'
            end as channel
        from moments
        inner join identities using (person)
        inner join (select person, spend from founding) as levels using (person);

        create table lines as
        with numbered as (
            select
                placed.*,
                unnest(range(1, 2 + least(9, floor(-ln(1 - draw(order_key, 'lines')) * 1.9)::integer))) as line_number
            from placed
        ),
        themed as (
            select
                *,
                order_key * 16 + line_number as line_key,
                case
                    when draw(order_key * 16 + line_number, 'theme') < {FIRST_TASTE} then first_taste
                    when draw(order_key * 16 + line_number, 'theme') < {FIRST_TASTE + SECOND_TASTE} then second_taste
                    else 0
                end as theme
            from numbered
        )
        select
            person,
            order_key,
            line_number,
            shelves.product_id,
            shelves.name as description,
            (1 + floor(-ln(1 - draw(line_key, 'quantity')) * spend))::decimal(18, 4) as quantity,
            shelves.price,
            round(shelves.price * case when is_euro then 1.2 else 1.0 end, 2)::decimal(18, 4) as unit_price
        from themed
        inner join shelves on shelves.shelf = shelf(theme, draw(line_key, 'product'));

        create table returned as
        select
            order_key,
            ordered_at + to_minutes(1440 + below(order_key, 'returned at', 34000)) as returned_at,
            draw(order_key, 'whole') < 0.6 as is_whole
        from placed
        where status = 'fulfilled' and draw(order_key, 'returned') < 0.05 and returned_at < {SCOPE.end_sql};
        """
    )
    block.write(
        "shop",
        "orders",
        """
        with worth as (
            select order_key, sum(quantity * unit_price) as amount from lines group by order_key
        ),
        documents as (
            select
                'S' || order_key as order_id,
                ordered_at,
                case when not is_guest then customer_ref end as customer_ref,
                case when draw(order_key, 'email given') < case when is_guest then 0.6 else 0.3 end then email end as email,
                status,
                case when is_euro then 'EUR' else 'GBP' end as currency,
                case when has_coupon then round(amount * 0.1, 2) else 0 end as discount,
                case when amount < 40 then 3.95 else 0 end as shipping,
                true as price_includes_tax,
                country,
                channel,
                case when has_coupon then ['WELCOME10', 'SPRING10', 'THANKS10'][1 + below(order_key, 'which coupon', 3)] end as coupon,
                case when draw(order_key, 'tick box') < 0.08 then true end as accepts_marketing,
                false as is_cancellation
            from placed
            inner join worth using (order_key)
            union all
            select
                'R' || order_key, returned_at, case when not is_guest then customer_ref end, null, 'fulfilled',
                case when is_euro then 'EUR' else 'GBP' end, 0, 0, true, country, channel, null, null, true
            from returned
            inner join placed using (order_key)
        )
        select * from documents
        """,
    )
    block.write(
        "shop",
        "order_lines",
        """
        select
            'S' || order_key as order_id, line_number, product_id, description, quantity, unit_price,
            round(quantity * unit_price / 6, 2) as tax, true as is_goods, false as is_cancellation
        from lines
        union all
        select
            'R' || order_key, line_number, product_id, description, -quantity, unit_price,
            -round(quantity * unit_price / 6, 2), true, true
        from lines
        inner join returned using (order_key)
        where is_whole or line_number = 1
        """,
    )
    block.write_truth(
        "caused_orders",
        """
        select 'S' || order_key as order_id, person_id, campaign_id
        from placed inner join persons using (person)
        where campaign_id is not null
        order by order_key
        """,
    )
    block.connection.execute(
        f"""
        create table tracked_orders as
        select order_key, 'S' || order_key as order_id, case when not is_guest then person end as person, ordered_at
        from placed
        where channel <> 'phone' and status <> 'test' and draw(order_key, 'tracked') < {SCOPE.web_share};

        create table order_goods as
        select order_key, line_number as rank, product_id, quantity, price
        from lines
        where line_number <= 5
        """
    )
