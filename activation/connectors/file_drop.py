"""File drop: changes as files that another system imports, in a folder or at an fsspec URL such as s3://bucket/folder.

Each batch is one drop below `changes/`: a CSV and a Parquet file of the same rows, and a manifest with hashes and expiry
(`activation.drop_files` has the formats). A batch's name comes from its rows, so a batch that is repeated replaces itself.
`suppression` beside them names everybody who must not be mailed, whatever any other file says: who imports applies it
last. Drops that have expired are deleted when the next sync begins, and an erasure takes the person out of every drop
that still lies there.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import orjson
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field as Setting
from pydantic import field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from activation import drop_files
from activation.connector import Answer, Connector, Contact, Credentials, Field, Rekey, SandboxAccount
from activation.drop_files import Folder
from activation.http import Api, RetryPolicy
from activation.platform import FieldRule, Limit, Platform
from core.errors import DestinationError
from core.home import Home
from core.settings import read_environment

CHANGES = "changes"
SUPPRESSION = "suppression"

PLATFORM = Platform(
    name="file_drop",
    title="File drop",
    key="email",
    membership="attributes",
    membership_form="columns segments_added and segments_removed",
    tag_prefix="mw_",
    limits={"contacts": Limit(batch=5000)},
    fields=FieldRule(pattern=r"[A-Za-z][A-Za-z0-9_]{0,62}", prefix=""),
    consent_form="action `create` may be subscribed, `update` never is; refusals in the file suppression",
    documents="docs/file_drop.md",
    connections=2,
    can_read=False,
)

SCHEMA = pa.schema([
    pa.field("action", pa.string(), nullable=False),
    pa.field("key", pa.string(), nullable=False),
    pa.field("email", pa.string()),
    pa.field("old_key", pa.string()),
    pa.field("old_email", pa.string()),
    pa.field("fields", pa.string()),
    pa.field("segments_added", pa.list_(pa.string())),
    pa.field("segments_removed", pa.list_(pa.string())),
])  # fmt: skip
_SUPPRESSED = pa.schema([
    pa.field("key", pa.string(), nullable=False),
    pa.field("email", pa.string()),
    pa.field("reason", pa.string(), nullable=False),
])  # fmt: skip


class FileDropSettings(BaseSettings):
    """Where drops go."""

    model_config = SettingsConfigDict(env_prefix="MAILWRIGHT_FILE_DROP_", extra="ignore", frozen=True)

    url: str | None = Setting(None, description="Folder or fsspec URL of file drops; without one, drops/ in the home")
    expires_hours: float = Setting(24, gt=0, description="Hours for which a drop may be imported")

    @field_validator("url")
    @classmethod
    def _no_secret(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if re.match(r"[\w+.-]+://[^/@]*:[^/@]*@", value):
            raise ValueError("must hold no password: give keys by the variables that the protocol's own library reads")
        if "://" not in value and not os.path.isabs(value):
            raise ValueError("must be an absolute path, or a URL such as s3://bucket/folder")
        return value


@dataclass(frozen=True)
class FolderAccount(Credentials):
    """A folder to write to; `base_url` is its path or URL."""

    expires: timedelta = timedelta(hours=24)


class FileDrop(Connector):
    """One folder.

    Args:
        now: the clock, for the manifests.
    """

    platform: ClassVar[Platform] = PLATFORM
    account: FolderAccount

    def __init__(
        self, account: FolderAccount, api: Api, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        super().__init__(account, api)
        self._now = now
        self._opened: Folder | None = None
        self._lock = threading.RLock()

    @classmethod
    def credentials(cls, home: Home) -> FolderAccount | None:
        """The folder of the environment, else one in the home: a drop needs no account anywhere."""
        said = read_environment(FileDropSettings)
        expires = timedelta(hours=said.expires_hours)
        if said.url is None:
            folder = home.root / "drops"
            return FolderAccount(str(folder), "home", f"file drop in {folder}", expires)
        url = said.url.rstrip("/")
        return FolderAccount(url, url, f"file drop in {url}", expires)

    @classmethod
    def sandbox_credentials(cls, account: SandboxAccount) -> FolderAccount:
        """A folder among the sandbox's files: nothing has to run for it."""
        return FolderAccount(account.secrets["folder"], account.account, "file drop in the sandbox's folder")

    @classmethod
    def connect(cls, credentials: FolderAccount, retry: RetryPolicy | None = None) -> FileDrop:
        return cls(credentials, Api(PLATFORM, "", description=credentials.description, retry=retry))

    def prepare(self, fields: Sequence[Field], tags: Collection[str]) -> None:
        """Delete what has expired. Files need no columns made."""
        now = self._now()
        for manifest in drop_files.manifests(self._folder, CHANGES):
            if manifest.expires_at is not None and manifest.expires_at < now:
                drop_files.remove(self._folder, manifest.name)

    def write(self, contacts: Sequence[Contact]) -> Answer:
        return self._drop([_row("create" if contact.is_new else "update", contact) for contact in contacts])

    def unsubscribe(self, contacts: Sequence[Contact]) -> Answer:
        self._suppress(contacts, "unsubscribe")
        return self._drop([_row("unsubscribe", contact) for contact in contacts])

    def erase(self, contacts: Sequence[Contact]) -> Answer:
        """Have others delete these, and delete what the folder itself still has of them."""
        self._suppress(contacts, "erase")
        self._take_out({contact.key for contact in contacts})
        return self._drop([_row("erase", contact) for contact in contacts])

    def archive(self, contacts: Sequence[Contact]) -> Answer:
        return self._drop([_row("archive", contact) for contact in contacts])

    def rekey(self, changes: Sequence[Rekey]) -> Answer:
        rows = [
            {**_row("rekey", change.new), "old_key": change.old.key, "old_email": change.old.email}
            for change in changes
        ]
        return self._drop(rows)

    @property
    def _folder(self) -> Folder:
        with self._lock:
            if self._opened is None:
                url = self.account.base_url
                self._opened = Folder(url if isinstance(url, str) else url())
            return self._opened

    def _drop(self, rows: list[dict[str, object]]) -> Answer:
        rows.sort(key=lambda row: str(row["key"]))
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        name = drop_files.content_name(f"{CHANGES}/{rows[0]['action']}", drop_files.csv_bytes(table))
        with self._noted(f"{CHANGES}/{{batch}}", len(rows)):
            now = self._now()
            self._write(name, table, "changes", now, now + self.account.expires)
        return Answer({str(row["key"]) for row in rows})

    def _suppress(self, contacts: Sequence[Contact], reason: str) -> None:
        """Add to the one file that says who must not be mailed; of an erased person it has the key alone."""
        with self._one_writer(), self._noted(SUPPRESSION, len(contacts)):
            said = {row["key"]: row for row in self._suppressed().to_pylist()}
            for contact in contacts:
                before = said.get(contact.key, {"email": None, "reason": reason})
                erased = "erase" in (reason, before["reason"])
                said[contact.key] = {
                    "key": contact.key,
                    "email": None if erased else contact.email or before["email"],
                    "reason": "erase" if erased else reason,
                }
            rows = sorted(said.values(), key=lambda row: str(row["key"]))
            self._write(SUPPRESSION, pa.Table.from_pylist(rows, schema=_SUPPRESSED), "suppression", self._now(), None)

    def _suppressed(self) -> pa.Table:
        if drop_files.read_manifest(self._folder, SUPPRESSION) is None:
            # Cut off before its first manifest, or never begun.
            return _SUPPRESSED.empty_table()
        return drop_files.read_table(self._folder, SUPPRESSION)

    def _take_out(self, keys: set[str]) -> None:
        """Rewrite the drops that have something of these people to tell, without it."""
        gone = pa.array(sorted(keys), pa.string())
        for manifest in drop_files.manifests(self._folder, CHANGES):
            table = drop_files.read_table(self._folder, manifest.name)
            concerned = pc.or_(pc.is_in(table["key"], gone), pc.is_in(table["old_key"], gone))
            kept = table.filter(pc.invert(pc.and_(concerned, pc.not_equal(table["action"], "erase"))))
            if kept.num_rows == 0:
                drop_files.remove(self._folder, manifest.name)
            elif kept.num_rows < table.num_rows:
                # Its place among the others stays, else what is older would be imported last.
                self._write(manifest.name, kept, "changes", manifest.made_at, manifest.expires_at)

    def _write(
        self, name: str, table: pa.Table, kind: drop_files.Kind, made_at: datetime, expires_at: datetime | None
    ) -> None:
        about = {"suppression": f"apply {SUPPRESSION} after importing this"} if kind == "changes" else {}
        drop_files.write_table(
            self._folder, name, table, kind=kind, made_at=made_at, expires_at=expires_at, about=about
        )

    @contextmanager
    def _one_writer(self) -> Iterator[None]:
        """Reading, adding and writing again as one step: among threads always, among processes on this machine."""
        folder = self._folder
        with self._lock:
            if not folder.is_local:
                yield
                return
            path = Path(folder.path(f".{SUPPRESSION}.lock"))
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
            except OSError as error:
                raise DestinationError(
                    f"{folder.url} can't be written to ({os.strerror(error.errno or 0)}): mend that, then apply again"
                ) from None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)

    @contextmanager
    def _noted(self, route: str, rows: int) -> Iterator[None]:
        """Tell the observer of a write as it is told of a request."""
        started, problem = time.monotonic(), None
        try:
            yield
        except DestinationError as error:
            problem = type(error).__name__
            raise
        finally:
            if self.api.observer is not None:
                self.api.observer("PUT", route, rows, None, time.monotonic() - started, problem)


def _row(action: str, contact: Contact) -> dict[str, object]:
    fields = orjson.dumps(dict(contact.fields), option=orjson.OPT_SORT_KEYS).decode() if contact.fields else None
    return {
        "action": action,
        "key": contact.key,
        "email": contact.email,
        "old_key": None,
        "old_email": None,
        "fields": fields,
        "segments_added": sorted(contact.add),
        "segments_removed": sorted(contact.remove),
    }


CONNECTOR = FileDrop
