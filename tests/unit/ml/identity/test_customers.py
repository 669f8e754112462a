from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ml.identity.customers import Changes, follow

FIRST_DAY = datetime(2026, 1, 1)


def own(record: int) -> str:
    return f"own-{record}"


class History:
    """Runs one after the other, as state files would keep them. A record's number is also when it became known."""

    def __init__(self) -> None:
        self.connection = duckdb.connect()
        self.connection.execute("set threads = 1")
        self.connection.execute(
            """
            create table history (run bigint, identifier_id bigint, customer_id varchar);
            create table journal (
                run bigint, entry bigint, as_of timestamp, event varchar, customer_id varchar, other_customer_id varchar,
                identifier_ids bigint[], evidence varchar
            );
            create table links (
                record_l bigint, record_r bigint, rule varchar, match_weight double, agreed varchar[]
            );
            create table refused (record_l bigint, record_r bigint, reason varchar);
            """
        )
        self.run_number = 0
        self.changes = Changes(0, 0)

    def run(self, *groups: Iterable[int]) -> dict[int, str]:
        """One run that found these groups of records; returns the customer of every record that ever was."""
        self.run_number += 1
        connection = self.connection
        rows = [(record, number) for number, group in enumerate(groups) for record in group]
        connection.execute("create or replace table clusters (record_id bigint, cluster bigint)")
        if rows:
            connection.execute("insert into clusters values " + ", ".join(map(str, rows)))
        connection.execute(
            """
            create or replace table records as
            select record_id, 'own-' || record_id as own_customer_id, timestamp '2020-01-01' + interval (record_id) day as
            first_known_at from clusters
            """
        )
        self.changes = follow(
            connection,
            clusters="clusters",
            records="records",
            history="history",
            links="links",
            refused="refused",
            run=self.run_number,
            as_of=FIRST_DAY + timedelta(days=self.run_number),
            out_assignments="assigned",
            out_journal="entries",
        )
        assert connection.execute("select count(*) from assigned").fetchall() == [(self.changes.assigned,)]
        leftover = "select count(*) from duckdb_tables() where table_name like '_customers_%'"
        assert connection.execute(leftover).fetchall() == [(0,)]
        connection.execute("insert into history select run, identifier_id, customer_id from assigned")
        connection.execute("insert into journal from entries")
        return self.customers

    @property
    def customers(self) -> dict[int, str]:
        return dict(
            self.connection.execute(
                "select identifier_id, arg_max(customer_id, run) from history group by identifier_id"
            ).fetchall()
        )

    @property
    def entries(self) -> list[tuple[str, str, str | None, list[int]]]:
        """The newest run's entries."""
        return self.connection.execute(
            "select event, customer_id, other_customer_id, identifier_ids from entries order by entry"
        ).fetchall()

    @property
    def evidence(self) -> dict[tuple[str, str], Any]:
        return {
            (event, customer): json.loads(evidence)
            for event, customer, evidence in self.connection.execute(
                "select event, customer_id, evidence from entries"
            ).fetchall()
        }

    def replayed(self) -> dict[int, str]:
        customers = {}
        for customer, records in self.connection.execute(
            "select customer_id, identifier_ids from journal order by run, entry"
        ).fetchall():
            customers.update(dict.fromkeys(records, customer))
        return customers


@pytest.fixture
def history():
    return History()


def test_a_customer_bears_the_id_of_its_oldest_record(history):
    assert history.run([3, 2], [1]) == {1: own(1), 2: own(2), 3: own(2)}
    assert history.entries == [("created", own(1), None, [1]), ("created", own(2), None, [2, 3])]
    assert history.changes == Changes(customers=2, assigned=3, created=2)


def test_running_again_changes_nothing(history):
    before = history.run([1, 2], [3])

    assert history.run([3], [2, 1]) == before
    assert history.entries == []
    assert history.changes == Changes(customers=2, assigned=0)


