"""Mailchimp's part of the sandbox: Marketing API 3.0 of one account with one audience.

Shapes and limits are those of the published document; where a behaviour is not documented, the cautious reading is taken:
an archived member counts as new when added again, and whoever left by themselves before stays gone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

from activation.connectors.mailchimp import PLATFORM
from activation.sandbox.part import Call, Endpoint, Part, ProblemError, Said, Unauthorised, is_same
from activation.sandbox.people import Group, Person, instant

BATCH = 500
STATUSES = ("subscribed", "unsubscribed", "cleaned", "pending", "transactional")
FIELD_TYPES = (
    "text", "number", "address", "phone", "date", "url", "imageurl", "radio", "dropdown", "birthday", "zip",
)  # fmt: skip
_EMAIL = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+\.[^@\s,;<>.]{2,}")


class MailchimpPart(Part):
    """One account with one audience."""

    platform = PLATFORM
    document = "mailchimp/openapi.json"
    document_base = "/3.0"
    most_connections = 10

    @staticmethod
    def make_secrets() -> dict[str, str]:
        return {
            "api_key": f"{secrets.token_hex(16)}-sandbox",
            "list_id": secrets.token_hex(5),
            "client_id": str(secrets.randbelow(10**12)),
            "client_secret": secrets.token_hex(25),
            "access_token": secrets.token_hex(16),
        }

    def prepare(self) -> None:
        if not self.people.documents("merge field"):
            for tag, name in (("FNAME", "First Name"), ("LNAME", "Last Name")):
                self._add_field({"tag": tag, "name": name, "type": "text", "public": True})

    def routes(self) -> Sequence[Endpoint]:
        audience = "/3.0/lists/{list}"
        member = f"{audience}/members/{{hash}}"
        segment = f"{audience}/segments/{{segment}}"
        return [
            Endpoint("GET", "/oauth2/authorize", self._authorize, kind=None, is_open=True),
            Endpoint("POST", "/oauth2/token", self._token, kind=None, is_open=True),
            Endpoint("GET", "/oauth2/metadata", self._metadata, kind=None, is_open=True),
            Endpoint("GET", "/3.0/ping", lambda call: {"health_status": "Everything's Chimpy!"}),
            Endpoint("GET", "/3.0/", lambda call: {"account_id": self.account, "account_name": "Sandbox", "role": "owner"}),
            Endpoint("GET", "/3.0/lists", lambda call: {"lists": [self._audience()], "total_items": 1}),
            Endpoint("GET", audience, lambda call: self._audience()),
            Endpoint("POST", audience, self._batch, rows=_rows("members")),
            Endpoint("GET", f"{audience}/members", self._members, kind="read"),
            Endpoint("POST", f"{audience}/members", self._add_member, rows=_one),
            Endpoint("GET", member, lambda call: self._shapes([self._found(call)])[0], kind="read"),
            Endpoint("PUT", member, self._put_member, rows=_one),
            Endpoint("PATCH", member, self._patch_member, rows=_one),
            Endpoint("DELETE", member, self._archive),
            Endpoint("POST", f"{member}/actions/delete-permanent", self._delete_permanently, kind="erase", rows=_one),
            Endpoint("GET", f"{member}/tags", self._tags_of_member, kind="read"),
            Endpoint("POST", f"{member}/tags", self._change_tags_of_member, kind="tags", rows=_one),
            Endpoint("GET", f"{audience}/merge-fields", self._merge_fields, kind="read"),
            Endpoint("POST", f"{audience}/merge-fields", lambda call: self._add_field(call.body)),
            Endpoint("GET", f"{audience}/segments", self._segments, kind="read"),
            Endpoint("POST", f"{audience}/segments", self._add_segment, kind="tags", rows=_rows("static_segment")),
            Endpoint("GET", segment, lambda call: self._shape_of(self._segment(call)), kind="read"),
            Endpoint(
                "POST", segment, self._change_segment, kind="tags", rows=_rows("members_to_add", "members_to_remove")
            ),
            Endpoint("DELETE", segment, lambda call: self.people.delete_group(self._segment(call).id), kind="tags"),
            Endpoint("GET", f"{segment}/members", self._segment_members, kind="read"),
            Endpoint("GET", f"{audience}/tag-search", self._search_tags, kind="read"),
        ]  # fmt: skip

    def authenticate(self, call: Call) -> None:
        said = call.headers.get("authorization", "")
        kind, _, key = said.partition(" ")
        if kind.lower() == "basic":
            try:
                key = base64.b64decode(key, validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                key = ""
        if not said:
            raise self.unauthorised("missing")
        if kind.lower() not in ("basic", "bearer") or not (
            is_same(key, self.secrets["api_key"]) or is_same(key, self.secrets["access_token"])
        ):
            raise self.unauthorised("wrong")
        if call.params.get("list", self.secrets["list_id"]) != self.secrets["list_id"]:
            raise self.not_found(call)

    def unauthorised(self, how: Unauthorised) -> ProblemError:
        if how == "missing":
            return ProblemError(401, "API Key Missing", "Your request did not include an API key.")
        words = "Your API key may be invalid, or you've attempted to access the wrong datacenter."
        return ProblemError(401, "API Key Invalid", words)

    def problem(self, problem: ProblemError) -> Said:
        body = {
            "type": "https://mailchimp.com/developer/marketing/docs/errors/",
            "title": problem.code,
            "status": problem.status,
            "detail": problem.words,
            "instance": secrets.token_hex(16),
        }
        if problem.details.get("errors"):
            body["errors"] = problem.details["errors"]
        return Said(problem.status, body, {"Content-Type": "application/problem+json; charset=utf-8"})

    def not_found(self, call: Call) -> ProblemError:
        return _not_found()

    def bad_json(self) -> ProblemError:
        return ProblemError(400, "JSON Parse Error", "We encountered an unspecified JSON parsing error.")

    def invalid(self, where: str, words: str) -> ProblemError:
        return _invalid(where, words)

    def too_many(self, retry_after: float, limit: str) -> Said:
        said = self.problem(ProblemError(429, "Too Many Requests", limit))
        # Nothing is published about headers; a fault that asks for a wait says so in the common one.
        return Said(
            429, said.body, {**said.headers, "Retry-After": f"{retry_after:g}"} if limit == "ordered" else said.headers
        )

    def fields_of(self, person: Person) -> Mapping[str, Any]:
        return _merged_of(person)

    # Signing in. The account's owner always agrees.

    def _authorize(self, call: Call) -> Said:
        address = call.query.get("redirect_uri", "")
        if call.query.get("client_id") != self.secrets["client_id"] or call.query.get("response_type") != "code":
            return Said(400, {"error": "invalid_client"})
        if not address.startswith("http://127.0.0.1:"):
            return Said(400, {"error": "redirect_uri_mismatch"})
        code = secrets.token_hex(16)
        self.people.keep("code", {code: {"redirect_uri": address, "until": self.clock.now() + 600}})
        query = urlencode({"code": code, "state": call.query.get("state", "")})
        return Said(302, None, {"Location": f"{address}?{query}"})

    def _token(self, call: Call) -> Said:
        said = dict(parse_qsl(call.raw.decode("latin-1")))
        if not is_same(said.get("client_secret"), self.secrets["client_secret"]):
            return Said(401, {"error": "invalid_client"})
        code = self.people.document("code", said.get("code", ""))
        self.people.drop("code", said.get("code", ""))  # it works once
        if code is None or code["until"] < self.clock.now() or code["redirect_uri"] != said.get("redirect_uri"):
            return Said(400, {"error": "invalid_grant"})
        return Said(200, {"access_token": self.secrets["access_token"], "expires_in": 0, "scope": None})

    def _metadata(self, call: Call) -> Any:
        if not is_same(call.headers.get("authorization"), f"OAuth {self.secrets['access_token']}"):
            raise self.unauthorised("wrong")
        return {"dc": "us0", "role": "owner", "accountname": "Sandbox", "user_id": 1, "login": {"login_id": 1}}

    # The audience.

    def _audience(self) -> dict[str, Any]:
        counts = self.people.count_by_state()
        return {
            "id": self.secrets["list_id"],
            "web_id": 1,
            "name": "Sandbox audience",
            "permission_reminder": "You signed up in our shop.",
            "email_type_option": False,
            "contact": {"company": "Example Shop", "city": "London", "country": "GB"},
            "stats": {
                "member_count": counts.get("subscribed", 0),
                "unsubscribe_count": counts.get("unsubscribed", 0),
                "cleaned_count": counts.get("bounced", 0),
                "total_contacts": sum(number for state, number in counts.items() if state != "archived"),
                "merge_field_count": len(self.people.documents("merge field")),
            },
        }

    # Members.

    def _members(self, call: Call) -> Any:
        count, offset = _paging(call)
        wanted: dict[str, Any] = {"but": ["archived"]}
        if status := call.query.get("status"):
            wanted = {"states": [_state(status)]}
        if since := call.query.get("since_last_changed"):
            try:
                wanted["changed_since"] = datetime.fromisoformat(since).timestamp()
            except ValueError:
                raise _invalid("since_last_changed", "This value should be an ISO 8601 date.") from None
        said = {
            "members": self._shapes(self.people.page(count, offset, **wanted), _wanted(call, "members")),
            "list_id": self.secrets["list_id"],
            "total_items": self.people.count(**wanted),
        }
        return _only(said, call)

    def _add_member(self, call: Call) -> Any:
        email = _email_in(call.body)
        if call.body.get("status") not in STATUSES:
            raise _invalid("status", f"Value must be one of: {', '.join(STATUSES)}.")
        there = self.people.find([hash_of(email)]).get(hash_of(email))
        if there is not None and there.state != "archived":
            words = f"{email} is already a list member. Use PUT to insert or update list members."
            raise ProblemError(400, "Member Exists", words)
        return self._write_one(hash_of(email), there, call.body)

    def _put_member(self, call: Call) -> Any:
        """Create or update; a new one needs `email_address` and `status_if_new`."""
        key = _key(call.params["hash"])
        _email_in(call.body)
        there = self.people.find([key]).get(key)
        if there is None and "status_if_new" not in call.body and "status" not in call.body:
            raise _invalid("status_if_new", "This value should not be null.")
        return self._write_one(key, there, call.body)

    def _patch_member(self, call: Call) -> Any:
        there = self._found(call)
        return self._write_one(there.key, there, call.body)

    def _write_one(self, key: str, there: Person | None, said: Mapping[str, Any]) -> Any:
        fresh = hash_of(said["email_address"]) if "email_address" in said else key
        if there is not None and fresh != there.key:
            there = self._change_address(there, said["email_address"])
        person = self._merged(there, said, self._types(), self.people.forgotten([fresh]))
        self.people.save([person])
        return self._shapes([person])[0]

    def _change_address(self, person: Person, email: str) -> Person:
        if not _EMAIL.fullmatch(email):
            raise _invalid("email_address", "This value is not a valid email address.")
        if person.state == "bounced":
            raise ProblemError(400, "Invalid Resource", "The address of a cleaned contact can't be changed.")
        key = hash_of(email)
        if self.people.find([key]):
            raise ProblemError(400, "Member Exists", f"{email} is already a list member.")
        if self.people.forgotten([key]):
            raise _forgotten(email)
        self.people.rekey(person.key, key, email)
        return self.people.find([key])[key]

    def _archive(self, call: Call) -> None:
        person = self._found(call)
        if person.state == "archived":
            raise ProblemError(405, "Method Not Allowed", "This list member cannot be removed.")
        person.state, person.changed_at = "archived", self.clock.now()
        self.people.save([person])
        for group in self.people.groups_of([person.key]).get(person.key, []):
            self.people.take_out(group.id, [person.key])

    def _delete_permanently(self, call: Call) -> None:
        self.people.delete([self._found(call).key], forget=True)

    def _batch(self, call: Call) -> Any:
        """Up to 500 members; errors are given record by record in a 200."""
        members = call.body.get("members")
        if len(members) > BATCH:
            raise _invalid("members", f"Number of members must not exceed {BATCH}.")
        for index, member in enumerate(members):
            if not isinstance(member.get("email_address"), str):
                raise _invalid(f"members.item:{index}.email_address", "Schema describes string, missing found instead")
            if member.get("status_if_new", "subscribed") not in STATUSES:
                raise _invalid(f"members.item:{index}.status_if_new", f"Value must be one of: {', '.join(STATUSES)}.")
        keys = [hash_of(member["email_address"]) for member in members]
        there, forgotten, types = self.people.find(keys), self.people.forgotten(keys), self._types()
        new: list[Person] = []
        updated: list[Person] = []
        errors: list[dict[str, Any]] = []
        tags: dict[str, list[str]] = {}
        seen: set[str] = set()
        for key, member in zip(keys, members, strict=True):
            try:
                if key in seen:
                    if call.query.get("skip_duplicate_check") == "true":
                        continue
                    raise _RecordError("Email address appears more than once in the request")
                seen.add(key)
                old = there.get(key)
                exists = old is not None and old.state != "archived"
                if exists and not call.body.get("update_existing", False):
                    raise _RecordError(
                        f"{member['email_address']} is already a list member, do you want to update? please provide"
                        " update_existing:true in the request body",
                        code="ERROR_CONTACT_EXISTS",
                    )
                (updated if exists else new).append(self._merged(old, member, types, forgotten))
                for name in member.get("tags") or ():
                    tags.setdefault(name, []).append(key)
            except ProblemError as problem:
                errors.append(_batch_error(member, problem))
        self.people.save([*new, *updated])
        for name, tagged in tags.items():
            self.people.put_into(self.people.make_group(name).id, tagged)
        said = {
            "new_members": self._shapes(new),
            "updated_members": self._shapes(updated),
            "errors": errors,
            "total_created": len(new),
            "total_updated": len(updated),
            "error_count": len(errors),
        }
        return Said(200, said, refused=len(errors))

    def _merged(
        self, old: Person | None, said: Mapping[str, Any], types: Mapping[str, str], forgotten: set[str]
    ) -> Person:
        """The member after a write, or an error that says why it can't be."""
        email = said.get("email_address") or (old.email if old else "") or ""
        is_new = old is None or old.state == "archived"
        was = "" if old is None else old.state
        if old is not None and old.state == "archived" and old.left_by is not None:
            was, is_new = ("bounced" if old.left_by == "bounce" else "unsubscribed"), False
        status = said.get("status") or (said.get("status_if_new") if is_new else None)
        if is_new:
            if not _EMAIL.fullmatch(email) or len(email) > 254:
                words = f"{email} looks fake or invalid, please enter a real email address."
                raise ProblemError(400, "Invalid Resource", words)
            if status not in STATUSES:
                raise _invalid("status", "This value should not be null: new members need status or status_if_new.")
            if hash_of(email) in forgotten:
                raise _forgotten(email)
        if status is not None and status not in STATUSES:
            raise _invalid("status", f"Value must be one of: {', '.join(STATUSES)}.")
        if status == "subscribed" and old is not None and old.left_by in ("contact", "bounce"):
            words = f"{email} is in a compliance state due to unsubscribe, bounce, or compliance review and cannot be subscribed."
            raise ProblemError(400, "Member In Compliance State", words)
        kept = dict(old.fields) if old else {"MERGE": {}, **_ids()}
        merge = dict(kept["MERGE"])
        for tag, value in (said.get("merge_fields") or {}).items():
            if tag in types:  # unknown merge tags are ignored
                merge[tag] = _checked(tag, types[tag], value)
        kept["MERGE"] = merge
        for name in ("email_type", "language", "vip"):
            if name in said:
                kept[name] = said[name]
        now = self.clock.now()
        state = _state(status) if status else was
        left_by = old.left_by if old else None
        if state != (old.state if old else "") and not (old and old.state == "archived" and state == was):
            left_by = "api" if state == "unsubscribed" else None
        return Person(
            key=old.key if old else hash_of(email),
            email=old.email if old and old.email else email,
            state=state,
            left_by=left_by,
            fields=kept,
            made_at=old.made_at if old else now,
            changed_at=now,
        )

    def _shapes(self, people: Sequence[Person], wanted: frozenset[str] | None = None) -> list[dict[str, Any]]:
        """Members as the API shows them; only some of their parts where the rest would be left out anyway."""
        tags = {} if wanted is not None and "tags" not in wanted else self.people.groups_of(p.key for p in people)
        return [self._shape(person, tags.get(person.key, ()), wanted) for person in people]

    def _shape(self, person: Person, tags: Sequence[Group], wanted: frozenset[str] | None) -> dict[str, Any]:
        fields, kept = person.fields["MERGE"], person.fields
        changed = instant(person.changed_at)
        said = {
            "id": person.key,
            "email_address": person.email,
            "unique_email_id": kept["unique_email_id"],
            "contact_id": kept["contact_id"],
            "full_name": " ".join(str(fields[tag]) for tag in ("FNAME", "LNAME") if fields.get(tag)),
            "web_id": kept["web_id"],
            "email_type": kept.get("email_type", "html"),
            "status": "cleaned" if person.state == "bounced" else person.state,
            "merge_fields": fields,
            "stats": {"avg_open_rate": 0, "avg_click_rate": 0},
            "timestamp_opt": instant(person.made_at),
            "member_rating": 2,
            "last_changed": changed,
            "language": kept.get("language", ""),
            "vip": bool(kept.get("vip")),
            "source": "API - Generic",
            "tags_count": len(tags),
            "tags": [{"id": group.id, "name": group.name} for group in tags[:50]],
            "list_id": self.secrets["list_id"],
        }
        return said if wanted is None else {name: said[name] for name in said.keys() & wanted}

    def _found(self, call: Call) -> Person:
        """By subscriber hash or address."""
        key = _key(call.params["hash"])
        person = self.people.find([key]).get(key)
        if person is None:
            raise _not_found()
        return person

    # Tags and segments.

    def _tags_of_member(self, call: Call) -> Any:
        person = self._found(call)
        tags = self.people.groups_of([person.key]).get(person.key, [])
        count, offset = _paging(call)
        shown = [{"id": tag.id, "name": tag.name, "date_added": instant(person.changed_at)} for tag in tags]
        return {"tags": shown[offset : offset + count], "total_items": len(tags)}

    def _change_tags_of_member(self, call: Call) -> None:
        person = self._found(call)
        for tag in call.body["tags"]:
            if not tag.get("name") or tag.get("status") not in ("active", "inactive"):
                raise _invalid("tags", "Each tag needs a name, and a status of active or inactive.")
            if tag["status"] == "active":
                self.people.put_into(self.people.make_group(tag["name"]).id, [person.key])
            elif (found := self.people.groups().get(tag["name"])) is not None:
                self.people.take_out(found.id, [person.key])

    def _segments(self, call: Call) -> Any:
        count, offset = _paging(call)
        groups, sizes = list(self.people.groups().values()), self.people.group_sizes("subscribed")
        said = {
            "segments": [self._shape_of(group, sizes) for group in groups[offset : offset + count]],
            "list_id": self.secrets["list_id"],
            "total_items": len(groups),
        }
        return _only(said, call)

    def _segment(self, call: Call) -> Group:
        for group in self.people.groups().values():
            if str(group.id) == call.params["segment"]:
                return group
        raise _not_found()

    def _shape_of(self, group: Group, sizes: Mapping[int, int] | None = None) -> dict[str, Any]:
        sizes = self.people.group_sizes("subscribed") if sizes is None else sizes
        return {
            "id": group.id,
            "name": group.name,
            "member_count": sizes.get(group.id, 0),
            "type": "static",
            "created_at": instant(group.made_at),
            "updated_at": instant(group.changed_at),
            "options": {"match": "any", "conditions": []},
            "list_id": self.secrets["list_id"],
        }

    def _add_segment(self, call: Call) -> Any:
        name, emails = call.body.get("name"), call.body.get("static_segment")
        if not name:
            raise _invalid("name", "This value should not be blank.")
        if not isinstance(emails, list):
            raise _invalid("static_segment", "The sandbox has static segments only.")
        if name in self.people.groups():
            raise ProblemError(400, "Bad Request", "Sorry, that tag already exists.")
        _check_many("static_segment", emails)
        group = self.people.make_group(name)
        self.people.put_into(group.id, self._here(emails))
        return self._shape_of(group)

    def _change_segment(self, call: Call) -> Any:
        """Emails that are not known are left out in silence."""
        group = self._segment(call)
        adding, removing = call.body.get("members_to_add") or [], call.body.get("members_to_remove") or []
        _check_many("members_to_add", adding)
        _check_many("members_to_remove", removing)
        add, remove = self._here(adding), self._here(removing)
        inside = self.people.inside(group.id, [*add, *remove])
        added = [key for key in add if key not in inside]
        removed = [key for key in remove if key in inside]
        self.people.put_into(group.id, added)
        self.people.take_out(group.id, removed)
        people = {**add, **remove}
        already = [people[key].email for key in add if key in inside]
        errors = [{"email_addresses": already, "error": "Email addresses already in the segment"}] if already else []
        said = {
            "members_added": self._shapes([people[key] for key in added]),
            "members_removed": self._shapes([people[key] for key in removed]),
            "errors": errors,
            "total_added": len(added),
            "total_removed": len(removed),
            "error_count": len(errors),
        }
        return Said(200, said, refused=len(adding) - len(add) + len(removing) - len(remove))

    def _here(self, emails: Sequence[str]) -> dict[str, Person]:
        found = self.people.find(hash_of(email) for email in emails)
        return {key: person for key, person in found.items() if person.state != "archived"}

    def _segment_members(self, call: Call) -> Any:
        group = self._segment(call)
        count, offset = _paging(call)
        named = ("cleaned", "transactional", "unsubscribed")
        states = ["subscribed", *(_state(name) for name in named if call.query.get(f"include_{name}") == "true")]
        said = {
            "members": self._shapes(
                self.people.page(count, offset, states=states, group=group.id), _wanted(call, "members")
            ),
            "total_items": self.people.count(states=states, group=group.id),
        }
        return _only(said, call)

    def _search_tags(self, call: Call) -> Any:
        name = call.query.get("name", "").lower()
        found = [tag for tag in self.people.groups().values() if tag.name.lower().startswith(name)]
        tags = [{"id": tag.id, "name": tag.name} for tag in sorted(found, key=lambda tag: tag.name)]
        return {"tags": tags, "total_items": len(tags)}

    # Merge fields.

    def _types(self) -> dict[str, str]:
        return {tag: field["type"] for tag, field in self.people.documents("merge field").items()}

    def _merge_fields(self, call: Call) -> Any:
        count, offset = _paging(call)
        fields = sorted(self.people.documents("merge field").values(), key=lambda field: int(field["merge_id"]))
        said = {
            "merge_fields": fields[offset : offset + count],
            "list_id": self.secrets["list_id"],
            "total_items": len(fields),
        }
        return _only(said, call)

    def _add_field(self, said: Mapping[str, Any]) -> dict[str, Any]:
        name, kind = said.get("name"), said.get("type")
        if not name:
            raise _invalid("name", "This value should not be blank.")
        if kind not in FIELD_TYPES:
            raise _invalid("type", f"Value must be one of: {', '.join(FIELD_TYPES)}.")
        tag = str(said.get("tag") or re.sub(r"\W", "", name)[:10]).upper()
        if not re.fullmatch(r"[A-Z0-9_]{1,10}", tag):
            raise _invalid("tag", "Merge tags are up to 10 letters, digits and underscores.")
        there = self.people.documents("merge field")
        if tag in there:
            raise ProblemError(400, "Bad Request", f'A Merge Field with the tag "{tag}" already exists for this list.')
        made = {
            "merge_id": len(there) + 1,
            "tag": tag,
            "name": name,
            "type": kind,
            "required": bool(said.get("required")),
            "default_value": str(said.get("default_value") or ""),
            "public": bool(said.get("public")),
            "display_order": len(there) + 1,
            "list_id": self.secrets["list_id"],
        }
        self.people.keep("merge field", {tag: made})
        return made


