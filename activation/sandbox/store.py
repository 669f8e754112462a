"""State and rules of the sandbox: members, merge fields and static segments of one audience, in SQLite.

Shapes and limits are those of the vendor's published API; where a behaviour is not documented, the cautious reading is
taken (an archived member counts as new when added again).
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from activation.sandbox.account import open_account, open_database

LIMIT = 500
CALLS_KEPT = 1000
STATUSES = ("subscribed", "unsubscribed", "cleaned", "pending", "transactional")
FIELD_TYPES = (
    "text", "number", "address", "phone", "date", "url", "imageurl", "radio", "dropdown", "birthday", "zip",
)  # fmt: skip
_EMAIL = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+\.[^@\s,;<>.]{2,}")

_SCHEMA = """
create table if not exists members (
    hash text primary key,
    web_id integer not null,
    contact_id text not null,
    unique_email_id text not null,
    email_address text not null,
    email_type text not null,
    status text not null,
    left_by text,           -- contact, bounce or api: what the first two left, the API can't subscribe again
    merge_fields text not null,
    language text not null,
    vip integer not null,
    timestamp_opt text not null,
    last_changed text not null
);
create index if not exists members_by_change on members (last_changed desc);
create table if not exists forgotten (hash text primary key);
create table if not exists merge_fields (
    merge_id integer primary key, tag text not null unique, name text not null, type text not null,
    required integer not null, default_value text not null, public integer not null
);
create table if not exists segments (
    id integer primary key, name text not null unique, created_at text not null, updated_at text not null
);
create table if not exists segment_members (
    segment_id integer not null, hash text not null, primary key (segment_id, hash)
) without rowid;
create index if not exists segment_members_by_hash on segment_members (hash);
create table if not exists calls (
    id integer primary key, at text not null, method text not null, path text not null, status integer not null,
    sent integer not null, refused integer not null, milliseconds real not null
);
"""
_COLUMNS = (
    "hash", "web_id", "contact_id", "unique_email_id", "email_address", "email_type", "status", "left_by",
    "merge_fields", "language", "vip", "timestamp_opt", "last_changed",
)  # fmt: skip
Member = dict[str, Any]


class ProblemError(Exception):
    """An error of the API, to be answered as application/problem+json."""

    def __init__(self, status: int, title: str, detail: str, errors: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = list(errors)


class _RecordError(ProblemError):
    """A record can't be taken: an entry of `errors` in a batch, a problem by itself in a single call."""

    def __init__(self, words: str, field: str = "", field_message: str = "", code: str = "ERROR_GENERIC") -> None:
        errors = [{"field": field, "message": field_message}] if field else []
        super().__init__(400, "Invalid Resource", words, errors)
        self.field = field
        self.field_message = field_message
        self.code = code


def hash_of(email: str) -> str:
    """Subscriber hash: MD5 of the lower-cased address."""
    return hashlib.md5(email.lower().encode(), usedforsecurity=False).hexdigest()