def test_a_new_record_joins_the_customer_that_is_there(history):
    history.run([2])

    # Record 1 became known earlier, but the customer is there already.
    assert history.run([1, 2]) == {1: own(2), 2: own(2)}
    assert history.entries == [("merged", own(2), own(1), [1])]
    assert history.changes == Changes(customers=1, assigned=1, joined=1)


def test_a_merge_keeps_the_older_id(history):
    history.run([1], [2, 3, 4])

    assert set(history.run([1, 2, 3, 4]).values()) == {own(1)}
    assert history.entries == [("merged", own(1), own(2), [2, 3, 4])]
    assert history.changes == Changes(customers=1, assigned=3, merged=1)


def test_a_split_leaves_the_id_with_the_larger_part(history):
    history.run([1, 2, 3])

    customers = history.run([1], [2, 3])

    assert customers[2] == customers[3] == own(1)
    # Record 1 founded the customer, whose id is the others' now: it gets another one.
    assert customers[1] not in {own(1), own(2), own(3)}
    assert history.entries == [("split", customers[1], own(1), [1])]
    assert history.changes == Changes(customers=2, assigned=1, split=1)


def test_a_split_in_halves_leaves_the_id_with_the_founding_record(history):
    history.run([1, 2])

    assert history.run([1], [2]) == {1: own(1), 2: own(2)}


def test_undoing_a_merge_restores_the_former_ids(history):
    before = history.run([1], [2, 3, 4])
    history.run([1, 2, 3, 4])

    assert history.run([1], [2, 3, 4]) == before
    assert history.entries == [("restored", own(2), own(1), [2, 3, 4])]
    assert history.changes == Changes(customers=2, assigned=3, restored=1)


def test_undoing_a_split_restores_the_former_id(history):
    before = history.run([1, 2, 3])
    history.run([1], [2, 3])

    assert history.run([1, 2, 3]) == before


def test_merges_upon_merges_are_undone_one_by_one(history):
    apart = history.run([1], [2, 3, 4], [5, 6, 7, 8, 9])
    some = history.run([1], [2, 3, 4, 5, 6, 7, 8, 9])
    history.run([1, 2, 3, 4, 5, 6, 7, 8, 9])

    assert history.run([1], [2, 3, 4, 5, 6, 7, 8, 9]) == some
    assert history.run([1], [2, 3, 4], [5, 6, 7, 8, 9]) == apart


def test_a_former_id_goes_to_most_of_those_who_had_it(history):
    history.run([1], [2, 3, 4])
    history.run([1, 2, 3, 4])

    customers = history.run([1, 2], [3, 4])
    assert customers[3] == customers[4] == own(2)

    customers = history.run([1, 2, 4], [3])
    assert customers[4] == own(1)
    assert customers[3] == own(2)


def test_a_former_id_is_not_given_to_the_few_who_leave(history):
    history.run([1], [2, 3, 4])
    history.run([1, 2, 3, 4])

    customers = history.run([1, 3, 4], [2])

    assert customers[1] == customers[3] == own(1)
    # Most of those who were customer 2 are customer 1 now: record 2 alone is not that customer, though it founded it.
    assert customers[2] not in {own(1), own(2)}


def test_a_record_that_goes_over_to_another_customer_is_split_off(history):
    history.run([1, 2, 3], [4])

    assert history.run([1, 2], [3, 4])[3] == own(4)
    assert history.entries == [("split", own(4), own(1), [3])]


def test_records_that_are_gone_keep_their_customer_and_come_back_to_it(history):
    history.run([1, 2], [3])

    assert history.run([1], [3]) == {1: own(1), 2: own(1), 3: own(3)}
    assert history.entries == []
    assert history.run([1], [2], [3])[2] == own(2)
    assert history.run([1, 2], [3]) == {1: own(1), 2: own(1), 3: own(3)}


