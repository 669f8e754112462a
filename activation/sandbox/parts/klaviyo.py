"""Klaviyo's part of the sandbox: profiles, import jobs with their errors, suppressions that an import never lifts."""

from __future__ import annotations

import re
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import urlencode
from uuid import uuid4

import orjson

from activation.connector import key_of
from activation.connectors.klaviyo import PLATFORM
from activation.platform import Platform
from activation.sandbox.part import Call, Endpoint, Part, ProblemError, Said, Unauthorised, is_same, marks_of
from activation.sandbox.people import Person
from activation.sandbox.specification import shipped

_EMAIL = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+\.[^@\s,;<>.]{2,}")
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_FILTER = re.compile(r"(any|equals)\((email|id),(.*)\)", re.DOTALL)
_LARGEST_PROFILE = 100_000
_MEDIA_TYPES = ("application/vnd.api+json", "application/json")
_REASONS = {"contact": "UNSUBSCRIBE", "bounce": "HARD_BOUNCE", "api": "UNSUBSCRIBE"}
# What an unsubscription and a subscription may hold.
_MOST_UNSUBSCRIBED, _MOST_SUBSCRIBED = 100, 1_000


class KlaviyoPart(Part):
    """One account.

    A profile's key is the hash of its address; its id is made of the first address that it had, and stays.

    Attributes:
        job_seconds: how long an import is said to take.
    """

    platform: ClassVar[Platform] = PLATFORM
    document: ClassVar[str | None] = "klaviyo/profiles.json"
    job_seconds = 0.05

    @staticmethod
    def make_secrets() -> dict[str, str]:
        return {"api_key": f"pk_{secrets.token_hex(17)}"}

    def prepare(self) -> None:
        self.privacy = shipped("klaviyo/data_privacy.json")

    def routes(self) -> Sequence[Endpoint]:
        def profiles(body: Any) -> int:
            try:
                return len(body["data"]["attributes"]["profiles"]["data"])
            except (KeyError, TypeError):
                return 0

        jobs = "/api/profile-bulk-import-jobs"
        subscriptions = "/api/profile-subscription-bulk"
        return [
            Endpoint("GET", "/api/profiles", self._list, kind="read"),
            Endpoint("PATCH", "/api/profiles/{id}", self._update, kind="rekey", rows=lambda body: 1),
            Endpoint("POST", "/api/profile-import", self._import_one, kind="profile", rows=lambda body: 1),
            Endpoint("POST", "/api/profile-merge", self._merge, kind="merge", rows=lambda body: 1),
            Endpoint("POST", jobs, self._import, kind="contacts", rows=profiles),
            Endpoint("GET", f"{jobs}/{{job_id}}", self._job, kind="job"),
            Endpoint("GET", f"{jobs}/{{id}}/import-errors", self._import_errors, kind="errors"),
            Endpoint("POST", f"{subscriptions}-delete-jobs", self._unsubscribe, kind="unsubscribe", rows=profiles),
            Endpoint("POST", f"{subscriptions}-create-jobs", self._subscribe, kind="unsubscribe", rows=profiles),
            Endpoint("POST", "/api/data-privacy-deletion-jobs", self._delete, kind="erase", rows=lambda body: 1),
        ]

    def authenticate(self, call: Call) -> None:
        scheme, _, key = call.headers.get("authorization", "").partition(" ")
        if scheme != "Klaviyo-API-Key":
            raise self.unauthorised("missing")
        if not is_same(key, self.secrets["api_key"]):
            raise self.unauthorised("wrong")
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}(\.\w+)?", call.headers.get("revision", "")):
            raise ProblemError(400, "invalid", "A valid revision header is required.")
        media_type = call.headers.get("content-type", "").partition(";")[0].strip()
        if call.raw and media_type not in _MEDIA_TYPES:
            raise ProblemError(415, "unsupported_media_type", f"Unsupported media type {media_type}.")

    def unauthorised(self, how: Unauthorised) -> ProblemError:
        if how == "missing":
            return ProblemError(401, "not_authenticated", "Authentication credentials were not provided.")
        return ProblemError(401, "authentication_failed", "Incorrect authentication credentials.")

    def invalid(self, where: str, words: str) -> ProblemError:
        return ProblemError(400, "invalid", words, pointer="/" + where.replace(".", "/"))

    def problem(self, problem: ProblemError) -> Said:
        title = {401: "Authentication failed.", 404: "Not found.", 409: "Conflict.", 429: "Throttled."}
        error = {
            "id": str(uuid4()),
            "status": problem.status,
            "code": {429: "throttled"}.get(problem.status, problem.code.lower().replace(" ", "_")),
            "title": title.get(problem.status, "Invalid input." if problem.status < 500 else "Server error."),
            "detail": problem.words or problem.code,
            "source": {"pointer": problem.details.get("pointer", "/data")},
        }
        if "meta" in problem.details:
            error["meta"] = problem.details["meta"]
        return Said(problem.status, {"errors": [error]})

    def limit_headers(self, most: int, left: int, reset_after: float) -> Mapping[str, str]:
        # Of the steady window; an answer 429 says how long to wait instead.
        return {
            "RateLimit-Limit": str(most),
            "RateLimit-Remaining": str(left),
            "RateLimit-Reset": str(int(reset_after) + 1),
        }

    def validate(self, call: Call, endpoint: Endpoint) -> None:
        if call.raw and self.privacy.knows(endpoint.method, endpoint.path):
            if (found := self.privacy.first_error(call.method, endpoint.path, call.body)) is not None:
                raise self.invalid(*found)
        else:
            super().validate(call, endpoint)

    def memberships(self, people: Sequence[Person]) -> dict[str, list[str]]:
        return {
            person.key: marks_of(
                {name: True for name, value in person.fields.items() if value is True}, PLATFORM.tag_prefix
            )
            for person in people
        }

    def fields_of(self, person: Person) -> Mapping[str, Any]:
        return {name: value for name, value in person.fields.items() if not name.startswith("_")}

    # Imports.

    def _import(self, call: Call) -> Said:
        limit = PLATFORM.limit("contacts")
        if len(call.raw) > (limit.body_bytes or 0):
            raise ProblemError(413, "payload_too_large", "The maximum allowed payload size is 5MB.")
        profiles = call.body["data"]["attributes"]["profiles"]["data"]
        if not 0 < len(profiles) <= limit.batch:
            raise self.invalid("data.attributes.profiles.data", "An import holds from 1 to 10,000 profiles.")
        errors: list[dict[str, Any]] = []
        good: list[Mapping[str, Any]] = []
        for index, profile in enumerate(profiles):
            found = _wrong(profile)
            if found is None:
                good.append(profile)
                continue
            name, words = found
            errors.append(
                {
                    "type": "import-error",
                    "id": f"{len(errors)}",
                    "attributes": {
                        "code": "invalid",
                        "title": "Invalid input.",
                        "detail": words,
                        "source": {"pointer": f"/data/attributes/profiles/data/{index}/attributes/{name}"},
                        "original_payload": profile.get("attributes") or {},
                    },
                }
            )
        self._upsert(good, clears=False)
        job = urlsafe_b64encode(secrets.token_bytes(15)).decode()
        kept = {
            "total": len(profiles), "failed": len(errors), "errors": errors, "at": self.clock.now(), "taken_at": time.time(),
        }  # fmt: skip
        self.people.keep("job", {job: kept})
        said = self._job_document(job, kept, call)
        return Said(202, said, refused=len(errors))

    def _job(self, call: Call) -> Any:
        return self._job_document(call.params["job_id"], self._kept(call.params["job_id"]), call)

    def _kept(self, job: str) -> Any:
        kept = self.people.document("job", job)
        if kept is None:
            raise ProblemError(404, "not_found", f"A job with id {job} does not exist.")
        return kept

    def _job_document(self, job: str, kept: Mapping[str, Any], call: Call) -> dict[str, Any]:
        # An import is done when it is taken in, and said to be done later: nobody may rely on either.
        # The true time, as a skewed clock is wrong in what it says only.
        passed = time.time() - kept["taken_at"]
        status = (
            "complete" if passed >= self.job_seconds else "processing" if passed > self.job_seconds / 2 else "queued"
        )
        is_done = status == "complete"
        path = f"/api/profile-bulk-import-jobs/{job}"
        attributes = {
            "status": status,
            "created_at": _instant(kept["at"]),
            "total_count": kept["total"],
            "completed_count": kept["total"] - kept["failed"] if is_done else 0,
            "failed_count": kept["failed"] if is_done else 0,
            "started_at": None if status == "queued" else _instant(kept["at"]),
            "completed_at": _instant(kept["at"] + self.job_seconds) if is_done else None,
            "expires_at": _instant(kept["at"] + 7 * 86_400),
        }
        links = {"self": _link(call, path)}
        document = {"type": "profile-bulk-import-job", "id": job, "attributes": attributes, "links": links}
        return {"data": document, "links": links}

    def _import_errors(self, call: Call) -> Any:
        errors = self._kept(call.params["id"])["errors"]
        return _page(call, lambda count, offset: errors[offset : offset + count])

    def _import_one(self, call: Call) -> Said:
        profile = call.body["data"]
        if (found := _wrong(profile)) is not None:
            raise self.invalid(f"data.attributes.{found[0]}", found[1])
        made = self._upsert([profile], clears=True)
        person = self._by_identity([profile])[0]
        assert person is not None
        return Said(201 if made else 200, {"data": self._document(person, call)})

    def _upsert(self, profiles: Sequence[Mapping[str, Any]], *, clears: bool) -> int:
        """Create and update. `clears`: null empties a field, which an import passes over. Returns how many are new."""
        now = self.clock.now()
        known = dict(zip((id(profile) for profile in profiles), self._by_identity(profiles), strict=True))
        changed: dict[str, Person] = {}
        made = 0
        for profile in profiles:
            attributes = profile.get("attributes") or {}
            person = known[id(profile)]
            if person is None:
                if (email := attributes.get("email")) is None:
                    continue  # An id that nobody has.
                key = key_of("email", email, "")
                person = changed.get(key)
                if person is None:
                    made += 1
                    person = Person(key, email, fields=self._identity(key), made_at=now)
            person = changed.setdefault(person.key, person)
            person.changed_at = now
            _write(person.fields, attributes, clears=clears)
            patch = ((profile.get("meta") or {}).get("patch_properties")) or {}
            unset = patch.get("unset") or []
            for name in [unset] if isinstance(unset, str) else unset:
                person.fields.pop(name, None)
        self.people.save(changed.values())
        return made

    def _identity(self, key: str) -> dict[str, Any]:
        """The hidden field of a new profile whose own id another one, which moved to another address, has already."""
        return (
            {} if self.people.document("id", _id_of(key)) is None else self._move(f"{secrets.randbits(128):032x}", key)
        )

    def _move(self, first_key: str, key: str) -> dict[str, Any]:
        self.people.keep("id", {_id_of(first_key): key})
        return {"_id": _id_of(first_key)}

    def _by_identity(self, profiles: Sequence[Mapping[str, Any]]) -> list[Person | None]:
        """Who each profile is, by its id, else by its address."""
        ids = {str(profile["id"]) for profile in profiles if profile.get("id")}
        by_id = self._by_ids(ids)
        emails = {
            str(email)
            for profile in profiles
            if not profile.get("id") and (email := (profile.get("attributes") or {}).get("email"))
        }
        by_key = self.people.find(key_of("email", email, "") for email in emails)
        return [
            by_id.get(str(profile["id"]))
            if profile.get("id")
            else by_key.get(key_of("email", str((profile.get("attributes") or {}).get("email")), ""))
            for profile in profiles
        ]

    def _by_ids(self, ids: Iterable[str]) -> dict[str, Person]:
        keys = {id: self.people.document("id", id) or _key_of_id(id) for id in ids}
        people = self.people.find(key for key in keys.values() if key is not None)
        found = {id: people[key] for id, key in keys.items() if key in people}
        return {id: person for id, person in found.items() if _id(person) == id}

    # Profiles.

    def _list(self, call: Call) -> Any:
        if "filter" in call.query:
            found = _FILTER.fullmatch(call.query["filter"])
            try:
                values = orjson.loads(found[3]) if found else None
            except ValueError:
                values = None
            values = [values] if isinstance(values, str) else values
            if found is None or not isinstance(values, list):
                raise ProblemError(400, "invalid", "Invalid filter provided.", pointer="filter")
            if found[2] == "id":
                people = list(self._by_ids(str(value) for value in values).values())
            else:
                people = list(self.people.find(key_of("email", str(value), "") for value in values).values())
            people.sort(key=lambda person: person.number)
            said = _page(call, lambda count, offset: people[offset : offset + count])
        else:
            said = _page(call, lambda count, offset: self.people.page(count, offset))
        said["data"] = [self._document(person, call) for person in said["data"]]
        return said

    def _document(self, person: Person, call: Call) -> dict[str, Any]:
        attributes: dict[str, Any] = {"email": person.email, "properties": {}, "location": {}}
        for name, value in self.fields_of(person).items():
            outer, _, inner = name.partition(".")
            if outer == "location":
                attributes["location"][inner] = value
            elif name in PLATFORM.fields.standard:
                attributes[name] = value
            else:
                attributes["properties"][name] = value
        attributes |= {"created": _instant(person.made_at), "updated": _instant(person.changed_at)}
        wanted = call.query.get("fields[profile]")
        if wanted is not None:
            attributes = {name: value for name, value in attributes.items() if name in wanted.split(",")}
        if "subscriptions" in call.query.get("additional-fields[profile]", ""):
            attributes["subscriptions"] = {"email": {"marketing": _marketing(person)}}
        links = {"self": _link(call, f"/api/profiles/{_id(person)}")}
        return {"type": "profile", "id": _id(person), "attributes": attributes, "links": links}

    def _update(self, call: Call) -> Any:
        profile = call.body["data"]
        person = self._by_ids([call.params["id"]]).get(call.params["id"])
        if person is None:
            raise ProblemError(404, "not_found", f"A profile with id {call.params['id']} does not exist.")
        attributes = profile.get("attributes") or {}
        email = attributes.get("email")
        if email is not None and not _EMAIL.fullmatch(email):
            raise self.invalid("data.attributes.email", "Invalid email address")
        if email is not None and email.lower() != (person.email or "").lower():
            key = key_of("email", email, "")
            if there := self.people.find([key]).get(key):
                raise ProblemError(
                    409,
                    "duplicate_profile",
                    "A profile already exists with one of these identifiers.",
                    pointer="/data/attributes",
                    meta={"duplicate_profile_id": _id(there)},
                )
            first = _key_of_id(_id(person))
            self.people.rekey(person.key, key, email)
            person = self.people.find([key])[key]
            person.fields |= self._move(str(first), key)
        _write(person.fields, attributes, clears=True)
        person.changed_at = self.clock.now()
        self.people.save([person])
        return {"data": self._document(person, call)}

    def _merge(self, call: Call) -> Said:
        sources = call.body["data"]["relationships"]["profiles"]["data"]
        if len(sources) != 1:
            raise self.invalid("data.relationships.profiles.data", "Exactly one source profile is accepted.")
        target, source = str(call.body["data"]["id"]), str(sources[0]["id"])
        people = self._by_ids([target, source])
        if target not in people or source not in people or target == source:
            raise ProblemError(404, "not_found", "A profile to merge does not exist.")
        kept, gone = people[target], people[source]
        kept.fields = {**self.fields_of(gone), **kept.fields}
        kept.changed_at = self.clock.now()
        self._drop([gone])
        self.people.save([kept])
        links = {"self": _link(call, f"/api/profiles/{target}")}
        return Said(201, {"data": {"type": "profile", "id": target, "links": links}, "links": links})

    def _delete(self, call: Call) -> Said:
        profile = call.body["data"]["attributes"]["profile"]["data"]
        attributes = profile.get("attributes") or {}
        said = [
            value for value in (profile.get("id"), attributes.get("email"), attributes.get("phone_number")) if value
        ]
        if len(said) != 1:
            raise self.invalid("data.attributes.profile.data", "Exactly one of email, phone_number or id is required.")
        if (person := self._by_identity([profile])[0]) is not None:
            self._drop([person])
        return Said(202, None)

    def _drop(self, people: Sequence[Person]) -> None:
        self.people.delete([person.key for person in people])
        for person in people:
            self.people.drop("id", _id(person))

    # Consent.

    def _unsubscribe(self, call: Call) -> Said:
        # Whoever is not in the list that is named is unsubscribed from everything; no lists are kept here.
        people = self._named(call, _MOST_UNSUBSCRIBED)
        for person in people:
            if person.state == "subscribed":
                person.state, person.left_by, person.changed_at = "unsubscribed", "api", self.clock.now()
        self.people.save(people)
        return Said(202, None)

    def _subscribe(self, call: Call) -> Said:
        # As published it lifts what an unsubscription or a complaint set; a bounce stays.
        people = self._named(call, _MOST_SUBSCRIBED)
        for person in people:
            if person.state != "bounced":
                person.state, person.left_by, person.changed_at = "subscribed", None, self.clock.now()
                person.fields["_consent"] = "SUBSCRIBED"
        self.people.save(people)
        return Said(202, None)

    def _named(self, call: Call, most: int) -> list[Person]:
        profiles = call.body["data"]["attributes"]["profiles"]["data"]
        if not 0 < len(profiles) <= most:
            raise self.invalid("data.attributes.profiles.data", f"From 1 to {most} profiles are accepted.")
        found = {person.key: person for person in self._by_identity(profiles) if person is not None}
        return list(found.values())


