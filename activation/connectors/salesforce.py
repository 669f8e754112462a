"""Salesforce Marketing Cloud Engagement: rows of one sendable data extension, one for each customer.

Rows are keyed by `SubscriberKey` and carry no subscription: whether somebody may be mailed is the status in All
Subscribers, which a row never changes. So nothing that is written here can bring anyone back, and a refusal is the status
`Unsubscribed` there, made with the subscriber where nothing was ever sent to them. A segment is a Boolean column.

REST as published: tokens, rows (`rowset` up to 50, else asynchronous jobs), a data extension's fields, deletion of
contacts. Everything else is SOAP, whose guide names the objects and calls used here; not published, and read with care:

- what a deletion of a row that is not there answers: rows that are said to be in error are looked up;
- the pages of a job's results (`$page`, `$pagesize`), and whether a job lists every row: results that are not as many as
  the rows are taken for no answer, and the rows are sent apart;
- that null clears a column, and that a job's rows are saved in the order in which jobs were taken in.

Columns are not made here: the reference lists a call for it without its body. `prepare` says which are missing.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import quote
from xml.etree.ElementTree import Element

import httpx
import orjson
from pydantic import Field as Setting
from pydantic import SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from activation import soap
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
from activation.http import Api, Problem, RefusedError, Reply, RetryPolicy, TryAgainError, problem_of
from activation.platform import FieldRule, FieldType, Limit, Platform
from core.errors import DestinationError
from core.home import Home
from core.settings import is_set, read_environment

KEY, EMAIL = "SubscriberKey", "EmailAddress"
SANDBOX_EXTENSION = "mailwright"
SYNCHRONOUS = 50  # rows that a synchronous call is recommended to have at most, and objects of a SOAP call
PAGE = 2500  # rows that a page of a SOAP retrieve has at most
NAMESPACE = "http://exacttarget.com/wsdl/partnerAPI"
TOKEN = '<fueloauth xmlns="http://exacttarget.com"/>'

PLATFORM = Platform(
    name="sfmc",
    title="Salesforce Marketing Cloud",
    key="customer_id",
    membership="attributes",
    membership_form="Boolean column mw_<segment>",
    tag_prefix="mw_",
    limits={
        # Nothing is published of calls a second: editions have 2 to 200 million requests a year.
        "contacts": Limit(batch=1000, body_bytes=4_000_000),
        "unsubscribe": Limit(batch=SYNCHRONOUS),
        "erase": Limit(batch=1000),
        "archive": Limit(batch=SYNCHRONOUS),
        "rekey": Limit(batch=SYNCHRONOUS),
        "read": Limit(batch=PAGE),
    },
    fields=FieldRule(
        pattern=r"[A-Za-z][A-Za-z0-9_ ]{0,49}",
        prefix="mw_",
        standard=("FirstName", "LastName"),
        types=("text", "number", "date"),
        longest=4000,
    ),
    consent_form="rows carry none; a refusal is the status Unsubscribed in All Subscribers",
    documents="https://developer.salesforce.com/docs/marketing/marketing-cloud/overview",
    connections=4,
)

# What a column may be for a field of ours.
_COLUMN_TYPES: Mapping[FieldType, tuple[str, ...]] = {
    "text": ("Text", "Phone", "Locale"),
    "number": ("Number", "Decimal"),
    "date": ("Date",),
    "boolean": ("Boolean",),
}
# `Bounced` may be mailed on until it becomes `Held`.
_STATES: Mapping[str, State] = {"Unsubscribed": "unsubscribed", "Held": "bounced"}
_CUSTOMER = re.compile(r"(?:[0-9a-f]{2})+")
_ADVICE = {
    401: "the access token is not taken: check MAILWRIGHT_SFMC_CLIENT_ID and _CLIENT_SECRET of the installed package",
    403: "the installed package lacks a permission: it needs data extensions, list and subscribers, and contacts (read,"
    " write, delete)",
    404: "there is no such data extension in this business unit: check its external key and the account id",
}


class SalesforceSettings(BaseSettings):
    """The real account, from the environment."""

    model_config = SettingsConfigDict(
        env_prefix="MAILWRIGHT_SFMC_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    subdomain: str = Setting(description="Tenant's subdomain: what stands before .rest.marketingcloudapis.com")
    client_id: SecretStr = Setting(description="Client id of an installed package with server-to-server integration")
    client_secret: SecretStr = Setting(description="Client secret of that package")
    data_extension: str = Setting(
        description="External key of the sendable data extension", min_length=1, max_length=244
    )
    account_id: int | None = Setting(None, description="MID of the business unit; without one, the package's own")

    @field_validator("subdomain")
    @classmethod
    def _one_dns_label(cls, value: str) -> str:
        if not re.fullmatch(r"mc[a-z0-9-]{8,60}[a-z0-9]", value):
            raise ValueError("must be the tenant's subdomain alone: it begins with mc, and has no dots")
        return value


@dataclass(frozen=True)
class SalesforceAccount(Credentials):
    """A business unit and one data extension in it; `base_url` is that of REST."""

    auth_url: str | Callable[[], str] = ""
    soap_url: str | Callable[[], str] = ""
    client_id: SecretStr = field(default=SecretStr(""), repr=False)
    client_secret: SecretStr = field(default=SecretStr(""), repr=False)
    account_id: int | None = None
    data_extension: str = ""


class ClientCredentials(httpx.Auth):
    """OAuth 2 client credentials: a token is fetched when there is none, when it has expired, and when it is refused.

    All threads share it, and one of them fetches at a time. A call that was refused for its token did nothing, so it is
    made again at once with a new one, one time. SOAP has the token in its envelope, in place of `TOKEN`.

    Args:
        now: seconds of a clock that never goes back; the platform's own dates are not looked at.
    """

    requires_response_body = False

    def __init__(self, account: SalesforceAccount, now: Callable[[], float] = time.monotonic) -> None:
        self._account = account
        self._now = now
        self._lock = threading.Lock()
        self._token: str | None = None
        self._expires = 0.0

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        token = yield from self._valid(None)
        response = yield _with_token(request, token)
        if response.status_code in (401, 500):
            response.read()
            if _refuses_token(response):
                token = yield from self._valid(token)
                yield _with_token(request, token)

    def _valid(self, refused: str | None) -> Generator[httpx.Request, httpx.Response, str]:
        """A token that is not `refused` and has not expired."""
        with self._lock:
            if self._token is None or self._token == refused or self._now() >= self._expires:
                self._token = None
                asked = self._now()
                response = yield self._request()
                response.read()
                self._token, lifetime = _token_of(response)
                self._expires = asked + lifetime
            return self._token

    def _request(self) -> httpx.Request:
        account = self._account
        body: dict[str, Any] = {
            "grant_type": "client_credentials",
            "client_id": account.client_id.get_secret_value(),
            "client_secret": account.client_secret.get_secret_value(),
        }
        if account.account_id is not None:
            body["account_id"] = account.account_id
        return httpx.Request("POST", _url(account.auth_url) + "/v2/token", json=body)


class Salesforce(Connector):
    """One data extension of one business unit.

    Args:
        patience: seconds to wait for a job.
        sleep: between looks at a job; given by tests.
    """

    platform: ClassVar[Platform] = PLATFORM
    account: SalesforceAccount

    def __init__(
        self,
        account: SalesforceAccount,
        api: Api,
        *,
        patience: float = 900.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(account, api)
        self._patience = patience
        self._sleep = sleep
        self._types: dict[str, FieldType] = {}
        self._columns: dict[str, str] | None = None
        self._deleting = threading.Lock()
        self._extension = account.data_extension
        self._rows = f"key:{quote(account.data_extension, safe='')}"

    @classmethod
    def credentials(cls, home: Home) -> SalesforceAccount | None:
        if not is_set(SalesforceSettings):
            return None
        said = read_environment(SalesforceSettings)
        unit = "" if said.account_id is None else f"/{said.account_id}"
        hosts = {name: f"https://{said.subdomain}.{name}.marketingcloudapis.com" for name in ("auth", "rest", "soap")}
        return SalesforceAccount(
            hosts["rest"],
            f"{said.subdomain}{unit}/{said.data_extension}",
            f"Salesforce Marketing Cloud data extension {said.data_extension} at {said.subdomain}{unit}",
            auth_url=hosts["auth"],
            soap_url=hosts["soap"],
            client_id=said.client_id,
            client_secret=said.client_secret,
            account_id=said.account_id,
            data_extension=said.data_extension,
        )

    @classmethod
    def sandbox_credentials(cls, account: SandboxAccount) -> SalesforceAccount:
        return SalesforceAccount(
            lambda: account.base_url() + "/rest",
            account.account,
            f"Salesforce Marketing Cloud sandbox, data extension {SANDBOX_EXTENSION}",
            auth_url=lambda: account.base_url() + "/auth",
            soap_url=lambda: account.base_url() + "/soap",
            client_id=SecretStr(account.secrets["client_id"]),
            client_secret=SecretStr(account.secrets["client_secret"]),
            data_extension=SANDBOX_EXTENSION,
        )

    @classmethod
    def connect(cls, credentials: SalesforceAccount, retry: RetryPolicy | None = None) -> Salesforce:
        api = Api(
            PLATFORM,
            credentials.base_url,
            description=credentials.description,
            auth=ClientCredentials(credentials),
            read_problem=_problem,
            is_passing=_is_passing,
            advice=_ADVICE,
            retry=retry,
        )
        return cls(credentials, api)

    # What the engine calls.

    def prepare(self, fields: Sequence[Field], tags: Collection[str]) -> None:
        """Check that the data extension has the columns that will be written.

        Raises:
            DestinationError: says which are missing, and of which type they must be.
        """
        self._types = {mapped.name: mapped.type for mapped in fields}
        wanted = {EMAIL: ("EmailAddress",)} | {mapped.name: _COLUMN_TYPES[mapped.type] for mapped in fields}
        wanted |= dict.fromkeys(sorted(tags), _COLUMN_TYPES["boolean"])
        there = {column["name"]: column for column in self._read_columns()}
        self._columns = {name: str(column["type"]) for name, column in there.items()}
        problems = []
        keys = [name for name, column in there.items() if column.get("isPrimaryKey")]
        if keys != [KEY]:
            problems.append(f"its primary key must be {KEY} (Text) alone, and is {', '.join(keys) or 'missing'}")
        if missing := [f"{name} ({kinds[0]})" for name, kinds in wanted.items() if name not in there]:
            problems.append(f"it has no {', '.join(missing)}")
        for name, kinds in wanted.items():
            if name in there and self._columns[name] not in kinds:
                problems.append(f"{name} must be {kinds[0]}, and is {self._columns[name]}")
            elif name in there and there[name].get("isNullable") is False:
                problems.append(f"{name} must be nullable, as changes are written without what has not changed")
        if problems:
            raise DestinationError(
                f"data extension {self._extension}: {'; '.join(problems)}: change it under Audience Builder, Contact"
                " Builder, Data Extensions, then apply again"
            )

    def write(self, contacts: Sequence[Contact]) -> Answer:
        """Insert or update rows. Who has only segments to lose and is not there is done, and not made for it."""
        losing = {one.key for one in contacts if one.remove and not (one.is_new or one.fields or one.add)}
        there = {row[KEY] for row in self._read_rows(sorted(losing), [KEY])}
        answer = Answer(losing - there)
        rows = {one.key: self._row(one) for one in contacts if one.key not in answer.accepted}
        if rows:
            saved = self._save(rows, {one.key: one for one in contacts})
            answer.accepted |= saved.accepted
            answer.rejected += saved.rejected
        return answer

    def unsubscribe(self, contacts: Sequence[Contact]) -> Answer:
        """Set `Unsubscribed` in All Subscribers, where a subscriber is made whom nothing was ever sent to.

        Without that, the first send to the row would make an active one.
        """
        emails = {contact.key: contact.email for contact in contacts}
        if unknown := [key for key, email in emails.items() if email is None]:
            emails |= self._addresses(unknown)
        # Neither subscriber nor row: there is nobody to be mailed.
        answer = Answer({key for key, email in emails.items() if email is None})
        said = self._set_unsubscribed({key: email for key, email in emails.items() if email is not None})
        by_key = {contact.key: contact for contact in contacts}
        answer.accepted |= said.accepted
        answer.rejected += [Rejection(one.key, one.code, redact(one.words, by_key[one.key])) for one in said.rejected]
        return answer

    def erase(self, contacts: Sequence[Contact]) -> Answer:
        """Delete the rows, and the contacts with all that the platform knows of them.

        Rows go at once. The deletion of contacts takes the platform hours, one operation at a time: what is acknowledged
        is that it has taken it over, unless it says before that it failed.
        """
        answer = self._delete_rows([contact.key for contact in contacts])
        if gone := sorted(answer.accepted):
            self._delete_contacts(gone)
        return answer

    def archive(self, contacts: Sequence[Contact]) -> Answer:
        """Delete the rows alone: out of the audience, while contact, history and status stay."""
        return self._delete_rows([contact.key for contact in contacts])

    def rekey(self, changes: Sequence[Rekey]) -> Answer:
        """Copy each row to its new key, with columns that are not ours and the refusal if there is one; delete the old.

        A subscriber key can't be changed by the API.
        """
        old = {change.old.key: change for change in changes}
        rows = {row[KEY]: row for row in self._read_rows(sorted(old), sorted(self._known_columns()))}
        left = self._addresses(sorted(old), refused=True)
        refused = {old[key].new.key: old[key].new.email or email or "" for key, email in left.items() if key in old}
        kept = self._set_unsubscribed(refused).accepted
        news: dict[str, dict[str, Any]] = {}
        for key, change in old.items():
            if change.new.key in refused and change.new.key not in kept:
                continue
            copied = {name: self._typed(name, value) for name, value in rows.get(key, {}).items() if value is not None}
            news[change.new.key] = {**copied, **self._row(change.new)}
        answer = self._save(news, {change.new.key: change.new for change in changes}) if news else Answer()
        moved = {key: change.new.key for key, change in old.items() if change.new.key in answer.accepted}
        deleted = self._delete_rows(sorted(moved)).accepted
        answer.accepted = {new for key, new in moved.items() if key in deleted}
        return answer

    def members(self) -> Iterator[Member]:
        states: dict[str, State] = {}
        someone = _filter("Status", "notEquals", ["Active"])
        for row in self._everything("Subscriber", [KEY, "Status"], someone):
            if (state := _STATES.get(row.get("Status") or "")) is not None:
                states[row.get(KEY) or ""] = state
        columns = self._known_columns()
        ours = sorted(
            name
            for name in columns
            if name in (KEY, *PLATFORM.fields.standard) or name.startswith(PLATFORM.fields.prefix)
        )
        for row in self._everything(f"DataExtensionObject[{self._extension}]", ours):
            key = row.get(KEY) or ""
            if not _CUSTOMER.fullmatch(key):
                # Somebody else's row: ours are keyed by customer ids.
                continue
            tags = {name for name, value in row.items() if columns[name] == "Boolean" and _is_true(value)}
            fields = {
                name: _plain(columns[name], value)
                for name, value in row.items()
                if value and name != KEY and columns[name] != "Boolean"
            }
            yield Member(key, states.get(key, "subscribed"), frozenset(tags), fields)

    # Rows by REST.

    def _row(self, contact: Contact) -> dict[str, Any]:
        row: dict[str, Any] = {KEY: contact.key}
        if contact.email is not None:
            row[EMAIL] = contact.email
        row |= {name: json_value(self._types.get(name, "text"), value) for name, value in contact.fields.items()}
        row |= dict.fromkeys(contact.add, True)
        row |= dict.fromkeys(contact.remove, False)
        return row

    def _save(self, rows: Mapping[str, dict[str, Any]], contacts: Mapping[str, Contact]) -> Answer:
        """Insert or update rows, given by key."""
        if len(rows) <= SYNCHRONOUS:
            return self._save_at_once(rows)
        return self._save_by_job(rows, contacts)

    def _save_at_once(self, rows: Mapping[str, dict[str, Any]]) -> Answer:
        """Rows before the first bad one are saved and the rest is not, without saying which: refused, they go apart."""
        body = [
            {"keys": {KEY: key}, "values": {name: value for name, value in row.items() if name != KEY}}
            for key, row in rows.items()
        ]
        reply = self.api.call(
            "POST",
            f"/hub/v1/dataevents/{self._rows}/rowset",
            route="/hub/v1/dataevents/key:{key}/rowset",
            body=body,
            rows=len(body),
        )
        if not isinstance(reply.said, list):
            raise TryAgainError("no whole answer (not a list of rows)")
        echoed = {_key_of_echo(row) for row in reply.said}
        return Answer({key for key in rows if key in echoed})

    def _save_by_job(self, rows: Mapping[str, dict[str, Any]], contacts: Mapping[str, Contact]) -> Answer:
        reply = self.api.call(
            "PUT",
            f"/data/v1/async/dataextensions/{self._rows}/rows",
            route="/data/v1/async/dataextensions/key:{key}/rows",
            body={"items": list(rows.values())},
            rows=len(rows),
        )
        job = _mapping(reply).get("requestId")
        if not isinstance(job, str) or not re.fullmatch(r"[0-9A-Za-z-]{1,64}", job):
            raise TryAgainError("no whole answer (no requestId)")
        status = self._wait(job)
        if status.get("resultStatus") == "OK" and status.get("hasErrors") is False:
            return Answer(set(rows))
        return self._results(job, list(rows), contacts)

    def _wait(self, job: str) -> Mapping[str, Any]:
        """Look at a job until it is through. Before it is picked up it may have no status at all."""
        wait, deadline = 0.1, time.monotonic() + self._patience
        while True:
            said = self._read(f"/data/v1/async/{job}/status", "/data/v1/async/{job}/status")
            status = said.get("status")
            if isinstance(status, dict) and status.get("requestStatus") in ("Complete", "Completed"):
                return status
            if isinstance(status, dict) and status.get("requestStatus") == "Error":
                # What failed is the job: its rows may be as good as any.
                raise TryAgainError("a job ended in an error")
            if time.monotonic() >= deadline:
                raise TryAgainError("a job did not end in time")
            self._sleep(wait)
            wait = min(wait * 1.5, 5.0)

    def _results(self, job: str, keys: Sequence[str], contacts: Mapping[str, Contact]) -> Answer:
        """What became of each row: results are in the order of the rows."""
        items: list[Any] = []
        page = 0
        while len(items) < len(keys):
            page += 1
            said = self._read(
                f"/data/v1/async/{job}/results?$page={page}&$pagesize={PAGE}", "/data/v1/async/{job}/results"
            )
            found = said.get("items")
            if not isinstance(found, list) or not found or said.get("page", page) != page:
                break
            items += found
        if len(items) != len(keys) or not all(isinstance(item, dict) for item in items):
            raise RefusedError("UNCLEAR", f"{len(items)} results for {len(keys)} rows")
        answer = Answer()
        for key, item in zip(keys, items, strict=True):
            words = str(item.get("message") or "")
            if item.get("status") == "OK":
                answer.accepted.add(key)
            elif item.get("status") == "Error" and not words.rstrip().endswith("Rerun the transaction."):
                code = str(item.get("errorCode") or "ERROR")
                answer.rejected.append(Rejection(key, code, redact(words, contacts.get(key))))
        return answer

    def _delete_contacts(self, keys: Sequence[str]) -> None:
        # One operation at a time is admitted.
        with self._deleting:
            reply = self.api.call(
                "POST",
                "/contacts/v1/contacts/actions/delete?type=keys",
                route="/contacts/v1/contacts/actions/delete",
                kind="erase",
                body={"values": list(keys), "DeleteOperationType": "ContactAndAttributes"},
                rows=len(keys),
            )
            said = _mapping(reply)
            operation = said.get("operationID")
            if not isinstance(operation, int) or said.get("hasErrors"):
                raise TryAgainError("the deletion of contacts was not begun")
            for wait in (0.1, 0.5, 2.0, 5.0):
                said = self._read(
                    f"/contacts/v1/contacts/actions/delete/status?operationID={operation}",
                    "/contacts/v1/contacts/actions/delete/status",
                )
                found = said.get("operation")
                status = str(found.get("status")) if isinstance(found, dict) else ""
                if status == "Completed":
                    return
                if status in ("Error", "Failed", "Invalid"):
                    raise TryAgainError(f"the deletion of contacts ended as {status}")
                self._sleep(wait)

    def _read(self, path: str, route: str) -> Mapping[str, Any]:
        return _mapping(self.api.patiently(lambda: _checked(self.api.call("GET", path, route=route, kind="read"))))

    def _read_columns(self) -> list[dict[str, Any]]:
        """Columns of the data extension; REST wants its id, which SOAP tells by its external key."""
        found = self._retrieve("DataExtension", ["ObjectID"], _filter("CustomerKey", "equals", [self._extension]))
        number = next((soap.text(node, "ObjectID") for node in found), None)
        if number is None:
            raise DestinationError(f"{self.description}: {_ADVICE[404]}")
        said = self._read(
            f"/data/v1/customobjects/{quote(number, safe='')}/fields", "/data/v1/customobjects/{id}/fields"
        )
        columns = said.get("fields")
        if not isinstance(columns, list):
            raise TryAgainError("no whole answer (no fields)")
        return columns

    def _known_columns(self) -> Mapping[str, str]:
        """Types by column, read once."""
        if self._columns is None:
            self._columns = {column["name"]: str(column["type"]) for column in self._read_columns()}
        return self._columns

    def _typed(self, name: str, value: str) -> Any:
        """A column's value as SOAP tells it, as REST takes it."""
        kind = self._known_columns()[name]
        return _is_true(value) if kind == "Boolean" else _plain(kind, value)

    # Subscribers, and rows by key, by SOAP.

    def _addresses(self, keys: Sequence[str], *, refused: bool = False) -> dict[str, str | None]:
        """Addresses of those who are there as subscriber or row; `refused`: of subscribers who may not be mailed."""
        found: dict[str, str | None] = {}
        if not refused:
            for row in self._read_rows(keys, [KEY, EMAIL]):
                found[row[KEY] or ""] = row.get(EMAIL)
        for some in _parts(keys):
            for node in self._retrieve("Subscriber", [KEY, EMAIL, "Status"], _filter(KEY, "IN", some)):
                if not refused or soap.text(node, "Status") in _STATES:
                    key = soap.text(node, KEY) or ""
                    found[key] = soap.text(node, EMAIL) or found.get(key)
        return found

    def _read_rows(self, keys: Sequence[str], columns: Sequence[str]) -> Iterator[dict[str, str | None]]:
        for some in _parts(keys):
            for node in self._retrieve(f"DataExtensionObject[{self._extension}]", columns, _filter(KEY, "IN", some)):
                yield _properties(node)

    def _set_unsubscribed(self, emails: Mapping[str, str]) -> Answer:
        answer = Answer()
        for keys in _parts(list(emails)):
            objects = "".join(
                f'<Objects xsi:type="Subscriber">{soap.element(EMAIL, emails[key])}{soap.element(KEY, key)}'
                "<Status>Unsubscribed</Status></Objects>"
                for key in keys
            )
            options = (
                "<Options><SaveOptions><SaveOption><PropertyName>*</PropertyName><SaveAction>UpdateAdd</SaveAction>"
                "</SaveOption></SaveOptions></Options>"
            )
            said = self._soap("Create", f"{options}{objects}", "/Service.asmx#Subscriber", "unsubscribe", len(keys))
            for key, result in _by_ordinal(said, keys).items():
                if soap.text(result, "StatusCode") == "OK":
                    answer.accepted.add(key)
                else:
                    answer.rejected.append(_rejection(key, result))
        return answer

    def _delete_rows(self, keys: Sequence[str]) -> Answer:
        answer = Answer()
        failed: dict[str, Element] = {}
        for some in _parts(keys):
            objects = "".join(
                f'<Objects xsi:type="DataExtensionObject">{soap.element("CustomerKey", self._extension)}'
                f"<Keys><Key>{soap.element('Name', KEY)}{soap.element('Value', key)}</Key></Keys></Objects>"
                for key in some
            )
            said = self._soap(
                "Delete", f"<Options/>{objects}", "/Service.asmx#DataExtensionObject", "archive", len(some)
            )
            for key, result in _by_ordinal(said, some).items():
                if soap.text(result, "StatusCode") == "OK":
                    answer.accepted.add(key)
                else:
                    failed[key] = result
        # A row that is not there is done, and is not told apart from one that can't be deleted.
        left = {row[KEY] for row in self._read_rows(sorted(failed), [KEY])} if failed else set()
        for key, result in failed.items():
            if key in left:
                answer.rejected.append(_rejection(key, result))
            else:
                answer.accepted.add(key)
        return answer

    def _everything(self, kind: str, properties: Sequence[str], some: str = "") -> Iterator[dict[str, str | None]]:
        """All objects of a kind. A page whose answer is lost is passed over by asking on: then it begins anew."""
        seen: set[str] = set()
        for attempt in range(1, self.api.retry.attempts + 1):
            try:
                for node in self._retrieve(kind, properties, some):
                    row = _properties(node)
                    key = row.get(KEY) or ""
                    if key not in seen:
                        seen.add(key)
                        yield row
                return
            except TryAgainError as error:
                if attempt == self.api.retry.attempts:
                    raise
                self._sleep(self.api.retry.wait(attempt, error.retry_after))

    def _retrieve(self, kind: str, properties: Sequence[str], some: str = "") -> Iterator[Element]:
        """Objects of a kind, page by page."""
        wanted = "".join(soap.element("Properties", name) for name in properties)
        request = f"{soap.element('ObjectType', kind)}{wanted}{some}"
        route = f"/Service.asmx#{kind.partition('[')[0]}"
        while True:
            body = f"<RetrieveRequest>{request}</RetrieveRequest>"
            if "ContinueRequest" in request:
                said = self._soap("Retrieve", body, route, "read", 0)
            else:
                said = self._patiently("Retrieve", body, route)
            status = soap.text(said, "OverallStatus") or ""
            if status not in ("OK", "MoreDataAvailable"):
                raise TryAgainError(f"{kind.partition('[')[0]} can't be read now")
            yield from soap.children(said, "Results")
            if status == "OK":
                return
            request = soap.element("ContinueRequest", soap.text(said, "RequestID") or "")

    def _patiently(self, action: str, body: str, route: str) -> Element:
        found: Element = self.api.patiently(lambda: Reply(200, self._soap(action, body, route, "read", 0))).said
        return found

    def _soap(self, action: str, body: str, route: str, kind: str, rows: int) -> Element:
        """One call. Returns the response within the body."""
        name = "RetrieveRequestMsg" if action == "Retrieve" else f"{action}Request"
        url = _url(self.account.soap_url) + "/Service.asmx"
        content = soap.envelope(action, url, TOKEN, f'<{name} xmlns="{NAMESPACE}">{body}</{name}>')
        reply = self.api.call(
            "POST", url, route=route, kind=kind, content=content, content_type=soap.CONTENT_TYPE, rows=rows
        )
        try:
            if not isinstance(reply.said, str):
                raise ValueError("no XML")
            said = soap.body_of(soap.parse(reply.said))
            if soap.local(said) not in ("RetrieveResponseMsg", f"{action}Response"):
                raise ValueError(f"{soap.local(said)} instead of a response")
        except ValueError as error:
            raise TryAgainError(f"no whole answer ({error})") from None
        return said