def test_the_evidence_names_keys_and_rules_and_weights(history):
    history.connection.execute(
        """
        insert into links values
            (1, 2, 'score', 12.345, ['email', 'surname']), (3, 2, 'customer_ref', null, null), (4, 9, 'score', 30, [])
        """
    )
    history.run([1, 2], [3], [4])
    assert history.evidence == {
        ("created", own(1)): {
            "links": 1,
            "surest": [{"left": 1, "right": 2, "rule": "score", "weight": 12.35, "agreed": ["email", "surname"]}],
        },
        ("created", own(3)): {},
        ("created", own(4)): {},
    }

    history.run([1, 2, 3], [4])
    assert history.evidence == {
        ("merged", own(1)): {
            "links": 1,
            "surest": [{"left": 3, "right": 2, "rule": "customer_ref", "weight": None, "agreed": None}],
        }
    }

    history.connection.execute("insert into refused values (2, 3, 'barred'), (3, 4, 'conflict')")
    history.run([1, 2], [3], [4])
    assert history.evidence == {
        ("restored", own(3)): {"apart": 1, "pairs": [{"left": 2, "right": 3, "reason": "barred"}]}
    }


RECORDS = 7


@st.composite
def partitions(draw):
    """Some of the records, in groups."""
    labels = draw(st.lists(st.none() | st.integers(0, 4), min_size=RECORDS, max_size=RECORDS))
    return _grouped(labels)


def _grouped(labels: list[int | None]) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for record, label in enumerate(labels, start=1):
        if label is not None:
            groups.setdefault(label, []).append(record)
    return list(groups.values())


def _coarser(groups: list[list[int]], labels: list[int]) -> list[list[int]]:
    merged: dict[int, list[int]] = {}
    for group, label in zip(groups, labels, strict=False):
        merged.setdefault(label, []).extend(group)
    return list(merged.values())


@settings(max_examples=25, deadline=None)
@given(st.lists(partitions(), min_size=1, max_size=6))
def test_every_record_has_one_customer_whatever_happens(runs):
    history = History()
    held: dict[str, set[int]] = {}
    customers: dict[int, str] = {}
    for groups in runs:
        living = set(customers.values())
        customers = history.run(*groups)
        present = {record for group in groups for record in group}
        named = [{customers[record] for record in group} for group in groups]
        assert all(len(ids) == 1 for ids in named), "one cluster, one customer"
        assert len(set().union(*named)) == len(groups), "one customer, one cluster"
        assert history.replayed() == customers
        for group, (customer,) in zip(groups, named, strict=True):
            # An id that comes (back) goes to nobody else: either it is new, or one of them had it.
            if customer not in living:
                assert not held.get(customer) or held[customer] & set(group)
        for record in present:
            held.setdefault(customers[record], set()).add(record)
        history.run(*groups)
        assert history.changes.assigned == 0, "the same again changes nothing"


@settings(max_examples=25, deadline=None)
@example([[[5, 7]]], [[4], [5], [6, 7]], [[1, 0, 0, 0, 0, 0, 0]]).via("who left, founded and came back by a merge")
@example([[], [[5, 6]]], [[4], [5], [6, 7]], [[0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]]).via(
    "and was merged further, which was undone first"
)
@given(
    st.lists(partitions(), max_size=2),
    partitions(),
    st.lists(st.lists(st.integers(0, 2), min_size=RECORDS, max_size=RECORDS), min_size=1, max_size=3),
)
def test_undoing_merges_restores_every_id(before, groups, merges):
    history = History()
    for earlier in before:
        history.run(*earlier)
    chain = [groups]
    for labels in merges:
        chain.append(_coarser(chain[-1], labels))
    reached = [history.run(*step) for step in chain]

    for step, customers in zip(reversed(chain[:-1]), reversed(reached[:-1]), strict=True):
        present = {record for group in step for record in group}
        undone = history.run(*step)
        assert {record: undone[record] for record in present} == {record: customers[record] for record in present}