PART = MailchimpPart


class _RecordError(ProblemError):
    """A record can't be taken: an entry of `errors` in a batch, a problem by itself in a single call."""

    def __init__(self, words: str, field: str = "", message: str = "", code: str = "ERROR_GENERIC") -> None:
        errors = [{"field": field, "message": message}] if field else []
        super().__init__(400, "Invalid Resource", words, errors=errors)
        self.field, self.message, self.record_code = field, message, code


def hash_of(email: str) -> str:
    """Subscriber hash: MD5 of the lower-cased address."""
    return hashlib.md5(email.lower().encode(), usedforsecurity=False).hexdigest()


def _key(key: str) -> str:
    return hash_of(key) if "@" in key else key.lower()


def _ids() -> dict[str, Any]:
    token = secrets.token_hex(25)
    return {"web_id": int(token[42:], 16), "contact_id": token[:32], "unique_email_id": token[32:42]}


def _merged_of(person: Person) -> Mapping[str, Any]:
    merge: Mapping[str, Any] = person.fields["MERGE"]
    return merge


def _state(status: str) -> str:
    return "bounced" if status == "cleaned" else status


def _rows(*names: str) -> Any:
    return lambda body: sum(len(body.get(name) or ()) for name in names)


def _one(_: Any) -> Literal[1]:
    return 1


