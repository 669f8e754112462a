"""Klaviyo (API revision 2026-07-15): profiles of one account, our custom properties, and segments as boolean properties.

Profiles are imported by jobs of up to 10,000, whose refused rows are read from the job's import errors. An import changes
nobody's consent: a profile without a suppression may be mailed, one that is suppressed stays so. Subscribing is never
called, as it lifts the suppressions of those who left by themselves.

Not in the documents and kept away from: clearing one of Klaviyo's own fields by an import (it is done profile by
profile), setting `external_id` (other systems of the shop may have set it).
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

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
    redact,
)
from activation.http import Api, Problem, RefusedError, Reply, RetryPolicy, TryAgainError
from activation.platform import Action, FieldRule, FieldType, Limit, Platform
from core.errors import DestinationError
from core.home import Home
from core.settings import is_set, read_environment

REVISION = "2026-07-15"


def _medium(batch: int, body_bytes: int | None = None) -> Limit:
    """The steady limit of Klaviyo's middle tier of calls, with its burst."""
    return Limit(batch=batch, calls=150, seconds=60.0, burst=10, body_bytes=body_bytes)


def _large(batch: int) -> Limit:
    """The same of the large tier: 700 in the guide, 750 in the specification."""
    return Limit(batch=batch, calls=700, seconds=60.0, burst=75)


IMPORT = _medium(10_000, body_bytes=5_000_000)
DELETION = Limit(batch=1, calls=60, seconds=60.0, burst=3)

PLATFORM = Platform(
    name="klaviyo",
    title="Klaviyo",
    key="email",
    membership="attributes",
    membership_form="boolean properties mw_<segment>",
    tag_prefix="mw_",
    limits={
        "contacts": IMPORT,
        "profile": _large(1),
        "unsubscribe": _large(100),
        "erase": DELETION,
        "archive": DELETION,
        "rekey": _large(1),
        "merge": _medium(1),
        "read": _large(100),
        "job": _medium(1),
        "errors": _medium(100),
    },
    fields=FieldRule(
        pattern=r"[A-Za-z][A-Za-z0-9_.]{0,127}",
        prefix="mw_",
        standard=(
            "first_name",
            "last_name",
            "organization",
            "locale",
            "title",
            "location.address1",
            "location.address2",
            "location.city",
            "location.country",
            "location.region",
            "location.zip",
            "location.timezone",
        ),
    ),
    consent_form="an import leaves consent as it is, a refusal is an unsubscription from all email marketing",
    documents="https://developers.klaviyo.com/en/reference/api_overview",
    # The new address of a profile is taken: asking again will not change that.
    statuses={409: Action.SPLIT},
)

MEDIA_TYPE = "application/vnd.api+json"
JOBS = "/profile-bulk-import-jobs"
_ROW = re.compile(r"/profiles/data/(\d+)(?:/|$)")
_BOUNCES = ("HARD_BOUNCE", "INVALID_EMAIL")
# Seconds before each look at a job: the first, how they grow, the longest, and after how many it is given up.
_FIRST_LOOK, _GROWTH, _LONGEST, PATIENCE = 0.1, 1.6, 20.0, 1_800.0

# Seconds for which a reading of the whole account says who is not there.
REMEMBERED = 600.0


class KlaviyoSettings(BaseSettings):
    """The real account, from the environment."""

    model_config = SettingsConfigDict(
        env_prefix="MAILWRIGHT_KLAVIYO_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    api_key: SecretStr = Setting(
        description="Private API key with the scopes profiles, lists and subscriptions (read, write) and data-privacy (write)"
    )
    account: str = Setting(description="Public API key of the account (six characters): the ledger is kept by it")

    @field_validator("account")
    @classmethod
    def _public_key(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9]{6}", value):
            raise ValueError("must be the account's public API key, six letters and digits")
        return value


