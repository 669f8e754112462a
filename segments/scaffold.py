"""A new segment's two files, ready to be filled in."""

from __future__ import annotations

import re
from pathlib import Path

from core.errors import MailwrightError
from core.files import write_atomically
from segments.definitions import FOLDER, PREFIX, survey

LONGEST = 50
_SQL = """\
with

customers as (

    select * from {{ ref('customer_360') }}

),

final as (

    select customer_id
    from customers
    where
        order_days >= 2
        and age_days <= 90

)

select * from final
"""
_YAML = """\
version: 2

models:
  - name: seg_NAME
    description: One row per customer who ordered on two days or more, the last of them within 90 days.
    config:
      contract: {enforced: true}
      meta:
        owner: crm # who answers for it
        purpose: What mail to these customers is for, in a sentence.
        consent_purpose: profiling # marketing, where nothing but the address is used
        expected_size: {min_share: 0.01, max_share: 0.5} # of all customers; or {min: 100, max: 5000} customers
        cadence: weekly # daily, weekly or monthly
        kpi: {metric: bought_90, effect: 0.02} # bought, revenue or unsubscribed in 30, 90 or 180 days
        min_dwell_days: 14 # who enters stays so long
        reentry_after_days: 14 # who leaves stays out so long
        # sensitive_purpose: why a column such as age_band or region_type is needed
    columns:
      - name: customer_id
        data_type: varchar
        description: Customer
"""


def scaffold(project_dir: Path, name: str) -> tuple[Path, Path]:
    """Write the SQL and the YAML of a new segment.

    Args:
        project_dir: the dbt project.
        name: in small letters, digits and underscores; with or without `seg_`.

    Returns:
        Paths of the SQL and of the YAML file.

    Raises:
        MailwrightError: the name is taken, or none.
    """
    plain = name.removeprefix(PREFIX)
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", plain) or len(plain) > LONGEST:
        raise MailwrightError(
            f"{name!r} is no name for a segment: small letters, digits and single underscores, a letter first, at most"
            f" {LONGEST} of them, for example loyal_in_france"
        )
    folder = project_dir / FOLDER
    query, description = folder / f"{PREFIX}{plain}.sql", folder / f"{PREFIX}{plain}.yml"
    if plain in survey(project_dir).names or query.exists() or description.exists():
        raise MailwrightError(f"there is a segment {plain} already: {FOLDER}/{PREFIX}{plain}.sql")
    write_atomically(query, _SQL)
    write_atomically(description, _YAML.replace("NAME", plain))
    return query, description