def _url(said: str | Callable[[], str]) -> str:
    return said if isinstance(said, str) else said()


def _with_token(request: httpx.Request, token: str) -> httpx.Request:
    """The request with the token in its header, and in its envelope where it has one."""
    if not request.headers.get("content-type", "").startswith("application/soap+xml"):
        request.headers["Authorization"] = f"Bearer {token}"
        return request
    filled = TOKEN.replace("/>", f">{soap.escaped(token)}</fueloauth>")
    # The first place is the header's: what stands in values is escaped.
    content = request.content.replace(TOKEN.encode(), filled.encode(), 1)
    headers = {name: value for name, value in request.headers.items() if name != "content-length"}
    return httpx.Request(request.method, request.url, headers=headers, content=content, extensions=request.extensions)


def _refuses_token(response: httpx.Response) -> bool:
    """A 401; or SOAP's fault of a token that is not good any more."""
    if response.status_code == 401:
        return True
    is_xml = "xml" in response.headers.get("content-type", "")
    return is_xml and any(words in response.content for words in (b"Token Expired", b"Login Failed"))


def _token_of(response: httpx.Response) -> tuple[str, float]:
    """Token and seconds that it is good for.

    Raises:
        TryAgainError: no answer this time.
        DestinationError: the client id or secret is wrong.
    """
    status = response.status_code
    if status == 429 or status >= 500 or status == 408:
        raise TryAgainError(f"{status} to a request for a token")
    if status != 200:
        raise DestinationError(f"Salesforce Marketing Cloud gives no access token ({status}): {_ADVICE[401]}")
    try:
        said = orjson.loads(response.content)
        return str(said["access_token"]), float(said["expires_in"])
    except (ValueError, KeyError, TypeError):
        raise TryAgainError("no whole answer to a request for a token") from None


