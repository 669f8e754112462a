"""What a system knows that imports file drops as docs/file_drop.md says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from activation import drop_files
from activation.connector import Connector
from activation.connectors.file_drop import CHANGES, SUPPRESSION
from activation.drop_files import Folder
from activation.sandbox.people import Person


class Imported:
    """The same questions that a part of the sandbox answers, of an importer that begins anew each time."""

    secrets: Mapping[str, str] = {}

    def __init__(self, folder: Path) -> None:
        self._folder = Folder(str(folder))
        self._left: set[str] = set()

    @staticmethod
    def is_for(kind: type[Connector]) -> bool:
        return kind.platform.name == "file_drop"

    @property
    def people(self) -> Imported:
        return self

    def leave(self, key: str, how: str) -> bool:
        self._left.add(key)
        return True

    def everyone(self) -> Iterator[Person]:
        there: dict[str, Person] = {}
        for manifest in sorted(drop_files.manifests(self._folder, CHANGES), key=lambda one: one.made_at):
            for row in drop_files.read_table(self._folder, manifest.name).to_pylist():
                _import(there, row)
        suppressed = set()
        if drop_files.read_manifest(self._folder, SUPPRESSION) is not None:
            suppressed = {row["key"] for row in drop_files.read_table(self._folder, SUPPRESSION).to_pylist()}
        for key in there.keys() & (suppressed | self._left):
            there[key].state = "unsubscribed"
        return iter(there.values())

    def memberships(self, people: Sequence[Person]) -> dict[str, list[str]]:
        return {one.key: sorted(one.fields["tags"]) for one in people}

    def fields_of(self, person: Person) -> Mapping[str, Any]:
        return person.fields


def _import(there: dict[str, Person], row: Mapping[str, Any]) -> None:
    key = row["key"]
    if row["action"] == "erase":
        there.pop(key, None)
        return
    if row["action"] == "rekey" and row["old_key"] in there:
        there[key] = there.pop(row["old_key"])
        there[key].key = key
    if row["action"] in ("create", "rekey"):
        there.setdefault(key, Person(key, fields={"tags": set()}))
    if key not in there:
        return
    one = there[key]
    one.email = row["email"] or one.email
    if row["action"] in ("create", "archive"):
        one.state = "subscribed" if row["action"] == "create" else "archived"
    one.fields |= json.loads(row["fields"] or "{}")
    one.fields["tags"] = one.fields["tags"] - set(row["segments_removed"]) | set(row["segments_added"])
