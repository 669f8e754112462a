"""A small dbt project made by hand, to break."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

SQL = """\
with

customers as (

    select * from {{ ref('customer_360') }}

),

final as (

    select customer_id
    from customers
    where %s

)

select * from final
"""
YAML = """\
version: 2

models:
  - name: seg_%s
    description: One row per customer who will do.
    config:
      contract: {enforced: true}
      meta:
        owner: crm
        purpose: To try things out.
        consent_purpose: profiling
        expected_size: {min: 1, max: 1000}
        cadence: weekly
        kpi: {metric: bought_90, effect: 0.02}
        min_dwell_days: 7
        reentry_after_days: 14
    columns:
      - name: customer_id
        data_type: varchar
        description: Customer
"""

MARTS = """\
version: 2

models:
  - name: customer_360
    description: One row per customer.
    columns:
      - {name: customer_id, data_type: varchar}
      - {name: email, data_type: varchar, config: {meta: {pii: true}}}
      - {name: birthday, data_type: date, config: {meta: {pii: true, sensitivity: proxy}}}
      - {name: age_band, data_type: varchar}
      - {name: country_code, data_type: varchar, config: {meta: {sensitivity: proxy}}}
      - {name: faith, data_type: varchar, config: {meta: {sensitivity: special}}}
      - {name: orders, data_type: integer}
      - {name: as_of_on, data_type: date}
"""
PROJECT = """\
name: mailwright
models:
  mailwright:
    staging: {+schema: staging}
    marts: {+schema: marts}
seeds:
  mailwright: {+schema: seeds}
vars:
  many: 8
  segment_min_members: 3
"""

Write = Callable[[str, str], Path]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one good segment, `good`."""
    folder = tmp_path / "dbt_project"
    (folder / "models" / "segments").mkdir(parents=True)
    (folder / "dbt_project.yml").write_text(PROJECT)
    marts, staging = folder / "models" / "marts" / "customers", folder / "models" / "staging" / "crm"
    for place in (marts, staging, folder / "seeds"):
        place.mkdir(parents=True)
    (marts / "customer_360.sql").write_text("select 1 as customer_id\n")
    (marts / "customer_360.yml").write_text(MARTS)
    (staging / "stg_crm__contacts.sql").write_text("select 1 as contact_id\n")
    (folder / "seeds" / "countries.csv").write_text("country_code,name\nFR,France\n")
    (folder / "models" / "segments" / "seg_good.sql").write_text(SQL % "orders > {{ var('many') }}")
    (folder / "models" / "segments" / "seg_good.yml").write_text(YAML % "good")
    return folder


@pytest.fixture
def write(project: Path) -> Write:
    """Write one file of `models/segments`."""

    def write(name: str, text: str) -> Path:
        path = project / "models" / "segments" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.fixture
def warehouse() -> Iterator[duckdb.DuckDBPyConnection]:
    """Twenty customers, c00 to c19, of whom c<n> has n orders."""
    with duckdb.connect() as connection:
        connection.execute("create schema marts")
        connection.execute("create schema seeds")
        connection.execute("create table seeds.countries as select 'FR' as country_code, 'France' as name")
        connection.execute(
            """
            create table marts.customer_360 as
            select
                format('c{:02d}', i) as customer_id,
                format('c{:02d}@example.com', i) as email,
                date '1990-01-01' as birthday,
                '25-34' as age_band,
                'FR' as country_code,
                'none' as faith,
                cast(i as integer) as orders,
                date '2025-01-01' as as_of_on
            from range(20) as numbers (i)
            """
        )
        connection.execute("create table marts.dim_customers as select customer_id, email from marts.customer_360")
        yield connection
