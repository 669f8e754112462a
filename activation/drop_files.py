"""Files that other systems import: CSV and Parquet of the same rows, and a manifest that says when they expire.

A file is written beside its place and renamed, and the manifest comes last: who reads only files that a manifest names
never sees half of one. Parquet holds values as they are. CSV is RFC 4180 (UTF-8, CRLF); a list is joined by `|`, what is
empty and what is missing look the same, and a text that a spreadsheet would take for a formula, as it begins with
`=`, `+`, `-`, `@`, a tab or a carriage return, gets an apostrophe in front.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import os
import posixpath
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from activation.http import TryAgainError
from core.errors import DestinationError

Kind = Literal["changes", "suppression", "audience"]
VERSION = 1
MANIFEST = ".manifest.json"
_FORMULA = r"^[=+\-@\t\r]"
_CHUNK = 10_000
# What waiting does not mend.
_LASTING = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG)


@dataclass(frozen=True)
class DropFile:
    """A file that lies there whole."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a drop is.

    Attributes:
        name: of its files, without ending.
        made_at: drops of changes are imported in this order.
        expires_at: after it the drop must not be imported any more: people may have withdrawn since. None: never.
        columns: in the files' order.
        files: the same rows in each.
        about: anything else that is worth saying, for people; nothing personal.
    """

    name: str
    kind: Kind
    rows: int
    made_at: datetime
    expires_at: datetime | None
    columns: tuple[str, ...]
    files: tuple[DropFile, ...]
    about: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> bytes:
        said = {
            "version": VERSION,
            "name": self.name,
            "kind": self.kind,
            "rows": self.rows,
            "made_at": _text(self.made_at),
            "expires_at": self.expires_at and _text(self.expires_at),
            "columns": self.columns,
            "files": [{"name": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in self.files],
            "about": dict(self.about),
        }
        return (json.dumps(said, indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> Manifest:
        """Read one back.

        Raises:
            ValueError: it is no manifest, or one of a later version.
        """
        said = json.loads(content)
        if not isinstance(said, dict) or said.get("version") != VERSION:
            raise ValueError("no manifest of this version")
        try:
            return cls(
                said["name"],
                said["kind"],
                said["rows"],
                datetime.fromisoformat(said["made_at"]),
                said["expires_at"] and datetime.fromisoformat(said["expires_at"]),
                tuple(said["columns"]),
                tuple(DropFile(**file) for file in said["files"]),
                said.get("about", {}),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"a manifest without {error}") from None


class Folder:
    """A folder of this machine, or of anything that fsspec knows.

    Every method raises DestinationError where writing will not work before somebody mends it (rights, a full disk), and
    TryAgainError where it may. Texts of errors name files, never what is in them.

    Args:
        url: an absolute path, or a URL such as s3://bucket/folder. Keys come from the environment that the protocol's
            own library reads, never from here.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.is_local = "://" not in self.url or self.url.startswith("file://")
        # Several threads write; fsspec's own cache of listings would hide what others wrote.
        options = {} if self.is_local else {"use_listings_cache": False}
        with _errors(self.url):
            try:
                found = fsspec.core.url_to_fs(self.url, **options)
            except ValueError:
                raise DestinationError(f"{self.url}: fsspec knows no such kind of URL") from None
        self._files, self._root = found[0], str(found[1]).rstrip("/")

    def __repr__(self) -> str:
        return f"<folder {self.url}>"

    def path(self, name: str) -> str:
        return posixpath.join(self._root, name)

    @contextmanager
    def writing(self, name: str) -> Iterator[_Hashed]:
        """A file to be written to, in its place once the block is through; nothing stays of one that fails."""
        place, beside = (
            self.path(name),
            self.path(posixpath.join(posixpath.dirname(name), f".{os.path.basename(name)}.part")),
        )
        with _errors(name):
            self._files.makedirs(posixpath.dirname(place), exist_ok=True)
        try:
            with _errors(name):
                if self.is_local:
                    with open(beside, "wb", opener=_owner_only) as file:
                        yield (hashed := _Hashed(file))
                        file.flush()
                        os.fsync(file.fileno())
                    os.replace(beside, place)
                    _sync_folder(Path(place).parent)
                else:
                    with self._files.open(beside, "wb") as file:
                        yield (hashed := _Hashed(file))
                    self._files.mv(beside, place)
            hashed.name = name
        except BaseException:
            with suppress(Exception):
                self._files.rm(beside)
            raise

    def put(self, name: str, content: bytes) -> DropFile:
        """Write a small file."""
        with self.writing(name) as file:
            file.write(content)
        return file.done()

    def read(self, name: str) -> bytes | None:
        """A whole file; None where there is none."""
        with _errors(name):
            try:
                return bytes(self._files.cat_file(self.path(name)))
            except FileNotFoundError:
                return None

    def names(self, folder: str = "") -> list[str]:
        """Names of the files in a folder below; empty where there is none."""
        with _errors(folder):
            try:
                found = self._files.ls(self.path(folder) if folder else self._root, detail=False)
            except FileNotFoundError:
                return []
        return sorted(posixpath.join(folder, posixpath.basename(str(path).rstrip("/"))) for path in found)

    def remove(self, name: str) -> None:
        """Delete a file; it may be gone already."""
        with _errors(name), suppress(FileNotFoundError):
            self._files.rm(self.path(name))


