"""What Klaviyo is sent, held against its OpenAPI documents, and whose account it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from activation import sync
from activation.connector import Contact, Field, Rekey, key_of
from activation.connectors.klaviyo import PLATFORM, Klaviyo, KlaviyoCredentials, KlaviyoSettings
from activation.http import RetryPolicy
from activation.sandbox.specification import shipped
from core.errors import SettingsError
from core.home import Home
from core.settings import Settings
from tests.unit.activation.recording import Recording, recording

SECRET = "pk_0f-the-account"
JOBS = "/profile-bulk-import-jobs"


def contact(email: str, **changes: Any) -> Contact:
    return Contact(key_of("email", email, ""), email, **changes)


ADA = contact(
    "ada@example.com",
    is_new=True,
    fields={"first_name": "Ada", "location.country": "GB", "mw_orders": "3.5", "mw_seasonal": "true"},
    add=("mw_loyal",),
)
BEN = contact("ben@example.com", fields={"last_name": None, "mw_orders": None}, remove=("mw_lapsed",))


@pytest.fixture
def server() -> Iterator[Recording]:
    ended = {"data": {"attributes": {"status": "complete", "completed_count": 1, "failed_count": 1}}}
    error = {"attributes": {"code": "invalid", "source": {"pointer": "/data/attributes/profiles/data/0"}}}
    profile = {"id": "01A", "attributes": {"email": "ada@example.com"}}
    with recording() as made:
        made.answers = {
            JOBS: (202, {"data": {"id": "job"}}),
            f"{JOBS}/job": (200, ended),
            f"{JOBS}/job/import-errors": (200, {"data": [error]}),
            "/profiles": (200, {"data": [profile]}),
        }
        yield made


@pytest.fixture
def klaviyo(server: Recording) -> Iterator[Klaviyo]:
    made = Klaviyo.connect(
        KlaviyoCredentials(server.url, "AbC123", "Klaviyo", api_key=SecretStr(SECRET)), RetryPolicy(1)
    )
    made.prepare(
        [
            Field("given_name", "first_name", "Given name", "text"),
            Field("order_count", "mw_orders", "Order count", "number"),
            Field("is_seasonal", "mw_seasonal", "Is seasonal", "boolean"),
        ],
        ["mw_loyal"],
    )
    yield made
    made.close()


def test_an_import_sets_what_there_is_and_unsets_what_there_is_not(klaviyo: Klaviyo, server: Recording) -> None:
    klaviyo.write([ADA, BEN])
    posted = [asked for asked in server.asked if asked.method == "POST"]
    assert [asked.path for asked in posted] == [JOBS, "/profile-import"]
    assert posted[0].said["data"]["attributes"]["profiles"]["data"] == [
        {
            "type": "profile",
            "attributes": {
                "email": "ada@example.com", "first_name": "Ada", "location": {"country": "GB"},
                "properties": {"mw_loyal": True, "mw_orders": 3.5, "mw_seasonal": True},
            },
        },
        {
            "type": "profile",
            "attributes": {"email": "ben@example.com"},
            "meta": {"patch_properties": {"unset": ["mw_lapsed", "mw_orders"]}},
        },
    ]  # fmt: skip
    assert posted[1].said["data"]["attributes"] == {"email": "ben@example.com", "last_name": None}


def test_every_body_and_path_is_as_the_documents_have_it(klaviyo: Klaviyo, server: Recording) -> None:
    klaviyo.write([ADA, BEN])
    klaviyo.unsubscribe([ADA])
    klaviyo.erase([ADA])
    forgotten = Contact(ADA.key, None)
    klaviyo.erase([forgotten])
    klaviyo.write([Contact(ADA.key, None, remove=("mw_lapsed",))])
    klaviyo.rekey([Rekey(ADA, contact("new@example.com"))])
    list(klaviyo.members())
    both = {"id": "01B", "attributes": {"email": "new@example.com"}}
    ada = server.answers["/profiles"][1]["data"][0]
    server.answers["/profiles"] = (200, {"data": [ada, both]})
    klaviyo.rekey([Rekey(ADA, contact("new@example.com"))])
    documents = [shipped("klaviyo/profiles.json"), shipped("klaviyo/data_privacy.json")]
    seen = set()
    for asked in server.asked:
        path = "/api" + re.sub(r"/(job|01A)(?=/|$)", "/{id}", asked.path.partition("?")[0])
        known = [document for document in documents if document.knows(asked.method, path)]
        assert len(known) == 1, (asked.method, path)
        if asked.raw:
            assert asked.headers["content-type"] == "application/vnd.api+json"
            assert known[0].first_error(asked.method, path, asked.said) is None, path
        seen.add((asked.method, path))
    assert len(seen) == 9


def test_every_call_has_key_and_revision_and_none_subscribes(klaviyo: Klaviyo, server: Recording) -> None:
    klaviyo.write([ADA, BEN])
    klaviyo.unsubscribe([ADA])
    for asked in server.asked:
        assert asked.headers["authorization"] == f"Klaviyo-API-Key {SECRET}"
        assert asked.headers["revision"] == "2026-07-15"
        assert SECRET not in asked.path + asked.raw.decode()
        assert b'"SUBSCRIBED"' not in asked.raw


def test_the_account_is_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home.create(tmp_path / "home", "Europe/London", "GBP")
    for name in KlaviyoSettings.model_fields:
        monkeypatch.delenv(f"MAILWRIGHT_KLAVIYO_{name.upper()}", raising=False)
    assert Klaviyo.credentials(home) is None
    monkeypatch.setenv("MAILWRIGHT_KLAVIYO_API_KEY", SECRET)
    with pytest.raises(SettingsError, match="MAILWRIGHT_KLAVIYO_ACCOUNT: is needed too") as told:
        Klaviyo.credentials(home)
    monkeypatch.setenv("MAILWRIGHT_KLAVIYO_ACCOUNT", SECRET)
    with pytest.raises(SettingsError, match="MAILWRIGHT_KLAVIYO_ACCOUNT: must be") as told_too:
        Klaviyo.credentials(home)
    assert SECRET not in str(told.value) + str(told_too.value)
    monkeypatch.setenv("MAILWRIGHT_KLAVIYO_ACCOUNT", "AbC123")
    found = Klaviyo.credentials(home)
    assert found is not None
    assert (found.base_url, found.account) == ("https://a.klaviyo.com/api", "AbC123")
    assert SECRET not in repr(found)
    assert Klaviyo.connect(found).target == "klaviyo/AbC123"


def test_the_sync_is_as_the_platform_allows() -> None:
    document = sync.read(Settings(), "klaviyo")
    assert document.start_tag_of("onboarding") == "mw_onboarding_start"
    assert PLATFORM.limit("contacts").contacts_per_second == 25_000
