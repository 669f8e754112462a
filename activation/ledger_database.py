"""Where the ledger is, and that it has the tables of this version: a SQLite file of the home, or PostgreSQL.

A new ledger gets its tables at once; one of an earlier version is migrated by Alembic, which is imported for that only.
"""

from __future__ import annotations

import os
import re
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.exc import DBAPIError

from activation.ledger_tables import VERSION, metadata, version
from core.errors import LedgerError, SettingsError
from core.home import Home
from core.settings import Settings

# Who migrates PostgreSQL, one at a time: any number that nobody else in that database takes.
_MIGRATION_LOCK = 6_245_197_301


def open_engine(home: Home, settings: Settings) -> Engine:
    """Open the ledger's database; its tables are made, or brought to this version, where that is needed.

    Raises:
        LedgerError: it can't be opened, or a newer version of the software wrote it.
        SettingsError: the database of the settings can't be reached.
    """
    engine = _sqlite(home) if settings.ledger_url is None else _postgresql(settings.ledger_url.get_secret_value())
    try:
        with engine.connect() as connection:
            found = _version(connection)
        if found != VERSION:
            with writing(engine).begin() as connection:
                if connection.dialect.name == "postgresql":
                    connection.execute(text("select pg_advisory_xact_lock(:number)"), {"number": _MIGRATION_LOCK})
                _bring_up_to_date(connection)
    except DBAPIError as error:
        engine.dispose()
        said = str(error.orig).strip().partition("\n")[0]
        if settings.ledger_url is not None:
            raise SettingsError(f"MAILWRIGHT_LEDGER_URL: the database can't be used ({said})") from None
        raise LedgerError(f"{home.ledger} can't be opened ({said}): restore it from a backup") from None
    except BaseException:
        engine.dispose()
        raise
    return engine


def writing(engine: Engine) -> Engine:
    """The same engine, whose transactions take the write lock when they begin, so that what they read stays true."""
    return engine.execution_options(takes_write_lock=True)


def give_back_space(engine: Engine) -> None:
    """Shrink the file by what was deleted, such as a first sync's outcomes; PostgreSQL sees to that by itself."""
    if engine.dialect.name == "sqlite":
        connection = engine.raw_connection()
        try:
            # The pragma frees a page with each step of the statement, and SQLAlchemy takes the first one only.
            connection.cursor().executescript("pragma incremental_vacuum")
        finally:
            connection.close()


def _sqlite(home: Home) -> Engine:
    if not home.ledger.exists():
        home.root.mkdir(parents=True, exist_ok=True)
        os.close(os.open(home.ledger, os.O_CREAT | os.O_RDWR, 0o600))
    engine = create_engine(f"sqlite:///{home.ledger}", hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgresql(url: str) -> Engine:
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise SettingsError("MAILWRIGHT_LEDGER_URL: PostgreSQL needs psycopg: install mailwright[postgres]") from None
    driver = re.sub(r"^postgres(ql)?(\+psycopg)?://", "postgresql+psycopg://", url)
    return create_engine(driver, hide_parameters=True, pool_pre_ping=True)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # Transactions begin where SQLAlchemy says so, not with the driver's first write.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("pragma busy_timeout = 30000")
    # Only a file that is still empty takes this to heart; it lets `give_back_space` shrink it.
    cursor.execute("pragma auto_vacuum = incremental")
    cursor.execute("pragma journal_mode = wal")
    cursor.execute("pragma synchronous = full")
    cursor.execute("pragma journal_size_limit = 67108864")
    cursor.execute("pragma cache_size = -65536")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    takes_lock = connection.get_execution_options().get("takes_write_lock", False)
    connection.exec_driver_sql("begin immediate" if takes_lock else "begin")


def _version(connection: Connection) -> str | None:
    """The version that the ledger says it has; None where it says none."""
    if not inspect(connection).has_table(version.name):
        return None
    return connection.execute(select(version.c.version_num)).scalar_one_or_none()


def _bring_up_to_date(connection: Connection) -> None:
    # Another process may have done it while this one waited for the lock.
    found = _version(connection)
    if found == VERSION:
        return
    if found is None and not inspect(connection).has_table("positions"):
        metadata.create_all(connection)
        connection.execute(version.insert().values(version_num=VERSION))
        return
    from activation.migrations import upgrade

    upgrade(connection, found or "0001")