def _wrong(profile: Mapping[str, Any]) -> tuple[str, str] | None:
    """Which attribute of a profile is refused, and why."""
    attributes = profile.get("attributes") or {}
    email = attributes.get("email")
    if email is not None and not (isinstance(email, str) and _EMAIL.fullmatch(email)):
        return "email", "Invalid email address"
    if not profile.get("id") and not any(attributes.get(name) for name in ("email", "phone_number", "external_id")):
        return "email", "One of email, phone_number, external_id or id is required."
    if len(orjson.dumps(profile)) > _LARGEST_PROFILE:
        return "properties", "The maximum allowed payload size of a profile is 100KB."
    return None


def _write(fields: dict[str, Any], attributes: Mapping[str, Any], *, clears: bool) -> None:
    values = {name: attributes[name] for name in PLATFORM.fields.standard if name in attributes}
    values |= {f"location.{name}": value for name, value in (attributes.get("location") or {}).items()}
    values |= attributes.get("properties") or {}
    for name, value in values.items():
        if value is not None:
            fields[name] = value
        elif clears:
            fields.pop(name, None)


def _marketing(person: Person) -> dict[str, Any]:
    is_subscribed = person.state == "subscribed"
    consent = person.fields.get("_consent", "NEVER_SUBSCRIBED") if person.state != "unsubscribed" else "UNSUBSCRIBED"
    reason = _REASONS.get(person.left_by or "api", "USER_SUPPRESSED")
    suppression = [] if is_subscribed else [{"reason": reason, "timestamp": _instant(person.changed_at)}]
    return {
        "can_receive_email_marketing": is_subscribed,
        "consent": consent,
        "suppression": suppression,
        "list_suppressions": [],
    }


