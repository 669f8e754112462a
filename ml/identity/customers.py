"""Customers that last: which id each cluster bears, and the journal of what changed.

An id is never taken away by a rebuild. It stays with the largest part of its customer's records; a merge keeps the older
id; a part that leaves a merged customer gets the id back that it had before; and no id is ever given to other people.
Everything follows from the clusters and the assignments of earlier runs, so the same inputs give the same ids.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

SHOWN_LINKS = 5
"""Links that the evidence of a change names, the surest first. It counts all."""


@dataclass(frozen=True)
class Changes:
    """What changed.

    Attributes:
        customers: with a record that is there now.
        assigned: records that got a customer, or another one.
        created: customers founded, of new records.
        merged: customers that went into another one.
        joined: new records that went to a customer of before.
        split: times that records left a customer for another id than a former one of theirs.
        restored: customers that are back after a merge was undone.
    """

    customers: int
    assigned: int
    created: int = 0
    merged: int = 0
    joined: int = 0
    split: int = 0
    restored: int = 0


def follow(
    connection: duckdb.DuckDBPyConnection,
    *,
    clusters: str,
    records: str,
    history: str,
    run: int,
    as_of: datetime,
    links: str | None = None,
    refused: str | None = None,
    out_assignments: str,
    out_journal: str,
) -> Changes:
    """Give each cluster its customer id.

    Args:
        clusters: table (record_id, cluster) of all records that are there now.
        records: table (record_id, own_customer_id, first_known_at): the id that a record gives to a customer that it
            founds, and since when it is known.
        history: table (run, identifier_id, customer_id): the assignments of all earlier runs, where one is only written
            when it changes.
        run: number of this run, higher than all in `history`.
        as_of: naive UTC instant whose knowledge the clusters come from.
        links: table (record_l, record_r, rule, match_weight, agreed) of what may hold clusters together: the evidence.
        refused: table (record_l, record_r, reason) of what keeps records apart: the evidence of splits.
        out_assignments: temporary table to make: (run, as_of, identifier_id, customer_id) of records whose customer
            changed.
        out_journal: temporary table to make: (run, entry, as_of, event, customer_id, other_customer_id, identifier_ids,
            evidence). To apply its entries from the first on, each giving its records to its customer, gives the
            assignments.
    """
    follower = _Follower(connection)
    try:
        follower.read(clusters, records, history)
        follower.find_heirs(history)
        follower.restore(history)
        follower.found(history)
        return follower.write(run, as_of, links, refused, out_assignments, out_journal)
    finally:
        follower.tidy()


class _Follower:
    """The steps of `follow`. Each makes a temporary table of its own."""

    TABLES = ("members", "contested", "natives", "heirs", "named", "candidates", "wanted", "moves", "events", "reasons")

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection

    def tidy(self) -> None:
        for name in self.TABLES:
            self.connection.execute(f"drop table if exists _customers_{name}")

    def read(self, clusters: str, records: str, history: str) -> None:
        """`members`: each record with its cluster and the customer that it had; `parts` of customers come from it."""
        self._make(
            "members",
            f"""
            with current_assignments as (
                select identifier_id, arg_max(customer_id, run) as customer_id
                from {history}
                group by identifier_id
            )
            select
                clusters.record_id,
                clusters.cluster,
                records.own_customer_id,
                records.first_known_at,
                current_assignments.customer_id as previous
            from {clusters} as clusters
            inner join {records} as records on clusters.record_id = records.record_id
            left join current_assignments on clusters.record_id = current_assignments.identifier_id
            """,
        )
        self._make(
            "contested",
            """
            select previous
            from _customers_members
            where previous is not null
            group by previous
            having min(cluster) <> max(cluster)
            """,
        )

    def find_heirs(self, history: str) -> None:
        """`heirs`: the cluster that each customer lives on in. `named`: the id of each cluster that has one so far.

        Of a customer whose records are in several clusters, records that came by a merge count last: if that merge is
        undone they get their former id back, and the others keep theirs, however few they are.
        """
        self._find_natives(history)
        self._make(
            "heirs",
            """
            with parts as (
                select
                    members.previous,
                    members.cluster,
                    count(natives.record_id) as natives,
                    count(*) as records,
                    bool_or(members.own_customer_id = members.previous) as has_founder,
                    min((members.first_known_at, members.record_id)) as oldest
                from _customers_members as members
                left join _customers_natives as natives on members.record_id = natives.record_id
                where members.previous is not null
                group by members.previous, members.cluster
            ),

            ranked as (
                select
                    *,
                    row_number() over (
                        partition by previous order by natives desc, records desc, has_founder desc, oldest
                    ) as place
                from parts
            )

            select previous, cluster from ranked where place = 1
            """,
        )
        self._make(
            "named",
            f"""
            with merging as (
                select cluster, previous
                from _customers_heirs
                qualify count(*) over (partition by cluster) > 1
            ),

            -- As old as the oldest record it ever had: who is split and merged again is as before.
            ages as (
                select
                    merging.cluster,
                    merging.previous,
                    (min(members.first_known_at), min(history.run), merging.previous) as age
                from merging
                inner join {history} as history on merging.previous = history.customer_id
                inner join _customers_members as members on history.identifier_id = members.record_id
                group by merging.cluster, merging.previous
            )

            select cluster, arg_min(previous, age) as customer_id, 'kept' as origin from ages group by cluster
            union all
            select cluster, previous, 'kept' from _customers_heirs where cluster not in (select cluster from merging)
            """,
        )

    def _find_natives(self, history: str) -> None:
        """`natives`: the records of contested customers that did not come by a merge that could be undone."""
        rows = self.connection.execute(
            f"""
            with concerned as (
                select record_id
                from _customers_members
                inner join _customers_contested using (previous)
            )

            select history.identifier_id, history.run, history.customer_id
            from {history} as history
            inner join concerned on history.identifier_id = concerned.record_id
            order by history.identifier_id, history.run
            """
        ).fetchall()
        arrivals = _arrivals(rows)
        retired = self._retired_runs({former for moves in arrivals.values() for former, _ in moves}, history)
        natives = [
            (record,)
            for record, moves in arrivals.items()
            if not any(retired.get(former) == run for former, run in moves)
        ]
        self._load("natives", "record_id bigint", natives)

    def _retired_runs(self, customers: Iterable[str], history: str) -> dict[str, int]:
        """Of the customers that have no record now, the run in which the last one left."""
        self._load("candidates", "customer_id varchar", [(customer,) for customer in sorted(customers)])
        return dict(
            self.connection.execute(
                f"""
                with touched as (
                    select distinct identifier_id
                    from {history}
                    where customer_id in (select customer_id from _customers_candidates)
                ),

                stays as (
                    select
                        customer_id,
                        lead(run) over (partition by identifier_id order by run) as left_in
                    from {history}
                    where identifier_id in (select identifier_id from touched)
                )

                select customer_id, max(left_in) as retired_in
                from stays
                where
                    customer_id in (select customer_id from _customers_candidates)
                    and customer_id not in (
                        select previous from _customers_members
                        where previous in (select customer_id from _customers_candidates)
                    )
                    and left_in is not null
                group by customer_id
                """
            ).fetchall()
        )

    def restore(self, history: str) -> None:
        """Give clusters without an id one that went in a merge, if they hold most of the records that it had then."""
        former = self.connection.execute(
            f"""
            select distinct history.customer_id
            from _customers_members as members
            inner join {history} as history on members.record_id = history.identifier_id
            where members.previous is not null and members.cluster not in (select cluster from _customers_named)
            """
        ).fetchall()
        retired = self._retired_runs((row[0] for row in former), history)
        if not retired:
            return
        self._load("candidates", "customer_id varchar, retired_in bigint", sorted(retired.items()))
        self.connection.execute(
            f"""
            insert into _customers_named
            with touched as (
                select distinct identifier_id
                from {history}
                where customer_id in (select customer_id from _customers_candidates)
            ),

            stays as (
                select
                    identifier_id,
                    customer_id,
                    lead(run) over (partition by identifier_id order by run) as left_in
                from {history}
                where identifier_id in (select identifier_id from touched)
            ),

            parts as (
                select
                    candidates.customer_id,
                    candidates.retired_in,
                    members.cluster,
                    count(*) as records,
                    bool_or(members.own_customer_id = candidates.customer_id) as has_founder,
                    min((members.first_known_at, members.record_id)) as oldest
                from stays
                inner join _customers_candidates as candidates
                    on stays.customer_id = candidates.customer_id and stays.left_in = candidates.retired_in
                inner join _customers_members as members on stays.identifier_id = members.record_id
                group by candidates.customer_id, candidates.retired_in, members.cluster
            ),

            heirs as (
                select *
                from parts
                qualify row_number() over (
                    partition by customer_id order by records desc, has_founder desc, oldest
                ) = 1
            )

            select cluster, customer_id, 'restored' as origin
            from heirs
            where cluster not in (select cluster from _customers_named)
            qualify row_number() over (
                partition by cluster order by records desc, retired_in desc, oldest, customer_id
            ) = 1
            """
        )

    def found(self, history: str) -> None:
        """Give the other clusters the id of their oldest record, or one made from it if that was ever someone else's."""
        self._make(
            "wanted",
            """
            select
                cluster,
                arg_min(own_customer_id, (first_known_at, record_id)) as own_customer_id,
                arg_min(own_customer_id, (first_known_at, record_id)) as customer_id
            from _customers_members
            where cluster not in (select cluster from _customers_named)
            group by cluster
            """,
        )
        salt = 0
        # What another cluster's records ever had, or a record that is gone, is not this cluster's to have.
        while self.connection.execute(
            f"""
            update _customers_wanted as wanted
            set customer_id = substr(md5(own_customer_id || '|{salt + 1}'), 1, 16)
            where exists (
                from {history} as history
                left join _customers_members as members on history.identifier_id = members.record_id
                where
                    history.customer_id = wanted.customer_id
                    and members.cluster is distinct from wanted.cluster
            )
            """
        ).fetchall() != [(0,)]:
            salt += 1
        self.connection.execute(
            "insert into _customers_named select cluster, customer_id, 'founded' from _customers_wanted"
        )

    def write(
        self,
        run: int,
        as_of: datetime,
        links: str | None,
        refused: str | None,
        out_assignments: str,
        out_journal: str,
    ) -> Changes:
        """Make the tables of what changed."""
        self._find_moves()
        self.connection.execute(
            f"""
            create or replace temp table {out_assignments} as
            select
                cast($1 as bigint) as run,
                cast($2 as timestamp) as as_of,
                record_id as identifier_id,
                customer_id
            from _customers_moves
            order by identifier_id
            """,
            [run, as_of],
        )
        self._find_reasons(links, refused)
        self.connection.execute(
            f"""
            create or replace temp table {out_journal} as
            select
                cast($1 as bigint) as run,
                events.entry,
                cast($2 as timestamp) as as_of,
                events.event,
                events.customer_id,
                events.other_customer_id,
                events.identifier_ids,
                coalesce(reasons.evidence, '{{}}') as evidence
            from _customers_events as events
            left join _customers_reasons as reasons on events.entry = reasons.entry
            order by events.entry
            """,
            [run, as_of],
        )
        return self._count()

    def _find_moves(self) -> None:
        """`moves`: records that get another customer than before. `events`: those that move alike, together."""
        self._make(
            "moves",
            """
            with fates as (
                select heirs.previous, named.customer_id
                from _customers_heirs as heirs
                inner join _customers_named as named on heirs.cluster = named.cluster
            ),

            moved as (
                select
                    members.record_id,
                    members.cluster,
                    members.previous,
                    members.own_customer_id,
                    named.customer_id,
                    named.origin
                from _customers_members as members
                inner join _customers_named as named on members.cluster = named.cluster
                where members.previous is distinct from named.customer_id
            )

            select
                moved.record_id,
                moved.cluster,
                moved.previous,
                moved.customer_id,
                case
                    when moved.previous is null and moved.origin = 'founded' then 'created'
                    when moved.previous is null then 'merged'
                    when moved.origin = 'restored' then 'restored'
                    when fates.customer_id = moved.customer_id then 'merged'
                    else 'split'
                end as event,
                -- A record that joins gives up the customer that it would have been by itself.
                case
                    when moved.previous is not null then moved.previous
                    when moved.origin <> 'founded' then moved.own_customer_id
                end as other_customer_id
            from moved
            left join fates on moved.previous = fates.previous
            """,
        )
        self._make(
            "events",
            """
            with grouped as (
                select
                    event,
                    customer_id,
                    other_customer_id,
                    any_value(cluster) as cluster,
                    bool_and(previous is null) as is_new,
                    list(record_id order by record_id) as identifier_ids
                from _customers_moves
                group by event, customer_id, other_customer_id
            )

            select
                row_number() over (
                    order by
                        case event when 'created' then 0 when 'restored' then 1 when 'split' then 2 else 3 end,
                        customer_id,
                        other_customer_id
                ) as entry,
                *
            from grouped
            """,
        )

    def _find_reasons(self, links: str | None, refused: str | None) -> None:
        """`reasons`: the evidence of each event, as JSON: links that hold its records to the rest, or why they left."""
        self._make(
            "reasons",
            "select cast(null as bigint) as entry, cast(null as varchar) as evidence where false",
        )
        self._make(
            "wanted",
            """
            select events.entry, events.event, events.cluster, unnest(events.identifier_ids) as record_id, events.other_customer_id
            from _customers_events as events
            where events.event <> 'created' or len(events.identifier_ids) > 1
            """,
        )
        if links:
            self.connection.execute(
                f"""
                insert into _customers_reasons
                with ends as (
                    select record_l, record_r, rule, match_weight, agreed, record_l as record_id, record_r as other_id
                    from {links}
                    union all
                    select record_l, record_r, rule, match_weight, agreed, record_r as record_id, record_l as other_id
                    from {links}
                ),

                holding as (
                    select distinct wanted.entry, ends.* exclude (record_id, other_id)
                    from _customers_wanted as wanted
                    inner join ends on wanted.record_id = ends.record_id
                    inner join _customers_members as others on ends.other_id = others.record_id
                    left join _customers_wanted as same on ends.other_id = same.record_id and wanted.entry = same.entry
                    where
                        wanted.cluster = others.cluster
                        and (
                            wanted.event = 'created'
                            or (wanted.event = 'merged' and same.entry is null)
                        )
                ),

                ranked as (
                    select
                        *,
                        row_number() over (
                            partition by entry order by match_weight desc nulls first, rule, record_l, record_r
                        ) as place,
                        count(*) over (partition by entry) as links
                    from holding
                )

                select
                    entry,
                    to_json({{
                        'links': any_value(links),
                        'surest': list(
                            {{'left': record_l, 'right': record_r, 'rule': rule, 'weight': round(match_weight, 2), 'agreed': agreed}}
                            order by place
                        )
                    }})
                from ranked
                where place <= {SHOWN_LINKS}
                group by entry
                """
            )
        if refused:
            self.connection.execute(
                f"""
                insert into _customers_reasons
                with ends as (
                    select record_l, record_r, reason, record_l as record_id, record_r as other_id from {refused}
                    union all
                    select record_l, record_r, reason, record_r as record_id, record_l as other_id from {refused}
                ),

                keeping as (
                    select distinct wanted.entry, ends.record_l, ends.record_r, ends.reason
                    from _customers_wanted as wanted
                    inner join ends on wanted.record_id = ends.record_id
                    inner join _customers_members as others on ends.other_id = others.record_id
                    where
                        wanted.event in ('split', 'restored')
                        and wanted.cluster <> others.cluster
                        and others.previous = wanted.other_customer_id
                ),

                ranked as (
                    select
                        *,
                        row_number() over (partition by entry order by reason, record_l, record_r) as place,
                        count(*) over (partition by entry) as pairs
                    from keeping
                )

                select
                    entry,
                    to_json({{
                        'apart': any_value(pairs),
                        'pairs': list({{'left': record_l, 'right': record_r, 'reason': reason}} order by place)
                    }})
                from ranked
                where place <= {SHOWN_LINKS}
                group by entry
                """
            )

    def _count(self) -> Changes:
        [(customers, assigned)] = self.connection.execute(
            "select (select count(*) from _customers_named), (select count(*) from _customers_moves)"
        ).fetchall()
        counted = {
            (event, is_new): count
            for event, is_new, count in self.connection.execute(
                """
                select event, is_new, count(*)
                from _customers_events
                group by event, is_new
                """
            ).fetchall()
        }
        restored = self.connection.execute(
            "select count(distinct customer_id) from _customers_events where event = 'restored'"
        ).fetchall()
        return Changes(
            customers=customers,
            assigned=assigned,
            created=counted.get(("created", True), 0),
            merged=counted.get(("merged", False), 0),
            joined=counted.get(("merged", True), 0),
            split=counted.get(("split", False), 0),
            restored=restored[0][0],
        )

    def _make(self, name: str, query: str) -> None:
        self.connection.execute(f"create or replace temp table _customers_{name} as {query}")

    def _load(self, name: str, columns: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Make a small table from rows of Python."""
        import pyarrow as pa

        self.connection.execute(f"create or replace temp table _customers_{name} ({columns})")
        values = list(zip(*rows, strict=True))
        if not values:
            return
        given = pa.table({f"c{number}": list(column) for number, column in enumerate(values)})
        self.connection.register("_customers_given", given)
        self.connection.execute(f"insert into _customers_{name} select * from _customers_given")
        self.connection.unregister("_customers_given")


def _arrivals(rows: Iterable[tuple[int, int, str]]) -> dict[int, list[tuple[str, int]]]:
    """For each record, every time that it came to the customer that it has now: from which one, and in which run.

    Args:
        rows: (record, run, customer), by record and run.
    """
    stays: dict[int, list[tuple[int, str]]] = {}
    for record, run, customer in rows:
        stays.setdefault(record, []).append((run, customer))
    return {
        record: [(former, run) for (_, former), (run, customer) in itertools.pairwise(stay) if customer == stay[-1][1]]
        for record, stay in stays.items()
    }
