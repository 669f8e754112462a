"""Who is who, through the whole line: two records become one person, a steward parts them, the warehouse is deleted."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import duckdb
import pytest

from core.settings import PROJECT_ROOT
from tests.conftest import CommandLine
from tests.e2e.conftest import copy_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TWINS = ("K0001", "K0002")
"""Two customer numbers of the shop whose contacts, as delivered anew, are one person by all that they say."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of its own, whose seeds may be edited."""
    root = tmp_path_factory.mktemp("checkout") / "mailwright"
    for name in ("core", "dbt_project", "ingestion", "samples", "expectations", "ml", "activation", "orchestration"):
        shutil.copytree(
            PROJECT_ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "target", "logs")
        )
    shutil.copy(PROJECT_ROOT / "requirements.lock", root)
    return root


@pytest.fixture(scope="module")
def twins(refreshed_retailer: CommandLine, project: Path, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """The retailer, after a CRM delivery in which two customers turn out to be one person."""
    folder = tmp_path_factory.mktemp("twins")
    command = copy_of(refreshed_retailer, folder / "home", port=8775, project=project)
    header = (
        "contact_id", "customer_ref", "given_name", "surname", "email", "phone", "birthday", "street", "postal_code", "city", "country", "created_at"
    )  # fmt: skip
    with open(folder / "contacts.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for number, reference in enumerate(TWINS, start=1):
            writer.writerow(
                (
                    f"C{number}", reference, "Bronisława", "Szczepańska", "b.szczepanska@example.com", "+48 22 555 01 00", "1981-03-04",
                    "Lipowa 7", "00-950", "Warszawa", "PL", "2023-06-01 10:00",
                )
            )  # fmt: skip
    command.run("load", "crm", f"contacts={folder / 'contacts.csv'}", "--historical")
    command.run("refresh")
    return command


def customers(command: CommandLine) -> dict[str, str]:
    """Customer number -> customer_id."""
    with duckdb.connect(str(command.home.warehouse), read_only=True) as warehouse:
        rows = warehouse.execute(
            "select identifier, customer_id from marts.customer_identifiers where identifier_type = 'customer_ref'"
        ).fetchall()
    return dict(rows)


def orders(command: CommandLine, customer_id: str) -> int:
    with duckdb.connect(str(command.home.warehouse), read_only=True) as warehouse:
        found = warehouse.execute(
            "select count(*) from marts.fct_orders where customer_id = ?", [customer_id]
        ).fetchone()
    assert found is not None
    return int(found[0])


def test_what_two_records_agree_on_makes_them_one_person(refreshed_retailer: CommandLine, twins: CommandLine) -> None:
    before, after = customers(refreshed_retailer), customers(twins)
    first, second = TWINS
    assert after[first] == after[second]
    assert after[first] in {before[first], before[second]}, "a merge keeps an id that was there"
    others = set(before) - set(TWINS)
    assert {number: after[number] for number in others} == {number: before[number] for number in others}
    assert orders(twins, after[first]) == orders(refreshed_retailer, before[first]) + orders(
        refreshed_retailer, before[second]
    )


def test_a_deleted_warehouse_comes_back_with_the_same_customers(twins: CommandLine, tmp_path: Path) -> None:
    expected = customers(twins)
    again = copy_of(twins, tmp_path / "home", port=8776, project=twins.project)
    again.home.warehouse.unlink()
    state = {path: path.read_bytes() for path in again.home.identity.rglob("*") if path.is_file()}
    again.run("refresh")
    assert customers(again) == expected
    assert {path: path.read_bytes() for path in again.home.identity.rglob("*") if path.is_file()} == state


def test_a_steward_parts_two_people_and_their_orders_in_one_refresh(
    refreshed_retailer: CommandLine, twins: CommandLine
) -> None:
    first, second = TWINS
    before = customers(refreshed_retailer)
    decisions = twins.project / "dbt_project" / "seeds" / "identity_decisions.csv"
    kept = decisions.read_text()
    try:
        row = f"split,shop,customer_ref,{first},shop,customer_ref,{second},They are mother and daughter,2026-01-05\n"
        decisions.write_text(kept.rstrip("\n") + "\n" + row)
        twins.run("refresh")
        parted = customers(twins)
        assert {number: parted[number] for number in TWINS} == {number: before[number] for number in TWINS}
        for number in TWINS:
            assert orders(twins, parted[number]) == orders(refreshed_retailer, before[number])
        said = twins.run("identity", "journal")
        assert "merged" in said
        assert "restored" in said or "split" in said
    finally:
        decisions.write_text(kept)
    twins.run("refresh")
    together = customers(twins)
    assert together[first] == together[second], "the decision is taken back, and so is the split"
