"""A zoo of broken segments beside good ones, through dbt, the memberships and the release of a small shop."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from activation import releases
from core.clock import write_clock
from core.home import Home
from core.settings import PROJECT_ROOT, Settings
from core.warehouse import warehouse
from orchestration.dbt import DbtRunner, StageReport
from segments import checks
from segments.checks import Report
from segments.setting_aside import set_aside
from tests.integration.dbt_core.shop import Shop

pytestmark = pytest.mark.slow

DAY = "2025-06-02"
C360 = "{{ ref('customer_360') }}"
YAML = """\
version: 2

models:
  - name: seg_%s
    description: One row per customer.
    config: {contract: {enforced: true}}
    columns:
      - name: customer_id
        data_type: varchar
        description: Customer
"""
# File -> text, and what is said of it. Those of the first half stop dbt itself.
ZOO = {
    "seg_bad_jinja.sql": (f"select customer_id from {C360} {{% if %}}", "line 1"),
    "seg_bad_ref.sql": ("select customer_id from {{ ref('nix') }}", "there is no model nix"),
    "seg_bad_loop.sql": ("select customer_id from {{ ref('segment_memberships') }}", "activation"),
    "seg_bad_macro.sql": (f"select customer_id from {C360} where {{{{ nix() }}}}", "`nix` is nothing"),
    "seg_empty.sql": ("", "is empty"),
    "seg_bad_yaml.sql": (f"select customer_id from {C360}", "line "),
    "seg_bad_test.sql": (f"select customer_id from {C360}", "its test nix_seg_bad_test_customer_id fails"),
    "seg_syntax.sql": (f"select customer_id from {C360} where orders >", "can't be read"),
    "seg_column.sql": (f"select customer_id from {C360} where nix", "there is no column nix"),
    "seg_type.sql": (f"select customer_id from {C360} where order_days > 'many'", "does not run: Conversion Error"),
    "seg_doubles.sql": (f"select customer_id from {C360} union all select customer_id from {C360}", "more than once"),
    "seg_nulls.sql": (f"select cast(null as varchar) as customer_id from {C360}", "without a customer"),
    "seg_strangers.sql": (f"select 'x' || customer_id as customer_id from {C360}", "that are no customers"),
    "seg_two_columns.sql": (f"select customer_id, order_days from {C360}", "instead of customer_id alone"),
    "seg_personal.sql": (f"select customer_id from {C360} where email like '%@example.com'", "customer_360.email"),
    "seg_sensitive.sql": (f"select customer_id from {C360} where age_band = '25-34'", "sensitive_purpose"),
}
YAMLS = {
    "seg_bad_yaml.yml": "version: 2\nmodels:\n  - name: [\n",
    "seg_bad_test.yml": YAML % "bad_test" + "        data_tests: [nix]\n",
}
UNTOUCHED = ("dormant", "one_timers")


@dataclass
class Kept:
    """A home with a warehouse, and a copy of the project that may be broken."""

    home: Home
    settings: Settings
    folder: Path

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def refresh(self, day: str) -> tuple[Report, StageReport, releases.Release]:
        """What a refresh does from the check of the segments to the release, by a runner of its own."""
        write_clock(self.home, datetime.fromisoformat(f"{day}T00:00:00+00:00"))
        runner = DbtRunner(self.settings, self.home)
        kept_away = runner.kept_away()
        runner.build("core", names=["dim_as_ofs"]).raise_if_failed()
        with warehouse(self.settings, self.home) as connection:
            report = checks.refresh(connection, self.home, runner.project_dir, kept_away)
        built = runner.build("audiences")
        built.raise_if_failed()
        with warehouse(self.settings, self.home) as connection:
            return report, built, releases.freeze(self.settings, self.home, connection)

    def members(self) -> dict[str, set[str]]:
        with warehouse(self.settings, self.home) as connection:
            rows = connection.execute("select segment, customer_id from activation.segment_memberships").fetchall()
        found: dict[str, set[str]] = {}
        for segment, customer in rows:
            found.setdefault(segment, set()).add(customer)
        return found

    def status(self) -> dict[str, tuple[bool, datetime | None]]:
        with warehouse(self.settings, self.home) as connection:
            rows = connection.execute("select segment, is_fresh, as_of from activation.segment_status").fetchall()
        return {segment: (is_fresh, as_of) for segment, is_fresh, as_of in rows}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """Twelve customers, c0 to c11: the even ones ordered once, half a year ago, the odd ones last week. Two others order
    every 20 days, which is the gap that stages are counted in."""
    scratch = tmp_path_factory.mktemp("zoo")
    checkout = scratch / "checkout"
    shutil.copytree(
        PROJECT_ROOT / "dbt_project", checkout / "dbt_project", ignore=shutil.ignore_patterns("target", "logs")
    )
    home = Home.create(scratch / "home", "UTC", "GBP")
    settings = Settings(home=home.root, memory_limit="500MB", threads=2)
    settings.__dict__["project_dir"] = checkout
    shop = Shop(home, scratch, checkout / "dbt_project")
    dates = [(f"c{n}", datetime(2024, 12, 1, 10) if n % 2 == 0 else datetime(2025, 5, 25, 10)) for n in range(12)]
    dates += [(f"r{n}", datetime(2025, 1, 1, 10) + timedelta(days=20 * place)) for n in range(2) for place in range(8)]
    shop.deliver(
        "shop",
        orders=[
            {"order_id": str(n), "ordered_at": at.isoformat(), "customer_ref": customer}
            for n, (customer, at) in enumerate(dates)
        ],
        order_lines=[
            {"order_id": str(n), "product_id": "mug", "quantity": 1, "unit_price": 5 + n} for n in range(len(dates))
        ],
        products=[{"product_id": "mug", "name": "Mug"}],
    )
    shop.set_clock(f"{DAY}T00:00:00")
    shop.dbt("seed")
    shop.dbt("run")
    made = Kept(home, settings, checkout / "dbt_project" / "models" / "segments")
    made.write("seg_one_timers.sql", f"select customer_id from {C360} where order_days = 1")
    return made


def test_a_zoo_is_set_aside_and_the_others_go_on(kept: Kept) -> None:
    report, _, first = kept.refresh(DAY)
    assert report.set_aside == []
    before = kept.members()
    assert len(before["one_timers"]) == 12
    assert len(before["onboarding"]) == 6
    assert first.is_new

    for name, (text, _) in ZOO.items():
        kept.write(name, text)
    for name, text in YAMLS.items():
        kept.write(name, text)
    onboarding = (kept.folder / "seg_onboarding.sql").read_text()
    kept.write("seg_onboarding.sql", onboarding.replace("'onboarding'", "'onboarding' and nix"))
    kept.write("seg_one_timers.sql", f"select customer_id from {C360} where order_days = 1 and age_days > 30")

    later = (datetime.fromisoformat(DAY) + timedelta(days=7)).date().isoformat()
    report, built, second = kept.refresh(later)
    found_later = {"bad_test"}
    assert not found_later & {problem.segment for problem in report.set_aside}
    said = set_aside(kept.home)
    animals = {Path(name).stem.removeprefix("seg_"): reason for name, (_, reason) in ZOO.items()}
    assert sorted(said) == sorted([*animals, "onboarding"])
    for name, reason in animals.items():
        assert reason in said[name].reason, said[name]
        assert Path(said[name].file).stem == f"seg_{name}"
    assert "there is no column nix" in said["onboarding"].reason

    assert {node.name for node in built.nodes} >= {"seg_dormant", "seg_one_timers", "segment_memberships"}
    assert not {node.name for node in built.nodes} & {f"seg_{name}" for name in said}
    after = kept.members()
    assert after["onboarding"] == before["onboarding"], "its last good members stay"
    assert len(after["one_timers"]) == 6, "the others are of today"
    assert not set(after) & set(animals)
    status = kept.status()
    assert status["onboarding"] == (False, datetime.fromisoformat(DAY))
    assert status["one_timers"] == (True, datetime.fromisoformat(later))
    assert status["bad_jinja"] == (False, None)
    assert second.is_new
    assert not second.states["onboarding"].fresh
    assert second.states["one_timers"].fresh

    # `dbt build` by hand counts a corrected file at once, as its text is another one than the check saw.
    for name in (*ZOO, *YAMLS):
        (kept.folder / name).unlink()
    kept.write("seg_onboarding.sql", onboarding + "\n")
    built = DbtRunner(kept.settings, kept.home).build("audiences", names=["segment_memberships", "segment_status"])
    built.raise_if_failed()
    assert kept.status()["onboarding"][0]

    report, _, _ = kept.refresh(later)
    assert report.set_aside == []
    assert all(is_fresh for is_fresh, _ in kept.status().values())
