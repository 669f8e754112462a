"""The sandbox's one account: its key and its audience, made at random with its database."""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

DATABASE = "mailchimp.db"


@dataclass(frozen=True)
class Account:
    """Key and audience. Both go with the database: delete it, and the ledger knows the new audience from the old."""

    api_key: str = field(repr=False)
    list_id: str


def open_account(folder: Path) -> Account:
    """The account of the sandbox in `folder`, made when it is not there."""
    with closing(open_database(folder)) as connection:
        with connection:
            connection.execute("create table if not exists account (api_key text not null, list_id text not null)")
            connection.execute(
                "insert into account select ?, ? where not exists (select 1 from account)",
                (f"{secrets.token_hex(16)}-sandbox", secrets.token_hex(5)),
            )
        api_key, list_id = connection.execute("select api_key, list_id from account").fetchone()
    return Account(api_key, list_id)


def open_database(folder: Path) -> sqlite3.Connection:
    """Open the sandbox's SQLite file, readable by its owner only: it holds contacts and the key."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / DATABASE
    path.touch(mode=0o600)
    connection = sqlite3.connect(path, timeout=30, check_same_thread=False)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = normal")
    return connection
