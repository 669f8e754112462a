"""What a file really is, told by its first bytes, where its name says something else."""

from __future__ import annotations

import zipfile
from pathlib import Path

HEAD = 4096
GZIP = b"\x1f\x8b"
_MARKS_OF_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_MARK_OF_UTF_8 = b"\xef\xbb\xbf"
_AS_CSV = "export it as CSV in UTF-8 and deliver that"


def disguise(path: Path, *, is_json: bool) -> str | None:
    """What is wrong with a file whose name says that it is text, and what to do; None if it may well be text.

    Args:
        is_json: whether its name says JSON lines; else CSV or its kin.

    Raises:
        OSError: the file can't be read.
    """
    with open(path, "rb") as file:
        head = file.read(HEAD)
    is_packed = path.name.lower().endswith(".gz")
    if is_packed != head.startswith(GZIP):
        if is_packed:
            return f"is not compressed with gzip, as its name says: rename it to {path.name[:-3]} or export it again"
        return f"is compressed with gzip: rename it to {path.name}.gz and deliver it again"
    if is_packed:
        return None
    if head.startswith(b"PAR1"):
        return f"is Parquet: rename it to {path.stem}.parquet and deliver it again"
    if head.startswith(b"PK\x03\x04"):
        return (
            f"is a spreadsheet (xlsx): {_AS_CSV}"
            if _is_spreadsheet(path)
            else "is a zip archive: deliver what is in it"
        )
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return f"is a spreadsheet (xls): {_AS_CSV}"
    if head.startswith(b"%PDF"):
        return f"is a PDF: {_AS_CSV}"
    if head.startswith(b"SQLite format 3"):
        return f"is an SQLite database: {_AS_CSV}"
    if not head.startswith(_MARKS_OF_UTF_16) and b"\0" in head[:2]:
        return f"looks like UTF-16 without a byte order mark: {_AS_CSV}"
    start = head.removeprefix(_MARK_OF_UTF_8).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return f"is a web page (HTML), perhaps a sign-in or an error page: {_AS_CSV}"
    if not is_json and start.startswith((b'{"', b"{ ", b'[{"', b"{\n", b"[\n")):
        return "is JSON: write one object on each line and rename it to .jsonl"
    return None


def _is_spreadsheet(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.startswith("xl/") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False
