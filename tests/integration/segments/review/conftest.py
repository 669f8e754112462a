"""A small retailer with a git repository of segments, a warehouse with a past, and published marts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from core.home import Home
from core.settings import Settings
from orchestration.publishing import publish

AS_OF = datetime(2011, 12, 10)
PROJECT = """
name: mailwright
vars:
  big: 50
"""
SEGMENT = "select customer_id from {{ ref('customer_360') }} where "
YAML = """
models:
  - name: {model}
    description: {description}
    config:
      meta: {{owner: crm, purpose: To try it., consent_purpose: profiling, min_dwell_days: 14, reentry_after_days: 30}}
"""
MANIFEST = {
    "nodes": {
        "model.mailwright.customer_360": {
            "resource_type": "model",
            "name": "customer_360",
            "columns": {"email": {"config": {"meta": {"pii": True}}}},
        }
    }
}


@dataclass(frozen=True)
class Shop:
    """The retailer: its home, its checkout and what to do with them."""

    settings: Settings
    home: Home
    checkout: Path

    @property
    def segments(self) -> Path:
        return self.checkout / "dbt_project" / "models" / "segments"

    def write(self, name: str, condition: str, description: str = "One row per customer.") -> None:
        """Write a segment; a condition is completed to a query unless it is one."""
        sql = condition if condition.lstrip().startswith(("select", "with")) else SEGMENT + condition
        (self.segments / f"seg_{name}.sql").write_text(sql + "\n")
        (self.segments / f"seg_{name}.yml").write_text(YAML.format(model=f"seg_{name}", description=description))

    def delete(self, name: str) -> None:
        for suffix in ("sql", "yml"):
            (self.segments / f"seg_{name}.{suffix}").unlink()

    def commit(self) -> str:
        """Commit everything; returns the commit."""
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "Change segments")
        return self.git("rev-parse", "HEAD").strip()

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ["git", "-C", str(self.checkout), *identity, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout

    def execute(self, *statements: str) -> None:
        """Run statements in the warehouse."""
        with duckdb.connect(str(self.home.warehouse)) as connection:
            for statement in statements:
                connection.execute(statement)

    def publish(self) -> None:
        moment = AS_OF.replace(tzinfo=UTC)
        publish(self.settings, self.home, MANIFEST, as_of=moment, finished_at=moment)

    def release(
        self,
        number: int,
        members: Mapping[str, Sequence[str]],
        *,
        as_of: datetime,
        sql: Mapping[str, str] | None = None,
    ) -> None:
        """Write a release as far as reviewing reads it: memberships, definitions, addresses."""
        folder = self.home.releases / f"{number:06}"
        folder.mkdir(parents=True)
        kept = {name: {"members": len(ids), "sql": (sql or {}).get(name)} for name, ids in members.items()}
        said: dict[str, Any] = {"number": number, "as_of": as_of.replace(tzinfo=UTC).isoformat(), "segments": kept}
        (folder / "release.json").write_text(json.dumps(said))
        rows = [(customer, name) for name, ids in members.items() for customer in ids]
        tables = {
            "memberships": ("customer_id varchar, segment varchar", rows),
            "addresses": (
                "email varchar, customer_id varchar",
                [("a@example.com", ident(1)), ("b@example.com", ident(2))],
            ),
            "profiles": ("email varchar, customer_id varchar", [("a@example.com", ident(1))]),
            "suppressed": ("email varchar, suppression_type varchar", [("b@example.com", "unsubscribe")]),
        }
        with duckdb.connect() as connection:
            for table, (columns, content) in tables.items():
                connection.execute(f"create table {table} ({columns})")
                for row in content:
                    connection.execute(f"insert into {table} values (?, ?)", list(row))
                connection.execute(f"copy {table} to '{folder / table}.parquet' (format parquet)")

    def history(self, *rows: tuple[int, datetime, str, str, str, str | None]) -> None:
        """Write what releases noted: (release, as_of, customer, segment, change, cause)."""
        folder = self.home.releases / "history"
        folder.mkdir(parents=True, exist_ok=True)
        with duckdb.connect() as connection:
            connection.execute(
                "create table h (release bigint, as_of timestamp, customer_id varchar, segment varchar,"
                " change varchar, cause varchar)"
            )
            for row in rows:
                connection.execute("insert into h values (?, ?, ?, ?, ?, ?)", list(row))
            connection.execute(f"copy h to '{folder}/000001.parquet' (format parquet)")


def ident(number: int) -> str:
    """The id of the customer of that number."""
    return f"c0ffee{number:010}"


def idents(*numbers: int) -> list[str]:
    return [ident(number) for number in numbers]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Customers 0 to 99, whose `value` is their number today and was 2 less per month before; 20 segments of none."""
    home = Home.create(tmp_path / "home", "Europe/London", "GBP", AS_OF.replace(tzinfo=UTC))
    settings = Settings(home=home.root, memory_limit="512MB", threads=1)
    checkout = tmp_path / "checkout"
    settings.__dict__["project_dir"] = checkout
    made = Shop(settings, home, checkout)
    made.segments.mkdir(parents=True)
    (checkout / "dbt_project" / "dbt_project.yml").write_text(PROJECT)
    made.git("init", "-q", "-b", "main")
    made.execute(
        "create schema marts",
        "create schema features",
        "create schema activation",
        """
        create table marts.dim_as_ofs as
        select
            timestamp '2011-12-10' - to_days((28 * n)::int) as as_of,
            cast(timestamp '2011-12-10' - to_days((28 * n)::int) as date) as as_of_on,
            n = 0 as is_current
        from range(6) as t (n)
        """,
        """
        create table marts.customer_history as
        select
            format('c0ffee{:010d}', i) as customer_id,
            as_of,
            as_of_on,
            is_current,
            cast(i - 2 * date_diff('day', as_of_on, date '2011-12-10') // 28 as integer) as value,
            case when as_of >= timestamp '2011-11-01' then i / 100.0 end as churn_score
        from range(100) as t (i) cross join marts.dim_as_ofs
        """,
        """
        create table marts.customer_360 as
        select *, customer_id || '@example.com' as email, value % 2 = 0 as has_abandoned_cart
        from marts.customer_history where is_current
        """,
        "create table marts.dim_customers as select customer_id from marts.customer_360",
        """
        create table marts.identity_journal as
        select 1 as run, 1 as entry, 'c0ffee0000000001' as customer_id, 'dead00000000beef' as other_customer_id,
            'merged' as event
        """,
        "create table features.feat_customers as select customer_id, as_of, value as orders from marts.customer_history",
        # Whoever had a value of 60 or more bought for 10.
        """
        create table features.outcomes as
        select customer_id, as_of, horizon_days, value >= 60 as bought,
            cast(case when value >= 60 then 10 else 0 end as decimal(18, 4)) as revenue
        from marts.customer_history cross join (values (30), (90)) as h (horizon_days)
        where date_diff('day', as_of_on, date '2011-12-10') >= horizon_days
        """,
        "create table activation.segment_memberships (customer_id varchar, segment varchar)",
        "insert into activation.segment_memberships select customer_id, 'big' from marts.customer_360 where value > 50",
        """
        create table activation.audience_funnel as select 1 as step_number, 'matched' as step, 100 as addresses
        """,
    )
    made.write("big", "value > {{ var('big') }}", "One row per customer of value.")
    made.write("small", "value < 60")
    made.commit()
    made.publish()
    return made