@dataclass(frozen=True)
class KlaviyoCredentials(Credentials):
    """A private API key."""

    api_key: SecretStr = field(repr=False, kw_only=True)


@dataclass(frozen=True)
class _Profile:
    """A profile as far as it is needed to change or delete it."""

    id: str
    email: str | None = field(repr=False)
    state: State


class Klaviyo(Connector):
    """Profiles of one account."""

    platform = PLATFORM

    def __init__(self, credentials: KlaviyoCredentials, api: Api) -> None:
        super().__init__(credentials, api)
        self._types: dict[str, FieldType] = {}
        self._ids: dict[bytes, str] = {}
        self._read_at = float("-inf")
        self._lock = threading.Lock()

    @classmethod
    def credentials(cls, home: Home) -> KlaviyoCredentials | None:
        if not is_set(KlaviyoSettings):
            return None
        said = read_environment(KlaviyoSettings)
        return KlaviyoCredentials(
            base_url="https://a.klaviyo.com/api",
            account=said.account,
            description=f"Klaviyo account {said.account}",
            api_key=said.api_key,
        )

    @classmethod
    def sandbox_credentials(cls, account: SandboxAccount) -> KlaviyoCredentials:
        return KlaviyoCredentials(
            base_url=lambda: account.base_url() + "/api",
            account=account.account,
            description="Klaviyo sandbox",
            api_key=SecretStr(account.secrets["api_key"]),
        )

    @classmethod
    def connect(cls, credentials: KlaviyoCredentials, retry: RetryPolicy | None = None) -> Klaviyo:
        api = Api(
            PLATFORM,
            credentials.base_url,
            description=credentials.description,
            headers={
                "Authorization": f"Klaviyo-API-Key {credentials.api_key.get_secret_value()}",
                "revision": REVISION,
                "Accept": MEDIA_TYPE,
            },
            read_problem=_problem,
            advice={
                401: "check MAILWRIGHT_KLAVIYO_API_KEY, it may have been revoked",
                403: "the key lacks a scope: profiles, lists and subscriptions (read, write), data-privacy (write)",
                404: "the key is of another account, or its API revision is no longer served: update mailwright",
            },
            retry=retry,
        )
        return cls(credentials, api)

    def prepare(self, fields: Sequence[Field], tags: Collection[str]) -> None:
        # Properties come to be when they are first written.
        self._types = {mapped.name: mapped.type for mapped in fields}

    def write(self, contacts: Sequence[Contact]) -> Answer:
        ids = self._ids_of([contact.key for contact in contacts if contact.email is None])
        absent = self._absent([contact for contact in contacts if contact.is_doubtful and _is_losing(contact)])
        answer = Answer()
        rows: list[tuple[Contact, bytes]] = []
        for contact in contacts:
            if contact.key in absent or (contact.email is None and contact.key not in ids):
                # Not there: nothing of ours is to be taken off, and an import would make a profile.
                answer.accepted.add(contact.key)
            else:
                rows.append((contact, orjson.dumps(self._profile(contact, ids.get(contact.key)))))
        jobs: list[tuple[str, list[Contact]]] = []
        try:
            for part in _by_size(rows, PLATFORM.limit("contacts")):
                jobs.append((self._start(part), [contact for contact, _ in part]))
        except DestinationError:
            # What was started already goes on there: its rows are answered for, the others are sent again.
            if not jobs:
                raise
        problem: DestinationError | None = None
        for job, sent in jobs:
            try:
                self._finish(job, sent, answer)
            except DestinationError as error:
                problem = error
        if problem is not None and not answer.accepted and not answer.rejected:
            raise problem
        self._clear([contact for contact, _ in rows if contact.key in answer.accepted], answer)
        return answer

    def unsubscribe(self, contacts: Sequence[Contact]) -> Answer:
        found = self._profiles_by_id(self._ids_of([contact.key for contact in contacts if contact.email is None]))
        emails = [contact.email or getattr(found.get(contact.key), "email", None) for contact in contacts]
        profiles = [
            {
                "type": "profile",
                "attributes": {"email": email, "subscriptions": {"email": {"marketing": {"consent": "UNSUBSCRIBED"}}}},
            }
            for email in emails
            if email is not None
        ]
        if profiles:
            # Without a list: from all email marketing.
            body = _document("profile-subscription-bulk-delete-job", attributes={"profiles": {"data": profiles}})
            self._post("/profile-subscription-bulk-delete-jobs", body, kind="unsubscribe", rows=len(profiles))
        return Answer({contact.key for contact in contacts})

    def erase(self, contacts: Sequence[Contact]) -> Answer:
        ids = self._ids_of([contact.key for contact in contacts if contact.email is None])
        answer = Answer()
        for contact in contacts:
            if contact.email is not None:
                profile: dict[str, Any] = {"type": "profile", "attributes": {"email": contact.email}}
            elif contact.key in ids:
                profile = {"type": "profile", "id": ids[contact.key], "attributes": {}}
            else:
                answer.accepted.add(contact.key)
                continue
            body = _document("data-privacy-deletion-job", attributes={"profile": {"data": profile}})
            self._post("/data-privacy-deletion-jobs", body, kind="erase", rows=1, accepts=(404,))
            answer.accepted.add(contact.key)
        return answer

    def archive(self, contacts: Sequence[Contact]) -> Answer:
        return self.erase(contacts)

    def rekey(self, changes: Sequence[Rekey]) -> Answer:
        """Give profiles another address; where a profile has it already, merge the old one into that.

        Suppressions belong to an address: a profile that may not be mailed keeps its own, as another would be mailed.
        """
        answer = Answer()
        for change in changes:
            if (words := self._move(change)) is not None:
                answer.rejected.append(Rejection(change.new.key, words, _WORDS[words]))
            else:
                answer.accepted.add(change.new.key)
        changed = [
            change.new
            for change in changes
            if change.new.key in answer.accepted and (change.new.fields or change.new.add or change.new.remove)
        ]
        if changed:
            answer.accepted -= {contact.key for contact in changed}
            written = self.write(changed)
            answer.accepted |= written.accepted
            answer.rejected += written.rejected
        return answer

    def members(self) -> Iterator[Member]:
        for item in self._pages({"additional-fields[profile]": "subscriptions", "sort": "id"}):
            if (member := self._member(item)) is not None:
                yield member

    # Below: imports.

    def _profile(self, contact: Contact, id: str | None) -> dict[str, Any]:
        attributes: dict[str, Any] = {"email": contact.email} if contact.email is not None else {}
        properties: dict[str, Any] = dict.fromkeys(contact.add, True)
        unset = list(contact.remove)
        for name, value in contact.fields.items():
            said = json_value(self._types.get(name, "text"), value)
            if name not in PLATFORM.fields.standard:
                if said is None:
                    unset.append(name)
                else:
                    properties[name] = said
            elif said is not None:
                _put(attributes, name, said)
        if properties:
            attributes["properties"] = properties
        profile: dict[str, Any] = {"type": "profile", "attributes": attributes}
        if id is not None:
            profile["id"] = id
        if unset:
            profile["meta"] = {"patch_properties": {"unset": unset}}
        return profile

    def _start(self, part: Sequence[tuple[Contact, bytes]]) -> str:
        """Start an import. Returns the job's id."""
        content = _OPENING + b",".join(row for _, row in part) + _CLOSING
        reply = self._post(JOBS, content, kind="contacts", rows=len(part))
        return str(reply.said["data"]["id"])

    def _finish(self, job: str, sent: Sequence[Contact], answer: Answer) -> None:
        """Wait for an import's end and read what became of each row."""
        path, route = f"{JOBS}/{job}", f"{JOBS}/{{job}}"
        pause, waited = _FIRST_LOOK, 0.0
        while True:
            time.sleep(pause)
            said = self.api.get(path, route=route, kind="job")["data"]["attributes"]
            if said["status"] == "complete":
                break
            if said["status"] == "cancelled":
                raise TryAgainError("the import was cancelled there")
            if waited >= PATIENCE:
                raise TryAgainError("the import has not ended")
            waited += pause
            pause = min(pause * _GROWTH, _LONGEST)
        failed = int(said.get("failed_count") or 0)
        if int(said.get("completed_count") or 0) + failed < len(sent):
            raise TryAgainError("the import has ended without a result for every row")
        refused: dict[str, Rejection] = {}
        if failed:
            by_key = {contact.key: contact for contact in sent}
            for error in self._errors(job):
                contact = _contact_of(error, sent, by_key)
                if contact is not None:
                    words = redact(f"{error.get('title')}: {error.get('detail')}", contact)
                    refused.setdefault(contact.key, Rejection(contact.key, str(error.get("code") or "invalid"), words))
            if len(refused) < failed and len(sent) > 1:
                raise RefusedError("IMPORT_ERRORS", "the import's errors do not say which rows they are about")
            if not refused:
                refused[sent[0].key] = Rejection(sent[0].key, "IMPORT_ERRORS", "failed without a word")
        answer.rejected += refused.values()
        answer.accepted |= {contact.key for contact in sent} - refused.keys()

    def _errors(self, job: str) -> Iterator[Mapping[str, Any]]:
        path, route = f"{JOBS}/{job}/import-errors", f"{JOBS}/{{job}}/import-errors"
        for item in self._pages({}, path=path, route=route, kind="errors"):
            yield item.get("attributes") or {}

    def _clear(self, contacts: Sequence[Contact], answer: Answer) -> None:
        """Clear Klaviyo's own fields, which an import can't, profile by profile."""
        waiting = [(contact, empty) for contact in contacts if (empty := _emptied(contact))]
        answer.accepted -= {contact.key for contact, _ in waiting}
        for contact, empty in waiting:
            if contact.email is None:
                answer.accepted.add(contact.key)
                continue
            attributes: dict[str, Any] = {"email": contact.email}
            for name in empty:
                _put(attributes, name, None)
            try:
                self._post("/profile-import", _document("profile", attributes=attributes), kind="profile", rows=1)
                answer.accepted.add(contact.key)
            except RefusedError as error:
                answer.rejected.append(Rejection(contact.key, error.code, redact(error.words, contact)))
            except TryAgainError:
                # The rest is in neither part of the answer, and so sent again.
                return

    # Below: finding people whose address is not known any more, or who are to get another.

    def _ids_of(self, keys: Collection[str]) -> dict[str, str]:
        """Profile ids by key. Klaviyo knows no hash of an address: the whole account is read, and remembered for a while.

        Somebody who is missing from a reading of long ago may have come since, and must not be taken for erased.
        """
        wanted = {key: bytes.fromhex(key) for key in keys}
        with self._lock:
            is_old = time.monotonic() - self._read_at > REMEMBERED
            if is_old and not self._ids.keys() >= set(wanted.values()):
                self._ids = {
                    _digest(item["attributes"]["email"]): str(item["id"])
                    for item in self._pages({"fields[profile]": "email", "sort": "id"})
                    if (item.get("attributes") or {}).get("email")
                }
                self._read_at = time.monotonic()
            return {key: self._ids[digest] for key, digest in wanted.items() if digest in self._ids}

    def _absent(self, contacts: Sequence[Contact]) -> set[str]:
        """Keys of those whose address no profile has."""
        emails = {contact.key: contact.email for contact in contacts if contact.email is not None}
        there = {_key(profile.email) for profile in self._look("email", list(emails.values())) if profile.email}
        return emails.keys() - there

    def _profiles_by_id(self, ids: Mapping[str, str]) -> dict[str, _Profile]:
        found = {profile.id: profile for profile in self._look("id", list(ids.values()))}
        return {key: found[id] for key, id in ids.items() if id in found}

    def _look(self, by: str, values: Sequence[str]) -> list[_Profile]:
        found: list[_Profile] = []
        for start in range(0, len(values), PLATFORM.limit("read").batch):
            some = orjson.dumps(values[start : start + PLATFORM.limit("read").batch]).decode()
            asked = {"filter": f"any({by},{some})", "additional-fields[profile]": "subscriptions"}
            found += [
                _Profile(str(item["id"]), item["attributes"].get("email"), _state(item["attributes"]))
                for item in self._pages(asked)
            ]
        return found

    def _move(self, change: Rekey) -> str | None:
        """Give one profile its new address. Returns why not, or None."""
        if change.new.email is None:
            return "NO_ADDRESS"
        there = {_key(profile.email): profile for profile in self._look("email", _known(change)) if profile.email}
        if change.old.email is None:
            there.update(self._profiles_by_id(self._ids_of([change.old.key])))
        old, new = there.get(change.old.key), there.get(change.new.key)
        if any(profile is not None and profile.state != "subscribed" for profile in (old, new)):
            return "LEFT_THERE"
        if old is None:
            # The first call was heard, or nobody is there whose address could be changed.
            return None if new is not None else "NOT_THERE"
        if new is None:
            body = _document("profile", attributes={"email": change.new.email}, id=old.id)
            try:
                self.api.call(
                    "PATCH",
                    f"/profiles/{old.id}",
                    route="/profiles/{id}",
                    kind="rekey",
                    content=orjson.dumps(body),
                    content_type=MEDIA_TYPE,
                    rows=1,
                )
            except RefusedError as error:
                if error.code != "duplicate_profile":
                    raise
                raise TryAgainError("another profile got the new address meanwhile") from None
            return None
        related = {"profiles": {"data": [{"type": "profile", "id": old.id}]}}
        self._post("/profile-merge", _document("profile-merge", id=new.id, relationships=related), kind="merge", rows=1)
        return None

    # Below: HTTP.

    def _post(
        self, path: str, body: bytes | Mapping[str, Any], *, kind: str, rows: int, accepts: Sequence[int] = ()
    ) -> Reply:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        return self.api.call(
            "POST", path, route=path, kind=kind, content=content, content_type=MEDIA_TYPE, rows=rows, accepts=accepts
        )

    def _pages(
        self, asked: Mapping[str, str], *, path: str = "/profiles", route: str = "/profiles", kind: str = "read"
    ) -> Iterator[Mapping[str, Any]]:
        """Items of all pages. Only the cursor is taken from a link: our key goes to no other address."""
        params: dict[str, str | int] = {**asked, "page[size]": 100}
        while True:
            said = self.api.get(path, route=route, kind=kind, params=params)
            yield from said["data"]
            following = (said.get("links") or {}).get("next")
            cursor = parse_qs(urlsplit(following).query).get("page[cursor]") if following else None
            if not cursor:
                return
            params["page[cursor]"] = cursor[0]

    def _member(self, item: Mapping[str, Any]) -> Member | None:
        attributes = item.get("attributes") or {}
        if not attributes.get("email"):
            return None
        properties = attributes.get("properties") or {}
        ours = {name: value for name, value in properties.items() if name.startswith(PLATFORM.fields.prefix)}
        tags = frozenset(name for name, value in ours.items() if value is True and name not in self._types)
        standard = {name: _get(attributes, name) for name in PLATFORM.fields.standard}
        fields = {**standard, **{name: value for name, value in ours.items() if name not in tags}}
        return Member(
            key=_key(attributes["email"]),
            state=_state(attributes),
            tags=tags,
            fields={name: _text(value) for name, value in fields.items() if value is not None},
        )


