"""How fast RFM is in SQL, beside the usual pandas recipe, on the 1.04 million real invoice lines.

Run: python -m tests.benchmarks.bench_rfm

Both read the lake's Parquet of accepted order lines and end with a table of customers: recency, frequency, monetary
value and their scores by the definitions of this project (an invoice delivered again counts as in the later delivery,
returns lower monetary value, reversed orders give no recency and no frequency, recency is scored against the twelve
month starts). They must agree on every customer, else the benchmark stops. The ratio is printed and never asserted.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.measuring import floor_connection, run, say

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

AS_OF = "2011-12-10"
ZONE = "Europe/London"
WINDOW_DAYS = 730
REVERSAL_DAYS = 7
RUNS = 3

RFM = f"""
with

-- An order that was delivered again counts as in the later delivery.
superseded as (
    select
        order_id,
        max(delivery_id) as delivery_id
    from read_parquet($orders)
    group by order_id
    having min(delivery_id) < max(delivery_id)
),

lines as not materialized (
    select
        delivered.order_id,
        delivered.customer_ref,
        delivered.product_id,
        delivered.quantity > 0 and not delivered.is_cancellation as is_sale,
        delivered.is_goods and not delivered.is_adjustment and delivered.unit_price > 0 and delivered.quantity <> 0
            as is_counted,
        abs(delivered.quantity) as quantity,
        cast(abs(delivered.quantity) * delivered.unit_price as decimal(18, 4)) as amount,
        delivered.occurred_at
    from read_parquet($lines) as delivered
    left join superseded on delivered.order_id = superseded.order_id
    where
        delivered.customer_ref is not null
        and (superseded.order_id is null or delivered.delivery_id = superseded.delivery_id)
),

orders as materialized (
    select
        order_id,
        min(customer_ref) as customer_ref,
        sum(case when is_sale and is_counted then amount end) as amount,
        min(occurred_at) as ordered_at
    from lines
    group by order_id
    having bool_or(is_sale and is_counted)
),

returns as materialized (
    select
        customer_ref,
        upper(trim(product_id)) as product_id,
        quantity,
        amount,
        occurred_at,
        cast(timezone('{ZONE}', timezone('UTC', occurred_at)) as date) as returned_on
    from lines
    where not is_sale and is_counted
),

-- Few customers sent anything back within days of an order: only their orders are looked at line by line.
touched as materialized (
    select distinct
        orders.order_id,
        orders.customer_ref,
        orders.ordered_at
    from orders
    inner join returns
        on
            orders.customer_ref = returns.customer_ref
            and returns.occurred_at between orders.ordered_at and orders.ordered_at + interval {REVERSAL_DAYS} day
),

ordered_products as (
    select
        order_id,
        any_value(customer_ref) as customer_ref,
        any_value(ordered_at) as ordered_at,
        product_id,
        sum(quantity) as quantity
    from (
        select
            touched.*,
            upper(trim(lines.product_id)) as product_id,
            lines.quantity
        from lines
        inner join touched on lines.order_id = touched.order_id
        where lines.is_sale and lines.is_counted
    )
    group by
        order_id,
        product_id
),

came_back as (
    select
        ordered_products.order_id,
        ordered_products.product_id,
        ordered_products.quantity,
        returns.occurred_at,
        sum(returns.quantity) over (
            partition by ordered_products.order_id, ordered_products.product_id order by returns.occurred_at
        ) as returned
    from ordered_products
    inner join returns
        on
            ordered_products.customer_ref = returns.customer_ref
            and ordered_products.product_id = returns.product_id
            and returns.occurred_at
            between ordered_products.ordered_at and ordered_products.ordered_at + interval {REVERSAL_DAYS} day
),

complete as (
    select
        order_id,
        count(*) as products,
        max(completed_at) as reversed_at
    from (
        select
            order_id,
            min(occurred_at) as completed_at
        from came_back
        where returned >= quantity
        group by
            order_id,
            product_id
    )
    group by order_id
),

reversals as (
    select
        complete.order_id,
        any_value(complete.reversed_at) as reversed_at
    from complete
    inner join ordered_products on complete.order_id = ordered_products.order_id
    group by complete.order_id
    having count(*) = any_value(complete.products)
),

dated as materialized (
    select
        orders.customer_ref,
        orders.amount,
        orders.ordered_at,
        cast(timezone('{ZONE}', timezone('UTC', orders.ordered_at)) as date) as ordered_on,
        reversals.reversed_at
    from orders
    left join reversals on orders.order_id = reversals.order_id
),

-- Recency has a season: it is scored against the twelve month starts.
months as (
    select
        day,
        timezone('UTC', timezone('{ZONE}', cast(day as timestamp))) as as_of
    from (
        select cast(date_trunc('month', date '{AS_OF}') - to_months(cast(back as integer)) as date) as day
        from range(12) as numbers (back)
    )
),

