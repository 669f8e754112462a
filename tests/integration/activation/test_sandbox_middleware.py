"""Segment and mParticle in the sandbox: what the real ones take in without a word, and drop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from activation.sandbox.app import Sandbox
from tests.integration.activation.world import serving


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    made = Sandbox(tmp_path, "test", ["segment", "mparticle"])
    yield made
    made.close()


@pytest.fixture
def url(sandbox: Sandbox) -> Iterator[str]:
    with serving(sandbox.app()) as address:
        yield address


def people(sandbox: Sandbox, platform: str) -> dict[str, Any]:
    return {one.key: (one.state, one.fields) for one in sandbox.parts[platform].people.everyone()}


def dropped(sandbox: Sandbox, platform: str) -> dict[str, int]:
    return sandbox.parts[platform].people.documents("dropped")


class TestSegment:
    @pytest.fixture
    def api(self, sandbox: Sandbox, url: str) -> Iterator[httpx.Client]:
        key = sandbox.parts["segment"].secrets["write_key"]
        with httpx.Client(base_url=f"{url}/segment", auth=(key, ""), trust_env=False) as client:
            yield client

    @staticmethod
    def identify(user: str = "u1", message: str = "m1", **traits: Any) -> dict[str, Any]:
        return {"type": "identify", "userId": user, "messageId": message, "traits": traits}

    def test_equal_ids_count_once(self, sandbox: Sandbox, api: httpx.Client) -> None:
        for city in ("York", "Leeds"):
            assert api.post("/v1/batch", json={"batch": [self.identify(city=city)]}).json() == {"success": True}
        assert people(sandbox, "segment") == {"u1": ("subscribed", {"city": "York"})}

    def test_null_takes_a_trait_away(self, sandbox: Sandbox, api: httpx.Client) -> None:
        batch = [self.identify(city="York", name="Ada"), self.identify(message="m2", city=None)]
        api.post("/v1/batch", json={"batch": batch})
        assert people(sandbox, "segment") == {"u1": ("subscribed", {"name": "Ada"})}

    def test_nonsense_is_taken_in_and_dropped(self, sandbox: Sandbox, api: httpx.Client) -> None:
        batch = [
            {"type": "identify", "traits": {}}, {"type": "unknown", "userId": "u1"}, {"type": "track", "userId": "u1"},
            {"type": "alias", "userId": "u1"}, "text",
        ]  # fmt: skip
        assert api.post("/v1/batch", json={"batch": batch}).status_code == 200
        assert people(sandbox, "segment") == {}
        assert dropped(sandbox, "segment") == {
            "no_user_anon_id": 1, "invalid_type": 2, "no_event_name": 1, "no_previous_id": 1
        }  # fmt: skip

    def test_too_many_events_are_taken_in_and_dropped(self, sandbox: Sandbox, api: httpx.Client) -> None:
        batch = [{"type": "identify", "userId": f"u{number}"} for number in range(2501)]
        assert api.post("/v1/batch", json={"batch": batch}).status_code == 200
        assert dropped(sandbox, "segment") == {"batch_too_long": 2501}
        assert people(sandbox, "segment") == {}

    def test_a_wrong_write_key_is_told_to_nobody(self, sandbox: Sandbox, api: httpx.Client) -> None:
        said = api.post("/v1/batch", json={"batch": [self.identify()]}, auth=("another", ""))
        assert said.status_code == 200
        assert (people(sandbox, "segment"), dropped(sandbox, "segment")) == ({}, {"invalid_write_key": 1})

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param({"batch": [{"type": "identify", "userId": "u", "x": "y" * 32_000}]}, id="event over 32 KB"),
            pytest.param(
                {"batch": [{"type": "identify", "userId": "u", "x": "y" * 20_000}] * 26}, id="batch over 500 KB"
            ),
            pytest.param({"events": []}, id="no batch"),
            pytest.param([], id="no object"),
        ],
    )
    def test_size_and_form_are_refused(self, sandbox: Sandbox, api: httpx.Client, body: Any) -> None:
        assert api.post("/v1/batch", json=body).status_code == 400
        assert people(sandbox, "segment") == {}

    def test_who_was_erased_and_suppressed_does_not_come_back(self, sandbox: Sandbox, api: httpx.Client) -> None:
        api.post("/v1/batch", json={"batch": [self.identify(), self.identify("u2", "m2")]})
        token = sandbox.parts["segment"].secrets["public_api_token"]
        body = {"regulationType": "SUPPRESS_WITH_DELETE", "subjectType": "USER_ID", "subjectIds": ["u1"]}
        assert api.post("/regulations", json=body).status_code == 401
        said = httpx.post(
            f"{api.base_url}regulations", json=body, headers={"Authorization": f"Bearer {token}"}, trust_env=False
        )
        assert said.status_code == 200
        assert said.json()["data"]["regulateId"]
        api.post("/v1/batch", json={"batch": [self.identify(message="m3")]})
        assert set(people(sandbox, "segment")) == {"u2"}
        assert dropped(sandbox, "segment") == {"suppressed": 1}

    def test_events_of_the_spec_unsubscribe(self, sandbox: Sandbox, api: httpx.Client) -> None:
        batch = [self.identify(), {"type": "track", "userId": "u1", "event": "Unsubscribed", "messageId": "m2"}]
        api.post("/v1/batch", json={"batch": batch})
        assert people(sandbox, "segment")["u1"][0] == "unsubscribed"


class TestMParticle:
    @pytest.fixture
    def api(self, sandbox: Sandbox, url: str) -> Iterator[httpx.Client]:
        secrets = sandbox.parts["mparticle"].secrets
        auth = (secrets["key"], secrets["secret"])
        with httpx.Client(base_url=f"{url}/mparticle", auth=auth, trust_env=False) as client:
            yield client

    @staticmethod
    def batch(user: str | None = "u1", **said: Any) -> dict[str, Any]:
        identities = {} if user is None else {"customer_id": user}
        return {"environment": "production", "user_identities": identities, **said}

    def test_attributes_are_set_and_deleted(self, sandbox: Sandbox, api: httpx.Client) -> None:
        assert api.post("/v2/bulkevents", json=[self.batch(user_attributes={"a": 1, "b": True})]).status_code == 202
        api.post("/v2/bulkevents", json=[self.batch(user_attributes={"a": 2}, deleted_user_attributes=["b"])])
        assert people(sandbox, "mparticle") == {"u1": ("subscribed", {"a": 2})}

    def test_what_fails_inside_is_accepted_and_dropped(self, sandbox: Sandbox, api: httpx.Client) -> None:
        attributes = {f"a{number}": 1 for number in range(101)}
        large = self.batch("u3", user_attributes={"a": "x" * 129_000})
        said = api.post("/v2/bulkevents", json=[self.batch(None), self.batch("u2", user_attributes=attributes), large])
        assert (said.status_code, said.content) == (202, b"")
        assert people(sandbox, "mparticle") == {}
        assert dropped(sandbox, "mparticle") == {"no_identity": 1, "too_many_attributes": 1, "batch_too_large": 1}

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            pytest.param([{"user_identities": {"customer_id": "u1"}}], 400, id="required field missing"),
            pytest.param([{"environment": "production", "unknown": 1}], 400, id="unknown field"),
            pytest.param([{"environment": "production"}] * 101, 400, id="over 100 batches"),
            pytest.param({"environment": "production"}, 400, id="no list"),
        ],
    )
    def test_bodies_are_held_against_the_published_document(
        self, sandbox: Sandbox, api: httpx.Client, body: Any, status: int
    ) -> None:
        said = api.post("/v2/bulkevents", json=body)
        assert said.status_code == status
        assert said.json()["errors"][0]["code"] == "BAD_REQUEST"
        assert people(sandbox, "mparticle") == {}

    def test_keys_are_told_apart(self, sandbox: Sandbox, api: httpx.Client, url: str) -> None:
        bare = httpx.post(f"{url}/mparticle/v2/bulkevents", json=[self.batch()], trust_env=False)
        wrong = api.post("/v2/bulkevents", json=[self.batch()], auth=("a", "b"))
        assert (bare.status_code, wrong.status_code) == (401, 403)
        assert api.post("/v3/requests/", json={}).status_code == 403

    def test_opting_out_unsubscribes(self, sandbox: Sandbox, api: httpx.Client) -> None:
        event = {"event_type": "opt_out", "data": {"is_opted_out": True}}
        api.post("/v2/bulkevents", json=[self.batch(events=[event])])
        assert people(sandbox, "mparticle")["u1"][0] == "unsubscribed"

    def test_an_erasure_is_a_request_with_a_random_id(self, sandbox: Sandbox, api: httpx.Client) -> None:
        api.post("/v2/bulkevents", json=[self.batch(), self.batch("u2")])
        secrets = sandbox.parts["mparticle"].secrets
        auth = (secrets["workspace_key"], secrets["workspace_secret"])
        body = {
            "regulation": "gdpr", "subject_request_id": "a7551968-d5d6-44b2-9831-815ac9017798",
            "subject_request_type": "erasure", "submitted_time": "2026-01-01T00:00:00Z", "api_version": "3.0",
            "subject_identities": {"controller_customer_id": {"value": "u1", "encoding": "raw"}},
        }  # fmt: skip
        wrong: list[dict[str, Any]] = [{"subject_request_id": "1"}, {"subject_identities": {}}, {"regulation": "none"}]
        for change in wrong:
            assert api.post("/v3/requests/", json={**body, **change}, auth=auth).status_code == 400
        assert api.post("/v3/requests/", json=body, auth=auth).status_code == 201
        assert set(people(sandbox, "mparticle")) == {"u2"}
