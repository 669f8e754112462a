"""Salesforce Marketing Cloud: one data extension and All Subscribers, by REST and the SOAP that the connector needs.

People are the rows of the data extension; All Subscribers are documents of their own, as either is there without the
other. Columns can't be made over the API: a new account has those of the sync document `sfmc` and one for each segment,
and `make_columns` adds others. Jobs are worked off at once and told of a little later, as a queue would.
"""

from __future__ import annotations

import re
import secrets
import string
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any, ClassVar, Literal
from xml.etree.ElementTree import Element

from activation import soap, sync
from activation.connector import Field
from activation.connectors.salesforce import EMAIL, KEY, NAMESPACE, PAGE, PLATFORM
from activation.connectors.salesforce import SANDBOX_EXTENSION as EXTENSION
from activation.platform import Platform
from activation.sandbox.part import Call, Endpoint, Part, ProblemError, Said, Unauthorised, is_same
from activation.sandbox.people import Person
from core.errors import PlanError
from core.settings import load_settings

LIFETIME = 1079  # seconds that a token says it is good for; it is, for twenty minutes
QUEUE = (0.05, 0.1)  # seconds until a job is picked up, and until it is through
_TYPES = {"text": "Text", "number": "Decimal", "date": "Date", "boolean": "Boolean"}
_EMAIL = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+\.[^@\s,;<>.]{2,}")
_STATES = {"Unsubscribed": "unsubscribed", "Held": "bounced"}
_XML = {"Content-Type": "text/xml; charset=utf-8"}


class RowError(Exception):
    """A row can't be saved."""


