"""What Braze is sent, held against its OpenAPI document where that is at hand, and whose account it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from activation import sync
from activation.connector import Contact, Field, Rekey
from activation.connectors.braze import PLATFORM, Braze, BrazeCredentials, BrazeSettings
from activation.http import RetryPolicy
from activation.sandbox.specification import Specification
from core.errors import SettingsError
from core.home import Home
from core.settings import Settings
from tests.unit.activation.recording import Recording, recording

# Read before any test, as tests forget the environment's settings.
SPECS = os.environ.get("MAILWRIGHT_SPECS")
SECRET = "k3y-of-the-workspace"
VARIABLES = {"API_KEY": SECRET, "HOST": "rest.fra-01.braze.eu", "WORKSPACE": "shop"}
ADA = Contact(
    key="00000000000000aa",
    email="ada@example.com",
    is_new=True,
    fields={"first_name": "Ada", "mw_orders": "3", "mw_seasonal": "false", "mw_last_order": "2011-12-09"},
    add=("mw_loyal",),
)
BEN = Contact(key="00000000000000bb", email=None, fields={"first_name": None}, add=("mw_loyal",), remove=("mw_lapsed",))


@pytest.fixture
def server() -> Iterator[Recording]:
    with recording() as made:
        made.answers = {
            "/users/track": (201, {"message": "success"}),
            "/users/external_ids/rename": (201, {"message": "success", "external_ids": [ADA.key], "rename_errors": []}),
            "/users/export/ids": (201, {"message": "success", "users": []}),
        }
        yield made


@pytest.fixture
def braze(server: Recording) -> Iterator[Braze]:
    made = Braze.connect(
        BrazeCredentials(server.url, "fra-01/shop", "Braze", api_key=SecretStr(SECRET)), RetryPolicy(1)
    )
    made.prepare(
        [
            Field("given_name", "first_name", "Given name", "text"),
            Field("order_count", "mw_orders", "Order count", "number"),
            Field("is_seasonal", "mw_seasonal", "Is seasonal", "boolean"),
            Field("last_order_on", "mw_last_order", "Last order on", "date"),
        ],
        ["mw_loyal"],
    )
    yield made
    made.close()


def ask_everything(braze: Braze) -> None:
    """Every kind of call that the connector makes."""
    braze.write([ADA, BEN])
    braze.unsubscribe([ADA])
    braze.erase([ADA])
    braze.rekey([Rekey(BEN, ADA)])
    list(braze.members_among([ADA.key]))


def test_values_go_with_their_types_and_changes_of_an_array_apart(braze: Braze, server: Recording) -> None:
    braze.write([ADA, BEN])
    assert server.asked[0].said == {
        "attributes": [
            {
                "external_id": ADA.key, "email": "ada@example.com", "first_name": "Ada", "mw_orders": 3,
                "mw_seasonal": False, "mw_last_order": "2011-12-09", "mw_segments": ["mw_loyal"],
            },
            {
                "external_id": BEN.key, "_update_existing_only": True, "first_name": None,
                "mw_segments": {"add": ["mw_loyal"]},
            },
            {"external_id": BEN.key, "_update_existing_only": True, "mw_segments": {"remove": ["mw_lapsed"]}},
        ]
    }  # fmt: skip


def test_no_call_says_subscribed_and_every_call_has_the_key(braze: Braze, server: Recording) -> None:
    ask_everything(braze)
    assert all(asked.headers["authorization"] == f"Bearer {SECRET}" for asked in server.asked)
    states = [
        entry["email_subscribe"]
        for asked in server.asked
        if asked.path == "/users/track"
        for entry in asked.said["attributes"]
        if "email_subscribe" in entry
    ]
    assert states == ["unsubscribed"]
    assert SECRET not in "".join(asked.path + asked.raw.decode() for asked in server.asked)


def test_every_body_is_as_the_document_has_it(braze: Braze, server: Recording) -> None:
    if SPECS is None:
        pytest.skip("MAILWRIGHT_SPECS names no folder of OpenAPI documents: Braze's has no licence to be shipped under")
    document = Specification(_read(Path(SPECS) / "braze" / "braze-rest.openapi.yml"))
    ask_everything(braze)
    said = {(asked.method, asked.path.partition("?")[0]): asked for asked in server.asked}
    assert len(said) == 7
    for (method, path), asked in said.items():
        assert document.knows(method, path), path
        if asked.raw:
            assert document.first_error(method, path, asked.said) is None, path


def _read(path: Path) -> Any:
    class Loader(yaml.SafeLoader):
        """Leaves dates as the text that they are."""

    Loader.yaml_implicit_resolvers = {
        first: [one for one in known if one[0] != "tag:yaml.org,2002:timestamp"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return yaml.load(path.read_text(encoding="utf-8"), Loader)


def test_the_account_is_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home.create(tmp_path / "home", "Europe/London", "GBP")
    for name in BrazeSettings.model_fields:
        monkeypatch.delenv(f"MAILWRIGHT_BRAZE_{name.upper()}", raising=False)
    assert Braze.credentials(home) is None
    for name, value in VARIABLES.items():
        monkeypatch.setenv(f"MAILWRIGHT_BRAZE_{name}", value)
    found = Braze.credentials(home)
    assert found is not None
    assert (found.base_url, found.account) == ("https://rest.fra-01.braze.eu", "fra-01/shop")
    assert SECRET not in repr(found)
    assert Braze.connect(found).target == "braze/fra-01/shop"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("API_KEY", None, "MAILWRIGHT_BRAZE_API_KEY: is needed too"),
        ("HOST", None, "MAILWRIGHT_BRAZE_HOST: is needed too"),
        ("HOST", "rest.fra-01.braze.eu.example.com", "MAILWRIGHT_BRAZE_HOST: must be a REST endpoint"),
        ("HOST", "rest.fra-01.braze.eu/users", "MAILWRIGHT_BRAZE_HOST: must be a REST endpoint"),
        ("WORKSPACE", "my shop", "MAILWRIGHT_BRAZE_WORKSPACE: must be"),
    ],
)
def test_a_wrong_variable_is_named_and_no_secret_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str | None, words: str
) -> None:
    for other, good in VARIABLES.items():
        monkeypatch.setenv(f"MAILWRIGHT_BRAZE_{other}", good)
    monkeypatch.delenv(f"MAILWRIGHT_BRAZE_{name}")
    if value is not None:
        monkeypatch.setenv(f"MAILWRIGHT_BRAZE_{name}", value)
    with pytest.raises(SettingsError, match=words) as told:
        Braze.credentials(Home.create(tmp_path / "home", "Europe/London", "GBP"))
    assert SECRET not in str(told.value)


def test_the_sync_is_as_the_platform_allows() -> None:
    settings = Settings()
    document = sync.read(settings, "braze")
    count = len(sync.segment_names(settings.project_dir / "dbt_project")) + len(document.automations)
    assert document.fields["email"] == "email"
    assert count <= (PLATFORM.most_tags or 0)
    rate = PLATFORM.limit("contacts").contacts_per_second
    assert rate == 75_000