pool as (
    select date_diff('day', max(dated.ordered_on), months.day) as recency_days
    from dated
    inner join months
        on
            dated.ordered_at < months.as_of
            and dated.ordered_on >= months.day - {WINDOW_DAYS}
            and (dated.reversed_at is null or dated.reversed_at >= months.as_of)
    group by
        dated.customer_ref,
        months.day
),

today as (
    select
        date '{AS_OF}' as day,
        timezone('UTC', timezone('{ZONE}', cast(date '{AS_OF}' as timestamp))) as as_of
),

bought as (
    select
        dated.customer_ref,
        date_diff(
            'day', max(case when dated.reversed_at is null or dated.reversed_at >= today.as_of then dated.ordered_on end),
            date '{AS_OF}'
        ) as recency_days,
        count(distinct case when dated.reversed_at is null or dated.reversed_at >= today.as_of then dated.ordered_on end)
            as frequency,
        sum(dated.amount) as amount
    from dated
    inner join today on dated.ordered_at < today.as_of and dated.ordered_on >= today.day - {WINDOW_DAYS}
    group by dated.customer_ref
),

came_back_in_all as (
    select
        returns.customer_ref,
        sum(returns.amount) as amount
    from returns
    inner join today on returns.occurred_at < today.as_of and returns.returned_on >= today.day - {WINDOW_DAYS}
    group by returns.customer_ref
),

rfm as (
    select
        bought.customer_ref,
        bought.recency_days,
        bought.frequency,
        bought.amount - coalesce(came_back_in_all.amount, 0) as monetary
    from bought
    left join came_back_in_all on bought.customer_ref = came_back_in_all.customer_ref
    where bought.frequency > 0
),

recency_cuts as (
    select quantile_disc(recency_days, [0.2, 0.4, 0.6, 0.8]) as recency
    from pool
),

cuts as (
    select
        quantile_disc(frequency, [0.2, 0.4, 0.6, 0.8]) as frequency,
        quantile_disc(monetary, [0.2, 0.4, 0.6, 0.8]) as monetary
    from rfm
)

select
    rfm.*,
    5 - len(list_filter(recency_cuts.recency, lambda cut: rfm.recency_days > cut)) as r_score,
    1 + len(list_filter(cuts.frequency, lambda cut: rfm.frequency > cut)) as f_score,
    1 + len(list_filter(cuts.monetary, lambda cut: rfm.monetary > cut)) as m_score