class Store:
    """The audience. Safe for threads: one call at a time touches the database."""

    def __init__(self, folder: Path) -> None:
        self.account = open_account(folder)
        self._lock = threading.RLock()
        self._connection = open_database(folder)
        with self._connection:
            self._connection.executescript(_SCHEMA)
            for tag, name in (("FNAME", "First Name"), ("LNAME", "Last Name")):
                self._connection.execute(
                    "insert or ignore into merge_fields (tag, name, type, required, default_value, public)"
                    " values (?, ?, 'text', 0, '', 1)",
                    (tag, name),
                )

    def close(self) -> None:
        self._connection.close()

    # The audience.

    def list_info(self) -> dict[str, Any]:
        with self._lock:
            counts = dict(self._connection.execute("select status, count(*) from members group by status"))
            fields = self._one("select count(*) from merge_fields")
        return {
            "id": self.account.list_id,
            "web_id": 1,
            "name": "Sandbox audience",
            "permission_reminder": "You signed up in our shop.",
            "email_type_option": False,
            "contact": {"company": "Example Shop", "city": "London", "country": "GB"},
            "stats": {
                "member_count": counts.get("subscribed", 0),
                "unsubscribe_count": counts.get("unsubscribed", 0),
                "cleaned_count": counts.get("cleaned", 0),
                "total_contacts": sum(number for status, number in counts.items() if status != "archived"),
                "merge_field_count": fields,
            },
        }

    # Members.

    def members(self, status: str | None, since: str | None, count: int, offset: int) -> dict[str, Any]:
        where = "status = ?" if status else "status <> 'archived'"
        parameters: list[Any] = [status] if status else []
        if since:
            where += " and last_changed >= ?"
            parameters.append(since)
        with self._lock:
            rows = self._members(f"where {where} order by web_id limit ? offset ?", [*parameters, count, offset])
            total = self._one(f"select count(*) from members where {where}", parameters)
            tags = self._tags_of([row["hash"] for row in rows])
        return {
            "members": [self._shape(row, tags.get(row["hash"], [])) for row in rows],
            "list_id": self.account.list_id,
            "total_items": total,
        }

    def member(self, key: str) -> dict[str, Any]:
        with self._lock:
            row = self._find(key)
            return self._shape(row, self._tags_of([row["hash"]]).get(row["hash"], []))

    def put_member(self, key: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create or update one; a new one needs `email_address` and `status_if_new`."""
        email = body.get("email_address")
        if not isinstance(email, str) or not email:
            raise _invalid("email_address", "This value should not be blank.")
        with self._lock, self._connection:
            rows = self._members("where hash = ?", [_key(key)])
            if not rows and "status_if_new" not in body and "status" not in body:
                raise _invalid("status_if_new", "This value should not be null.")
            row = self._merged(rows[0] if rows else None, body, self._types())
            self._save([row])
            return self.member(row["hash"])

    def add_member(self, body: Mapping[str, Any]) -> dict[str, Any]:
        email = body.get("email_address")
        if not isinstance(email, str) or not email:
            raise _invalid("email_address", "This value should not be blank.")
        if body.get("status") not in STATUSES:
            raise _invalid("status", f"Value must be one of: {', '.join(STATUSES)}.")
        with self._lock, self._connection:
            there = self._members("where hash = ? and status <> 'archived'", [hash_of(email)])
            if there:
                raise ProblemError(
                    400, "Member Exists", f"{email} is already a list member. Use PUT to insert or update list members."
                )
            return self.put_member(email, body)

    def patch_member(self, key: str, body: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock, self._connection:
            row = self._merged(self._find(key), body, self._types())
            self._save([row])
            return self.member(row["hash"])

    def archive_member(self, key: str) -> None:
        with self._lock, self._connection:
            row = self._find(key)
            if row["status"] == "archived":
                raise ProblemError(405, "Method Not Allowed", "This list member cannot be removed.")
            self._connection.execute(
                "update members set status = 'archived', last_changed = ? where hash = ?", (_now(), row["hash"])
            )
            self._connection.execute("delete from segment_members where hash = ?", (row["hash"],))

    def forget_member(self, key: str) -> None:
        with self._lock, self._connection:
            row = self._find(key)
            self._connection.execute("delete from members where hash = ?", (row["hash"],))
            self._connection.execute("delete from segment_members where hash = ?", (row["hash"],))
            self._connection.execute("insert or ignore into forgotten values (?)", (row["hash"],))

    def leave(self, key: str, how: str) -> None:
        """What only the contact or the mail system can do: unsubscribe, bounce. Not part of the platform's API."""
        status, left_by = {"unsubscribe": ("unsubscribed", "contact"), "bounce": ("cleaned", "bounce")}[how]
        with self._lock, self._connection:
            row = self._find(key)
            self._connection.execute(
                "update members set status = ?, left_by = ?, last_changed = ? where hash = ?",
                (status, left_by, _now(), row["hash"]),
            )

    def batch(self, body: Mapping[str, Any], *, skip_duplicate_check: bool = False) -> dict[str, Any]:
        """POST /lists/{id}: up to 500 members; errors are given record by record in a 200."""
        members = body.get("members")
        if not isinstance(members, list):
            raise _invalid("members", "Schema describes array, missing found instead")
        if len(members) > LIMIT:
            raise _invalid("members", f"Number of members must not exceed {LIMIT}.")
        for index, member in enumerate(members):
            if not isinstance(member, dict) or not isinstance(member.get("email_address"), str):
                raise _invalid(f"members.item:{index}.email_address", "Schema describes string, missing found instead")
            if not isinstance(member.get("merge_fields", {}), dict):
                raise _invalid(f"members.item:{index}.merge_fields", "Schema describes object, array found instead")
            for name in ("status", "status_if_new"):
                if name in member and member[name] not in STATUSES:
                    raise _invalid(f"members.item:{index}.{name}", f"Value must be one of: {', '.join(STATUSES)}.")
        update_existing = body.get("update_existing", False)
        new: list[Member] = []
        updated: list[Member] = []
        errors: list[dict[str, Any]] = []
        with self._lock, self._connection:
            types = self._types()
            keys = [hash_of(member["email_address"]) for member in members]
            there = {row["hash"]: row for row in self._by_hash(keys)}
            seen: set[str] = set()
            for key, member in zip(keys, members, strict=True):
                try:
                    if key in seen:
                        if skip_duplicate_check:
                            continue
                        raise _RecordError("Email address appears more than once in the request")
                    seen.add(key)
                    old = there.get(key)
                    exists = old is not None and old["status"] != "archived"
                    if exists and not update_existing:
                        raise _RecordError(
                            f"{member['email_address']} is already a list member, do you want to update? please provide"
                            " update_existing:true in the request body",
                            code="ERROR_CONTACT_EXISTS",
                        )
                    (updated if exists else new).append(self._merged(old, member, types))
                except _RecordError as error:
                    errors.append(_batch_error(member, error.detail, error.field, error.field_message, error.code))
                except ProblemError as problem:
                    errors.append(_batch_error(member, problem.detail))
            self._save([*new, *updated])
            for member in members:
                tags = member.get("tags")
                if tags and hash_of(member["email_address"]) in {row["hash"] for row in (*new, *updated)}:
                    changes = [{"name": name, "status": "active"} for name in tags]
                    self.change_member_tags(hash_of(member["email_address"]), changes)
            tags_of = self._tags_of([row["hash"] for row in updated])
        return {
            "new_members": [self._shape(row, []) for row in new],
            "updated_members": [self._shape(row, tags_of.get(row["hash"], [])) for row in updated],
            "errors": errors,
            "total_created": len(new),
            "total_updated": len(updated),
            "error_count": len(errors),
        }

    # Tags and segments.

    def member_tags(self, key: str) -> dict[str, Any]:
        with self._lock:
            row = self._find(key)
            tags = self._tags_of([row["hash"]]).get(row["hash"], [])
        return {"tags": [{**tag, "date_added": row["last_changed"]} for tag in tags], "total_items": len(tags)}

    def change_member_tags(self, key: str, changes: Any) -> None:
        if not isinstance(changes, list) or any(
            not isinstance(tag, dict) or not tag.get("name") or tag.get("status") not in ("active", "inactive")
            for tag in changes
        ):
            raise _invalid("tags", "Each tag needs a name, and a status of active or inactive.")
        with self._lock, self._connection:
            row = self._find(key)
            for tag in changes:
                found = self._connection.execute("select id from segments where name = ?", (tag["name"],)).fetchone()
                if tag["status"] == "active":
                    segment_id = found[0] if found else self._make_segment(tag["name"])
                    self._connection.execute(
                        "insert or ignore into segment_members values (?, ?)", (segment_id, row["hash"])
                    )
                elif found:
                    self._connection.execute(
                        "delete from segment_members where segment_id = ? and hash = ?", (found[0], row["hash"])
                    )

    def segments(self, count: int, offset: int, segment_id: int | None = None) -> list[dict[str, Any]]:
        where = "" if segment_id is None else "where segments.id = ?"
        with self._lock:
            rows = self._connection.execute(
                "select id, name, created_at, updated_at,"
                " (select count(*) from segment_members join members using (hash)"
                "  where segment_id = segments.id and status = 'subscribed')"
                f" from segments {where} order by id limit ? offset ?",
                [*([] if segment_id is None else [segment_id]), count, offset],
            ).fetchall()
        return [
            {
                "id": number, "name": name, "member_count": size, "type": "static", "created_at": created,
                "updated_at": updated, "options": {"match": "any", "conditions": []}, "list_id": self.account.list_id,
            }
            for number, name, created, updated, size in rows
        ]  # fmt: skip

    def segment(self, segment_id: int) -> dict[str, Any]:
        found = self.segments(1, 0, segment_id)
        if not found:
            raise not_found()
        return found[0]

    def count_segments(self) -> int:
        with self._lock:
            return self._one("select count(*) from segments")

    def create_segment(self, body: Mapping[str, Any]) -> dict[str, Any]:
        name, emails = body.get("name"), body.get("static_segment")
        if not isinstance(name, str) or not 0 < len(name) <= 100:
            raise _invalid("name", "This value should be a string of 1 to 100 characters.")
        if not isinstance(emails, list):
            raise _invalid("static_segment", "The sandbox knows static segments only: give a list of emails.")
        _check_emails("static_segment", emails)
        with self._lock, self._connection:
            if self._connection.execute("select 1 from segments where name = ?", (name,)).fetchone():
                raise ProblemError(400, "Bad Request", f"Sorry, that tag already exists: {name}")
            segment_id = self._make_segment(name)
        if emails:
            self.change_segment(segment_id, {"members_to_add": emails})
        return self.segment(segment_id)

    def change_segment(self, segment_id: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """Add and remove up to 500 emails each; emails that are no member are ignored in silence."""
        self.segment(segment_id)
        to_add, to_remove = body.get("members_to_add") or [], body.get("members_to_remove") or []
        _check_emails("members_to_add", to_add)
        _check_emails("members_to_remove", to_remove)
        with self._lock, self._connection:
            inside = {
                key
                for (key,) in self._connection.execute(
                    "select hash from segment_members where segment_id = ?", (segment_id,)
                )
            }
            adding = [row for row in self._by_hash(map(hash_of, to_add)) if row["status"] != "archived"]
            added = [row for row in adding if row["hash"] not in inside]
            removed = [row for row in self._by_hash(map(hash_of, to_remove)) if row["hash"] in inside]
            already = [row["email_address"] for row in adding if row["hash"] in inside]
            self._connection.executemany(
                "insert or ignore into segment_members values (?, ?)", [(segment_id, row["hash"]) for row in added]
            )
            self._connection.executemany(
                "delete from segment_members where segment_id = ? and hash = ?",
                [(segment_id, row["hash"]) for row in removed],
            )
            self._connection.execute("update segments set updated_at = ? where id = ?", (_now(), segment_id))
        errors = [{"email_addresses": already, "error": "Email addresses already in the segment"}] if already else []
        return {
            "members_added": [self._shape(row, []) for row in added],
            "members_removed": [self._shape(row, []) for row in removed],
            "errors": errors,
            "total_added": len(added),
            "total_removed": len(removed),
            "error_count": len(errors),
        }

    def delete_segment(self, segment_id: int) -> None:
        self.segment(segment_id)
        with self._lock, self._connection:
            self._connection.execute("delete from segment_members where segment_id = ?", (segment_id,))
            self._connection.execute("delete from segments where id = ?", (segment_id,))

    def segment_members(self, segment_id: int, statuses: Sequence[str], count: int, offset: int) -> dict[str, Any]:
        self.segment(segment_id)
        marks = ", ".join("?" * len(statuses))
        where = f"where hash in (select hash from segment_members where segment_id = ?) and status in ({marks})"
        with self._lock:
            rows = self._members(f"{where} order by web_id limit ? offset ?", [segment_id, *statuses, count, offset])
            total = self._one(f"select count(*) from members {where}", [segment_id, *statuses])
        return {"members": [self._shape(row, []) for row in rows], "total_items": total}

    def search_tags(self, name: str) -> dict[str, Any]:
        with self._lock:
            rows = self._connection.execute(
                "select id, name from segments where lower(substr(name, 1, ?)) = lower(?) order by name",
                (len(name), name),
            ).fetchall()
        return {"tags": [{"id": number, "name": found} for number, found in rows], "total_items": len(rows)}

    # Merge fields.

    def merge_fields(self, count: int, offset: int) -> dict[str, Any]:
        with self._lock:
            rows = self._connection.execute(
                "select merge_id, tag, name, type, required, default_value, public from merge_fields"
                " order by merge_id limit ? offset ?",
                (count, offset),
            ).fetchall()
            total = self._one("select count(*) from merge_fields")
        fields = [
            {
                "merge_id": row[0], "tag": row[1], "name": row[2], "type": row[3], "required": bool(row[4]),
                "default_value": row[5], "public": bool(row[6]), "display_order": row[0],
                "list_id": self.account.list_id,
            }
            for row in rows
        ]  # fmt: skip
        return {"merge_fields": fields, "list_id": self.account.list_id, "total_items": total}

    def create_merge_field(self, body: Mapping[str, Any]) -> dict[str, Any]:
        name, kind = body.get("name"), body.get("type")
        if not isinstance(name, str) or not name:
            raise _invalid("name", "This value should not be blank.")
        if kind not in FIELD_TYPES:
            raise _invalid("type", f"Value must be one of: {', '.join(FIELD_TYPES)}.")
        tag = str(body.get("tag") or re.sub(r"\W", "", name)[:10]).upper()
        if not re.fullmatch(r"[A-Z0-9_]{1,10}", tag):
            raise _invalid("tag", "Merge tags are up to 10 letters, digits and underscores.")
        with self._lock, self._connection:
            if self._connection.execute("select 1 from merge_fields where tag = ?", (tag,)).fetchone():
                words = f'A Merge Field with the tag "{tag}" already exists for this list.'
                raise ProblemError(400, "Bad Request", words)
            self._connection.execute(
                "insert into merge_fields (tag, name, type, required, default_value, public) values (?, ?, ?, ?, ?, ?)",
                (
                    tag, name, kind, bool(body.get("required")), str(body.get("default_value") or ""),
                    bool(body.get("public")),
                ),
            )  # fmt: skip
            fields: list[dict[str, Any]] = self.merge_fields(1000, 0)["merge_fields"]
        return fields[-1]

    # The journal of calls, for the page.

    def note_call(self, method: str, path: str, status: int, sent: int, refused: int, milliseconds: float) -> None:
        with self._lock, self._connection:
            self._connection.execute(
                "insert into calls (at, method, path, status, sent, refused, milliseconds)"
                " values (?, ?, ?, ?, ?, ?, ?)",
                (_now(), method, path, status, sent, refused, milliseconds),
            )
            self._connection.execute("delete from calls where id <= (select max(id) from calls) - ?", (CALLS_KEPT,))

    def calls(self, count: int) -> list[dict[str, Any]]:
        names = ("at", "method", "path", "status", "sent", "refused", "milliseconds")
        with self._lock:
            rows = self._connection.execute(
                f"select {', '.join(names)} from calls order by id desc limit ?", (count,)
            ).fetchall()
        return [dict(zip(names, row, strict=True)) for row in rows]

    def page_of_members(self, count: int, offset: int, tag: int | None, search: str) -> dict[str, Any]:
        """Members for people: the last changed first, by tag and by a part of the address."""
        where, parameters = "where status <> 'archived'", list[Any]()
        if tag is not None:
            where += " and hash in (select hash from segment_members where segment_id = ?)"
            parameters.append(tag)
        if search:
            where += " and instr(lower(email_address), lower(?)) > 0"
            parameters.append(search)
        with self._lock:
            rows = self._members(
                f"{where} order by last_changed desc, web_id limit ? offset ?", [*parameters, count, offset]
            )
            total = self._one(f"select count(*) from members {where}", parameters)
            tags = self._tags_of([row["hash"] for row in rows])
        return {"members": [self._shape(row, tags.get(row["hash"], [])) for row in rows], "total_items": total}

    # Below: rows.

    def _one(self, query: str, parameters: Sequence[Any] = ()) -> int:
        return int(self._connection.execute(query, parameters).fetchone()[0])

    def _members(self, clause: str, parameters: Sequence[Any]) -> list[Member]:
        found = self._connection.execute(f"select {', '.join(_COLUMNS)} from members {clause}", parameters)
        return [{**dict(zip(_COLUMNS, row, strict=True)), "merge_fields": json.loads(row[8])} for row in found]

    def _by_hash(self, keys: Iterable[str]) -> list[Member]:
        wanted = list(dict.fromkeys(keys))
        return self._members(f"where hash in ({', '.join('?' * len(wanted))})", wanted) if wanted else []

    def _find(self, key: str) -> Member:
        """By subscriber hash or address."""
        rows = self._members("where hash = ?", [_key(key)])
        if not rows:
            raise not_found()
        return rows[0]

    def _types(self) -> dict[str, str]:
        return dict(self._connection.execute("select tag, type from merge_fields"))

    def _save(self, rows: Sequence[Member]) -> None:
        self._connection.executemany(
            f"insert or replace into members ({', '.join(_COLUMNS)}) values ({', '.join('?' * len(_COLUMNS))})",
            [[json.dumps(row[name]) if name == "merge_fields" else row[name] for name in _COLUMNS] for row in rows],
        )

    def _merged(self, old: Member | None, said: Mapping[str, Any], types: Mapping[str, str]) -> Member:
        """The member after a write, or an error that says why it can't be."""
        email = said.get("email_address") or (old or {}).get("email_address", "")
        if old is not None and old["status"] == "archived":
            # Archived and added again: new, but whoever had left stays gone.
            old = {**old, "status": "unsubscribed" if old["left_by"] else "archived"}
        is_new = old is None or old["status"] == "archived"
        status = said.get("status") or (said.get("status_if_new") if is_new else None)
        if is_new:
            if not _EMAIL.fullmatch(email) or len(email) > 254:
                raise ProblemError(
                    400, "Invalid Resource", f"{email} looks fake or invalid, please enter a real email address."
                )
            if status not in STATUSES:
                raise _invalid("status", "This value should not be null: new members need status or status_if_new.")
            if self._connection.execute("select 1 from forgotten where hash = ?", (hash_of(email),)).fetchone():
                raise ProblemError(
                    400,
                    "Forgotten Email Not Subscribed",
                    f"{email} was permanently deleted and cannot be re-imported. The contact must re-subscribe to get"
                    " back on the list.",
                )
        if status is not None and status not in STATUSES:
            raise _invalid("status", f"Value must be one of: {', '.join(STATUSES)}.")
        if status == "subscribed" and old is not None and old["left_by"] in ("contact", "bounce"):
            raise ProblemError(
                400,
                "Member In Compliance State",
                f"{email} is in a compliance state due to unsubscribe, bounce, or compliance review and cannot be"
                " subscribed.",
            )
        fields = dict(old["merge_fields"] if old else {})
        for tag, value in (said.get("merge_fields") or {}).items():
            if tag in types:  # unknown merge tags are ignored
                fields[tag] = _checked(tag, types[tag], value)
        now = _now()
        if old is None:
            old = {
                "hash": hash_of(email), "web_id": int.from_bytes(secrets.token_bytes(4), "big"),
                "contact_id": secrets.token_hex(16), "unique_email_id": secrets.token_hex(5), "email_address": email,
                "email_type": "html", "status": "", "left_by": None, "language": "", "vip": 0, "timestamp_opt": now,
            }  # fmt: skip
        status = status or old["status"]
        left_by = old["left_by"] if status == old["status"] else ("api" if status == "unsubscribed" else None)
        return {
            **old,
            "email_type": said.get("email_type") or old["email_type"],
            "status": status,
            "left_by": left_by,
            "merge_fields": fields,
            "language": said.get("language") or old["language"],
            "vip": int(said.get("vip", old["vip"])),
            "last_changed": now,
        }

    def _make_segment(self, name: str) -> int:
        made = self._connection.execute(
            "insert into segments (name, created_at, updated_at) values (?, ?, ?)", (name, _now(), _now())
        )
        return int(made.lastrowid or 0)

    def _tags_of(self, keys: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        tags: dict[str, list[dict[str, Any]]] = {}
        for key, number, name in self._connection.execute(
            "select hash, segments.id, name from segment_members join segments on segments.id = segment_id"
            f" where hash in ({', '.join('?' * len(keys))}) order by name",
            keys,
        ):
            tags.setdefault(key, []).append({"id": number, "name": name})
        return tags

    def _shape(self, row: Member, tags: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        fields = row["merge_fields"]
        return {
            "id": row["hash"],
            "email_address": row["email_address"],
            "unique_email_id": row["unique_email_id"],
            "contact_id": row["contact_id"],
            "full_name": " ".join(str(fields[tag]) for tag in ("FNAME", "LNAME") if fields.get(tag)),
            "web_id": row["web_id"],
            "email_type": row["email_type"],
            "status": row["status"],
            "merge_fields": fields,
            "stats": {"avg_open_rate": 0, "avg_click_rate": 0},
            "timestamp_opt": row["timestamp_opt"],
            "member_rating": 2,
            "last_changed": row["last_changed"],
            "language": row["language"],
            "vip": bool(row["vip"]),
            "source": "API - Generic",
            "tags_count": len(tags),
            "tags": list(tags)[:50],
            "list_id": self.account.list_id,
        }


def not_found() -> ProblemError:
    """The API's answer to a path that names nothing."""
    return ProblemError(404, "Resource Not Found", "The requested resource could not be found.")


def _invalid(field: str, message: str) -> ProblemError:
    detail = "The resource submitted could not be validated. For field-specific details, see the 'errors' array."
    return ProblemError(400, "Invalid Resource", detail, [{"field": field, "message": message}])


def _batch_error(
    member: Mapping[str, Any], words: str, field: str = "", field_message: str = "", code: str = "ERROR_GENERIC"
) -> dict[str, Any]:
    return {
        "email_address": member["email_address"], "error": words, "error_code": code, "field": field,
        "field_message": field_message,
    }  # fmt: skip


def _check_emails(field: str, emails: Any) -> None:
    if not isinstance(emails, list) or not all(isinstance(email, str) for email in emails):
        raise _invalid(field, "Schema describes array of strings.")
    if len(emails) > LIMIT:
        raise _invalid(field, f"Number of emails must not exceed {LIMIT}.")


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


def _key(key: str) -> str:
    return hash_of(key) if "@" in key else key.lower()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
