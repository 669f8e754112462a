"""The desired state: who should be at a destination, with which values and tags, by a release and by what is known now.

Makes the table `desired`, one row per key: key, email, customer_id, combination (of segments), content_hash and, for a row
that the platform would not take, the reason. Reads `profiles` (of the release), `refused` (email, kind) and `known` (the
ledger's rows).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, cast

from activation.connector import Field, key_sql
from activation.ledger import State
from activation.releases import Release
from activation.sync import Sync
from segments.definitions import Cadence
from segments.freshness import is_stale

if TYPE_CHECKING:
    import duckdb

# Who left by themselves, was unsubscribed or erased there stays so: no plan writes to them again.
GONE = (State.UNSUBSCRIBED, State.LEFT, State.ERASED)
# The longest address that a mail server accepts (RFC 5321, 4.5.3.1.3).
_LONGEST_ADDRESS = 254
_IS_KEY = "regexp_full_match({}, '([0-9a-f]{{2}})+')"


@dataclass(frozen=True)
class Desired:
    """What was found on the way to the table `desired`.

    Attributes:
        fields: the sync's fields, in its order.
        tags: by number of a combination of segments, the tags that its members should have.
        stale: segments that are too old to be synced, with the as_of that their members are of.
        funnel: who is left after each step, from all addresses to the valid rows.
        invalid: rows that the platform would not take, by reason.
        further_addresses: addresses that are left out as their customer goes there under another one.
    """

    fields: Sequence[Field]
    tags: Mapping[int, frozenset[str]]
    stale: Mapping[str, datetime | None]
    funnel: Sequence[tuple[str, int]]
    invalid: Mapping[str, int]
    further_addresses: int


def create(connection: duckdb.DuckDBPyConnection, release: Release, sync: Sync) -> Desired:
    """Make the table `desired`."""
    columns = {name: str(kind) for name, kind, *_ in connection.execute("describe profiles").fetchall()}
    fields = sync.mapped_fields(columns)
    source = "profiles anti join refused using (email)"
    released, allowed = (one(connection, f"select count(*) from {some}") for some in ("profiles", source))
    if sync.key == "customer_id":
        connection.execute(f"create table shown as select min(email) as email from {source} group by customer_id")
        source += " semi join shown using (email)"
    represented = one(connection, f"select count(*) from {source}") if sync.key == "customer_id" else allowed
    tags = _create_combinations(connection, sync)
    connection.execute(f"""
        create table desired as
        with keyed as (
            select {binary_key(sync)} as key, * from {source}
        )
        select
            keyed.key, keyed.email, keyed.customer_id, combinations.combination,
            {_content_hash(fields)} as content_hash,
            {_reason(connection, sync, fields, tags)} as reason
        from keyed
        inner join combinations on keyed.segments = combinations.segments
        anti join (
            select key from known where state in ({", ".join(str(int(state)) for state in GONE)})
        ) as gone on keyed.key = gone.key
    """)
    there = one(connection, "select count(*) from desired")
    invalid = counts(connection, "select reason, count(*) from desired where reason is not null group by 1 order by 1")
    said = [
        *connection.execute("select step, addresses from funnel order by step_number").fetchall(),
        ("in the release", released),
        ("not refused since", allowed),
    ]
    if sync.key == "customer_id":
        said.append(("one address for each customer", represented))
    said += [("not unsubscribed, bounced or erased there", there), ("valid there", there - sum(invalid.values()))]
    return Desired(fields, tags, stale_segments(release), said, invalid, allowed - represented)


def stale_segments(release: Release) -> dict[str, datetime | None]:
    """Segments of a release whose members are too old for their cadence, with the as_of that those are of.

    A release that goes back to another is old on purpose, so all of it is synced.
    """
    if release.reverts_to is not None:
        return {}
    as_of = release.confirmed_at or release.as_of
    return {
        name: state.as_of
        for name, state in release.states.items()
        if not state.fresh and is_stale(cast(Cadence, state.cadence), state.as_of, as_of)
    }


def binary_key(sync: Sync, email: str = "email", customer_id: str = "customer_id") -> str:
    """SQL of the ledger's key as bytes; null where a customer's id can't be one."""
    key = key_sql(sync.key, email, customer_id)
    return f"unhex({key})" if sync.key == "email" else f"case when {_IS_KEY.format(key)} then unhex({key}) end"


