"""How much of each segment lies in each other one."""

from __future__ import annotations

import io
import itertools

import duckdb
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from segments.overlap import Overlap, overlap

MEMBERS = [(1, "a"), (2, "a"), (3, "a"), (4, "a"), (1, "b"), (2, "b"), (5, "c"), (1, "a")]


def found(members: list[tuple[int, str]]) -> Overlap:
    with duckdb.connect() as connection:
        connection.execute("create table m (customer_id integer, segment varchar)")
        if members:
            connection.executemany("insert into m values (?, ?)", members)
        return overlap(connection, "m")


def test_shares_are_of_the_rows_segment() -> None:
    said = found(MEMBERS)
    assert said.sizes == {"a": 4, "b": 2, "c": 1}
    assert said.shared == {("a", "b"): 2}
    assert (said.share("a", "b"), said.share("b", "a"), said.share("a", "c")) == (0.5, 1.0, 0.0)
    assert (said.jaccard("a", "b"), said.jaccard("b", "a"), said.jaccard("a", "a")) == (0.5, 0.5, 1.0)


def test_the_matrix_reads_row_by_row() -> None:
    lines = found(MEMBERS).markdown().splitlines()
    assert lines[2] == "| 1 | a | 4 | - | 50 | · |"
    assert lines[3] == "| 2 | b | 2 | 100 | - | · |"


def test_all_but_one_is_not_all_and_one_is_not_none() -> None:
    members = [(n, "a") for n in range(1000)] + [(n, "b") for n in range(999)] + [(0, "c")]
    lines = found(members).markdown().splitlines()
    assert lines[2] == "| 1 | a | 1,000 | - | 99 | 1 |"
    assert "a and b share 100% of their customers" in lines[-1]


def test_two_names_for_one_segment_are_told() -> None:
    members = [(n, "a") for n in range(10)] + [(n, "b") for n in range(9)] + [(n, "c") for n in range(7)]
    assert [pair[:2] for pair in found(members).twins()] == [("a", "b")]


def test_fifteen_segments_fit_into_120_columns() -> None:
    names = [f"recent_browsers_low_engagement{n:02}"[-30:] for n in range(15)]
    said = found([(n % 40, name) for n, name in itertools.product(range(40), names)])
    screen = io.StringIO()
    Console(file=screen, width=120).print(said.table())
    lines = screen.getvalue().splitlines()
    assert len([line for line in lines if "engagement" in line and "share" not in line]) == 15
    assert "…" not in screen.getvalue()


@given(st.lists(st.tuples(st.integers(0, 8), st.sampled_from("abcd")), max_size=40))
def test_it_agrees_with_sets(members: list[tuple[int, str]]) -> None:
    sets = {name: {customer for customer, segment in members if segment == name} for name in {n for _, n in members}}
    said = found(members)
    assert dict(said.sizes) == {name: len(customers) for name, customers in sets.items()}
    for one, other in itertools.product(sets, sets):
        assert said.both(one, other) == len(sets[one] & sets[other])
