"""mParticle in the sandbox: the Events API of one input, and data subject requests of its workspace.

As the real one, it answers 202 to every body of the published form, and drops what makes no sense later: what was dropped
is kept under `dropped`, by reason. Erasures happen at once; the real one waits a week.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson

from activation.connectors.mparticle import ARCHIVED, BATCH_BYTES, PLATFORM, SUBSCRIBED
from activation.platform import Platform
from activation.sandbox.part import Call, Endpoint, Part, ProblemError, Said, Unauthorised, is_same, marks_of
from activation.sandbox.people import Person, instant

BATCHES = 100
REQUEST_BYTES = 256_000
ATTRIBUTES = 100


class MParticlePart(Part):
    """One input. Its people are by `customer_id`."""

    platform: ClassVar[Platform] = PLATFORM
    document: ClassVar[str | None] = "mparticle/events.openapi.json"
    document_base: ClassVar[str] = "/v2"

    @staticmethod
    def make_secrets() -> dict[str, str]:
        return {
            "key": f"us1-{secrets.token_hex(16)}",
            "secret": secrets.token_urlsafe(48),
            "workspace_key": secrets.token_hex(16),
            "workspace_secret": secrets.token_urlsafe(48),
        }

    def routes(self) -> Sequence[Endpoint]:
        return [
            Endpoint("POST", "/v2/bulkevents", self._bulk, rows=len),
            Endpoint("POST", "/v3/requests/", self._request, kind="erase", rows=lambda body: 1),
        ]

    def authenticate(self, call: Call) -> None:
        said = _basic(call.headers)
        if said is None:
            raise self.unauthorised("missing")
        prefix = "" if call.path.startswith("/v2/") else "workspace_"
        if not (is_same(said[0], self.secrets[f"{prefix}key"]) and is_same(said[1], self.secrets[f"{prefix}secret"])):
            raise self.unauthorised("wrong")

    def unauthorised(self, how: Unauthorised) -> ProblemError:
        return ProblemError(401 if how == "missing" else 403, "UNAUTHORIZED", f"The key is {how}.")

    def problem(self, problem: ProblemError) -> Said:
        code = problem.code.upper().replace(" ", "_")
        return Said(problem.status, {"errors": [{"code": code, "message": problem.words}]})

    def too_many(self, retry_after: float, limit: str) -> Said:
        said = super().too_many(retry_after, limit)
        return Said(said.status, said.body, {**said.headers, "X-mp-rate-limit-exceeded": "workspace"})

    def limit_headers(self, most: int, left: int, reset_after: float) -> Mapping[str, str]:
        return {"X-mp-rate-limit-percentage-used": str(100 * (most - left) // most)}

    def memberships(self, people: Sequence[Person]) -> dict[str, list[str]]:
        return {
            person.key: [
                name for name in marks_of(person.fields, PLATFORM.tag_prefix) if name not in (SUBSCRIBED, ARCHIVED)
            ]
            for person in people
        }

    def _bulk(self, call: Call) -> Said:
        if len(call.raw) > REQUEST_BYTES:
            raise ProblemError(400, "BAD_REQUEST", "The request is larger than 256 KB.")
        batches = call.body
        if len(batches) > BATCHES:
            raise ProblemError(400, "BAD_REQUEST", f"There are more than {BATCHES} batches.")
        reasons = [_nonsense(batch) for batch in batches]
        dropped = Counter(reason for reason in reasons if reason is not None)
        sound = [batch for batch, reason in zip(batches, reasons, strict=True) if reason is None]
        there = self.people.find(batch["user_identities"]["customer_id"] for batch in sound)
        for batch in sound:
            key = batch["user_identities"]["customer_id"]
            person = there.setdefault(key, Person(key, made_at=self.clock.now()))
            person.changed_at = self.clock.now()
            _apply(person, batch)
        self.people.save(there.values())
        if dropped:
            self.people.keep("dropped", Counter(self.people.documents("dropped")) + dropped)
        return Said(202, None, refused=dropped.total())

    def _request(self, call: Call) -> Said:
        said = call.body
        if not re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", _id_of(said)):
            raise ProblemError(400, "BAD_REQUEST", "subject_request_id must be a version 4 UUID.")
        identities = said.get("subject_identities") or {}
        if said.get("subject_request_type") != "erasure" or said.get("regulation") not in ("gdpr", "ccpa"):
            raise ProblemError(400, "BAD_REQUEST", "subject_request_type or regulation is none that there is.")
        if any(identity.get("encoding") != "raw" for identity in identities.values()) or not identities:
            raise ProblemError(400, "BAD_REQUEST", "subject_identities must be raw.")
        key = identities.get("controller_customer_id", {}).get("value")
        self.people.delete([key] if key else [])
        now = self.clock.now()
        return Said(
            201,
            {
                "expected_completion_time": instant(now),
                "received_time": instant(now),
                "subject_request_id": said["subject_request_id"],
                "controller_id": self.account,
            },
        )


def _nonsense(batch: Mapping[str, Any]) -> str | None:
    """Why a batch is dropped; None where it is not."""
    if not batch.get("user_identities", {}).get("customer_id"):
        return "no_identity"
    if len(orjson.dumps(batch)) > BATCH_BYTES:
        return "batch_too_large"
    if len(batch.get("user_attributes", {})) + len(batch.get("deleted_user_attributes", [])) > ATTRIBUTES:
        return "too_many_attributes"
    return None


def _apply(person: Person, batch: Mapping[str, Any]) -> None:
    person.fields |= batch.get("user_attributes", {})
    for name in batch.get("deleted_user_attributes", []):
        person.fields.pop(name, None)
    if (email := batch["user_identities"].get("email")) is not None:
        person.email = person.fields["email"] = email
    # Downstream tools hear of these; somebody who left there by themselves stays out.
    if person.left_by in ("contact", "bounce"):
        return
    is_subscribed = person.fields.get(SUBSCRIBED)
    if is_subscribed is not None:
        person.state, person.left_by = ("subscribed", None) if is_subscribed else ("unsubscribed", "api")
    for event in batch.get("events", []):
        if event.get("event_type") == "opt_out" and event.get("data", {}).get("is_opted_out") is True:
            person.state, person.left_by = "unsubscribed", "api"
    if person.state in ("subscribed", "archived"):
        person.state = "archived" if person.fields.get(ARCHIVED) else "subscribed"


def _basic(headers: Mapping[str, str]) -> tuple[str, str] | None:
    """User name and password of HTTP's basic authentication."""
    kind, _, credentials = headers.get("authorization", "").partition(" ")
    try:
        name, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (name, password) if kind == "Basic" else None


def _id_of(said: Any) -> str:
    return str(said.get("subject_request_id", "")) if isinstance(said, dict) else ""


PART = MParticlePart