_WORDS = {
    "NO_ADDRESS": "the new address is not known",
    "LEFT_THERE": "unsubscribed, suppressed or bounced there: another address would be mailed",
    "NOT_THERE": "nobody there has the old address or the new one",
}
_OPENING = b'{"data":{"type":"profile-bulk-import-job","attributes":{"profiles":{"data":['
_CLOSING = b"]}}}}"


def _by_size(rows: Sequence[tuple[Contact, bytes]], limit: Limit) -> Iterator[list[tuple[Contact, bytes]]]:
    """Parts that a call may hold, by number and by size."""
    most = (limit.body_bytes or 0) - len(_OPENING) - len(_CLOSING)
    part: list[tuple[Contact, bytes]] = []
    size = 0
    for row in rows:
        if part and (len(part) >= limit.batch or size + len(row[1]) + 1 > most):
            yield part
            part, size = [], 0
        part.append(row)
        size += len(row[1]) + 1
    if part:
        yield part


def _contact_of(error: Mapping[str, Any], sent: Sequence[Contact], by_key: Mapping[str, Contact]) -> Contact | None:
    """Whose error it is: by the payload that it repeats, else by its place in the request."""
    payload = error.get("original_payload")
    if isinstance(payload, dict):
        inner = payload.get("attributes")
        email = (inner if isinstance(inner, dict) else payload).get("email")
        if isinstance(email, str) and _key(email) in by_key:
            return by_key[_key(email)]
    found = _ROW.search(str((error.get("source") or {}).get("pointer") or ""))
    return sent[int(found[1])] if found and int(found[1]) < len(sent) else None


