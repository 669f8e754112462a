"""Mailchimp Marketing API 3.0: contacts of one audience, our merge fields, and segments as tags (static segments).

Subscription status is only ever given for contacts that are new (`status_if_new`), or set to unsubscribed: writing
`subscribed` would bring back people who left. `sync_tags` stays false, as true deletes the marketers' own tags.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from pydantic import SecretStr

from activation.destination import (
    Action,
    Answer,
    Contact,
    Field,
    FieldType,
    Observer,
    RefusedError,
    Rejection,
    TryAgainError,
    Workload,
    action_of,
)
from core.errors import DestinationError, SettingsError
from core.home import Home
from core.settings import Settings

BATCH = 500  # contacts a call, and emails added and removed a call
PAGE = 1000
CONNECTIONS = 4  # of the 10 that an account may use at once; others need some too
TAG_PREFIX = "mw: "
MERGE_TAG_LENGTH = 10

# Release column -> merge tag. Other columns get MW_ and the first letters of their name.
MERGE_TAGS = {
    "given_name": "FNAME",
    "surname": "LNAME",
    "country_code": "MW_COUNTRY",
    "rfm_segment": "MW_RFM",
    "value_tier": "MW_VALUE",
    "lifecycle_stage": "MW_STAGE",
    "engagement_state": "MW_ENGAGED",
    "cluster_name": "MW_CLUSTER",
    "churn_band": "MW_CHURN",
    "purchase_30_band": "MW_BUY30",
    "purchase_90_band": "MW_BUY90",
    "clv_band": "MW_CLV",
    "favourite_category": "MW_FAVCAT",
    "best_send_label": "MW_SENDAT",
    "account_type": "MW_ACCOUNT",
    "age_band": "MW_AGE",
    "language": "MW_LANG",
    "order_count": "MW_ORDERS",
}
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL")


def connect(settings: Settings, home: Home) -> Mailchimp:
    """The real account if its key is set, else the home's sandbox on loopback.

    Raises:
        SettingsError: the key is set, but the audience or the data centre is not known.
    """
    if settings.mailchimp_api_key is None:
        return _sandbox(settings, home)
    if settings.mailchimp_list_id is None:
        raise SettingsError(
            "MAILWRIGHT_MAILCHIMP_LIST_ID: is needed when MAILWRIGHT_MAILCHIMP_API_KEY is set; it is the audience id"
            " shown in Mailchimp under Audience, Settings"
        )
    _, _, suffix = settings.mailchimp_api_key.get_secret_value().rpartition("-")
    server = settings.mailchimp_server or suffix
    if not (server.isascii() and server.isalnum() and 3 <= len(server) <= 6):
        raise SettingsError(
            "MAILWRIGHT_MAILCHIMP_SERVER: is needed, as the key does not end in a data centre; for example us19"
        )
    return Mailchimp(
        f"https://{server}.api.mailchimp.com/3.0",
        settings.mailchimp_api_key,
        settings.mailchimp_list_id,
        f"Mailchimp audience {settings.mailchimp_list_id} at {server}",
        account=server,
    )


def _sandbox(settings: Settings, home: Home) -> Mailchimp:
    from activation.sandbox import process

    account = process.account(settings, home, "mailchimp")
    return Mailchimp(
        # Started by the first call, not by making a plan.
        lambda: account.base_url() + "/3.0",
        SecretStr(account.secrets["api_key"]),
        account.secrets["list_id"],
        f"Mailchimp sandbox, audience {account.secrets['list_id']}",
        account="sandbox",
    )


def key_sql(email: str) -> str:
    """SQL of Mailchimp's subscriber hash, which is the same in every account."""
    return f"md5(lower({email}))"


