"""What Segment and mParticle are sent, byte by byte, and what is made of their answers."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
import yaml
from pydantic import SecretStr

from activation import sync
from activation.connector import Connector, Contact, Field, Rekey
from activation.connectors.mparticle import MParticle, MParticleCredentials
from activation.connectors.segment import MESSAGE_BYTES, Segment, SegmentCredentials
from activation.http import RefusedError, RetryPolicy, TryAgainError
from activation.platform import FieldType
from core.errors import DestinationError, SettingsError
from core.home import Home
from core.settings import PROJECT_ROOT
from tests.unit.activation.recording import Asked, Recording, recording

FIELDS = [
    Field("email", "email", "Email", "text"),
    Field("given_name", "firstName", "Given name", "text"),
    Field("order_count", "mw_orders", "Order count", "number"),
    Field("is_seasonal", "mw_seasonal", "Is seasonal", "boolean"),
    Field("last_order_on", "mw_last_order", "Last order on", "date"),
]
ADA = Contact(
    key="00000000000000aa",
    email="ada@example.com",
    fields={
        "email": "ada@example.com", "firstName": "Ada", "mw_orders": "3", "mw_seasonal": "false",
        "mw_last_order": "2011-12-09", "mw_gone": None,
    },
    add=("mw_frequent_buyers",),
    remove=("mw_dormant",),
)  # fmt: skip
BEN = Contact(key="00000000000000bb", email="ben@example.com", is_new=True, fields={"firstName": "Ben"})
SECRETS = ("k3y-of-the-source", "t0ken-of-the-workspace", "s3cret-of-the-input", "s3cret-of-the-workspace")
SPEC = PROJECT_ROOT / "activation" / "sandbox" / "specs" / "mparticle" / "events.openapi.json"


@pytest.fixture
def server() -> Iterator[Recording]:
    with recording() as made:
        made.answers = {
            "/sources/s1": (200, {"data": {"source": {"enabled": True, "writeKeys": [SECRETS[0]]}}}),
            "/v2/bulkevents": (202, None),
            "/v3/requests/": (201, {"subject_request_id": "x"}),
        }
        yield made


def segment_of(server: Recording) -> Segment:
    credentials = SegmentCredentials(
        base_url=server.url,
        account="us/s1",
        description="Segment source s1",
        source_id="s1",
        write_key=SecretStr(SECRETS[0]),
        public_api_token=SecretStr(SECRETS[1]),
        public_api=server.url,
    )
    return Segment.connect(credentials, RetryPolicy(attempts=2, first_wait=0.01))


def mparticle_of(server: Recording) -> MParticle:
    credentials = MParticleCredentials(
        base_url=server.url,
        account="us1/w1/production",
        description="mParticle w1",
        key=SecretStr("input"),
        secret=SecretStr(SECRETS[2]),
        workspace_key=SecretStr("workspace"),
        workspace_secret=SecretStr(SECRETS[3]),
        requests=server.url,
    )
    return MParticle.connect(credentials, RetryPolicy(attempts=2, first_wait=0.01))


def batches(server: Recording, path: str) -> list[Any]:
    """Bodies of the calls to a path."""
    return [asked.said for asked in server.asked if asked.path == path]


def without_ids(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in message.items() if name != "messageId"} for message in messages]


def basic(asked: Asked) -> str:
    return base64.b64decode(asked.headers["authorization"].removeprefix("Basic ")).decode()


class TestSegment:
    def test_identifies_with_typed_traits_and_memberships_of_ours_alone(self, server: Recording) -> None:
        connector = segment_of(server)
        connector.prepare(FIELDS, ["mw_frequent_buyers"])
        answer = connector.write([ADA, BEN])
        assert answer.accepted == {ADA.key, BEN.key}
        [body] = batches(server, "/v1/batch")
        assert without_ids(body["batch"]) == [
            {
                "type": "identify", "userId": ADA.key,
                "traits": {
                    "email": "ada@example.com", "firstName": "Ada", "mw_orders": 3, "mw_seasonal": False,
                    "mw_last_order": "2011-12-09", "mw_gone": None, "mw_frequent_buyers": True, "mw_dormant": False,
                },
            },
            {
                "type": "identify", "userId": BEN.key,
                "traits": {"firstName": "Ben", "mw_subscribed": True, "mw_archived": False},
            },
        ]  # fmt: skip
        assert basic(server.asked[-1]) == f"{SECRETS[0]}:"

    def test_a_repeated_call_counts_once_and_a_value_that_comes_back_is_heard(self, server: Recording) -> None:
        connector = segment_of(server)
        connector.prepare(FIELDS, [])
        connector.write([ADA])
        connector.write([ADA])
        connector.write([replace(ADA, fields={"firstName": "Adele"})])
        connector.prepare(FIELDS, [])
        connector.write([ADA])
        first, again, other, later = (body["batch"][0]["messageId"] for body in batches(server, "/v1/batch"))
        assert first == again
        assert len({first, other, later}) == 3
        assert len(first) <= 100

    def test_a_refusal_is_a_trait_and_the_documented_event_once(self, server: Recording) -> None:
        for _ in range(2):
            assert segment_of(server).unsubscribe([ADA, replace(BEN, email=None)]).accepted == {ADA.key, BEN.key}
        first, second = batches(server, "/v1/batch")
        assert without_ids(first["batch"]) == [
            {"type": "identify", "userId": ADA.key, "traits": {"mw_subscribed": False}},
            {
                "type": "track", "userId": ADA.key, "event": "Unsubscribed", "properties": {},
                "context": {"traits": {"email": "ada@example.com"}},
            },
            {"type": "identify", "userId": BEN.key, "traits": {"mw_subscribed": False}},
            {"type": "track", "userId": BEN.key, "event": "Unsubscribed", "properties": {}},
        ]  # fmt: skip
        ids = [[message["messageId"] for message in body["batch"]] for body in (first, second)]
        assert (ids[0][0] != ids[1][0], ids[0][1] == ids[1][1]) == (True, True)

    def test_another_id_leaves_the_audience_before_the_new_one_enters(self, server: Recording) -> None:
        connector = segment_of(server)
        old = Contact("00000000000000cc", remove=("mw_dormant",))
        assert connector.rekey([Rekey(old, ADA)]).accepted == {ADA.key}
        [body] = batches(server, "/v1/batch")
        first, second, third = without_ids(body["batch"])
        assert first == {
            "type": "identify", "userId": old.key, "traits": {"mw_archived": True, "mw_dormant": False, "mw_frequent_buyers": False}
        }  # fmt: skip
        assert second == {"type": "alias", "previousId": old.key, "userId": ADA.key}
        assert (third["userId"], third["traits"]["mw_archived"], third["traits"]["firstName"]) == (
            ADA.key,
            False,
            "Ada",
        )
        assert "mw_subscribed" not in third["traits"]

    def test_an_archived_contact_loses_its_tags_and_keeps_its_history(self, server: Recording) -> None:
        segment_of(server).archive([ADA])
        [body] = batches(server, "/v1/batch")
        assert body["batch"][0]["traits"] == {"mw_archived": True, "mw_dormant": False}

    def test_erasure_is_a_regulation_of_the_workspace(self, server: Recording) -> None:
        assert segment_of(server).erase([ADA, BEN]).accepted == {ADA.key, BEN.key}
        [asked] = server.asked
        assert (asked.path, asked.headers["authorization"]) == ("/regulations", f"Bearer {SECRETS[1]}")
        assert asked.said == {
            "regulationType": "SUPPRESS_WITH_DELETE", "subjectType": "USER_ID", "subjectIds": [ADA.key, BEN.key]
        }  # fmt: skip

    def test_what_would_be_dropped_for_its_size_is_not_sent(self, server: Recording) -> None:
        long = replace(BEN, fields={"firstName": "n" * MESSAGE_BYTES})
        answer = segment_of(server).write([ADA, long])
        assert answer.accepted == {ADA.key}
        assert [(found.key, found.code) for found in answer.rejected] == [(BEN.key, "MESSAGE_TOO_LARGE")]
        assert [message["userId"] for message in batches(server, "/v1/batch")[0]["batch"]] == [ADA.key]

    def test_a_call_that_is_too_large_is_split_before_it_is_made(self, server: Recording) -> None:
        contacts = [replace(BEN, key=f"{number:016x}", fields={"firstName": "n" * 20_000}) for number in range(30)]
        with pytest.raises(RefusedError, match="BATCH_TOO_LARGE"):
            segment_of(server).write(contacts)
        assert not server.asked

    @pytest.mark.parametrize(
        ("source", "says"),
        [
            ({"enabled": True, "writeKeys": ["another"]}, "its write key is another one"),
            ({"enabled": False, "writeKeys": [SECRETS[0]]}, "the source is switched off"),
        ],
        ids=["key taken back", "source off"],
    )
    def test_a_source_that_would_drop_everything_is_noticed_before_anything_goes(
        self, server: Recording, source: dict[str, Any], says: str
    ) -> None:
        server.answers["/sources/s1"] = (200, {"data": {"source": source}})
        with pytest.raises(DestinationError, match=says) as raised:
            segment_of(server).prepare(FIELDS, [])
        assert not any(secret in str(raised.value) for secret in SECRETS)


class TestMParticle:
    def test_writes_attributes_and_deletes_those_that_were_left(self, server: Recording) -> None:
        connector = mparticle_of(server)
        connector.prepare(FIELDS, [])
        assert connector.write([ADA, BEN]).accepted == {ADA.key, BEN.key}
        [body] = batches(server, "/v2/bulkevents")
        assert [{name: value for name, value in batch.items() if name != "source_request_id"} for batch in body] == [
            {
                "environment": "production",
                "user_identities": {"customer_id": ADA.key, "email": "ada@example.com"},
                "user_attributes": {
                    "firstName": "Ada", "mw_orders": 3, "mw_seasonal": False, "mw_last_order": "2011-12-09",
                    "mw_frequent_buyers": True,
                },
                "deleted_user_attributes": ["mw_gone", "mw_dormant"],
            },
            {
                "environment": "production",
                "user_identities": {"customer_id": BEN.key},
                "user_attributes": {"firstName": "Ben", "mw_subscribed": True, "mw_archived": False},
            },
        ]  # fmt: skip
        assert basic(server.asked[0]) == f"input:{SECRETS[2]}"

    def test_a_repeated_call_has_the_same_id(self, server: Recording) -> None:
        for _ in range(2):
            mparticle_of(server).write([ADA])
        first, second = batches(server, "/v2/bulkevents")
        assert first == second
        assert first[0]["source_request_id"].startswith("mw-")

    def test_a_refusal_opts_out(self, server: Recording) -> None:
        assert mparticle_of(server).unsubscribe([ADA]).accepted == {ADA.key}
        [[batch]] = batches(server, "/v2/bulkevents")
        assert batch["user_attributes"] == {"mw_subscribed": False}
        [event] = batch["events"]
        assert (event["event_type"], event["data"]["is_opted_out"]) == ("opt_out", True)

    def test_another_id_leaves_the_audience_before_the_new_one_enters(self, server: Recording) -> None:
        old = Contact("00000000000000cc", remove=("mw_dormant",))
        assert mparticle_of(server).rekey([Rekey(old, ADA)]).accepted == {ADA.key}
        [[left, entered]] = batches(server, "/v2/bulkevents")
        assert (left["user_identities"], left["user_attributes"]) == ({"customer_id": old.key}, {"mw_archived": True})
        assert left["deleted_user_attributes"] == ["mw_dormant", "mw_frequent_buyers"]
        assert entered["user_attributes"]["mw_archived"] is False
        data = entered["events"][0]["data"]
        assert (data["old"]["identity"], data["new"]["identity"]) == (old.key, ADA.key)

    def test_erasure_is_a_data_subject_request_each_that_repeats_its_id(self, server: Recording) -> None:
        for _ in range(2):
            assert mparticle_of(server).erase([ADA, replace(BEN, email=None)]).accepted == {ADA.key, BEN.key}
        first, second, again, _ = (asked.said for asked in server.asked)
        assert first["subject_identities"] == {
            "controller_customer_id": {"value": ADA.key, "encoding": "raw"},
            "email": {"value": "ada@example.com", "encoding": "raw"},
        }
        assert set(second["subject_identities"]) == {"controller_customer_id"}
        assert first["subject_request_id"] == again["subject_request_id"] != second["subject_request_id"]
        assert first["subject_request_id"][14] == "4"  # a random UUID by its form, as the framework asks for
        assert {basic(asked) for asked in server.asked} == {f"workspace:{SECRETS[3]}"}

    def test_every_body_is_as_the_published_document_has_it(self, server: Recording) -> None:
        document = orjson.loads(SPEC.read_bytes())
        bulk, opt_out, changed = (
            jsonschema_rs.validator_for({"$ref": f"#/components/schemas/{name}", "components": document["components"]})
            for name in ("BulkBatch", "OptOutEvent", "UserIdentityChangeEvent")
        )
        connector = mparticle_of(server)
        connector.prepare(FIELDS, [])
        connector.write([ADA, BEN])
        connector.unsubscribe([ADA])
        connector.archive([ADA])
        connector.rekey([Rekey(Contact("00000000000000cc"), ADA)])
        bodies = batches(server, "/v2/bulkevents")
        assert len(bodies) == 4
        for body in bodies:
            bulk.validate(body)
        opt_out.validate(bodies[1][0]["events"][0])
        changed.validate(bodies[3][1]["events"][0])
        assert not bulk.is_valid([{**bodies[0][0], "unknown": 1}])

    def test_words_of_an_error_are_read(self, server: Recording) -> None:
        server.answers["/v2/bulkevents"] = (400, {"errors": [{"code": "BAD_REQUEST", "message": "Required field"}]})
        with pytest.raises(RefusedError) as raised:
            mparticle_of(server).write([ADA])
        assert (raised.value.code, raised.value.words) == ("BAD_REQUEST", "Required field")


@pytest.mark.parametrize("platform", ["segment", "mparticle"])
class TestBoth:
    @pytest.fixture
    def connector(self, platform: str, server: Recording) -> Iterator[Connector]:
        made: Connector = segment_of(server) if platform == "segment" else mparticle_of(server)
        yield made
        made.close()

    def test_a_whole_batch_of_the_shipped_sync_fits_in_one_call(
        self, platform: str, connector: Connector, server: Recording
    ) -> None:
        document = yaml.safe_load((sync.FOLDER / f"{platform}.yml").read_text(encoding="utf-8"))
        tags = tuple(f"mw_{segment}" for segment in sync.segment_names(PROJECT_ROOT / "dbt_project"))
        starts = tuple(f"mw_{segment}_start" for segment in document["automations"])
        fields = dict.fromkeys(document["fields"].values(), "twenty-four characters ü")
        for kind in ("contacts", "unsubscribe", "rekey"):
            contacts = [
                Contact(f"{number:016x}", f"person{number}@example.com", True, fields, tags + starts)
                for number in range(connector.platform.limit(kind).batch)
            ]
            if kind == "contacts":
                connector.write(contacts)
            elif kind == "unsubscribe":
                connector.unsubscribe(contacts)
            else:
                connector.rekey([Rekey(replace(one, key="o" + one.key[1:], remove=tags), one) for one in contacts])
        assert len(server.asked) == 3

    def test_no_secret_and_no_address_shows(self, connector: Connector) -> None:
        said = f"{connector!r} {connector.account!r} {connector.target} {connector.description} {ADA!r}"
        assert not any(secret in said for secret in (*SECRETS, "ada@example.com"))

    def test_a_page_of_a_proxy_is_no_acknowledgement(self, connector: Connector, server: Recording) -> None:
        server.content_type = "text/html; charset=utf-8"
        with pytest.raises(TryAgainError):
            connector.write([ADA])

    def test_every_request_is_told_without_anything_personal(self, connector: Connector, server: Recording) -> None:
        told: list[tuple[Any, ...]] = []
        connector.observe(lambda *said: told.append(said))
        connector.prepare(FIELDS, [])
        connector.write([ADA])
        connector.erase([ADA])
        assert len(told) == len(server.asked)
        assert not any(text in str(told) for text in (ADA.key, "ada@", *SECRETS))


VARIABLES = {
    "segment": {"SOURCE_ID": "s1", "WRITE_KEY": SECRETS[0], "PUBLIC_API_TOKEN": SECRETS[1]},
    "mparticle": {
        "WORKSPACE": "shop", "KEY": "input", "SECRET": SECRETS[2], "WORKSPACE_KEY": "workspace",
        "WORKSPACE_SECRET": SECRETS[3],
    },
}  # fmt: skip
CLASSES: dict[str, type[Connector]] = {"segment": Segment, "mparticle": MParticle}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.create(tmp_path / "home", "Europe/London", "GBP")


@pytest.mark.parametrize("platform", CLASSES)
class TestEnvironment:
    def test_nothing_set_is_the_sandbox(self, platform: str, home: Home) -> None:
        assert CLASSES[platform].credentials(home) is None

    def test_whole_is_the_real_account_over_https(
        self, platform: str, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in VARIABLES[platform].items():
            monkeypatch.setenv(f"MAILWRIGHT_{platform.upper()}_{name}", value)
        found = CLASSES[platform].credentials(home)
        assert found is not None
        assert str(found.base_url).startswith("https://")
        assert not any(secret in repr(found) for secret in SECRETS)

    def test_what_is_missing_is_named(self, platform: str, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        for missing in VARIABLES[platform]:
            with monkeypatch.context() as patch:
                for name, value in VARIABLES[platform].items():
                    patch.setenv(f"MAILWRIGHT_{platform.upper()}_{name}", "" if name == missing else value)
                with pytest.raises(SettingsError, match=f"MAILWRIGHT_{platform.upper()}_{missing}: is needed too"):
                    CLASSES[platform].credentials(home)


@pytest.mark.parametrize(
    ("platform", "variable", "value"),
    [
        ("segment", "SOURCE_ID", "../regulations"),
        ("segment", "REGION", "mars"),
        ("mparticle", "POD", "example.com/"),
        ("mparticle", "OPENDSR_HOST", "opendsr.example.com"),
    ],
)
def test_what_becomes_part_of_an_address_is_checked(
    platform: str, variable: str, value: str, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, said in {**VARIABLES[platform], variable: value}.items():
        monkeypatch.setenv(f"MAILWRIGHT_{platform.upper()}_{name}", said)
    with pytest.raises(SettingsError, match=f"MAILWRIGHT_{platform.upper()}_{variable}"):
        CLASSES[platform].credentials(home)


def test_regions_have_hosts_of_their_own(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for platform, where in (("segment", {"REGION": "eu"}), ("mparticle", {"POD": "eu1"})):
        for name, said in {**VARIABLES[platform], **where}.items():
            monkeypatch.setenv(f"MAILWRIGHT_{platform.upper()}_{name}", said)
    segment, mparticle = Segment.credentials(home), MParticle.credentials(home)
    assert [found.base_url for found in (segment, mparticle) if found is not None] == [
        "https://events.eu1.segmentapis.com",
        "https://s2s.eu1.mparticle.com",
    ]


def test_values_have_the_types_of_json() -> None:
    from activation.connector import json_value

    said: list[tuple[FieldType, str | None]] = [
        ("number", "3"), ("number", "-2.50"), ("number", "1e3"), ("boolean", "true"), ("boolean", "false"),
        ("date", "2011-12-09"), ("text", "03"), ("number", None),
    ]  # fmt: skip
    assert orjson.dumps([json_value(kind, value) for kind, value in said]) == (
        b'[3,-2.5,1000.0,true,false,"2011-12-09","03",null]'
    )