def _is_losing(contact: Contact) -> bool:
    return not (contact.is_new or contact.fields or contact.add)


def _emptied(contact: Contact) -> list[str]:
    return (
        []
        if contact.is_new and not contact.is_doubtful
        else [name for name, value in contact.fields.items() if value is None and name in PLATFORM.fields.standard]
    )


def _known(change: Rekey) -> list[str]:
    return [email for email in (change.old.email, change.new.email) if email is not None]


def _put(attributes: dict[str, Any], name: str, value: Any) -> None:
    """Set one of Klaviyo's own fields; a dot stands for an object in it."""
    outer, _, inner = name.partition(".")
    if inner:
        attributes.setdefault(outer, {})[inner] = value
    else:
        attributes[outer] = value


def _get(attributes: Mapping[str, Any], name: str) -> Any:
    outer, _, inner = name.partition(".")
    return (attributes.get(outer) or {}).get(inner) if inner else attributes.get(outer)


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _state(attributes: Mapping[str, Any]) -> State:
    """Whether a profile may be mailed. Consent never given is no refusal: we hold it ourselves."""
    marketing = ((attributes.get("subscriptions") or {}).get("email") or {}).get("marketing") or {}
    reasons = {str(suppression.get("reason")) for suppression in marketing.get("suppression") or ()}
    if reasons & {*_BOUNCES}:
        return "bounced"
    if reasons or marketing.get("consent") == "UNSUBSCRIBED" or marketing.get("can_receive_email_marketing") is False:
        return "unsubscribed"
    return "subscribed"


def _document(type: str, **parts: Any) -> dict[str, Any]:
    return {"data": {"type": type, **parts}}


def _digest(email: str) -> bytes:
    return hashlib.md5(email.lower().encode(), usedforsecurity=False).digest()


def _key(email: str) -> str:
    return _digest(email).hex()


def _problem(response: httpx.Response) -> Problem:
    """Code and words of the first error of a JSON:API document."""
    try:
        said = orjson.loads(response.content)
        error = said["errors"][0]
        return Problem(str(error["code"]), f"{error.get('title')}: {error.get('detail')}")
    except (ValueError, KeyError, IndexError, TypeError):
        return Problem(response.reason_phrase or "no reason given", f"HTTP {response.status_code}")


CONNECTOR = Klaviyo
