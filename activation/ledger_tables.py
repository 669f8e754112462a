"""The ledger's tables. What changes here gets a migration in `activation/migrations`; a test compares the two.

Contacts are kept as compactly as they can be: one row each, its tags as numbers and its fields as the first bytes of
their hashes, in the order of a layout that is written down once. Ten million of them stay below two gigabytes.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

# The newest migration: a ledger that is at it is opened without importing Alembic.
VERSION = "0002"

# Of an md5: of a field's value, and of all of a contact's fields together.
FIELD_HASH_BYTES = 5
CONTENT_HASH_BYTES = 8

metadata = MetaData()

_Counter = BigInteger().with_variant(Integer, "sqlite")

version = Table("alembic_version", metadata, Column("version_num", String(32), primary_key=True))

# One row per account at a platform: how often a plan moved it, which was the last, and why its next plan is silent.
destinations = Table(
    "destinations",
    metadata,
    Column("destination_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("target", String, nullable=False, unique=True),
    Column("revision", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("plan_hash", String),
    Column("release", Integer),
    Column("silent", String),
    Column("read_at", DateTime),
)
contacts = Table(
    "contacts",
    metadata,
    Column("destination_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("key", LargeBinary, primary_key=True),
    Column("state", SmallInteger, nullable=False),
    Column("content_hash", LargeBinary, nullable=False),
    Column("layout", SmallInteger),
    Column("field_hashes", LargeBinary, nullable=False),
    Column("tags", LargeBinary, nullable=False),
    Column("run_id", Integer),
    sqlite_with_rowid=False,
)
layouts = Table(
    "layouts",
    metadata,
    Column("destination_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("layout", SmallInteger, primary_key=True, autoincrement=False),
    Column("fields", Text, nullable=False),
)
tags = Table(
    "tags",
    metadata,
    Column("destination_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("tag_id", Integer, primary_key=True, autoincrement=False),
    Column("name", String, nullable=False),
    UniqueConstraint("destination_id", "name", name="uq_tags_name"),
)
runs = Table(
    "runs",
    metadata,
    Column("run_id", Integer, primary_key=True, autoincrement=False),
    Column("destination_id", SmallInteger, nullable=False),
    Column("kind", String, nullable=False),
    Column("plan_hash", String),
    Column("release", Integer),
    Column("overrides", Text, nullable=False),
    Column("started_at", DateTime, nullable=False),
    Column("ended_at", DateTime),
    Column("outcome", String, nullable=False),
    Column("counts", Text),
    Column("is_exported", Boolean, nullable=False),
    Index("ix_runs_destination_id", "destination_id"),
)
# What became of each row, until it is exported; `at` in microseconds of the epoch.
outcomes = Table(
    "outcomes",
    metadata,
    Column("outcome_id", _Counter, primary_key=True),
    Column("run_id", Integer, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("action", String, nullable=False),
    Column("tag", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("code", String, nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("ix_outcomes_run_id", "run_id"),
)
requests = Table(
    "requests",
    metadata,
    Column("request_id", _Counter, primary_key=True),
    Column("run_id", Integer, nullable=False),
    Column("sent_at", DateTime, nullable=False),
    Column("method", String, nullable=False),
    Column("route", String, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("status", Integer),
    Column("seconds", Float, nullable=False),
    Column("problem", String),
    Index("ix_requests_run_id", "run_id"),
)
# Rows that the platform refused. One is standing until the row is acknowledged, or refused again.
dead_letters = Table(
    "dead_letters",
    metadata,
    Column("dead_letter_id", Integer, primary_key=True),
    Column("run_id", Integer, nullable=False),
    Column("destination_id", SmallInteger, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("action", String, nullable=False),
    Column("tag", String, nullable=False),
    Column("content_hash", LargeBinary, nullable=False),
    Column("code", String, nullable=False),
    Column("words", Text, nullable=False),
    Column("at", DateTime, nullable=False),
    Column("is_standing", Boolean, nullable=False),
    Index("ix_dead_letters_run_id", "run_id"),
    Index("ix_dead_letters_destination_id", "destination_id", "key"),
)
leases = Table(
    "leases",
    metadata,
    Column("name", String, primary_key=True),
    Column("token", String, nullable=False),
    Column("holder", String, nullable=False),
    Column("host", String, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process_started", String, nullable=False),
    Column("expires_at", Float, nullable=False),
)