def _problem(response: httpx.Response) -> Problem:
    """Errors have as many forms as there are interfaces."""
    if "xml" in response.headers.get("content-type", ""):
        return Problem("SOAP fault", f"HTTP {response.status_code}")
    try:
        said = orjson.loads(response.content)
    except ValueError:
        return problem_of(response)
    if not isinstance(said, dict):
        return problem_of(response)
    parts = said.get("additionalErrors") or said.get("resultMessages") or []
    details = [str(part.get("message")) for part in parts if isinstance(part, dict) and part.get("message")]
    codes = [part.get("resultCode") for part in parts if isinstance(part, dict)]
    code = said.get("errorcode") or next(filter(None, codes), None)
    if code is None and not details:
        return problem_of(response)
    words = ": ".join(filter(None, [str(said.get("message") or ""), *details]))
    return Problem(str(code or response.status_code), words)


def _is_passing(response: httpx.Response) -> bool:
    """A rowset that was refused without saying why may be taken the next time."""
    if response.status_code != 400:
        return False
    try:
        said = orjson.loads(response.content)
    except ValueError:
        return False
    return isinstance(said, dict) and said.get("errorcode") == 10006 and not said.get("additionalErrors")


def _checked(reply: Reply) -> Reply:
    _mapping(reply)
    return reply


