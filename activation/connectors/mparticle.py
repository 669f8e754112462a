"""mParticle: the Events API of one input in bulk, and erasure by the OpenDSR framework.

mParticle answers 202 to whatever is JSON of the right form, "even if some event batches fail": a 202 means "taken in", and
what became of it downstream comes back as deliveries.

- A segment is a user attribute `mw_<segment>` that is true; leaving it deletes the attribute.
- A refusal is an `opt_out` event and the attribute `mw_subscribed` = false. `mw_subscribed` = true is written for a contact
  that is new, and by no other call.
- There is no archive: `mw_archived` tells downstream tools that somebody is out of the audience for now.
- A changed id is told as `user_identity_change`; whether profiles are joined then is the workspace's identity strategy.
- Erasures of pods other than us1 may have a host of their own, which is nowhere published: see the setting.
- `source_request_id` and `source_message_id` are made of the content; that mParticle counts equal ones once is nowhere
  published, and nothing here needs it: writing the same attributes again changes nothing.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

import httpx
import orjson
from pydantic import Field as Setting
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from activation.connector import (
    Answer,
    Connector,
    Contact,
    Credentials,
    Field,
    Rejection,
    Rekey,
    SandboxAccount,
    json_value,
)
from activation.http import Api, Observer, Problem, RefusedError, RetryPolicy, problem_of
from activation.platform import FieldRule, FieldType, Limit, Platform
from core.home import Home
from core.settings import is_set, read_environment

BATCH_BYTES = 128_000
SUBSCRIBED, ARCHIVED = "mw_subscribed", "mw_archived"

PLATFORM = Platform(
    name="mparticle",
    title="mParticle",
    key="customer_id",
    membership="attributes",
    membership_form="user attribute mw_<segment> = true, deleted when left",
    tag_prefix="mw_",
    # 100 attributes go with one batch, fields and segments together.
    most_tags=60,
    limits={
        # 270 batches a second, one for each contact.
        "contacts": Limit(batch=100, calls=27, seconds=10.0, body_bytes=256_000),
        # Two batches for each contact: the old id and the new one.
        "rekey": Limit(batch=50, calls=27, seconds=10.0, body_bytes=256_000),
        "unsubscribe": Limit(batch=100, calls=27, seconds=10.0, body_bytes=256_000),
        "erase": Limit(batch=1, calls=1000, seconds=60.0),
    },
    fields=FieldRule(
        pattern=r"\$?[A-Za-z][A-Za-z0-9_]{0,254}",
        prefix="mw_",
        standard=(
            "email", "$FirstName", "$LastName", "$Address", "$City", "$State", "$Zip", "$Country", "$Age", "$Gender",
            "$Mobile",
        ),
        longest=4096,
        most=35,
    ),
    consent_form=f"opt_out event, and attribute {SUBSCRIBED}",
    documents="https://docs.mparticle.com/developers/apis/http/",
    connections=4,
    can_read=False,
    is_middleware=True,
)  # fmt: skip

# Identities, not attributes.
_IDENTITIES = ("email",)
_HOSTS = {pod: f"https://s2s.{pod}.mparticle.com" for pod in ("us1", "us2", "eu1", "au1")}
_ADVICE = {
    401: "no key went along: check MAILWRIGHT_MPARTICLE_KEY and _SECRET; a proxy may take it out",
    403: "the key is not valid: make another under Setup, Inputs (for erasures: under Workspace Settings)",
    404: "check MAILWRIGHT_MPARTICLE_POD, which says where the organisation is hosted",
}


class Environment(BaseSettings):
    """Variables of the real account."""

    model_config = SettingsConfigDict(
        env_prefix="MAILWRIGHT_MPARTICLE_", extra="ignore", env_ignore_empty=True, frozen=True
    )

    workspace: str = Setting(description="Workspace and input, in a name of your own", pattern=r"^[\w.-]{1,64}$")
    key: SecretStr = Setting(description="Key of the input")
    secret: SecretStr = Setting(description="Secret of the input")
    workspace_key: SecretStr = Setting(description="Key of the workspace, for erasures")
    workspace_secret: SecretStr = Setting(description="Secret of the workspace, for erasures")
    pod: Literal["us1", "us2", "eu1", "au1"] = Setting("us1", description="Where the organisation is hosted")
    opendsr_host: str = Setting(
        "opendsr.mparticle.com",
        description="Where erasures are asked for; the published one is that of pod us1",
        pattern=r"^opendsr(\.\w{3})?\.mparticle\.com$",
    )
    environment: Literal["production", "development"] = Setting("production", description="Environment of the data")
    regulation: Literal["gdpr", "ccpa"] = Setting("gdpr", description="Law that erasures are asked for under")


@dataclass(frozen=True, kw_only=True)
class MParticleCredentials(Credentials):
    """What it takes to call an input, and the workspace's data subject requests.

    Attributes:
        requests: base URL of data subject requests, in the form of `base_url`.
    """

    key: SecretStr
    secret: SecretStr
    workspace_key: SecretStr
    workspace_secret: SecretStr
    requests: str | Callable[[], str]
    environment: str = "production"
    regulation: str = "gdpr"


class MParticle(Connector):
    """One input of one workspace."""

    platform: ClassVar[Platform] = PLATFORM

    def __init__(self, credentials: MParticleCredentials, api: Api, requests: Api) -> None:
        super().__init__(credentials, api)
        self._credentials = credentials
        self._requests = requests
        self._types: dict[str, FieldType] = {}

    @classmethod
    def credentials(cls, home: Home) -> Credentials | None:
        if not is_set(Environment):
            return None
        said = read_environment(Environment)
        return MParticleCredentials(
            base_url=_HOSTS[said.pod],
            account=f"{said.pod}/{said.workspace}/{said.environment}",
            description=f"mParticle {said.workspace} ({said.pod}, {said.environment})",
            key=said.key,
            secret=said.secret,
            workspace_key=said.workspace_key,
            workspace_secret=said.workspace_secret,
            requests=f"https://{said.opendsr_host}",
            environment=said.environment,
            regulation=said.regulation,
        )

    @classmethod
    def sandbox_credentials(cls, account: SandboxAccount) -> Credentials:
        return MParticleCredentials(
            base_url=account.base_url,
            account=f"sandbox/{account.account}",
            description=f"mParticle sandbox, input {account.account}",
            key=SecretStr(account.secrets["key"]),
            secret=SecretStr(account.secrets["secret"]),
            workspace_key=SecretStr(account.secrets["workspace_key"]),
            workspace_secret=SecretStr(account.secrets["workspace_secret"]),
            requests=account.base_url,
        )

    @classmethod
    def connect(cls, credentials: MParticleCredentials, retry: RetryPolicy | None = None) -> MParticle:
        api = Api(
            PLATFORM,
            credentials.base_url,
            description=credentials.description,
            auth=(credentials.key.get_secret_value(), credentials.secret.get_secret_value()),
            read_problem=_problem,
            advice=_ADVICE,
            retry=retry,
        )
        requests = Api(
            PLATFORM,
            credentials.requests,
            description=f"{credentials.description}, data subject requests",
            auth=(credentials.workspace_key.get_secret_value(), credentials.workspace_secret.get_secret_value()),
            read_problem=_problem,
            advice=_ADVICE,
            retry=retry,
        )
        return cls(credentials, api, requests)

    def observe(self, observer: Observer) -> None:
        super().observe(observer)
        self._requests.observer = observer

    def close(self) -> None:
        super().close()
        self._requests.close()

    def prepare(self, fields: Sequence[Field], tags: Collection[str]) -> None:
        # Attributes need no declaration.
        self._types = {field.name: field.type for field in fields}

    def write(self, contacts: Sequence[Contact]) -> Answer:
        return self._send([(contact, [self._batch(contact, *self._attributes(contact))]) for contact in contacts])

    def unsubscribe(self, contacts: Sequence[Contact]) -> Answer:
        said = []
        for contact in contacts:
            batch = self._batch(contact, {SUBSCRIBED: False}, [])
            batch["events"] = [_event("opt_out", {"is_opted_out": True}, contact.key)]
            said.append((contact, [batch]))
        return self._send(said, kind="unsubscribe")

    def erase(self, contacts: Sequence[Contact]) -> Answer:
        """Ask for erasure of each: mParticle waits a week, then deletes and passes it on to its outputs."""
        answer = Answer()
        for contact in contacts:
            identities = {"controller_customer_id": contact.key}
            if contact.email is not None:
                identities["email"] = contact.email
            body = {
                "regulation": self._credentials.regulation,
                "subject_request_id": _request_id(self.target, contact.key),
                "subject_request_type": "erasure",
                "submitted_time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "subject_identities": {name: {"value": value, "encoding": "raw"} for name, value in identities.items()},
                "api_version": "3.0",
            }
            self._requests.call("POST", "/v3/requests/", route="/v3/requests/", kind="erase", body=body, rows=1)
            answer.accepted.add(contact.key)
        return answer

    def archive(self, contacts: Sequence[Contact]) -> Answer:
        return self._send(
            [(contact, [self._batch(contact, {ARCHIVED: True}, list(contact.remove))]) for contact in contacts]
        )

    def rekey(self, changes: Sequence[Rekey]) -> Answer:
        """Take the old id out of the audience, tell that it is another now, and write the new one."""
        said = []
        for change in changes:
            attributes, deleted = self._attributes(change.new)
            new = self._batch(change.new, {**attributes, ARCHIVED: False}, deleted)
            moment = _milliseconds()
            identities = {
                which: {
                    "identity_type": "customer_id",
                    "identity": contact.key,
                    "timestamp_unixtime_ms": moment,
                    "created_this_batch": which == "new",
                }
                for which, contact in (("new", change.new), ("old", change.old))
            }
            new["events"] = [_event("user_identity_change", identities, change.new.key)]
            # Those that the new one is given were the old one's own.
            tags = sorted({*change.old.remove, *change.new.add, *change.new.remove})
            old = self._batch(change.old, {ARCHIVED: True}, tags)
            said.append((change.new, [old, new]))
        return self._send(said, kind="rekey")

    def _attributes(self, contact: Contact) -> tuple[dict[str, Any], list[str]]:
        """What is to be set, and the names of what is to be deleted."""
        values = {
            name: json_value(self._types.get(name, "text"), value)
            for name, value in contact.fields.items()
            if name not in _IDENTITIES
        }
        setting: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
        setting |= dict.fromkeys(contact.add, True)
        if contact.is_new:
            setting |= {SUBSCRIBED: True, ARCHIVED: False}
        return setting, [*(name for name, value in values.items() if value is None), *contact.remove]

    def _batch(self, contact: Contact, attributes: Mapping[str, Any], deleted: Sequence[str]) -> dict[str, Any]:
        identities = {"customer_id": contact.key}
        identities |= {name: value for name in _IDENTITIES if (value := contact.fields.get(name)) is not None}
        batch: dict[str, Any] = {
            "environment": self._credentials.environment,
            "user_identities": identities,
            "user_attributes": dict(attributes),
        }
        if deleted:
            batch["deleted_user_attributes"] = list(deleted)
        content = orjson.dumps(batch, option=orjson.OPT_SORT_KEYS)
        batch["source_request_id"] = f"mw-{hashlib.sha256(content).hexdigest()[:40]}"
        return batch

    def _send(self, said: Sequence[tuple[Contact, Sequence[dict[str, Any]]]], kind: str = "contacts") -> Answer:
        """Send the batches of each contact in one call; one that mParticle would not take for its size not at all."""
        answer = Answer()
        batches: list[bytes] = []
        for contact, own in said:
            encoded = [orjson.dumps(batch) for batch in own]
            if longest := next((len(batch) for batch in encoded if len(batch) > BATCH_BYTES), 0):
                words = f"{longest} bytes, of {BATCH_BYTES} that mParticle takes for one contact"
                answer.rejected.append(Rejection(contact.key, "BATCH_TOO_LARGE", words))
                continue
            batches += encoded
            answer.accepted.add(contact.key)
        if not batches:
            return answer
        body = b"[" + b",".join(batches) + b"]"
        if len(body) > (PLATFORM.limit(kind).body_bytes or len(body)):
            raise RefusedError("REQUEST_TOO_LARGE", f"{len(body)} bytes")
        self.api.call(
            "POST", "/v2/bulkevents", route="/v2/bulkevents", kind=kind, content=body, rows=len(answer.accepted)
        )
        return answer


def _problem(response: httpx.Response) -> Problem:
    """Code and words of the first of an answer's errors."""
    try:
        first = orjson.loads(response.content)["errors"][0]
        return Problem(str(first["code"]), str(first["message"]))
    except (ValueError, LookupError, TypeError):
        return problem_of(response)


def _event(kind: str, data: dict[str, Any], key: str) -> dict[str, Any]:
    message_id = hashlib.sha256(f"{kind} {key}".encode()).hexdigest()[:40]
    return {
        "event_type": kind,
        "data": {**data, "timestamp_unixtime_ms": _milliseconds(), "source_message_id": f"mw-{message_id}"},
    }


def _request_id(target: str, key: str) -> str:
    """The same for the same person: a request that is made twice is one."""
    digest = hashlib.sha256(f"{target} {key}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


CONNECTOR = MParticle
