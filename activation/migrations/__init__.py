"""Migrations of the ledger, by Alembic. Opening a ledger that is of this version imports none of this."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection

from core.errors import LedgerError


def upgrade(connection: Connection, start: str | None, revision: str = "head") -> None:
    """Bring a ledger to a newer version, within the transaction that the connection is in.

    Args:
        start: the version of a ledger that does not say one itself; None where it does, or where it is empty.

    Raises:
        LedgerError: no migration leads on from there: a newer version of the software wrote this ledger.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    try:
        if start is not None:
            command.stamp(config, start)
        command.upgrade(config, revision)
    except CommandError as error:
        raise LedgerError(f"the ledger is of another version ({error}): use the software that wrote it") from None
