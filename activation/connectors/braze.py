"""Braze REST API: users of one workspace, our custom attributes, and segments as values of one array attribute.

Subscription state is never given to anybody but to have them mailed no more: a new user is `subscribed` by default, and
writing it could bring back an address that unsubscribed. Segments stand in the array `mw_segments`; filters of the
workspace's own segments ask for its values.

Not in the documents and kept away from: both `add` and `remove` in one attribute (each has an object of its own), and
arrays of addresses in `/email/status` (states are written by external id).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
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
    redact,
)
from activation.http import Api, Problem, RefusedError, RetryPolicy
from activation.platform import FieldRule, FieldType, Limit, Platform
from core.home import Home
from core.settings import is_set, read_environment

# Accounts under a contract of 2024 or later may be held to 50 updates a call: a refused batch is halved by the engine.
TRACK = Limit(batch=75, calls=3_000, seconds=3.0)
# Deleting and merging share these.
USERS = Limit(batch=50, calls=20_000, seconds=60.0)
# Where nothing else is said: 250,000 calls an hour.
DEFAULT = Limit(batch=500, calls=250_000, seconds=3_600.0)

PLATFORM = Platform(
    name="braze",
    title="Braze",
    key="customer_id",
    membership="attributes",
    membership_form="values of the array attribute mw_segments",
    tag_prefix="mw_",
    # An array attribute holds 25 values unless the workspace was given more.
    most_tags=25,
    limits={
        "contacts": TRACK,
        "unsubscribe": TRACK,
        "erase": USERS,
        "archive": USERS,
        "rekey": Limit(batch=50, calls=1_000, seconds=60.0),
        "read": Limit(batch=50, calls=250, seconds=60.0),
        "left": DEFAULT,
    },
    fields=FieldRule(
        pattern=r"[A-Za-z][A-Za-z0-9_]{0,254}",
        prefix="mw_",
        standard=("email", "first_name", "last_name", "country", "language", "home_city", "gender", "dob", "time_zone"),
        longest=255,
    ),
    consent_form="a new user is subscribed by default, a refusal is email_subscribe: unsubscribed; nothing else is written",
    documents="https://www.braze.com/docs/api/home",
    points_per_change=1,
    # Users are looked up by external id; who unsubscribed or bounced is listed by address. Everybody at once can only be
    # exported segment by segment into the account's own storage.
    lists_members=False,
)

MEMBERSHIPS = "mw_segments"
PAGE = 500
# The first day that is asked for; no range is published, and lists are read whole.
FIRST_DAY = "2011-01-01"
_EXPORTED = ("external_id", *PLATFORM.fields.standard, "custom_attributes")


class BrazeSettings(BaseSettings):
    """The real workspace, from the environment."""

    model_config = SettingsConfigDict(
        env_prefix="MAILWRIGHT_BRAZE_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    api_key: SecretStr = Setting(
        description="REST API key with users.track, users.delete, users.merge, users.export.ids,"
        " users.external_ids.rename, users.external_ids.remove, email.unsubscribe and email.hard_bounces"
    )
    host: str = Setting(description="REST endpoint of the instance, for example rest.fra-01.braze.eu")
    workspace: str = Setting(
        description="Short name of the workspace that the key belongs to: the ledger is kept by it"
    )

    @field_validator("host")
    @classmethod
    def _of_braze(cls, value: str) -> str:
        if not re.fullmatch(r"rest\.[a-z]{2,5}-\d{2}\.braze\.(com|eu)", value):
            raise ValueError("must be a REST endpoint such as rest.iad-01.braze.com or rest.fra-01.braze.eu")
        return value

    @field_validator("workspace")
    @classmethod
    def _short(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", value):
            raise ValueError("must be up to 40 small letters, digits, - and _")
        return value


@dataclass(frozen=True)
class BrazeCredentials(Credentials):
    """A REST API key of one workspace."""

    api_key: SecretStr = field(repr=False, kw_only=True)


class Braze(Connector):
    """Users of one workspace."""

    platform = PLATFORM

    def __init__(self, credentials: BrazeCredentials, api: Api) -> None:
        super().__init__(credentials, api)
        self._types: dict[str, FieldType] = {}

    @classmethod
    def credentials(cls, home: Home) -> BrazeCredentials | None:
        if not is_set(BrazeSettings):
            return None
        said = read_environment(BrazeSettings)
        return BrazeCredentials(
            base_url=f"https://{said.host}",
            account=f"{said.host.split('.')[1]}/{said.workspace}",
            description=f"Braze workspace {said.workspace} at {said.host}",
            api_key=said.api_key,
        )

    @classmethod
    def sandbox_credentials(cls, account: SandboxAccount) -> BrazeCredentials:
        return BrazeCredentials(
            base_url=account.base_url,
            account=account.account,
            description="Braze sandbox",
            api_key=SecretStr(account.secrets["api_key"]),
        )

    @classmethod
    def connect(cls, credentials: BrazeCredentials, retry: RetryPolicy | None = None) -> Braze:
        api = Api(
            PLATFORM,
            credentials.base_url,
            description=credentials.description,
            headers={"Authorization": f"Bearer {credentials.api_key.get_secret_value()}"},
            read_problem=_problem,
            advice={
                401: "check MAILWRIGHT_BRAZE_API_KEY, it may have been revoked, and MAILWRIGHT_BRAZE_HOST",
                403: "the key lacks a permission, or this address is not on its list of allowed ones",
                404: "check MAILWRIGHT_BRAZE_HOST: the key is unknown there",
            },
            retry=retry,
        )
        return cls(credentials, api)

    def prepare(self, fields: Sequence[Field], tags: Collection[str]) -> None:
        # Attributes come to be when they are first written.
        self._types = {mapped.name: mapped.type for mapped in fields}

    def write(self, contacts: Sequence[Contact]) -> Answer:
        return self._track(contacts, self._objects)

    def unsubscribe(self, contacts: Sequence[Contact]) -> Answer:
        return self._track(contacts, lambda contact: [{**_update_of(contact), "email_subscribe": "unsubscribed"}])

    def erase(self, contacts: Sequence[Contact]) -> Answer:
        keys = [contact.key for contact in contacts]
        body = {"external_ids": keys}
        self.api.call("POST", "/users/delete", route="/users/delete", kind="erase", body=body, rows=len(keys))
        # Ids that nobody has are passed over, and `deleted` counts the others only.
        return Answer(set(keys))

    def archive(self, contacts: Sequence[Contact]) -> Answer:
        return self.erase(contacts)

    def rekey(self, changes: Sequence[Rekey]) -> Answer:
        """Rename external ids; where both are in use, merge the old user into the new one.

        A renamed user still answers to the old id until that is removed: left as it is, whoever gets the old id back would
        be the same user, and deleting the one would delete the other.
        """
        renames = [{"current_external_id": change.old.key, "new_external_id": change.new.key} for change in changes]
        path = "/users/external_ids/rename"
        body = {"external_id_renames": renames}
        said = self.api.call("POST", path, route=path, kind="rekey", body=body, rows=len(renames)).said
        words = {index: _words(error) for index, error in _indexed(said.get("rename_errors"), len(changes))}
        renamed = {
            str(entry.get("new_external_id") if isinstance(entry, dict) else entry)
            for entry in said.get("external_ids") or ()
        }
        # A repeated call is refused, as the first has renamed already: the users themselves tell what is left to do.
        unclear = [change for index, change in enumerate(changes) if index in words or change.new.key not in renamed]
        reasons = {change.new.key: words.get(index, "not mentioned") for index, change in enumerate(changes)}
        done = [change for change in changes if change not in unclear]
        answer = Answer()
        if unclear:
            done += self._settle(unclear, reasons, answer)
        if done:
            self._forget_old([change.old.key for change in done])
        moved = [change.new for change in done]
        changed = [contact for contact in moved if contact.fields or contact.add or contact.remove]
        answer.accepted |= {contact.key for contact in moved} - {contact.key for contact in changed}
        if changed:
            written = self.write(changed)
            answer.accepted |= written.accepted
            answer.rejected += written.rejected
        return answer

    def members(self) -> Iterator[Member]:
        """Nobody: users are looked up by key, see `members_among`."""
        return iter(())

    def members_among(self, keys: Collection[str]) -> Iterator[Member]:
        left = self._left()
        ordered, most = sorted(keys), PLATFORM.limit("read").batch
        for start in range(0, len(ordered), most):
            for user in self._export(ordered[start : start + most]).get("users") or ():
                if user.get("external_id"):
                    yield _member(user, left)

    # Below: one kind of call each.

    def _track(self, contacts: Sequence[Contact], objects_of: Callable[[Contact], list[dict[str, Any]]]) -> Answer:
        """Write attribute objects, as many a call as may go. A contact is accepted when all of its objects are."""
        answer = Answer()
        objects = [(contact, part) for contact in contacts for part in objects_of(contact)]
        refused: dict[str, str] = {}
        most = PLATFORM.limit("contacts").batch
        for start in range(0, len(objects), most):
            chunk = objects[start : start + most]
            for index, words in self._track_once([part for _, part in chunk]).items():
                refused.setdefault(chunk[index][0].key, words)
        for contact in contacts:
            if contact.key in refused:
                words = redact(refused[contact.key], contact)
                answer.rejected.append(Rejection(contact.key, _code(words), words))
            else:
                answer.accepted.add(contact.key)
        return answer

    def _track_once(self, objects: list[dict[str, Any]]) -> dict[int, str]:
        """One call of /users/track. Returns words of refusal by index."""
        reply = self.api.call(
            "POST",
            "/users/track",
            route="/users/track",
            body={"attributes": objects},
            rows=len({part["external_id"] for part in objects}),
        )
        errors = reply.said.get("errors") or ()
        refused = {index: _words(error) for index, error in _indexed(errors, len(objects))}
        processed = reply.said.get("attributes_processed")
        # Counts that do not add up mean that some row failed without a word: alone in a call it will be known.
        if (errors and not refused) or (isinstance(processed, int) and processed + len(refused) < len(objects)):
            if len(objects) == 1:
                return refused or {0: _words(errors[0]) if errors else "not processed"}
            raise RefusedError("ROWS_MISSING", "the answer does not say which rows were processed")
        return refused

    def _objects(self, contact: Contact) -> list[dict[str, Any]]:
        said: dict[str, Any] = {"external_id": contact.key} if contact.is_new else _update_of(contact)
        if contact.is_new and contact.email is not None:
            said["email"] = contact.email
        for name, value in contact.fields.items():
            said[name] = json_value(self._types.get(name, "text"), value)
        if contact.is_new and contact.add:
            # Whole, so that nothing of a user's earlier time stays in it.
            return [{**said, MEMBERSHIPS: list(contact.add)}]
        changes = [{word: list(tags)} for word, tags in (("add", contact.add), ("remove", contact.remove)) if tags]
        if not changes:
            return [said]
        return [
            {**said, MEMBERSHIPS: changes[0]},
            *({**_update_of(contact), MEMBERSHIPS: more} for more in changes[1:]),
        ]

    def _settle(self, changes: Sequence[Rekey], reasons: Mapping[str, str], answer: Answer) -> list[Rekey]:
        """See to renames that were refused. Returns those that are done."""
        # By the old id a renamed user is found under its new one.
        old = self._by_asked_key([change.old.key for change in changes])
        new = self._by_asked_key([change.new.key for change in changes])
        done, merges = [], []
        for change in changes:
            is_old, is_new = old.get(change.old.key) == change.old.key, new.get(change.new.key) == change.new.key
            if is_old and is_new:
                merges.append(change)
            elif is_new:
                done.append(change)
            else:
                words = redact(reasons[change.new.key], change.new) if is_old else "nobody has the old id any more"
                answer.rejected.append(Rejection(change.new.key, "NOT_RENAMED" if is_old else "NOT_THERE", words))
        if merges:
            body = {
                "merge_updates": [
                    {
                        "identifier_to_merge": {"external_id": change.old.key},
                        "identifier_to_keep": {"external_id": change.new.key},
                    }
                    for change in merges
                ]
            }
            self.api.call("POST", "/users/merge", route="/users/merge", kind="erase", body=body, rows=len(merges))
            # A merged user's id is gone with it: there is nothing to remove.
            answer.accepted |= {change.new.key for change in merges}
        return done

    def _by_asked_key(self, keys: Sequence[str]) -> dict[str, str]:
        """Primary external id by the id that was asked for; ids that nobody has are missing."""
        reply = self._export(keys)
        found = {key: key for key in (str(user.get("external_id")) for user in reply.get("users") or ()) if key in keys}
        unknown = {str(key) for key in reply.get("invalid_user_ids") or ()}
        # Renamed users are told under their new ids: asked for alone, it is known whose answer it is.
        for key in set(keys) - found.keys() - unknown:
            for user in self._export([key]).get("users") or ():
                found[key] = str(user.get("external_id"))
        return found

    def _forget_old(self, keys: list[str]) -> None:
        path = "/users/external_ids/remove"
        self.api.call("POST", path, route=path, kind="rekey", body={"external_ids": keys}, rows=len(keys))

    def _export(self, keys: Sequence[str]) -> Mapping[str, Any]:
        body = {"external_ids": list(keys), "fields_to_export": list(_EXPORTED)}
        path = "/users/export/ids"
        reply = self.api.patiently(
            lambda: self.api.call("POST", path, route=path, kind="read", body=body, rows=len(keys))
        )
        return reply.said or {}

    def _left(self) -> dict[bytes, State]:
        """Who unsubscribed or bounced: hash of the address to state."""
        left: dict[bytes, State] = {}
        # In this order, as an address that bounced can't be reached whatever it asked for.
        lists: tuple[tuple[str, State], ...] = (
            ("/email/unsubscribes", "unsubscribed"),
            ("/email/hard_bounces", "bounced"),
        )
        # The end is read as midnight at its beginning: tomorrow's holds today.
        end = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%d")
        for path, state in lists:
            offset = 0
            while True:
                asked: dict[str, str | int] = {
                    "start_date": FIRST_DAY,
                    "end_date": end,
                    "limit": PAGE,
                    "offset": offset,
                }
                emails = self.api.get(path, route=path, kind="left", params=asked).get("emails") or ()
                left.update({_digest(entry["email"]): state for entry in emails})
                if len(emails) < PAGE:
                    break
                offset += PAGE
        return left


def _update_of(contact: Contact) -> dict[str, Any]:
    # A user that somebody deleted there must not come back as half a profile.
    return {"external_id": contact.key, "_update_existing_only": True}


def _member(user: Mapping[str, Any], left: Mapping[bytes, State]) -> Member:
    custom = user.get("custom_attributes") or {}
    ours = {name: value for name, value in custom.items() if name.startswith(PLATFORM.fields.prefix)}
    tags = ours.pop(MEMBERSHIPS, None) or ()
    standard = {name: user[name] for name in PLATFORM.fields.standard if user.get(name) is not None}
    email = user.get("email")
    return Member(
        key=str(user["external_id"]),
        state=left.get(_digest(email), "subscribed") if email else "subscribed",
        tags=frozenset(str(tag) for tag in tags if str(tag).startswith(PLATFORM.tag_prefix)),
        fields={name: text(value) for name, value in {**standard, **ours}.items() if value is not None},
    )


def text(value: Any) -> str:
    """A JSON value as the text that hashes are made of."""
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _digest(email: str) -> bytes:
    return hashlib.md5(email.lower().encode(), usedforsecurity=False).digest()


def _indexed(errors: Any, count: int) -> Iterator[tuple[int, Any]]:
    """Errors that say which row they are about."""
    for error in errors or ():
        index = error.get("index") if isinstance(error, dict) else None
        if isinstance(index, int) and 0 <= index < count:
            yield index, error


def _words(error: Any) -> str:
    said = (error.get("type") or error.get("message") or error.get("error")) if isinstance(error, dict) else error
    return str(said or "no reason given")


def _code(words: str) -> str:
    """Braze gives either a code in capitals or a sentence."""
    return words if re.fullmatch(r"[A-Z_]{3,60}", words) else "INVALID"


def _problem(response: httpx.Response) -> Problem:
    """Words of a refusal; with a single row in the call, the row's own are the first error's."""
    try:
        said = orjson.loads(response.content)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        return Problem(response.reason_phrase or "no reason given", f"HTTP {response.status_code}")
    words = _words(next(iter(said.get("errors") or ()), said))
    return Problem(_code(words) if response.status_code == 400 else response.reason_phrase or "refused", words)


CONNECTOR = Braze
