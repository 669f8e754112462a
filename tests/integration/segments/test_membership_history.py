"""The path of every customer, over five releases in which all happens that moves one: as the mart tells it.

Real deliveries, the project's own models and a refresh's own steps; four segments of one line each.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from activation import rollback
from activation.releases import Release
from core.home import Home
from core.settings import PROJECT_ROOT, Settings
from orchestration.dbt import DbtRunner
from orchestration.refresh import check_segments, freeze_release
from tests.integration.dbt_core.shop import Shop, customer_id, record_id

pytestmark = pytest.mark.slow

RECENT = "select customer_id from {{ ref('customer_360') }} where age_days <= %s"
SEGMENTS = {
    "recent": RECENT % 30,
    "twice": "select customer_id from {{ ref('customer_360') }} where order_days >= 2",
    "profiled": "select customer_id from {{ ref('customer_permissions') }} where may_be_profiled",
}
FIRST, SECOND, THIRD, FOURTH, FIFTH = (f"2025-06-{day:02}" for day in (2, 12, 20, 24, 26))


@dataclass
class Retailer:
    """A home, and a checkout of its own whose segments change."""

    shop: Shop
    settings: Settings

    @property
    def segments(self) -> Path:
        return self.shop.project / "models" / "segments"

    def define(self, name: str, sql: str) -> None:
        (self.segments / f"seg_{name}.sql").write_text(sql)

    def order(self, customer: str, day: str, received_on: str | None = None) -> None:
        """An order of ten; delivered on the day, or when it is said to have been received."""
        order_id = f"{customer} {day}"
        self.shop.deliver(
            "shop",
            f"{received_on or day}T12:00:00",
            orders=[{"order_id": order_id, "ordered_at": f"{day}T10:00:00", "customer_ref": customer}],
            order_lines=[{"order_id": order_id, "product_id": "mug", "quantity": 1, "unit_price": 10}],
        )

    def profiling(self, state: str, day: str) -> None:
        """What Dan says of being profiled."""
        self.shop.deliver(
            "crm",
            f"{day}T12:00:00",
            consents=[{
                "consent_id": f"{state} {day}", "contact_id": "dan", "contact_point": "dan@example.com", "channel": "email",
                "purpose": "profiling", "state": state, "captured_at": f"{day}T10:00:00",
            }],
        )  # fmt: skip

    def refresh(self, day: str) -> Release:
        """What a refresh does, without what learns."""
        self.shop.set_clock(f"{day}T00:00:00")
        runner = DbtRunner(self.settings, self.shop.home)
        kept_away = runner.kept_away()
        made = runner._invoke(
            ["run", "--exclude", "mailwright.segments", "mailwright.activation"], runner.manifest(), None
        )
        assert made.success, made.exception
        check_segments(self.settings, self.shop.home, kept_away)
        runner.build("audiences").raise_if_failed()
        release = freeze_release(self.settings, self.shop.home)
        runner.build("history").raise_if_failed()
        return release

    def paths(self) -> dict[str, list[tuple[Any, ...]]]:
        """Segment and customer -> stays, each as (entered in, why, left in, why)."""
        rows = self.shop.query(
            "select customer_id, segment, entered_release, entered_cause, left_release, left_cause"
            " from activation.segment_membership_history order by entered_release"
        )
        names = {
            customer_id(f"shop|customer_ref|{name}"): name for name in ("ANN", "BOB", "CYD", "EVE", "FAY", "GIL", "HAL")
        }
        names[customer_id("crm|contact_id|dan")] = "DAN"
        found: dict[str, list[tuple[Any, ...]]] = {}
        for customer, segment, *stay in rows:
            if segment in SEGMENTS and customer in names:
                found.setdefault(f"{names[customer]} {segment}", []).append(tuple(stay))
        return found


def entry(number: int, event: str, record: str, other: str | None = None) -> dict[str, Any]:
    """A line of the journal of identities."""
    return {
        "entry": number,
        "event": event,
        "customer_id": customer_id(record),
        "other_customer_id": customer_id(other) if other else None,
        "identifier_ids": [record_id(other or record)],
        "evidence": "{}",
    }


@pytest.fixture(scope="module")
def retailer(tmp_path_factory: pytest.TempPathFactory) -> Retailer:
    scratch = tmp_path_factory.mktemp("membership_history")
    project = scratch / "checkout" / "dbt_project"
    shutil.copytree(PROJECT_ROOT / "dbt_project", project, ignore=shutil.ignore_patterns("target", "logs"))
    told = project / "dbt_project.yml"
    told.write_text(told.read_text().replace("spine_anchors: 26", "spine_anchors: 1"))
    home = Home.create(scratch / "home", "UTC", "GBP")
    settings = Settings(home=home.root, memory_limit="500MB", threads=2)
    settings.__dict__["project_dir"] = scratch / "checkout"
    made = Retailer(Shop(home, scratch, project), settings)
    made.shop.deliver("shop", products=[{"product_id": "mug", "name": "Mug"}])
    made.shop.deliver(
        "crm",
        contacts=[
            {"contact_id": "dan", "email": "dan@example.com", "country": "GB", "created_at": "2025-05-01T10:00:00"}
        ],
    )
    for name, sql in SEGMENTS.items():
        made.define(name, sql)
    made.shop.set_clock(f"{FIRST}T00:00:00")
    made.shop.dbt("seed")
    return made


def test_the_history_explains_every_path(retailer: Retailer) -> None:
    for customer, day in (
        *(("ANN", "2025-05-25"), ("BOB", "2025-03-01"), ("CYD", "2025-05-15"), ("EVE", "2025-05-30")),
        *(("FAY", "2025-05-31"), ("GIL", "2025-06-01"), ("HAL", "2025-03-01")),
    ):
        retailer.order(customer, day)
    retailer.profiling("granted", "2025-05-20")
    fay, gil = (f"shop|customer_ref|{name}" for name in ("FAY", "GIL"))
    founded = [entry(1, "created", fay), entry(2, "created", gil)]
    retailer.shop.resolve(1, f"{FIRST}T00:00:00", {fay: fay, gil: gil}, founded)
    assert retailer.refresh(FIRST).number == 1

    # Bob comes back; of Hal it turns out that he was there in May.
    retailer.order("BOB", "2025-06-10")
    retailer.order("HAL", "2025-05-26", received_on="2025-06-11")
    assert retailer.refresh(SECOND).number == 2

    # Time passes for Cyd, Dan objects, Fay and Gil are one person.
    retailer.profiling("withdrawn", "2025-06-15")
    retailer.shop.resolve(2, f"{THIRD}T00:00:00", {fay: fay, gil: fay}, [entry(1, "merged", fay, gil)])
    assert retailer.refresh(THIRD).number == 3

    # Another definition for some, none for others: Eve, who orders twice, is not told so as long as it is broken.
    retailer.define("recent", RECENT % 26)
    retailer.define("twice", SEGMENTS["twice"] + " and nix")
    retailer.order("EVE", "2025-06-22")
    fourth = retailer.refresh(FOURTH)
    assert (fourth.number, fourth.states["twice"].fresh, fourth.states["recent"].fresh) == (4, False, True)

    # Back to what was before the new definition, held over a refresh, and on again, all mended.
    assert rollback.rollback(retailer.settings, retailer.shop.home, 3).number == 5
    retailer.define("twice", SEGMENTS["twice"])
    assert freeze_release(retailer.settings, retailer.shop.home).outcome == "held"
    rollback.resume(retailer.shop.home)
    assert retailer.refresh(FIFTH).number == 6

    assert retailer.paths() == {
        "ANN recent": [(1, None, 4, "definition"), (5, "rollback", 6, "rollback")],
        "BOB recent": [(2, "behaviour", None, None)],
        "BOB twice": [(2, "behaviour", None, None)],
        "CYD recent": [(1, None, 3, "clock")],
        "DAN profiled": [(1, None, 3, "consent")],
        "EVE recent": [(1, None, None, None)],
        # Her order is older than the release before: what a broken segment missed counts as time that passed.
        "EVE twice": [(6, "clock", None, None)],
        "FAY recent": [(1, None, None, None)],
        "FAY twice": [(3, "identity", None, None)],
        "GIL recent": [(1, None, 3, "identity")],
        "HAL recent": [(2, "data", 4, "definition"), (5, "rollback", 6, "rollback")],
        "HAL twice": [(2, "data", None, None)],
    }
