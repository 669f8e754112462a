"""One row per contact: tags as numbers, hashes by field side by side in the order of a layout; leases, generations.

Hashes by field are cut to their first five bytes, which is what they are compared by from now on. The hash of a whole
contact is another one: it counts as unknown, so that the next plan compares field by field and finds them equal.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"

_COUNTER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_AT_ONCE = 10_000
_STATES = {"synced": 1, "unsubscribed": 3}
_OLD = ("contacts", "tags", "runs", "requests", "dead_letters", "positions")
_INDEXES = {
    "ix_runs_target": "runs",
    "ix_requests_run_id": "requests",
    "ix_dead_letters_run_id": "dead_letters",
    "ix_dead_letters_target": "dead_letters",
}


def upgrade() -> None:
    """Make the new tables beside the old ones, convert what is in those, and drop them."""
    for index, table in _INDEXES.items():
        op.drop_index(index, table)
    for table in _OLD:
        op.rename_table(table, f"old_{table}")
    tables = _create()
    connection = op.get_bind()
    for number, target in enumerate(_targets(connection), 1):
        _convert(connection, tables, number, target)
    connection.execute(
        sa.text("""
        insert into requests (run_id, sent_at, method, route, rows, status, seconds, problem)
        select run_id, sent_at, method, route, rows, status, seconds, problem from old_requests order by request_id
    """)
    )
    for table in _OLD:
        op.drop_table(f"old_{table}")


def _targets(connection: sa.Connection) -> list[str]:
    union = " union ".join(f"select target from old_{table}" for table in ("positions", "contacts", "tags", "runs"))
    return sorted(connection.execute(sa.text(union)).scalars())


def _convert(connection: sa.Connection, tables: dict[str, sa.Table], number: int, target: str) -> None:
    of = {"target": target}
    position = connection.execute(sa.text("select * from old_positions where target = :target"), of).one_or_none()
    runs = connection.execute(sa.text("select * from old_runs where target = :target order by run_id"), of).fetchall()
    connection.execute(
        tables["destinations"].insert().values(
            destination_id=number,
            target=target,
            revision=position.revision if position else 0,
            generation=position.revision if position else 0,
            plan_hash=position.plan_hash if position else None,
            release=runs[-1].release if runs else None,
            silent=None if position else "first",
            read_at=None,
        )
    )  # fmt: skip
    for run in runs:
        said = {**run._mapping, "kind": "apply", "destination_id": number, "overrides": "[]", "is_exported": False}
        said |= {name: _moment(said[name]) for name in ("started_at", "ended_at")}
        connection.execute(
            tables["runs"].insert(), {column.name: said[column.name] for column in tables["runs"].columns}
        )
    names = connection.execute(sa.text("select distinct tag from old_tags where target = :target order by tag"), of)
    tag_ids = {name: tag_id for tag_id, name in enumerate(map(str, names.scalars()), 1)}
    for name, tag_id in tag_ids.items():
        connection.execute(tables["tags"].insert().values(destination_id=number, tag_id=tag_id, name=name))
    _convert_contacts(connection, tables, number, target, tag_ids)
    _convert_letters(connection, tables, number, target)


def _convert_contacts(
    connection: sa.Connection, tables: dict[str, sa.Table], number: int, target: str, tag_ids: dict[str, int]
) -> None:
    layouts: dict[str, int] = {}
    rows = connection.execute(
        sa.text("""
            select contacts.key, contacts.state, contacts.field_hashes, tags.tag
            from old_contacts as contacts
            left join old_tags as tags on contacts.target = tags.target and contacts.key = tags.key
            where contacts.target = :target
            union all
            select tags.key, 'synced', '{}', tags.tag
            from old_tags as tags
            left join old_contacts as contacts on contacts.target = tags.target and contacts.key = tags.key
            where tags.target = :target and contacts.key is null
            order by 1
        """),
        {"target": target},
    )
    batch = []
    for key, found in groupby(rows, key=lambda row: str(row[0])):
        same = list(found)
        hashes = json.loads(same[0].field_hashes)
        layout = None
        if hashes:
            layout = layouts.setdefault(json.dumps(sorted(hashes), ensure_ascii=False), len(layouts) + 1)
        ids = sorted(tag_ids[row.tag] for row in same if row.tag is not None)
        batch.append({
            "destination_id": number,
            "key": bytes.fromhex(key),
            "state": _STATES[same[0].state],
            "content_hash": b"",
            "layout": layout,
            "field_hashes": b"".join(bytes.fromhex(hashes[name])[:5] for name in sorted(hashes)),
            "tags": struct.pack(f">{len(ids)}H", *ids),
            "run_id": None,
        })  # fmt: skip
        if len(batch) == _AT_ONCE:
            connection.execute(tables["contacts"].insert(), batch)
            batch = []
    if batch:
        connection.execute(tables["contacts"].insert(), batch)
    for fields, layout in layouts.items():
        connection.execute(tables["layouts"].insert().values(destination_id=number, layout=layout, fields=fields))


def _convert_letters(connection: sa.Connection, tables: dict[str, sa.Table], number: int, target: str) -> None:
    letters = connection.execute(
        sa.text("select * from old_dead_letters where target = :target order by dead_letter_id"), {"target": target}
    ).fetchall()
    newest = {(letter.key, letter.action, letter.tag): letter.dead_letter_id for letter in letters}
    for some in _slices(letters):
        connection.execute(
            tables["dead_letters"].insert(),
            [
                {
                    "run_id": letter.run_id,
                    "destination_id": number,
                    "key": bytes.fromhex(letter.key),
                    "action": letter.action,
                    "tag": letter.tag,
                    "content_hash": b"",
                    "code": letter.code,
                    "words": letter.words,
                    "at": _moment(letter.at),
                    "is_standing": newest[letter.key, letter.action, letter.tag] == letter.dead_letter_id,
                }
                for letter in some
            ],
        )


def _slices(rows: Any) -> Iterator[Any]:
    for start in range(0, len(rows), _AT_ONCE):
        yield rows[start : start + _AT_ONCE]


def _moment(said: Any) -> datetime | None:
    """An instant of a text query: SQLite gives its text back."""
    moment = datetime.fromisoformat(said) if isinstance(said, str) else said
    return moment.astimezone(UTC).replace(tzinfo=None) if moment is not None and moment.tzinfo else moment


def _create() -> dict[str, sa.Table]:
    destination = ("destination_id", sa.SmallInteger)
    made = [
        op.create_table(
            "destinations",
            sa.Column(*destination, primary_key=True, autoincrement=False),
            sa.Column("target", sa.String, nullable=False, unique=True),
            sa.Column("revision", sa.Integer, nullable=False),
            sa.Column("generation", sa.Integer, nullable=False),
            sa.Column("plan_hash", sa.String),
            sa.Column("release", sa.Integer),
            sa.Column("silent", sa.String),
            sa.Column("read_at", sa.DateTime),
        ),
        op.create_table(
            "contacts",
            sa.Column(*destination, primary_key=True, autoincrement=False),
            sa.Column("key", sa.LargeBinary, primary_key=True),
            sa.Column("state", sa.SmallInteger, nullable=False),
            sa.Column("content_hash", sa.LargeBinary, nullable=False),
            sa.Column("layout", sa.SmallInteger),
            sa.Column("field_hashes", sa.LargeBinary, nullable=False),
            sa.Column("tags", sa.LargeBinary, nullable=False),
            sa.Column("run_id", sa.Integer),
            sqlite_with_rowid=False,
        ),
        op.create_table(
            "layouts",
            sa.Column(*destination, primary_key=True, autoincrement=False),
            sa.Column("layout", sa.SmallInteger, primary_key=True, autoincrement=False),
            sa.Column("fields", sa.Text, nullable=False),
        ),
        op.create_table(
            "tags",
            sa.Column(*destination, primary_key=True, autoincrement=False),
            sa.Column("tag_id", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("name", sa.String, nullable=False),
            sa.UniqueConstraint("destination_id", "name", name="uq_tags_name"),
        ),
        op.create_table(
            "runs",
            sa.Column("run_id", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column(*destination, nullable=False),
            sa.Column("kind", sa.String, nullable=False),
            sa.Column("plan_hash", sa.String),
            sa.Column("release", sa.Integer),
            sa.Column("overrides", sa.Text, nullable=False),
            sa.Column("started_at", sa.DateTime, nullable=False),
            sa.Column("ended_at", sa.DateTime),
            sa.Column("outcome", sa.String, nullable=False),
            sa.Column("counts", sa.Text),
            sa.Column("is_exported", sa.Boolean, nullable=False),
        ),
        op.create_table(
            "outcomes",
            sa.Column("outcome_id", _COUNTER, primary_key=True),
            sa.Column("run_id", sa.Integer, nullable=False),
            sa.Column("key", sa.LargeBinary, nullable=False),
            sa.Column("action", sa.String, nullable=False),
            sa.Column("tag", sa.String, nullable=False),
            sa.Column("outcome", sa.String, nullable=False),
            sa.Column("code", sa.String, nullable=False),
            sa.Column("at", sa.BigInteger, nullable=False),
        ),
        op.create_table(
            "requests",
            sa.Column("request_id", _COUNTER, primary_key=True),
            sa.Column("run_id", sa.Integer, nullable=False),
            sa.Column("sent_at", sa.DateTime, nullable=False),
            sa.Column("method", sa.String, nullable=False),
            sa.Column("route", sa.String, nullable=False),
            sa.Column("rows", sa.Integer, nullable=False),
            sa.Column("status", sa.Integer),
            sa.Column("seconds", sa.Float, nullable=False),
            sa.Column("problem", sa.String),
        ),
        op.create_table(
            "dead_letters",
            sa.Column("dead_letter_id", sa.Integer, primary_key=True),
            sa.Column("run_id", sa.Integer, nullable=False),
            sa.Column(*destination, nullable=False),
            sa.Column("key", sa.LargeBinary, nullable=False),
            sa.Column("action", sa.String, nullable=False),
            sa.Column("tag", sa.String, nullable=False),
            sa.Column("content_hash", sa.LargeBinary, nullable=False),
            sa.Column("code", sa.String, nullable=False),
            sa.Column("words", sa.Text, nullable=False),
            sa.Column("at", sa.DateTime, nullable=False),
            sa.Column("is_standing", sa.Boolean, nullable=False),
        ),
        op.create_table(
            "leases",
            sa.Column("name", sa.String, primary_key=True),
            sa.Column("token", sa.String, nullable=False),
            sa.Column("holder", sa.String, nullable=False),
            sa.Column("host", sa.String, nullable=False),
            sa.Column("pid", sa.Integer, nullable=False),
            sa.Column("process_started", sa.String, nullable=False),
            sa.Column("expires_at", sa.Float, nullable=False),
        ),
    ]
    op.create_index("ix_runs_destination_id", "runs", ["destination_id"])
    op.create_index("ix_outcomes_run_id", "outcomes", ["run_id"])
    op.create_index("ix_requests_run_id", "requests", ["run_id"])
    op.create_index("ix_dead_letters_run_id", "dead_letters", ["run_id"])
    op.create_index("ix_dead_letters_destination_id", "dead_letters", ["destination_id", "key"])
    return {table.name: table for table in made}