from rfm
cross join cuts
cross join recency_cuts
order by rfm.customer_ref
"""


@dataclass(frozen=True)
class Lake:
    """The Parquet files that both read."""

    orders: list[str]
    lines: list[str]

    @classmethod
    def of(cls, home: Path) -> Lake:
        shop = home / "lake/accepted/shop"
        return cls(*(sorted(map(str, (shop / table).rglob("*.parquet"))) for table in ("orders", "order_lines")))


def by_sql(lake: Lake) -> pd.DataFrame:
    """RFM by the query above, over the Parquet files as they are."""
    with floor_connection() as connection:
        return connection.execute(RFM, {"orders": lake.orders, "lines": lake.lines}).df()


def by_pandas(lake: Lake) -> pd.DataFrame:
    """RFM as notebooks do it: `read_parquet`, `groupby` and `agg`, the recency by a lambda; same definitions."""
    import pandas as pd

    wanted = ["order_id", "customer_ref", "product_id", "quantity", "unit_price", "occurred_at", "delivery_id"]
    flags = ["is_goods", "is_adjustment", "is_cancellation"]
    lines = pd.concat([pd.read_parquet(file, columns=[*wanted, *flags]) for file in lake.lines])
    lines = lines.astype({"quantity": float, "unit_price": float})

    lines = lines[lines["delivery_id"] == lines.groupby("order_id")["delivery_id"].transform("max")]
    lines = lines[lines["customer_ref"].notna()].copy()
    lines["ordered_at"] = lines.groupby("order_id")["occurred_at"].transform("min")
    lines = lines[~lines["is_adjustment"].astype(bool) & lines["is_goods"].astype(bool)]
    lines = lines[(lines["unit_price"] > 0) & (lines["quantity"] != 0)]
    lines["product_id"] = lines["product_id"].str.strip().str.upper()
    back = (lines["quantity"] < 0) | lines["is_cancellation"].astype(bool)
    lines["quantity"] = lines["quantity"].abs()
    lines["amount"] = (lines["quantity"] * lines["unit_price"]).round(4)
    sales, returns = lines[~back], lines[back].copy()
    returns["returned_on"] = _local_day(returns["occurred_at"])

    orders = sales.groupby("order_id", as_index=False).agg(
        customer_ref=("customer_ref", "min"), amount=("amount", "sum"), ordered_at=("ordered_at", "min")
    )
    orders["ordered_on"] = _local_day(orders["ordered_at"])
    orders = orders.merge(_reversals(sales, returns), on="order_id", how="left")

    today = pd.Timestamp(AS_OF)
    current = _rfm_at(orders, returns, today)
    month = today.replace(day=1)
    pool = pd.concat([_rfm_at(orders, returns, month - pd.DateOffset(months=ago))["recency_days"] for ago in range(12)])
    current["r_score"] = 6 - _score(current["recency_days"], pool)
    current["f_score"] = _score(current["frequency"], current["frequency"])
    current["m_score"] = _score(current["monetary"], current["monetary"])
    return current.reset_index().sort_values("customer_ref", ignore_index=True)


def _local_day(instants: pd.Series) -> pd.Series:
    return instants.dt.tz_localize("UTC").dt.tz_convert(ZONE).dt.tz_localize(None).dt.normalize()


def _reversals(sales: pd.DataFrame, returns: pd.DataFrame) -> pd.DataFrame:
    """Orders of which every product came back in time, and when the last one had."""
    import pandas as pd

    products = sales.groupby(["order_id", "customer_ref", "product_id"], as_index=False).agg(
        quantity=("quantity", "sum"), ordered_at=("ordered_at", "min")
    )
    pairs = products.merge(returns, on=["customer_ref", "product_id"], suffixes=("", "_back"))
    since = pairs["occurred_at"] - pairs["ordered_at"]
    pairs = pairs[(since >= pd.Timedelta(0)) & (since <= pd.Timedelta(days=REVERSAL_DAYS))].sort_values("occurred_at")
    pairs["returned"] = pairs.groupby(["order_id", "product_id"])["quantity_back"].cumsum()
    complete = pairs[pairs["returned"] >= pairs["quantity"]]
    dates = complete.groupby(["order_id", "product_id"], as_index=False).agg(occurred_at=("occurred_at", "min"))
    found = dates.groupby("order_id").agg(products=("product_id", "count"), reversed_at=("occurred_at", "max"))
    found = found.join(products.groupby("order_id")["product_id"].count().rename("ordered"))
    return found.loc[found["products"] == found["ordered"], ["reversed_at"]].reset_index()


def _rfm_at(orders: pd.DataFrame, returns: pd.DataFrame, today: pd.Timestamp) -> pd.DataFrame:
    import pandas as pd

    as_of = today.tz_localize(ZONE).tz_convert("UTC").tz_localize(None)
    earliest = today - pd.Timedelta(days=WINDOW_DAYS)
    window = orders[(orders["ordered_at"] < as_of) & (orders["ordered_on"] >= earliest)]
    standing = window[~(window["reversed_at"] < as_of)]
    result = standing.groupby("customer_ref").agg(
        recency_days=("ordered_on", lambda days: (today - days.max()).days),
        frequency=("ordered_on", "nunique"),
    )
    came_back = returns[(returns["occurred_at"] < as_of) & (returns["returned_on"] >= earliest)]
    result["monetary"] = window.groupby("customer_ref")["amount"].sum()
    result["monetary"] -= came_back.groupby("customer_ref")["amount"].sum().reindex(result.index, fill_value=0)
    return result[["recency_days", "frequency", "monetary"]]


def _score(values: pd.Series, among: pd.Series) -> np.ndarray:
    """1 to 5 by the 20, 40, 60 and 80 % values of `among` by nearest rank, which `qcut` would interpolate."""
    import numpy as np

    ascending = np.sort(among.to_numpy().round(4) if among.dtype.kind == "f" else among.to_numpy())
    cuts = [ascending[(k * len(ascending) + 4) // 5 - 1] for k in range(1, 5)]
    rounded = values.round(4) if values.dtype.kind == "f" else values
    return 1 + np.searchsorted(cuts, rounded, side="left")


def compare(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """Stop unless both say the same of everyone."""
    if list(ours["customer_ref"]) != list(theirs["customer_ref"]):
        sys.exit(f"SQL and pandas differ in whom they know: {len(ours)} customers and {len(theirs)}")
    for name in ("recency_days", "frequency", "monetary", "r_score", "f_score", "m_score"):
        apart = (ours[name].astype(float) - theirs[name].astype(float)).abs() > 0.00005
        if apart.any():
            sys.exit(f"SQL and pandas differ in {name} of {int(apart.sum())} customers")


def median_seconds(compute: Callable[[Lake], pd.DataFrame], lake: Lake) -> float:
    """Of three runs, after one that warms caches and imports."""
    compute(lake)
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        compute(lake)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def main() -> None:
    """Load the real orders, compute both ways, compare, print."""
    with tempfile.TemporaryDirectory(prefix="mailwright-bench-") as folder:
        home = Path(folder) / "home"
        run(
            [sys.executable, "-m", "orchestration.cli", "sample", "online-retail", "--orders-only"],
            {**os.environ, "MAILWRIGHT_HOME": str(home)},
        )
        lake = Lake.of(home)
        ours, theirs = by_sql(lake), by_pandas(lake)
        compare(ours, theirs)
        sql, pandas = median_seconds(by_sql, lake), median_seconds(by_pandas, lake)
    say(f"RFM of {len(ours):,} customers in pandas (median of {RUNS})", pandas, "s")
    say(f"the same in SQL (median of {RUNS})", sql, "s")
    say("faster than pandas", pandas / sql, "x")


if __name__ == "__main__":
    main()
