"""Segment: `identify` calls of the HTTP Tracking API to one source, and erasure by the Public API.

Segment answers 200 to whatever is JSON and small enough, and drops what makes no sense later, without a word, even with
a write key that is no more. So the key is looked up first (`GET /sources/{id}` of the Public API), nothing is sent that
would be dropped, and a 200 means "taken in": what became of it downstream comes back as deliveries.

- A segment is a trait `mw_<segment>`, true or false: destinations of Segment's know a boolean, not an absent trait.
- `mw_subscribed` is written as true for a contact that is new, and as false, with the event `Unsubscribed` of the e-mail
  spec, for a refusal. No other call names it.
- Segment knows no archive: `mw_archived` tells downstream tools that somebody is out of the audience for now.
- Messages with the same `messageId` within about a day count once. It is made of the content and of the apply: a repeated
  call counts once, while a trait that goes back to what it was yesterday is heard. An `Unsubscribed` counts once for good.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
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
from core.errors import DestinationError
from core.home import Home
from core.settings import is_set, read_environment

MESSAGE_BYTES = 32_000
SUBSCRIBED, ARCHIVED = "mw_subscribed", "mw_archived"

PLATFORM = Platform(
    name="segment",
    title="Segment",
    key="customer_id",
    membership="attributes",
    membership_form="trait mw_<segment>, true or false",
    tag_prefix="mw_",
    limits={
        # 2,500 messages are admitted: with every field and segment of ours more than these would pass 500 KB.
        "contacts": Limit(batch=300, calls=1000, body_bytes=500_000),
        "unsubscribe": Limit(batch=500, calls=1000, body_bytes=500_000),
        "rekey": Limit(batch=200, calls=1000, body_bytes=500_000),
        "erase": Limit(batch=5000),
        "read": Limit(),
    },
    fields=FieldRule(
        pattern=r"[A-Za-z][A-Za-z0-9_]{0,254}",
        prefix="mw_",
        standard=(
            "address", "age", "birthday", "company", "createdAt", "description", "email", "firstName", "gender",
            "lastName", "name", "phone", "title", "username", "website",
        ),
    ),
    consent_form=f"trait {SUBSCRIBED}, and the event Unsubscribed",
    documents="https://segment.com/docs/connections/sources/catalog/libraries/server/http-api/",
    connections=4,
    can_read=False,
    is_middleware=True,
)  # fmt: skip

_HOSTS = {
    "us": ("https://api.segment.io", "https://api.segmentapis.com"),
    "eu": ("https://events.eu1.segmentapis.com", "https://eu1.api.segmentapis.com"),
}
_ADVICE = {
    401: "check MAILWRIGHT_SEGMENT_WRITE_KEY, which is shown with the source under Settings, API Keys",
    403: "check MAILWRIGHT_SEGMENT_WRITE_KEY: the source does not take it, or is switched off",
    404: "check MAILWRIGHT_SEGMENT_REGION, which says where the workspace is",
}
_PUBLIC_API_ADVICE = {
    401: (
        "check MAILWRIGHT_SEGMENT_PUBLIC_API_TOKEN: make another under Settings, Workspace settings, Access Management"
    ),
    403: "the token has no right to make regulations: it must be a Workspace Owner's",
    404: "check MAILWRIGHT_SEGMENT_SOURCE_ID and MAILWRIGHT_SEGMENT_REGION",
}


class Environment(BaseSettings):
    """Variables of the real account."""

    model_config = SettingsConfigDict(
        env_prefix="MAILWRIGHT_SEGMENT_", extra="ignore", env_ignore_empty=True, frozen=True
    )

    source_id: str = Setting(description="Id of the source, shown under Settings, API Keys", pattern=r"^\w{1,64}$")
    write_key: SecretStr = Setting(description="Write key of the source")
    public_api_token: SecretStr = Setting(description="Token of the Public API, for erasure")
    region: Literal["us", "eu"] = Setting("us", description="Where the workspace is: data sent elsewhere are lost")


@dataclass(frozen=True, kw_only=True)
class SegmentCredentials(Credentials):
    """What it takes to call a source, and the Public API of its workspace.

    Attributes:
        public_api: base URL of the Public API, in the form of `base_url`.
    """

    source_id: str
    write_key: SecretStr
    public_api_token: SecretStr
    public_api: str | Callable[[], str]


class Segment(Connector):
    """One source of one workspace."""

    platform: ClassVar[Platform] = PLATFORM

    def __init__(self, credentials: SegmentCredentials, api: Api, public_api: Api) -> None:
        super().__init__(credentials, api)
        self._credentials = credentials
        self._public_api = public_api
        self._types: dict[str, FieldType] = {}
        self._apply = secrets.token_hex(8)

    @classmethod
    def credentials(cls, home: Home) -> Credentials | None:
        if not is_set(Environment):
            return None
        said = read_environment(Environment)
        base_url, public_api = _HOSTS[said.region]
        return SegmentCredentials(
            base_url=base_url,
            account=f"{said.region}/{said.source_id}",
            description=f"Segment source {said.source_id} ({said.region})",
            source_id=said.source_id,
            write_key=said.write_key,
            public_api_token=said.public_api_token,
            public_api=public_api,
        )

    @classmethod
    def sandbox_credentials(cls, account: SandboxAccount) -> Credentials:
        return SegmentCredentials(
            base_url=account.base_url,
            account=f"sandbox/{account.account}",
            description=f"Segment sandbox, source {account.account}",
            source_id=account.account,
            write_key=SecretStr(account.secrets["write_key"]),
            public_api_token=SecretStr(account.secrets["public_api_token"]),
            public_api=account.base_url,
        )

    @classmethod
    def connect(cls, credentials: SegmentCredentials, retry: RetryPolicy | None = None) -> Segment:
        api = Api(
            PLATFORM,
            credentials.base_url,
            description=credentials.description,
            auth=(credentials.write_key.get_secret_value(), ""),
            read_problem=_problem,
            advice=_ADVICE,
            retry=retry,
        )
        public_api = Api(
            PLATFORM,
            credentials.public_api,
            description=f"{credentials.description}, Public API",
            headers={"Authorization": f"Bearer {credentials.public_api_token.get_secret_value()}"},
            read_problem=_problem,
            advice=_PUBLIC_API_ADVICE,
            retry=retry,
        )
        return cls(credentials, api, public_api)

    def observe(self, observer: Observer) -> None:
        super().observe(observer)
        self._public_api.observer = observer

    def close(self) -> None:
        super().close()
        self._public_api.close()

    def prepare(self, fields: Sequence[Field], tags: Collection[str]) -> None:
        """Traits need no declaration. Make sure that what will be sent is taken in.

        Raises:
            DestinationError: the source is off or another key is in force, so that Segment would drop everything.
        """
        self._types = {field.name: field.type for field in fields}
        # A later apply may say again what an earlier one said: that must not count as a repetition.
        self._apply = secrets.token_hex(8)
        said = self._public_api.get(f"/sources/{self._credentials.source_id}", route="/sources/{source}")
        source = said["data"]["source"]
        if not source["enabled"] or self._credentials.write_key.get_secret_value() not in source["writeKeys"]:
            what = "its write key is another one" if source["enabled"] else "the source is switched off"
            raise DestinationError(
                f"{self.description} would drop all that is sent: {what}; correct MAILWRIGHT_SEGMENT_WRITE_KEY or switch"
                " the source on, then apply again"
            )

    def write(self, contacts: Sequence[Contact]) -> Answer:
        return self._send([(contact, [self._identify(contact, self._traits(contact))]) for contact in contacts])

    def unsubscribe(self, contacts: Sequence[Contact]) -> Answer:
        return self._send(
            [(contact, [self._identify(contact, {SUBSCRIBED: False}), _unsubscribed(contact)]) for contact in contacts],
            kind="unsubscribe",
        )

    def erase(self, contacts: Sequence[Contact]) -> Answer:
        """Have the whole workspace delete and suppress these, and pass that on to its destinations."""
        body = {
            "regulationType": "SUPPRESS_WITH_DELETE",
            "subjectType": "USER_ID",
            "subjectIds": [contact.key for contact in contacts],
        }
        self._public_api.call("POST", "/regulations", route="/regulations", kind="erase", body=body, rows=len(contacts))
        return Answer({contact.key for contact in contacts})

    def archive(self, contacts: Sequence[Contact]) -> Answer:
        return self._send([
            (contact, [self._identify(contact, {ARCHIVED: True, **dict.fromkeys(contact.remove, False)})])
            for contact in contacts
        ])  # fmt: skip

    def rekey(self, changes: Sequence[Rekey]) -> Answer:
        """Take the old id out of the audience, tie it to the new one, and write the new one."""
        return self._send(
            [
                (
                    change.new,
                    [
                        self._identify(change.old, {ARCHIVED: True, **dict.fromkeys(_tags(change), False)}),
                        _message({"type": "alias", "previousId": change.old.key, "userId": change.new.key}),
                        self._identify(change.new, {**self._traits(change.new), ARCHIVED: False}),
                    ],
                )
                for change in changes
            ],
            kind="rekey",
        )

    def _traits(self, contact: Contact) -> dict[str, Any]:
        traits: dict[str, Any] = {
            name: json_value(self._types.get(name, "text"), value) for name, value in contact.fields.items()
        }
        traits |= dict.fromkeys(contact.add, True) | dict.fromkeys(contact.remove, False)
        if contact.is_new:
            traits |= {SUBSCRIBED: True, ARCHIVED: False}
        return traits

    def _identify(self, contact: Contact, traits: Mapping[str, Any]) -> dict[str, Any]:
        return _message({"type": "identify", "userId": contact.key, "traits": traits}, self._apply)

    def _send(self, said: Sequence[tuple[Contact, Sequence[dict[str, Any]]]], kind: str = "contacts") -> Answer:
        """Send the messages of each contact in one call; those that Segment would drop for their size not at all."""
        answer = Answer()
        messages: list[bytes] = []
        for contact, own in said:
            encoded = [orjson.dumps(message) for message in own]
            if longest := next((len(message) for message in encoded if len(message) > MESSAGE_BYTES), 0):
                words = f"{longest} bytes, of {MESSAGE_BYTES} that Segment takes for one contact"
                answer.rejected.append(Rejection(contact.key, "MESSAGE_TOO_LARGE", words))
                continue
            messages += encoded
            answer.accepted.add(contact.key)
        if not messages:
            return answer
        body = b'{"batch":[' + b",".join(messages) + b"]}"
        if len(body) > (PLATFORM.limit(kind).body_bytes or len(body)):
            raise RefusedError("BATCH_TOO_LARGE", f"{len(body)} bytes")
        self.api.call("POST", "/v1/batch", route="/v1/batch", kind=kind, content=body, rows=len(answer.accepted))
        return answer


def _tags(change: Rekey) -> list[str]:
    """Every tag that the old contact may have: those that the new one is given were its own."""
    return sorted({*change.old.remove, *change.new.add, *change.new.remove})


def _problem(response: httpx.Response) -> Problem:
    """Code and words of the first of an answer's errors."""
    try:
        first = orjson.loads(response.content)["errors"][0]
        return Problem(str(first["type"]), str(first["message"]))
    except (ValueError, LookupError, TypeError):
        return problem_of(response)


def _unsubscribed(contact: Contact) -> dict[str, Any]:
    message: dict[str, Any] = {"type": "track", "event": "Unsubscribed", "userId": contact.key, "properties": {}}
    if contact.email is not None:
        message["context"] = {"traits": {"email": contact.email}}
    return _message(message)


def _message(said: dict[str, Any], apply: str = "") -> dict[str, Any]:
    """Give a message its id: that of its content, and of the apply where a later one may say the same again."""
    content = orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
    said["messageId"] = f"mw-{hashlib.sha256(apply.encode() + content).hexdigest()[:40]}"
    return said


CONNECTOR = Segment