def _mapping(reply: Reply) -> Mapping[str, Any]:
    if not isinstance(reply.said, dict):
        raise TryAgainError("no whole answer (not an object)")
    return reply.said


def _key_of_echo(row: Any) -> str:
    keys = row.get("keys") if isinstance(row, dict) else None
    found = {str(name).lower(): str(value) for name, value in keys.items()} if isinstance(keys, dict) else {}
    return found.get(KEY.lower(), "")


def _filter(name: str, operator: str, values: Sequence[str]) -> str:
    """A simple filter; IN wants two values at least."""
    operator = "equals" if operator == "IN" and len(values) == 1 else operator
    said = "".join(soap.element("Value", value) for value in values)
    return (
        f'<Filter xsi:type="SimpleFilterPart">{soap.element("Property", name)}'
        f"{soap.element('SimpleOperator', operator)}{said}</Filter>"
    )


def _parts(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(keys), SYNCHRONOUS):
        yield keys[at : at + SYNCHRONOUS]


def _by_ordinal(said: Element, keys: Sequence[str]) -> dict[str, Element]:
    """Results by key: each says to which object of the request it belongs."""
    found = {}
    for result in soap.children(said, "Results"):
        ordinal = soap.text(result, "OrdinalID") or ""
        if ordinal.isdigit() and int(ordinal) < len(keys):
            found[keys[int(ordinal)]] = result
    return found


def _rejection(key: str, result: Element) -> Rejection:
    code = soap.text(result, "ErrorCode") or soap.text(result, "StatusCode") or "Error"
    words = soap.text(result, "StatusMessage") or soap.text(result, "ErrorMessage") or "no reason given"
    return Rejection(key, code, redact(words))


def _properties(node: Element) -> dict[str, str | None]:
    """A row's columns; of other objects what they have directly."""
    there = soap.first(node, "Properties")
    if there is None:
        return soap.texts(node)
    return {said.get("Name") or "": said.get("Value") for said in map(soap.texts, there)}


def _is_true(value: str | None) -> bool:
    return (value or "").lower() in ("true", "1")


def _plain(kind: str, value: str) -> str:
    """A column's value in our form: dates as YYYY-MM-DD, numbers by their digits."""
    if kind == "Date":
        for form in ("%m/%d/%Y %I:%M:%S %p", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"):
            try:
                return datetime.strptime(value, form).date().isoformat()
            except ValueError:
                continue
    return value


CONNECTOR = Salesforce
