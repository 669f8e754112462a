"""A small dbt project made by hand, to break."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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

Write = Callable[[str, str], Path]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with one good segment, `good`."""
    folder = tmp_path / "dbt_project"
    (folder / "models" / "segments").mkdir(parents=True)
    (folder / "dbt_project.yml").write_text("name: mailwright\nvars:\n  many: 8\n")
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