def value_sql(field: Field) -> str:
    """A field's value as text; empty where there is none."""
    return f"coalesce(cast({quoted_name(field.column)} as varchar), '')"


def hash_sql(key: str, field: Field, value: str) -> str:
    """Ten hexadecimal digits of the hash of one field, salted with the contact's key (in hexadecimal digits)."""
    return f"left(md5({key} || {_text(chr(31) + field.name + chr(31))} || {value}), 10)"


def quoted_name(name: str) -> str:
    """A column's name inside double quotes of SQL."""
    return '"' + name.replace('"', '""') + '"'


def one(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    """The number that a query gives."""
    row = next(iter(connection.execute(query).fetchall()), None)
    return int(row[0]) if row and row[0] is not None else 0


def counts(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, int]:
    """What a query of names and numbers gives."""
    return dict(connection.execute(query).fetchall())


def _create_combinations(connection: duckdb.DuckDBPyConnection, sync: Sync) -> dict[int, frozenset[str]]:
    """Number the combinations of segments that occur: what is worked out for each of them is worked out once."""
    import pyarrow as pa

    found = [segments for (segments,) in connection.execute("select distinct segments from profiles").fetchall()]
    tags = {
        number: frozenset(sync.tag_of(segment) for segment in segments if sync.takes(segment))
        for number, segments in enumerate(found)
    }
    # Where memberships are written with the contact, another membership is another content.
    with_contact = sync.connector.platform.membership == "attributes"
    connection.register(
        "combinations_given",
        pa.table({
            "combination": pa.array(tags, pa.int32()),
            "segments": pa.array(found, pa.list_(pa.string())),
            "marks": pa.array(
                (chr(30).join(sorted(tags[number])) if with_contact else "" for number in tags), pa.string()
            ),
        }),
    )  # fmt: skip
    connection.execute("create table combinations as from combinations_given")
    connection.unregister("combinations_given")
    return tags


def _content_hash(fields: Sequence[Field]) -> str:
    """Eight bytes over everything that is mapped: rows for which they are equal are not looked at any closer."""
    parts = [f"{_text(chr(31) + field.name + chr(31))} || {value_sql(field)}" for field in fields]
    return f"unhex(left(md5({' || '.join(['hex(keyed.key)', *parts, 'combinations.marks'])}), 16))"


def _reason(
    connection: duckdb.DuckDBPyConnection, sync: Sync, fields: Sequence[Field], tags: Mapping[int, frozenset[str]]
) -> str:
    """SQL of why the platform would not take a row; null for one that it would."""
    platform = sync.connector.platform
    cases = []
    if sync.key == "customer_id":
        cases.append(("keyed.key is null", "no customer id that can be a key"))
    if one(connection, "select max(length(email)) from profiles") > _LONGEST_ADDRESS:
        cases.append((f"length(keyed.email) > {_LONGEST_ADDRESS}", f"address over {_LONGEST_ADDRESS} characters"))
    if platform.most_tags is not None:
        # Of those with an automation each may have a second tag.
        starting = {sync.tag_of(segment) for segment in sync.automations}
        over = [n for n, names in tags.items() if len(names) + len(names & starting) > platform.most_tags]
        if over:
            cases.append(
                (f"combinations.combination in ({', '.join(map(str, over))})", f"over {platform.most_tags} segments")
            )
    longest = platform.fields.longest
    if longest is not None:
        lengths = ", ".join(f"max(length({value_sql(field)}))" for field in fields)
        found = connection.execute(f"select {lengths} from profiles").fetchone() if fields else None
        cases += [
            (f"length({value_sql(field)}) > {longest}", f"{field.name} over {longest} characters")
            for field, most in zip(fields, found or (), strict=True)
            if most is not None and most > longest
        ]
    if not cases:
        return "cast(null as varchar)"
    return "case " + " ".join(f"when {condition} then {_text(words)}" for condition, words in cases) + " end"


def _text(said: str) -> str:
    return "'" + said.replace("'", "''") + "'"
