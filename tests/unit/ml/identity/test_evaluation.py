from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.identity.evaluation import Evaluation, Scores, WrongPair, evaluate


@pytest.fixture(scope="module")
def connection():
    with duckdb.connect() as opened:
        opened.execute("set threads = 1")
        opened.execute(
            """
            create table predicted (record_id bigint, customer varchar);
            create table truth (record_id varchar, person bigint);
            create table links (record_l bigint, record_r bigint, match_weight double, agreed varchar[]);
            """
        )
        yield opened


def fill(
    connection: duckdb.DuckDBPyConnection,
    customers: dict[int, str],
    persons: dict[int, int],
    links: Iterable[tuple[int, int, float, list[str] | None]] = (),
) -> None:
    for table in ("predicted", "truth", "links"):
        connection.execute(f"delete from {table}")
    if customers:
        connection.executemany("insert into predicted values (?, ?)", list(customers.items()))
    if persons:
        connection.executemany("insert into truth values (?, ?)", [(str(key), value) for key, value in persons.items()])
    if links:
        connection.executemany("insert into links values (?, ?, ?, ?)", list(links))


def judged(connection: duckdb.DuckDBPyConnection, **options: Any) -> Evaluation:
    return evaluate(connection, "predicted", "truth", **options)


def test_a_perfect_result_has_no_errors(connection):
    fill(connection, {1: "a", 2: "a", 3: "b"}, {1: 7, 2: 7, 3: 8})

    said = judged(connection)

    assert (said.pairwise, said.b_cubed) == (Scores(1, 1), Scores(1, 1))
    assert (said.true_pairs, said.found_pairs, said.right_pairs, said.false_merges, said.missed) == (1, 1, 1, 0, 0)
    assert said.wrong == ()


def test_figures_by_hand(connection):
    """Customers {1,2,3} {4,5}; persons {1,2} {3,4,5}."""
    fill(connection, {1: "a", 2: "a", 3: "a", 4: "b", 5: "b"}, {1: 7, 2: 7, 3: 8, 4: 8, 5: 8})

    said = judged(connection)

    assert (said.true_pairs, said.found_pairs, said.right_pairs) == (4, 4, 2)
    assert said.pairwise == Scores(0.5, 0.5)
    assert said.b_cubed.precision == pytest.approx((2 / 3 + 2 / 3 + 1 / 3 + 1 + 1) / 5)
    assert said.b_cubed.recall == pytest.approx((1 + 1 + 1 / 3 + 2 / 3 + 2 / 3) / 5)


def test_records_of_only_one_side_are_counted_and_left_out(connection):
    fill(connection, {1: "a", 2: "a", 3: "a"}, {2: 7, 3: 7, 4: 7, 5: 8})

    said = judged(connection)

    assert (said.records, said.unjudged, said.missing) == (2, 1, 2)
    assert said.pairwise == Scores(1, 1)


def test_nothing_in_common_is_no_error(connection):
    fill(connection, {1: "a"}, {2: 7})

    said = judged(connection, links="links")

    assert (said.records, said.pairwise.f1, said.b_cubed.f1) == (0, 1, 1)


def test_the_errors_with_the_most_weight_come_first_and_unscored_ones_last(connection):
    fill(
        connection,
        {1: "a", 2: "a", 3: "a", 4: "b", 5: "c", 6: "d", 7: "d", 8: "e", 9: "e"},
        {1: 1, 2: 2, 3: 1, 4: 3, 5: 3, 6: 4, 7: 5, 8: 6, 9: 6},
        [
            (2, 1, 12.0, ["email"]),
            (3, 2, 30.0, ["phone", "surname"]),
            (1, 3, 40.0, ["email"]),
            (5, 4, -2.0, None),
            (8, 9, 50.0, []),
            (1, 9, 60.0, []),
        ],
    )

    assert judged(connection, links="links").wrong == (
        WrongPair("false merge", "2", "3", 30.0, ("phone", "surname")),
        WrongPair("false merge", "1", "2", 12.0, ("email",)),
        WrongPair("false merge", "6", "7", None),
        WrongPair("missed", "4", "5", -2.0),
    )
    assert [wrong.weight for wrong in judged(connection, links="links", errors=1).wrong] == [30.0, -2.0]


assigned = st.lists(st.integers(0, 4), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(assigned, st.data())
def test_figures_equal_those_of_comparing_all_pairs(connection, customers, data):
    persons = data.draw(st.lists(st.integers(0, 4), min_size=len(customers), max_size=len(customers)))
    fill(connection, dict(enumerate(map(str, customers))), dict(enumerate(persons)))
    pairs = list(itertools.combinations(range(len(customers)), 2))
    found = {(one, other) for one, other in pairs if customers[one] == customers[other]}
    true = {(one, other) for one, other in pairs if persons[one] == persons[other]}

    said = judged(connection)

    assert (said.found_pairs, said.true_pairs, said.right_pairs) == (len(found), len(true), len(found & true))
    shares = []
    for mine, theirs in ((customers, persons), (persons, customers)):
        of_each = [
            sum(mine[o] == mine[r] and theirs[o] == theirs[r] for o in range(len(mine))) / mine.count(mine[r])
            for r in range(len(mine))
        ]
        shares.append(sum(of_each) / len(mine))
    assert said.b_cubed.precision == pytest.approx(shares[0])
    assert said.b_cubed.recall == pytest.approx(shares[1])
    assert {wrong.kind for wrong in said.wrong} == (
        ({"false merge"} if found - true else set()) | ({"missed"} if true - found else set())
    )
    for wrong in said.wrong:
        pair = (int(wrong.left), int(wrong.right))
        assert tuple(sorted(pair)) in (found - true if wrong.kind == "false merge" else true - found)