def _email_in(body: Mapping[str, Any]) -> str:
    email = body.get("email_address")
    if not isinstance(email, str) or not email:
        raise _invalid("email_address", "This value should not be blank.")
    return email


def _not_found() -> ProblemError:
    return ProblemError(404, "Resource Not Found", "The requested resource could not be found.")


def _forgotten(email: str) -> ProblemError:
    words = f"{email} was permanently deleted and cannot be re-imported. The contact must re-subscribe to get back on the list."
    return ProblemError(400, "Forgotten Email Not Subscribed", words)


def _invalid(field: str, message: str) -> ProblemError:
    words = "The resource submitted could not be validated. For field-specific details, see the 'errors' array."
    return ProblemError(400, "Invalid Resource", words, errors=[{"field": field, "message": message}])


def _batch_error(member: Mapping[str, Any], problem: ProblemError) -> dict[str, Any]:
    said = {"email_address": member["email_address"], "error": problem.words}
    if isinstance(problem, _RecordError):
        return {**said, "error_code": problem.record_code, "field": problem.field, "field_message": problem.message}
    return {**said, "error_code": "ERROR_GENERIC", "field": "", "field_message": ""}


def _check_many(field: str, emails: Sequence[str]) -> None:
    if len(emails) > BATCH:
        raise _invalid(field, f"Number of emails must not exceed {BATCH}.")


