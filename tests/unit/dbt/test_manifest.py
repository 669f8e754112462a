"""The project's shape, as dbt itself understands it: arrows, contracts, descriptions, tags of personal data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[3] / "dbt_project"

INTERMEDIATE = ("intermediate/identity", "intermediate/activity")
# Folder of a model -> folders that it may select from, besides seeds. Data flows down this list.
ARROWS = {
    "staging": frozenset[str](),
    "staging/identity": frozenset[str](),
    "intermediate/identity": frozenset({"staging", "staging/identity", *INTERMEDIATE}),
    "intermediate/activity": frozenset({"staging", *INTERMEDIATE}),
    "marts/core": frozenset({"staging", "staging/identity", *INTERMEDIATE, "marts/core"}),
    "features": frozenset({*INTERMEDIATE, "marts/core", "features"}),
    "staging/ml": frozenset[str](),
    "marts/customers": frozenset({"marts/core", "features", "staging/ml", "marts/customers"}),
    "segments": frozenset({"marts/core", "features", "marts/customers"}),
    "staging/releases": frozenset[str](),
    "activation": frozenset(
        {
            *INTERMEDIATE,
            "marts/core",
            "features",
            "marts/customers",
            "segments",
            "staging/releases",
            "activation",
        }
    ),
}
# A second view of a source, where one table is read in two ways.
SECOND_VIEWS = {
    "stg_identity__assignment_spans": "stg_identity__assignments",
    "stg_third_party__demographics_versions": "stg_third_party__demographics",
}
CONTRACTED = ("marts/core", "marts/customers", "features", "segments", "activation")
BIRTHDAYS = ("birthday", "date_of_birth")
PERSONAL = frozenset(
    [
        "email",
        "phone",
        "given_name",
        "surname",
        "full_name",
        "birthday",
        "street",
        "city",
        "postal_code",
        "identifier",
        "contact_point",
        "date_of_birth",
        "address",
        "left_identifier",
        "right_identifier",
    ]
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The manifest of a fresh parse, in which every warning is an error."""
    target = tmp_path_factory.mktemp("dbt")
    arguments = ["--warn-error", "parse", "--target-path", str(target), "--log-path", str(target)]
    parsed = subprocess.run(
        [str(Path(sys.executable).with_name("dbt")), *arguments],
        cwd=PROJECT,
        env=os.environ | {"MAILWRIGHT_HOME": str(target / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert parsed.returncode == 0, parsed.stdout + parsed.stderr
    return json.loads((target / "manifest.json").read_text())


def models(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (node for node in manifest["nodes"].values() if node["resource_type"] == "model")


def folder(node: dict[str, Any]) -> str:
    """The room of a model within models/, as `ARROWS` names it."""
    first, second = Path(node["path"]).parts[:2]
    return f"{first}/{second}" if f"{first}/{second}" in ARROWS else first


def test_arrows_follow_the_flow(manifest: dict[str, Any]) -> None:
    against = [
        f"{node['path']} selects from {parent['path']}"
        for node in models(manifest)
        for parent in (manifest["nodes"].get(name) for name in node["depends_on"]["nodes"])
        if parent and parent["resource_type"] == "model" and folder(parent) not in ARROWS[folder(node)]
    ]
    assert not against


def test_only_staging_reads_sources(manifest: dict[str, Any]) -> None:
    readers = {
        folder(node)
        for node in models(manifest)
        if any(name.startswith("source.") for name in node["depends_on"]["nodes"])
    }
    assert readers == {"staging", "staging/identity", "staging/ml", "staging/releases"}


def test_a_staging_model_reads_its_own_source(manifest: dict[str, Any]) -> None:
    for node in models(manifest):
        if folder(node) not in ("staging", "staging/identity", "staging/releases"):
            continue
        name = SECOND_VIEWS.get(node["name"], node["name"])
        tables = [manifest["sources"][name] for name in node["depends_on"]["nodes"] if name.startswith("source.")]
        own = {f"stg_{table['source_name']}__{table['name']}" for table in tables}
        assert name in own, node["path"]
        assert {table["schema"] for table in tables if f"stg_{table['source_name']}__{table['name']}" != name} <= {
            "lake"
        }, node["path"]


def test_every_source_has_a_staging_model(manifest: dict[str, Any]) -> None:
    tables = {f"stg_{table['source_name']}__{table['name']}" for table in manifest["sources"].values()}
    staged = {node["name"] for node in models(manifest) if folder(node).startswith("staging")}
    assert {name.replace("stg_state__", "stg_ml__") for name in tables} == staged - set(SECOND_VIEWS)


def test_the_first_sentence_states_the_grain(manifest: dict[str, Any]) -> None:
    wanting = [node["path"] for node in models(manifest) if not node["description"].startswith("One row")]
    assert not wanting


def test_what_others_build_on_has_a_contract(manifest: dict[str, Any]) -> None:
    wanting = [
        node["path"] for node in models(manifest) if folder(node) in CONTRACTED and not node["contract"]["enforced"]
    ]
    assert not wanting


def test_columns_of_contracts_are_explained(manifest: dict[str, Any]) -> None:
    wanting = [
        f"{node['name']}.{column['name']}"
        for node in models(manifest)
        if folder(node) in CONTRACTED
        for column in node["columns"].values()
        if not column["description"]
    ]
    assert not wanting


def test_personal_data_are_tagged(manifest: dict[str, Any]) -> None:
    untagged = [
        f"{node['name']}.{column['name']}"
        for node in [*models(manifest), *manifest["sources"].values()]
        for column in node["columns"].values()
        if column["name"] in PERSONAL and not column["config"]["meta"].get("pii")
        # A town or postal code in a list of places is nobody's.
        if node.get("source_name") not in ("reference", "shipped")
    ]
    assert not untagged


def test_instants_and_dates_are_named_as_such(manifest: dict[str, Any]) -> None:
    for node in models(manifest):
        for column in node["columns"].values():
            if column["data_type"] == "timestamp":
                assert column["name"].endswith("_at") or column["name"].endswith("as_of"), (
                    node["name"],
                    column["name"],
                )
            if column["data_type"] == "date":
                assert column["name"].endswith("_on") or column["name"] in BIRTHDAYS, (node["name"], column["name"])


def test_money_is_decimal(manifest: dict[str, Any]) -> None:
    for node in models(manifest):
        for column in node["columns"].values():
            if column["name"].endswith(("amount", "amount_base", "price", "monetary", "revenue")):
                assert column["data_type"].startswith("decimal"), (node["name"], column["name"])


def test_only_words_leave_with_a_profile(manifest: dict[str, Any]) -> None:
    """A number would be a score or an amount: a destination is told bands and names."""
    (profiles,) = (node for node in models(manifest) if node["name"] == "sync_profiles")
    assert profiles["contract"]["enforced"]
    assert {name: column["data_type"] for name, column in profiles["columns"].items() if name != "segments"} == {
        name: "varchar" for name in profiles["columns"] if name != "segments"
    }
    assert profiles["columns"]["segments"]["data_type"] == "varchar[]"


def test_every_model_belongs_to_one_stage(manifest: dict[str, Any]) -> None:
    """A model in a folder that no selector names would never be built by a refresh."""
    assert {folder(node) for node in models(manifest)} <= set(ARROWS)


def test_resolution_reads_nothing_that_it_wrote(manifest: dict[str, Any]) -> None:
    """Else its outcome would depend on its last one, and a deleted warehouse would not come back the same."""
    reached: set[str] = set()
    todo = [f"model.mailwright.{name}" for name in ("int_person_records", "int_identity_links", "int_identity_barred")]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo.extend(manifest["parent_map"].get(name, ()))
    assert "source.mailwright.crm.contacts" in reached
    assert not [name for name in reached if manifest["sources"].get(name, {}).get("schema") == "state"]
