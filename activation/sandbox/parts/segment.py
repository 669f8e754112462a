"""Segment in the sandbox: the HTTP Tracking API of one source, and of the Public API what looks it up and erases.

As the real one, it answers 200 to every event that is small enough, also with a wrong write key, and drops what makes no
sense later: what was dropped is kept under `dropped`, by reason.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson

from activation.connectors.segment import ARCHIVED, PLATFORM, SUBSCRIBED
from activation.platform import Platform
from activation.sandbox.part import Call, Endpoint, Part, ProblemError, Said, Unauthorised, is_same, marks_of
from activation.sandbox.people import Person

EVENTS = 2_500
EVENT_BYTES = 32_000
BATCH_BYTES = 500_000
SUBJECTS = 5_000
# How long equal ids count once, and how many are remembered.
LOOK_BACK = 24 * 3600.0
REMEMBERED = 500_000


class SegmentPart(Part):
    """One source. Its people are by `userId`; a trait that is null is none."""

    platform: ClassVar[Platform] = PLATFORM

    @staticmethod
    def make_secrets() -> dict[str, str]:
        return {"write_key": secrets.token_urlsafe(24), "public_api_token": f"sgp_{secrets.token_urlsafe(32)}"}

    def prepare(self) -> None:
        self._seen: dict[str, float] = {}
        self.is_enabled = True

    def routes(self) -> Sequence[Endpoint]:
        return [
            Endpoint("POST", "/v1/batch", self._batch, rows=_events),
            Endpoint("GET", "/sources/{source}", self._source, kind="read"),
            Endpoint("POST", "/regulations", self._regulate, kind="erase", rows=_subjects),
        ]

    def authenticate(self, call: Call) -> None:
        # A wrong write key is told to nobody: see `_batch`.
        if not call.path.startswith("/v1/") and not is_same(call.bearer, self.secrets["public_api_token"]):
            raise self.unauthorised("wrong" if call.bearer else "missing")

    def unauthorised(self, how: Unauthorised) -> ProblemError:
        return ProblemError(403 if how == "revoked" else 401, "unauthorized", f"The token is {how}.")

    def problem(self, problem: ProblemError) -> Said:
        # What is too large is a bad request here.
        status = 400 if problem.status == 413 else problem.status
        return Said(status, {"errors": [{"type": problem.code, "message": problem.words}]})

    def too_many(self, retry_after: float, limit: str) -> Said:
        said = super().too_many(retry_after, limit)
        return Said(said.status, said.body, {**said.headers, "X-RateLimit-Reset": said.headers["Retry-After"]})

    def memberships(self, people: Sequence[Person]) -> dict[str, list[str]]:
        return {
            person.key: [name for name in marks_of(person.fields, PLATFORM.tag_prefix) if name not in _STANDING]
            for person in people
        }

    def _source(self, call: Call) -> Any:
        if call.params["source"] != self.account:
            raise ProblemError(404, "not-found", "There is no such source.")
        return {
            "data": {
                "source": {
                    "id": self.account, "slug": "mailwright", "name": "Mailwright", "enabled": self.is_enabled,
                    "writeKeys": [self.secrets["write_key"]],
                },
                "trackingPlanId": None,
            }
        }  # fmt: skip

    def _batch(self, call: Call) -> Said:
        if len(call.raw) > BATCH_BYTES:
            raise ProblemError(400, "bad_request", "The body is larger than 500 KB.")
        events = call.body.get("batch") if isinstance(call.body, dict) else None
        if not isinstance(events, list):
            raise ProblemError(400, "bad_request", "There is no batch.")
        if any(len(orjson.dumps(event)) > EVENT_BYTES for event in events):
            raise ProblemError(400, "bad_request", "An event is larger than 32 KB.")
        if not self.is_enabled or not is_same(_user(call.headers), self.secrets["write_key"]):
            dropped = Counter({"invalid_write_key": len(events)})
        elif len(events) > EVENTS:
            dropped = Counter({"batch_too_long": len(events)})
        else:
            dropped = self._take_in(events)
        if dropped:
            before = Counter(self.people.documents("dropped"))
            self.people.keep("dropped", before + dropped)
        return Said(200, {"success": True}, refused=dropped.total())

    def _take_in(self, events: Sequence[Any]) -> Counter[str]:
        """Do what the events say, in their order. Returns how many were dropped, by reason."""
        ids = {str(event.get("userId")) for event in events if isinstance(event, dict)}
        there, suppressed = self.people.find(ids), self.people.forgotten(ids)
        changed: dict[str, Person] = {}
        dropped: Counter[str] = Counter()
        for event in events:
            reason = _nonsense(event)
            if reason is None and str(event["userId"]) in suppressed:
                reason = "suppressed"
            if reason is not None:
                dropped[reason] += 1
            elif not self._is_repeated(event.get("messageId")) and event["type"] in ("identify", "track"):
                key = str(event["userId"])
                person = there.setdefault(key, Person(key, made_at=self.clock.now()))
                person.changed_at = self.clock.now()
                changed[key] = person
                _apply(person, event)
        self.people.save(changed.values())
        return dropped

    def _is_repeated(self, message: Any) -> bool:
        now = self.clock.now()
        if not isinstance(message, str):
            return False
        if self._seen.get(message, float("-inf")) > now - LOOK_BACK:
            return True
        self._seen[message] = now
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return False

    def _regulate(self, call: Call) -> Any:
        said = call.body if isinstance(call.body, dict) else {}
        if said.get("regulationType") not in _REGULATIONS or said.get("subjectType") != "USER_ID":
            raise ProblemError(422, "invalid", "regulationType or subjectType is none that there is.")
        subjects = said.get("subjectIds")
        if not isinstance(subjects, list) or not 0 < len(subjects) <= SUBJECTS:
            raise ProblemError(422, "invalid", f"subjectIds must be a list of 1 to {SUBJECTS}.")
        if "DELETE" in said["regulationType"]:
            self.people.delete([str(one) for one in subjects], forget=said["regulationType"].startswith("SUPPRESS"))
        return {"data": {"regulateId": secrets.token_hex(12)}}


_STANDING = (SUBSCRIBED, ARCHIVED)
_REGULATIONS = ("SUPPRESS_WITH_DELETE", "SUPPRESS_WITH_DELETE_INTERNAL", "DELETE_ONLY", "SUPPRESS_ONLY", "UNSUPPRESS")
_TYPES = ("identify", "track", "page", "screen", "group", "alias")


def _nonsense(event: Any) -> str | None:
    """Why an event is dropped; None where it is not."""
    if not isinstance(event, dict) or event.get("type") not in _TYPES:
        return "invalid_type"
    if not event.get("userId"):
        return "no_user_anon_id"
    if event["type"] == "track" and not event.get("event"):
        return "no_event_name"
    return "no_previous_id" if event["type"] == "alias" and not event.get("previousId") else None


def _apply(person: Person, event: Mapping[str, Any]) -> None:
    if event["type"] == "track":
        if event["event"] == "Unsubscribed" and person.left_by is None:
            person.state, person.left_by = "unsubscribed", "api"
        return
    for name, value in (event.get("traits") or {}).items():
        if value is None:
            person.fields.pop(name, None)
        else:
            person.fields[name] = value
    person.email = person.fields.get("email", person.email)
    # Downstream tools hear of these two; somebody who left there by themselves stays out.
    if person.left_by in ("contact", "bounce"):
        return
    is_subscribed = person.fields.get(SUBSCRIBED)
    if is_subscribed is not None:
        person.state, person.left_by = ("subscribed", None) if is_subscribed else ("unsubscribed", "api")
    if person.state in ("subscribed", "archived"):
        person.state = "archived" if person.fields.get(ARCHIVED) else "subscribed"


def _user(headers: Mapping[str, str]) -> str | None:
    """The user name of HTTP's basic authentication."""
    kind, _, credentials = headers.get("authorization", "").partition(" ")
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[0] if kind == "Basic" else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def _events(body: Any) -> int:
    events = body.get("batch") if isinstance(body, dict) else None
    return len({str(event.get("userId")) for event in events or () if isinstance(event, dict)})


def _subjects(body: Any) -> int:
    return len(body.get("subjectIds", ())) if isinstance(body, dict) else 0


PART = SegmentPart
