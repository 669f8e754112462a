"""The tables of ledgers that say no version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "positions",
        sa.Column("target", sa.String, primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("plan_hash", sa.String),
    )
    op.create_table(
        "contacts",
        sa.Column("target", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("content_hash", sa.String, nullable=False),
        sa.Column("field_hashes", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tags",
        sa.Column("target", sa.String, primary_key=True),
        sa.Column("tag", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.Integer, primary_key=True),
        sa.Column("target", sa.String, nullable=False, index=True),
        sa.Column("plan_hash", sa.String, nullable=False),
        sa.Column("release", sa.Integer, nullable=False),
        sa.Column("started_at", sa.DateTime, nullable=False),
        sa.Column("ended_at", sa.DateTime),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("counts", sa.Text),
    )
    op.create_table(
        "requests",
        sa.Column("request_id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.Integer, nullable=False, index=True),
        sa.Column("sent_at", sa.DateTime, nullable=False),
        sa.Column("method", sa.String, nullable=False),
        sa.Column("route", sa.String, nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("problem", sa.String),
    )
    op.create_table(
        "dead_letters",
        sa.Column("dead_letter_id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.Integer, nullable=False, index=True),
        sa.Column("target", sa.String, nullable=False, index=True),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("tag", sa.String, nullable=False),
        sa.Column("content_hash", sa.String, nullable=False),
        sa.Column("code", sa.String, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
    )
