"""Why a customer is who they are: records, the links that hold them together, and what happened to them.

Reads what `ml.identity.store` keeps, never the warehouse. It shows keys, rules and weights, no contents of records.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from core.errors import MailwrightError
from core.home import Home
from ml.identity import store

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Member:
    """A record of a customer. Source and kind are None where no marts are published yet.

    Attributes:
        since: naive UTC instant whose knowledge made it this customer's.
        is_gone: it is no longer among the records, and takes no part in anything.
    """

    identifier_id: int
    source: str | None
    kind: str | None
    since: datetime
    is_gone: bool


@dataclass(frozen=True)
class HoldingLink:
    """A scored pair of a customer's records, at or above the threshold."""

    left: int
    right: int
    weight: float
    probability: float
    agreed: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One row of the journal; `records` counts those that moved."""

    run: int
    as_of: datetime
    event: str
    customer_id: str
    other_customer_id: str | None
    records: int
    evidence: Mapping[str, Any]


@dataclass(frozen=True)
class Explanation:
    """What is known of a customer.

    Attributes:
        became: the customer that this one went into, if it has no records of its own any more.
        certain: links that need no score, with the rule, as the journal names them.
    """

    customer_id: str
    members: tuple[Member, ...]
    links: tuple[HoldingLink, ...]
    certain: tuple[tuple[int, int, str], ...]
    entries: tuple[Entry, ...]
    became: str | None = None


def explain(connection: duckdb.DuckDBPyConnection, home: Home, customer_id: str) -> Explanation:
    """Tell what makes a customer.

    Args:
        connection: an in-memory DuckDB.
        customer_id: an id, or the beginning of one.

    Raises:
        MailwrightError: no customer ever had this id, or several begin with it.
    """
    _open(connection, home)
    customer_id = _find(connection, customer_id)
    entries = _entries(connection, f"where '{customer_id}' in (customer_id, other_customer_id) order by run, entry")
    members = _members(connection, home, customer_id)
    became = None
    if not members:
        merges = [entry for entry in entries if entry.event == "merged" and entry.other_customer_id == customer_id]
        became = merges[-1].customer_id if merges else None
    return Explanation(
        customer_id,
        members,
        _links(connection, home, customer_id),
        tuple(
            sorted(
                {
                    (link["left"], link["right"], link["rule"])
                    for entry in entries
                    for link in entry.evidence.get("surest", ())
                    if link["rule"] != "score" and {link["left"], link["right"]} <= {m.identifier_id for m in members}
                }
            )
        ),
        tuple(entries),
        became,
    )


def journal(connection: duckdb.DuckDBPyConnection, home: Home, *, limit: int, with_new: bool = False) -> list[Entry]:
    """The newest entries of the journal, newest first.

    Args:
        with_new: also customers that were founded, and new records that joined one.
    """
    _open(connection, home)
    events = ("created", "merged", "split", "restored") if with_new else ("merged", "split", "restored")
    founded = "" if with_new else "and (event <> 'merged' or other_customer_id in (select customer_id from history))"
    return _entries(
        connection,
        f"where event in {events} {founded} order by run desc, entry desc limit {limit}",
    )


def _open(connection: duckdb.DuckDBPyConnection, home: Home) -> None:
    if store.newest(home) is None:
        raise MailwrightError(f"nobody was identified in the home at {home.root} yet: run `mailwright refresh` first")
    store.read(connection, home, "journal", out="journal")
    store.read(connection, home, "assignments", out="history")


def _find(connection: duckdb.DuckDBPyConnection, beginning: str) -> str:
    if not beginning or set(beginning) - set("0123456789abcdef"):
        raise MailwrightError(f"{beginning!r} is no customer_id: one has 16 digits from 0 to 9 and a to f")
    found = [
        row[0]
        for row in connection.execute(
            """
            with ids as (
                select customer_id from history
                union
                select other_customer_id from journal where other_customer_id is not null
            )

            select customer_id from ids where starts_with(customer_id, $1) order by customer_id limit 3
            """,
            [beginning],
        ).fetchall()
    ]
    if not found:
        raise MailwrightError(f"no customer has or had the id {beginning}")
    if len(found) > 1:
        raise MailwrightError(f"several customers' ids begin with {beginning}: {', '.join(found)}, ... Give more of it")
    return str(found[0])


def _members(connection: duckdb.DuckDBPyConnection, home: Home, customer_id: str) -> tuple[Member, ...]:
    store.read_records(connection, home, out="known")
    published = home.published / "marts" / "customer_identifiers.parquet"
    named = "select null::bigint as identifier_id, null::varchar as source, null::varchar as identifier_type"
    if published.exists():
        path = str(published).replace("'", "''")
        named = f"select identifier_id, source, identifier_type from read_parquet('{path}')"
    rows = connection.execute(
        f"""
        with current_assignments as (
            select identifier_id, max_by((customer_id, as_of), run) as held from history group by identifier_id
        ),

        named as ({named})

        select
            assigned.identifier_id,
            named.source,
            named.identifier_type,
            assigned.held[2],
            known.content_hash is null
        from current_assignments as assigned
        left join named on assigned.identifier_id = named.identifier_id
        left join known on assigned.identifier_id = known.identifier_id
        where assigned.held[1] = $1
        order by assigned.held[2], assigned.identifier_id
        """,
        [customer_id],
    ).fetchall()
    return tuple(Member(*row) for row in rows)


def _links(connection: duckdb.DuckDBPyConnection, home: Home, customer_id: str) -> tuple[HoldingLink, ...]:
    stored = store.read_model(home)
    if stored is None:
        return ()
    store.read_links(connection, home, records="known", out="linked")
    rows = connection.execute(
        """
        with members as (
            select identifier_id
            from (
                select identifier_id, arg_max(customer_id, run) as customer_id from history group by identifier_id
            )
            where customer_id = $1
        )

        select record_l, record_r, match_weight, match_probability, agreed
        from linked
        where
            match_weight >= $2
            and record_l in (select identifier_id from members)
            and record_r in (select identifier_id from members)
        order by match_weight desc, record_l, record_r
        """,
        [customer_id, stored.model.threshold],
    ).fetchall()
    return tuple(
        HoldingLink(left, right, weight, probability, tuple(agreed or ()))
        for left, right, weight, probability, agreed in rows
    )


def _entries(connection: duckdb.DuckDBPyConnection, clauses: str) -> list[Entry]:
    rows = connection.execute(
        f"select run, as_of, event, customer_id, other_customer_id, len(identifier_ids), evidence from journal {clauses}"
    ).fetchall()
    return [
        Entry(run, as_of, event, customer, other, records, json.loads(evidence))
        for run, as_of, event, customer, other, records, evidence in rows
    ]