class _Hashed(io.RawIOBase):
    """Hands on what is written, and hashes and counts it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._bytes = 0
        self.name = ""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        content = memoryview(data).cast("B")
        self._hash.update(content)
        self._bytes += len(content)
        self._file.write(content)
        return len(content)

    def tell(self) -> int:
        return self._bytes

    def close(self) -> None:
        """Leaves the file below open: it is closed, synced and renamed by who opened it."""

    def done(self) -> DropFile:
        return DropFile(self.name, self._bytes, self._hash.hexdigest())


def write_table(
    folder: Folder,
    name: str,
    table: pa.Table,
    *,
    kind: Kind,
    made_at: datetime,
    expires_at: datetime | None,
    about: Mapping[str, str] | None = None,
) -> Manifest:
    """Write a table as `<name>.csv`, `<name>.parquet` and `<name>.manifest.json`, in this order.

    Args:
        name: may begin with folders. The same name replaces what was there.
    """
    with folder.writing(f"{name}.csv") as file:
        write_csv(table, file)
    written = [file.done()]
    with folder.writing(f"{name}.parquet") as file, io.BufferedWriter(file, 1 << 20) as buffered:
        pq.write_table(table, buffered, compression="zstd")
    written.append(file.done())
    manifest = Manifest(
        name, kind, table.num_rows, made_at, expires_at, tuple(table.column_names), tuple(written), about or {}
    )
    folder.put(f"{name}{MANIFEST}", manifest.to_json())
    return manifest


def read_manifest(folder: Folder, name: str) -> Manifest | None:
    """The manifest of a drop by its name; None where there is none, or none that can be read."""
    content = folder.read(f"{name}{MANIFEST}")
    if content is None:
        return None
    try:
        return Manifest.from_json(content)
    except ValueError:
        return None


def remove(folder: Folder, name: str) -> None:
    """Delete a drop: the manifest first, so that nobody starts to import what goes."""
    for ending in (MANIFEST, ".csv", ".parquet"):
        folder.remove(f"{name}{ending}")


def manifests(folder: Folder, below: str = "") -> list[Manifest]:
    """Every drop in a folder."""
    names = [name.removesuffix(MANIFEST) for name in folder.names(below) if name.endswith(MANIFEST)]
    return [found for name in names if (found := read_manifest(folder, name)) is not None]


def read_table(folder: Folder, name: str) -> pa.Table:
    """The rows of a drop.

    Raises:
        DestinationError: it is not there.
    """
    content = folder.read(f"{name}.parquet")
    if content is None:
        raise DestinationError(f"{name}.parquet is gone from {folder.url}: write the drop again")
    return pq.read_table(pa.BufferReader(content))


def write_csv(table: pa.Table, file: Any) -> None:
    """Write a table as CSV to a binary file."""
    lines = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=False)
    writer = csv.writer(lines, lineterminator="\r\n")
    writer.writerow(table.column_names)
    for batch in table.to_batches(max_chunksize=_CHUNK):
        columns = [_plain(column).to_pylist() for column in batch.columns]
        writer.writerows(zip(*columns, strict=True))
    lines.flush()
    lines.detach()


def csv_bytes(table: pa.Table) -> bytes:
    """A small table as CSV."""
    file = io.BytesIO()
    write_csv(table, file)
    return file.getvalue()


def content_name(prefix: str, content: bytes) -> str:
    """A name that is the same for the same content."""
    return f"{prefix}-{hashlib.sha256(content).hexdigest()[:24]}"


def _plain(column: pa.Array) -> pa.Array:
    """A column as CSV has it: lists joined, booleans in lower case, no formulas."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = pc.binary_join(column, "|")
    if pa.types.is_boolean(column.type):
        return pc.if_else(column, "true", "false")
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        marked = pc.binary_join_element_wise(pa.scalar("'", column.type), column, pa.scalar("", column.type))
        return pc.if_else(pc.match_substring_regex(column, _FORMULA), marked, column)
    return column


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _errors(name: str) -> Iterator[None]:
    """Say of a file what can be done about it; the library's own words may hold keys or addresses."""
    try:
        yield
    except FileNotFoundError as error:
        raise TryAgainError(f"{name} is not there ({type(error).__name__})") from None
    except ImportError as error:
        raise DestinationError(f"{name}: the package for this kind of URL is not installed ({error.name})") from None
    except OSError as error:
        words = os.strerror(error.errno) if error.errno else type(error).__name__
        if error.errno in _LASTING:
            raise DestinationError(f"{name} can't be written ({words}): mend that, then apply again") from None
        raise TryAgainError(f"{name} can't be written ({words})") from None


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