def _checked(tag: str, kind: str, value: Any) -> Any:
    """A merge field's value, if it has the field's type; an empty string clears."""
    if value == "" or value is None:
        return ""
    if kind == "number":
        try:
            float(value)
        except (TypeError, ValueError):
            raise _RecordError("Your merge fields were invalid.", tag, "Please enter a number") from None
    elif kind == "date":
        try:
            date.fromisoformat(str(value))
        except ValueError:
            raise _RecordError("Your merge fields were invalid.", tag, "Please enter a date as YYYY-MM-DD") from None
    elif len(str(value).encode()) > 255:
        raise _RecordError("Your merge fields were invalid.", tag, "This value is too long: at most 255 bytes")
    return value if isinstance(value, (int, float)) else str(value)


def _paging(call: Call) -> tuple[int, int]:
    return _number(call.query.get("count"), 10, 1000), _number(call.query.get("offset"), 0, 10**9)


def _number(said: str | None, default: int, most: int) -> int:
    if said is None or said == "":
        return default
    if not said.isdigit() or int(said) > most:
        raise _invalid("count", f"Value must be a number from 0 to {most}.")
    return int(said)


def _wanted(call: Call, part: str) -> frozenset[str] | None:
    """Names of what is wanted of each entry of `part`; None for all."""
    paths = [path.strip().split(".") for path in call.query.get("fields", "").split(",") if path]
    if not paths or [part] in paths:
        return None
    return frozenset(path[1] for path in paths if path[0] == part)


def _only(said: Any, call: Call) -> Any:
    """The parts named by the query's `fields`: comma-separated paths with dots."""
    tree: dict[str, Any] = {}
    for path in filter(None, call.query.get("fields", "").split(",")):
        node = tree
        for step in path.strip().split("."):
            node = node.setdefault(step, {})
    return _pruned(said, tree)


def _pruned(said: Any, tree: dict[str, Any]) -> Any:
    if not tree:
        return said
    if isinstance(said, list):
        return [_pruned(entry, tree) for entry in said]
    if isinstance(said, dict):
        return {name: _pruned(said[name], inner) for name, inner in tree.items() if name in said}
    return said