def _id_of(key: str) -> str:
    """A hash in the form of Klaviyo's ids: 26 letters and digits."""
    number = int(key, 16)
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


def _key_of_id(id: str) -> str | None:
    """The hash that an id was made of; None for one that never was."""
    number = 0
    for letter in id:
        if (at := _ALPHABET.find(letter)) < 0:
            return None
        number = number << 5 | at
    return f"{number:032x}" if len(id) == 26 else None


def _id(person: Person) -> str:
    return str(person.fields.get("_id") or _id_of(person.key))


def _page(call: Call, read: Callable[[int, int], Sequence[Any]]) -> dict[str, Any]:
    """A page with the link to the next; its cursor is the number of those before."""
    try:
        count = int(call.query.get("page[size]", 20))
        offset = int(urlsafe_b64decode(call.query["page[cursor]"])) if "page[cursor]" in call.query else 0
    except ValueError:
        raise ProblemError(400, "invalid", "Invalid page.", pointer="page") from None
    if not 1 <= count <= 100:
        raise ProblemError(400, "invalid", "The page size must be from 1 to 100.", pointer="page[size]")
    found = list(read(count + 1, offset))
    links = {"self": _link(call, call.path)}
    if len(found) > count:
        cursor = urlsafe_b64encode(str(offset + count).encode()).decode()
        links["next"] = f"{links['self']}?{urlencode({**call.query, 'page[cursor]': cursor})}"
    return {"data": found[:count], "links": links}


def _link(call: Call, path: str) -> str:
    return f"http://{call.headers.get('host', 'localhost')}/{PLATFORM.name}{path}"


def _instant(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


PART = KlaviyoPart
