"""Braze's part of the sandbox: users by external id, subscription by address, lists of those who left.

Unlike elsewhere the API may bring an address back that unsubscribed: whoever writes `subscribed` does it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal

from activation.connectors.braze import PLATFORM
from activation.platform import Platform
from activation.sandbox.part import Call, Endpoint, Part, ProblemError, Said, Unauthorised, is_same
from activation.sandbox.people import Person

_EMAIL = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+\.[^@\s,;<>.]{2,}")
_IDENTIFIERS = ("external_id", "braze_id", "user_alias", "email", "phone")
_STATES = ("subscribed", "unsubscribed", "opted_in")
_OURS = ("external_id", "braze_id", "user_alias", "_update_existing_only", "email_subscribe")
_LIST_LIMIT = 500
# Profile fields; everything else is a custom attribute.
_PROFILE = (
    "first_name", "last_name", "country", "dob", "gender", "home_city", "language", "phone", "time_zone",
)  # fmt: skip
NO_IDENTIFIER = "'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required"
NO_VALID_DATA = "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields."


class BrazePart(Part):
    """One workspace.

    Attributes:
        is_in_maintenance: calls of /users/track are queued: answered 202 without saying anything of rows.
    """

    platform: ClassVar[Platform] = PLATFORM
    is_in_maintenance = False

    @staticmethod
    def make_secrets() -> dict[str, str]:
        return {"api_key": "-".join(secrets.token_hex(size) for size in (4, 2, 2, 2, 6))}

    def routes(self) -> Sequence[Endpoint]:
        def many(name: str) -> Any:
            return lambda body: len(body.get(name) or ()) if isinstance(body, dict) else 0

        # As published, /users/merge and /users/delete share a limit, and so do those of external ids.
        return [
            Endpoint("POST", "/users/track", self._track, kind="contacts", rows=many("attributes")),
            Endpoint("POST", "/users/delete", self._delete, kind="erase", rows=many("external_ids")),
            Endpoint("POST", "/users/merge", self._merge, kind="erase", rows=many("merge_updates")),
            Endpoint(
                "POST", "/users/external_ids/rename", self._rename, kind="rekey", rows=many("external_id_renames")
            ),
            Endpoint("POST", "/users/external_ids/remove", self._remove, kind="rekey", rows=many("external_ids")),
            Endpoint("POST", "/users/export/ids", self._export, kind="read", rows=many("external_ids")),
            Endpoint("POST", "/email/status", self._set_status, kind="left"),
            Endpoint("GET", "/email/unsubscribes", self._unsubscribes, kind="left"),
            Endpoint("GET", "/email/hard_bounces", self._hard_bounces, kind="left"),
        ]

    def authenticate(self, call: Call) -> None:
        if call.bearer is None:
            raise self.unauthorised("missing")
        if not is_same(call.bearer, self.secrets["api_key"]):
            raise self.unauthorised("wrong")

    def unauthorised(self, how: Unauthorised) -> ProblemError:
        return ProblemError(401, "Unauthorized", "Invalid API key" if how != "missing" else "API key is required")

    def problem(self, problem: ProblemError) -> Said:
        return Said(problem.status, {"message": problem.words or problem.code, **problem.details})

    def limit_headers(self, most: int, left: int, reset_after: float) -> Mapping[str, str]:
        reset = int(self.clock.now() + reset_after) + 1
        return {"X-RateLimit-Limit": str(most), "X-RateLimit-Remaining": str(left), "X-RateLimit-Reset": str(reset)}

    def too_many(self, retry_after: float, limit: str) -> Said:
        said = self.problem(ProblemError(429, "Rate Limited", f"Rate limited: {limit}"))
        return Said(said.status, said.body, self.limit_headers(0, 0, retry_after))

    def leave(self, key: str, how: Literal["unsubscribe", "bounce"]) -> bool:
        with self.people.change():
            person = self.people.find([key]).get(key)
            if person is None or person.email is None:
                return self.people.leave(key, how)
            self._set_state(person.email, "unsubscribed" if how == "unsubscribe" else "bounced", "contact")
            return True

    def fields_of(self, person: Person) -> Mapping[str, Any]:
        return {"email": person.email, **person.fields}

    # Users.

    def _track(self, call: Call) -> Said:
        body = call.body if isinstance(call.body, dict) else {}
        parts = {name: body.get(name) or [] for name in ("attributes", "events", "purchases")}
        for name, entries in parts.items():
            if not isinstance(entries, list):
                raise ProblemError(400, "Bad Request", f"'{name}' must be an array of objects")
            if len(entries) > PLATFORM.limit("contacts").batch:
                raise ProblemError(400, "Bad Request", f"Max Input Length Exceeded: {name}")
        errors = [
            {"type": reason, "input_array": name, "index": index}
            for name, entries in parts.items()
            for index, entry in enumerate(entries)
            if (reason := self._wrong(entry)) is not None
        ]
        if len(errors) == sum(len(entries) for entries in parts.values()):
            raise ProblemError(400, "Bad Request", NO_VALID_DATA, errors=errors)
        bad = {error["index"] for error in errors if error["input_array"] == "attributes"}
        good = [entry for index, entry in enumerate(parts["attributes"]) if index not in bad]
        self._write(good)
        if self.is_in_maintenance:
            return Said(202, {"message": "queued"})
        said: dict[str, Any] = {"message": "success"}
        for name, entries in parts.items():
            if entries:
                said[f"{name}_processed"] = len(entries) - sum(error["input_array"] == name for error in errors)
        if errors:
            said["errors"] = errors
        return Said(201, said, refused=len(errors))

    def _wrong(self, entry: Any) -> str | None:
        """Why an object is not taken."""
        if not isinstance(entry, dict) or not any(isinstance(entry.get(name), str | dict) for name in _IDENTIFIERS):
            return NO_IDENTIFIER
        if isinstance(key := entry.get("external_id"), str) and not 0 < len(key.encode()) <= 997:
            return "EXTERNAL_USER_ID_TOO_LARGE"
        email = entry.get("email")
        if email is not None and not (isinstance(email, str) and _EMAIL.fullmatch(email)):
            return "'email' must be a valid address"
        if "email_subscribe" in entry and entry["email_subscribe"] not in _STATES:
            return "'email_subscribe' must be one of opted_in, unsubscribed, subscribed"
        return None

    def _write(self, entries: Sequence[Mapping[str, Any]]) -> None:
        primary = self._primary(str(entry["external_id"]) for entry in entries if "external_id" in entry)
        people = self.people.find(set(primary.values()))
        states = self._states(entry.get("email") for entry in entries)
        now = self.clock.now()
        asked: list[tuple[Person, str]] = []
        for entry in entries:
            key = primary.get(str(entry.get("external_id")))
            if key is None:
                continue  # Aliases and addresses alone are taken, and not kept here.
            person = people.get(key)
            if person is None:
                if entry.get("_update_existing_only") is True:
                    continue
                person = people[key] = Person(key, made_at=now)
            person.changed_at = now
            if "email" in entry:
                person.email = entry["email"]
                if person.email is not None and (known := states.get(person.email.lower())) is not None:
                    person.state, person.left_by = known["state"], known["left_by"]
            for name, value in entry.items():
                if name not in _OURS and name != "email":
                    _set(person.fields, name, value)
            if entry.get("email_subscribe") in _STATES:
                asked.append((person, str(entry["email_subscribe"])))
        self.people.save(people.values())
        for person, state in asked:
            self._ask(person, state)

    def _ask(self, person: Person, state: str) -> None:
        state = "unsubscribed" if state == "unsubscribed" else "subscribed"
        if person.email is not None:
            self._set_state(person.email, state, "api")
        elif person.state != "bounced":
            person.state, person.left_by = state, "api" if state == "unsubscribed" else None
            self.people.save([person])

    def _primary(self, keys: Iterable[str]) -> dict[str, str]:
        """Primary external id of each: a renamed user answers to the old one until that is removed."""
        renamed = self.people.documents("deprecated")
        return {key: renamed.get(key, key) for key in keys}

    def _delete(self, call: Call) -> Said:
        kinds = [name for name in ("external_ids", "user_aliases", "braze_ids") if call.body.get(name)]
        if len(kinds) != 1:
            raise ProblemError(400, "Bad Request", "only one of external_ids, user_aliases or braze_ids may be given")
        keys = self._few(call, kinds[0])
        deleted = self.people.delete(set(self._primary(keys).values())) if kinds == ["external_ids"] else 0
        return Said(201, {"deleted": deleted, "message": "success"})

    def _export(self, call: Call) -> Said:
        keys = self._few(call, "external_ids")
        primary = self._primary(keys)
        people = self.people.find(set(primary.values()))
        wanted = call.body.get("fields_to_export")
        found = {key: people[primary[key]] for key in keys if primary[key] in people}
        said: dict[str, Any] = {
            "message": "success",
            "users": [self._exported(person, wanted) for person in {one.key: one for one in found.values()}.values()],
        }
        if missing := [key for key in keys if key not in found]:
            said["invalid_user_ids"] = missing
        return Said(201, said)

    def _exported(self, person: Person, wanted: Any) -> dict[str, Any]:
        custom = {name: value for name, value in person.fields.items() if name not in _PROFILE}
        profile = {name: value for name, value in person.fields.items() if name in _PROFILE}
        state = "unsubscribed" if person.state == "unsubscribed" else "subscribed"
        said = {"external_id": person.key, "email": person.email, **profile, "email_subscribe": state}
        said["custom_attributes"] = custom
        # The least data possible: what is empty is left out.
        return {
            name: value
            for name, value in said.items()
            if value not in (None, {}) and (wanted is None or name in wanted)
        }

    def _rename(self, call: Call) -> Said:
        renames = self._few(call, "external_id_renames")
        done, errors = [], []
        for index, rename in enumerate(renames):
            old, new = str(rename.get("current_external_id")), str(rename.get("new_external_id"))
            deprecated = self.people.documents("deprecated")
            people = self.people.find([old, new])
            reason = (
                "The current_external_id and new_external_id cannot be the same"
                if old == new
                else "The current_external_id must be a primary id of a user"
                if old not in people
                else "The new_external_id is already in use"
                if new in people or new in deprecated
                else None
            )
            if reason is not None:
                errors.append({"index": index, "message": reason})
                continue
            self.people.rekey(old, new)
            # Ids that were renamed to the old one lead to the new one from now on.
            chain = {key: new for key, target in deprecated.items() if target == old}
            self.people.keep("deprecated", {**chain, old: new})
            done.append(new)
        return Said(201, {"message": "success", "external_ids": done, "rename_errors": errors}, refused=len(errors))

    def _remove(self, call: Call) -> Said:
        done, errors = [], []
        for index, key in enumerate(self._few(call, "external_ids")):
            if self.people.document("deprecated", str(key)) is None:
                errors.append({"index": index, "message": "The external_id is not a deprecated id"})
            else:
                self.people.drop("deprecated", str(key))
                done.append(key)
        return Said(201, {"message": "success", "removed_ids": done, "removal_errors": errors})

    def _merge(self, call: Call) -> Said:
        for update in self._few(call, "merge_updates"):
            if set(update) != {"identifier_to_merge", "identifier_to_keep"}:
                words = "'merge_updates' must only have 'identifier_to_merge' and 'identifier_to_keep'"
                raise ProblemError(400, "Bad Request", words)
            old, new = (update[name].get("external_id") for name in ("identifier_to_merge", "identifier_to_keep"))
            people = self.people.find([key for key in (old, new) if isinstance(key, str)])
            if old in people and new in people and old != new:
                kept, gone = people[new], people[old]
                kept.fields = {**gone.fields, **kept.fields}
                kept.email = kept.email or gone.email
                self.people.delete([gone.key])
                self.people.save([kept])
        return Said(202, {"message": "success"})

    # Addresses.

    def _set_status(self, call: Call) -> Said:
        emails, state = call.body.get("email"), call.body.get("subscription_state")
        emails = [emails] if isinstance(emails, str) else emails
        if not isinstance(emails, list) or not 0 < len(emails) <= 50 or state not in _STATES:
            raise ProblemError(400, "Bad Request", "'email' and a valid 'subscription_state' are required")
        for email in emails:
            self._set_state(str(email), "unsubscribed" if state == "unsubscribed" else "subscribed", "api")
        return Said(201, {"message": "success"})

    def _unsubscribes(self, call: Call) -> Said:
        return self._list(call, "unsubscribed", "unsubscribed_at")

    def _hard_bounces(self, call: Call) -> Said:
        return self._list(call, "bounced", "hard_bounced_at")

    def _list(self, call: Call, state: str, said_at: str) -> Said:
        query = call.query
        if not query.get("end_date") or not (query.get("email") or query.get("start_date")):
            raise ProblemError(400, "Bad Request", "'end_date' and either 'email' or 'start_date' must be provided")
        try:
            limit, offset = int(query.get("limit", 100)), int(query.get("offset", 0))
            start = _midnight(query.get("start_date") or "1970-01-01")
            end = _midnight(query["end_date"])
        except ValueError:
            raise ProblemError(400, "Bad Request", "dates must be YYYY-MM-DD, limit and offset numbers") from None
        if not 1 <= limit <= _LIST_LIMIT or start >= end:
            raise ProblemError(400, "Bad Request", f"limit must be up to {_LIST_LIMIT}, start_date before end_date")
        entries = [
            (known["at"], known["email"])
            for email, known in self.people.documents("address").items()
            if known["state"] == state
            and ((email == query["email"].lower()) if query.get("email") else (start <= known["at"] < end))
        ]
        entries.sort(reverse=query.get("sort_direction") != "asc")
        emails = [
            {"email": email, said_at: datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S +0000")}
            for at, email in entries[offset : offset + limit]
        ]
        return Said(200, {"emails": emails, "message": "success"})

    def _states(self, emails: Iterable[Any]) -> dict[str, Any]:
        named = {email.lower() for email in emails if isinstance(email, str)}
        return {email: known for email in named if (known := self.people.document("address", email)) is not None}

    def _set_state(self, email: str, state: str, by: str) -> None:
        """State belongs to an address: every user who has it goes along."""
        known = self.people.document("address", email.lower())
        if known is not None and known["state"] == "bounced" and by == "api":
            return
        left_by = {"unsubscribed": by, "bounced": "bounce"}.get(state)
        now = self.clock.now()
        self.people.keep("address", {email.lower(): {"email": email, "state": state, "left_by": left_by, "at": now}})
        people = self.people.find_by_email([email]).get(email.lower(), [])
        for person in people:
            person.state, person.left_by, person.changed_at = state, left_by, now
        self.people.save(people)

    def _few(self, call: Call, name: str) -> list[Any]:
        """An array of the body, of up to 50."""
        entries = call.body.get(name) if isinstance(call.body, dict) else None
        if not isinstance(entries, list) or not entries:
            raise ProblemError(400, "Bad Request", f"'{name}' must be an array of objects")
        if len(entries) > 50:
            raise ProblemError(400, "Bad Request", f"a single request may not contain more than 50 {name}")
        return entries


def _set(fields: dict[str, Any], name: str, value: Any) -> None:
    """Write one attribute: null removes it, an object changes a number or an array."""
    if value is None:
        fields.pop(name, None)
    elif isinstance(value, dict) and set(value) <= {"add", "remove"} and value:
        entries = fields.get(name) if isinstance(fields.get(name), list) else []
        entries = [entry for entry in entries or [] if entry not in (*value.get("add", ()), *value.get("remove", ()))]
        # The newest stand last, and the oldest go where there are too many.
        fields[name] = [*entries, *value.get("add", ())][-(PLATFORM.most_tags or 25) :]
    elif isinstance(value, dict) and set(value) == {"inc"}:
        fields[name] = (fields.get(name) or 0) + value["inc"]
    else:
        fields[name] = value


def _midnight(day: str) -> float:
    return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()


PART = BrazePart
