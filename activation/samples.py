"""Samples of a plan: per segment 20 contacts, masked, with what is mapped of them, and how much of each field is empty.

A reviewer sees what would stand at the destination, and sees at once that a field came out empty; who the people are
nobody needs to know for that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from activation.connector import Field
from activation.desired import Desired, quoted_name, value_sql
from core.errors import PlanError
from core.files import replacing

if TYPE_CHECKING:
    import duckdb

SHOWN = 20


@dataclass(frozen=True)
class Sample:
    """Some members of a segment, as they would be at the destination.

    Attributes:
        segment: its name; members: contacts in it that would be there.
        empty: share of the members for whom a field is empty, by the platform's name of the field.
        contacts: of some of them the masked address and the fields, personal ones masked.
    """

    segment: str
    members: int
    empty: Mapping[str, float]
    contacts: Sequence[Mapping[str, str]] = field(repr=False)


def take(connection: duckdb.DuckDBPyConnection, desired: Desired, personal: frozenset[str]) -> list[Sample]:
    """Samples from `desired`, by segment; always the same ones of the same rows.

    Args:
        personal: columns that are shown by their first letter only.
    """
    fields = list(desired.fields)
    empty = ", ".join(["count(*)", *(f"count(*) filter ({value_sql(mapped)} = '')" for mapped in fields)])
    # Combinations of segments are few, so contacts are gone through once, however many segments they are in.
    rows = connection.execute(f"""
        with shown as (
            select profiles.segments, desired.key, profiles.*
            from desired
            inner join profiles using (email)
            where desired.reason is null
        )
        select segments, min(key, {SHOWN}), {empty} from shown group by segments
    """).fetchall()
    members: dict[str, list[int]] = {}
    keys: dict[str, list[bytes]] = {}
    for segments, some, *numbers in rows:
        for segment in segments:
            sums = members.setdefault(segment, [0] * len(numbers))
            members[segment] = [one + other for one, other in zip(sums, numbers, strict=True)]
            keys[segment] = sorted([*keys.get(segment, []), *some])[:SHOWN]
    contacts = _contacts(connection, fields, personal, sorted({key for some in keys.values() for key in some}))
    return [
        Sample(
            segment,
            total,
            {mapped.name: round(number / total, 4) for mapped, number in zip(fields, numbers, strict=True)},
            [contacts[key] for key in keys[segment]],
        )
        for segment, (total, *numbers) in sorted(members.items())
    ]


def personal_columns(project: Path) -> frozenset[str]:
    """Columns of sync_profiles that its contract tags as personal."""
    said = yaml.safe_load((project / "models" / "activation" / "sync_profiles.yml").read_text(encoding="utf-8"))
    model = next(model for model in said["models"] if model["name"] == "sync_profiles")
    return frozenset(
        str(column["name"])
        for column in model["columns"]
        if column.get("config", {}).get("meta", {}).get("pii", column.get("meta", {}).get("pii", False))
    )


def mask(said: str) -> str:
    """A personal value by its first letter; of an address also the first letter of its domain and what that ends in."""
    name, at, domain = said.partition("@")
    if not at:
        return f"{said[0]}***" if said else ""
    return f"{name[:1]}***@{domain[:1]}***.{domain.rpartition('.')[2]}"


def write(path: Path, samples: Sequence[Sample]) -> None:
    """Keep samples beside their plan, for its owner only."""
    with replacing(path) as beside:
        beside.touch(mode=0o600)
        beside.write_text(json.dumps([asdict(sample) for sample in samples], ensure_ascii=False), encoding="utf-8")


def read(path: Path) -> list[Sample]:
    """Samples kept beside a plan; none where there is no file.

    Raises:
        PlanError: the file can't be read.
    """
    try:
        said: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return [Sample(**sample) for sample in said]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as error:
        raise PlanError(f"{path} can't be read ({error}): plan again") from None


def _contacts(
    connection: duckdb.DuckDBPyConnection, fields: Sequence[Field], personal: frozenset[str], keys: Sequence[bytes]
) -> dict[bytes, dict[str, str]]:
    import pyarrow as pa

    connection.register("sampled", pa.table({"key": pa.array(keys, pa.binary())}))
    columns = ", ".join(["desired.key", "profiles.email", *(value_sql(mapped) for mapped in fields)])
    rows = connection.execute(f"""
        select {columns.replace(quoted_name("email"), "profiles." + quoted_name("email"))}
        from sampled
        inner join desired on sampled.key = desired.key
        inner join profiles on desired.email = profiles.email
    """).fetchall()
    connection.unregister("sampled")
    return {
        key: {
            "address": mask(email),
            **{
                mapped.name: mask(value) if mapped.column in personal else value
                for mapped, value in zip(fields, values, strict=True)
            },
        }
        for key, email, *values in rows
    }