class SalesforcePart(Part):
    """One business unit.

    Attributes:
        deadlocks: how many of the next jobs end in a deadlock for every second row.
    """

    platform: ClassVar[Platform] = PLATFORM

    @staticmethod
    def make_secrets() -> dict[str, str]:
        letters = string.ascii_letters + string.digits
        return {
            "client_id": "".join(secrets.choice(letters.lower()) for _ in range(24)),
            "client_secret": "".join(secrets.choice(letters) for _ in range(24)),
        }

    def prepare(self) -> None:
        self.deadlocks = 0
        self._tokens: dict[str, float] = {}
        self._object_id = self.people.setting("object id", lambda: str(uuid.uuid4()))
        self._columns: dict[str, dict[str, Any]] = self.people.documents("column")
        self._add_columns([
            (KEY, "Text", {"length": 50, "isPrimaryKey": True, "isNullable": False}),
            (EMAIL, "EmailAddress", {"length": 254}),
        ])  # fmt: skip
        settings = load_settings()
        project = settings.project_dir / "dbt_project"
        # A document that can't be read is nothing that should keep the other platforms from being served.
        with suppress(PlanError):
            document = sync.read(settings, PLATFORM.name)
            segments = sorted(name for name in sync.segment_names(project) if document.takes(name))
            tags = [document.tag_of(name) for name in segments] + [
                document.start_tag_of(name) for name in document.automations
            ]
            self.make_columns(document.mapped_fields(sync.contract_columns(project)), tags)

    def make_columns(self, fields: Iterable[Field], tags: Iterable[str]) -> None:
        """Add columns, as a marketer does in Contact Builder; those that are there stay as they are."""
        made = [(field.name, _TYPES[field.type], {"length": 4000} if field.type == "text" else {}) for field in fields]
        self._add_columns([*made, *((tag, "Boolean", {}) for tag in tags)])

    def routes(self) -> Sequence[Endpoint]:
        items, values = _count("items"), _count("values")
        job, extension = "/rest/data/v1/async/{job}", "/rest/data/v1/async/dataextensions/{extension}/rows"
        delete = "/rest/contacts/v1/contacts/actions/delete"
        return [
            Endpoint("POST", "/auth/v2/token", self._token, kind=None, is_open=True),
            Endpoint("POST", "/rest/hub/v1/dataevents/{extension}/rowset", self._rowset, rows=len),
            Endpoint("PUT", extension, self._upsert, rows=items),
            Endpoint("POST", extension, self._insert, rows=items),
            Endpoint("GET", f"{job}/status", self._status, kind="read"),
            Endpoint("GET", f"{job}/results", self._results, kind="read"),
            Endpoint("GET", "/rest/data/v1/customobjects/{id}/fields", self._fields, kind="read"),
            Endpoint("POST", delete, self._delete_contacts, kind="erase", rows=values),
            Endpoint("GET", f"{delete}/status", self._operation, kind="read"),
            Endpoint("POST", "/soap/Service.asmx", self._soap, kind="archive"),
        ]

    # Tokens and errors.

    def _token(self, call: Call) -> Any:
        said = call.body if isinstance(call.body, dict) else {}
        is_ours = all(is_same(str(said.get(name)), self.secrets[name]) for name in ("client_id", "client_secret"))
        if said.get("grant_type") != "client_credentials" or not is_ours:
            words = "Invalid client ID. Use the client ID in Marketing Cloud Installed Packages."
            return Said(401, {"error": "invalid_client", "error_description": words, "error_uri": PLATFORM.documents})
        token = secrets.token_urlsafe(48)
        now = time.monotonic()
        self._tokens = {one: until for one, until in self._tokens.items() if until > now} | {token: now + 1200}
        return {"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME, "scope": "data_extensions_write"}

    def authenticate(self, call: Call) -> None:
        is_soap = call.path.startswith("/soap/")
        token = _token_in(call.raw) if is_soap else call.bearer
        if token is None:
            how: Unauthorised = "missing"
        elif token not in self._tokens:
            how = "wrong"
        elif self._tokens[token] <= time.monotonic():
            how = "expired"
        else:
            return
        problem = self.unauthorised(how)
        if is_soap:
            problem = ProblemError(500, "Token Expired" if how == "expired" else "Login Failed", soap=True)
        raise problem

    def expire(self) -> None:
        self._tokens = {}

    def problem(self, problem: ProblemError) -> Said:
        if problem.details.get("soap"):
            fault = f"<s:Fault>{soap.element('faultstring', problem.code)}</s:Fault>"
            return Said(
                problem.status, f'<s:Envelope xmlns:s="{soap.ENVELOPE}"><s:Body>{fault}</s:Body></s:Envelope>', _XML
            )
        body: dict[str, Any] = {"message": problem.words or problem.code, "errorcode": problem.details.get("number", 0)}
        return Said(problem.status, {**body, "documentation": ""})

    def unauthorised(self, how: Unauthorised) -> ProblemError:
        return ProblemError(403 if how == "revoked" else 401, "Not Authorized", "Not Authorized")

    def shuffled(self, body: Any) -> Any:
        """Results of a job are in the order of its rows, by the documents; everything else says what it is of."""
        if isinstance(body, dict) and "items" in body:
            return body
        if isinstance(body, str):
            pieces = re.split("(<Results.*?</Results>)", body, flags=re.DOTALL)
            results = pieces[1::2]
            pieces[1::2] = reversed(results)
            return "".join(pieces)
        return super().shuffled(body)

    # Rows.

    def _rowset(self, call: Call) -> Any:
        """Rows before the first that can't be saved are; nothing says which that was."""
        self._check_extension(call)
        if not isinstance(call.body, list) or not all(isinstance(row, dict) for row in call.body):
            raise ProblemError(400, "Bad Request", "The rowset must be an array.", number=10001)
        good: list[Mapping[str, Any]] = []
        words = None
        for row in call.body:
            keys, values = row.get("keys"), row.get("values", {})
            try:
                if not isinstance(keys, dict) or list(keys) != [KEY] or not isinstance(values, dict):
                    raise RowError("Primary key fields do not match the data extension's.")
                self._check({**values, **keys})
            except RowError as error:
                words = str(error)
                break
            good.append({**values, **keys})
        self._save(good)
        if words is None:
            return call.body
        more = [{"message": words, "errorcode": 10000, "documentation": ""}]
        said = f"Unable to save rows for data extension ID {self._object_id}"
        body = {"documentation": "", "errorcode": 10006, "message": said, "additionalErrors": more}
        return Said(400, body, refused=len(call.body) - len(good))

    def _upsert(self, call: Call) -> Any:
        return self._job(call, insert=False)

    def _insert(self, call: Call) -> Any:
        return self._job(call, insert=True)

    def _job(self, call: Call, *, insert: bool) -> Any:
        self._check_extension(call)
        rows = call.body.get("items") if isinstance(call.body, dict) else None
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            message = {
                "resultType": "Error",
                "resultClass": "Validation",
                "resultCode": "Invalid",
                "message": "No items.",
            }
            return Said(400, {"requestId": None, "resultMessages": [message]})
        is_deadlocked = self.deadlocks > 0
        self.deadlocks -= int(is_deadlocked)
        there = self.people.find(str(row.get(KEY)) for row in rows) if insert else {}
        good, results = list[Mapping[str, Any]](), list[dict[str, Any]]()
        for number, row in enumerate(rows):
            try:
                self._check(row)
                if str(row[KEY]) in there:
                    raise RowError("Violation of PRIMARY KEY constraint. Cannot insert duplicate key.")
                if is_deadlocked and number % 2:
                    raise RowError(
                        "Transaction (Process ID 64) was deadlocked on lock resources with another process and has been"
                        " chosen as the deadlock victim. Rerun the transaction."
                    )
            except RowError as error:
                results.append({"status": "Error", "message": str(error), "errorCode": 2})
            else:
                good.append(row)
                results.append({"status": "OK", "message": "", "errorCode": 0})
        self._save(good)
        job = str(uuid.uuid4())
        refused = len(rows) - len(good)
        # Results are kept only where they say anything; jobs of before are forgotten after an hour.
        now = time.time()
        kept = {"at": now, "rows": len(rows), "results": results if refused else None}
        self._forget_jobs(now)
        self.people.keep("job", {job: kept})
        return Said(202, {"requestId": job, "resultMessages": []}, refused=refused)

    def _status(self, call: Call) -> Any:
        job = self._job_of(call)
        if isinstance(job, Said):
            return job
        passed = time.time() - job["at"]
        said: dict[str, Any] = {"requestId": call.params["job"], "resultMessages": []}
        if passed < QUEUE[0]:
            return said
        is_done, failed = passed >= QUEUE[1], job["results"] is not None
        said["status"] = {
            "callDateTime": _moment(job["at"]),
            "pickupDateTime": _moment(job["at"] + QUEUE[0]),
            "completionDateTime": _moment(job["at"] + QUEUE[1]) if is_done else None,
            "hasErrors": is_done and failed,
            "requestStatus": "Complete" if is_done else "Executing",
            "resultStatus": "Has Errors" if is_done and failed else "OK",
            "requestId": call.params["job"],
        }
        return said

    def _results(self, call: Call) -> Any:
        job = self._job_of(call)
        if isinstance(job, Said):
            return job
        page, size = int(call.query.get("$page", 1)), int(call.query.get("$pagesize", 50))
        fine = [{"status": "OK", "message": "", "errorCode": 0}] * job["rows"]
        items = (job["results"] or fine)[(page - 1) * size : page * size]
        return {
            "page": page, "pageSize": size, "count": job["rows"], "items": items, "requestId": call.params["job"],
            "resultMessages": [],
        }  # fmt: skip

    def _job_of(self, call: Call) -> Any:
        job = self.people.document("job", call.params["job"])
        if job is None:
            words = "RequestId not found"
            message = {"resultType": "Error", "resultClass": "Validation", "resultCode": "NotFound", "message": words}
            return Said(200, {"requestId": call.params["job"], "resultMessages": [message]})
        return job

    def _forget_jobs(self, now: float) -> None:
        for job, said in self.people.documents("job").items() if secrets.randbelow(100) == 0 else ():
            if said["at"] < now - 3600:
                self.people.drop("job", job)

    def _fields(self, call: Call) -> Any:
        if call.params["id"] != self._object_id:
            raise ProblemError(404, "Not Found", "The data extension was not found.")
        self._columns = self.people.documents("column")
        return {"id": self._object_id, "fields": list(self._columns.values())}

    def _check_extension(self, call: Call) -> None:
        if call.params["extension"] not in (f"key:{EXTENSION}", self._object_id):
            raise ProblemError(404, "Not Found", "The data extension was not found.")
        # Another process may have made some.
        self._columns = self.people.documents("column")

    def _check(self, row: Mapping[str, Any]) -> None:
        """Raise `RowError` unless a row fits the columns."""
        if not str(row.get(KEY) or ""):
            raise RowError(f"The column {KEY} does not allow nulls.")
        for name, value in row.items():
            column = self._columns.get(name)
            if column is None:
                raise RowError(f"Invalid column name '{name}'.")
            if value is not None and not _fits(column, value):
                raise RowError(f"Unable to convert or store the value of column {name} ({column['type']}).")

    def _save(self, rows: Iterable[Mapping[str, Any]]) -> None:
        rows = list(rows)
        keys = [str(row[KEY]) for row in rows]
        there = self.people.find(keys)
        now = self.clock.now()
        for key, row in zip(keys, rows, strict=True):
            person = there.get(key)
            if person is None:
                person = there[key] = Person(key, made_at=now)
                subscriber = self.people.document("subscriber", key)
                person.state = _STATES.get(subscriber["status"], "subscribed") if subscriber else "subscribed"
                person.left_by = subscriber and subscriber.get("left_by")
            for name, value in row.items():
                if name == EMAIL:
                    person.email = value
                elif name != KEY and value is None:
                    person.fields.pop(name, None)
                elif name != KEY:
                    person.fields[name] = value
            person.changed_at = now
        self.people.save(there.values())

    def _add_columns(self, columns: Iterable[tuple[str, str, Mapping[str, Any]]]) -> None:
        made: dict[str, dict[str, Any]] = {}
        for name, kind, said in columns:
            if name not in self._columns and name not in made:
                ordinal = len(self._columns) + len(made)
                made[name] = {
                    "id": str(uuid.uuid4()), "name": name, "type": kind, "ordinal": ordinal, "isNullable": True,
                    "isPrimaryKey": False, **said,
                }  # fmt: skip
        if made:
            self.people.keep("column", made)
            self._columns |= made

    # Contacts and subscribers.

    def _delete_contacts(self, call: Call) -> Any:
        keys = call.body.get("values") if isinstance(call.body, dict) else None
        if call.query.get("type") != "keys" or not isinstance(keys, list) or not keys:
            raise ProblemError(400, "Bad Request", "Contact keys are required.", number=10001)
        self.people.delete([str(key) for key in keys], forget=True)
        for key in keys:
            self.people.drop("subscriber", str(key))
        operation = secrets.randbelow(10**8) + 1
        self.people.keep("operation", {str(operation): {"at": time.time()}})
        return {"operationID": operation, "operationInitiated": True, "hasErrors": False, "resultMessages": []}

    def _operation(self, call: Call) -> Any:
        operation = self.people.document("operation", call.query.get("operationID", ""))
        if operation is None:
            raise ProblemError(404, "Not Found", "There is no such operation.")
        status = "Completed" if time.time() - operation["at"] >= QUEUE[1] else "Processing"
        return {"operation": {"operationID": int(call.query["operationID"]), "status": status}}

    def leave(self, key: str, how: Literal["unsubscribe", "bounce"]) -> bool:
        """What the contact does counts in All Subscribers."""
        person = self.people.find([key]).get(key)
        if person is None:
            return False
        status, by = {"unsubscribe": ("Unsubscribed", "contact"), "bounce": ("Held", "bounce")}[how]
        with self.people.change():
            self.people.keep("subscriber", {key: {"email": person.email, "status": status, "left_by": by}})
            return self.people.leave(key, how)

    # SOAP.

    def _soap(self, call: Call) -> Any:
        try:
            request = soap.body_of(soap.parse(call.raw.decode()))
        except ValueError:
            raise ProblemError(500, "The request is no SOAP envelope.", soap=True) from None
        match soap.local(request):
            case "RetrieveRequestMsg":
                return self._retrieve(soap.first(request, "RetrieveRequest"))
            case "CreateRequest":
                return self._results_of("Create", list(soap.children(request, "Objects")), self._create_subscriber)
            case "DeleteRequest":
                return self._results_of("Delete", list(soap.children(request, "Objects")), self._delete_row)
        raise ProblemError(500, "This call is not known here.", soap=True)

    def _results_of(self, name: str, objects: Sequence[Element], handle: Any) -> Said:
        said, failed = [], 0
        for ordinal, found in enumerate(objects):
            words = handle(found)
            failed += words is not None
            code = "<StatusCode>OK</StatusCode>" if words is None else "<StatusCode>Error</StatusCode>"
            more = soap.element("StatusMessage", words or "Done") + (
                "" if words is None else "<ErrorCode>2</ErrorCode>"
            )
            said.append(f"<Results>{code}{more}<OrdinalID>{ordinal}</OrdinalID></Results>")
        status = "OK" if not failed else "Error" if failed == len(objects) else "Has Errors"
        body = f"{''.join(said)}<RequestID>{uuid.uuid4()}</RequestID><OverallStatus>{status}</OverallStatus>"
        return Said(200, _envelope(f"{name}Response", body), _XML, refused=failed)

    def _create_subscriber(self, found: Element) -> str | None:
        key, email, status = (soap.text(found, name) for name in (KEY, EMAIL, "Status"))
        if found.get(soap.TYPE) != "Subscriber" or not key or not email or not _EMAIL.fullmatch(email):
            return "The subscriber's key or address is missing or invalid."
        self.people.keep("subscriber", {key: {"email": email, "status": status or "Active", "left_by": "api"}})
        for person in self.people.find([key]).values():
            person.state = _STATES.get(status or "", "subscribed")
            person.left_by, person.changed_at = "api", self.clock.now()
            self.people.save([person])
        return None

    def _delete_row(self, found: Element) -> str | None:
        key = soap.text(found, "Keys", "Key", "Value")
        if soap.text(found, "CustomerKey") != EXTENSION or soap.text(found, "Keys", "Key", "Name") != KEY or not key:
            return "The data extension or its key is not known."
        return None if self.people.delete([key]) else "The row was not found."

    def _retrieve(self, request: Element | None) -> Said:
        if request is None:
            raise ProblemError(500, "The request is empty.", soap=True)
        asked = soap.text(request, "ContinueRequest")
        if asked is None:
            state: Any = {
                "kind": soap.text(request, "ObjectType") or "",
                "properties": [node.text or "" for node in soap.children(request, "Properties")],
                "filter": _filter_of(soap.first(request, "Filter")),
                "offset": 0,
            }
        elif (state := self.people.document("retrieve", asked)) is None:
            return _retrieved("Error: the request to continue is not known", "", [])
        operator, values = (state["filter"] or ["", "", []])[1:]
        if operator == "IN" and len(values) < 2:
            return _retrieved("Error: IN needs more than one value", "", [])
        found = self._page(state)
        number = asked or str(uuid.uuid4())
        if len(found) < PAGE:
            self.people.drop("retrieve", number)
            return _retrieved("OK", number, found)
        # The next page comes next, whether or not this one arrives.
        self.people.keep("retrieve", {number: {**state, "offset": state["offset"] + PAGE}})
        return _retrieved("MoreDataAvailable", number, found)

    def _page(self, state: Mapping[str, Any]) -> list[str]:
        kind, offset, said = state["kind"], state["offset"], state["filter"]
        if kind == "DataExtension":
            if said is None or said[2] != [EXTENSION]:
                return []
            return [f'<Results xsi:type="DataExtension">{soap.element("ObjectID", self._object_id)}</Results>']
        if kind == f"DataExtensionObject[{EXTENSION}]":
            if said is None:
                people = self.people.page(PAGE, offset)
            else:
                people = list(self.people.find(said[2]).values())[offset : offset + PAGE]
            return [_row(person, state["properties"]) for person in people]
        if kind == "Subscriber":
            subscribers = {
                key: found
                for key, found in self.people.documents("subscriber").items()
                if said is None or _holds(said, key, found)
            }
            return [_subscriber(key, found) for key, found in list(subscribers.items())[offset : offset + PAGE]]
        return []


def _count(name: str) -> Any:
    def rows(body: Any) -> int:
        found = body.get(name) if isinstance(body, dict) else None
        return len(found) if isinstance(found, list) else 0

    return rows


def _token_in(raw: bytes) -> str | None:
    """The token in an envelope's header."""
    try:
        return soap.text(soap.parse(raw.decode()), "Header", "fueloauth")
    except ValueError:
        return None


def _fits(column: Mapping[str, Any], value: Any) -> bool:
    match column["type"]:
        case "Boolean":
            return isinstance(value, bool) or str(value).lower() in ("true", "false", "0", "1")
        case "Number" | "Decimal":
            return not isinstance(value, bool) and re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", str(value)) is not None
        case "Date":
            try:
                date.fromisoformat(str(value)[:10])
            except ValueError:
                return False
            return True
        case "EmailAddress":
            return len(str(value)) <= 254 and _EMAIL.fullmatch(str(value)) is not None
        case _:
            return isinstance(value, str) and len(value) <= column.get("length", 50)


def _filter_of(node: Element | None) -> list[Any] | None:
    if node is None:
        return None
    values = [value.text or "" for value in soap.children(node, "Value")]
    return [soap.text(node, "Property"), soap.text(node, "SimpleOperator"), values]


def _holds(said: Sequence[Any], key: str, subscriber: Mapping[str, Any]) -> bool:
    name, operator, values = said
    is_among: bool = (key if name == KEY else subscriber["status"]) in values
    return is_among if operator != "notEquals" else not is_among


def _row(person: Person, properties: Sequence[str]) -> str:
    values = {**person.fields, KEY: person.key, EMAIL: person.email}
    said = "".join(
        f"<Property>{soap.element('Name', name)}{_value(values.get(name))}</Property>" for name in properties
    )
    return f'<Results xsi:type="DataExtensionObject"><Properties>{said}</Properties></Results>'


def _value(value: Any) -> str:
    if value is None:
        return '<Value xsi:nil="true"/>'
    return soap.element("Value", str(value))


def _subscriber(key: str, found: Mapping[str, Any]) -> str:
    said = soap.element(EMAIL, found["email"] or "") + soap.element(KEY, key) + soap.element("Status", found["status"])
    return f'<Results xsi:type="Subscriber">{said}</Results>'


def _retrieved(status: str, number: str, results: Sequence[str]) -> Said:
    body = f"{soap.element('OverallStatus', status)}{soap.element('RequestID', number)}{''.join(results)}"
    return Said(200, _envelope("RetrieveResponseMsg", body), _XML)


def _envelope(name: str, body: str) -> str:
    return (
        f'<s:Envelope xmlns:s="{soap.ENVELOPE}"><s:Body xmlns:xsi="{soap.INSTANCE}">'
        f'<{name} xmlns="{NAMESPACE}">{body}</{name}></s:Body></s:Envelope>'
    )


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")


PART = SalesforcePart
