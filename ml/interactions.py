"""What customers did with products, read from the marts as it was known at an instant: arrays for `ml.affinity`.

DuckDB adds up; a row leaves it for each customer, product, kind and day. Only customers who may be profiled today are
read, whatever the instant. Bots, and visitors who did not allow tracking, are left out, as is what is no goods.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from ml.affinity import Catalogue, Interactions
from ml.model import Refused

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

READS = (
    "marts.dim_as_ofs",
    "marts.dim_products",
    "marts.customer_permissions",
    "marts.fct_order_lines",
    "marts.fct_web_events",
)
KINDS = ("view", "cart", "purchase")
HISTORY_DAYS = 730  # as far as RFM looks back; with a half-life of 180 days a purchase is then worth a sixteenth
MOVING_DAYS = 90
"""Where the shop tells no stock, what was sold or put into a cart within is available: what nobody takes may be gone."""

_PERMITTED = "select customer_id from marts.customer_permissions where may_be_profiled order by customer_id"
_PRODUCTS = """
select product_id, name, category, coalesce(in_stock, true) as in_stock, coalesce(is_consumable, false) as is_consumable
from marts.dim_products
where coalesce(is_goods, true)
order by product_id
"""
_MOVING = """
select product_id from marts.fct_order_lines
where line_type = 'sale' and known_at < $until and occurred_on between $first and $last
union
select product_id from marts.fct_web_events
where event_name = 'Product Added' and is_tracked and not coalesce(is_bot, false)
    and known_at < $until and occurred_on between $first and $last
"""
_INTERACTIONS = f"""
with customers as (
    select customer_id, row_number() over (order by customer_id) - 1 as customer from ({_PERMITTED})
),
items as (
    select product_id, row_number() over (order by product_id) - 1 as item from ({_PRODUCTS})
),
lines as (
    select
        customer_id, product_id, occurred_on,
        case line_type when 'return' then -1 else 1 end * abs(try_cast(quantity as decimal(18, 4))) as units
    from marts.fct_order_lines
    where known_at < $until and occurred_on between $first and $last
        and (line_type = 'return' or (line_type = 'sale' and quantity > 0))
),
moved as (
    select customer, item, occurred_on, sum(units) as units
    from lines inner join customers using (customer_id) inner join items using (product_id)
    where units is not null
    group by all
),
returned as (
    select distinct customer, item from moved where units < 0
),
levels as (
    select *, sum(units) over (partition by customer, item order by occurred_on) as level
    from moved semi join returned using (customer, item)
),
-- What comes back without having been sold takes nothing from later purchases.
heights as (
    select *, level - least(0, min(level) over (partition by customer, item order by occurred_on)) as height from levels
),
-- A return takes back the latest units before it. Of a day's units those are kept that no later height falls below.
kept as (
    select
        *,
        min(height) over (
            partition by customer, item order by occurred_on rows between current row and unbounded following
        ) > lag(height, 1, 0) over (partition by customer, item order by occurred_on) as is_kept
    from heights
),
purchases as (
    select customer, item, occurred_on from moved anti join returned using (customer, item) where units > 0
    union all
    select customer, item, occurred_on from kept where units > 0 and is_kept
),
looks as (
    select distinct
        customer, item, case event_name when 'Product Viewed' then 0 else 1 end as kind, occurred_on
    from marts.fct_web_events inner join customers using (customer_id) inner join items using (product_id)
    where event_name in ('Product Viewed', 'Product Added') and is_tracked and not coalesce(is_bot, false)
        and known_at < $until and occurred_on between $first and $last
),
done as (
    select customer, item, 2 as kind, occurred_on from purchases
    union all
    select customer, item, kind, occurred_on from looks
)
select
    cast(customer as integer) as customer, cast(item as integer) as item, cast(kind as integer) as kind,
    cast(date_diff('day', occurred_on, $on_date) as integer) as age
