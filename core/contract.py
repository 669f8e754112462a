"""The lake's contract, read from dbt's `sources` files: the single list of sources, tables and columns.

Loader, rejects, samples, raw quality suites and documentation derive from it; no second list is kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from core.errors import ContractError
from core.settings import PROJECT_ROOT

STAGING = PROJECT_ROOT / "dbt_project" / "models" / "staging"

DeliveryMode = Literal["append", "replace_entity", "snapshot"]
ContactPointKind = Literal["email", "phone", "either"]
_TYPES = re.compile(r"varchar|integer|bigint|boolean|date|timestamp|decimal\(\d+,\d+\)")


@dataclass(frozen=True)
class ContactPoint:
    """How a column that holds addresses or numbers is read.

    Attributes:
        kind: email, phone, or either: a value with an @ is an address, any other a number.
        country: the column whose country a national number belongs to; none means that only international numbers can
            be told. `contacts.country` is a column of another table of the source.
        by: for the column of another table, the key that both tables have.
    """

    kind: ContactPointKind
    country: str | None = None
    by: str | None = None


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        data_type: varchar, integer, bigint, boolean, date, timestamp (UTC) or decimal(p,s).
        required: a row without a value is rejected, a delivery without the column is refused.
        pii: personal data; never published, logged, plotted or sampled.
        values: the allowed values, lower case; a required column rejects others, an optional one notices them.
        one_value_per: rows that share this key must not hold two different values, else all of them are rejected.
        contact_point: set where the column holds email addresses or phone numbers.
    """

    name: str
    data_type: str
    description: str
    required: bool = False
    pii: bool = False
    values: tuple[str, ...] = ()
    one_value_per: str | None = None
    contact_point: ContactPoint | None = None


@dataclass(frozen=True)
class Table:
    """One table of a source.

    Attributes:
        delivery_mode: append (events), replace_entity (a later delivery of an entity replaces it whole) or snapshot
            (a delivery is the whole table).
        entity_key: the columns that name an entity, for replace_entity.
        event_key: the columns that name an event, for append tables whose source gives events an id; of repeats the
            first counts.
        occurred_at: the column holding the row's own instant, if any.
    """

    source: str
    name: str
    description: str
    delivery_mode: DeliveryMode
    columns: tuple[Column, ...]
    entity_key: tuple[str, ...] = ()
    occurred_at: str | None = None
    event_key: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        return f"{self.source}.{self.name}"

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True)
class Contract:
    """All tables that a home can take in, by (source, table)."""

    tables: dict[tuple[str, str], Table] = field(default_factory=dict)

    def table(self, source: str, name: str) -> Table:
        """Look a table up.

        Raises:
            ContractError: the contract has no such table; lists those it has.
        """
        try:
            return self.tables[source, name]
        except KeyError:
            known = ", ".join(sorted(table.full_name for table in self.tables.values()))
            raise ContractError(f"there is no table {source}.{name}; the contract has: {known}") from None


@cache
def load_contract(staging: Path = STAGING) -> Contract:
    """Read every `_<source>__sources.yml` whose source lies in the lake (its schema begins with `lake_`).

    Raises:
        ContractError: names the file, table and column that is wrong.
    """
    tables: dict[tuple[str, str], Table] = {}
    for path in sorted(staging.glob("*/_*__sources.yml")):
        for source in yaml.safe_load(path.read_text(encoding="utf-8"))["sources"]:
            if not str(source.get("schema", "")).startswith("lake_"):
                continue
            for said in source["tables"]:
                try:
                    table = _table(source["name"], said)
                except (KeyError, TypeError, ValueError) as error:
                    raise ContractError(f"{path.name}: table {said.get('name')}: {error}") from None
                tables[table.source, table.name] = table
    return Contract(tables)


def _table(source: str, said: dict[str, Any]) -> Table:
    meta = said["config"]["meta"]
    mode = meta["delivery_mode"]
    if mode not in ("append", "replace_entity", "snapshot"):
        raise ValueError(f"unknown delivery_mode {mode!r}")
    columns = tuple(_column(column) for column in said["columns"])
    table = Table(
        source,
        said["name"],
        said["description"],
        mode,
        columns,
        tuple(meta.get("entity_key", ())),
        meta.get("occurred_at"),
        tuple(meta.get("event_key", ())),
    )
    named = [
        *table.entity_key,
        *table.event_key,
        *filter(None, [table.occurred_at, *(c.one_value_per for c in columns)]),
    ]
    for column in columns:
        if point := column.contact_point:
            named += filter(None, [point.by if "." in (point.country or "") else point.country])
    if unknown := set(named) - set(table.column_names):
        raise ValueError(f"names unknown columns {sorted(unknown)}")
    if (mode == "replace_entity") != bool(table.entity_key):
        raise ValueError("entity_key and delivery_mode replace_entity go together")
    if table.event_key and mode != "append":
        raise ValueError("event_key is for delivery_mode append")
    return table


def _column(said: dict[str, Any]) -> Column:
    meta = said.get("config", {}).get("meta", {})
    if not _TYPES.fullmatch(said["data_type"]):
        raise ValueError(f"column {said['name']} has unknown type {said['data_type']!r}")
    return Column(
        said["name"],
        said["data_type"],
        said["description"],
        bool(meta.get("required")),
        bool(meta.get("pii")),
        tuple(meta.get("values", ())),
        meta.get("one_value_per"),
        _contact_point(meta["contact_point"]) if "contact_point" in meta else None,
    )


def _contact_point(said: dict[str, Any]) -> ContactPoint:
    point = ContactPoint(said["kind"], said.get("country"), said.get("by"))
    if point.kind not in ("email", "phone", "either"):
        raise ValueError(f"unknown kind of contact point {point.kind!r}")
    if ("." in (point.country or "")) != bool(point.by):
        raise ValueError("a country of another table needs the key `by`, and only that does")
    return point
