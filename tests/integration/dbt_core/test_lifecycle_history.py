"""Every stay in a lifecycle stage, found in one pass over the orders, is what walking from day to day finds.

The models run as dbt compiled them, over tables that hold one random set of customers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.home import Home
from core.settings import PROJECT_ROOT
from tests.integration.dbt_core.shop import Shop
from tests.reference import online_retail as reference

MODELS = ("lifecycle_thresholds", "customer_lifecycle_history", "customer_lifecycle", "customer_history")
TODAY = date(2012, 2, 29)
Stay = tuple[str, str | None, date, date | None]

random_cases = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Customer:
    """Someone known `known_days` before the as_of date, who ordered `ages` days before it.

    Attributes:
        ages: ascending; an age may occur more than once, as two orders of one day.
        reversed_ages: those of orders that were sent back.
    """

    known_days: int
    ages: tuple[int, ...]
    reversed_ages: tuple[int, ...]

    @property
    def days(self) -> list[date]:
        return sorted({TODAY - timedelta(days=age) for age in self.ages})

    @property
    def first_known_on(self) -> date:
        return TODAY - timedelta(days=self.known_days)


@st.composite
def crowds(draw: st.DrawFn) -> tuple[int, list[Customer]]:
    """A repurchase gap, and customers whose orders lie about as far apart as the thresholds that follow from it."""
    gap = draw(st.sampled_from([14, 15, 16, 30, 45]))
    edges = [max(2 * gap, 30), 6 * gap, 12 * gap]
    distance = st.one_of(
        st.integers(0, 3),
        st.sampled_from([edge + near for edge in edges for near in (-1, 0, 1, 2)]),
        st.integers(0, 14 * gap),
    )
    distances = st.lists(distance, max_size=6)
    customers = []
    for _ in range(draw(st.integers(1, 8))):
        ages = tuple(accumulate(draw(distances)))
        known_days = draw(st.sampled_from([0, 1, max(ages, default=0), max(ages, default=5) + 1, 400, 4000]))
        customers.append(Customer(known_days, ages, tuple(draw(st.lists(st.integers(0, 900), max_size=2)))))
    return gap, customers


def stays(customer: Customer, gap: int) -> list[Stay]:
    """Stage, the one before it, first day and first day of the next, by walking from day to day."""
    days = customer.days
    first = min([customer.first_known_on, *days[:1]])
    found: list[tuple[str, date]] = []
    for day in (first + timedelta(days=number) for number in range((TODAY - first).days + 1)):
        stage = reference.stage_on([ordered for ordered in days if ordered <= day], day, gap)
        if not found or found[-1][0] != stage:
            found.append((stage, day))
    follow = [*found[1:], ("", None)]
    before = [None, *(stage for stage, _ in found)]
    return [
        (stage, previous, entered, left)
        for (stage, entered), (_, left), previous in zip(found, follow, before, strict=False)
    ]


class Marts:
    """The lifecycle models over whichever customers."""

    def __init__(self, compiled: Path, scratch: Path) -> None:
        self.sql = {name: (compiled / "marts" / "customers" / f"{name}.sql").read_text() for name in MODELS}
        columns = yaml.safe_load((PROJECT_ROOT / "dbt_project/models/features/feat_customers.yml").read_text())
        features = ", ".join(f"{said['name']} {said['data_type']}" for said in columns["models"][0]["columns"])
        self.connection = duckdb.connect(str(scratch / "warehouse.duckdb"))
        for schema in ("marts", "features", "staging"):
            self.connection.execute(f"create schema {schema}")
        for table in (
            "marts.dim_as_ofs (as_of timestamp, as_of_on date, is_current boolean)",
            "marts.dim_customers (customer_id varchar, first_known_on date)",
            "marts.fct_orders (customer_id varchar, ordered_on date, is_reversed boolean)",
            "marts.fits_in_force (as_of timestamp, fit_version bigint, metric varchar, value decimal(18, 4))",
            "marts.customer_permissions (customer_id varchar, may_be_profiled boolean)",
            "marts.customer_rfm (customer_id varchar, as_of timestamp, recency_days integer, r_score integer,"
            " f_score integer, m_score integer, rfm_segment varchar, value_tier varchar, is_high_average_order boolean,"
            " fit_version bigint)",
            "staging.stg_ml__scores (model varchar, model_version varchar, customer_id varchar, as_of timestamp,"
            " score double, low double, high double, label varchar, reason_1 varchar, reason_2 varchar, reason_3 varchar)",
            f"features.feat_customers ({features})",
        ):
            self.connection.execute(f"create table {table}")

    def load(self, gap: int, customers: Sequence[Customer], models: Sequence[str] = MODELS) -> None:
        """Make these the customers, and build `models` of them."""
        names = [str(number) for number in range(len(customers))]
        orders: list[tuple[str | None, date, bool]] = [(None, TODAY, False)]
        features = []
        for name, customer in zip(names, customers, strict=True):
            orders += [(name, TODAY - timedelta(days=age), False) for age in customer.ages]
            orders += [(name, TODAY - timedelta(days=age), True) for age in customer.reversed_ages]
            days = customer.days
            features.append(
                {
                    "customer_id": name,
                    "as_of": TODAY,
                    "as_of_on": TODAY,
                    "order_days": len(days),
                    "age_days": (TODAY - days[-1]).days if days else None,
                    "last_gap_days": (days[-1] - days[-2]).days if len(days) > 1 else None,
                    "spend_total": 0,
                }
            )
        contents = {
            "marts.dim_as_ofs": [{"as_of": TODAY, "as_of_on": TODAY, "is_current": True}],
            "marts.fits_in_force": [
                {"as_of": TODAY, "fit_version": 1, "metric": "repurchase_gap_days", "value": gap},
            ],
            "marts.dim_customers": [
                {"customer_id": name, "first_known_on": customer.first_known_on}
                for name, customer in zip(names, customers, strict=True)
            ],
            "marts.fct_orders": [
                dict(zip(("customer_id", "ordered_on", "is_reversed"), order, strict=True)) for order in orders
            ],
            "features.feat_customers": features,
        }
        for table, rows in contents.items():
            self.connection.register("rows", pa.Table.from_pylist(rows))
            self.connection.execute(f"delete from {table}")
            self.connection.execute(f"insert into {table} by name select * from rows")
        for name in models:
            self.connection.execute(f"create or replace table marts.{name} as {self.sql[name]}")

    def history(self) -> dict[int, list[Stay]]:
        """What the model says of each customer."""
        found: dict[int, list[Stay]] = {}
        rows = self.connection.execute(
            "select customer_id, stage, previous_stage, entered_on, left_on from marts.customer_lifecycle_history"
            " order by cast(customer_id as integer), entered_on"
        ).fetchall()
        for name, *stay in rows:
            found.setdefault(int(name), []).append(tuple(stay))
        return found


@pytest.fixture(scope="module")
def marts(tmp_path_factory: pytest.TempPathFactory) -> Marts:
    scratch = tmp_path_factory.mktemp("lifecycle")
    shop = Shop(Home.create(scratch / "home", "UTC", "GBP"), scratch)
    shop.dbt("compile", "--select", *MODELS)
    return Marts(scratch / "target" / "compiled" / "mailwright" / "models", scratch)


@random_cases
@given(crowd=crowds())
def test_history_is_what_walking_from_day_to_day_finds(marts: Marts, crowd: tuple[int, list[Customer]]) -> None:
    gap, customers = crowd
    marts.load(gap, customers, MODELS[:2])
    assert marts.history() == {number: stays(customer, gap) for number, customer in enumerate(customers)}


@random_cases
@given(crowd=crowds())
def test_the_open_stay_is_the_stage_that_the_features_give(marts: Marts, crowd: tuple[int, list[Customer]]) -> None:
    marts.load(*crowd)
    apart = marts.connection.execute(
        """
        select customer_id, lifecycle.stage, lifecycle_stage
        from marts.customer_lifecycle as lifecycle
        full join marts.customer_history as history using (customer_id)
        where lifecycle.stage is distinct from lifecycle_stage
        """
    ).fetchall()
    assert apart == []