class Mailchimp:
    """One audience of one account.

    Args:
        base_url: ends in the version, /3.0; or a function that returns it, called before the first call.
        account: data centre, or sandbox; part of the ledger's key together with the audience.
        timeout: seconds for one call; Mailchimp itself gives up after 120.
    """

    name = "mailchimp"
    batch_size = BATCH
    connections = CONNECTIONS

    def __init__(
        self,
        base_url: str | Callable[[], str],
        api_key: SecretStr,
        list_id: str,
        description: str,
        *,
        account: str,
        timeout: float = 130.0,
    ) -> None:
        self.target = f"mailchimp/{account}/{list_id}"
        self.description = description
        self._api_key = api_key
        self._base_url = base_url
        self._list = f"/lists/{list_id}"
        self._timeout = timeout
        self._client: httpx.Client | None = None
        self._lock = threading.RLock()
        self._observer: Observer | None = None
        self._segment_ids: dict[str, int] | None = None
        self._field_types: dict[str, FieldType] = {}

    def __repr__(self) -> str:
        return f"<{self.description}>"

    # What the plan needs: no call is made.

    def key_sql(self, email: str) -> str:
        return key_sql(email)

    def fields(self, columns: Mapping[str, str]) -> list[Field]:
        return [
            Field(column, merge_tag(column), column.replace("_", " ").capitalize(), _field_type(kind))
            for column, kind in columns.items()
        ]

    def tag_of(self, segment: str) -> str:
        return TAG_PREFIX + segment

    def expected_calls(self, work: Workload) -> dict[str, int]:
        changes = sum(-(-max(add, remove) // BATCH) for add, remove in work.tag_changes.values())
        calls = {
            # Reading which fields and tags there are, then making those that are missing.
            "set-up": int(work.upserts > 0)
            + int(bool(work.tag_changes))
            + len(set(work.new_fields) - {"FNAME", "LNAME"})
            + len(work.new_tags),
            "contacts": -(-work.upserts // BATCH),
            "tags": changes,
            "tags by key": work.keyed_removals,
            "unsubscribes": work.unsubscribes,
        }
        return {kind: number for kind, number in calls.items() if number}

    # What the engine calls.

    def observe(self, observer: Observer) -> None:
        self._observer = observer

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def prepare(self, fields: Sequence[Field], tags: Collection[str]) -> None:
        self._field_types = {field.name: field.type for field in fields}
        # Read anew each time: a call whose answer was lost may have made some.
        self._segment_ids = None
        if fields:
            there = {found["tag"]: found["type"] for found in self._pages(f"{self._list}/merge-fields", "merge_fields")}
            for field in fields:
                if field.name not in there:
                    body = {"tag": field.name, "name": field.label, "type": field.type, "public": False}
                    self._call("POST", f"{self._list}/merge-fields", "/lists/{list}/merge-fields", body)
        for tag in tags:
            if tag not in self._segments():
                body = {"name": tag, "static_segment": []}
                made = self._call("POST", f"{self._list}/segments", "/lists/{list}/segments", body)
                self._segments()[tag] = made["id"]

    def upsert(self, contacts: Sequence[Contact]) -> Answer:
        members = [
            {
                "email_address": contact.email,
                "status_if_new": "subscribed",
                "email_type": "html",
                "merge_fields": {name: self._value(name, value) for name, value in contact.fields.items()},
            }
            for contact in contacts
        ]
        body = {"members": members, "update_existing": True, "sync_tags": False}
        said = self._call("POST", f"{self._list}?skip_merge_validation=true", "/lists/{list}", body, rows=len(members))
        # Answers are matched by address: their order and number are not those of the request.
        answer = Answer({_hash(member["email_address"]) for member in said["new_members"] + said["updated_members"]})
        for error in said["errors"]:
            words = ": ".join(filter(None, [error.get("field"), error.get("error"), error.get("field_message")]))
            answer.rejected.append(
                Rejection(_hash(error["email_address"]), error.get("error_code") or "ERROR_GENERIC", words)
            )
        return answer

    def change_tag(self, tag: str, add: Sequence[Contact], remove: Sequence[Contact]) -> Answer:
        answer = Answer()
        by_key = [contact for contact in remove if contact.email is None]
        by_email = [contact for contact in remove if contact.email is not None]
        segment_id = self._segments().get(tag)
        if segment_id is None and not add:
            # Someone deleted the tag at Mailchimp: nobody has it any more.
            return Answer({contact.key for contact in remove})
        if add or by_email:
            self._change_segment(answer, self._segments()[tag], add, by_email)
        for contact in by_key:
            answer.accepted |= self._remove_by_key(tag, contact)
        return answer

    def _change_segment(
        self, answer: Answer, segment_id: int, add: Sequence[Contact], remove: Sequence[Contact]
    ) -> None:
        body = {
            "members_to_add": [contact.email for contact in add],
            "members_to_remove": [contact.email for contact in remove],
        }
        said = self._call(
            "POST",
            f"{self._list}/segments/{segment_id}",
            "/lists/{list}/segments/{segment}",
            body,
            rows=len(add) + len(remove),
        )
        answer.accepted |= {_hash(member["email_address"]) for member in said["members_added"]}
        answer.accepted |= {_hash(member["email_address"]) for member in said["members_removed"]}
        refused = {_hash(email): error["error"] for error in said["errors"] for email in error["email_addresses"]}
        unclear = {contact.key for contact in (*add, *remove)} - answer.accepted
        if not unclear:
            return
        # Not mentioned as changed: had it already (a repeated call), or is not known there. The segment itself tells.
        inside = {
            _hash(member["email_address"])
            for member in self._pages(
                f"{self._list}/segments/{segment_id}/members",
                "members",
                "/lists/{list}/segments/{segment}/members",
                include_cleaned="true",
                include_transactional="true",
                include_unsubscribed="true",
                fields="members.email_address",
            )
        }
        for contact in add:
            if contact.key in unclear and contact.key in inside:
                answer.accepted.add(contact.key)
            elif contact.key in unclear:
                words = refused.get(contact.key, "not mentioned in the answer: archived or deleted there")
                answer.rejected.append(Rejection(contact.key, "NOT_ADDED", words))
        for contact in remove:
            if contact.key in unclear and contact.key not in inside:
                answer.accepted.add(contact.key)
            elif contact.key in unclear:
                words = refused.get(contact.key, "not mentioned in the answer, and still tagged")
                answer.rejected.append(Rejection(contact.key, "NOT_REMOVED", words))

    def _remove_by_key(self, tag: str, contact: Contact) -> set[str]:
        body = {"tags": [{"name": tag, "status": "inactive"}], "is_syncing": True}
        path, route = f"{self._list}/members/{contact.key}/tags", "/lists/{list}/members/{hash}/tags"
        self._call("POST", path, route, body, rows=1, missing_is_fine=True)
        return {contact.key}

    def unsubscribe(self, contact: Contact) -> Answer:
        path, route = f"{self._list}/members/{contact.key}", "/lists/{list}/members/{hash}"
        self._call("PATCH", path, route, {"status": "unsubscribed"}, rows=1, missing_is_fine=True)
        return Answer({contact.key})

    # Below: HTTP.

    def _segments(self) -> dict[str, int]:
        """Ids of the static segments by name, read once."""
        with self._lock:
            if self._segment_ids is None:
                wanted = {"type": "static", "fields": "segments.id,segments.name"}
                found = self._pages(f"{self._list}/segments", "segments", **wanted)
                self._segment_ids = {segment["name"]: segment["id"] for segment in found}
            return self._segment_ids

    def _pages(self, path: str, part: str, route: str | None = None, **query: str) -> Iterator[Any]:
        offset = 0
        route = route or path.replace(self._list, "/lists/{list}")
        while True:
            parameters = "&".join(f"{name}={value}" for name, value in query.items())
            said = self._call("GET", f"{path}?count={PAGE}&offset={offset}&{parameters}".rstrip("&"), route)
            yield from said[part]
            if len(said[part]) < PAGE:
                return
            offset += PAGE

    def _call(
        self,
        method: str,
        path: str,
        route: str,
        body: Mapping[str, Any] | None = None,
        *,
        rows: int = 0,
        missing_is_fine: bool = False,
    ) -> Any:
        """One request. Returns the JSON of the answer.

        Raises:
            TryAgainError: a timeout, a cut connection, 429 or 5xx.
            RefusedError: the body was refused as a whole.
            DestinationError: the key, the audience or our rights are wrong.
        """
        started = time.monotonic()
        status: int | None = None
        problem: str | None = None
        try:
            response = self._http().request(method, path.lstrip("/"), json=body)
            status = response.status_code
            if missing_is_fine and status == 404:
                return {}
            action = _action(response)
            if action is Action.ACCEPT:
                return response.json() if response.content else {}
            problem = _title(response)
            if action is Action.RETRY:
                raise TryAgainError(f"{status} {problem}", _retry_after(response))
            if action is Action.SPLIT:
                raise RefusedError(problem, _detail(response))
            raise DestinationError(
                f"{self.description} answers {status} {problem} to {method} {route}: {_advice(status)}"
            )
        except httpx.ConnectError as error:
            problem = type(error).__name__
            raise TryAgainError(f"can't be reached ({problem})") from None
        except (httpx.TransportError, ValueError) as error:
            # A ValueError is an answer that is no JSON: it was cut, or a proxy wrote it.
            problem = type(error).__name__
            raise TryAgainError(f"no whole answer ({problem})") from None
        finally:
            if self._observer is not None:
                self._observer(method, route, rows, status, time.monotonic() - started, problem)

    def _http(self) -> httpx.Client:
        if self._client is None:
            with self._lock:
                if self._client is None:
                    base_url = self._base_url if isinstance(self._base_url, str) else self._base_url()
                    self._client = httpx.Client(
                        base_url=base_url,
                        auth=("mailwright", self._api_key.get_secret_value()),
                        timeout=httpx.Timeout(self._timeout, connect=10.0),
                        limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
                        headers={"User-Agent": "mailwright"},
                        follow_redirects=False,
                        # Loopback never goes through a proxy; the real API goes through the one of the environment.
                        trust_env=not base_url.startswith("http://127.0.0.1"),
                    )
        return self._client

    def _value(self, name: str, value: str) -> str | float:
        if value and self._field_types.get(name) == "number":
            number = float(value)
            return int(number) if number.is_integer() else number
        return value


def merge_tag(column: str) -> str:
    """Merge tag of a release column: at most ten characters, beginning with MW_ unless it is a standard one."""
    if column in MERGE_TAGS:
        return MERGE_TAGS[column]
    letters = "".join(letter for letter in column.upper() if letter.isascii() and letter.isalnum())
    return f"MW_{letters}"[:MERGE_TAG_LENGTH]


def _field_type(kind: str) -> FieldType:
    if kind.startswith(_NUMBERS):
        return "number"
    return "date" if kind == "DATE" else "text"


def _hash(email: str) -> str:
    return hashlib.md5(email.lower().encode(), usedforsecurity=False).hexdigest()


def _action(response: httpx.Response) -> Action:
    # At very high volume Mailchimp's edge answers 403 without JSON: that is its rate limit, not our rights.
    if response.status_code == 403 and "json" not in response.headers.get("content-type", ""):
        return Action.RETRY
    return action_of(response.status_code)


def _said(response: httpx.Response) -> Mapping[str, Any]:
    try:
        said = response.json()
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _title(response: httpx.Response) -> str:
    return str(_said(response).get("title") or response.reason_phrase or "no reason given")


def _detail(response: httpx.Response) -> str:
    said = _said(response)
    parts = [str(said.get("detail") or said.get("title") or f"HTTP {response.status_code}")]
    parts += [f"{error.get('field')}: {error.get('message')}" for error in said.get("errors") or []]
    return "; ".join(parts)


def _advice(status: int) -> str:
    return {
        401: "check MAILWRIGHT_MAILCHIMP_API_KEY, it may have been revoked, and MAILWRIGHT_MAILCHIMP_SERVER",
        403: "the key's user may not do this; a manager's or an admin's key is needed",
        404: "check MAILWRIGHT_MAILCHIMP_LIST_ID",
    }.get(status, "nothing acknowledged is lost; see the platform's status page and apply again")


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that the platform asks us to wait: a number, or an HTTP date."""
    said = response.headers.get("retry-after")
    if said is None:
        return None
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        moment: datetime = parsedate_to_datetime(said)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