from done
order by customer, item, kind, age
"""


@dataclass(frozen=True)
class Known:
    """What was known at an instant.

    Attributes:
        on: the instant's local date.
        customers: ids of all who may be profiled today, sorted: the rows.
        interactions: of those customers.
        catalogue: all goods, in order of their ids. Names, categories and stock are today's: what they were is not kept.
        tells_stock: whether the shop says of any product that it is out of stock.
    """

    on: date
    customers: pa.Array
    interactions: Interactions
    catalogue: Catalogue
    tells_stock: bool

    @cached_property
    def last_ages(self) -> npt.NDArray[np.float64]:
        """Days since each customer's last interaction, NaN without any."""
        import numpy as np

        ages = np.full(self.interactions.shape[0], np.inf)
        np.minimum.at(ages, self.interactions.customers, self.interactions.ages)
        return np.where(np.isinf(ages), np.nan, ages)

    def digest(self) -> pd.DataFrame:
        """A row per part with the hash of all in it: what a model's label is made from."""
        import numpy as np
        import pandas as pd

        parts: dict[str, bytes] = {
            "customers": "\n".join(self.customers.to_pylist()).encode(),
            "catalogue": repr(
                list(zip(self.catalogue.item_ids, self.catalogue.names, self.catalogue.categories, strict=True))
            ).encode(),
            "available": self.catalogue.available.tobytes(),
            "consumable": b"" if self.catalogue.consumable is None else self.catalogue.consumable.tobytes(),
            "kinds": np.unique(self.interactions.kinds, return_inverse=True)[1].astype(np.int8).tobytes(),
            "rows": self.interactions.customers.tobytes(),
            "columns": self.interactions.items.tobytes(),
            "ages": self.interactions.ages.tobytes(),
        }
        return pd.DataFrame(
            {"part": list(parts), "digest": [hashlib.sha256(content).hexdigest() for content in parts.values()]}
        )


def read(connection: duckdb.DuckDBPyConnection, as_of: datetime, *, days_before: int = 0) -> Known:
    """What was known at `as_of`, or at the local midnight `days_before` days earlier.

    A line is as it stands today; which lines were known then, and which had come back, is as of then.

    Raises:
        Refused: a table or column is missing, or of another type.
    """
    import duckdb
    import numpy as np

    try:
        on = _local_date(connection, as_of) - timedelta(days=days_before)
        # Of the day that is split off, nothing: what was bought since begins with it.
        window = {
            "until": as_of - timedelta(days=days_before),
            "first": on - timedelta(days=HISTORY_DAYS),
            "last": on - timedelta(days=1 if days_before else 0),
        }
        customers = connection.sql(_PERMITTED).to_arrow_table().column(0)
        products = connection.sql(_PRODUCTS).to_arrow_table()
        rows = connection.execute(_INTERACTIONS, window | {"on_date": on}).fetchnumpy()
        in_stock = products.column("in_stock").to_numpy()
        tells_stock = not bool(in_stock.all())
        ids = products.column("product_id").to_pylist()
        if not tells_stock:
            moving = window | {"first": on - timedelta(days=MOVING_DAYS)}
            alive = {product for (product,) in connection.execute(_MOVING, moving).fetchall()}
            available = np.array([product in alive for product in ids], dtype=bool)
        else:
            # What was in stock then is not kept: judged lists may hold what is out of stock now.
            available = np.ones(len(ids), dtype=bool) if days_before else in_stock
    except (duckdb.BinderException, duckdb.CatalogException, duckdb.ConversionException) as error:
        raise Refused(f"interactions can't be read: {str(error).strip().splitlines()[0]}") from error
    consumable = products.column("is_consumable").to_numpy()
    return Known(
        on,
        customers.combine_chunks(),
        Interactions(
            np.asarray(rows["customer"], dtype=np.int64),
            np.asarray(rows["item"], dtype=np.int64),
            np.array(KINDS)[rows["kind"]],
            np.asarray(rows["age"], dtype=np.float64),
            (len(customers), len(ids)),
        ),
        Catalogue(
            ids,
            products.column("name").to_pylist(),
            products.column("category").to_pylist(),
            available,
            consumable if consumable.any() else None,
        ),
        tells_stock,
    )


def _local_date(connection: duckdb.DuckDBPyConnection, as_of: datetime) -> date:
    rows = connection.execute("select as_of_on from marts.dim_as_ofs where as_of = ?", [as_of]).fetchall()
    if not rows:
        raise Refused(f"{as_of:%Y-%m-%d %H:%M} is no as_of of marts.dim_as_ofs")
    found: date = rows[0][0]
    return found
