"""Mailchimp Marketing API 3.0: contacts of one audience, our merge fields, and segments as tags (static segments).

Subscription status is only ever given for contacts that are new (`status_if_new`), or set to unsubscribed: writing
`subscribed` would bring back people who left. `sync_tags` stays false, as true deletes the marketers' own tags.

Batches (`/batches`) are not used: their results are a gzipped tar to be fetched later, while calls of 500 contacts answer
record by record at once.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
from pydantic import Field as Setting
from pydantic import SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from activation.connector import (
    Answer,
    Connector,
    Contact,
    Credentials,
    Field,
    Member,
    Rejection,
    Rekey,
    SandboxAccount,
    State,
    json_value,
    key_of,
    redact,
)
from activation.http import Api, Problem, Reply, RetryPolicy
from activation.platform import FieldRule, FieldType, Limit, Platform
from core.errors import SettingsError
from core.home import Home
from core.settings import is_set, read_environment

# Nothing is published about calls a second; one contact a call where the API has no call for many.
MANY, ONE, PAGE = Limit(batch=500), Limit(batch=1), Limit(batch=1000)

PLATFORM = Platform(
    name="mailchimp",
    title="Mailchimp",
    key="email",
    membership="tags",
    membership_form="tags (static segments) called `mw: <segment>`",
    tag_prefix="mw: ",
    # 500 to add and 500 to remove in one call.
    limits={
        "contacts": MANY,
        "tags": MANY,
        "unsubscribe": ONE,
        "erase": ONE,
        "archive": ONE,
        "rekey": ONE,
        "read": PAGE,
    },
    # Of the 10 that an account may use at once: others need some too.
    connections=4,
    fields=FieldRule(
        pattern=r"[A-Z0-9_]{1,10}",
        prefix="MW_",
        standard=("FNAME", "LNAME"),
        types=("text", "number", "date"),
        longest=255,
    ),
    consent_form="new contacts are given as subscribed (status_if_new), a refusal is the status unsubscribed",
    documents="https://mailchimp.com/developer/marketing/api/",
)

_STATES: Mapping[str, State] = {
    "subscribed": "subscribed",
    "unsubscribed": "unsubscribed",
    # Asked to confirm, or only ever mailed about an order: neither may be sent marketing.
    "pending": "unsubscribed",
    "transactional": "unsubscribed",
    "cleaned": "bounced",
    "archived": "archived",
}


class MailchimpSettings(BaseSettings):
    """The real account, from the environment."""

    model_config = SettingsConfigDict(
        env_prefix="MAILWRIGHT_MAILCHIMP_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    api_key: SecretStr | None = Setting(None, description="API key")
    access_token: SecretStr | None = Setting(
        None, description="Instead of a key: the token that `mailwright auth mailchimp` was given"
    )
    server: str | None = Setting(None, description="Data centre, for example us19; a key says it itself")
    list_id: str | None = Setting(None, description="Audience id, shown under Audience, Settings")

    @field_validator("server")
    @classmethod
    def _one_dns_label(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[a-z]{2}\d{1,4}", value):
            raise ValueError("must be a data centre such as us19")
        return value

    @field_validator("list_id")
    @classmethod
    def _one_word(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z0-9]{1,40}", value):
            raise ValueError("must be an audience id such as 1a2b3c4d5e")
        return value


@dataclass(frozen=True)
class MailchimpCredentials(Credentials):
    """A key, or a token, and one audience."""

    key: SecretStr = field(repr=False, kw_only=True)
    list_id: str = field(kw_only=True)


class Mailchimp(Connector):
    """One audience of one account."""

    platform = PLATFORM

    def __init__(self, credentials: MailchimpCredentials, api: Api) -> None:
        super().__init__(credentials, api)
        self._list = f"/lists/{credentials.list_id}"
        self._types: dict[str, FieldType] = {}
        self._segments: dict[str, int] = {}
        self._lock = threading.Lock()

    @classmethod
    def credentials(cls, home: Home) -> MailchimpCredentials | None:
        if not is_set(MailchimpSettings):
            return None
        said, prefix = read_environment(MailchimpSettings), MailchimpSettings.model_config["env_prefix"]
        key = said.api_key or said.access_token
        if key is None:
            return None
        if said.list_id is None:
            raise SettingsError(
                f"{prefix}LIST_ID: is needed beside the key; it is the audience id shown in Mailchimp under Audience,"
                " Settings"
            )
        server = said.server or key.get_secret_value().rpartition("-")[2]
        if not re.fullmatch(r"[a-z]{2}\d{1,4}", server):
            raise SettingsError(
                f"{prefix}SERVER: is needed, as the key does not end in a data centre; for example us19"
            )
        return MailchimpCredentials(
            base_url=f"https://{server}.api.mailchimp.com/3.0",
            account=f"{server}/{said.list_id}",
            description=f"Mailchimp audience {said.list_id} at {server}",
            key=key,
            list_id=said.list_id,
        )

    @classmethod
    def sandbox_credentials(cls, account: SandboxAccount) -> MailchimpCredentials:
        return MailchimpCredentials(
            base_url=lambda: f"{account.base_url()}/3.0",
            account=f"sandbox/{account.secrets['list_id']}",
            description=f"Mailchimp sandbox, audience {account.secrets['list_id']}",
            key=SecretStr(account.secrets["api_key"]),
            list_id=account.secrets["list_id"],
        )

    @classmethod
    def connect(cls, credentials: MailchimpCredentials, retry: RetryPolicy | None = None) -> Mailchimp:
        api = Api(
            PLATFORM,
            credentials.base_url,
            description=credentials.description,
            # A key and a token are both taken as a bearer.
            headers={"Authorization": f"Bearer {credentials.key.get_secret_value()}"},
            read_problem=_problem,
            is_throttled=_is_throttled,
            advice={
                401: "check MAILWRIGHT_MAILCHIMP_API_KEY, it may have been revoked, and MAILWRIGHT_MAILCHIMP_SERVER",
                403: "the key's user may not do this; a manager's or an admin's key is needed",
                404: "check MAILWRIGHT_MAILCHIMP_LIST_ID",
            },
            retry=retry,
        )
        return cls(credentials, api)

    def prepare(self, fields: Sequence[Field], tags: Collection[str]) -> None:
        self._types = {mapped.name: mapped.type for mapped in fields}
        there = {found["tag"] for found in self._pages("/merge-fields", "merge_fields", "/lists/{list}/merge-fields")}
        for mapped in fields:
            if mapped.name not in there:
                body = {"tag": mapped.name, "name": mapped.label, "type": mapped.type, "public": False}
                self._set_up("/merge-fields", "/lists/{list}/merge-fields", body)
        self._segments = self._read_segments()
        for tag in tags:
            if tag not in self._segments:
                body = {"name": tag, "static_segment": []}
                self._segments[tag] = self._set_up("/segments", "/lists/{list}/segments", body)["id"]

    def write(self, contacts: Sequence[Contact]) -> Answer:
        members = [
            {
                "email_address": contact.email,
                # The status of a contact that is not there yet; the ledger may not know of one that was deleted there.
                "status_if_new": "subscribed",
                "email_type": "html",
                "merge_fields": {name: self._value(name, value) for name, value in contact.fields.items()},
            }
            for contact in contacts
        ]
        said = self.api.call(
            "POST",
            self._list,
            route="/lists/{list}",
            params={"skip_merge_validation": "true"},
            body={"members": members, "update_existing": True, "sync_tags": False},
            rows=len(members),
        ).said
        # Answers are matched by address: their order and number are not those of the request.
        sent = {contact.key: contact for contact in contacts}
        answer = Answer({_key(member["email_address"]) for member in said["new_members"] + said["updated_members"]})
        for error in said["errors"]:
            words = ": ".join(filter(None, [error.get("field"), error.get("error"), error.get("field_message")]))
            key = _key(error["email_address"])
            code = error.get("error_code") or "ERROR_GENERIC"
            answer.rejected.append(Rejection(key, code, redact(words, sent.get(key))))
        return answer

    def change_tag(self, tag: str, add: Sequence[Contact], remove: Sequence[Contact]) -> Answer:
        answer = Answer()
        by_key = [contact for contact in remove if contact.email is None]
        by_email = [contact for contact in remove if contact.email is not None]
        if tag not in self._segments and not add:
            # Someone deleted the tag at Mailchimp: nobody has it any more.
            return Answer({contact.key for contact in remove})
        if add or by_email:
            self._change_segment(answer, self._segments[tag], add, by_email)
        for contact in by_key:
            body = {"tags": [{"name": tag, "status": "inactive"}], "is_syncing": True}
            self._one("POST", contact.key, "/tags", kind="tags", body=body)
            answer.accepted.add(contact.key)
        return answer

    def unsubscribe(self, contacts: Sequence[Contact]) -> Answer:
        body = {"status": "unsubscribed"}
        return self._each(contacts, lambda key: self._one("PATCH", key, kind="unsubscribe", body=body))

    def erase(self, contacts: Sequence[Contact]) -> Answer:
        return self._each(contacts, lambda key: self._one("POST", key, "/actions/delete-permanent", kind="erase"))

    def archive(self, contacts: Sequence[Contact]) -> Answer:
        # 405 is the answer for a contact that is archived already.
        return self._each(contacts, lambda key: self._one("DELETE", key, kind="archive", accepts=(404, 405)))

    def rekey(self, changes: Sequence[Rekey]) -> Answer:
        """Change addresses: a contact keeps its tags, its history and its consent.

        Where the old address is not there the change was made before, or its owner is new: a plan to come creates them. A new
        address that is there is refused, as two contacts can't become one.
        """
        answer = Answer()
        for change in changes:
            body = {"email_address": change.new.email}
            said = self._one("PATCH", change.old.key, kind="rekey", body=body).said
            is_there = isinstance(said, dict) and _key(str(said.get("email_address", ""))) == change.new.key
            if is_there or self._one("GET", change.new.key, kind="read").status == 200:
                answer.accepted.add(change.new.key)
            else:
                answer.rejected.append(Rejection(change.new.key, "NOT_THERE", "neither address is in the audience"))
        return answer

    def members(self) -> Iterator[Member]:
        prefix = PLATFORM.tag_prefix
        # Contacts show 50 tags at most; those with more are few, and asked for one by one.
        for said in self._pages(
            "/members",
            "members",
            "/lists/{list}/members",
            fields="members.id,members.status,members.merge_fields,members.tags,members.tags_count",
        ):
            tags = said["tags"]
            if said.get("tags_count", 0) > len(tags):
                path = f"/members/{said['id']}/tags"
                tags = list(self._pages(path, "tags", "/lists/{list}/members/{hash}/tags"))
            yield Member(
                key=said["id"],
                state=_STATES.get(said["status"], "unsubscribed"),
                tags=frozenset(tag["name"] for tag in tags if tag["name"].startswith(prefix)),
                fields={name: _text(value) for name, value in said["merge_fields"].items() if value not in ("", None)},
            )

    # Below: calls.

    def _change_segment(self, answer: Answer, segment: int, add: Sequence[Contact], remove: Sequence[Contact]) -> None:
        said = self.api.call(
            "POST",
            f"{self._list}/segments/{segment}",
            route="/lists/{list}/segments/{segment}",
            kind="tags",
            body={
                "members_to_add": [contact.email for contact in add],
                "members_to_remove": [contact.email for contact in remove],
            },
            rows=len(add) + len(remove),
        ).said
        answer.accepted |= {_key(member["email_address"]) for member in said["members_added"]}
        answer.accepted |= {_key(member["email_address"]) for member in said["members_removed"]}
        refused = {_key(email): error["error"] for error in said["errors"] for email in error["email_addresses"]}
        unclear = {contact.key for contact in (*add, *remove)} - answer.accepted
        if not unclear:
            return
        # Not mentioned as changed: had it already (a repeated call), or is not known there. The segment itself tells.
        inside = self._inside(segment, unclear)
        for contact in add:
            if contact.key in inside:
                answer.accepted.add(contact.key)
            elif contact.key in unclear:
                words = refused.get(contact.key, "not mentioned in the answer: archived or deleted there")
                answer.rejected.append(Rejection(contact.key, "NOT_ADDED", redact(words, contact)))
        for contact in remove:
            if contact.key in unclear and contact.key not in inside:
                answer.accepted.add(contact.key)
            elif contact.key in unclear:
                words = refused.get(contact.key, "not mentioned in the answer, and still tagged")
                answer.rejected.append(Rejection(contact.key, "NOT_REMOVED", redact(words, contact)))

    def _inside(self, segment: int, keys: Collection[str]) -> set[str]:
        """Those of `keys` who are in a static segment."""
        found = set()
        for member in self._pages(
            f"/segments/{segment}/members",
            "members",
            "/lists/{list}/segments/{segment}/members",
            include_cleaned="true",
            include_transactional="true",
            include_unsubscribed="true",
            fields="members.id",
        ):
            if member["id"] in keys:
                found.add(member["id"])
                if len(found) == len(keys):
                    break
        return found

    def _one(
        self,
        method: str,
        key: str,
        rest: str = "",
        *,
        kind: str,
        body: Any = None,
        accepts: Sequence[int] = (404,),
    ) -> Reply:
        """A call about one contact; one that is not there is no error."""
        return self.api.call(
            method,
            f"{self._list}/members/{key}{rest}",
            route=f"/lists/{{list}}/members/{{hash}}{rest}",
            kind=kind,
            body=body,
            rows=1,
            accepts=accepts,
        )

    def _each(self, contacts: Sequence[Contact], call: Callable[[str], Reply]) -> Answer:
        answer = Answer()
        for contact in contacts:
            call(contact.key)
            answer.accepted.add(contact.key)
        return answer

    def _set_up(self, path: str, route: str, body: Mapping[str, Any]) -> Any:
        return self.api.patiently(
            lambda: self.api.call("POST", self._list + path, route=route, kind="read", body=body)
        ).said

    def _read_segments(self) -> dict[str, int]:
        """Ids of the static segments by name."""
        wanted = {"type": "static", "fields": "segments.id,segments.name"}
        found = self._pages("/segments", "segments", "/lists/{list}/segments", **wanted)
        return {segment["name"]: segment["id"] for segment in found}

    def _pages(self, path: str, part: str, route: str, **query: str) -> Iterator[Any]:
        most = PAGE.batch
        offset = 0
        while True:
            params: dict[str, str | int] = {**query, "count": most, "offset": offset}
            found = self.api.get(self._list + path, route=route, params=params)[part]
            yield from found
            # Fewer is the last page; more is an answer that takes no heed of pages, which would come again for ever.
            if len(found) != most:
                return
            offset += most

    def _value(self, name: str, value: str | None) -> Any:
        # An empty string is what clears a merge field.
        return "" if value is None else json_value(self._types.get(name, "text"), value)


CONNECTOR = Mailchimp


def _key(email: str) -> str:
    return key_of("email", email, "")


def _text(value: Any) -> str:
    """A merge field's value as a release has it: a number without a needless fraction."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _is_throttled(response: httpx.Response) -> bool:
    # At very high volume Mailchimp's edge answers 403 without JSON: that is its rate limit, not our rights.
    return response.status_code == 403 and "json" not in response.headers.get("content-type", "")


def _problem(response: httpx.Response) -> Problem:
    try:
        said = orjson.loads(response.content)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        return Problem(response.reason_phrase or "no reason given", f"HTTP {response.status_code}")
    parts = [str(said.get("detail") or said.get("title") or f"HTTP {response.status_code}")]
    parts += [f"{error.get('field')}: {error.get('message')}" for error in said.get("errors") or []]
    return Problem(str(said.get("title") or response.reason_phrase), redact("; ".join(parts)))
